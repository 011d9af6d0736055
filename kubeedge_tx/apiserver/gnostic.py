"""Swagger 2.0 in gnostic's protobuf, the form in which kubectl up to 1.24 asks for it.

Only what our documents contain is written. Field numbers: ``openapi.v2`` of gnostic's
``OpenAPIv2.proto``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

_SCHEMA_STRINGS: Final = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_SCHEMA_DOUBLES: Final = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_SCHEMA_INTEGERS: Final = {
    "exclusiveMaximum": 8,
    "exclusiveMinimum": 10,
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "uniqueItems": 16,
    "maxProperties": 17,
    "minProperties": 18,
}
_METHODS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def v2_protobuf(document: Mapping[str, Any]) -> bytes:
    """Write a Swagger 2.0 document as an ``openapi.v2.Document``."""
    info = document["info"]
    paths = b"".join(
        _block(2, _named(path, _path_item(item))) for path, item in document["paths"].items()
    )
    definitions = b"".join(
        _block(1, _named(name, _schema(schema))) for name, schema in document["definitions"].items()
    )
    return b"".join(
        (
            _string(1, document["swagger"]),
            _block(2, _string(1, info["title"]) + _string(2, info["version"])),
            _block(8, paths),
            _block(9, definitions),
        )
    )


def _path_item(item: Mapping[str, Any]) -> bytes:
    out = [
        _block(number, _operation(item[method]))
        for method, number in _METHODS.items()
        if method in item
    ]
    out += [_block(9, _parameter(parameter)) for parameter in item.get("parameters", ())]
    return b"".join(out)


def _operation(operation: Mapping[str, Any]) -> bytes:
    responses = b"".join(
        _block(1, _named(code, _block(1, _response(response))))
        for code, response in operation["responses"].items()
    )
    return b"".join(
        (
            _string(5, operation["operationId"]),
            _strings(7, operation.get("consumes", ())),
            *(_block(8, _parameter(parameter)) for parameter in operation.get("parameters", ())),
            _block(9, responses),
            _extensions(13, operation),
        )
    )


def _response(response: Mapping[str, Any]) -> bytes:
    schema = _block(2, _block(1, _schema(response["schema"]))) if "schema" in response else b""
    return _string(1, response["description"]) + schema


def _parameter(parameter: Mapping[str, Any]) -> bytes:
    """Write a ParametersItem."""
    if parameter["in"] == "body":
        body = b"".join(
            (
                _string(2, parameter["name"]),
                _string(3, "body"),
                _integer(4, bool(parameter.get("required"))),
                _block(5, _schema(parameter["schema"])),
            )
        )
        return _block(1, _block(1, body))
    common = b"".join(
        (
            _integer(1, bool(parameter.get("required"))),
            _string(2, parameter["in"]),
            _string(3, parameter.get("description", "")),
            _string(4, parameter["name"]),
        )
    )
    if parameter["in"] == "path":
        return _block(1, _block(2, _block(4, common + _string(5, parameter["type"]))))
    return _block(1, _block(2, _block(3, common + _string(6, parameter["type"]))))


def _schema(schema: Mapping[str, Any]) -> bytes:
    out = [_string(n, schema[key]) for key, n in _SCHEMA_STRINGS.items() if key in schema]
    out += [
        _tag(number, 1) + struct.pack("<d", schema[key])
        for key, number in _SCHEMA_DOUBLES.items()
        if key in schema
    ]
    out += [
        _integer(number, int(schema[key]))
        for key, number in _SCHEMA_INTEGERS.items()
        if key in schema
    ]
    if "default" in schema:
        out.append(_block(5, _any(schema["default"])))
    out.append(_strings(19, schema.get("required", ())))
    out += [_block(20, _any(value)) for value in schema.get("enum", ())]
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        out.append(_block(21, _block(1, _schema(extra))))
    elif extra is not None:
        out.append(_block(21, _tag(2, 0) + _varint(int(extra))))
    if "type" in schema:
        out.append(_block(22, _string(1, schema["type"])))
    if "items" in schema:
        out.append(_block(23, _block(1, _schema(schema["items"]))))
    if "properties" in schema:
        named = (_named(name, _schema(inner)) for name, inner in schema["properties"].items())
        out.append(_block(25, b"".join(_block(1, entry) for entry in named)))
    out.append(_extensions(31, schema))
    return b"".join(out)


def _extensions(number: int, obj: Mapping[str, Any]) -> bytes:
    return b"".join(
        _block(number, _named(key, _any(value)))
        for key, value in obj.items()
        if key.startswith("x-")
    )


def _any(value: Any) -> bytes:
    """Write an Any: its value as YAML text. JSON is YAML."""
    return _string(2, json.dumps(value) + "\n")


def _named(name: str, value: bytes) -> bytes:
    return _string(1, name) + _block(2, value)


def _strings(number: int, values: Iterable[str]) -> bytes:
    return b"".join(_block(number, value.encode()) for value in values)


def _string(number: int, value: str) -> bytes:
    return _block(number, value.encode()) if value else b""


def _integer(number: int, value: int) -> bytes:
    return _tag(number, 0) + _varint(value) if value else b""


def _block(number: int, data: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(data)) + data


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
