"""A WebSocket between cloud and edge, seen as a stream of messages.

How one is opened stands in :mod:`~kubeedge_tx.viaduct.client` and
:mod:`~kubeedge_tx.viaduct.server`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from autobahn.exception import Disconnected
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.errors import WireError
from kubeedge_tx.observe.doors import Door
from kubeedge_tx.observe.rarely import Rarely, and_more
from kubeedge_tx.viaduct import codec
from kubeedge_tx.viaduct.liveness import PING_INTERVAL, SILENCE_LIMIT, Liveness, Verdict
from kubeedge_tx.viaduct.traffic import Traffic

if TYPE_CHECKING:
    from kubeedge_tx.viaduct.interfaces import IChannelUser

RESERVED: Final = frozenset({"ping", "pong", "config"})
"""Operations that the transport answers itself. Source: KubeEdge ``pkg/viaduct``."""

PROOF: Final = b"there?"
"""Payload of a WebSocket ping whose pong is waited for; those of the keepalive are empty."""

NORMAL: Final = 1000
FAILED: Final = 4500
"""WebSocket close code: our own handling of a message broke."""


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
        "_liveness",
        "_proofs",
        "_shared",
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

    def __init__(self, websocket: Any, user: IChannelUser, shared: Shared) -> None:
        self._websocket = websocket
        self._user = user
        self._shared = shared
        self._unready = 0
        self._unwritable_since = 0.0
        self.is_open = self.is_writable = True
        self.is_ours: bool = websocket.is_ours
        self.takes_digest: bool = websocket.takes_digest
        self.date: str = websocket.date
        self.peer: str = websocket.peer
        self.why = ""
        self._proofs: list[Deferred[bool]] = []
        settings = shared.settings
        self._liveness = Liveness(
            ping_interval=settings.ping_interval,
            silence_limit=settings.silence_limit,
            now=shared.clock.seconds(),
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
        self._shared.traffic.count_sent(message.route, len(frame))

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
            if waited >= self._shared.settings.write_deadline:
                self._shared.traffic.stuck_links += 1
                self.abort(f"the peer read nothing for {waited:.0f} s")
                return
        verdict = self._liveness.check(now)
        if verdict is Verdict.DEAD:
            self._shared.traffic.dead_links += 1
            self.abort(f"nothing heard for {self._shared.settings.silence_limit:g} s")
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
        self._liveness.heard(self._shared.clock.seconds())

    def frame_received(self, frame: bytes) -> None:
        """Take one WebSocket message."""
        if not self.is_open:
            return  # we are closing; what comes now was sent before the peer knew
        traffic = self._shared.traffic
        try:
            message = codec.decode(frame)
        except WireError as error:
            traffic.bad_frames += 1
            self._shared.bad_frame(self.peer, str(error))
            self.close(error.close_code, str(error))
            return
        traffic.count_received(message.route, len(frame))
        if message.route.operation in RESERVED:
            if self.is_writable:  # who asks and does not read gets no more to read
                self.send(self._shared.messages.reply(message, "ack"))
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
            self._liveness.resume(self._shared.clock.seconds())
            if self.is_open:
                self._websocket.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """Told by the transport: its buffer is full."""
        if self.is_writable:
            self.is_writable = False
            self._unwritable_since = self._shared.clock.seconds()

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
class Shared:
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
