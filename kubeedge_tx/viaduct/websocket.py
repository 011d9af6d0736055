"""What both ends have in common of Autobahn's WebSocket.

Its protocol classes are subclassed for forwarding only, and past its debug lines: formatting
them took a third of the CPU of a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from autobahn.websocket import USES_NVX

from kubeedge_tx.viaduct import codec
from kubeedge_tx.viaduct.channel import PROOF, Channel, ChannelSettings, Shared
from kubeedge_tx.viaduct.handshake import DIGEST, OURS

if TYPE_CHECKING:
    from kubeedge_tx.viaduct.interfaces import IChannelUser

MAX_FRAGMENTS: Final = 16 * 1024
"""Frames of one message: Go sends 4 KiB in each, so 32 MiB have half as many. Fragments of a
byte or two take twenty times their size in memory."""


def is_accelerated() -> bool:
    """Whether Autobahn checks and unmasks with its C code: without, 1 KB costs five times."""
    return bool(USES_NVX)


def options(settings: ChannelSettings) -> dict[str, Any]:
    """What both ends tell Autobahn's ``setProtocolOptions``."""
    return {
        "maxMessagePayloadSize": settings.max_message_bytes,
        "maxFramePayloadSize": settings.max_message_bytes,
        "failByDrop": False,
        "openHandshakeTimeout": settings.open_handshake_timeout,
        "closeHandshakeTimeout": 2,
        "autoPingInterval": 0,
        "tcpNoDelay": True,
    }


class Forwarding:
    """What both ends override of Autobahn, mixed in before its classes."""

    shared: Shared
    user: IChannelUser | None = None
    channel: Channel | None = None
    is_ours = False
    takes_digest = False
    date = ""

    def read_headers(self, headers: Mapping[str, str]) -> None:
        """Learn from the handshake what the peer is.

        :param headers: names in lower case.
        """
        self.is_ours = OURS in headers
        self.takes_digest = DIGEST in headers

    def dataReceived(self, data: bytes) -> None:
        if self.channel is not None:
            self.channel.heard()
        self._dataReceived(data)  # type: ignore[attr-defined]

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def onOpen(self) -> None:
        assert self.user is not None
        self.channel = channel = Channel(self, self.user, self.shared)
        self.shared.opened(channel)
        self.transport.registerProducer(channel, True)  # type: ignore[attr-defined]
        self.user.opened(channel)

    def onMessageFrame(self, payload: list[bytes]) -> None:
        parts: list[bytes] = self.message_data  # type: ignore[assignment]
        if self.failedByMe:  # type: ignore[attr-defined]
            return
        if self.current_frame.fin and not parts:  # type: ignore[attr-defined]
            parts.extend(payload)
        elif fragment := b"".join(payload):
            # Empty fragments are legal (Go sends one at the end) and must not pile up.
            parts.append(fragment)
            if len(parts) > MAX_FRAGMENTS:
                parts.clear()
                self._fail_connection(  # type: ignore[attr-defined]
                    codec.TOO_BIG, f"a message in more than {MAX_FRAGMENTS} fragments"
                )

    def onPing(self, payload: bytes) -> None:
        if self.channel is not None and self.channel.is_writable:
            self.sendPong(payload)  # type: ignore[attr-defined]

    def onMessageEnd(self) -> None:
        parts, self.message_data = self.message_data, None  # type: ignore[has-type]
        if not self.failedByMe and self.channel is not None:  # type: ignore[attr-defined]
            self.channel.frame_received(parts[0] if len(parts) == 1 else b"".join(parts))

    def onPong(self, payload: bytes) -> None:
        if payload == PROOF and self.channel is not None:
            self.channel.proved()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        user, self.user = self.user, None
        channel, self.channel = self.channel, None
        text = f"{code or ''} {reason or ''}".strip() or "closed by the peer"
        if channel is not None:
            self.shared.closed(channel)
            channel.websocket_closed(text)
        elif user is not None:
            user.closed(text)
