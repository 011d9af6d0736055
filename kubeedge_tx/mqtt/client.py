"""A client of a broker elsewhere: connects, connects again, and keeps what MQTT promises."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.errors import KubeEdgeError, NotConnected
from kubeedge_tx.mqtt import clienteffects as does
from kubeedge_tx.mqtt.clienteffects import ClientOptions
from kubeedge_tx.mqtt.clientstate import ClientState
from kubeedge_tx.mqtt.packets import V4, V5, Subscription
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from kubeedge_tx.mqtt.reasons import UNSUPPORTED_PROTOCOL_VERSION

TICK: Final = 1.0
"""Seconds between two looks at keepalive and retransmission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """When and how often to connect."""

    connect_timeout: float = 10.0
    """Seconds until a connection has to be open, CONNACK included."""
    first_delay: float = 0.5
    longest_delay: float = 30.0
    """Seconds between attempts: doubled from the first to the longest, more or less a half."""
    most_unhandled: int = 256
    """Messages being handled at once before reading pauses."""
    close_timeout: float = 2.0
    """Seconds the broker has to take our DISCONNECT."""


class Unacknowledged(KubeEdgeError):
    """The broker refused a publish or a subscription.

    :param reasons: reason codes, one for each filter, or the one of the publish.
    """

    def __init__(self, text: str, reasons: tuple[int, ...]) -> None:
        super().__init__(text)
        self.reasons = reasons


OnReceived = Callable[[does.Received], Deferred[None]]


