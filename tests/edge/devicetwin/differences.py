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
            "default/thermo/twin/update/document threshold - > 30|",
            "default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    9: (
        DESIRED,
        [
            "default/thermo/twin/get/result threshold 30|",
        ],
    ),
    13: (
        DESIRED,
        [
            "default/thermo/twin/update/result temperature |23",
            "default/thermo/twin/update/document temperature - > |23",
            "default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    14: (
        DESIRED,
        [
            "default/thermo/twin/update/result temperature |23",
            "default/thermo/twin/update/document temperature |23 > |23",
            "default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    15: (
        DESIRED,
        [
            "default/thermo/twin/update/result temperature |24",
            "default/thermo/twin/update/document temperature |23 > |24",
            "default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    16: (
        DESIRED,
        [
            "default/thermo/twin/update/result threshold |30",
            "default/thermo/twin/update/document threshold 30| > 30|30",
        ],
    ),
    17: (
        ANY_TEXT,
        [
            "default/thermo/twin/update/result label |a b ü, threshold |31",
            "default/thermo/twin/update/document label - > |a b ü, threshold 30|30 > 30|31",
            "default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    18: (
        UNKNOWN_PROPERTY,
        [
            "default/thermo/twin/update/result 400 the device model has no property color",
        ],
    ),
    20: (
        RANGE,
        [
            "default/thermo/twin/update/result 400 the value of temperature is above the maximu",
        ],
    ),
    21: (
        REAL_TOPIC,
        [
            "default/thermo/twin/update/result 400 Unmarshal update request body failed, please",
        ],
    ),
    22: (
        DESIRED,
        [
            "default/thermo/twin/update/result temperature |26",
            "default/thermo/twin/update/document temperature |24 > |26",
            "default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    23: (
        DESIRED,
        [
            "default/thermo/twin/update/result temperature |27",
            "default/thermo/twin/update/document temperature |26 > |27",
            "default/thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    24: (
        DESIRED,
        [
            "default/thermo/twin/update/result threshold 50|",
            "default/thermo/twin/update/document threshold 30|31 > 50|31",
            "default/thermo/twin/update/delta {'threshold': '50'}",
        ],
    ),
    25: (
        DESIRED,
        [
            "default/thermo/twin/update/result threshold 51|49",
            "default/thermo/twin/update/document threshold 50|31 > 51|49",
            "default/thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    26: (
        ANY_TEXT,
        [
            "default/thermo/twin/update/result label -",
            "default/thermo/twin/update/document label |a b ü > -",
            "default/thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    27: (
        REAL_TOPIC,
        [
            "default/thermo/twin/update/result 400 Update twin error, key:twin does not exist",
        ],
    ),
    28: (
        REAL_TOPIC,
        [
            "default/thermo/twin/update/result 400 Update twin error, key:twin does not exist",
        ],
    ),
    30: (
        REAL_TOPIC,
        [
            "default/thermo/twin/update/result 400 Unmarshal update request body failed, please",
        ],
    ),
    32: (
        OLD_APPS,
        [
            "thermo/twin/get/result temperature |27, threshold 51|49",
        ],
    ),
    33: (
        ANY_TEXT,
        [
            "default/thermo/twin/update/result label |600 chars",
            "default/thermo/twin/update/document label - > |600 chars",
            "thermo/twin/update/document label - > |600 chars",
            "default/thermo/twin/update/delta {'threshold': '51'}",
            "thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    34: (
        OLD_APPS,
        [
            "default/thermo/twin/update/result temperature |28",
            "default/thermo/twin/update/document temperature |27 > |28",
            "thermo/twin/update/document temperature |27 > |28",
            "default/thermo/twin/update/delta {'threshold': '51'}",
            "thermo/twin/update/delta {'threshold': '51'}",
        ],
    ),
    36: (
        LAST_SEEN,
        [
            "default/thermo/state/update/result offline True",
        ],
    ),
    37: (
        LAST_SEEN,
        [
            "default/thermo/state/update/result unknown True",
        ],
    ),
    38: (
        STATE,
        [
            "default/thermo/state/update/result 400 the state must be one of online, offline, ok",
        ],
    ),
    39: (
        STATE,
        [
            "default/thermo/state/update/result 400 the state must be one of online, offline, ok",
        ],
    ),
    40: (
        STATE,
        [
            "default/thermo/state/update/result 400 the state must be one of online, offline, ok",
        ],
    ),
    41: (
        STATE,
        [
            "default/nope/state/update/result 404 Device default/nope not found while updating",
        ],
    ),
    42: (
        STATE,
        [
            "default/thermo/state/update/result 400 Unmarshal state update failed, err: it is no",
        ],
    ),
    46: (
        DESIRED,
        [
            "default/thermo/twin/get/result label |600 chars, temperature |28, threshold 51|49",
        ],
    ),
    47: (
        DESIRED,
        [
            "default/thermo/twin/update/document threshold 51|49 > 60|49",
            "thermo/twin/update/document threshold 51|49 > 60|49",
            "default/thermo/twin/update/delta {'threshold': '60'}",
            "thermo/twin/update/delta {'threshold': '60'}",
        ],
    ),
    48: (
        DESIRED,
        [
            "default/thermo/twin/get/result label |600 chars, temperature |28, threshold 60|49",
        ],
    ),
    49: (
        DESIRED,
        [
            "default/thermo/twin/update/result threshold |60",
            "default/thermo/twin/update/document threshold 60|49 > 60|60",
            "thermo/twin/update/document threshold 60|49 > 60|60",
        ],
    ),
    50: (
        REMOVED,
        [
            "default/thermo/twin/update/document label |600 chars > -, threshold 60|60 > 30|60",
            "thermo/twin/update/document label |600 chars > -, threshold 60|60 > 30|60",
            "default/thermo/twin/update/delta {'threshold': '30'}",
            "thermo/twin/update/delta {'threshold': '30'}",
        ],
    ),
    51: (
        DESIRED,
        [
            "default/thermo/twin/get/result temperature |28, threshold 30|60",
        ],
    ),
}
