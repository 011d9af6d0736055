"""The writing side of one connection: a PUBLISH as its peer may have it."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.mqtt.aliases import AliasesOut
from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.packets import V5
from kubeedge_tx.mqtt.properties import write_varint

WRITTEN: Final = 0
EXPIRED: Final = 1
TOO_LARGE: Final = 2

_JOIN_BYTES: Final = 4096
"""Larger payloads are passed on without a copy."""


class Sink:
    """One connection, as far as writing goes.

    :param dirty: gets this sink when :attr:`out` is no longer empty.
    """

    __slots__ = (
        "aliases",
        "dirty",
        "is_plain",
        "is_writable",
        "max_packet_bytes",
        "out",
        "version",
    )

    def __init__(self, dirty: list[Sink]) -> None:
        self.dirty = dirty
        self.out: list[bytes] = []
        self.version = 0
        self.is_writable = True
        self.max_packet_bytes = 0
        """Largest packet the peer takes; 0 for any."""
        self.aliases: AliasesOut | None = None
        self.is_plain = True
        """Neither of the two above: all peers like this get the same bytes."""

    def write(self, data: bytes) -> None:
        """Write one packet."""
        if not self.out:
            self.dirty.append(self)
        self.out.append(data)

    def put(self, head: bytes, tail: bytes) -> None:
        """Write one packet that comes in two parts."""
        out = self.out
        if not out:
            self.dirty.append(self)
        if len(tail) < _JOIN_BYTES:
            out.append(head + tail)
        else:
            out.append(head)
            out.append(tail)

    def publish(
        self,
        message: Message,
        first: int,
        packet_id: int,
        identifiers: tuple[int, ...],
        now: float,
    ) -> int:
        """Write a PUBLISH, unless its peer may not have it.

        :param first: the packet's first byte.
        :param packet_id: 0 for QoS 0.
        :param identifiers: of the subscriptions that match.
        :returns: :data:`WRITTEN`, or why it was not: :data:`EXPIRED`, :data:`TOO_LARGE`.
        """
        if self.is_plain and not identifiers and message.expires is None:
            head, tail = message.wire(self.version, first)
            self.put(head + packet_id.to_bytes(2, "big") if packet_id else head, tail)
            return WRITTEN
        if message.expires is not None and not first & 8 and message.expires <= now:
            return EXPIRED  # not what was sent before [MQTT-4.3.3-7]
        topic, extra, may_set = message.topic, b"", True
        if self.version == V5:
            if identifiers:
                extra = b"".join(b"\x0b" + write_varint(each) for each in identifiers)
            if message.expires is not None:
                extra += b"\x02" + message.remaining(now).to_bytes(4, "big")
        if self.max_packet_bytes:  # [MQTT-3.1.2-24]
            room = self.max_packet_bytes - (2 if packet_id else 0)
            head, tail = message.wire_with(self.version, first, extra + b"\x23\0\0", topic)
            if len(head) + len(tail) > room:
                may_set = False
                head, tail = message.wire_with(self.version, first, extra, topic)
                if len(head) + len(tail) > room:
                    return TOO_LARGE
        if self.aliases is not None:
            alias, is_known = self.aliases.choose(topic, may_set)
            if alias:
                extra += b"\x23" + alias.to_bytes(2, "big")
                topic = "" if is_known else topic
        head, tail = message.wire_with(self.version, first, extra, topic)
        self.put(head + packet_id.to_bytes(2, "big") if packet_id else head, tail)
        return WRITTEN