class MqttClient:
    """One session with a broker, over as many connections as it takes.

    MQTT 5 is tried first; a broker that does not know it gets 3.1.1.

    :param endpoint: where the broker is, TLS included; asked anew for each attempt.
    :param options: makes the options for a protocol version, 5 or 4.
    :param random: for the delays.
    :param name: of the broker, for the log: ``tcp://127.0.0.1:1883``.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoint: Callable[[], IStreamClientEndpoint],
        options: Callable[[int], ClientOptions],
        *,
        random: Random,
        name: str,
        settings: ClientSettings | None = None,
        versions: Sequence[int] = (V5, V4),
    ) -> None:
        self.name = name
        self._reactor = reactor
        self._endpoint = endpoint
        self._options = options
        self._random = random
        self._settings = settings or ClientSettings()
        self._versions = deque(versions)
        self.state = ClientState(options(self._versions[0]))
        self._tasks = TaskSet()
        self._link: _Link | None = None
        self._late: Any = None
        self._is_stopping = False
        self._is_version_settled = len(versions) == 1
        self._tokens: dict[Any, Deferred[tuple[int, ...]]] = {}
        self._busy = False
        self._later: deque[Callable[[], list[does.ClientEffect]]] = deque()
        self._unhandled = 0
        self._is_full = False
        self._drained: list[Deferred[tuple[int, ...]]] = []
        self._delay = self._settings.first_delay
        self._why = ""
        self._said = ""
        self._on_received: OnReceived | None = None
        self._on_state: Callable[[bool], None] = lambda is_connected: None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self.is_connected = False
        self.connects = 0
        self._carry: dict[type, Callable[[Any], None]] = {
            does.Write: self._write,
            does.Shut: self._shut,
            does.Opened: self._opened,
            does.Refused: self._refused,
            does.Received: self._received,
            does.Completed: self._completed,
            does.Failed: self._failed,
            does.Ended: self._ended,
        }

    @property
    def version(self) -> int:
        """The protocol version in use, 5 or 4."""
        return self._versions[0]

    def on_received(self, callback: OnReceived) -> None:
        """Say who handles messages; QoS 1 and 2 are acknowledged once its Deferred fires.

        If it fails the message is not acknowledged, and the connection is made anew.
        """
        self._on_received = callback

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Say who hears that the connection came or went; called at once."""
        self._on_state = callback
        callback(self.is_connected)

    def startService(self) -> None:
        """Start connecting; the broker is not waited for."""
        self._loop.start(TICK, now=False)
        self._tasks.spawn(f"MQTT towards {self.name}", self._connect_for_ever())

    def stopService(self) -> Deferred[None]:
        """Say goodbye; what is not acknowledged fails with :class:`NotConnected`."""
        return Deferred.fromCoroutine(self._stop())

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> Deferred[None]:
        """Publish; fires when the broker has it. QoS 0: when it is written.

        Without a connection QoS 1 and 2 wait for one.

        :raises NotConnected: from the Deferred: it may not have arrived, and is not tried again.
        :raises Unacknowledged: from the Deferred: the broker refused it.
        """
        if not qos and self._link is not None and self._link.is_writable is False:
            waiting: Deferred[Any] = Deferred()
            self._drained.append(waiting)
        else:
            waiting = Deferred()
            waiting.callback(())
        done = self._ask(
            lambda: self.state.publish(
                topic, payload, now=self._now(), qos=qos, retain=retain, properties=properties
            )
        )
        done.addCallback(_check, topic)
        return done.addCallback(lambda _: waiting).addCallback(_nothing)

    def subscribe(
        self, subscriptions: Sequence[Subscription], *, identifier: int = 0
    ) -> Deferred[tuple[int, ...]]:
        """Subscribe; fires with the granted QoS of each filter.

        :raises NotConnected: from the Deferred: there is no connection, or no more.
        :raises Unacknowledged: from the Deferred: a filter was refused.
        """
        return self._ask(
            lambda: self.state.subscribe(subscriptions, now=self._now(), identifier=identifier)
        ).addCallback(_check, ", ".join(each.filter for each in subscriptions))

    def unsubscribe(self, filters: Sequence[str]) -> Deferred[None]:
        """Unsubscribe; filters that were not subscribed are ignored."""
        return (
            self._ask(lambda: self.state.unsubscribe(filters, now=self._now()))
            .addCallback(_check, ", ".join(filters))
            .addCallback(_nothing)
        )

    # Connecting

    async def _connect_for_ever(self) -> None:
        while not self._is_stopping:
            self._why = ""
            try:
                await self._connection()
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it was, we try again
                self._why = self._why or _explain(error)
            if self._is_stopping:  # a cancelled endpoint fails with an error of its own
                return
            self._say(self._why or "the broker closed the connection")
            delay = self._delay * self._random.uniform(0.5, 1.5)
            self._delay = min(self._delay * 2, self._settings.longest_delay)
            await deferLater(self._reactor, delay)

    async def _connection(self) -> None:
        """Have one connection, until it ends."""
        limit = self._settings.connect_timeout
        factory = Factory.forProtocol(lambda: _Link(self))
        factory.noisy = False  # type: ignore[attr-defined]
        link: Any = await self._endpoint().connect(factory).addTimeout(limit, self._reactor)
        late = self._reactor.callLater(limit, self._too_late, link)
        try:
            await link.closed
        finally:
            if late.active():
                late.cancel()
            link.abort()

    def _too_late(self, link: _Link) -> None:
        if not self.is_connected:
            self._why = f"no CONNACK within {self._settings.connect_timeout:g} s"
            link.abort()

    def _say(self, why: str) -> None:
        """Log why there is no connection: once for each reason."""
        if why != self._said:
            self._said = why
            self._log.warn("no MQTT connection to {name}: {why}", name=self.name, why=why)

    def made(self, link: _Link) -> None:
        """Told by the link: it can be written to."""
        self._link = link
        self._run(partial(self.state.opened, self._now()))

    def arrived(self, link: _Link, data: bytes) -> None:
        """Told by the link: bytes came."""
        if link is self._link:
            self._run(partial(self.state.receive, data, self._now()))

    def ended(self, link: _Link, why: str) -> None:
        """Told by the link: it is over."""
        self._why = self._why or why
        if link is not self._link:
            return  # TLS did not come about
        self._link = None
        if self._late is not None and self._late.active():
            self._late.cancel()
        was_connected, self.is_connected = self.is_connected, False
        self.writable()
        self._run(partial(self.state.lost, self._now()))
        if was_connected:
            self._on_state(False)
        elif not self._is_version_settled:
            self._try_other_version()

    def writable(self) -> None:
        """Told by the link: its buffer has drained."""
        drained, self._drained = self._drained, []
        for done in drained:
            done.callback(())

    def _try_other_version(self) -> None:
        """Old brokers answer MQTT 5 with silence, or with bytes that are none of it."""
        if self._tokens:
            return  # what was asked for would be forgotten
        self._versions.rotate(-1)
        self.state = ClientState(self._options(self._versions[0]))

    async def _stop(self) -> None:
        self._is_stopping = True
        if self._loop.running:
            self._loop.stop()
        link = self._link
        if link is not None:
            self._run(partial(self.state.disconnect, self._now()))
            late = self._reactor.callLater(self._settings.close_timeout, link.abort)
            await link.closed
            if late.active():
                late.cancel()
        await self._tasks.cancel_all()
        tokens, self._tokens = self._tokens, {}
        for done in tokens.values():
            done.errback(NotConnected(f"{self.name}: the MQTT client is stopping"))

    # Carrying out what the state decides

    def _ask(
        self, call: Callable[[], tuple[Any, list[does.ClientEffect]]]
    ) -> Deferred[tuple[int, ...]]:
        done: Deferred[tuple[int, ...]] = Deferred()

        def asked() -> list[does.ClientEffect]:
            try:
                token, effects = call()
            except KubeEdgeError:
                done.errback()
                return []
            self._tokens[token] = done
            return effects

        self._run(asked)
        return done

    def _run(self, call: Callable[[], list[does.ClientEffect]]) -> None:
        later, carry = self._later, self._carry
        later.append(call)
        if self._busy:
            return
        self._busy = True
        try:
            while later:
                try:
                    for effect in later.popleft()():
                        carry[type(effect)](effect)
                except Exception:  # noqa: BLE001 - a new connection mends what is broken
                    self._log.failure("MQTT towards {name} failed", name=self.name)
                    self._drop("an error of our own")
        finally:
            self._busy = False

    def _now(self) -> float:
        now: float = self._reactor.seconds()
        return now

    def _drop(self, why: str) -> None:
        self._why = self._why or why
        if self._link is not None:
            self._link.abort()

    def _tick(self) -> None:
        if self._link is not None:
            self._run(partial(self.state.tick, self._now()))

    def _write(self, effect: does.Write) -> None:
        if self._link is not None:
            self._link.send(effect.data)

    def _shut(self, effect: does.Shut) -> None:
        self._why = self._why or effect.text
        if self._link is not None:
            self._link.close()
            self._late = self._reactor.callLater(self._settings.close_timeout, self._link.abort)

    def _opened(self, effect: does.Opened) -> None:
        self.is_connected = self._is_version_settled = True
        self.connects += 1
        self._delay = self._settings.first_delay
        self._said = ""
        self._log.info(
            "connected to {name} with MQTT {version}",
            name=self.name,
            version="5" if self.version == V5 else "3.1.1",
        )
        self._on_state(True)

    def _refused(self, effect: does.Refused) -> None:
        self._why = f"refused: {effect.text}"
        if effect.reason != UNSUPPORTED_PROTOCOL_VERSION:
            self._is_version_settled = True
        self._drop(self._why)

    def _ended(self, effect: does.Ended) -> None:
        self._why = f"ended by the broker: {effect.text}"

    def _completed(self, effect: does.Completed) -> None:
        done = self._tokens.pop(effect.token, None)
        if done is not None:
            done.callback(effect.reasons)

    def _failed(self, effect: does.Failed) -> None:
        done = self._tokens.pop(effect.token, None)
        if done is not None:
            done.errback(NotConnected(f"{self.name}: {effect.text}"))

    def _received(self, received: does.Received) -> None:
        self._unhandled += 1
        if self._unhandled >= self._settings.most_unhandled and not self._is_full:
            self._is_full = True
            if self._link is not None:
                self._link.pause()
        link = self._link
        try:
            assert self._on_received is not None, "messages came and nobody was to handle them"
            handled = self._on_received(received)
        except Exception:  # noqa: BLE001 - as if its Deferred had failed
            handled = Deferred()
            handled.errback(Failure())
        handled.addCallbacks(
            self._handled, self._not_handled, (received,), errbackArgs=(received, link)
        )

    def _handled(self, _: object, received: does.Received) -> None:
        self._one_less()
        if received.qos:  # also on a new connection, where it is not handed over twice then
            self._run(lambda: self.state.acknowledge(received, self._now()))

    def _not_handled(self, failure: Failure, received: does.Received, link: _Link | None) -> None:
        self._one_less()
        if not failure.check(CancelledError):
            self._log.failure("a message from {name} was not handled", failure, name=self.name)
        if received.qos and link is self._link:
            self._drop("a message could not be handled")

    def _one_less(self) -> None:
        self._unhandled -= 1
        if self._is_full and self._unhandled <= self._settings.most_unhandled // 2:
            self._is_full = False
            if self._link is not None:
                self._link.resume()


