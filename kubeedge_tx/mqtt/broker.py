"""The broker: connections in, effects out. It has no sockets, no clock and no chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kubeedge_tx.mqtt import connection as states
from kubeedge_tx.mqtt import encoding, reasons, topics
from kubeedge_tx.mqtt.acl import Access
from kubeedge_tx.mqtt.aliases import AliasesIn, AliasesOut
from kubeedge_tx.mqtt.connection import Answer, Connection
from kubeedge_tx.mqtt.dialog import Dialog
from kubeedge_tx.mqtt.effects import (
    Authenticate,
    Close,
    Connected,
    Continue,
    Effect,
    Pause,
    Resume,
    Settled,
    Ticket,
    Turn,
)
from kubeedge_tx.mqtt.lifecycle import Held, Sessions
from kubeedge_tx.mqtt.limits import Counters, Limits
from kubeedge_tx.mqtt.message import Message, forwarded
from kubeedge_tx.mqtt.packets import (
    NEVER,
    V4,
    V5,
    Auth,
    Connack,
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
        self._ids = ids
        self._authenticate = authenticate
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
                self._pump(connection, session, now)
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
            self._connect(connection, first, now)
        if connection.state == states.ASKING:
            if connection.early is None:
                connection.early = []
            connection.early += packets
            if len(connection.early) > self._limits.receive_maximum:
                self._refuse(connection, reasons.QUOTA_EXCEEDED, "too much at once", now)
        elif connection.state == states.OPEN and packets:
            self._packets(connection, packets, now)

    def _connect(self, connection: Connection, packet: Connect, now: float) -> None:
        connection.version = packet.version
        connection.connect = packet
        found = packet.properties
        connection.max_packet_bytes = found.maximum_packet_size or 0
        if found.authentication_method is not None:
            text = "no enhanced authentication here"
            self._refuse(connection, reasons.BAD_AUTHENTICATION_METHOD, text, now)
        elif not packet.client_id and not (
            self._limits.allow_empty_client_id
            and (packet.version == V5 or packet.clean_start)  # [MQTT-3.1.3-8]
        ):
            self._refuse(connection, reasons.CLIENT_ID_NOT_VALID, "no client id", now)
        elif len(self._connections) > self._limits.max_connections:
            self._refuse(connection, reasons.SERVER_BUSY, "too many connections", now)
        elif self._authenticate:
            connection.state = states.ASKING
            connection.is_paused = True
            self._turn.add(Pause(connection))
            self._turn.add(
                Authenticate(connection, packet.client_id, packet.username, packet.password)
            )
        else:
            self._let_in(connection, connection.identity or packet.username or "", now)

    def admit(self, connection: Connection, user: str, now: float) -> list[Effect]:
        """Let a client in; ``user`` as the access list knows it, empty for no name."""
        if connection.state == states.ASKING:
            connection.is_paused = False
            connection.last_received = now
            self._turn.add(Resume(connection))
            self._let_in(connection, user, now)
            early, connection.early = connection.early, None
            if early and connection.state == states.OPEN:
                self._packets(connection, early, now)
        return self._turn.finish()

    def refuse(self, connection: Connection, reason: int, now: float) -> list[Effect]:
        """Do not let a client in."""
        if connection.state == states.ASKING:
            self._refuse(connection, reason, "", now)
        return self._turn.finish()

    def _let_in(self, connection: Connection, user: str, now: float) -> None:
        packet = connection.connect
        assert packet is not None
        limits, found, is_v5 = self._limits, packet.properties, packet.version == V5
        client_id = packet.client_id
        while not client_id or (not packet.client_id and client_id in self.sessions):
            client_id = self._ids()  # [MQTT-3.2.2-16]
        old = self.sessions.get(client_id)
        if old is None and len(self.sessions) >= limits.max_sessions:
            self._refuse(connection, reasons.QUOTA_EXCEEDED, "too many sessions", now)
            return
        if old is not None and old.connection is not None:
            self.counters.taken_over += 1
            text = "the client came again"
            self._end(old.connection, reasons.SESSION_TAKEN_OVER, text, now)  # [MQTT-3.1.4-3]
        asked = (found.session_expiry or 0) if is_v5 else 0 if packet.clean_start else NEVER
        expiry = min(asked, limits.max_session_expiry)
        keep_alive = packet.keep_alive
        if is_v5 and limits.max_keepalive and not 0 < keep_alive <= limits.max_keepalive:
            keep_alive = limits.max_keepalive
        is_present = self._sessions.begin(
            connection,
            client_id,
            clean=packet.clean_start,
            expiry=expiry,
            will=packet.will,
            user=user,
            now=now,
        )
        session = connection.session
        assert session is not None
        connection.state = states.OPEN
        connection.connect = None
        connection.user = user
        connection.keep_alive = keep_alive
        connection.credit = limits.receive_maximum
        window = limits.max_inflight
        given = NO_PROPERTIES
        if is_v5:
            connection.shows_problems = found.request_problem_information != 0
            connection.aliases_in = AliasesIn(limits.topic_alias_maximum)
            aliases = min(found.topic_alias_maximum or 0, limits.topic_alias_maximum_out)
            connection.aliases = AliasesOut(aliases) if aliases else None
            window = min(window, found.receive_maximum or window)
            connection.is_plain = not aliases and not connection.max_packet_bytes
            given = Properties(
                session_expiry=expiry if expiry != asked else None,
                receive_maximum=limits.receive_maximum,
                maximum_packet_size=limits.max_packet_bytes,
                assigned_client_id=None if packet.client_id else client_id,
                topic_alias_maximum=limits.topic_alias_maximum or None,
                server_keep_alive=keep_alive if keep_alive != packet.keep_alive else None,
                response_information=(
                    (limits.response_information or None)
                    if found.request_response_information
                    else None
                ),
            )
        self.counters.connections += 1
        connack = Connack(session_present=is_present, properties=given)
        connection.write(encoding.encode(connack, packet.version))
        self._turn.add(Connected(connection, is_present))
        if session.flow.attach(connection, window, now):
            self._turn.add(Continue(connection))

    def _refuse(self, connection: Connection, reason: int, text: str, now: float) -> None:
        """Answer a CONNECT with no, and close [MQTT-3.2.2-7]."""
        self.counters.refused += 1
        version = connection.version
        if version == V5 or reasons.connack_to_v4(reason):
            given = Properties(reason_string=text) if text and version == V5 else NO_PROPERTIES
            data = encoding.encode(Connack(reason=reason, properties=given), version)
            if connection.max_packet_bytes and len(data) > connection.max_packet_bytes:
                data = encoding.encode(Connack(reason=reason), version)
            connection.write(data)
        self._close(connection, reason, text or "refused", abort=False)

    def _broken(self, connection: Connection, error: MqttError, now: float) -> None:
        """A client broke the protocol [MQTT-4.13.1-1]."""
        self.counters.broken += 1
        if connection.state == states.OPEN:
            self._end(connection, error.reason, str(error), now)
        elif connection.state == states.NEW and error.version:
            connection.version = V4 if error.version < V5 else V5
            self._refuse(connection, error.reason, str(error), now)
        else:
            self._close(connection, error.reason, str(error), abort=False)

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
        self._close(connection, packet.reason, "the client left", abort=False)
        self._sessions.leave(session, now)

    def _end(
        self, connection: Connection, reason: int, text: str, now: float, *, abort: bool = False
    ) -> None:
        """End an open connection from our side; its will is published."""
        session = connection.session
        assert session is not None
        if connection.version == V5 and not abort:
            packet = Disconnect(reason=reason, properties=Properties(reason_string=text))
            data = encoding.encode(packet, V5)
            if connection.max_packet_bytes and len(data) > connection.max_packet_bytes:
                data = encoding.encode(Disconnect(reason=reason), V5)
            connection.write(data)
        self._close(connection, reason, text, abort=abort)
        self._sessions.leave(session, now)

    def _close(self, connection: Connection, reason: int, text: str, *, abort: bool) -> None:
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
                self._end(ticket.connection, error.reason, str(error), now)
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
                    self._close(connection, reasons.KEEP_ALIVE_TIMEOUT, text, abort=True)
                continue
            since = connection.unwritable_since
            if since is not None and now - since > limits.write_deadline:
                self.counters.slow_clients += 1
                text = f"it took nothing for {now - since:.0f} s"
                self._end(connection, reasons.QUOTA_EXCEEDED, text, now, abort=True)
                continue
            if (
                connection.keep_alive
                and now - connection.last_received > connection.keep_alive * 1.5
                and not connection.is_paused
            ):  # [MQTT-3.1.2-22]
                self.counters.keepalive_timeouts += 1
                text = f"nothing came for {now - connection.last_received:.0f} s"
                self._end(connection, reasons.KEEP_ALIVE_TIMEOUT, text, now)
        self._sessions.tick(now)
        if now >= self._expire_at:
            self._expire_at = now + _RETAINED_EVERY
            self._router.expire(now)
        return self._turn.finish()

    def shutdown(self, now: float) -> list[Effect]:
        """Tell all clients that the server goes; sessions stay."""
        for connection in tuple(self._connections):
            if connection.state == states.OPEN:
                text = "the server stops"
                self._end(connection, reasons.SERVER_SHUTTING_DOWN, text, now)
            else:
                self._close(connection, reasons.SERVER_SHUTTING_DOWN, "stop", abort=False)
        return self._turn.finish()

    def kick(self, client_id: str, reason: int, now: float) -> list[Effect]:
        """End a client's connection; unknown clients are ignored."""
        session = self.sessions.get(client_id)
        if session is not None and session.connection is not None:
            self._end(session.connection, reason, "ended by the server", now)
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
