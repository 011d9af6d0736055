"""Paths that name no resource: discovery, OpenAPI, version, health."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from twisted.web.http import Request

from kubeedge_tx.apiserver import discovery, openapi, status
from kubeedge_tx.apiserver.answers import Answer, answer, encode
from kubeedge_tx.apiserver.auth import User
from kubeedge_tx.apiserver.negotiation import media_types
from kubeedge_tx.apiserver.registry import Registry

_HEALTH: Final = ("healthz", "livez", "readyz")
_TEXT: Final = "text/plain; charset=utf-8"
OPENAPI_V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What kubectl up to 1.26 asks for."""
_V2_PROTOBUF_SENT: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""What it is sent as: an ``@`` is no part of a media type. Source: kube-openapi ``handler.go``."""
OPENAPI_V3_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"


class Paths:
    """Answers them.

    :param version: the body of ``/version``.
    :param address: where clients find the server, ``host:port``.
    :param is_ready: what ``/readyz`` asks.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        version: dict[str, Any],
        address: Callable[[], str],
        is_ready: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._discovery = discovery.Discovery(registry)
        self._version = version
        self._address = address
        self._is_ready = is_ready
        self._revision = -1
        self._documents: dict[str, tuple[bytes, str]] = {}

    def public(self, method: str, path: str) -> Answer | None:
        """What anybody may ask, without a token; ``None`` for everything else."""
        if method not in ("GET", "HEAD"):
            return None
        first = path.strip("/").split("/")[0]
        if first in _HEALTH:
            if first == "readyz" and not self._is_ready():
                return Answer(503, b"not ready", _TEXT)
            return Answer(200, b"ok", _TEXT)
        if path.rstrip("/") == "/version":
            return answer(200, self._version)
        return None

    def answer(self, method: str, path: str, user: User, request: Request) -> Answer:
        """What an authenticated user may ask.

        :raises ApiError: 404 or 405.
        """
        if method not in ("GET", "HEAD"):
            if path.startswith(("/api", "/apis")):
                raise status.no_such_resource()
            raise status.method_not_allowed()
        accept = request.getHeader("accept") or ""
        parts = [part for part in path.split("/") if part]
        if not parts:
            return answer(200, {"paths": self._all_paths()})
        found: Any = None
        if parts[0] in ("api", "apis"):
            if len(parts) == 1:
                return self._groups(parts[0] == "api", accept)
            if parts[0] == "api" and len(parts) == 2:
                found = self._discovery.resources("", parts[1])
            elif parts[0] == "apis" and len(parts) == 2:
                found = self._discovery.group(parts[1])
            elif parts[0] == "apis" and len(parts) == 3:
                found = self._discovery.resources(parts[1], parts[2])
        elif parts[:2] == ["openapi", "v2"] and len(parts) == 2:
            return self._openapi_v2(accept, request)
        elif parts[:2] == ["openapi", "v3"]:
            return self._openapi_v3("/".join(parts[2:]), accept, request)
        if found is not None:
            return answer(200, found)
        if not user.is_admin and parts[0] not in ("api", "apis"):
            raise status.forbidden_path(user.name, "get", path)
        raise status.no_such_resource()

    def _groups(self, core: bool, accept: str) -> Answer:
        wanted = discovery.aggregated_version(accept)
        if wanted:
            made = answer(200, self._discovery.aggregated(core, wanted))
            made.content_type = (
                f"application/json;g=apidiscovery.k8s.io;v={wanted};as=APIGroupDiscoveryList"
            )
            return made
        return answer(
            200, self._discovery.api(self._address()) if core else self._discovery.groups()
        )

    def _openapi_v2(self, accept: str, request: Request) -> Answer:
        types = [media for media, _ in media_types(accept)]
        protobuf = types[:1] in ([OPENAPI_V2_PROTOBUF], [_V2_PROTOBUF_SENT])

        def make() -> bytes:
            document = openapi.v2_document(list(self._registry))
            return openapi.v2_protobuf(document) if protobuf else encode(document)

        body, etag = self._document(f"v2 {protobuf}", make)
        content_type = _V2_PROTOBUF_SENT if protobuf else "application/json"
        return _tagged(body, etag, content_type, request)

    def _openapi_v3(self, path: str, accept: str, request: Request) -> Answer:
        if media_types_only(accept) == [OPENAPI_V3_PROTOBUF]:
            raise status.not_acceptable(("application/json",))
        if not path:
            return answer(200, openapi.v3_index(list(self._registry)))

        def make() -> bytes:
            document = openapi.v3_document(path, list(self._registry))
            if document is None:
                raise status.no_such_resource()
            return encode(document)

        body, etag = self._document(f"v3 {path}", make)
        return _tagged(body, etag, "application/json", request)

    def _document(self, name: str, make: Callable[[], bytes]) -> tuple[bytes, str]:
        if self._revision != self._registry.revision:
            self._revision = self._registry.revision
            self._documents = {}
        if name not in self._documents:
            body = make()
            self._documents[name] = body, f'"{hashlib.sha256(body).hexdigest().upper()}"'
        return self._documents[name]

    def _all_paths(self) -> list[str]:
        versions = {(k.group, k.version) for k in self._registry}
        paths = {f"/apis/{g}/{v}" for g, v in versions if g} | {
            f"/apis/{g}" for g, _ in versions if g
        }
        fixed = ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        return ["/api", "/api/v1", "/apis", *sorted(paths), *fixed]


def media_types_only(accept: str) -> list[str]:
    """The media types of an Accept header, without parameters."""
    return [media for media, _ in media_types(accept) if media]


def _tagged(body: bytes, etag: str, content_type: str, request: Request) -> Answer:
    headers = [(b"etag", etag.encode()), (b"vary", b"Accept")]
    if request.getHeader("if-none-match") == etag:
        return Answer(304, b"", content_type, headers)
    return Answer(200, body, content_type, headers)
