"""The files of a volume made from objects: paths, contents and modes.

Source: ``k8s.io/kubernetes/pkg/volume/{configmap,secret,downwardapi,projected}``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.downward import Place, field_value, resource_value
from kubeedge_tx.edge.edged.podspec import Json

DEFAULT_MODE = 0o644
"""Mode of a file whose volume names none. Source: Kubernetes API."""
DEFAULT_TOKEN_SECONDS = 3600
"""Life of a service-account token whose volume names none. Source: Kubernetes API."""


class MountError(Exception):
    """A volume cannot be made; the text names what is missing."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume."""

    data: bytes = field(repr=False)
    mode: int = DEFAULT_MODE
    owner: int | None = None
    """The user it is given to, where the agent may."""


@dataclass(frozen=True, slots=True)
class TokenWanted:
    """A service-account token that a volume shows."""

    audience: str
    seconds: int


Payload = dict[str, File]
"""Files by relative path."""
Objects = Mapping[tuple[str, str], Json | None]
Tokens = Mapping[TokenWanted, str]


def object_data(kind: str, found: Json, *, text_only: bool = False) -> Iterator[tuple[str, bytes]]:
    """Give keys and values of a ConfigMap (``configmap``) or Secret (``secret``).

    :param text_only: leave ``binaryData`` out.
    """
    for key, value in (found.get("data") or {}).items():
        yield (
            key,
            _decoded(key, value)
            if kind == "secret"
            else str(value).encode("utf-8", "surrogateescape"),
        )
    if kind == "secret":
        for key, value in (found.get("stringData") or {}).items():
            yield key, str(value).encode()
    elif not text_only:
        for key, value in (found.get("binaryData") or {}).items():
            yield key, _decoded(key, value)


def _decoded(key: str, value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=False)
    except (binascii.Error, ValueError):
        raise MountError(f"the value of key {key} is not base64") from None


def wanted_tokens(volume: Json) -> list[TokenWanted]:
    """Give the tokens that a projected volume shows."""
    sources = (volume.get("projected") or {}).get("sources") or ()
    return [
        _token(each["serviceAccountToken"]) for each in sources if "serviceAccountToken" in each
    ]


def _token(source: Json) -> TokenWanted:
    seconds = int(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS)
    return TokenWanted(str(source.get("audience") or ""), seconds)


def volume_payload(
    pod: Json, volume: Json, objects: Objects, tokens: Tokens, place: Place
) -> Payload | None:
    """Compute the files of a volume; ``None`` if it is not one made from objects.

    :param objects: has an entry for all of ``podspec.mounted_objects``.
    :raises MountError: an object or key is missing and not optional, or a path is unsafe.
    """
    for name, kind in (("configMap", "configmap"), ("secret", "secret")):
        if source := volume.get(name):
            return _checked(_from_object(kind, source, objects, _mode(source)))
    if source := volume.get("downwardAPI"):
        return _checked(_downward(pod, source, place, _mode(source)))
    if source := volume.get("projected"):
        return _checked(_projected(pod, source, objects, tokens, place))
    return None


def _mode(source: Json) -> int:
    mode = source.get("defaultMode")
    return int(mode) if mode is not None else DEFAULT_MODE


def _from_object(kind: str, source: Json, objects: Objects, mode: int) -> Payload:
    name = str(source.get("secretName") or source.get("name") or "")
    optional = bool(source.get("optional"))
    found = objects.get((kind, name))
    if found is None:
        if optional:
            return {}
        raise MountError(f'{kind} "{name}" not found')
    data = dict(object_data(kind, found))
    items = source.get("items")
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    payload: Payload = {}
    for item in items:
        key = item.get("key", "")
        if key in data:
            payload[str(item.get("path", ""))] = File(data[key], _item_mode(item, mode))
        elif not optional:
            raise MountError(f"{kind} {name} references non-existent key: {key}")
    return payload


def _item_mode(item: Json, default: int) -> int:
    mode = item.get("mode")
    return int(mode) if mode is not None else default


def _downward(pod: Json, source: Json, place: Place, mode: int) -> Payload:
    payload: Payload = {}
    for item in source.get("items") or ():
        path = str(item.get("path", ""))
        try:
            if ref := item.get("fieldRef"):
                text = field_value(pod, ref.get("fieldPath", ""), place)
            else:
                text = resource_value(pod, item.get("resourceFieldRef") or {}, None, place)
        except ValueError as error:
            raise MountError(f"{path}: {error}") from None
        payload[path] = File(text.encode("utf-8", "surrogateescape"), _item_mode(item, mode))
    return payload


def _projected(pod: Json, volume: Json, objects: Objects, tokens: Tokens, place: Place) -> Payload:
    mode = _mode(volume)
    payload: Payload = {}
    for source in volume.get("sources") or ():
        readers: dict[str, Callable[[Json], Payload]] = {
            "configMap": lambda each: _from_object("configmap", each, objects, mode),
            "secret": lambda each: _from_object("secret", each, objects, mode),
            "downwardAPI": lambda each: _downward(pod, each, place, mode),
            "serviceAccountToken": lambda each: {
                str(each.get("path", "token")): _token_file(pod, tokens[_token(each)], mode)
            },
        }
        for kind, body in source.items():
            if kind not in readers:
                raise MountError(f"projected source {kind} is not supported by this edge")
            payload.update(readers[kind](body or {}))
    return payload


def _token_file(pod: Json, token: str, mode: int) -> File:
    """Let just the containers' user read a token, if they all have the same one.

    Source: ``k8s.io/kubernetes/pkg/volume/projected/projected.go``.
    """
    for_all = (podspec.spec(pod).get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", for_all)
        for container, _ in podspec.all_containers(pod)
    }
    user = users.pop() if len(users) == 1 else None
    if user is not None:
        return File(token.encode(), 0o600, int(user))
    return File(token.encode(), mode)


def _checked(payload: Payload) -> Payload:
    for path in payload:
        parts = path.split("/")
        if not path or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
            raise MountError(f"the path {path!r} leads out of the volume")
    return payload