@implementer(IPushProducer, IHandshakeListener)
class _Link(Protocol):
    """One connection."""

    def __init__(self, client: MqttClient) -> None:
        self._client = client
        self.closed: Deferred[None] = Deferred()
        self.is_writable = True

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        if not hasattr(transport, "getPeerCertificate"):
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        """Start MQTT: before, TLS might still find that this is not our broker."""
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self._client.made(self)

    def dataReceived(self, data: bytes) -> None:
        self._client.arrived(self, data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.is_writable = True
        self._client.ended(self, _explain(reason.value))
        self.closed.callback(None)

    def pauseProducing(self) -> None:
        """Told by the transport: its buffer is full."""
        self.is_writable = False

    def resumeProducing(self) -> None:
        """Told by the transport: its buffer has drained."""
        self.is_writable = True
        self._client.writable()

    def stopProducing(self) -> None:
        """Told by the transport: it will never drain."""

    def send(self, data: list[bytes]) -> None:
        """Write."""
        transport: Any = self.transport
        transport.writeSequence(data)

    def close(self) -> None:
        """End it once everything is written."""
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.resumeProducing()
        transport.loseConnection()

    def pause(self) -> None:
        """Read no more."""
        transport: Any = self.transport
        transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        transport: Any = self.transport
        transport.resumeProducing()

    def abort(self) -> None:
        """End it now."""
        transport: Any = self.transport
        if not self.closed.called:
            transport.abortConnection()


def _check(reasons: tuple[int, ...], what: str) -> tuple[int, ...]:
    bad = tuple(reason for reason in reasons if reason >= 0x80)
    if bad:
        codes = ", ".join(f"{reason:#04x}" for reason in bad)
        raise Unacknowledged(f"the broker refused {what}: reason {codes}", reasons)
    return reasons


def _nothing(_: object) -> None:
    """Drop a result."""


def _explain(error: BaseException | None) -> str:
    cause = getattr(error, "osError", None)  # of a ConnectError, whose own words are longer
    return str(cause or error).rstrip(".") or type(error).__name__
