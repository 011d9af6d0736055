"""The end of a channel that listens: CloudHub's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from autobahn.exception import Disconnected
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.observe.doors import TOO_LARGE, Door, Visit, tls_words
from kubeedge_tx.viaduct.channel import ChannelSettings, Shared
from kubeedge_tx.viaduct.handshake import (
    DIGEST,
    DIGEST_HEADER,
    OURS,
    WINDOW_HEADER,
    Handshake,
    HandshakeRefused,
)
from kubeedge_tx.viaduct.traffic import Traffic
from kubeedge_tx.viaduct.websocket import Forwarding, options

if TYPE_CHECKING:
    from kubeedge_tx.viaduct.interfaces import IChannelUser

MAX_HEAD_BYTES: Final = 16 * 1024
"""The longest request for an upgrade; what goes on without an end is cut."""


class _ServerProtocol(Forwarding, WebSocketServerProtocol):  # type: ignore[misc]
    """CloudHub's end."""

    admit: Callable[[Handshake], IChannelUser]
    visit: Visit | None = None
    retry_after = 0
    _log = Logger()

    def connectionMade(self) -> None:
        super().connectionMade()
        door = self.shared.door
        if door is not None:
            self.visit = door.arrived(self.transport.getPeer().host, self._turn_out)

    def dataReceived(self, data: bytes) -> None:
        if (
            self.state == self.STATE_CONNECTING
            and len(self.data or b"") + len(data) > MAX_HEAD_BYTES
        ):
            if self.visit is not None:
                self.visit.turned_out(TOO_LARGE, f"more than {MAX_HEAD_BYTES} bytes of headers")
            self._turn_out()
            return
        super().dataReceived(data)

    def onOpen(self) -> None:
        if self.visit is not None:
            self.visit.known()
        super().onOpen()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        visit, self.visit = self.visit, None
        if visit is not None:
            visit.left(getattr(self.transport, "refusal", "") or tls_words(reason))
        super().connectionLost(reason)

    def _turn_out(self) -> None:
        self.wasClean = True  # else Autobahn warns about what we decided
        self.dropConnection(abort=True)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        headers = [*(responseHeaders or ()), ("Connection", "close")]
        if self.retry_after:
            headers.append(("Retry-After", str(self.retry_after)))
        super().failHandshake(reason, code, headers)

    def onConnect(self, request: Any) -> tuple[None, dict[str, str]] | None:
        headers = request.headers
        origin = headers.get("origin")
        if (
            origin is not None
            and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        ):
            raise ConnectionDeny(403, "request origin not allowed")
        try:
            self.user = self.admit(
                Handshake(
                    peer=self.peer,
                    path=request.path,
                    headers=headers,
                    transport=self.transport,
                )
            )
        except HandshakeRefused as refusal:
            self.retry_after = refusal.retry_after
            raise ConnectionDeny(refusal.status, refusal.reason) from None
        except Exception:  # noqa: BLE001 - Autobahn would send the text to the client
            self._log.failure("the handshake of {peer} broke", peer=self.peer)
            raise ConnectionDeny(500, "internal error") from None
        self.read_headers(headers)
        ours = {WINDOW_HEADER: OURS, DIGEST_HEADER: DIGEST}
        answer = {name: headers[key] for name, key in ours.items() if key in headers}
        if self.is_ours:
            date = datetimeToString(self.shared.messages.seconds())
            answer["Date"] = date.decode("ascii")  # by which an edge sees that its clock is wrong
        return (None, answer) if answer else None

    def send_text(self, frame: bytes) -> None:
        if self.state != self.STATE_OPEN:
            raise Disconnected("closing")
        size = len(frame)
        if size < 126:
            head = bytes((0x81, size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x81, 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 127, size)
        self.transport.write(head + frame)


class ChannelServerFactory(WebSocketServerFactory):  # type: ignore[misc]
    """Accept WebSockets on any path; listen with it through an SSL endpoint.

    :param admit: called with each :class:`Handshake`; returns the channel's user, or
        raises :class:`HandshakeRefused`. Any other error is logged and answered with 500.
    :param traffic: counts frames and bytes of all channels.
    :param door: limits how many come, and how long they take to open a WebSocket.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        admit: Callable[[Handshake], IChannelUser],
        messages: MessageFactory,
        *,
        settings: ChannelSettings | None = None,
        traffic: Traffic | None = None,
        door: Door | None = None,
    ) -> None:
        super().__init__(reactor=reactor)
        settings = settings or ChannelSettings()
        self._admit = admit
        self._shared = Shared(reactor, messages, settings, traffic or Traffic(), door)
        self.setProtocolOptions(webStatus=False, versions=[13], **options(settings))

    def buildProtocol(self, addr: Any) -> _ServerProtocol:
        """Make the protocol of one connection."""
        protocol = _ServerProtocol()
        protocol.factory = self
        protocol.shared = self._shared
        protocol.admit = self._admit
        return protocol
