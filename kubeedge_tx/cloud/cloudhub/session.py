"""One connected node: its queue, its channel, its keepalive."""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.cloud.cloudhub.attention import Attention
from kubeedge_tx.cloud.cloudhub.queue import GO_MAX_SENDS, NodeMessageQueue
from kubeedge_tx.observe.throttle import TokenBucket
from kubeedge_tx.viaduct.channel import Channel
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.liveness import KeepaliveWindow

NO_KEEPALIVE: Final = 4408
"""WebSocket close code: the keepalive window passed."""

GO_BURST: Final = 64
"""Messages without acknowledgement sent to a Go edge at once: it keeps 100 and throws the
oldest away. Source: KubeEdge ``edge/pkg/edgehub``, viaduct's message FIFO."""

GO_RATE: Final = 640.0
"""Such messages a second after that; the edge's reader needs well under a millisecond each."""

GO_PAUSE: Final = 0.05
"""Shortest wait for more room towards a Go edge, seconds: a timer for 32, not for each."""

BATCH: Final = 16
"""Messages written before the transport is asked again whether it has room."""

_TAKEN: Final[Deferred[None]] = succeed(None)


class Limits(Protocol):
    """What a session takes over when it opens."""

    @property
    def keepalive_interval(self) -> int:
        """Seconds within which a keepalive message must come."""

    @property
    def message_rate(self) -> int:
        """Messages a second that a node may say on average."""

    @property
    def creation_rate(self) -> int:
        """Objects a second that it may make."""


class SessionOwner(Protocol):
    """What a session needs of CloudHub."""

    clock: Any

    @property
    def settings(self) -> Limits:
        """As they are now."""

    def session_opened(self, session: NodeSession) -> NodeMessageQueue | None:
        """Register it; its queue, or ``None`` if it may not stay."""

    def session_closed(self, session: NodeSession, reason: str) -> None:
        """Forget it."""

    def acknowledged(self, node: str, queue: NodeMessageQueue, message: Message) -> bool:
        """Take an edge's response; ``True`` if the window has moved."""

    def upstream(self, session: NodeSession, message: Message) -> Deferred[None] | None:
        """Take any other message; reading waits for the Deferred."""


@implementer(IChannelUser)
class NodeSession:
    """Deliver a node's queue over one channel, and pass on what the node says.

    :param node: the name that its certificate proved.
    :param window: acknowledged messages it takes in flight; 0 for a Go edge, which takes
        one at a time, gets each five times before the next has its turn, and must not be
        sent too much at once of what it does not acknowledge.
    """

    __slots__ = (
        "_attention",
        "_bucket",
        "_keepalive",
        "_owner",
        "_pace",
        "_queue",
        "channel",
        "node",
        "peer",
        "window",
    )
    _log = Logger()

    def __init__(self, node: str, peer: str, owner: SessionOwner, *, window: int) -> None:
        self.node = node
        self.peer = peer
        self.window = window
        self.channel: Channel | None = None
        self._owner = owner
        self._queue: NodeMessageQueue | None = None
        self._keepalive: KeepaliveWindow | None = None
        self._bucket: TokenBucket | None = None
        self._attention: Attention | None = None
        self._pace: IDelayedCall | None = None

    def opened(self, channel: Channel) -> None:
        owner = self._owner
        now = owner.clock.seconds()
        self.channel = channel
        settings = owner.settings
        self._keepalive = KeepaliveWindow(limit=float(settings.keepalive_interval), now=now)
        self._attention = Attention(
            owner.clock, owner.settings.message_rate, owner.settings.creation_rate
        )
        if not self.window:
            self._bucket = TokenBucket(rate=GO_RATE, burst=GO_BURST, now=now)
        self._queue = owner.session_opened(self)
        if self._queue is not None:
            self._queue.connected(
                self,
                now,
                width=self.window or 1,
                max_sends=0 if self.window else GO_MAX_SENDS,
            )
            self.pump()

    def received(self, message: Message) -> Deferred[None]:
        operation = message.route.operation
        if operation == names.RESPONSE and self._queue is not None:
            if self._owner.acknowledged(self.node, self._queue, message):
                self.pump()
                return _TAKEN
            return self._heard()
        if operation == names.KEEPALIVE:
            assert self._keepalive is not None
            self._keepalive.feed(self._owner.clock.seconds())
            return self._heard()
        taken = self._owner.upstream(self, message)
        heard = self._heard()
        return heard if taken is None or taken.called else taken

    def may_create(self) -> bool:
        """Count one more object that the node makes; false if that is too many."""
        return self._attention is not None and self._attention.may_create()

    def _heard(self) -> Deferred[None]:
        """Count what the node said beyond acknowledgements; it is read on when it may say more."""
        assert self._attention is not None
        return self._attention.heard()

    def writable(self) -> None:
        self.pump()

    def closed(self, reason: str) -> None:
        if self._pace is not None:
            self._pace.cancel()
            self._pace = None
        if self._attention is not None:
            self._attention.stop()
        if self._queue is not None:
            self._queue.disconnected(self)
        if self.channel is not None:
            self._owner.session_closed(self, reason)

    def close(self, code: int, reason: str) -> None:
        """End it; the queue stays for the next one."""
        if self._queue is not None:
            self._queue.disconnected(self)
        if self.channel is not None:
            self.channel.close(code, reason)

    def send(self, message: Message) -> None:
        """Send an answer that CloudHub itself gives."""
        if self._queue is not None:
            self._queue.push_plain(message, self._owner.clock.seconds())
            self.pump()

    def pump(self) -> None:
        """Write what the peer has room for: answers, the unacknowledged, the acknowledged."""
        channel, queue = self.channel, self._queue
        if channel is None or queue is None or queue.owner is not self:
            return
        now = self._owner.clock.seconds()
        while channel.is_writable and queue.has_plain:
            if self._bucket is not None and not self._bucket.take(now):
                self._pace_pump(self._bucket.delay(now))
                break
            message = queue.next_plain()
            assert message is not None
            channel.send(message)
        while channel.is_writable and (orders := queue.to_send(now, BATCH)):
            for order in orders:
                channel.send(order.message)

    def tick(self, now: float) -> None:
        """Look at the keepalive, and at what is due to be sent again."""
        channel, queue = self.channel, self._queue
        if channel is None or queue is None or not channel.is_open:
            return
        assert self._keepalive is not None
        if channel.is_paused:
            self._keepalive.feed(now)
        elif self._keepalive.expired(now):
            self.close(NO_KEEPALIVE, f"no keepalive message within {self._keepalive.limit:g} s")
            return
        due = queue.window.next_due()
        if due is not None and due <= now:
            self.pump()

    def _pace_pump(self, seconds: float) -> None:
        if self._pace is None:
            self._pace = self._owner.clock.callLater(max(seconds, GO_PAUSE), self._paced)

    def _paced(self) -> None:
        self._pace = None
        self.pump()
