"""What the packets of an open connection do."""

from __future__ import annotations

from collections import deque

from kubeedge_tx.mqtt import encoding, reasons, topics
from kubeedge_tx.mqtt.acl import Access
from kubeedge_tx.mqtt.connection import OPEN, Answer, Connection
from kubeedge_tx.mqtt.effects import Pause, Resume, Turn
from kubeedge_tx.mqtt.limits import Counters, Limits
from kubeedge_tx.mqtt.message import Message, forwarded
from kubeedge_tx.mqtt.packets import (
    V5,
    Publish,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from kubeedge_tx.mqtt.properties import NO_PROPERTIES
from kubeedge_tx.mqtt.reasons import ProtocolError
from kubeedge_tx.mqtt.records import (
    IncomingDrop,
    IncomingPut,
    SubscriptionDrop,
    SubscriptionPut,
)
from kubeedge_tx.mqtt.routing import Router
from kubeedge_tx.mqtt.session import Session
from kubeedge_tx.mqtt.subscriptions import Options

_PUBACK = 0x40
_PUBREC = 0x50
_PUBCOMP = 0x70
_WRITES = 1024
"""Topics for which the access list's answer is remembered."""


class Dialog:
    """Acts on the packets of clients that were let in.

    Each method raises :exc:`.MqttError` if the connection must end.
    """

    __slots__ = ("_access", "_counters", "_limits", "_router", "_turn")

    def __init__(
        self,
        limits: Limits,
        router: Router,
        turn: Turn,
        counters: Counters,
        access: Access | None,
    ) -> None:
        self._limits = limits
        self._router = router
        self._turn = turn
        self._counters = counters
        self._access = access

    def publish(self, connection: Connection, packet: Publish, now: float) -> None:
        """A client published."""
        self._counters.received += 1
        session = connection.session
        assert session is not None
        topic, found, qos, expires = packet.topic, packet.properties, packet.qos, None
        if found is not NO_PROPERTIES:
            if found.subscription_ids:  # [MQTT-3.3.4-6]
                raise ProtocolError("a client's PUBLISH with a subscription identifier")
            if found.topic_alias is not None:
                assert connection.aliases_in is not None
                topic = connection.aliases_in.resolve(topic, found.topic_alias)
            if found.message_expiry is not None:
                expires = now + found.message_expiry
            found = forwarded(found)
        if qos:
            if not connection.credit and connection.version == V5:
                raise ProtocolError(
                    f"more than {self._limits.receive_maximum} messages unacknowledged",
                    reasons.RECEIVE_MAXIMUM_EXCEEDED,
                )
            if qos == 2 and session.incoming and packet.packet_id in session.incoming:
                # Sent again; it was passed on already [MQTT-4.3.3-10].
                connection.credit -= 1
                data = encoding.short_ack(_PUBREC, packet.packet_id)
                self._answer(Answer(connection, session, data, _PUBREC, packet.packet_id))
                return
        message = Message(
            topic, packet.payload, qos, packet.retain, found, expires, session.client_id
        )
        reason = self._refusal(connection, session, message)
        if reason and (not qos or connection.version != V5):
            # QoS 0 has no answer, and 3.1.1 has none that says no [MQTT-3.3.5-2].
            if not qos:
                return
            self._acknowledge(connection, session, packet, 0)
        elif reason:
            self._acknowledge(connection, session, packet, reason)
        else:
            self._route(connection, session, packet, message, now)

    def _refusal(self, connection: Connection, session: Session, message: Message) -> int:
        """Why a message may not be published; 0 if it may."""
        if message.topic[:1] == "$" and self._is_ours(message.topic):
            self._counters.denied_publish += 1
            return reasons.NOT_AUTHORIZED
        if self._access is not None and not self.may_write(connection, session, message.topic):
            self._counters.denied_publish += 1
            return reasons.NOT_AUTHORIZED
        if (
            message.retain
            and message.qos
            and connection.version == V5
            and message.payload
            and not self._router.retained.has_room(message)
        ):
            self._counters.retained_refused += 1
            return reasons.QUOTA_EXCEEDED
        return 0

    def _is_ours(self, topic: str) -> bool:
        prefix = self._limits.sys_prefix
        return topic == prefix or topic.startswith(prefix + "/")

    def may_write(self, connection: Connection, session: Session, topic: str) -> bool:
        """Ask the access list whether a client may publish to a topic."""
        if self._access is None:
            return True
        known = connection.may_write.get(topic) if connection.may_write is not None else None
        if known is None:
            known = self._access.allows(session.user, session.client_id, topic, True)
            if connection.may_write is None or len(connection.may_write) >= _WRITES:
                connection.may_write = {}
            connection.may_write[topic] = known
        return known

    def may_publish_will(self, session: Session, topic: str) -> bool:
        """The same for a will, whose client is gone."""
        if self._is_ours(topic):
            return False
        return self._access is None or self._access.allows(
            session.user, session.client_id, topic, True
        )

    def _route(
        self,
        connection: Connection,
        session: Session,
        packet: Publish,
        message: Message,
        now: float,
    ) -> None:
        qos = message.qos
        if not qos:
            if not self._router.locals:
                self._router.publish(message, session, now, None)
                return
            answer = Answer(connection, session, b"", 0, 0)
            self._router.publish(message, session, now, answer)
            if answer.remaining:
                self._answer(answer)
            return
        operations = self._turn.journal.operations
        before = len(operations)
        head = _PUBACK
        if qos == 2:
            head = _PUBREC
            if session.incoming is None:
                session.incoming = set()
            session.incoming.add(packet.packet_id)
            if session.is_durable:
                operations.append(IncomingPut(session.client_id, packet.packet_id))
            connection.credit -= 1
        answer = Answer(connection, session, b"", head, packet.packet_id)
        is_matched = self._router.publish(message, session, now, answer)
        if len(operations) > before:
            answer.remaining += 1
            self._turn.tickets.append(answer)
        if is_matched or connection.version != V5:
            answer.data = encoding.short_ack(head, packet.packet_id)
        else:
            answer.data = encoding.ack(head, packet.packet_id, V5, reasons.NO_MATCHING_SUBSCRIBERS)
        if qos == 1 and (answer.remaining or connection.answers):
            connection.credit -= 1
        self._answer(answer)

    def _acknowledge(
        self, connection: Connection, session: Session, packet: Publish, reason: int
    ) -> None:
        """Answer a message that goes nowhere."""
        head = _PUBACK if packet.qos == 1 else _PUBREC
        if packet.qos == 2 and reason < 0x80:
            if session.incoming is None:
                session.incoming = set()
            session.incoming.add(packet.packet_id)
        connection.credit -= 1
        data = encoding.ack(head, packet.packet_id, connection.version, reason)
        answer = Answer(connection, session, data, head if reason < 0x80 else _PUBACK, 0)
        if not connection.answers:
            self._write(answer, was_counted=True)
        else:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        """Write an answer now, or in its turn [MQTT-4.6.0-2] [MQTT-4.6.0-3]."""
        connection = answer.connection
        waiting = connection.answers
        if not answer.remaining and not waiting:
            self._write(answer, was_counted=answer.head != _PUBACK)
            return
        if waiting is None:
            waiting = connection.answers = deque()
        waiting.append(answer)
        if len(waiting) >= self._limits.receive_maximum and not connection.is_paused:
            connection.is_paused = True
            self._turn.add(Pause(connection))

    def _write(self, answer: Answer, *, was_counted: bool) -> None:
        connection = answer.connection
        if answer.data:
            connection.write(answer.data)
        if was_counted and answer.head in (_PUBACK, _PUBCOMP):
            connection.credit = min(connection.credit + 1, self._limits.receive_maximum)

    def answered(self, answer: Answer, now: float) -> None:
        """All that an answer waited for is done, or failed."""
        connection, session = answer.connection, answer.session
        if answer.failed:
            if answer.head == _PUBREC and session.incoming:
                session.incoming.discard(answer.packet_id)
                if session.is_durable:
                    self._turn.journal.operations.append(
                        IncomingDrop(session.client_id, answer.packet_id)
                    )
            if connection.state == OPEN and answer.data:
                if connection.version != V5 or answer.head not in (_PUBACK, _PUBREC):
                    raise ProtocolError(
                        "what it asked for could not be stored", reasons.UNSPECIFIED_ERROR
                    )
                answer.data = encoding.ack(
                    answer.head, answer.packet_id, V5, reasons.UNSPECIFIED_ERROR
                )
                answer.head = _PUBACK
        waiting = connection.answers
        if connection.state != OPEN or waiting is None:
            return
        while waiting and not waiting[0].remaining:
            self._write(waiting.popleft(), was_counted=True)
        if connection.is_paused and len(waiting) <= self._limits.receive_maximum // 2:
            connection.is_paused = False
            connection.last_received = now
            self._turn.add(Resume(connection))
        if not waiting:
            connection.answers = None

    def release(self, connection: Connection, packet: Pubrel, now: float) -> None:
        """A client forgot a QoS 2 message [MQTT-4.3.3-11]."""
        session = connection.session
        assert session is not None
        packet_id = packet.packet_id
        if not session.incoming or packet_id not in session.incoming:
            data = encoding.ack(
                _PUBCOMP, packet_id, connection.version, reasons.PACKET_ID_NOT_FOUND
            )
            self._answer(Answer(connection, session, data, 0, packet_id))
            return
        session.incoming.discard(packet_id)
        if not session.incoming:
            session.incoming = None
        data = encoding.short_ack(_PUBCOMP, packet_id)
        answer = Answer(connection, session, data, _PUBCOMP, packet_id)
        if session.is_durable:
            self._turn.journal.operations.append(IncomingDrop(session.client_id, packet_id))
            self._turn.tickets.append(answer)
            answer.remaining = 1
        self._answer(answer)

    def subscribe(self, connection: Connection, packet: Subscribe, now: float) -> None:
        """A client asks for topics; one answer for each, in order [MQTT-3.8.4-6]."""
        session = connection.session
        assert session is not None
        identifiers = packet.properties.subscription_ids
        identifier = identifiers[0] if identifiers else 0
        codes: list[int] = []
        greetings: list[Options] = []
        operations = self._turn.journal.operations
        before = len(operations)
        for wanted in packet.subscriptions:
            code = self._subscribe_one(session, wanted, identifier, greetings)
            codes.append(code if code < 0x80 or connection.version == V5 else 0x80)
        data = encoding.encode(
            Suback(packet_id=packet.packet_id, reasons=tuple(codes)), connection.version
        )
        self._answer_stored(connection, session, data, len(operations) > before)
        for options in greetings:
            self._router.greet(session, options, now)

    def _subscribe_one(
        self,
        session: Session,
        wanted: Subscription,
        identifier: int,
        greetings: list[Options],
    ) -> int:
        is_new = wanted.filter not in session.subscriptions
        if is_new and len(session.subscriptions) >= self._limits.max_subscriptions:
            return reasons.QUOTA_EXCEEDED
        share, topic_filter = topics.split_share(wanted.filter)
        options = Options(
            topic_filter,
            wanted.qos,
            wanted.no_local,
            wanted.retain_as_published,
            wanted.retain_handling,
            identifier,
        )
        session.subscriptions[wanted.filter] = (share, options)
        self._router.tree.add(share, session, options)
        if session.is_durable:
            self._turn.journal.operations.append(
                SubscriptionPut(
                    session.client_id,
                    filter=wanted.filter,
                    qos=wanted.qos,
                    no_local=wanted.no_local,
                    retain_as_published=wanted.retain_as_published,
                    retain_handling=wanted.retain_handling,
                    identifier=identifier,
                )
            )
        if not share and (not wanted.retain_handling or (wanted.retain_handling == 1 and is_new)):
            greetings.append(options)
        return wanted.qos

    def unsubscribe(self, connection: Connection, packet: Unsubscribe) -> None:
        """A client asks for topics no more [MQTT-3.10.4-1]."""
        session = connection.session
        assert session is not None
        codes: list[int] = []
        operations = self._turn.journal.operations
        before = len(operations)
        for topic_filter in packet.filters:
            held = session.subscriptions.pop(topic_filter, None)
            if held is None:
                codes.append(reasons.NO_SUBSCRIPTION_EXISTED)
                continue
            codes.append(reasons.SUCCESS)
            self._router.tree.remove(held[0], session, held[1].filter)
            if session.is_durable:
                operations.append(SubscriptionDrop(session.client_id, topic_filter))
        data = encoding.encode(
            Unsuback(packet_id=packet.packet_id, reasons=tuple(codes)), connection.version
        )
        self._answer_stored(connection, session, data, len(operations) > before)

    def _answer_stored(
        self, connection: Connection, session: Session, data: bytes, waits: bool
    ) -> None:
        answer = Answer(connection, session, data, 0, 0)
        if waits:
            answer.remaining = 1
            self._turn.tickets.append(answer)
        self._answer(answer)
