"""The built-in kinds as Go sees them: fields, types, what is left out when empty.

The table is ``data/types.json``: message -> field -> [protobuf number, type, flags, merge key].
Types are ``string bool int32 int64 double bytes time microtime quantity intorstring raw
json fields``, a message name, ``[]T`` or ``map:T``; CRD schemas also have ``schemaorbool``,
``schemaorarray`` and ``schemaorstrings``. Flags: ``*`` pointer, ``o`` omitempty, ``z`` omitzero,
``r`` required, ``^`` its fields belong to the parent in JSON, ``m`` merge, ``k`` retainKeys.

Source: the Go types of Kubernetes 1.36 (names, tags and numbers only).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from kubeedge_tx.apiserver import quantity
from kubeedge_tx.errors import KubeEdgeError

KINDS: Final[Mapping[tuple[str, str], str]] = {
    ("v1", "Namespace"): "core.v1.Namespace",
    ("v1", "Node"): "core.v1.Node",
    ("v1", "Pod"): "core.v1.Pod",
    ("v1", "ConfigMap"): "core.v1.ConfigMap",
    ("v1", "Secret"): "core.v1.Secret",
    ("v1", "Service"): "core.v1.Service",
    ("v1", "Endpoints"): "core.v1.Endpoints",
    ("v1", "Event"): "core.v1.Event",
    ("v1", "ServiceAccount"): "core.v1.ServiceAccount",
    ("v1", "Binding"): "core.v1.Binding",
    ("coordination.k8s.io/v1", "Lease"): "coordination.v1.Lease",
    ("certificates.k8s.io/v1", "CertificateSigningRequest"): (
        "certificates.v1.CertificateSigningRequest"
    ),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): (
        "apiextensions.v1.CustomResourceDefinition"
    ),
    ("authentication.k8s.io/v1", "TokenRequest"): "authentication.v1.TokenRequest",
    ("authentication.k8s.io/v1", "TokenReview"): "authentication.v1.TokenReview",
    ("authentication.k8s.io/v1", "SelfSubjectReview"): "authentication.v1.SelfSubjectReview",
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): (
        "authorization.v1.SelfSubjectAccessReview"
    ),
    ("authorization.k8s.io/v1", "SubjectAccessReview"): "authorization.v1.SubjectAccessReview",
    ("authorization.k8s.io/v1", "LocalSubjectAccessReview"): (
        "authorization.v1.LocalSubjectAccessReview"
    ),
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): (
        "authorization.v1.SelfSubjectRulesReview"
    ),
    ("policy/v1", "Eviction"): "policy.v1.Eviction",
    ("v1", "DeleteOptions"): "meta.v1.DeleteOptions",
    ("meta.k8s.io/v1", "DeleteOptions"): "meta.v1.DeleteOptions",
}
"""apiVersion and kind to message."""

_MAX_DEPTH: Final = 200
_INT_RANGE: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)\Z"
)


class DecodeError(KubeEdgeError):
    """JSON does not fit the Go type; the text is what Kubernetes would say after the colon."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    number: int
    type: str
    pointer: bool
    omit_empty: bool
    omit_zero: bool
    required: bool
    inline: bool
    merge: bool
    retain_keys: bool
    merge_key: str


@dataclass(frozen=True, slots=True)
class TypeTable:
    """Every message, by its short name (``core.v1.Pod``)."""

    messages: Mapping[str, Mapping[str, Field]]
    """With inlined messages as fields of their own, named ``^<message>``."""
    flat: Mapping[str, Mapping[str, Field]]
    """As JSON has them: inlined fields in their parent."""

    def decode(self, message: str, obj: Any) -> tuple[dict[str, Any], list[str]]:
        """Read JSON as Go would and write it back as Go would.

        Empty fields that Go omits are gone, fields that Go always writes are there, numbers,
        times and quantities are checked. ``apiVersion`` and ``kind`` of the top are kept.

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
        where = _Where(message, "", unknown, 0)
        out.update(self._message(message, obj, where))
        return out, unknown

    def _message(self, message: str, obj: Any, where: _Where) -> dict[str, Any]:
        if where.depth > _MAX_DEPTH:
            raise DecodeError("exceeded max depth")
        if obj is None:
            obj = {}
        if not isinstance(obj, dict):
            raise where.mismatch(obj, _go_name(message))
        fields = self.flat[message]
        for key in obj:
            if key not in fields:
                where.unknown.append(where.child(key))
        out: dict[str, Any] = {}
        for name, field in fields.items():
            value = obj.get(name)
            inner = where.into(message, name)
            if value is None:
                if field.pointer or field.type in ("raw", "json"):
                    if not field.omit_empty and not field.omit_zero:
                        out[name] = None
                    continue
                value = None
            decoded = self._value(field.type, value, inner)
            if not field.pointer and _left_out(field, decoded):
                continue
            out[name] = decoded
        return out

    def _value(self, kind: str, value: Any, where: _Where) -> Any:
        if kind.startswith("[]"):
            if value is None:
                return None
            if not isinstance(value, list):
                raise where.mismatch(value, _go_name(kind))
            return [
                self._value(kind[2:], item, where.index(position))
                for position, item in enumerate(value)
            ]
        if kind.startswith("map:"):
            if value is None:
                return None
            if not isinstance(value, dict):
                raise where.mismatch(value, _go_name(kind))
            return {key: self._value(kind[4:], item, where.key(key)) for key, item in value.items()}
        if kind in self.flat:
            return self._message(kind, value, where)
        return _scalar(kind, value, where)


@dataclass(frozen=True, slots=True)
class _Where:
    """Where in the object we are, for error texts."""

    struct: str
    path: str
    unknown: list[str]
    depth: int
    go_path: str = ""

    def child(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def into(self, struct: str, name: str) -> _Where:
        go_path = f"{self.go_path}.{name}" if self.go_path else name
        return _Where(struct, self.child(name), self.unknown, self.depth + 1, go_path)

    def index(self, position: int) -> _Where:
        path = f"{self.path}[{position}]"
        return _Where(self.struct, path, self.unknown, self.depth + 1, self.go_path)

    def key(self, name: str) -> _Where:
        return _Where(self.struct, self.child(name), self.unknown, self.depth + 1, self.go_path)

    def mismatch(self, value: Any, go_type: str) -> DecodeError:
        what = _json_name(value)
        if not self.go_path:
            return DecodeError(f"json: cannot unmarshal {what} into Go value of type {go_type}")
        struct = self.struct.rsplit(".", 1)[-1]
        return DecodeError(
            f"json: cannot unmarshal {what} into Go struct field {struct}.{self.go_path}"
            f" of type {go_type}"
        )


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
    named = {
        "bytes": "[]uint8",
        "double": "float64",
        "time": "v1.Time",
        "microtime": "v1.MicroTime",
        "quantity": "resource.Quantity",
        "intorstring": "intstr.IntOrString",
    }
    if kind in named:
        return named[kind]
    return "v1." + kind.rsplit(".", 1)[1] if "." in kind else kind


def _left_out(field: Field, value: Any) -> bool:
    """Whether Go's encoder omits this value of a field that is no pointer."""
    if field.omit_zero and (value is None or value == {}):
        return True
    if not field.omit_empty:
        return False
    struct = field.type in ("time", "microtime", "quantity", "intorstring") or "." in field.type
    if struct and not field.type.startswith(("[]", "map:")):
        return False
    return value is None or value == "" or value == 0 or value is False or value in ([], {})


