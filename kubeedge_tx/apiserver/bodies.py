"""Request bodies: JSON, YAML and Kubernetes' protobuf, checked for their kind."""

from __future__ import annotations

import base64
import json
import math
from typing import Any, Final

import msgspec
import yaml

from kubeedge_tx.apiserver import protobuf, status
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.negotiation import JSON, PROTOBUF, YAML
from kubeedge_tx.apiserver.nesting import too_deep

MAX_BODY_BYTES: Final = 3 * 1024 * 1024
"""Source: apiserver ``DefaultMaxRequestBodyBytes``."""

_UNKNOWN_FORM: Final = object()
_MAX_YAML_VALUES: Final = 1_000_000

_decode: Final = msgspec.json.Decoder().decode


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as Kubernetes reads it: what looks like a date stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def media_type(content_type: str) -> str:
    """The media type of a Content-Type header, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def read(raw: bytes, content_type: str, kind: str) -> Any:
    """Decode a body.

    :param kind: the kind expected, for the error text.
    :raises ApiError: 400 if it cannot be read, 415 for a form that we do not know.
    """
    media = media_type(content_type) or JSON
    try:
        value = _parse(raw, media)
        if value is not _UNKNOWN_FORM and not too_deep(value):
            return value
        why = "json parse error: exceeded max depth"
    except msgspec.DecodeError as error:
        why = f"json parse error: {error}"
    except RecursionError:
        why = "json parse error: nested too deeply"
    except UnicodeDecodeError:
        why = "the text is not UTF-8"
    except yaml.YAMLError as error:
        why = f"yaml parse error: {getattr(error, 'problem', None) or 'malformed'}"
    except protobuf.ProtobufError as error:
        why = f"protobuf: {error}"
    else:
        if value is _UNKNOWN_FORM:
            raise status.unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types "
                f"include: {JSON}, {YAML}, {PROTOBUF}"
            )
    raise status.bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get "
        f"version/kind; {why}"
    )


def _parse(raw: bytes, media: str) -> Any:
    if media == PROTOBUF or raw.startswith(b"k8s\x00"):
        return protobuf.decode_object(raw)
    if media in (JSON, "*/*"):
        return _decode(raw)
    if media in (YAML, "text/yaml", "application/x-yaml"):
        return read_yaml(raw)
    return _UNKNOWN_FORM


def read_yaml(raw: bytes) -> Any:
    """Decode YAML (JSON is YAML too).

    :raises yaml.YAMLError: malformed, or something that JSON cannot say.
    """
    value = yaml.load(raw.decode("utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    return _Plain().of(value)


class _Plain:
    """YAML values as JSON has them; keys become text, as sigs.k8s.io/yaml makes them."""

    def __init__(self) -> None:
        self._left = _MAX_YAML_VALUES

    def of(self, value: Any) -> Any:
        """Convert one value.

        :raises yaml.YAMLError: it is none of JSON's, or aliases multiply it without end.
        """
        self._left -= 1
        if self._left < 0:
            raise _unreadable("too many values; aliases multiply it")
        if isinstance(value, dict):
            return {self._key(key): self.of(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.of(inner) for inner in value]
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, float) and not math.isfinite(value):
            raise _unreadable("not a finite number")
        if value is None or isinstance(value, str | int | float):
            return value
        raise _unreadable(f"a {type(value).__name__} is nothing that JSON has")

    def _key(self, key: Any) -> str:
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, str | int | float):
            return str(key)
        raise _unreadable("a key must be text")


def _unreadable(problem: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem)


def as_object(body: Any, kind: str, api_version: str) -> Object:
    """See that a body is an object of the expected kind; missing names are filled in.

    :raises ApiError: 400.
    """
    if not isinstance(body, dict):
        raise status.bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get "
            f"version/kind; json parse error: expected an object"
        )
    own_kind = body.get("kind") or kind
    own_version = body.get("apiVersion") or api_version
    if own_kind != kind:
        raise status.bad_request(
            f'{own_kind} in version "{_short(own_version)}" cannot be handled as a {kind}: '
            f"converting ({own_version}.{own_kind}) to ({_internal(api_version)}.{kind}): unknown "
            "conversion"
        )
    if own_version != api_version:
        raise status.bad_request(
            f"the API version in the data ({own_version}) does not match the expected API version "
            f"({api_version})"
        )
    return body


def duplicates(raw: bytes, content_type: str) -> list[str]:
    """Complaints about keys that a JSON body has twice: ``duplicate field "data.k"``."""
    if media_type(content_type) not in ("", JSON):
        return []
    twice: list[bool] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) != len(found):
            twice.append(True)
        return made

    try:
        json.loads(raw, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return []
    if not twice:
        return []
    complaints: list[str] = []
    _walk(json.loads(raw, object_pairs_hook=_Pairs), "", complaints)
    return complaints


class _Pairs(list[tuple[str, Any]]):
    """An object that still has its keys twice."""


def _walk(value: Any, path: str, complaints: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, inner in value:
            where = f"{path}.{key}" if path else key
            if key in seen:
                complaints.append(f'duplicate field "{where}"')
            seen.add(key)
            _walk(inner, where, complaints)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _walk(inner, f"{path}[{index}]", complaints)


def _short(api_version: str) -> str:
    return api_version.rpartition("/")[2]


def _internal(api_version: str) -> str:
    """Go's name of the package that holds a group's internal types."""
    group, slash, _ = api_version.partition("/")
    return group.partition(".")[0] if slash else "core"
