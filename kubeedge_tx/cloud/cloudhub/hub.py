"""CloudHub: listen with mutual TLS, admit nodes, own their sessions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.cloud.cloudhub import figures
from kubeedge_tx.cloud.cloudhub.dispatcher import MessageDispatcher
from kubeedge_tx.cloud.cloudhub.gate import Gate
from kubeedge_tx.cloud.cloudhub.queue import NodeMessageQueue, QueueLimits
from kubeedge_tx.cloud.cloudhub.session import NodeSession
from kubeedge_tx.cloud.cloudhub.sessions import REPLACED, SessionTable
from kubeedge_tx.cloud.cloudhub.syncpoint import ISyncPoint
from kubeedge_tx.errors import CertificateError
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.doors import Door, Guarded
from kubeedge_tx.observe.figures import add_traffic
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.rarely import Rarely, and_more
from kubeedge_tx.security.identity import identify as read_subject
from kubeedge_tx.security.identity import is_node_name
from kubeedge_tx.viaduct.channel import ChannelSettings
from kubeedge_tx.viaduct.handshake import WINDOW_HEADER, Handshake, HandshakeRefused
from kubeedge_tx.viaduct.server import ChannelServerFactory
from kubeedge_tx.viaduct.traffic import Traffic
from kubeedge_tx.viaduct.websocket import is_accelerated

TICK: Final = 1.0
"""Seconds between two looks at the deadlines of all sessions."""

SETTLE_EVERY: Final = 60.0
"""Seconds between two looks at what waits for nodes that are not here."""

STOPPING: Final = 4503
"""WebSocket close code: this cloud process ends, come back."""

FULL: Final = 4529
"""WebSocket close code: the node limit was reached while the handshake ran."""

STOP_TIMEOUT: Final = 3.0
"""Seconds edges have to answer the closing handshake when the process stops."""

MAX_WINDOW: Final = 256

PROOF_SECONDS: Final = 15.0
"""Seconds an edge has to answer whether it is there."""

DRAIN_STEP: Final = 0.1
"""Seconds between two groups of sessions that end when the process stops."""

FULL_WAIT: Final = 30
"""Seconds after which a node that found no room shall come again."""


def node_of(transport: Any) -> str | None:
    """Read the node's name from the verified client certificate of a TLS transport.

    :returns: the name; an empty text for an old edge's certificate, which names none;
        ``None`` if there is no certificate, or it is no edge's.
    """
    certificate = transport.getPeerCertificate()
    if certificate is None:
        return None
    try:
        return read_subject(certificate.to_cryptography().subject).node
    except (CertificateError, ValueError):
        return None


class Listener(Protocol):
    """Where to listen: one block of the configuration."""

    @property
    def address(self) -> str:
        """IP address of an interface; empty or 0.0.0.0 for all."""

    @property
    def port(self) -> int:
        """TCP port; 0 for a free one."""


class Settings(Protocol):
    """What CloudHub reads of ``modules.cloudHub``."""

    @property
    def websocket(self) -> Listener:
        """Where edges connect."""

    @property
    def node_limit(self) -> int:
        """Nodes at once."""

    @property
    def keepalive_interval(self) -> int:
        """Seconds without a keepalive message after which a node is cut."""

    @property
    def ack_window(self) -> int:
        """Objects in flight to an edge of our own kind."""

    @property
    def connect_rate(self) -> int:
        """Nodes a second that may connect on average; five times as many at once."""

    @property
    def drain_seconds(self) -> int:
        """Seconds over which sessions end, at most, when the process stops."""

    @property
    def queue_objects(self) -> int:
        """Objects that may wait for one node."""

    @property
    def queue_messages(self) -> int:
        """Messages without acknowledgement that may wait for one node."""

    @property
    def message_rate(self) -> int:
        """Messages a second that one node may send on average; twice as many at once."""

    @property
    def creation_rate(self) -> int:
        """Objects a second that one node may make on average; thirty times as many at once."""

    @property
    def max_message_bytes(self) -> int:
        """The longest message an edge may send."""

    @property
    def legacy_certificates(self) -> bool:
        """Whether a certificate that names no node may be any."""


@implementer(IModule)
class CloudHub:
    """The cloud's end of all channels.

    As a module it takes messages for edges; as a service it listens. Start it after the
    controllers, and stop it before them: ``stopService`` ends all sessions and writes down
    what they had acknowledged.

    :param context_factory: TLS settings that demand a client certificate of our CA.
    :param identify: reads a TLS transport's client certificate: the node it names, an empty
        text for one of an old edge that names none, or ``None`` if it is no edge's.
    :param kube_ca: the Kubernetes CA, PEM.
    :param denials: where it is written down what nodes may not have.
    :param door: limits of the listener.
    """

    name = names.CLOUDHUB
    group = names.CLOUDHUB
    inbox_size = 64
    """Small: what waits here cannot be replaced by what is newer, nor passed by an answer."""
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        bus: IMessageBus,
        messages: MessageFactory,
        *,
        settings: Settings,
        context_factory: Any,
        identify: Callable[[Any], str | None] = node_of,
        syncpoint: ISyncPoint,
        kube_ca: str,
        denials: Denials,
        door: Door,
        metrics: Metrics,
        channel_settings: ChannelSettings | None = None,
    ) -> None:
        self.clock = reactor
        self.traffic = Traffic()
        self.sessions = SessionTable(settings.node_limit)
        self.dispatcher = MessageDispatcher(
            reactor,
            bus,
            messages,
            self.sessions,
            syncpoint=syncpoint,
            kube_ca=kube_ca,
            denials=denials,
            limits=QueueLimits(settings.queue_objects, settings.queue_messages),
            metrics=metrics,
        )
        self.factory = ChannelServerFactory(
            reactor,
            self._admit,
            messages,
            settings=channel_settings
            or ChannelSettings(max_message_bytes=settings.max_message_bytes),
            traffic=self.traffic,
            door=door,
        )
        self._door = door
        self._rarely = Rarely()
        self.settings = settings
        self._gate = Gate(rate=settings.connect_rate, now=reactor.seconds())
        self._context_factory = context_factory
        self._identify = identify
        self._syncpoint = syncpoint
        self._settle_at = reactor.seconds() + SETTLE_EVERY
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._listening: Any = None
        self._stopping: Deferred[None] | None = None
        self._acks = metrics.counter(
            "kubeedge_cloudhub_acknowledged_messages_total", "Messages that edges acknowledged."
        )
        self._ended = metrics.counter(
            "kubeedge_cloudhub_ended_sessions_total", "Sessions that have ended."
        )
        self._denied = metrics.counter(
            "kubeedge_cloudhub_refused_handshakes_total",
            "Connections refused, by HTTP status.",
            ("status",),
        )
        self._sync = figures.sync_seconds(metrics)
        figures.add(metrics, self.sessions, self.dispatcher, self.clock)
        add_traffic(metrics, self.traffic, sent="down", received="up")
        self.nodes_state = figures.state(self.sessions, self.dispatcher, self.clock)

    def reconfigure(self, settings: Settings) -> None:
        """Take over limits and rates; what is open stays open, with the rates it began with."""
        if settings.connect_rate != self.settings.connect_rate:
            self._gate = Gate(rate=settings.connect_rate, now=self.clock.seconds())
        self.settings = settings
        self.sessions.limit = settings.node_limit

    # Service

    @property
    def port(self) -> int:
        """The TCP port listened on."""
        return int(self._listening.getHost().port)

    def startService(self) -> Deferred[None]:
        """Listen; fails if the port is taken."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        where = self.settings.websocket
        endpoint = TCP4ServerEndpoint(self.clock, where.port, interface=where.address, backlog=512)
        tls = TLSMemoryBIOFactory(self._context_factory, False, self.factory, clock=self.clock)
        self._listening = await endpoint.listen(Guarded(self._door, tls))
        self.start_ticking()
        if not is_accelerated():
            self._log.warn(
                "Autobahn runs without its C code (NVX): each message costs several times the "
                "CPU. Install a wheel of autobahn that has it"
            )
        self._log.info("edges can connect to port {port}", port=self.port)

    def start_ticking(self) -> None:
        """Begin to look at deadlines; :meth:`startService` does it."""
        self._ticking.start(TICK, now=False).addErrback(self._tick_failed)

    def stopService(self) -> Deferred[None]:
        """Stop listening, end the sessions, write down what was acknowledged."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        stopping: Deferred[None] = Deferred()
        self._stopping = stopping
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        await self._drain()
        if len(self.sessions):
            patience = self.clock.callLater(STOP_TIMEOUT, self._abort_all)
            await stopping
            if patience.active():
                patience.cancel()
        if self._ticking.running:
            self._ticking.stop()
        await self._syncpoint.stop()

    async def _drain(self) -> None:
        """End the sessions one after another, no faster than another cloud takes them in."""
        sessions = list(self.sessions)
        settings = self.settings
        seconds = min(settings.drain_seconds, (len(sessions) - 1) / settings.connect_rate)
        steps = max(1, math.ceil(seconds / DRAIN_STEP))
        gone = 0
        for step in range(steps):
            if step:
                await deferLater(self.clock, DRAIN_STEP)
            until = math.ceil(len(sessions) * (step + 1) / steps)
            for session in sessions[gone:until]:
                session.close(STOPPING, "the cloud is stopping")
            gone = until

    def _abort_all(self) -> None:
        for session in self.sessions:
            if session.channel is not None:
                session.channel.abort("the cloud is stopping")

    # Module

    def handle(self, message: Message) -> Deferred[None]:
        """Queue a message from a cloud module for an edge."""
        self.dispatcher.downstream(message)
        return succeed(None)

    # Handshake

    def _admit(self, handshake: Handshake) -> NodeSession:
        headers = handshake.headers
        try:
            return self._checked(handshake, headers.get("node_id", "").strip())
        except HandshakeRefused as refusal:
            self._denied.inc(str(refusal.status))
            self._note(headers.get("node_id", ""), handshake.peer, refusal)
            raise

    def _note(self, node: str, peer: str, refusal: HandshakeRefused) -> None:
        subject = (peer.rpartition(":")[0], refusal.status)
        silent = self._rarely.due(subject, self.clock.seconds())
        if silent is not None:
            self._log.warn(
                "connection of {node} from {peer} refused ({status}): {why}{more}",
                node=node[:300] or "nobody",
                peer=peer,
                status=refusal.status,
                why=refusal.reason,
                more=and_more(silent),
            )

    def _checked(self, handshake: Handshake, node: str) -> NodeSession:
        if not is_node_name(node):
            raise HandshakeRefused(
                400, "header node_id must name the node: lower-case letters, digits, '-' and '.'"
            )
        use = handshake.headers.get("connectionuse", "msg")
        if use != "msg":
            raise HandshakeRefused(400, "header ConnectionUse must be msg")
        proved = self._identify(handshake.transport)
        if proved is None:
            raise HandshakeRefused(403, "the client certificate is not one of an edge")
        if not proved:
            if not self.settings.legacy_certificates:
                raise HandshakeRefused(
                    403,
                    "the client certificate names no node: join again, or set "
                    "modules.cloudHub.legacyCertificates",
                )
        elif proved != node:
            raise HandshakeRefused(403, f"the client certificate is that of node {proved}")
        if self._stopping is not None:
            raise HandshakeRefused(503, "the cloud is stopping")
        if wait := self._gate.wait(self.clock.seconds()):
            raise HandshakeRefused(503, f"busy; try again in {wait} s", wait)
        if not self.sessions.has_room(node):
            raise HandshakeRefused(
                503, f"the limit of {self.settings.node_limit} nodes is reached", FULL_WAIT
            )
        return NodeSession(node, handshake.peer, self, window=self._window(handshake.headers))

    def _window(self, headers: Mapping[str, str]) -> int:
        """How wide the peer's window is; 0 for a Go edge, which announces none."""
        wish = headers.get(WINDOW_HEADER.lower(), "").strip()
        if not (wish.isascii() and wish.isdigit()) or len(wish) > 9:
            return 0
        return min(int(wish), self.settings.ack_window, MAX_WINDOW)

    # SessionOwner

    def session_opened(self, session: NodeSession) -> NodeMessageQueue | None:
        """Make a session the node's own; the older one ends."""
        if not self.sessions.has_room(session.node) or self._stopping is not None:
            session.close(FULL, "no room for another node")
            return None
        queue = self.dispatcher.queue(session.node)
        old = self.sessions.opened(session, self.clock.seconds())
        if old is not None:
            old.close(REPLACED, "the node has connected anew")
        else:
            self._log.info("{node} connected from {peer}", node=session.node, peer=session.peer)
        self.dispatcher.tell(session.node, "connected", session.window)
        return queue

    def session_closed(self, session: NodeSession, reason: str) -> None:
        """Forget a session; only the node's own one counts as a disconnect."""
        self._ended.inc()
        if not self.sessions.closed(session):
            return
        self._log.info("{node} disconnected: {why}", node=session.node, why=reason)
        self.dispatcher.tell(session.node, "disconnected")
        if self._stopping is not None and not len(self.sessions) and not self._stopping.called:
            self._stopping.callback(None)

    def acknowledged(self, node: str, queue: NodeMessageQueue, message: Message) -> bool:
        """Take an edge's response: an acknowledgement, an answer, or for nobody."""
        order = queue.acked(message.header.parent_id)
        if order is None:
            self.dispatcher.answered(node, message)
            return False
        self._acks.inc()
        self._sync.observe(self.clock.seconds() - order.since, figures.kind_of(order))
        self._syncpoint.acked(node, order)
        return True

    # For who must know which cloud process has a node

    def prove(self, node: str) -> Deferred[bool]:
        """Find out whether an edge answers on its connection to this process, in a while."""
        session = self.sessions.get(node)
        if session is None or session.channel is None:
            return succeed(False)
        return session.channel.prove().addTimeout(
            PROOF_SECONDS, self.clock, onTimeoutCancel=lambda *_: False
        )

    def displace(self, node: str) -> None:
        """End a node's session, as another cloud process has a newer one."""
        session = self.sessions.get(node)
        if session is not None:
            session.close(REPLACED, "the node has connected elsewhere")

    def upstream(self, session: NodeSession, message: Message) -> Deferred[None] | None:
        """Pass on what a node says."""
        return self.dispatcher.upstream(session, message)

    def _tick(self) -> None:
        now = self.clock.seconds()
        self._gate.ticked(now, TICK)
        for session in self.sessions:
            session.tick(now)
        if now >= self._settle_at:
            self._settle_at = now + SETTLE_EVERY
            self.dispatcher.settle()

    def _tick_failed(self, failure: Failure) -> None:
        self._log.failure("the look at the sessions' deadlines failed; going on", failure)
        if self._stopping is None:
            self.start_ticking()