def _scalar(kind: str, value: Any, where: _Where) -> Any:
    match kind:
        case "string":
            if value is None:
                return ""
            if not isinstance(value, str):
                raise where.mismatch(value, "string")
        case "bool":
            if value is None:
                return False
            if not isinstance(value, bool):
                raise where.mismatch(value, "bool")
        case "int32" | "int64":
            return _integer(kind, value, where)
        case "double":
            if value is None:
                return 0
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise where.mismatch(value, "float64")
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
                raise where.mismatch(value, "int32")
    return value


def _integer(kind: str, value: Any, where: _Where) -> int:
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        if isinstance(value, float):
            raise DecodeError(
                f"json: cannot unmarshal number {value:g} into Go struct field"
                f" {where.struct.rsplit('.', 1)[-1]}.{where.go_path} of type {kind}"
            )
        raise where.mismatch(value, kind)
    low, high = _INT_RANGE[kind]
    if not low <= value <= high:
        raise DecodeError(
            f"json: cannot unmarshal number {value} into Go struct field"
            f" {where.struct.rsplit('.', 1)[-1]}.{where.go_path} of type {kind}"
        )
    return value


def _bytes(value: Any, where: _Where) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise where.mismatch(value, "[]uint8")
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
    if value is None or value == "":
        if value == "":
            raise DecodeError(_time_error("", "2006-01-02T15:04:05Z07:00"))
        return None
    if not isinstance(value, str):
        raise where.mismatch(value, "string")
    moment = parse_time(value)
    if moment is None:
        raise DecodeError(_time_error(value, "2006-01-02T15:04:05Z07:00"))
    seconds, nanos = moment
    return format_time(seconds, nanos, micro=kind == "microtime")


def _time_error(value: str, layout: str) -> str:
    quoted = json.dumps(value)
    return f'parsing time {quoted} as {json.dumps(layout)}: cannot parse {quoted} as "2006"'


def parse_time(text: str) -> tuple[int, int] | None:
    """Read RFC 3339; returns seconds and nanoseconds since 1970, or None."""
    match = _TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    seconds = int(moment.timestamp())
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds += -offset if zone[0] == "+" else offset
    nanos = int((match[7] or "").ljust(9, "0"))
    return seconds, nanos


def format_time(seconds: int, nanos: int, *, micro: bool) -> str | None:
    """Write as ``metav1.Time`` does, or with microseconds; None for what is no year 1-9999."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    text = moment.strftime("%Y").rjust(4, "0") + moment.strftime("-%m-%dT%H:%M:%S")
    return f"{text}.{nanos // 1000:06d}Z" if micro else text + "Z"


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


@cache
def builtin_types() -> TypeTable:
    """Load the table that ships with this package."""
    raw = json.loads(files("kubeedge_tx.apiserver").joinpath("data/types.json").read_text("utf-8"))
    messages = {
        message: {name: _field(name, entry) for name, entry in fields.items()}
        for message, fields in raw.items()
    }
    flat = {message: dict(_flatten(messages, message)) for message in messages}
    return TypeTable(messages, flat)


def _field(name: str, entry: list[Any]) -> Field:
    number, kind, flags, *rest = entry
    return Field(
        name=name,
        number=number,
        type=kind,
        pointer="*" in flags,
        omit_empty="o" in flags,
        omit_zero="z" in flags,
        required="r" in flags,
        inline="^" in flags,
        merge="m" in flags,
        retain_keys="k" in flags,
        merge_key=rest[0] if rest else "",
    )


def _flatten(
    messages: Mapping[str, Mapping[str, Field]], message: str
) -> Iterator[tuple[str, Field]]:
    for name, field in messages[message].items():
        if field.inline:
            yield from _flatten(messages, field.type)
        else:
            yield name, field


def message_of(api_version: str, kind: str) -> str | None:
    """The message of a built-in kind, or None for everything else."""
    return KINDS.get((api_version, kind))
