"""The broker in a process: carries out what :class:`~kubeedge_tx.mqtt.broker.Broker` decides.

The broker is pure and is never called while one of its answers is being carried out, so
everything goes through :meth:`MqttServer.run`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kubeedge_tx.errors import StoreError
from kubeedge_tx.mqtt import effects as does
from kubeedge_tx.mqtt.broker import Broker
from kubeedge_tx.mqtt.reasons import SERVER_UNAVAILABLE, MqttError
from kubeedge_tx.mqtt.records import Operation
from kubeedge_tx.observe.rarely import Rarely, and_more

TICK: Final = 1.0
"""Seconds between two looks at the broker's deadlines."""
GOODBYE: Final = 2.0
"""Seconds clients have to close their connections when the broker stops."""


class Store(Protocol):
    """Where sessions and retained messages survive the process."""

    def load(self) -> Deferred[list[Operation]]:
        """Read everything that was kept."""

    def write(self, operations: Sequence[Operation]) -> Deferred[None]:
        """Keep more; in call order. Fails with :class:`StoreError` if it is not on disk."""


class Refusal(MqttError):
    """A client may not come in; ``reason`` tells it why."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client says about itself. Never logged."""

    client_id: str
    username: str | None
    password: bytes | None
    identity: str
    """Common name in its certificate, which was checked; or empty."""

    def __repr__(self) -> str:
        return f"Credentials(client_id={self.client_id!r})"


Admit = Callable[[Credentials], Deferred[str]]
"""Fires with the name that access rules go by, empty for anonymous; fails with :class:`Refusal`."""

OnMessage = Callable[[str, bytes, int, bool], Deferred[None]]


class Link(Protocol):
    """What carries one connection's bytes. None of these calls the server back."""

    peer: str
    is_writable: bool

    def send(self, data: list[bytes]) -> None:
        """Write."""

    def close(self) -> None:
        """End it once everything is written."""

    def abort(self) -> None:
        """End it now."""

    def pause(self) -> None:
        """Read no more."""

    def resume(self) -> None:
        """Read on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits of the transports; those of MQTT are the broker's."""

    max_unknown: int = 1_000
    """Connections at once that were not admitted yet. With as many, no further ones are
    accepted (they wait in the kernel), and those here are held to ``hurry``."""
    max_unknown_per_peer: int = 500
    """Of them, those from one address: the one that has waited longest makes room, if it has
    had ``hurry``, or else the newcomer goes."""
    admission: float = 10.0
    """Seconds a connection has to be admitted, TLS and passwords included."""
    hurry: float = 1.0
    """Seconds a connection has to be admitted while others wait."""
    close_timeout: float = 5.0
    """Seconds until a connection that is to be closed is aborted."""


