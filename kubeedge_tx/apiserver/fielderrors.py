"""What is wrong with a field, in Kubernetes' words.

Source: Kubernetes ``apimachinery/pkg/util/validation/field``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

REQUIRED: Final = "FieldValueRequired"
INVALID: Final = "FieldValueInvalid"
TYPE_INVALID: Final = "FieldValueTypeInvalid"
NOT_SUPPORTED: Final = "FieldValueNotSupported"
FORBIDDEN: Final = "FieldValueForbidden"
DUPLICATE: Final = "FieldValueDuplicate"
TOO_LONG: Final = "FieldValueTooLong"
TOO_MANY: Final = "FieldValueTooMany"
NOT_FOUND: Final = "FieldValueNotFound"

_LABELS: Final[Mapping[str, str]] = {
    REQUIRED: "Required value",
    INVALID: "Invalid value",
    TYPE_INVALID: "Invalid value",
    NOT_SUPPORTED: "Unsupported value",
    FORBIDDEN: "Forbidden",
    DUPLICATE: "Duplicate value",
    TOO_LONG: "Too long",
    TOO_MANY: "Too many",
    NOT_FOUND: "Not found",
}
_WITHOUT_VALUE: Final = (REQUIRED, FORBIDDEN, TOO_LONG)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field.

    :param field: ``spec.containers[0].name``.
    :param reason: that of the cause, ``FieldValueInvalid``.
    :param value: shown in the text, except where the reason has none.
    """

    field: str
    reason: str
    value: Any = None
    detail: str = ""

    @property
    def message(self) -> str:
        """The text without the field."""
        text = _LABELS[self.reason]
        if self.reason not in _WITHOUT_VALUE:
            text += ": " + _show(self.value)
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def _show(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def required(path: str, detail: str = "") -> FieldError:
    """A value is missing."""
    return FieldError(path, REQUIRED, None, detail)


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """A value is malformed."""
    return FieldError(path, INVALID, value, detail)


def not_supported(path: str, value: Any, allowed: Iterable[str]) -> FieldError:
    """A value is none of the known ones; they are listed in the given order."""
    quoted = ", ".join(json.dumps(item) for item in allowed)
    return FieldError(path, NOT_SUPPORTED, value, f"supported values: {quoted}")


def forbidden(path: str, detail: str) -> FieldError:
    """A value may not be there, or may not change."""
    return FieldError(path, FORBIDDEN, None, detail)


def duplicate(path: str, value: Any) -> FieldError:
    """A value that must be unique was seen before."""
    return FieldError(path, DUPLICATE, value)


def too_long(path: str, limit: int) -> FieldError:
    """A string has more than ``limit`` bytes."""
    return FieldError(path, TOO_LONG, None, f"may not be more than {limit} bytes")


def invalid_each(texts: Iterable[str], path: str, value: Any) -> Iterator[FieldError]:
    """A value is malformed in each of these ways."""
    return (invalid(path, value, text) for text in texts)


def distinct(
    name: str, path: str, rule: Callable[[str], Iterable[str]], seen: set[str]
) -> Iterator[FieldError]:
    """Check the name of an item that no other item of its list may have.

    :param rule: what is wrong with a name by itself.
    :param seen: names so far; it grows.
    """
    if not name:
        yield required(path)
        return
    yield from invalid_each(rule(name), path, name)
    if name in seen:
        yield duplicate(path, name)
    seen.add(name)


def one_of(
    obj: Mapping[str, Any], field: str, allowed: tuple[str, ...], path: str
) -> Iterator[FieldError]:
    """A field must have one of the known values."""
    value = obj.get(field, "")
    if not value:
        yield required(path)
    elif value not in allowed:
        yield not_supported(path, value, allowed)
