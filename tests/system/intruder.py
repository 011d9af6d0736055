"""A WebSocket client that does as it likes, made of Python's own ssl and sockets."""

from __future__ import annotations

import itertools
import json
import os
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from kubeedge_tx.security.authority import KeyPair


class Intruder:
    """One connection to port 10000 of a cloud; its calls block, so they run in threads.

    :param pair: the client certificate, or none.
    :param source: the address of loopback that it comes from.
    :ivar status: of the handshake's answer; 0 while there was none.
    :ivar head: that answer, headers included.
    :ivar heard: everything the cloud has said in frames.
    """

    def __init__(
        self, folder: Path, port: int, pair: KeyPair | None, source: str = "127.0.0.1"
    ) -> None:
        self._port = port
        self._source = source
        self._numbers = itertools.count(1)
        self.head = b""
        self.heard = bytearray()
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        if pair is not None:
            file = folder / f"intruder-{os.urandom(4).hex()}.pem"
            file.write_bytes(pair.cert_pem + pair.key_pem)
            self._context.load_cert_chain(file)
        self._socket: Any = None
        self.status = 0

    def open(self, node: str, more: str = "") -> Deferred[int]:
        """Shake hands; fires with the status, or 0 if TLS or the cloud would not have us.

        :param more: header lines, each with its end.
        """
        return deferToThread(self._open, node, more)

    def ask(self, operation: str, resource: str, content: Any, **more: Any) -> Deferred[Any]:
        """Send a message and wait for its answer; fires with it, ``None`` if we are cut off."""
        return deferToThread(self._ask, operation, resource, content, more)

    def frame(self, payload: bytes, opcode: int = 1, first: int = 0x80) -> Deferred[None]:
        """Send one frame; ``first`` are the flags of its first byte."""
        return deferToThread(self._send, payload, opcode, first)

    def raw(self, data: bytes) -> Deferred[None]:
        """Send bytes as they are."""
        return deferToThread(self._raw, data)

    def send(self, payload: bytes) -> Deferred[None]:
        """Send one text frame."""
        return deferToThread(self._send, payload)

    def message(self, **route: Any) -> Deferred[None]:
        """Send one message: ``parent`` goes into the header, ``content`` is content."""
        header = {"msg_id": "intruder", "timestamp": 1, "parent_msg_id": route.pop("parent", "")}
        content = route.pop("content", None)
        return self.send(
            json.dumps({"header": header, "route": route, "content": content}).encode()
        )

    def closed(self) -> Deferred[int]:
        """Read until the cloud closes; fires with its code, 0 if it just hung up."""
        return deferToThread(self._closed)

    def alive(self) -> Deferred[bool]:
        """Whether a ping is answered by a pong before anything is closed."""
        return deferToThread(self._alive)

    def leave(self) -> Deferred[None]:
        """Hang up."""
        return deferToThread(self._socket.close)

    def _open(self, node: str, more: str = "") -> int:
        try:
            raw = socket.create_connection(
                ("127.0.0.1", self._port), timeout=30, source_address=(self._source, 0)
            )
            self._socket = self._context.wrap_socket(raw)
            self._socket.sendall(
                f"GET /e632aba927ea4ac2b575ec1603d56f10/{node}/events HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
                f"node_id: {node}\r\nConnectionUse: msg\r\n{more}\r\n".encode()
            )
            head = b""
            while b"\r\n\r\n" not in head:
                part = self._socket.recv(1)
                if not part:
                    return 0
                head += part
        except (ssl.SSLError, ConnectionError):
            return 0
        self.head = head
        self.status = int(head.split()[1])
        return self.status

    def _ask(self, operation: str, resource: str, content: Any, more: dict[str, Any]) -> Any:
        number = f"q{next(self._numbers)}"
        header = {"msg_id": number, "timestamp": 1, "parent_msg_id": more.pop("parent", "")}
        route = {"source": "edged", "group": "meta", "operation": operation, "resource": resource}
        message = {"header": header, "route": route | more, "content": content}
        self._send(json.dumps(message).encode())
        while (frame := self._frame()) is not None:
            if frame[0] == 8:
                return None
            if frame[0] == 1:
                answer = json.loads(frame[1])
                if answer["header"].get("parent_msg_id") == number:
                    return answer
        return None

    def _raw(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            return

    def _send(self, payload: bytes, opcode: int = 1, first: int = 0x80) -> None:
        size = len(payload)
        head = bytes((first | opcode,))
        if size < 126:
            head += bytes((0x80 | size,))
        elif size < 65536:
            head += struct.pack("!BH", 0x80 | 126, size)
        else:
            head += struct.pack("!BQ", 0x80 | 127, size)
        try:
            self._socket.sendall(head + bytes(4) + payload)  # masked with zeros
        except (ssl.SSLError, ConnectionError):
            return  # it was cut off in the middle, as it should

    def _frame(self) -> tuple[int, bytes] | None:
        try:
            head = self._exactly(2)
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
            payload = self._exactly(size)
            self.heard += payload
            return head[0] & 0x0F, payload
        except (EOFError, ssl.SSLError, ConnectionError):
            return None

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _closed(self) -> int:
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")
        return 0

    def _alive(self) -> bool:
        self._send(b"still here?", 9)
        while (frame := self._frame()) is not None:
            if frame == (10, b"still here?"):
                return True
            if frame[0] == 8:
                return False
        return False
