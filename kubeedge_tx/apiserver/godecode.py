"""JSON read as Go's decoder reads it, and written back as Go's encoder would.

What a built-in kind does not know is dropped and named, what has the wrong type is refused in
Go's words, empty fields disappear or appear as the Go types say. Source: Go ``encoding/json``
and the types' tags in ``data/types.json``.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from kubeedge_tx.api import quantity
from kubeedge_tx.api.timestamps import format_time, parse_time
from kubeedge_tx.apiserver.types import Field, builtin_types
from kubeedge_tx.errors import KubeEdgeError

_MAX_DEPTH: Final = 200
_INT_RANGE: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_STRUCTS: Final = ("time", "microtime", "quantity", "intorstring")
_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"
_OMITTED: Final = object()
"""Stands for what an absent field becomes: nothing."""
_GO_NAMES: Final[Mapping[str, str]] = {
    "bytes": "[]uint8",
    "double": "float64",
    "time": "v1.Time",
    "microtime": "v1.MicroTime",
    "quantity": "resource.Quantity",
    "intorstring": "intstr.IntOrString",
}


class DecodeError(KubeEdgeError):
    """JSON does not fit the Go type; the text is what Kubernetes would say after the colon."""


def decode(message: str, obj: Any) -> tuple[dict[str, Any], list[str]]:
    """Read an object of a message of the table.

    Numbers, times and quantities are checked and normalized. ``apiVersion`` and ``kind`` of
    the top are kept as they are.

    :returns: the object, and the paths of fields that do not exist (``spec.nosuch``).
    :raises DecodeError: a value has the wrong type.
    """
    unknown: list[str] = []
    out: dict[str, Any] = {}
    if isinstance(obj, dict):
        for key in ("kind", "apiVersion"):
            if key in obj:
                out[key] = obj[key]
        obj = {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}
    out.update(_message(message, obj, _Where(None, message, "", False, 0), unknown))
    return out, unknown


@dataclass(slots=True, eq=False)
class _Where:
    """Where in the object we are; written out only when there is something to say."""

    parent: _Where | None
    struct: str
    """The message that has the field."""
    step: str
    """``.name`` or ``[0]``; empty at the top."""
    is_field: bool
    """Whether Go's decoder counts the step: not for keys of maps and positions in lists."""
    depth: int

    def into(self, struct: str, step: str, is_field: bool) -> _Where:
        return _Where(self, struct, step, is_field, self.depth + 1)

    def path(self, *, fields_only: bool = False) -> str:
        steps = []
        where: _Where | None = self
        while where is not None:
            if where.is_field or not fields_only:
                steps.append(where.step)
            where = where.parent
        return "".join(reversed(steps)).removeprefix(".")

    def mismatch(self, what: str, go_type: str) -> DecodeError:
        path = self.path(fields_only=True)
        struct = self.struct.rsplit(".", 1)[-1]
        target = f"struct field {struct}.{path}" if path else "value"
        return DecodeError(f"json: cannot unmarshal {what} into Go {target} of type {go_type}")


def _message(message: str, obj: Any, where: _Where, unknown: list[str]) -> dict[str, Any]:
    if where.depth > _MAX_DEPTH:
        raise DecodeError("exceeded max depth")
    if obj is None:
        obj = {}
    if not isinstance(obj, dict):
        raise where.mismatch(_json_name(obj), _go_name(message))
    out: dict[str, Any] = {}
    known = 0
    for name, field, absent in _plan(message):
        value = obj.get(name)
        if value is None:
            known += name in obj
            if absent is not _OMITTED:
                out[name] = copy.deepcopy(absent) if absent else _empty_like(absent)
            continue
        known += 1
        decoded = _value(field.type, value, where.into(message, "." + name, True), unknown)
        if field.pointer or not _left_out(field, decoded):
            out[name] = decoded
    if known != len(obj):
        fields = builtin_types().flat[message]
        unknown += [where.into(message, f".{key}", True).path() for key in obj if key not in fields]
    return out


def _empty_like(value: Any) -> Any:
    return {} if value == {} else value


@cache
def _plan(message: str) -> tuple[tuple[str, Field, Any], ...]:
    """The fields in Go's order, each with what it becomes when it is absent."""
    return tuple(
        (name, field, _absent(field)) for name, field in builtin_types().flat[message].items()
    )


