"""A WebSocket between cloud and edge, seen as a stream of messages.

Autobahn stays in this file. Its protocol classes are subclassed for forwarding only, and
past its debug lines: formatting them took a third of the CPU of a message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from autobahn.exception import Disconnected
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket import USES_NVX
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from zope.interface import implementer

from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.errors import HandshakeFailed, WireError
from kubeedge_tx.observe.doors import TOO_LARGE, Door, Visit, tls_words
from kubeedge_tx.observe.rarely import Rarely, and_more
from kubeedge_tx.viaduct import codec
from kubeedge_tx.viaduct.liveness import PING_INTERVAL, SILENCE_LIMIT, Liveness, Verdict
from kubeedge_tx.viaduct.traffic import Traffic

if TYPE_CHECKING:
    from kubeedge_tx.viaduct.interfaces import IChannelUser

WINDOW_HEADER: Final = "KubeEdge-Tx-Window"
"""Handshake header of our own edge: how many acknowledged messages it takes in flight.

Our own cloud answers with the same header; no other peer sends it.
"""

DIGEST_HEADER: Final = "KubeEdge-Tx-Digest"
"""Handshake header of both our ends: "I know what ``digest`` messages are"."""

_OURS: Final = WINDOW_HEADER.lower()
_DIGEST: Final = DIGEST_HEADER.lower()

RESERVED: Final = frozenset({"ping", "pong", "config"})
"""Operations that the transport answers itself. Source: KubeEdge ``pkg/viaduct``."""

PROOF: Final = b"there?"
"""Payload of a WebSocket ping whose pong is waited for; those of the keepalive are empty."""

MAX_HEAD_BYTES: Final = 16 * 1024
"""The longest request for an upgrade; what goes on without an end is cut."""

MAX_FRAGMENTS: Final = 16 * 1024
"""Frames of one message: Go sends 4 KiB in each, so 32 MiB have half as many. Fragments of a
byte or two take twenty times their size in memory."""

NORMAL: Final = 1000
FAILED: Final = 4500
"""WebSocket close code: our own handling of a message broke."""


def is_accelerated() -> bool:
    """Whether Autobahn checks and unmasks with its C code: without, 1 KB costs five times."""
    return bool(USES_NVX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """Limits of a channel; the defaults suit both ends."""

    max_message_bytes: int = codec.MAX_FRAME_BYTES
    open_handshake_timeout: float = 30.0
    """Seconds for the HTTP upgrade. Source: KubeEdge ``handshakeTimeout``."""
    ping_interval: float = PING_INTERVAL
    silence_limit: float = SILENCE_LIMIT
    write_deadline: float = 15.0
    """Seconds a peer may leave us unable to write. Source: KubeEdge ``writeDeadline``."""
    tick: float = 1.0
    """Seconds between two looks at the deadlines of all channels of a factory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a client asked for when it opened a WebSocket."""

    peer: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    transport: Any
    """For the peer's certificate: ``transport.getPeerCertificate()`` when it is TLS."""


