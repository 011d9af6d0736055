"""A client's half of MQTT, without I/O. One object lives through all its connections."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from kubeedge_tx.errors import NotConnected
from kubeedge_tx.mqtt import encoding, reasons, topics
from kubeedge_tx.mqtt.aliases import AliasesIn, AliasesOut
from kubeedge_tx.mqtt.clienteffects import (
    ClientEffect,
    ClientOptions,
    Completed,
    Ended,
    Failed,
    Opened,
    Received,
    Refused,
    Shut,
    Token,
    Write,
)
from kubeedge_tx.mqtt.journal import QUEUED, RELEASED, Item
from kubeedge_tx.mqtt.limits import Counters
from kubeedge_tx.mqtt.message import Message, forwarded
from kubeedge_tx.mqtt.outflow import Outflow
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from kubeedge_tx.mqtt.reasons import MqttError, ProtocolError
from kubeedge_tx.mqtt.sink import Sink

_PING_WAIT: Final = 10.0
"""Seconds a broker has to answer a ping; less if the keep alive is shorter."""
_ALIASES: Final = 32
"""Topic aliases we set, if the broker allows that many."""


_HANDLING: Final = 0
_TAKEN: Final = 1


class _Waiting:
    """An acknowledgement that leaves in its turn [MQTT-4.6.0-2] [MQTT-4.6.0-3]."""

    __slots__ = ("data", "packet_id")

    def __init__(self, packet_id: int, data: bytes = b"") -> None:
        self.packet_id = packet_id
        self.data = data


class ClientState:
    """Session and connection of one client.

    Methods return effects to be carried out in order; they are not re-entrant. ``now`` is
    seconds on a clock that the caller keeps to.
    """

    def __init__(self, options: ClientOptions) -> None:
        self.options = options
        self.counters = Counters()
        self.is_open = False
        """The broker has let us in."""
        self.connack: Connack | None = None
        self._effects: list[ClientEffect] = []
        self._dirty: list[Sink] = []
        self._sink = Sink(self._dirty)
        self._parser: Parser | None = None
        self._flow = Outflow(
            options.client_id,
            self.counters,
            max_messages=options.max_queued,
            max_bytes=options.max_queued_bytes,
            keep_qos0=False,
            done=self._done,
        )
        self._flow.reserved = set()
        self._tokens: dict[Item, Token] = {}
        self._asked: dict[int, Token] = {}
        self._incoming: dict[int, int] = {}
        self._waiting: deque[_Waiting] = deque()
        self._unacknowledged = 0
        self._connections = 0
        self._clean = options.clean_start
        self._aliases_in = AliasesIn(options.topic_alias_maximum)
        self._keep_alive = options.keep_alive
        self._last_sent = self._last_received = 0.0
        self._ping_sent: float | None = None

    def __len__(self) -> int:
        """Messages of QoS 1 and 2 that the broker has not acknowledged."""
        return len(self._flow)

    def opened(self, now: float) -> list[ClientEffect]:
        """There is a connection: send CONNECT [MQTT-3.1.0-1]."""
        options = self.options
        is_v5 = options.version == V5
        clean = options.clean_start
        if is_v5 and self._connections and options.session_expiry:
            clean = False
        self._connections += 1
        self._parser = Parser(
            options.maximum_packet_bytes, from_client=False, version=options.version
        )
        self._sink = Sink(self._dirty)
        self._sink.version = options.version
        self._aliases_in = AliasesIn(options.topic_alias_maximum)
        self._keep_alive = options.keep_alive
        self._last_received = now
        self._ping_sent = None
        properties = NO_PROPERTIES
        if is_v5:
            properties = Properties(
                session_expiry=options.session_expiry or None,
                receive_maximum=options.receive_maximum,
                maximum_packet_size=options.maximum_packet_bytes,
                topic_alias_maximum=options.topic_alias_maximum or None,
                user=options.user_properties,
            )
        packet = Connect(
            client_id=options.client_id,
            version=options.version,
            clean_start=clean,
            keep_alive=options.keep_alive,
            will=options.will,
            username=options.username,
            password=options.password,
            properties=properties,
        )
        self._sink.write(encoding.encode(packet, options.version))
        self._clean = clean
        return self._finish(now)

    def receive(self, data: bytes, now: float) -> list[ClientEffect]:
        """Bytes came from the broker."""
        parser = self._parser
        if parser is None:
            return []
        try:
            for packet in parser.feed(data):
                self._last_received = now
                self._packet(packet, now)
                if self._parser is None:
                    break
            while self._flow.pump(now):
                pass
            if parser.error is not None and self._parser is not None:
                raise parser.error
        except MqttError as error:
            self._break_off(error)
        return self._finish(now)

    def lost(self, now: float) -> list[ClientEffect]:
        """The connection is gone."""
        self._leave("the connection was lost")
        return self._finish(now)

    def _leave(self, text: str) -> None:
        self.is_open = False
        self._parser = None
        self._flow.detach()
        self._waiting.clear()
        self._unacknowledged = 0
        for packet_id in [each for each, state in self._incoming.items() if state == _HANDLING]:
            del self._incoming[packet_id]
        asked, self._asked = self._asked, {}
        assert self._flow.reserved is not None
        self._flow.reserved.clear()
        for token in asked.values():
            self._effects.append(Failed(token, text))

    def tick(self, now: float) -> list[ClientEffect]:
        """Send a ping if it is time [MQTT-3.1.2-20]; notice a broker that is gone."""
        if self.is_open and self._keep_alive:
            if self._ping_sent is not None:
                if now - self._ping_sent > min(_PING_WAIT, self._keep_alive):
                    self._shut(reasons.KEEP_ALIVE_TIMEOUT, "the broker does not answer pings")
            elif now - min(self._last_sent, self._last_received) >= self._keep_alive * 0.75:
                self._ping_sent = now
                self._sink.write(encoding.PINGREQ)
        return self._finish(now)

    def disconnect(
        self, now: float, reason: int = 0, properties: Properties = NO_PROPERTIES
    ) -> list[ClientEffect]:
        """Say goodbye [MQTT-3.14.4-1]; with reason 0 the broker forgets our will."""
        if self._parser is not None:
            if self.is_open:
                packet = Disconnect(reason=reason, properties=properties)
                self._sink.write(encoding.encode(packet, self.options.version))
            self._shut(reason, "we leave")
        return self._finish(now)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        now: float,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> tuple[Token, list[ClientEffect]]:
        """Publish. QoS 1 and 2 wait for a connection if there is none.

        :raises MqttError: the topic is not valid, or the broker said that it does not take
            this QoS, or retained messages.
        :raises NotConnected: with QoS 0, and there is no connection.
        """
        topics.check_name(topic)
        given = self.connack.properties if self.connack is not None else NO_PROPERTIES
        if given.maximum_qos is not None and qos > given.maximum_qos:  # [MQTT-3.2.2-11]
            raise ProtocolError(f"QoS {qos} to this broker", reasons.QOS_NOT_SUPPORTED)
        if retain and given.retain_available == 0:  # [MQTT-3.2.2-14]
            raise ProtocolError("retained to this broker", reasons.RETAIN_NOT_SUPPORTED)
        if not qos and not self.is_open:
            raise NotConnected(f"no connection for a message of QoS 0 on {topic}")
        expiry = properties.message_expiry
        message = Message(
            topic,
            payload,
            qos,
            retain,
            forwarded(properties),
            None if expiry is None else now + expiry,
        )
        token = Token()
        if not qos:
            before = self.counters.sent
            self._flow.offer(message, 0, retain, (), now)
            if self.counters.sent != before:
                self._effects.append(Completed(token, (0,)))
            else:
                self._effects.append(Failed(token, "it is too large, or has expired"))
            return token, self._finish(now)
        # Sent within offer() it may be dropped there, before it has a token.
        dropped = self.counters.dropped_too_large + self.counters.dropped_expired
        item = self._flow.offer(message, qos, retain, (), now)
        if item is None:
            self._effects.append(Failed(token, "too many messages wait"))
        elif dropped != self.counters.dropped_too_large + self.counters.dropped_expired:
            self._effects.append(Failed(token, "it is too large, or has expired"))
        else:
            self._tokens[item] = token
        return token, self._finish(now)

    def _done(self, item: Item, reason: int | None) -> None:
        token = self._tokens.pop(item, None)
        if token is None:
            return
        if reason is None:
            self._effects.append(Failed(token, "it was dropped: too large, expired, too old"))
        else:
            self._effects.append(Completed(token, (reason,)))

    def subscribe(
        self, subscriptions: Sequence[Subscription], *, now: float, identifier: int = 0
    ) -> tuple[Token, list[ClientEffect]]:
        """Subscribe [MQTT-3.8.3-2].

        :raises NotConnected: there is no connection.
        :raises MqttError: a filter is not valid.
        """
        for each in subscriptions:
            topics.split_share(each.filter)
        properties = Properties(subscription_ids=(identifier,)) if identifier else NO_PROPERTIES
        packet_id, token = self._ask()
        packet = Subscribe(
            packet_id=packet_id, subscriptions=tuple(subscriptions), properties=properties
        )
        self._sink.write(encoding.encode(packet, self.options.version))
        return token, self._finish(now)

    def unsubscribe(
        self, filters: Sequence[str], *, now: float
    ) -> tuple[Token, list[ClientEffect]]:
        """Unsubscribe.

        :raises NotConnected: there is no connection.
        :raises MqttError: a filter is not valid.
        """
        for each in filters:
            topics.split_share(each)
        packet_id, token = self._ask()
        packet = Unsubscribe(packet_id=packet_id, filters=tuple(filters))
        self._sink.write(encoding.encode(packet, self.options.version))
        return token, self._finish(now)

    def _ask(self) -> tuple[int, Token]:
        if not self.is_open:
            raise NotConnected("no connection to the broker")
        packet_id = self._flow.take_id()
        assert self._flow.reserved is not None
        self._flow.reserved.add(packet_id)
        token = self._asked[packet_id] = Token()
        return packet_id, token

    def acknowledge(self, received: Received, now: float, reason: int = 0) -> list[ClientEffect]:
        """A message of QoS 1 or 2 is dealt with.

        :param reason: from 0x80 on, MQTT 5: it was not, and shall not come again.
        """
        packet_id = received.packet_id
        if received.connection != self._connections or not self.is_open:
            # Its connection is gone. The broker sends it again: QoS 2 needs no second look.
            if received.qos == 2 and reason < 0x80:
                self._incoming.setdefault(packet_id, _TAKEN)
            return []
        head = 0x40 if received.qos == 1 else 0x50
        data = encoding.ack(head, packet_id, self.options.version, reason)
        if received.qos == 2:
            if reason < 0x80:
                self._incoming[packet_id] = _TAKEN
            else:
                self._incoming.pop(packet_id, None)
        for each in self._waiting:
            if each.packet_id == packet_id and not each.data:
                each.data = data
                break
        while self._waiting and self._waiting[0].data:
            data = self._waiting.popleft().data
            self._sink.write(data)
            if data[0] == 0x40 or (len(data) > 4 and data[4] >= 0x80):
                self._unacknowledged -= 1
        return self._finish(now)

    def _finish(self, now: float) -> list[ClientEffect]:
        out: list[ClientEffect] = []
        for sink in self._dirty:
            self._last_sent = now
            out.append(Write(sink.out))
            sink.out = []
        self._dirty.clear()
        out += self._effects
        self._effects.clear()
        return out

    def _shut(self, reason: int, text: str) -> None:
        self._effects.append(Shut(reason, text))
        self._leave(text)

    def _break_off(self, error: MqttError) -> None:
        """The broker broke the protocol [MQTT-4.13.1-1]."""
        if self.options.version == V5 and self.is_open:
            reason = error.reason
            if reason not in reasons.DISCONNECT_FROM_CLIENT:
                reason = reasons.PROTOCOL_ERROR
            self._sink.write(encoding.encode(Disconnect(reason=reason), V5))
        self._shut(error.reason, str(error))

    def _packet(self, packet: Packet, now: float) -> None:
        if not self.is_open:
            if not isinstance(packet, Connack):
                raise ProtocolError("a packet before CONNACK")  # [MQTT-3.2.0-1]
            self._connack(packet, now)
            return
        match packet:
            case Publish():
                self._publish(packet, now)
            case Puback():
                self._flow.acknowledged(packet.packet_id, packet.reason, now)
            case Pubrec():
                self._flow.received(packet.packet_id, packet.reason, now)
            case Pubrel():
                self._release(packet)
            case Pubcomp():
                self._flow.completed(packet.packet_id, packet.reason, now)
            case Suback() | Unsuback():
                self._answered(packet.packet_id, packet.reasons)
            case Pingresp():
                self._ping_sent = None
            case Disconnect():
                text = packet.properties.reason_string or f"reason {packet.reason:#x}"
                self._effects.append(Ended(packet.reason, text))
                self._shut(packet.reason, text)
            case Connack():
                raise ProtocolError("a second CONNACK")  # [MQTT-3.2.0-2]
            case Auth():
                raise ProtocolError("AUTH, and we named no authentication method")
            case _:
                raise ProtocolError("a packet that brokers do not send")

    def _connack(self, packet: Connack, now: float) -> None:
        found = packet.properties
        if packet.reason:
            text = found.reason_string or f"reason {packet.reason:#x}"
            self._effects.append(Refused(packet.reason, text))
            self._shut(packet.reason, text)
            return
        if packet.session_present and self._clean:
            raise ProtocolError("a session is present that we asked not to have")
        self.is_open = True
        self.connack = packet
        if found.server_keep_alive is not None:
            self._keep_alive = found.server_keep_alive  # [MQTT-3.1.2-21]
        sink = self._sink
        if self.options.version == V5:
            aliases = min(found.topic_alias_maximum or 0, _ALIASES)
            sink.aliases = AliasesOut(aliases) if aliases else None
            sink.max_packet_bytes = found.maximum_packet_size or 0
            sink.is_plain = not aliases and not sink.max_packet_bytes
        self._effects.append(Opened(packet))
        if not packet.session_present:
            self._forget()
        window = self.options.max_inflight
        if self.options.version != V4:
            window = min(window, found.receive_maximum or window)
        while self._flow.attach(sink, window, now):
            pass

    def _forget(self) -> None:
        """The broker has no session of ours: ours is over, too [MQTT-3.2.2-5].

        QoS 1 goes out as if it had never been sent; of QoS 2 nobody knows.
        """
        self._incoming.clear()
        flow = self._flow
        again: list[Item] = []
        for item in tuple(flow.inflight.values()):
            if item.qos == 1:
                item.packet_id, item.state = 0, QUEUED
                again.append(item)
            elif item.state == RELEASED:
                self._done(item, reasons.SUCCESS)
            elif (token := self._tokens.pop(item, None)) is not None:
                self._effects.append(Failed(token, "the broker lost the session meanwhile"))
        flow.inflight.clear()
        flow.requeue(again)

    def _answered(self, packet_id: int, codes: tuple[int, ...]) -> None:
        token = self._asked.pop(packet_id, None)
        if token is None:
            raise ProtocolError("an answer to nothing we asked")
        assert self._flow.reserved is not None
        self._flow.reserved.discard(packet_id)
        self._effects.append(Completed(token, codes or (0,)))

    def _publish(self, packet: Publish, now: float) -> None:
        found, topic, qos = packet.properties, packet.topic, packet.qos
        if found.topic_alias is not None:
            topic = self._aliases_in.resolve(topic, found.topic_alias)
        if qos:
            state = self._incoming.get(packet.packet_id) if qos == 2 else None
            self._unacknowledged += 1
            if self.options.version == V5 and self._unacknowledged > self.options.receive_maximum:
                raise ProtocolError(
                    "the broker sent more than our receive maximum",
                    reasons.RECEIVE_MAXIMUM_EXCEEDED,
                )
            if state == _TAKEN:  # we have it, and say so again [MQTT-4.3.3-10]
                data = encoding.short_ack(0x50, packet.packet_id)
                if self._waiting:
                    self._waiting.append(_Waiting(packet.packet_id, data))
                else:
                    self._sink.write(data)
                return
            if state == _HANDLING:
                self._unacknowledged -= 1
                return
            if qos == 2:
                self._incoming[packet.packet_id] = _HANDLING
            self._waiting.append(_Waiting(packet.packet_id))
        expiry = found.message_expiry
        message = Message(
            topic,
            packet.payload,
            qos,
            packet.retain,
            found,
            None if expiry is None else now + expiry,
        )
        self.counters.received += 1
        self._effects.append(
            Received(
                message=message,
                qos=qos,
                retain=packet.retain,
                dup=packet.dup,
                packet_id=packet.packet_id,
                subscription_ids=found.subscription_ids,
                connection=self._connections,
            )
        )

    def _release(self, packet: Pubrel) -> None:
        """The broker forgot a QoS 2 message [MQTT-4.3.3-11]."""
        reason = 0
        if self._incoming.pop(packet.packet_id, None) is None:
            reason = reasons.PACKET_ID_NOT_FOUND
        elif self._unacknowledged:
            self._unacknowledged -= 1
        data = encoding.ack(0x70, packet.packet_id, self.options.version, reason)
        self._sink.write(data)
