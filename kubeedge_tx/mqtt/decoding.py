"""Bodies of packets to values, both versions. PUBLISH and short answers have a faster way
in :mod:`.parser`.

Everything here raises :exc:`.MalformedPacket` or :exc:`.ProtocolError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kubeedge_tx.mqtt import packets as p
from kubeedge_tx.mqtt import properties, reasons, topics
from kubeedge_tx.mqtt.packets import V4, V5
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from kubeedge_tx.mqtt.reasons import (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_ID_NOT_VALID,
    UNSUPPORTED_PROTOCOL_VERSION,
    MalformedPacket,
    MqttError,
    ProtocolError,
)


class Body:
    """Reads one packet's body from the front."""

    __slots__ = ("at", "data", "end", "kind")

    def __init__(self, data: bytes, kind: int) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)
        self.kind = kind

    @property
    def is_empty(self) -> bool:
        """Nothing is left."""
        return self.at >= self.end

    def byte(self) -> int:
        """One byte."""
        if self.at >= self.end:
            raise MalformedPacket("a packet ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def two(self) -> int:
        """Two bytes as a number."""
        if self.at + 2 > self.end:
            raise MalformedPacket("a packet ends too early")
        self.at += 2
        return self.data[self.at - 2] << 8 | self.data[self.at - 1]

    def packet_id(self) -> int:
        """A packet identifier, which is never 0 [MQTT-2.2.1-3] (3.1.1: [MQTT-2.3.1-1])."""
        value = self.two()
        if not value:
            raise ProtocolError("a packet identifier is 0")
        return value

    def binary(self) -> bytes:
        """Length-prefixed bytes."""
        length = self.two()
        if self.at + length > self.end:
            raise MalformedPacket("a packet ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def text(self, what: str) -> str:
        """A length-prefixed UTF-8 string."""
        return topics.text(self.binary(), what)

    def properties(self, kind: int | None = None) -> Properties:
        """A property length and properties."""
        found, self.at = properties.read(
            self.data, self.at, self.end, self.kind if kind is None else kind
        )
        return found

    def rest(self) -> bytes:
        """All that is left."""
        at, self.at = self.at, self.end
        return self.data[at:]

    def finish(self) -> None:
        """Nothing may be left."""
        if self.at != self.end:
            raise MalformedPacket("a packet is longer than its content")


def connect(data: bytes) -> p.Connect:
    """Read a CONNECT; its ``version`` is 4 or 5.

    ``reason`` and ``version`` of the error are what a CONNACK says, and in which form.
    """
    body = Body(data, p.CONNECT)
    name, version = body.binary(), body.byte()
    if name != b"MQTT" or version not in (V4, V5):
        if name in (b"MQTT", b"MQIsdp"):
            error = ProtocolError(f"protocol version {version}", UNSUPPORTED_PROTOCOL_VERSION)
            error.version = version  # [MQTT-3.1.2-2]
            raise error
        raise MalformedPacket("CONNECT has another protocol's name")  # [MQTT-3.1.2-1]
    try:
        return _connect(body, version)
    except MqttError as error:
        error.version = version
        raise


def _connect(body: Body, version: int) -> p.Connect:
    flags, keep_alive = body.byte(), body.two()
    if flags & 1:
        raise MalformedPacket("CONNECT has its reserved flag set")  # [MQTT-3.1.2-3]
    has_will, will_qos, will_retain = flags & 4, flags >> 3 & 3, bool(flags & 0x20)
    if will_qos == 3:
        raise MalformedPacket("CONNECT has a will with QoS 3")
    if not has_will and (will_qos or will_retain):
        raise MalformedPacket("CONNECT has a will's QoS or retain flag and no will")
    if version == V4 and flags & 0x40 and not flags & 0x80:
        raise MalformedPacket("CONNECT has a password and no user name")  # [MQTT-3.1.2-22]
    found = body.properties() if version == V5 else NO_PROPERTIES
    client_id = body.text("client id")
    if not topics.is_plain(client_id):
        raise MalformedPacket("client id has a control character", CLIENT_ID_NOT_VALID)
    will = None
    if has_will:
        will_properties = body.properties(properties.WILL) if version == V5 else NO_PROPERTIES
        topic, payload = body.text("will topic"), body.binary()
        topics.check_name(topic)
        check_message(will_properties)
        will = p.Will(
            topic=topic,
            payload=payload,
            qos=will_qos,
            retain=will_retain,
            properties=will_properties,
        )
    username = body.text("user name") if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    body.finish()
    return p.Connect(
        client_id=client_id,
        version=version,
        clean_start=bool(flags & 2),
        keep_alive=keep_alive,
        will=will,
        username=username,
        password=password,
        properties=found,
    )


def check_message(found: Properties) -> None:
    """Refuse a response topic with wildcards [MQTT-3.3.2-14]."""
    if found.response_topic is not None:
        topics.check_name(found.response_topic)


def _connack(data: bytes, version: int) -> p.Connack:
    body = Body(data, p.CONNACK)
    flags, reason = body.byte(), body.byte()
    if flags > 1:
        raise MalformedPacket("CONNACK has reserved flags set")  # [MQTT-3.2.2-1]
    found = NO_PROPERTIES
    if version == V5:
        _known(reason, p.CONNACK)
        found = body.properties()
    else:
        if reason > 5:
            raise MalformedPacket("CONNACK has a return code that does not exist")
        reason = reasons.connack_from_v4(reason)
    body.finish()
    if flags and reason:
        raise ProtocolError("CONNACK refuses and has a session")  # [MQTT-3.2.2-6]
    return p.Connack(session_present=bool(flags), reason=reason, properties=found)


def _known(reason: int, kind: int) -> None:
    if reason not in reasons.ALLOWED[kind]:
        raise ProtocolError(f"packet type {kind} with reason {reason:#x}")


def publish(data: bytes, flags: int, version: int) -> p.Publish:
    """Read a PUBLISH.

    :param flags: the low four bits of its first byte.
    """
    body = Body(data, p.PUBLISH)
    qos = flags >> 1 & 3
    if qos == 3:
        raise MalformedPacket("PUBLISH with QoS 3")  # [MQTT-3.3.1-4]
    if not qos and flags & 8:
        raise MalformedPacket("PUBLISH with QoS 0 and the DUP flag")  # [MQTT-3.3.1-2]
    topic = body.text("topic name")
    packet_id = body.packet_id() if qos else 0
    found = body.properties() if version == V5 else NO_PROPERTIES
    if topic or found.topic_alias is None:
        topics.check_name(topic)
    check_message(found)
    return p.Publish(topic, body.rest(), qos, bool(flags & 1), bool(flags & 8), packet_id, found)


_ACKS: Final[dict[int, Callable[[int, int, Properties], p.Ack]]] = {
    4: p.Puback,
    5: p.Pubrec,
    6: p.Pubrel,
    7: p.Pubcomp,
}


def _ack(data: bytes, kind: int, version: int) -> p.Ack:
    body = Body(data, kind)
    packet_id, reason, found = body.packet_id(), 0, NO_PROPERTIES
    if version == V5 and not body.is_empty:
        reason = body.byte()
        _known(reason, kind)
        if not body.is_empty:
            found = body.properties()
    body.finish()
    return _ACKS[kind](packet_id, reason, found)


def _subscribe(data: bytes, version: int) -> p.Subscribe:
    body = Body(data, p.SUBSCRIBE)
    packet_id = body.packet_id()
    found = body.properties() if version == V5 else NO_PROPERTIES
    wanted: list[p.Subscription] = []
    while not body.is_empty:
        topic_filter, options = body.text("topic filter"), body.byte()
        share, _ = topics.split_share(topic_filter)
        qos = options & 3
        if qos == 3:
            raise MalformedPacket("SUBSCRIBE with QoS 3")
        if version == V4:
            if options > 2:
                raise MalformedPacket("SUBSCRIBE has reserved bits set")  # [MQTT-3.8.3-4]
            wanted.append(p.Subscription(topic_filter, qos))
            continue
        handling = options >> 4 & 3
        if options & 0xC0:
            raise MalformedPacket("SUBSCRIBE has reserved bits set")  # [MQTT-3.8.3-5]
        if handling == 3:
            raise ProtocolError("SUBSCRIBE with retain handling 3")
        if share and options & 4:
            raise ProtocolError("a shared subscription with no local")  # [MQTT-3.8.3-4]
        wanted.append(
            p.Subscription(topic_filter, qos, bool(options & 4), bool(options & 8), handling)
        )
    if not wanted:
        raise ProtocolError("SUBSCRIBE without a filter")  # [MQTT-3.8.3-2]
    return p.Subscribe(packet_id=packet_id, subscriptions=tuple(wanted), properties=found)


def _suback(data: bytes, version: int) -> p.Suback:
    body = Body(data, p.SUBACK)
    packet_id = body.packet_id()
    found = body.properties() if version == V5 else NO_PROPERTIES
    codes = tuple(body.rest())
    allowed = reasons.ALLOWED[p.SUBACK] if version == V5 else reasons.SUBACK_V4
    if not codes or not allowed.issuperset(codes):
        raise ProtocolError("SUBACK without reasons, or with one that does not exist")
    return p.Suback(packet_id=packet_id, reasons=codes, properties=found)


def _unsubscribe(data: bytes, version: int) -> p.Unsubscribe:
    body = Body(data, p.UNSUBSCRIBE)
    packet_id = body.packet_id()
    found = body.properties() if version == V5 else NO_PROPERTIES
    filters: list[str] = []
    while not body.is_empty:
        topic_filter = body.text("topic filter")
        topics.split_share(topic_filter)
        filters.append(topic_filter)
    if not filters:
        raise ProtocolError("UNSUBSCRIBE without a filter")  # [MQTT-3.10.3-2]
    return p.Unsubscribe(packet_id=packet_id, filters=tuple(filters), properties=found)


def _unsuback(data: bytes, version: int) -> p.Unsuback:
    body = Body(data, p.UNSUBACK)
    packet_id, found = body.packet_id(), NO_PROPERTIES
    codes: tuple[int, ...] = ()
    if version == V5:
        found = body.properties()
        codes = tuple(body.rest())
        if not codes or not reasons.ALLOWED[p.UNSUBACK].issuperset(codes):
            raise ProtocolError("UNSUBACK without reasons, or with one that does not exist")
    body.finish()
    return p.Unsuback(packet_id=packet_id, reasons=codes, properties=found)


def _disconnect(data: bytes, version: int, *, from_client: bool) -> p.Disconnect:
    body = Body(data, p.DISCONNECT)
    reason, found = 0, NO_PROPERTIES
    if version == V5 and not body.is_empty:
        reason = body.byte()
        allowed = reasons.DISCONNECT_FROM_CLIENT if from_client else reasons.DISCONNECT_FROM_SERVER
        if reason not in allowed:
            raise ProtocolError(f"DISCONNECT with reason {reason:#x}")
        if not body.is_empty:
            found = body.properties()
    body.finish()
    if found.session_expiry is not None and not from_client:
        raise ProtocolError("a server's DISCONNECT with a session expiry")  # [MQTT-3.14.2-2]
    return p.Disconnect(reason=reason, properties=found)


def _auth(data: bytes) -> p.Auth:
    body = Body(data, p.AUTH)
    reason, found = 0, NO_PROPERTIES
    if not body.is_empty:
        reason = body.byte()
        _known(reason, p.AUTH)
        if not body.is_empty:
            found = body.properties()
        body.finish()
    if reason and found.authentication_method is None:
        raise ProtocolError("AUTH without a method", BAD_AUTHENTICATION_METHOD)
    return p.Auth(reason=reason, properties=found)


_FLAGS: Final = {p.PUBREL: 2, p.SUBSCRIBE: 2, p.UNSUBSCRIBE: 2}
_FROM_CLIENT: Final = frozenset((1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15))
_FROM_SERVER: Final = frozenset((2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 15))


def decode(head: int, data: bytes, version: int, *, from_client: bool) -> p.Packet:
    """Read one packet.

    :param head: its first byte.
    :param data: what follows the remaining length.
    :param version: 4 or 5; a CONNECT brings its own.
    :param from_client: who sent it; decides which packets there are.
    :raises MalformedPacket: and nothing else, or
    :raises ProtocolError: see there.
    """
    kind, flags = head >> 4, head & 15
    if kind not in (_FROM_CLIENT if from_client else _FROM_SERVER):
        if 0 < kind < 15 or (kind == 15 and version == V5):
            raise ProtocolError(f"packet type {kind} goes the other way")
        raise MalformedPacket(f"packet type {kind}")
    if kind == p.PUBLISH:
        return publish(data, flags, version)
    if flags != _FLAGS.get(kind, 0):
        raise MalformedPacket(f"packet type {kind} with flags {flags:#x}")  # [MQTT-2.1.3-1]
    if kind in _ACKS:
        return _ack(data, kind, version)
    match kind:
        case p.CONNECT:
            return connect(data)
        case p.CONNACK:
            return _connack(data, version)
        case p.SUBSCRIBE:
            return _subscribe(data, version)
        case p.SUBACK:
            return _suback(data, version)
        case p.UNSUBSCRIBE:
            return _unsubscribe(data, version)
        case p.UNSUBACK:
            return _unsuback(data, version)
        case p.DISCONNECT:
            return _disconnect(data, version, from_client=from_client)
        case p.AUTH if version == V5:
            return _auth(data)
        case p.AUTH:
            raise MalformedPacket("AUTH in MQTT 3.1.1")
    if data:
        raise MalformedPacket("a ping with content")
    return p.Pingreq() if kind == p.PINGREQ else p.Pingresp()
