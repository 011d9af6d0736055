"""Device twins: versions and who wins, what names and values may be, what a model allows.

Used by both ends, so that they judge alike. Source, where nothing else is said: KubeEdge
``edge/pkg/devicetwin/dtcommon`` and ``dttype``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kubeedge_tx.api.meta import sequence

DELETED: Final = "deleted"
"""The type of a twin that is there only for its versions."""
STRING: Final = "string"

MAX_NAME: Final = 128
MAX_VALUE: Final = 8192
"""Bytes of a value in UTF-8. Upstream's limit is 512, of ASCII letters and ``-_.,:/@#``."""

BAD_NAME: Final = (
    "The key of twin must only include upper or lowercase letters, number, english, and "
    "special letter - _ . , : / @ # and the length of key should be less than 128 bytes"
)
"""Upstream's words."""
BAD_VALUE: Final = (
    f"The value of twin must not have control characters and must be at most {MAX_VALUE} bytes"
)

_NAME: Final = re.compile(rf"[A-Za-z0-9\-_.,:/@#]{{1,{MAX_NAME}}}")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEXADECIMAL: Final = re.compile(
    r"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
)
_SPECIAL: Final = re.compile(r"[+-]?inf(inity)?|nan", re.IGNORECASE)


class Version(msgspec.Struct, frozen=True, order=True):
    """How often a side of a twin was changed, and knowing which state of the cloud.

    Versions compare as pairs, the cloud's number first: what was changed in the cloud wins
    over every change at the edge that had not seen it; one that had seen it stands until the
    cloud changes the value again. So two ends that exchange their newest agree in the end.
    """

    cloud: int = 0
    """Resource version of the Device in which the desired value last changed."""
    edge: int = 0
    """Changes at the edge."""


def check_name(name: str) -> str:
    """Say what is wrong with a twin's name; empty if nothing is."""
    return "" if _NAME.fullmatch(name) else BAD_NAME


def check_text(value: str) -> str:
    """Say what is wrong with a value of any type; empty if nothing is."""
    if len(value) > MAX_VALUE or _CONTROL.search(value):
        return BAD_VALUE
    return "" if value.isascii() or len(value.encode()) <= MAX_VALUE else BAD_VALUE


def check_value(kind: str, value: str) -> str:
    """Say what is wrong with a value of a twin's type; empty if nothing is.

    :param kind: ``""``, ``string``, ``int``, ``integer``, ``float``, ``boolean`` or ``deleted``.
    """
    match kind:
        case "" | "string" | "deleted":
            return ""
        case "int" | "integer":
            return "" if read_integer(value) is not None else "the value is not int or integer"
        case "float":
            return "" if read_float(value) is not None else "the value is not float"
        case "boolean":
            return "" if value in ("true", "false") else "the bool value must be true or false"
    return "the value type is not allowed"


def read_integer(text: str) -> int | None:
    """Read a decimal number of 64 bits, or ``None``."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def read_float(text: str) -> float | None:
    """Read a number as Go writes them, or ``None``: also if it does not fit 64 bits."""
    if _SPECIAL.fullmatch(text):
        return float(text)
    try:
        if _DECIMAL.fullmatch(text):
            number = float(text)
        elif _HEXADECIMAL.fullmatch(text):
            number = float.fromhex(text)
        else:
            return None
    except OverflowError:
        return None
    return None if math.isinf(number) else number


_TYPES: Final = {"INT": "int", "FLOAT": "float", "DOUBLE": "float", "BOOLEAN": "boolean"}


@dataclass(frozen=True, slots=True)
class PropertyRule:
    """What a DeviceModel says about one property."""

    name: str
    type: str = ""
    """``INT``, ``FLOAT``, ``DOUBLE``, ``BOOLEAN``, ``STRING``, ``BYTES``, ``STREAM``; or empty."""
    read_only: bool = False
    minimum: str = ""
    """Inclusive; empty or no number: none."""
    maximum: str = ""

    @property
    def twin_type(self) -> str:
        """The type of a twin of this property."""
        return _TYPES.get(self.type, STRING)

    def refuses(self, value: str) -> str:
        """Say why the model does not allow a value; empty if it does."""
        wrong = check_value(self.twin_type, value)
        if wrong:
            return f"{wrong}: {self.name} is {self.type} in the device model"
        if self.twin_type not in ("int", "float"):
            return ""
        number = _number(value)
        low, high = _number(self.minimum), _number(self.maximum)
        if number is None:
            return ""
        if low is not None and not number >= low:
            return f"the value of {self.name} is below the minimum {self.minimum} of the model"
        if high is not None and not number <= high:
            return f"the value of {self.name} is above the maximum {self.maximum} of the model"
        return ""

    def refuses_desired(self, value: str) -> str:
        """Say why the model does not allow to desire a value; empty if it does."""
        if self.read_only:
            return f"{self.name} is read-only in the device model"
        return self.refuses(value)


def _number(text: str) -> int | float | None:
    whole = read_integer(text)
    return read_float(text) if whole is None else whole


def read_rules(model: Mapping[str, Any]) -> dict[str, PropertyRule]:
    """Read the properties of a DeviceModel (``devices.kubeedge.io/v1beta1``) by name."""
    rules = {}
    for item in sequence(model, "spec", "properties"):
        name = item.get("name")
        if isinstance(name, str) and name:
            rules[name] = PropertyRule(
                name,
                type=_text(item.get("type")).upper(),
                read_only=_text(item.get("accessMode")).lower() == "readonly",
                minimum=_text(item.get("minimum")).strip(),
                maximum=_text(item.get("maximum")).strip(),
            )
    return rules


@dataclass(frozen=True, slots=True)
class Desired:
    """What a Device wants of one of its properties."""

    value: str | None = None
    """``None``: nothing."""
    type: str = ""
    """Of the desired value's metadata; empty if it does not say."""


def read_desired(device: Mapping[str, Any]) -> dict[str, Desired]:
    """Read the properties of a Device (``devices.kubeedge.io/v1beta1``) by name."""
    found = {}
    for item in sequence(device, "spec", "properties"):
        name = item.get("name")
        if not isinstance(name, str) or not name:
            continue
        wanted = item.get("desired")
        wanted = wanted if isinstance(wanted, Mapping) else {}
        metadata = wanted.get("metadata")
        kind = _text(metadata.get("type")) if isinstance(metadata, Mapping) else ""
        found[name] = Desired(_text(wanted.get("value")) or None, kind.lower())
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) else ""