class HandshakeRefused(Exception):
    """Raised by an ``admit`` callable: answer with this status and text.

    :param status: HTTP status, 400 to 599.
    :param reason: a few words that the client may read.
    :param retry_after: seconds after which the client shall come again; 0 to say nothing.
    """

    def __init__(self, status: int, reason: str, retry_after: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


@implementer(IPushProducer)
class Channel:
    """One open WebSocket.

    :ivar is_writable: whether :meth:`send` reaches the socket soon; ``False`` as soon as
        the channel is closing. Sending all the same buffers without limit.
    :ivar is_open: whether :meth:`send` sends at all.
    :ivar is_ours: whether the peer is of our own kind, and not KubeEdge's.
    :ivar takes_digest: whether the peer knows ``digest`` messages.
    :ivar date: what time it was at the server when this was opened, as it said; may be empty.
    """

    __slots__ = (
        "_context",
        "_liveness",
        "_proofs",
        "_unready",
        "_unwritable_since",
        "_user",
        "_websocket",
        "date",
        "is_open",
        "is_ours",
        "is_writable",
        "peer",
        "takes_digest",
        "why",
    )
    _log = Logger()

    def __init__(self, websocket: Any, user: IChannelUser, context: _Context) -> None:
        self._websocket = websocket
        self._user = user
        self._context = context
        self._unready = 0
        self._unwritable_since = 0.0
        self.is_open = self.is_writable = True
        self.is_ours: bool = websocket.is_ours
        self.takes_digest: bool = websocket.takes_digest
        self.date: str = websocket.date
        self.peer: str = websocket.peer
        self.why = ""
        self._proofs: list[Deferred[bool]] = []
        settings = context.settings
        self._liveness = Liveness(
            ping_interval=settings.ping_interval,
            silence_limit=settings.silence_limit,
            now=context.clock.seconds(),
        )

    def send(self, message: Message) -> None:
        """Write now; nothing happens when the channel is no longer open."""
        if not self.is_open:
            return
        frame = codec.encode(message)
        try:
            self._websocket.send_text(frame)
        except Disconnected:  # the peer has begun to close; ``closed`` follows
            self.is_open = self.is_writable = False
            return
        self._context.traffic.count_sent(message.route, len(frame))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Start the closing handshake; the user's ``closed`` follows.

        :param code: 1000, or 3000 to 4999.
        """
        if self.is_open:
            self.is_open = self.is_writable = False
            self.why = reason
            if self._unready:
                # While reads are paused the peer's answer to our close cannot be read.
                self._unready = 0
                self._websocket.transport.resumeProducing()
            self._websocket.sendClose(code, reason)

    def abort(self, reason: str) -> None:
        """Drop the connection at once; the user's ``closed`` follows with this reason."""
        self.is_open = self.is_writable = False
        self.why = self.why or reason
        self._websocket.wasClean = True  # else Autobahn warns about what we decided
        self._websocket.dropConnection(abort=True)

    def tick(self, now: float) -> None:
        """Look at the deadlines. The factory calls this; nobody else needs to."""
        if not self.is_open:
            return
        if not self.is_writable:
            waited = now - self._unwritable_since
            if waited >= self._context.settings.write_deadline:
                self._context.traffic.stuck_links += 1
                self.abort(f"the peer read nothing for {waited:.0f} s")
                return
        verdict = self._liveness.check(now)
        if verdict is Verdict.DEAD:
            self._context.traffic.dead_links += 1
            self.abort(f"nothing heard for {self._context.settings.silence_limit:g} s")
        elif verdict is Verdict.PING and self.is_writable:
            self._websocket.sendPing(b"")

    def prove(self) -> Deferred[bool]:
        """Ask the peer whether it is there: true once it has answered, false if it is gone.

        A peer that says nothing is gone once the deadline for silence has passed, unless we
        have stopped reading, so a caller has a deadline of its own. May be cancelled.
        """
        if self.is_open:
            try:
                self._websocket.sendPing(PROOF)
            except Disconnected:  # the peer has begun to close; ``closed`` follows
                self.is_open = self.is_writable = False
        proof: Deferred[bool] = Deferred()
        if self.is_open:
            self._proofs.append(proof)
        else:
            proof.callback(False)
        return proof

    def proved(self) -> None:
        """Note the answer to a question whether the peer is there; they come in order."""
        if self._proofs:
            self._proofs.pop(0).callback(True)

    def heard(self) -> None:
        """Note that bytes came from the peer."""
        self._liveness.heard(self._context.clock.seconds())

    def frame_received(self, frame: bytes) -> None:
        """Take one WebSocket message."""
        if not self.is_open:
            return  # we are closing; what comes now was sent before the peer knew
        traffic = self._context.traffic
        try:
            message = codec.decode(frame)
        except WireError as error:
            traffic.bad_frames += 1
            self._context.bad_frame(self.peer, str(error))
            self.close(error.close_code, str(error))
            return
        traffic.count_received(message.route, len(frame))
        if message.route.operation in RESERVED:
            if self.is_writable:  # who asks and does not read gets no more to read
                self.send(self._context.messages.reply(message, "ack"))
            return
        try:
            ready = self._user.received(message)
        except Exception:  # noqa: BLE001 - a bad message must not reach Autobahn as an error
            self._failed(Failure(), message)
            return
        if not ready.called:
            self._unready += 1
            if self._unready == 1:
                self._liveness.pause()
                self._websocket.transport.pauseProducing()
            ready.addErrback(self._failed, message)
            ready.addCallback(self._one_ready)

    @property
    def is_paused(self) -> bool:
        """Whether we have stopped reading because the user is busy."""
        return self._unready > 0

    def _failed(self, failure: Failure, message: Message) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure(
            "{operation} {resource} ({msg_id}) from {peer} could not be taken",
            failure,
            operation=message.route.operation,
            resource=message.route.resource,
            msg_id=message.header.msg_id,
            peer=self.peer,
        )
        self.close(FAILED, "internal error")

    def _one_ready(self, _: None) -> None:
        if not self._unready:
            return  # closed meanwhile
        self._unready -= 1
        if not self._unready:  # one read can bring many frames; wait for all of them
            self._liveness.resume(self._context.clock.seconds())
            if self.is_open:
                self._websocket.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """Told by the transport: its buffer is full."""
        if self.is_writable:
            self.is_writable = False
            self._unwritable_since = self._context.clock.seconds()

    def resumeProducing(self) -> None:
        """Told by the transport: its buffer has drained."""
        if self.is_open and not self.is_writable:
            self.is_writable = True
            self._user.writable()

    def stopProducing(self) -> None:
        """Told by the transport: it will never drain."""
        self.is_writable = False

    def websocket_closed(self, reason: str) -> None:
        """Tell the user that it is over."""
        self.is_open = self.is_writable = False
        proofs, self._proofs = self._proofs, []
        for proof in proofs:
            proof.callback(False)
        self._user.closed(self.why or reason)


@dataclass(slots=True)
class _Context:
    """What all channels of one factory share."""

    clock: IReactorTime
    messages: MessageFactory
    settings: ChannelSettings
    traffic: Traffic
    door: Door | None = None
    open: set[Channel] = field(default_factory=set)
    loop: LoopingCall | None = None
    rarely: Rarely = field(default_factory=Rarely)

    def bad_frame(self, peer: str, why: str) -> None:
        """Log what a peer sent, once in a while."""
        silent = self.rarely.due(peer.rpartition(":")[0], self.clock.seconds())
        if silent is not None:
            Channel._log.warn(
                "bad frame from {peer}: {why}{more}", peer=peer, why=why, more=and_more(silent)
            )

    def opened(self, channel: Channel) -> None:
        """Start looking at a channel's deadlines: one timer, however many there are."""
        self.open.add(channel)
        if self.loop is None:
            self.loop = LoopingCall(self.tick)
            self.loop.clock = self.clock
            self.loop.start(self.settings.tick, now=False)

    def closed(self, channel: Channel) -> None:
        """Stop looking at it."""
        self.open.discard(channel)
        if not self.open and self.loop is not None:
            self.loop.stop()
            self.loop = None

    def tick(self) -> None:
        """Look at all of them."""
        now = self.clock.seconds()
        for channel in tuple(self.open):
            channel.tick(now)


class _Forwarding:
    """What both ends override of Autobahn, mixed in before its classes."""

    context: _Context
    user: IChannelUser | None = None
    channel: Channel | None = None
    is_ours = False
    takes_digest = False
    date = ""

    def dataReceived(self, data: bytes) -> None:
        if self.channel is not None:
            self.channel.heard()
        self._dataReceived(data)  # type: ignore[attr-defined]

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def onOpen(self) -> None:
        assert self.user is not None
        self.channel = channel = Channel(self, self.user, self.context)
        self.context.opened(channel)
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
            self.context.closed(channel)
            channel.websocket_closed(text)
        elif user is not None:
            user.closed(text)


class _ServerProtocol(_Forwarding, WebSocketServerProtocol):  # type: ignore[misc]
    """CloudHub's end."""

    admit: Callable[[Handshake], IChannelUser]
    visit: Visit | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        door = self.context.door
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

    retry_after = 0

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
            Channel._log.failure("the handshake of {peer} broke", peer=self.peer)
            raise ConnectionDeny(500, "internal error") from None
        self.is_ours = _OURS in headers
        self.takes_digest = _DIGEST in headers
        ours = {WINDOW_HEADER: _OURS, DIGEST_HEADER: _DIGEST}
        answer = {name: headers[key] for name, key in ours.items() if key in headers}
        if self.is_ours:
            date = datetimeToString(self.context.messages.seconds())
            answer["Date"] = date.decode("ascii")  # by which an edge sees that its clock is wrong
        return (None, answer) if answer else None

    def send_text(self, frame: bytes) -> None:
        size = len(frame)
        if size < 126:
            head = bytes((0x81, size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x81, 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 127, size)
        self.transport.write(head + frame)


class _ClientProtocol(_Forwarding, WebSocketClientProtocol):  # type: ignore[misc]
    """EdgeHub's end."""

    settled: Deferred[None]
    """Fires when the WebSocket is open, or will never be."""
    retry_after: int | None = None

    def failHandshake(self, reason: str) -> None:
        wish = (getattr(self, "http_headers", None) or {}).get("retry-after", "").strip()
        if wish.isascii() and wish.isdigit() and len(wish) <= 6:  # else it is a date
            self.retry_after = int(wish)
        super().failHandshake(reason)

    def onConnect(self, response: Any) -> None:
        self.is_ours = _OURS in response.headers
        self.takes_digest = _DIGEST in response.headers
        self.date = response.headers.get("date", "")

    def onOpen(self) -> None:
        super().onOpen()
        self.settled.callback(None)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        super().onClose(wasClean, code, reason)
        if not self.settled.called:
            self.settled.callback(None)

    def send_text(self, frame: bytes) -> None:
        self.sendMessage(frame, isBinary=False)


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
        self._context = _Context(reactor, messages, settings, traffic or Traffic(), door)
        self.setProtocolOptions(
            webStatus=False,
            versions=[13],
            maxMessagePayloadSize=settings.max_message_bytes,
            maxFramePayloadSize=settings.max_message_bytes,
            failByDrop=False,
            openHandshakeTimeout=settings.open_handshake_timeout,
            closeHandshakeTimeout=2,
            autoPingInterval=0,
            tcpNoDelay=True,
        )

    def buildProtocol(self, addr: Any) -> _ServerProtocol:
        """Make the protocol of one connection."""
        protocol = _ServerProtocol()
        protocol.factory = self
        protocol.context = self._context
        protocol.admit = self._admit
        return protocol


class _ClientFactory(WebSocketClientFactory):  # type: ignore[misc]
    noisy = False

    def __init__(
        self,
        reactor: Any,
        url: str,
        headers: Mapping[str, str],
        context: _Context,
        user: IChannelUser,
    ) -> None:
        super().__init__(url=url, headers=dict(headers), reactor=reactor, useragent="KubeEdge-TX")
        self._context = context
        self._user = user
        self.setProtocolOptions(
            version=18,
            maxMessagePayloadSize=context.settings.max_message_bytes,
            maxFramePayloadSize=context.settings.max_message_bytes,
            failByDrop=False,
            openHandshakeTimeout=context.settings.open_handshake_timeout,
            closeHandshakeTimeout=2,
            autoPingInterval=0,
            tcpNoDelay=True,
        )

    def buildProtocol(self, addr: Any) -> _ClientProtocol:
        protocol = _ClientProtocol()
        protocol.factory = self
        protocol.context = self._context
        protocol.user = self._user
        protocol.settled = Deferred()
        return protocol


async def connect(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    url: str,
    *,
    headers: Mapping[str, str],
    user: IChannelUser,
    messages: MessageFactory,
    settings: ChannelSettings | None = None,
    traffic: Traffic | None = None,
) -> Channel:
    """Open a WebSocket; returns once ``user.opened`` was called. May be cancelled.

    :param endpoint: TLS included: ``wrapClientTLS(options, HostnameEndpoint(…))``.
    :param url: ``wss://host:port/<project>/<node>/events``: sets Host and path only.
    :param headers: sent as they are: ``node_id``, ``ConnectionUse`` and so on.
    :raises HandshakeFailed: TLS or the upgrade was refused, or took too long; the text
        says why. ``user.closed`` was called before.
    :raises Exception: the endpoint's, when there is no TCP connection; the user heard
        nothing.
    """
    context = _Context(reactor, messages, settings or ChannelSettings(), traffic or Traffic())
    factory = _ClientFactory(reactor, url, headers, context, user)
    protocol: Any = await endpoint.connect(factory)
    if not protocol.settled.called:
        protocol.settled = Deferred(lambda _: protocol.dropConnection(abort=True))
        await protocol.settled
    channel: Channel | None = protocol.channel
    if channel is None:
        raise HandshakeFailed(protocol.wasNotCleanReason or "closed", protocol.retry_after)
    return channel
