"""Kubernetes quantities: ``250m``, ``1.5``, ``64Mi``, ``1e3``.

Source: ``k8s.io/apimachinery/pkg/api/resource/quantity.go``.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

_SCALES: Final = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_FORM: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE])?)",
    re.ASCII,
)


def parse(quantity: str | int | float) -> Fraction:
    """Read a quantity exactly.

    :raises ValueError: it has another form; the text quotes it.
    """
    match = _FORM.fullmatch(str(quantity).strip())
    if match is None:
        raise ValueError(f"{str(quantity)[:64]!r} is not a quantity such as 250m or 64Mi")
    number, exponent, suffix = match.groups()
    scale = Fraction(10) ** int(exponent) if exponent else _SCALES[suffix or ""]
    return Fraction(number) * scale


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
