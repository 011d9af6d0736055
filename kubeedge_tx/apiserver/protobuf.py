"""Kubernetes' protobuf request bodies, read into the JSON that they stand for.

A body is ``k8s\\0`` and a ``runtime.Unknown`` {1: {1: apiVersion, 2: kind}, 2: raw}; raw is the
kind's message, with the numbers of ``data/types.json``. Source: Kubernetes
``apimachinery/pkg/runtime/serializer/protobuf`` and the ``generated.proto`` files 1.36.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from kubeedge_tx.api.timestamps import format_time
from kubeedge_tx.apiserver import godecode
from kubeedge_tx.apiserver.types import KINDS, Field, TypeTable, builtin_types
from kubeedge_tx.errors import KubeEdgeError

MAGIC: Final = b"k8s\x00"
_MAX_DEPTH: Final = 100
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value = int | bytes


class ProtobufError(KubeEdgeError):
    """A body is no Kubernetes protobuf; the text says what is wrong with it."""


def decode_object(body: bytes) -> dict[str, Any]:
    """Read a body; returns the object with ``apiVersion`` and ``kind``.

    :raises ProtobufError: whatever is wrong with it.
    """
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(body[len(MAGIC) :]):
        if number == 1:
            for inner, text in _fields(_chunk(value)):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2:
            raw = _chunk(value)
        elif number == 3 and value:
            raise ProtobufError("the body has a content encoding, which is not supported")
        elif number == 4 and value and _text(value) not in ("application/vnd.kubernetes.protobuf",):
            raise ProtobufError("the body's content is no protobuf")
    message = KINDS.get((api_version, kind))
    if message is None and kind == "DeleteOptions":
        message = KINDS[("v1", kind)]
    if message is None:
        raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
    table = builtin_types()
    try:
        out, _ = godecode.decode(message, _Reader(table).message(message, raw, {}, 0))
    except godecode.DecodeError as error:
        raise ProtobufError(str(error)) from None
    return {"kind": kind, "apiVersion": api_version, **out}


@cache
def _numbers(message: str) -> Mapping[int, Field]:
    return {field.number: field for field in builtin_types().messages[message].values()}


@dataclass(frozen=True, slots=True)
class _Reader:
    table: TypeTable

    def message(self, message: str, data: bytes, out: dict[str, Any], depth: int) -> dict[str, Any]:
        """Read a message into ``out``; what stands there already is merged with."""
        if depth > _MAX_DEPTH:
            raise ProtobufError("exceeded max depth")
        fields = _numbers(message)
        for number, value in _fields(data):
            field = fields.get(number)
            if field is None:
                continue
            if field.inline:
                self.message(field.type, _chunk(value), out, depth + 1)
            elif field.type.startswith("[]"):
                items = out.setdefault(field.name, [])
                items += self._items(field.type[2:], value, depth)
            elif field.type.startswith("map:"):
                key, item = self._entry(field.type[4:], value, depth)
                out.setdefault(field.name, {})[key] = item
            elif field.type in self.table.messages:
                known = out.get(field.name)
                target = known if isinstance(known, dict) else {}
                out[field.name] = self.message(field.type, _chunk(value), target, depth + 1)
            else:
                out[field.name] = self._scalar(field.type, value, depth)
        return out

    def _items(self, kind: str, value: Value, depth: int) -> list[Any]:
        if kind in ("int32", "int64") and isinstance(value, bytes):
            return [_signed(number) for number in _packed(value)]
        return [self._value(kind, value, depth)]

    def _entry(self, kind: str, value: Value, depth: int) -> tuple[str, Any]:
        key, item = "", None
        for number, part in _fields(_chunk(value)):
            if number == 1:
                key = _text(part)
            elif number == 2:
                item = self._value(kind, part, depth)
        return key, item if item is not None else self._value(kind, b"", depth)

    def _value(self, kind: str, value: Value, depth: int) -> Any:
        if kind.startswith("[]"):
            # A named list type of Go is a message of its own: {1: items}.
            chunk = _chunk(value)
            return [self._value(kind[2:], v, depth + 1) for n, v in _fields(chunk) if n == 1]
        if kind in self.table.messages:
            return self.message(kind, _chunk(value), {}, depth + 1)
        return self._scalar(kind, value, depth)

    def _scalar(self, kind: str, value: Value, depth: int) -> Any:
        if kind in _SCALARS:
            return _SCALARS[kind](value)
        if kind in ("schemaorbool", "schemaorarray", "schemaorstrings"):
            return self._schema(kind, _chunk(value), depth)
        raise ProtobufError(f"a field of type {kind} has no protobuf form")

    def _schema(self, kind: str, data: bytes, depth: int) -> Any:
        """Read the unions of a CRD's schema: one schema, or a bool, or a list."""
        schema = "apiextensions.v1.JSONSchemaProps"
        several: list[Any] = []
        allows = False
        one: dict[str, Any] | None = None
        for number, value in _fields(data):
            if number == (2 if kind == "schemaorbool" else 1):
                one = self.message(schema, _chunk(value), {}, depth + 1)
            elif kind == "schemaorbool":
                allows = bool(value)
            elif kind == "schemaorarray":
                several.append(self.message(schema, _chunk(value), {}, depth + 1))
            else:
                several.append(_text(value))
        if one is not None:
            return one
        return allows if kind == "schemaorbool" else several


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Split a message into field numbers and raw values."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ProtobufError("illegal tag 0")
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ProtobufError(f"illegal wire type {wire}")
        if size > end - position:
            raise ProtobufError("unexpected EOF")
        yield number, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(data):
            raise ProtobufError("unexpected EOF")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result & (2**64 - 1), position
        shift += 7
        if shift >= 64:
            raise ProtobufError("integer overflow")