def _absent(field: Field) -> Any:
    if field.pointer or field.type in ("raw", "json"):
        return _OMITTED if field.omit_empty or field.omit_zero else None
    value = _value(field.type, None, _Where(None, "", "", False, 0), [])
    return _OMITTED if _left_out(field, value) else value


def _value(kind: str, value: Any, where: _Where, unknown: list[str]) -> Any:
    if kind.startswith("[]"):
        if value is None:
            return None
        if not isinstance(value, list):
            raise where.mismatch(_json_name(value), _go_name(kind))
        return [
            _value(kind[2:], item, where.into(where.struct, f"[{index}]", False), unknown)
            for index, item in enumerate(value)
        ]
    if kind.startswith("map:"):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise where.mismatch(_json_name(value), _go_name(kind))
        return {
            key: _value(kind[4:], item, where.into(where.struct, f".{key}", False), unknown)
            for key, item in value.items()
        }
    if "." in kind:
        return _message(kind, value, where, unknown)
    return _scalar(kind, value, where)


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "null"


def _go_name(kind: str) -> str:
    if kind.startswith("[]"):
        return "[]" + _go_name(kind[2:])
    if kind.startswith("map:"):
        return "map[string]" + _go_name(kind[4:])
    if kind in _GO_NAMES:
        return _GO_NAMES[kind]
    return "v1." + kind.rsplit(".", 1)[1] if "." in kind else kind


def _left_out(field: Field, value: Any) -> bool:
    """Whether Go's encoder omits this value of a field that is no pointer."""
    if field.omit_zero and (value is None or value == {}):
        return True
    if not field.omit_empty:
        return False
    if field.type in _STRUCTS or ("." in field.type and not field.type.startswith(("[]", "map:"))):
        return False
    return not value


# --- scalars ----------------------------------------------------------------------------


def _scalar(kind: str, value: Any, where: _Where) -> Any:
    match kind:
        case "string":
            if value is None:
                return ""
            if not isinstance(value, str):
                raise where.mismatch(_json_name(value), "string")
        case "bool":
            if value is None:
                return False
            if not isinstance(value, bool):
                raise where.mismatch(_json_name(value), "bool")
        case "int32" | "int64":
            return _integer(kind, value, where)
        case "double":
            if value is None:
                return 0
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise where.mismatch(_json_name(value), "float64")
        case "bytes":
            return _bytes(value, where)
        case "time" | "microtime":
            return _time(kind, value, where)
        case "quantity":
            return _quantity(value)
        case "intorstring":
            if value is None:
                return 0
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise where.mismatch(_json_name(value), "int32")
    return value


def _integer(kind: str, value: Any, where: _Where) -> int:
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        what = f"number {value:g}" if isinstance(value, float) else _json_name(value)
        raise where.mismatch(what, kind)
    low, high = _INT_RANGE[kind]
    if not low <= value <= high:
        raise where.mismatch(f"number {value}", kind)
    return value


def _bytes(value: Any, where: _Where) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise where.mismatch(_json_name(value), "[]uint8")
    text = value.replace("\n", "").replace("\r", "")
    bad = re.search(r"[^A-Za-z0-9+/=]", text)
    if bad:
        raise DecodeError(f"illegal base64 data at input byte {bad.start()}")
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise DecodeError(f"illegal base64 data at input byte {_bad_base64(text)}") from None
    return text


def _bad_base64(text: str) -> int:
    """Offset that Go's decoder reports for wrong padding: the quantum that is short."""
    position = text.find("=")
    if position < 0:
        return len(text) - len(text) % 4 if len(text) % 4 != 1 else len(text) - 1
    return position


def _time(kind: str, value: Any, where: _Where) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise where.mismatch(_json_name(value), "string")
    return _normal_time(kind, value)


@lru_cache(maxsize=2048)
def _normal_time(kind: str, value: str) -> str | None:
    moment = parse_time(value)
    if moment is None:
        quoted = json.dumps(value)
        raise DecodeError(f'parsing time {quoted} as "{_LAYOUT}": cannot parse {quoted} as "2006"')
    seconds, nanos = moment
    return format_time(seconds, nanos, micro=kind == "microtime")


def _quantity(value: Any) -> str:
    if value is None:
        return "0"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DecodeError(quantity.FORMAT_MESSAGE)
    if isinstance(value, float):
        value = f"{value:f}".rstrip("0").rstrip(".")
    try:
        return quantity.canonical(str(value))
    except ValueError as error:
        raise DecodeError(str(error)) from None
