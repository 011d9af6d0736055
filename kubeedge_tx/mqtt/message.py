"""An application message, and its bytes on the wire, made once for all who get the same."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.mqtt.packets import V5
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties, write_body, write_varint
from kubeedge_tx.mqtt.records import MessageRecord, pack_properties, unpack_properties

_OVERHEAD: Final = 64
"""Bytes a message counts for beyond topic and payload."""


class Message:
    """One message on its way through the broker or the client.

    :param properties: those that are passed on; see :func:`forwarded`.
    :param expires: when nobody new may get it any more, on the scale of ``now``.
    :param publisher: client id of who sent it.
    """

    __slots__ = (
        "_block",
        "_name",
        "_wire",
        "expires",
        "number",
        "payload",
        "properties",
        "publisher",
        "qos",
        "retain",
        "size",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        expires: float | None = None,
        publisher: str = "",
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires = expires
        self.publisher = publisher
        self.number = 0
        """What records know it by; 0 as long as none does."""
        self.size = len(payload) + len(topic) + _OVERHEAD
        self._name: bytes | None = None
        self._block: bytes | None = None
        self._wire: dict[int, tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:
        return f"Message(topic={self.topic!r}, {len(self.payload)} bytes, qos={self.qos})"

    def remaining(self, now: float) -> int:
        """Whole seconds until it expires, at least 1; it does expire."""
        assert self.expires is not None
        return max(1, int(self.expires - now + 0.999))

    def wire(self, version: int, first: int) -> tuple[bytes, bytes]:
        """Its PUBLISH in two parts; a packet identifier goes between them.

        Not for messages that expire: see :meth:`wire_with`.

        :param first: the packet's first byte.
        """
        wire = self._wire
        if wire is None:
            wire = self._wire = {}
        key = version << 8 | first
        found = wire.get(key)
        if found is None:
            found = wire[key] = self.wire_with(version, first, b"", self.topic)
        return found

    def wire_with(self, version: int, first: int, extra: bytes, topic: str) -> tuple[bytes, bytes]:
        """The same with properties of its own, made anew.

        :param extra: encoded properties: identifiers, alias, expiry.
        :param topic: empty if an alias in ``extra`` stands for it.
        """
        name = self._name
        if name is None:
            encoded = self.topic.encode()
            name = self._name = len(encoded).to_bytes(2, "big") + encoded
        if topic is not self.topic and not topic:
            name = b"\0\0"
        tail = self.payload
        if version == V5:
            block = self._block
            if block is None:
                own = self.properties
                block = self._block = b"" if own is NO_PROPERTIES else write_body(own)
            if extra:
                block = extra + block
            tail = write_varint(len(block)) + block + tail if block else b"\0" + tail
        size = len(name) + len(tail) + (2 if first & 6 else 0)
        if size < 0x80:
            return bytes((first, size)) + name, tail
        if size < 0x4000:
            return bytes((first, size & 0x7F | 0x80, size >> 7)) + name, tail
        return bytes((first,)) + write_varint(size) + name, tail

    def to_record(self, epoch: float) -> MessageRecord:
        """What a store keeps of it.

        :param epoch: wall clock minus ``now``.
        """
        return MessageRecord(
            number=self.number,
            topic=self.topic,
            payload=self.payload,
            qos=self.qos,
            retain=self.retain,
            publisher=self.publisher,
            properties=pack_properties(self.properties),
            expires_at=None if self.expires is None else self.expires + epoch,
        )


def from_record(record: MessageRecord, epoch: float) -> Message:
    """The message that a store kept."""
    message = Message(
        record.topic,
        record.payload,
        record.qos,
        record.retain,
        unpack_properties(record.properties),
        None if record.expires_at is None else record.expires_at - epoch,
        record.publisher,
    )
    message.number = record.number
    return message


def forwarded(found: Properties) -> Properties:
    """The properties that subscribers get unaltered and in order.

    Source: [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20].
    """
    if (
        found.payload_format is None
        and found.content_type is None
        and found.response_topic is None
        and found.correlation_data is None
        and not found.user
    ):
        return NO_PROPERTIES
    return Properties(
        payload_format=found.payload_format,
        content_type=found.content_type,
        response_topic=found.response_topic,
        correlation_data=found.correlation_data,
        user=found.user,
    )
