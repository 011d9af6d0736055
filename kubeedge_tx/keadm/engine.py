"""The few questions that keadm has for a Docker engine, over its socket; blocking."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from kubeedge_tx.keadm.places import KeadmError
from kubeedge_tx.runtime.docker_specs import OWNER


class EngineError(KeadmError):
    """The engine does not answer, or refuses."""


class Engine:
    """A Docker engine.

    :param address: ``unix:///var/run/docker.sock`` or ``tcp://host:port``.
    """

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        self._address = address
        self._timeout = timeout

    def version(self) -> str:
        """What it is.

        :raises EngineError: it does not answer.
        """
        return str(self.ask("GET", "/version").get("Version", "?"))

    def info(self) -> Any:
        """All it says about itself.

        :raises EngineError: it does not answer.
        """
        return self.ask("GET", "/info")

    def owned(self, node: str) -> list[Any]:
        """The containers of one edge node, ended ones too.

        :raises EngineError: it does not answer.
        """
        filters = quote(json.dumps({"label": [f"{OWNER}={node}"]}))
        found: list[Any] = self.ask("GET", f"/containers/json?all=1&filters={filters}")
        return found

    def remove(self, container: str) -> None:
        """End and remove a container; it may be gone already.

        :raises EngineError: it refuses.
        """
        self.ask("DELETE", f"/containers/{container}?force=1&v=1", missing_is_fine=True)

    def remove_image(self, image: str) -> None:
        """Remove an image that nothing uses any more.

        :raises EngineError: it refuses.
        """
        self.ask("DELETE", f"/images/{quote(image, safe=':')}", missing_is_fine=True)

    def stop(self, container: str, seconds: int) -> None:
        """Stop a container.

        :raises EngineError: it refuses.
        """
        self.ask("POST", f"/containers/{container}/stop?t={seconds}")

    def ask(
        self, method: str, path: str, sent: Any = None, *, missing_is_fine: bool = False
    ) -> Any:
        """Make one call; returns the decoded answer, if there is one.

        :param sent: an object for its body.
        :raises EngineError: no answer, or a status above 399.
        """
        status, body = self.raw(method, path, sent)
        if status == 404 and missing_is_fine:
            return None
        decoded = self._decoded(body)
        if status >= 400:
            raise _refusal(method, path, status, decoded)
        return decoded

    def log(self, container: str, tail: int | None) -> bytes:
        """What a container has written, framed unless it has a terminal.

        :param tail: only so many of the last lines.
        :raises EngineError: no answer, or it refuses: it may keep no log that can be read.
        """
        lines = "all" if tail is None else tail
        path = f"/containers/{quote(container)}/logs?stdout=1&stderr=1&tail={lines}"
        status, body = self.raw("GET", path)
        if status >= 400:
            raise _refusal("GET", path, status, self._decoded(body))
        return body

    def upgrade(self, path: str, sent: Any) -> tuple[socket.socket, bytes]:
        """Make a call that turns its connection into a stream; returns it, and its first bytes.

        :raises EngineError: no answer, or it is no stream.
        """
        connection = _Connection(self._address, self._timeout)
        try:
            connection.request(
                "POST",
                path,
                json.dumps(sent),
                {"Content-Type": "application/json", "Connection": "Upgrade", "Upgrade": "tcp"},
            )
            stream = connection.sock
            assert isinstance(stream, socket.socket)
            head = b""
            while b"\r\n\r\n" not in head:
                part = stream.recv(4096)
                if not part:
                    break
                head += part
        except OSError as error:
            connection.close()
            raise EngineError(error.strerror or str(error)) from None
        head, _, first = head.partition(b"\r\n\r\n")
        if not head.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 200 ")):
            connection.close()
            said = first.decode(errors="replace").strip() or head.decode(errors="replace")
            raise EngineError(f"POST {path}: {said}")
        stream.settimeout(None)
        return stream, first

    def raw(self, method: str, path: str, sent: Any = None) -> tuple[int, bytes]:
        """Make one call; returns status and body.

        :raises EngineError: no answer.
        """
        connection = _Connection(self._address, self._timeout)
        try:
            if sent is None:
                connection.request(method, path)
            else:
                kind = {"Content-Type": "application/json"}
                connection.request(method, path, json.dumps(sent), kind)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except HTTPException:
            raise EngineError(f"what answers at {self._address} is no Docker engine") from None
        except OSError as error:
            raise EngineError(error.strerror or str(error)) from None
        finally:
            connection.close()

    def _decoded(self, body: bytes) -> Any:
        try:
            return json.loads(body) if body else None
        except ValueError:
            raise EngineError(f"what answers at {self._address} is no Docker engine") from None


def _refusal(method: str, path: str, status: int, decoded: Any) -> EngineError:
    said = decoded.get("message") if isinstance(decoded, dict) else ""
    return EngineError(f"{method} {path.partition('?')[0]}: {said or status}")


class _Connection(HTTPConnection):
    def __init__(self, address: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._address = urlsplit(address)
        self._seconds = timeout

    def connect(self) -> None:
        where = self._address
        if where.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self._seconds)
            self.sock.connect(where.path)
        else:
            target = (where.hostname or "localhost", where.port or 2375)
            self.sock = socket.create_connection(target, self._seconds)
