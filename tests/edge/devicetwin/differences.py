"""Where our edge answers a recorded step otherwise than Go's, and why; see docs/devices.rst.

The lines are in the form of ``test_recorded.essence``. What an earlier difference left in the
twins shows in later steps, too.
"""

from __future__ import annotations

from typing import Final

DESIRED: Final = "what was desired in the cloud is in the twin, and mappers hear of it"
REAL_TOPIC: Final = "a bad request is answered on the topic of its device, not of an empty one"
ANY_TEXT: Final = "a value may be longer than 512 bytes and of any letters"
UNKNOWN_PROPERTY: Final = "a property that the model does not have is refused"
RANGE: Final = "a value that the model does not allow is refused"
OLD_APPS: Final = "an app that names a device without its namespace is answered as it asked"
LAST_SEEN: Final = "the time a device was last seen stays when it is gone"
STATE: Final = "a state that is none is answered"
REMOVED: Final = "a property that is removed in the cloud is removed from the twins"

DIFFERENCES: Final[dict[int, tuple[str, list[str]]]] = {
    3: (
        DESIRED,
        [
            "node/go-c/membership/updated [[{'id': 'default/thermo', 'name': 'thermo'}], None]",
            "device/default/thermo/twin/update/document threshold - > 30|",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    9: (
        DESIRED,
        [
            "device/default/thermo/twin/get/result threshold 30|",
        ],
    ),
    13: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result temperature |23",
            "device/default/thermo/twin/update/document temperature - > |23",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    14: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result temperature |23",
            "device/default/thermo/twin/update/document temperature |23 > |23",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    15: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result temperature |24",
            "device/default/thermo/twin/update/document temperature |23 > |24",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    16: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result threshold |30",
            "device/default/thermo/twin/update/document threshold 30| > 30|30",
        ],
    ),
    17: (
        ANY_TEXT,
        [
            "device/default/thermo/twin/update/result label |a b ü, threshold |31",
            "device/default/thermo/twin/update/document label - > |a b ü, threshold 30|30 > 30|31",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    18: (
        UNKNOWN_PROPERTY,
        [
            "device/default/thermo/twin/update/result 400 the device model has no property color",
        ],
    ),
    20: (
        RANGE,
        [
            "device/default/thermo/twin/update/result 400 the value of temperature is above the maximum 100 of the model",
        ],
    ),
    21: (
        REAL_TOPIC,
        [
            "device/default/thermo/twin/update/result 400 Unmarshal update request body failed, please check the request",
        ],
    ),
    22: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result temperature |26",
            "device/default/thermo/twin/update/document temperature |24 > |26",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    23: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result temperature |27",
            "device/default/thermo/twin/update/document temperature |26 > |27",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    24: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result threshold 50|",
            "device/default/thermo/twin/update/document threshold 30|31 > 50|31",
            "device/default/thermo/twin/update/delta {'threshold': '50'}",
        ],
    ),
    25: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result threshold 51|49",
            "device/default/thermo/twin/update/document threshold 50|31 > 51|49",
            "device/default/thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    26: (
        ANY_TEXT,
        [
            "device/default/thermo/twin/update/result label -",
            "device/default/thermo/twin/update/document label |a b ü > -",
            "device/default/thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    27: (
        REAL_TOPIC,
        [
            "device/default/thermo/twin/update/result 400 Update twin error, key:twin does not exist",
        ],
    ),
    28: (
        REAL_TOPIC,
        [
            "device/default/thermo/twin/update/result 400 Update twin error, key:twin does not exist",
        ],
    ),
    30: (
        REAL_TOPIC,
        [
            "device/default/thermo/twin/update/result 400 Unmarshal update request body failed, please check the request",
        ],
    ),
    32: (
        OLD_APPS,
        [
            "device/thermo/twin/get/result temperature |27, threshold 51|49",
        ],
    ),
    33: (
        ANY_TEXT,
        [
            "device/default/thermo/twin/update/result label |600 characters",
            "device/default/thermo/twin/update/document label - > |600 characters",
            "device/thermo/twin/update/document label - > |600 characters",
            "device/default/thermo/twin/update/delta {'threshold': '51'}",
            "device/thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    34: (
        OLD_APPS,
        [
            "device/default/thermo/twin/update/result temperature |28",
            "device/default/thermo/twin/update/document temperature |27 > |28",
            "device/thermo/twin/update/document temperature |27 > |28",
            "device/default/thermo/twin/update/delta {'threshold': '51'}",
            "device/thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    36: (
        LAST_SEEN,
        [
            "device/default/thermo/state/update/result offline True",
        ],
    ),
    37: (
        LAST_SEEN,
        [
            "device/default/thermo/state/update/result unknown True",
        ],
    ),
    38: (
        STATE,
        [
            "device/default/thermo/state/update/result 400 the state must be one of online, offline, ok, unknown, unhealthy",
        ],
    ),
    39: (
        STATE,
        [
            "device/default/thermo/state/update/result 400 the state must be one of online, offline, ok, unknown, unhealthy",
        ],
    ),
    40: (
        STATE,
        [
            "device/default/thermo/state/update/result 400 the state must be one of online, offline, ok, unknown, unhealthy",
        ],
    ),
    41: (
        STATE,
        [
            "device/default/nope/state/update/result 404 Device default/nope not found while updating state",
        ],
    ),
    42: (
        STATE,
        [
            "device/default/thermo/state/update/result 400 Unmarshal state update failed, err: it is not JSON",
        ],
    ),
    46: (
        DESIRED,
        [
            "device/default/thermo/twin/get/result label |600 characters, temperature |28, threshold 51|49",
        ],
    ),
    47: (
        DESIRED,
        [
            "device/default/thermo/twin/update/document threshold 51|49 > 60|49",
            "device/thermo/twin/update/document threshold 51|49 > 60|49",
            "device/default/thermo/twin/update/delta {'threshold': '60'}",
            "device/thermo/twin/update/delta {'threshold': '60'}",
        ],
    ),
    48: (
        DESIRED,
        [
            "device/default/thermo/twin/get/result label |600 characters, temperature |28, threshold 60|49",
        ],
    ),
    49: (
        DESIRED,
        [
            "device/default/thermo/twin/update/result threshold |60",
            "device/default/thermo/twin/update/document threshold 60|49 > 60|60",
            "device/thermo/twin/update/document threshold 60|49 > 60|60",
        ],
    ),
    50: (
        REMOVED,
        [
            "device/default/thermo/twin/update/document label |600 characters > -, threshold 60|60 > 30|60",
            "device/thermo/twin/update/document label |600 characters > -, threshold 60|60 > 30|60",
            "device/default/thermo/twin/update/delta {'threshold': '30'}",
            "device/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    51: (
        DESIRED,
        [
            "device/default/thermo/twin/get/result temperature |28, threshold 30|60",
        ],
    ),
}
