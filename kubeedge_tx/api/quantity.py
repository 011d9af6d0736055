"""Kubernetes quantities: ``100m``, ``1.5Gi``, ``1e3``; their value and their canonical form.

Source: ``k8s.io/apimachinery/pkg/api/resource/quantity.go``: no fraction digits, the largest
exponent that leaves an integer, at most nano precision (rounded up).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Final

_FORM: Final = re.compile(
    r"([+-]?)(\d+(?:\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+|)\Z", re.ASCII
)
_LOOSE: Final = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)\Z")
_BINARY: Final = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"} | {
    18: "E"
}
_POWER: Final = {suffix: power for power, suffix in _DECIMAL.items()}
_MAX_EXPONENT: Final = 30
_MAX_LENGTH: Final = 64

FORMAT_MESSAGE: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
SUFFIX_MESSAGE: Final = "unable to parse quantity's suffix"


def parse(quantity: str | int | float) -> Fraction:
    """Read a quantity, rounded up to a nano.

    :param quantity: a number counts as its text does, as in YAML.
    :raises ValueError: it has another form; the text quotes it.
    """
    text = str(quantity)
    try:
        return _parts(text)[0]
    except ValueError:
        raise ValueError(f"{text[:_MAX_LENGTH]!r} is not a quantity such as 250m or 64Mi") from None


def whole(quantity: str | int | float) -> int:
    """Give the number of whole units, rounded up: bytes of memory, cores."""
    return math.ceil(parse(quantity))


def millis(quantity: str | int | float) -> int:
    """Give thousandths, rounded up: ``250m`` of CPU is 250."""
    return math.ceil(parse(quantity) * 1000)


def divided(quantity: str | int | float, divisor: str | int | float) -> int:
    """Give how often ``divisor`` goes into ``quantity``, rounded up.

    :param divisor: ``0`` and the empty text count as 1.
        Source: kubelet's ``resource.ExtractContainerResourceValue``.
    """
    by = parse(divisor) if divisor not in ("", None) else Fraction(1)
    return math.ceil(parse(quantity) / (by or 1))


@lru_cache(maxsize=2048)
def canonical(text: str) -> str:
    """Write a quantity as the API server would give it back.

    :raises ValueError: it is none; the text is the API server's.
    """
    number, style = _parts(text)
    if number == 0:
        return "0"
    if style == "binary" and number.denominator == 1 and abs(number) >= 1024:
        whole = number.numerator
        power = 0
        while power < len(_BINARY) and whole % 1024 == 0:
            whole //= 1024
            power += 1
        return f"{whole}{_BINARY[power - 1]}" if power else str(whole)
    power = -9
    whole = (number * 10**9).numerator
    while whole % 1000 == 0 and power < 18:
        whole //= 1000
        power += 3
    if style == "exponent":
        return f"{whole}e{power}" if power else str(whole)
    return f"{whole}{_DECIMAL[power]}"


def _parts(text: str) -> tuple[Fraction, str]:
    match = _FORM.match(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise ValueError(SUFFIX_MESSAGE if _LOOSE.match(text) else FORMAT_MESSAGE)
    sign, digits, suffix = match.groups()
    number = Fraction(sign + digits)
    if suffix.endswith("i"):
        number *= 1024 ** (_BINARY.index(suffix) + 1)
        style = "binary"
    elif suffix[:1] in ("e", "E") and len(suffix) > 1:
        exponent = int(suffix[1:])
        if abs(exponent) > _MAX_EXPONENT:
            raise ValueError(SUFFIX_MESSAGE)
        number *= Fraction(10) ** exponent
        style = "exponent"
    else:
        number *= Fraction(10) ** _POWER[suffix]
        style = "decimal"
    return Fraction(math.ceil(number * 10**9), 10**9), style
