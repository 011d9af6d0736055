"""An image registry with one image, for pulls that need no internet.

An engine takes plain HTTP from registries on 127.0.0.0/8.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import Any

from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

_MANIFEST = b"application/vnd.docker.distribution.manifest.v2+json"


class _PlainOnly(ProtocolWrapper):
    """Ends a connection that begins with TLS, which engines try first and wait for."""

    def dataReceived(self, data: bytes) -> None:
        if data.startswith(b"\x16"):
            self.loseConnection()
        else:
            super().dataReceived(data)


class FakeRegistry(Resource):
    """Serves ``team/app:1``; the address is ``127.0.0.1:<port>``.

    :param archive: the image's file system, a tar archive.
    :param login: user name and password that are asked for, if any.
    """

    isLeaf = True

    def __init__(
        self, reactor: Any, archive: bytes, login: tuple[bytes, bytes] | None = None
    ) -> None:
        super().__init__()
        self._login = login
        layer = gzip.compress(archive, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(archive)]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST.decode(),
                "config": _part("application/vnd.docker.container.image.v1+json", config),
                "layers": [_part("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
            }
        ).encode()
        self._blobs = {_digest(blob): blob for blob in (layer, config, manifest)}
        self._manifest = manifest
        self.asked = 0
        """How often the manifest was asked for."""
        factory = WrappingFactory(Site(self))
        factory.protocol = _PlainOnly
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.image = f"127.0.0.1:{self.port.getHost().port}/team/app:1"
        self.by_digest = f"{self.image.removesuffix(':1')}@{_digest(manifest)}"

    def render_GET(self, request: Request) -> bytes:
        if self._login is not None and self._login != (request.getUser(), request.getPassword()):
            request.setResponseCode(401)
            request.setHeader(b"WWW-Authenticate", b'Basic realm="fake"')
            return b"{}"
        path = request.path.decode()
        if path == "/v2/":
            return b"{}"
        kind, _, name = path.removeprefix("/v2/team/app/").partition("/")
        if kind == "manifests" and name in ("1", _digest(self._manifest)):
            self.asked += 1
            request.setHeader(b"Content-Type", _MANIFEST)
            request.setHeader(b"Docker-Content-Digest", _digest(self._manifest).encode())
            return self._manifest
        if kind == "blobs" and name in self._blobs:
            return self._blobs[name]
        request.setResponseCode(404)
        error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
        return json.dumps({"errors": [error]}).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _part(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(data), "digest": _digest(data)}