def _packed(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _chunk(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("wrong wire type for a message, string or bytes")
    return value


def _text(value: Value) -> str:
    try:
        return _chunk(value).decode("utf-8")
    except UnicodeDecodeError:
        raise ProtobufError("a string is no UTF-8") from None


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise ProtobufError("wrong wire type for a number")
    return value


def _signed(value: Value) -> int:
    number = _number(value)
    return number - 2**64 if number >= 2**63 else number


def _int32(value: Value) -> int:
    number = _number(value) & (2**32 - 1)
    return number - 2**32 if number >= 2**31 else number


def _double(value: Value) -> float:
    chunk = _chunk(value)
    if len(chunk) != 8:
        raise ProtobufError("wrong wire type for a double")
    number: float = struct.unpack("<d", chunk)[0]
    if number != number or number in (float("inf"), float("-inf")):
        raise ProtobufError("a number is not finite")
    return number


def _time(value: Value, *, micro: bool) -> str | None:
    seconds = nanos = 0
    for number, part in _fields(_chunk(value)):
        if number == 1:
            seconds = _signed(part)
        elif number == 2:
            nanos = _int32(part)
    if seconds == 0 and nanos == 0:
        return None
    return format_time(seconds, nanos, micro=micro)


def _quantity(value: Value) -> str:
    text = "0"
    for number, part in _fields(_chunk(value)):
        if number == 1:
            text = _text(part) or "0"
    return text


def _int_or_string(value: Value) -> int | str:
    kind, number, text = 0, 0, ""
    for field, part in _fields(_chunk(value)):
        if field == 1:
            kind = _signed(part)
        elif field == 2:
            number = _int32(part)
        elif field == 3:
            text = _text(part)
    return text if kind == 1 else number


def _json(value: Value) -> Any:
    raw = b""
    for number, part in _fields(_chunk(value)):
        if number == 1:
            raw = _chunk(part)
    if not raw:
        return None
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ProtobufError("an embedded value is no JSON") from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_SCALARS: Final[Mapping[str, Callable[[Value], Any]]] = {
    "string": _text,
    "bool": lambda value: bool(_number(value)),
    "int32": _int32,
    "int64": _signed,
    "double": _double,
    "bytes": lambda value: base64.b64encode(_chunk(value)).decode(),
    "time": lambda value: _time(value, micro=False),
    "microtime": lambda value: _time(value, micro=True),
    "quantity": _quantity,
    "intorstring": _int_or_string,
    "raw": _json,
    "json": _json,
    "fields": _json,
}
