"""Structural schemas of custom resources: pruning, defaults, validation.

Source: Kubernetes ``apiextensions-apiserver`` (structural pruning and defaulting) and the texts
of its ``kube-openapi`` validator.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, Final

from kubeedge_tx.apiserver.fielderrors import (
    INVALID,
    NOT_SUPPORTED,
    TOO_LONG,
    TOO_MANY,
    TYPE_INVALID,
    FieldError,
    duplicate,
    required,
)

Errors = Iterator[FieldError]

_MAX_ERRORS: Final = 100
_MAX_DEPTH: Final = 500
_KEEP: Final = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_ALWAYS_KNOWN: Final = ("apiVersion", "kind", "metadata")


class Schema:
    """One version's ``openAPIV3Schema``; never changes what it is given."""

    def __init__(self, openapi_v3_schema: Mapping[str, Any]) -> None:
        self._schema = openapi_v3_schema
        self._patterns: dict[str, re.Pattern[str] | None] = {}

    def prune(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Drop the fields that the schema does not know."""
        pruned: dict[str, Any] = self._prune(obj, self._schema, "", [], root=True)
        return pruned

    def unknown_fields(self, obj: dict[str, Any]) -> list[str]:
        """The paths that ``prune`` would drop: ``spec.nosuch``."""
        unknown: list[str] = []
        self._prune(obj, self._schema, "", unknown, root=True)
        return unknown

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in the schema's defaults; nulls that are not allowed make room for them, or go."""
        filled: dict[str, Any] = copy.deepcopy(obj)
        _fill(filled, self._schema)
        return filled

    def validate(self, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[FieldError]:
        """Check an object that is pruned and has its defaults.

        :param old: the object before, for an update: a subtree that was invalid before and did
            not change is let through.
        """
        bare = {k: v for k, v in obj.items() if k not in _ALWAYS_KNOWN}
        schema = {
            **self._schema,
            "required": [
                name for name in self._schema.get("required") or [] if name not in _ALWAYS_KNOWN
            ],
        }
        errors = []
        for error in self._check(bare, schema, "", 0):
            errors.append(error)
            if len(errors) >= _MAX_ERRORS:
                break
        if old is None or not errors:
            return errors
        before = {str(error) for error in self.validate(old)}
        return [
            error
            for error in errors
            if str(error) not in before or _lookup(obj, error.field) != _lookup(old, error.field)
        ]

    # --- pruning ------------------------------------------------------------------------

    def _prune(
        self, value: Any, schema: Mapping[str, Any], path: str, unknown: list[str], *, root: bool
    ) -> Any:
        if isinstance(value, list):
            items = schema.get("items")
            if not isinstance(items, Mapping):
                return value
            return [
                self._prune(item, items, f"{path}[{index}]", unknown, root=False)
                for index, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            return value
        known = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        embedded = root or bool(schema.get(_EMBEDDED))
        out = {}
        for key, item in value.items():
            where = f"{path}.{key}" if path else key
            if embedded and key in _ALWAYS_KNOWN:
                out[key] = item
            elif key in known:
                out[key] = self._prune(item, known[key], where, unknown, root=False)
            elif isinstance(extra, Mapping):
                out[key] = self._prune(item, extra, where, unknown, root=False)
            elif extra is True or schema.get(_KEEP):
                out[key] = item
            else:
                unknown.append(where)
        return out

    # --- validation ---------------------------------------------------------------------

    def _check(self, value: Any, schema: Mapping[str, Any], path: str, depth: int) -> Errors:
        if depth > _MAX_DEPTH:
            yield FieldError(path, INVALID, "", "exceeded max depth")
            return
        if value is None:
            if not schema.get("nullable") and schema.get("type"):
                yield _wrong_type(path, "null", schema["type"])
            return
        mismatch = _type_error(value, schema, path)
        if mismatch is not None:
            yield mismatch
            return
        if schema.get("enum") is not None and not any(
            _same(value, allowed) for allowed in schema["enum"]
        ):
            shown = ", ".join(_quoted(allowed) for allowed in schema["enum"])
            yield FieldError(path, NOT_SUPPORTED, value, f"supported values: {shown}")
        if isinstance(value, str):
            yield from self._string(value, schema, path)
        elif isinstance(value, dict):
            yield from self._object(value, schema, path, depth)
        elif isinstance(value, list):
            yield from self._array(value, schema, path, depth)
        elif not isinstance(value, bool):
            yield from _number(value, schema, path)
        yield from self._combined(value, schema, path, depth)

    def _string(self, value: str, schema: Mapping[str, Any], path: str) -> Errors:
        low, high = schema.get("minLength"), schema.get("maxLength")
        if low is not None and len(value) < low:
            text = f"{path} in body should be at least {low} chars long"
            yield FieldError(path, INVALID, value, text)
        if high is not None and len(value) > high:
            yield FieldError(path, TOO_LONG, value, f"may not be more than {high} bytes")
        pattern = schema.get("pattern")
        if pattern:
            compiled = self._compiled(pattern)
            if compiled is not None and not compiled.search(value):
                text = f"{path} in body should match '{pattern}'"
                yield FieldError(path, INVALID, value, text)
        wanted = schema.get("format")
        if wanted and not _has_format(value, wanted):
            text = f"{path} in body must be of type {wanted}: {_quoted(value)}"
            yield FieldError(path, INVALID, value, text)

    def _compiled(self, pattern: str) -> re.Pattern[str] | None:
        """Go's expression in Python; None when Python does not know its syntax."""
        if pattern not in self._patterns:
            try:
                self._patterns[pattern] = re.compile(re.sub(r"(?<!\\)\$\Z", r"\\Z", pattern))
            except re.error:
                self._patterns[pattern] = None
        return self._patterns[pattern]

    def _object(
        self, value: dict[str, Any], schema: Mapping[str, Any], path: str, depth: int
    ) -> Errors:
        for name in schema.get("required") or []:
            if name not in value:
                yield required(f"{path}.{name}" if path else name)
        low, high = schema.get("minProperties"), schema.get("maxProperties")
        if low is not None and len(value) < low:
            text = f"{path} in body should have at least {low} properties"
            yield FieldError(path, INVALID, len(value), text)
        if high is not None and len(value) > high:
            yield FieldError(path, TOO_MANY, len(value), f"must have at most {high} items")
        known = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        for name, item in value.items():
            inner = known.get(name, extra)
            if isinstance(inner, Mapping):
                yield from self._check(item, inner, f"{path}.{name}" if path else name, depth + 1)

    def _array(self, value: list[Any], schema: Mapping[str, Any], path: str, depth: int) -> Errors:
        low, high = schema.get("minItems"), schema.get("maxItems")
        if low is not None and len(value) < low:
            text = f"{path} in body should have at least {low} items"
            yield FieldError(path, INVALID, len(value), text)
        if high is not None and len(value) > high:
            yield FieldError(path, TOO_MANY, len(value), f"must have at most {high} items")
        items = schema.get("items")
        if isinstance(items, Mapping):
            for index, item in enumerate(value):
                yield from self._check(item, items, f"{path}[{index}]", depth + 1)
        yield from _unique(value, schema, path)

    def _combined(self, value: Any, schema: Mapping[str, Any], path: str, depth: int) -> Errors:
        for part in schema.get("allOf") or []:
            yield from self._check(value, part, path, depth + 1)
        any_of = schema.get("anyOf") or []
        if (
            any_of
            and not schema.get(_INT_OR_STRING)
            and not self._matches(value, any_of, path, depth)
        ):
            text = f"{_named(path)} must validate at least one schema (anyOf)"
            yield FieldError(path, INVALID, "", text)
        one_of = schema.get("oneOf") or []
        if one_of and self._matches(value, one_of, path, depth) != 1:
            text = f"{_named(path)} must validate one and only one schema (oneOf)"
            yield FieldError(path, INVALID, "", text)
        unwanted = schema.get("not")
        if isinstance(unwanted, Mapping) and self._matches(value, [unwanted], path, depth):
            text = f"{_named(path)} must not validate the schema (not)"
            yield FieldError(path, INVALID, "", text)

    def _matches(self, value: Any, schemas: list[Any], path: str, depth: int) -> int:
        return sum(
            next(self._check(value, part, path, depth + 1), None) is None for part in schemas
        )


def _named(path: str) -> str:
    return f'"{path}"' if path else '"<nil>"'


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    return "array" if isinstance(value, list) else "object"


def _type_error(value: Any, schema: Mapping[str, Any], path: str) -> FieldError | None:
    have = _type_of(value)
    if schema.get(_INT_OR_STRING):
        return None if have in ("integer", "string") else _wrong_type(path, have, "integer,string")
    wanted = schema.get("type")
    if not wanted or have == wanted or (wanted == "number" and have == "integer"):
        return None
    return _wrong_type(path, have, wanted)


def _wrong_type(path: str, have: str, wanted: str) -> FieldError:
    text = f'{path} in body must be of type {wanted}: "{have}"'
    return FieldError(path, TYPE_INVALID, have, text)


def _same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _quoted(value: Any) -> str:
    return FieldError("", INVALID, value).message.removeprefix("Invalid value: ")


def _number(value: float, schema: Mapping[str, Any], path: str) -> Errors:
    low, high, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    if low is not None:
        exclusive = bool(schema.get("exclusiveMinimum"))
        if value < low or (exclusive and value == low):
            text = "greater than" if exclusive else "greater than or equal to"
            shown = f"{path} in body should be {text} {low:g}"
            yield FieldError(path, INVALID, value, shown)
    if high is not None:
        exclusive = bool(schema.get("exclusiveMaximum"))
        if value > high or (exclusive and value == high):
            text = "less than" if exclusive else "less than or equal to"
            yield FieldError(path, INVALID, value, f"{path} in body should be {text} {high:g}")
    if step and value % step:
        text = f"{path} in body should be a multiple of {step:g}"
        yield FieldError(path, INVALID, value, text)
    size = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if size is not None and not -(2**size) <= value < 2**size:
        text = f"{path} in body must be of type {schema['format']}: {value:g}"
        yield FieldError(path, INVALID, value, text)


def _unique(value: list[Any], schema: Mapping[str, Any], path: str) -> Errors:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return
    keys = schema.get("x-kubernetes-list-map-keys") or []
    seen: list[Any] = []
    for index, item in enumerate(value):
        mark = item
        if kind == "map" and isinstance(item, dict):
            mark = {key: item.get(key) for key in keys}
        if mark in seen:
            yield duplicate(f"{path}[{index}]", mark)
        seen.append(mark)


def _has_format(value: str, wanted: str) -> bool:
    """Check the formats that Kubernetes checks for strings; others pass."""
    try:
        if wanted == "date-time":
            datetime.fromisoformat(value)
            return "T" in value.upper()
        if wanted == "date":
            date.fromisoformat(value)
            return len(value) == 10
    except ValueError:
        return False
    if wanted == "byte":
        return re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", value) is not None and len(value) % 4 == 0
    return True


def _fill(value: Any, schema: Mapping[str, Any]) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, Mapping):
            for item in value:
                _fill(item, items)
        return
    if not isinstance(value, dict):
        return
    extra = schema.get("additionalProperties")
    known = schema.get("properties") or {}
    for name, inner in known.items():
        if "default" not in inner:
            continue
        unwanted_null = name in value and value[name] is None and not inner.get("nullable")
        if name not in value or unwanted_null:
            value[name] = copy.deepcopy(inner["default"])
    for name, item in list(value.items()):
        inner = known.get(name, extra)
        if not isinstance(inner, Mapping):
            continue
        if item is None and not inner.get("nullable"):
            del value[name]  # Go writes null for what is empty; Source: apiextensions defaulting
        else:
            _fill(item, inner)


def _lookup(obj: Any, path: str) -> Any:
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(obj, dict):
            obj = obj.get(part)
        elif isinstance(obj, list) and part.isdigit() and int(part) < len(obj):
            obj = obj[int(part)]
        else:
            return None
    return obj