class MqttServer:
    """Run a broker for all listeners of a process.

    :param store: ``None`` keeps nothing; then everything counts as kept at once.
    :param admit: asked about every client if the broker was made with ``authenticate``.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        broker: Broker,
        *,
        store: Store | None = None,
        admit: Admit | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        self.broker = broker
        self._clock = reactor
        self._store = store
        self._admit = admit
        self._limits = limits or ServerLimits()
        self._busy = False
        self._later: deque[Callable[[], list[does.Effect]]] = deque()
        self._links: dict[Link, None] = {}
        self._unknown: dict[Link, float] = {}
        self._unknown_of: dict[str, int] = {}
        self._rarely = Rarely()
        self.crowded_out = 0
        """Connections ended since too many from their address were not admitted yet."""
        self._gone: list[Deferred[None]] = []
        self._closing: dict[Any, float] = {}
        self._continue: dict[Any, None] = {}
        self._settled: list[Any] = []
        self._turn_scheduled = False
        self._locals: dict[Any, OnMessage] = {}
        self._publishes: dict[Any, Deferred[None]] = {}
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._crowd: Callable[[bool], None] = lambda is_crowded: None
        self.is_crowded = False
        self.store_failures = 0
        self._writes = 0
        self._idle: list[Deferred[None]] = []
        self._carry: dict[type, Callable[[Any], None]] = {
            does.Send: self._send,
            does.Close: self._close,
            does.Authenticate: self._authenticate,
            does.Connected: self._connected,
            does.Deliver: self._deliver,
            does.Persist: self._persist,
            does.Pause: self._pause,
            does.Resume: self._resume,
            does.Continue: self._go_on,
            does.Settled: self._publish_settled,
        }

    # Life

    async def start(self) -> None:
        """Bring back what the store kept; call before anybody can connect.

        :raises StoreError: it cannot be read.
        """
        if self._store is not None:
            operations = await self._store.load()
            self.run(partial(self.broker.restore, operations, self._now()))
        self._loop.start(TICK, now=False)

    async def stop(self) -> None:
        """Say goodbye to all clients, and wait until what they caused is on disk."""
        if self._loop.running:
            self._loop.stop()
        self.run(partial(self.broker.shutdown, self._now()))
        for link in tuple(self._unknown):
            link.abort()
        if self._links:
            late = self._clock.callLater(GOODBYE, self._abort_all)
            gone: Deferred[None] = Deferred()
            self._gone.append(gone)
            await gone
            if late.active():
                late.cancel()
        if self._writes:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        waiting, self._publishes = self._publishes, {}
        for done in waiting.values():
            done.errback(StoreError("the broker is stopping"))

    def _abort_all(self) -> None:
        for link in tuple(self._links):
            link.abort()

    def on_crowd(self, callback: Callable[[bool], None]) -> None:
        """Say who stops and starts accepting connections."""
        self._crowd = callback

    @property
    def links(self) -> int:
        """Connections now, whatever their state."""
        return len(self._links)

    # Calls from links

    def arrived(self, link: Link) -> None:
        """Count a new connection; TLS or a WebSocket may have to be agreed upon first."""
        now = self._now()
        host = _host(link)
        self._links[link] = None
        self._unknown[link] = now
        self._unknown_of[host] = self._unknown_of.get(host, 0) + 1
        if self._unknown_of[host] > self._limits.max_unknown_per_peer:
            self._make_room(host, link, now)
        self._look_at_crowd()

    def _make_room(self, host: str, newcomer: Link, now: float) -> None:
        oldest = next(link for link in self._unknown if _host(link) == host)
        goes = oldest if now - self._unknown[oldest] >= self._limits.hurry else newcomer
        self._known(goes)
        self.crowded_out += 1
        silent = self._rarely.due(host, now)
        if silent is not None:
            self._log.warn(
                "{limit} connections from {host} are not admitted yet: one more is ended{more}",
                limit=self._limits.max_unknown_per_peer,
                host=host,
                more=and_more(silent),
            )
        goes.abort()

    def _known(self, link: Link) -> bool:
        """Count a connection among the unknown no more; whether it was one."""
        if self._unknown.pop(link, None) is None:
            return False
        host = _host(link)
        self._unknown_of[host] -= 1
        if not self._unknown_of[host]:
            del self._unknown_of[host]
        return True

    def opened(self, link: Link, identity: str = "") -> Any:
        """Start MQTT on a connection; returns what its further calls name it by."""
        connection = self.broker.open(link.peer, self._now(), identity=identity)
        connection.handle = link
        return connection

    def received(self, connection: Any, data: bytes) -> None:
        """Take bytes; this is the way that has to be fast."""
        if self._busy:
            self._later.append(partial(self.broker.receive, connection, data, self._now()))
            return
        self._busy = True
        carry = self._carry
        try:
            for effect in self.broker.receive(connection, data, self._clock.seconds()):
                carry[type(effect)](effect)
            if self._later:
                self._run_later()
        except Exception:  # noqa: BLE001 - one client's bytes must not end the others' service
            self._log.failure("the bytes of {peer} broke the broker", peer=connection.handle.peer)
            connection.handle.abort()
        finally:
            self._busy = False
        if self._later:
            self.run()

    def writable(self, connection: Any, is_writable: bool) -> None:
        """Note that a connection's buffer is full, or has drained."""
        self.run(partial(self.broker.writable, connection, is_writable, self._now()))

    def left(self, link: Link, connection: Any) -> None:
        """Note that a connection is gone.

        :param connection: what :meth:`opened` returned; ``None`` if it did not come to that.
        """
        self._links.pop(link, None)
        if self._known(link):
            self._look_at_crowd()
        if connection is not None:
            self._closing.pop(connection, None)
            self._continue.pop(connection, None)
            self.run(partial(self.broker.lost, connection, self._now()))
        if not self._links:
            gone, self._gone = self._gone, []
            for done in gone:
                done.callback(None)

    # Calls from this process

    def attach(self, name: str, callback: OnMessage) -> Any:
        """Be a subscriber without a connection; see :meth:`publish` for its publishes."""
        local = self.broker.attach(name)
        self._locals[local] = callback
        return local

    def detach(self, local: Any) -> None:
        """Be one no more."""
        self._locals.pop(local, None)
        self.run(partial(self.broker.detach, local, self._now()))

    def subscribe(self, local: Any, filters: Sequence[str], qos: int) -> None:
        """Subscribe in this process; effective at once, or when the present call is done."""
        for each in filters:
            self.run(partial(self.broker.subscribe_local, local, each, qos, self._now()))

    def unsubscribe(self, local: Any, filters: Sequence[str]) -> None:
        """Undo :meth:`subscribe`."""
        for each in filters:
            self.run(partial(self.broker.unsubscribe_local, local, each, self._now()))

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, origin: Any = None
    ) -> Deferred[None]:
        """Publish; fires when whatever it caused is on disk.

        :raises StoreError: from the Deferred: some of it is not.
        :raises MqttError: from the Deferred: this is no topic name.
        """
        done: Deferred[None] = Deferred()
        self.run(partial(self._publish, done, topic, payload, qos, retain, origin))
        return done

    def _publish(
        self, done: Deferred[None], topic: str, payload: bytes, qos: int, retain: bool, origin: Any
    ) -> list[does.Effect]:
        try:
            ticket, effects = self.broker.publish(
                topic, payload, now=self._now(), qos=qos, retain=retain, origin=origin
            )
        except MqttError:
            done.errback()
            return []
        if ticket is None:
            done.callback(None)
        else:
            self._publishes[ticket] = done
        return effects

    # Carrying out

    def run(self, *calls: Callable[[], list[does.Effect]]) -> None:
        """Call the broker, now or after what is being carried out, and do what it says."""
        self._later.extend(calls)
        if self._busy:
            return
        self._busy = True
        try:
            while self._later:
                try:
                    self._run_later()
                except Exception:  # noqa: BLE001 - the other calls must still be made
                    self._log.failure("a call of the broker failed")
        finally:
            self._busy = False

    def _run_later(self) -> None:
        later, carry = self._later, self._carry
        while later:
            for effect in later.popleft()():
                carry[type(effect)](effect)

    def _now(self) -> float:
        now: float = self._clock.seconds()
        return now

    def _send(self, effect: does.Send) -> None:
        effect.connection.handle.send(effect.data)

    def _close(self, effect: does.Close) -> None:
        link = effect.connection.handle
        self._log.debug("{peer}: {text}", peer=link.peer, text=effect.text)
        if effect.abort:
            link.abort()
        elif effect.connection not in self._closing:
            self._closing[effect.connection] = self._now() + self._limits.close_timeout
            link.close()

    def _connected(self, effect: does.Connected) -> None:
        connection = effect.connection
        if self._known(connection.handle):
            self._look_at_crowd()
        assert connection.session is not None
        self._log.debug(
            "{client} ({user}) connected from {peer}",
            client=connection.session.client_id,
            user=connection.user or "anonymous",
            peer=connection.handle.peer,
        )

    def _pause(self, effect: does.Pause) -> None:
        effect.connection.handle.pause()

    def _resume(self, effect: does.Resume) -> None:
        effect.connection.handle.resume()

    def _go_on(self, effect: does.Continue) -> None:
        self._continue[effect.connection] = None
        self._schedule_turn()

    def _authenticate(self, effect: does.Authenticate) -> None:
        connection = effect.connection
        assert self._admit is not None, "a broker that authenticates needs somebody to ask"
        asked = self._admit(
            Credentials(
                effect.client_id,
                effect.username,
                effect.password,
                connection.identity,
            )
        )
        asked.addCallbacks(self._admitted, self._refused, (connection,), errbackArgs=(connection,))

    def _admitted(self, user: str, connection: Any) -> None:
        self.run(partial(self.broker.admit, connection, user, self._now()))

    def _refused(self, failure: Failure, connection: Any) -> None:
        reason = SERVER_UNAVAILABLE
        error = failure.value
        if isinstance(error, Refusal):
            reason = error.reason
            self._log.info("{peer}: {why}", peer=connection.handle.peer, why=str(error))
        elif not failure.check(CancelledError):
            self._log.failure("cannot say who {peer} is", failure, peer=connection.handle.peer)
        self.run(partial(self.broker.refuse, connection, reason, self._now()))

    def _deliver(self, effect: does.Deliver) -> None:
        callback = self._locals.get(effect.local)
        message, ticket = effect.message, effect.ticket
        if callback is None:
            if ticket is not None:
                self._settle_soon(None, ticket)
            return
        try:
            handled = callback(message.topic, message.payload, effect.qos, effect.retain)
        except Exception:  # noqa: BLE001 - as if its Deferred had failed
            handled = Deferred()
            handled.errback(Failure())
        if ticket is not None:
            handled.addCallbacks(
                self._settle_soon, self._not_handled, (ticket,), errbackArgs=(ticket,)
            )
        else:
            handled.addErrback(self._not_handled, None)

    def _settle_soon(self, _: object, ticket: Any) -> None:
        self._settled.append(ticket)
        self._schedule_turn()

    def _not_handled(self, failure: Failure, ticket: Any) -> None:
        if not failure.check(CancelledError, StoreError):
            self._log.failure("a message from a client could not be handled", failure)
        if ticket is not None:
            self.run(partial(self.broker.fail, [ticket], self._now()))

    def _persist(self, effect: does.Persist) -> None:
        tickets = effect.tickets
        if self._store is None:
            if tickets:
                self._later.append(partial(self.broker.settle, tickets, self._now()))
            return
        self._writes += 1
        self._store.write(effect.operations).addCallbacks(
            self._persisted, self._not_persisted, (tickets,), errbackArgs=(tickets,)
        ).addBoth(self._write_ended)

    def _persisted(self, _: object, tickets: list[Any]) -> None:
        if tickets:
            self.run(lambda: self.broker.settle(tickets, self._now()))

    def _not_persisted(self, failure: Failure, tickets: list[Any]) -> None:
        self.store_failures += 1
        if failure.check(StoreError):
            self._log.error("MQTT state was not kept: {why}", why=str(failure.value))
        else:
            self._log.failure("MQTT state was not kept", failure)
        if tickets:
            self.run(lambda: self.broker.fail(tickets, self._now()))

    def _write_ended(self, _: object) -> None:
        self._writes -= 1
        if not self._writes:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)

    def _publish_settled(self, effect: does.Settled) -> None:
        done = self._publishes.pop(effect.ticket, None)
        if done is None:
            return
        if effect.ok:
            done.callback(None)
        else:
            done.errback(StoreError("what the message caused could not be kept"))

    # Time

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        """Do what was put off to a later turn of the reactor."""
        self._turn_scheduled = False
        now = self._now()
        settled, self._settled = self._settled, []
        if settled:
            self.run(partial(self.broker.settle, settled, now))
        going_on, self._continue = self._continue, {}
        self.run(
            *(
                partial(self.broker.writable, connection, True, now)
                for connection in going_on
                if connection.handle.is_writable
            )
        )

    def _tick(self) -> None:
        now = self._now()
        self.run(partial(self.broker.tick, now))
        for connection, deadline in tuple(self._closing.items()):
            if now >= deadline:
                connection.handle.abort()
        if self._unknown:
            seconds = self._limits.hurry if self.is_crowded else self._limits.admission
            late = [link for link, since in self._unknown.items() if since <= now - seconds]
            for link in late:
                link.abort()

    def _look_at_crowd(self) -> None:
        is_crowded = len(self._unknown) >= self._limits.max_unknown
        if is_crowded != self.is_crowded:
            self.is_crowded = is_crowded
            self._crowd(is_crowded)


def _host(link: Link) -> str:
    return link.peer.rpartition(":")[0]
