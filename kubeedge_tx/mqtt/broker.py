"""The broker: connections in, effects out. It has no sockets, no clock and no chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kubeedge_tx.mqtt import connection as states
from kubeedge_tx.mqtt import encoding, reasons, topics
from kubeedge_tx.mqtt.acl import Access
from kubeedge_tx.mqtt.connection import Answer, Connection
from kubeedge_tx.mqtt.dialog import Dialog
from kubeedge_tx.mqtt.effects import (
    Close,
    Continue,
    Effect,
    Resume,
    Settled,
    Ticket,
    Turn,
)
from kubeedge_tx.mqtt.entrance import Entrance
from kubeedge_tx.mqtt.lifecycle import Held, Sessions
from kubeedge_tx.mqtt.limits import Counters, Limits
from kubeedge_tx.mqtt.message import Message, forwarded
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Auth,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
)
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from kubeedge_tx.mqtt.reasons import MqttError, ProtocolError
from kubeedge_tx.mqtt.records import Operation
from kubeedge_tx.mqtt.retained import RetainedMessages
from kubeedge_tx.mqtt.routing import Router
from kubeedge_tx.mqtt.session import Local, Session
from kubeedge_tx.mqtt.subscriptions import Options

_RETAINED_EVERY = 30.0
"""Seconds between two searches for retained messages that have expired."""


class _Own(Ticket):
    """Waits for a message this process published."""

    __slots__ = ()


class Broker:
    """An MQTT 3.1.1 and 5 broker without I/O.

    Each method but :meth:`open` and :meth:`attach` returns effects to be carried out at
    once, in order. Calls are not re-entrant: what an effect brings about calls the broker
    after the whole list is done. ``now`` is seconds on a clock that the caller keeps to.

    :param ids: makes a client id for a client that brings none.
    :param access: says who may publish and get what; ``None``: everyone everything.
    :param authenticate: ask about each client by :class:`.effects.Authenticate`.
    :param epoch: wall clock minus ``now``; records have wall clock times.
    :param is_durable: there is a store; without one nothing is ever to be persisted.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        ids: Callable[[], str],
        access: Access | None = None,
        authenticate: bool = False,
        epoch: float = 0.0,
        is_durable: bool = True,
    ) -> None:
        self.counters = Counters()
        self._limits = limits
        self._turn = Turn(epoch)
        self._router = Router(limits, self._turn, self.counters, access, is_durable=is_durable)
        self._dialog = Dialog(limits, self._router, self._turn, self.counters, access)
        self._sessions = Sessions(
            limits,
            self._router,
            self._turn,
            self.counters,
            self._dialog.may_publish_will,
            is_durable=is_durable,
        )
        self._entrance = Entrance(
            limits,
            self._turn,
            self.counters,
            self._sessions,
            self,
            ids=ids,
            authenticate=authenticate,
        )
        self._connections: dict[Connection, None] = {}
        self._expire_at = 0.0

    @property
    def sessions(self) -> Mapping[str, Session]:
        """By client id; read only."""
        return self._sessions.by_id

    @property
    def retained(self) -> RetainedMessages:
        """Retained messages; read only."""
        return self._router.retained

    @property
    def connections(self) -> int:
        """How many there are, let in or not."""
        return len(self._connections)

    # connections

    def open(self, peer: str, now: float, *, identity: str = "") -> Connection:
        """A client has connected.

        :param peer: names it in logs.
        :param identity: the name in its certificate, which is its user name then.
        """
        parser = Parser(self._limits.max_packet_bytes, from_client=True)
        connection = Connection(peer, identity, parser, self._turn.dirty, now)
        self._connections[connection] = None
        return connection

    def receive(self, connection: Connection, data: bytes, now: float) -> list[Effect]:
        """Bytes came from a client."""
        if connection.state == states.CLOSED:
            return []
        parser = connection.parser
        packets = parser.feed(data)
        if packets:
            connection.last_received = now
            if connection.state == states.OPEN:
                self._packets(connection, packets, now)
            else:
                self._first(connection, packets, now)
        if parser.error is not None and connection.state != states.CLOSED:
            self._broken(connection, parser.error, now)
        return self._turn.finish()

    def _packets(self, connection: Connection, packets: list[Packet], now: float) -> None:
        """What an open connection brought."""
        dialog, session = self._dialog, connection.session
        assert session is not None
        flow = session.flow
        try:
            for packet in packets:
                kind = type(packet)
                if kind is Publish:
                    dialog.publish(connection, packet, now)  # type: ignore[arg-type]
                elif kind is Puback:
                    flow.acknowledged(packet.packet_id, packet.reason, now)  # type: ignore[union-attr]
                else:
                    self._other(connection, session, packet, now)
                    if connection.state != states.OPEN:
                        return
            if flow.queue:
                self._pump(connection, session, now)
        except MqttError as error:
            self._broken(connection, error, now)

    def _other(self, connection: Connection, session: Session, packet: Packet, now: float) -> None:
        match packet:
            case Pubrec():
                session.flow.received(packet.packet_id, packet.reason, now)
            case Pubrel():
                self._dialog.release(connection, packet, now)
            case Pubcomp():
                session.flow.completed(packet.packet_id, packet.reason, now)
            case Pingreq():
                connection.write(encoding.PINGRESP)
            case Subscribe():
                self._dialog.subscribe(connection, packet, now)
            case Unsubscribe():
                self._dialog.unsubscribe(connection, packet)
            case Disconnect():
                self._goodbye(connection, session, packet, now)
            case Auth():
                raise ProtocolError("AUTH, and no authentication method was agreed on")
            case _:
                raise ProtocolError("a packet that clients do not send")

    def _first(self, connection: Connection, packets: list[Packet], now: float) -> None:
        """What a connection that was not let in brought."""
        if connection.state == states.NEW:
            first = packets.pop(0)
            assert isinstance(first, Connect)
            self._entrance.connect(connection, first, now)
        if connection.state == states.ASKING:
            if connection.early is None:
                connection.early = []
            connection.early += packets
            if len(connection.early) > self._limits.receive_maximum:
                self._entrance.refuse(connection, reasons.QUOTA_EXCEEDED, "too much at once", now)
        elif connection.state == states.OPEN and packets:
            self._packets(connection, packets, now)

    def admit(self, connection: Connection, user: str, now: float) -> list[Effect]:
        """Let a client in; ``user`` as the access list knows it, empty for no name."""
        if connection.state == states.ASKING:
            connection.is_paused = False
            connection.last_received = now
            self._turn.add(Resume(connection))
            self._entrance.let_in(connection, user, now)
            early, connection.early = connection.early, None
            if early and connection.state == states.OPEN:
                self._packets(connection, early, now)
        return self._turn.finish()

    def refuse(self, connection: Connection, reason: int, now: float) -> list[Effect]:
        """Do not let a client in."""
        if connection.state == states.ASKING:
            self._entrance.refuse(connection, reason, "", now)
        return self._turn.finish()

    def _broken(self, connection: Connection, error: MqttError, now: float) -> None:
        """A client broke the protocol [MQTT-4.13.1-1]."""
        self.counters.broken += 1
        if connection.state == states.OPEN:
            self.end(connection, error.reason, str(error), now)
        elif connection.state == states.NEW and error.version:
            connection.version = V4 if error.version < V5 else V5
            self._entrance.refuse(connection, error.reason, str(error), now)
        else:
            self.close(connection, error.reason, str(error))

    def _goodbye(
        self, connection: Connection, session: Session, packet: Disconnect, now: float
    ) -> None:
        """A client says it leaves [MQTT-3.14.4-3]."""
        expiry = packet.properties.session_expiry
        if expiry is not None:
            if expiry and not session.expiry:  # MQTT 5.0, 3.14.2.2.2
                raise ProtocolError("DISCONNECT gives a session an expiry that it had not")
            session.expiry = min(expiry, self._limits.max_session_expiry)
        if packet.reason == reasons.NORMAL_DISCONNECTION:
            session.will = None
        self.close(connection, packet.reason, "the client left")
        self._sessions.leave(session, now)

    def end(
        self, connection: Connection, reason: int, text: str, now: float, *, abort: bool = False
    ) -> None:
        """End an open connection from our side; its will is published. For :class:`Entrance`."""
        session = connection.session
        assert session is not None
        if connection.version == V5 and not abort:
            packet = Disconnect(reason=reason, properties=Properties(reason_string=text))
            data = encoding.encode(packet, V5)
            if connection.max_packet_bytes and len(data) > connection.max_packet_bytes:
                data = encoding.encode(Disconnect(reason=reason), V5)
            connection.write(data)
        self.close(connection, reason, text, abort=abort)
        self._sessions.leave(session, now)

    def close(self, connection: Connection, reason: int, text: str, *, abort: bool = False) -> None:
        """Close a connection that nobody has, or has any more. For :class:`Entrance`."""
        connection.state = states.CLOSED
        connection.answers = connection.early = connection.connect = None
        self._connections.pop(connection, None)
        self._turn.add(Close(connection, reason, text, abort))

    def lost(self, connection: Connection, now: float) -> list[Effect]:
        """The transport is gone; may be called more than once."""
        was_open = connection.state == states.OPEN
        if connection.state != states.CLOSED:
            connection.state = states.CLOSED
            connection.answers = connection.early = connection.connect = None
            self._connections.pop(connection, None)
            if was_open and connection.session is not None:
                self._sessions.leave(connection.session, now)
        return self._turn.finish()

    def writable(self, connection: Connection, is_writable: bool, now: float) -> list[Effect]:
        """The transport takes more, or does not."""
        connection.is_writable = is_writable
        if not is_writable:
            if connection.unwritable_since is None:
                connection.unwritable_since = now
            return []
        connection.unwritable_since = None
        if connection.state == states.OPEN and connection.session is not None:
            self._pump(connection, connection.session, now)
        return self._turn.finish()

    def _pump(self, connection: Connection, session: Session, now: float) -> None:
        if session.flow.pump(now):
            self._turn.add(Continue(connection))

    # what was waited for

    def settle(self, tickets: Iterable[Ticket], now: float) -> list[Effect]:
        """What these stand for is on disk, or handled."""
        for ticket in tickets:
            self._one_done(ticket, now)
        return self._turn.finish()

    def fail(self, tickets: Iterable[Ticket], now: float) -> list[Effect]:
        """What these stand for could not be done: nobody is told that it was."""
        for ticket in tickets:
            ticket.failed = True
            self._one_done(ticket, now)
        return self._turn.finish()

    def _one_done(self, ticket: Ticket, now: float) -> None:
        ticket.remaining -= 1
        if ticket.remaining:
            return
        if isinstance(ticket, Answer):
            try:
                self._dialog.answered(ticket, now)
            except MqttError as error:
                self.end(ticket.connection, error.reason, str(error), now)
        elif isinstance(ticket, Held):
            # A store that fails must not stop the message: the client may get it twice.
            ticket.flow.committed(ticket.item, now)
        else:
            self._turn.add(Settled(ticket, not ticket.failed))

    # time

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; call it once a second or so."""
        limits = self._limits
        for connection in tuple(self._connections):
            if connection.state != states.OPEN:
                if now - connection.last_received > limits.connect_timeout:
                    text = "no CONNECT" if connection.state == states.NEW else "not admitted"
                    self.close(connection, reasons.KEEP_ALIVE_TIMEOUT, text, abort=True)
                continue
            since = connection.unwritable_since
            if since is not None and now - since > limits.write_deadline:
                self.counters.slow_clients += 1
                text = f"it took nothing for {now - since:.0f} s"
                self.end(connection, reasons.QUOTA_EXCEEDED, text, now, abort=True)
                continue
            if (
                connection.keep_alive
                and now - connection.last_received > connection.keep_alive * 1.5
                and not connection.is_paused
            ):  # [MQTT-3.1.2-22]
                self.counters.keepalive_timeouts += 1
                text = f"nothing came for {now - connection.last_received:.0f} s"
                self.end(connection, reasons.KEEP_ALIVE_TIMEOUT, text, now)
        self._sessions.tick(now)
        if now >= self._expire_at:
            self._expire_at = now + _RETAINED_EVERY
            self._router.expire(now)
        return self._turn.finish()

    def access_changed(self) -> None:
        """Ask the access list anew from now on: its rules have changed."""
        for connection in self._connections:
            connection.may_write = None
        for session in self.sessions.values():
            session.reads = None

    def shutdown(self, now: float) -> list[Effect]:
        """Tell all clients that the server goes; sessions stay."""
        for connection in tuple(self._connections):
            if connection.state == states.OPEN:
                text = "the server stops"
                self.end(connection, reasons.SERVER_SHUTTING_DOWN, text, now)
            else:
                self.close(connection, reasons.SERVER_SHUTTING_DOWN, "stop")
        return self._turn.finish()

    def restore(self, operations: Iterable[Operation], now: float) -> list[Effect]:
        """Bring back what a store kept; before anything else."""
        self._sessions.restore(operations, now)
        return self._turn.finish()

    # this process

    def attach(self, name: str) -> Local:
        """Make a subscriber in this process; ``name`` is what it publishes as."""
        return Local(name)

    def subscribe_local(
        self, local: Local, topic_filter: str, qos: int, now: float, *, no_local: bool = True
    ) -> list[Effect]:
        """Subscribe within this process; retained messages come at once.

        :raises MqttError: the filter is not valid.
        """
        share, bare = topics.split_share(topic_filter)
        options = Options(bare, qos, no_local)
        is_new = topic_filter not in local.subscriptions
        local.subscriptions[topic_filter] = (share, options)
        self._router.locals += is_new
        self._router.tree.add(share, local, options)
        if not share:
            self._router.greet(local, options, now)
        return self._turn.finish()

    def unsubscribe_local(self, local: Local, topic_filter: str, now: float) -> list[Effect]:
        """Undo :meth:`subscribe_local`; a filter that is not there is ignored."""
        held = local.subscriptions.pop(topic_filter, None)
        if held is not None:
            self._router.locals -= 1
            self._router.tree.remove(held[0], local, held[1].filter)
        return self._turn.finish()

    def detach(self, local: Local, now: float) -> list[Effect]:
        """End a subscriber in this process."""
        for topic_filter in tuple(local.subscriptions):
            self.unsubscribe_local(local, topic_filter, now)
        return self._turn.finish()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        now: float,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        origin: Local | None = None,
    ) -> tuple[Ticket | None, list[Effect]]:
        """Publish from this process.

        :returns: what :class:`.effects.Settled` will name once all it caused is done;
            ``None`` if that is now.
        :raises MqttError: the topic is not valid.
        """
        topics.check_name(topic)
        expiry = properties.message_expiry
        message = Message(
            topic,
            payload,
            qos,
            retain,
            forwarded(properties),
            None if expiry is None else now + expiry,
            origin.client_id if origin is not None else "",
        )
        ticket = _Own()
        operations = self._turn.journal.operations
        before = len(operations)
        self._router.publish(message, origin, now, ticket)
        if len(operations) > before:
            ticket.remaining += 1
            self._turn.tickets.append(ticket)
        return (ticket if ticket.remaining else None), self._turn.finish()
