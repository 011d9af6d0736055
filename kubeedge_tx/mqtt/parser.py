"""A stream of bytes to packets, limits included."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.mqtt import decoding
from kubeedge_tx.mqtt.packets import CONNECT, V4, V5, Connect, Packet, Puback, Publish
from kubeedge_tx.mqtt.properties import NO_PROPERTIES
from kubeedge_tx.mqtt.reasons import PACKET_TOO_LARGE, MalformedPacket, MqttError, ProtocolError

_NAMES: Final = 256
"""Checked topic names kept; devices repeat theirs."""
_NAME_BYTES: Final = 256
"""Longer names are not kept."""


class Parser:
    """Cut packets out of what arrives, however it is cut.

    :param max_packet_bytes: largest packet, fixed header included.
    :param from_client: which side the bytes come from.
    :param version: 4 or 5; 0 until a CONNECT tells.
    """

    __slots__ = (
        "_from_client",
        "_held",
        "_names",
        "_wanted",
        "error",
        "max_packet_bytes",
        "version",
    )

    def __init__(self, max_packet_bytes: int, *, from_client: bool, version: int = 0) -> None:
        self.max_packet_bytes = max_packet_bytes
        self.version = version
        self.error: MqttError | None = None
        """What ended the stream; set after the packets before it were given out."""
        self._from_client = from_client
        self._held: bytes | bytearray = b""
        self._wanted = 0
        self._names: dict[bytes, str] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of a packet whose rest has not come."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Packet]:
        """Give out the packets that are complete now.

        After a bad packet :attr:`error` is set and nothing more comes out.
        """
        out: list[Packet] = []
        if self.error is not None:
            return out
        if self._held:
            if isinstance(self._held, bytes):
                self._held = bytearray(self._held)
            self._held += data
            if len(self._held) < self._wanted:
                return out
            data = bytes(self._held)
            self._held = b""
        self._wanted = 0
        try:
            at = self._cut(data, out)
        except MqttError as error:
            self.error = error
            self._names.clear()
            return out
        if at < len(data):
            self._held = data[at:]
        return out

    def _cut(self, data: bytes, out: list[Packet]) -> int:
        """Append the packets in ``data``; returns where the first incomplete one begins."""
        at, total = 0, len(data)
        names = self._names
        while at + 2 <= total:
            head, length = data[at], data[at + 1]
            start = at + 2
            if length > 0x7F:
                length, start = self._length(data, at, total)
                if not start:
                    return at
            end = start + length
            if end - at > self.max_packet_bytes:
                raise ProtocolError(
                    f"a packet of {end - at} bytes; {self.max_packet_bytes} are allowed",
                    PACKET_TOO_LARGE,
                )
            if not self.version and head >> 4 != CONNECT:
                raise ProtocolError("the first packet is no CONNECT")  # [MQTT-3.1.0-1]
            if end > total:
                self._wanted = end - at
                return at
            # The two packets that come by the thousand, without the detour.
            if head & 0xF0 == 0x30 and length > 4 and head & 0x0E in (0, 2, 4, 0x0A, 0x0C):
                after = start + 2 + (data[start] << 8 | data[start + 1])
                raw = data[start + 2 : after]
                name = names.get(raw)
                qos = head >> 1 & 3
                packet_id = 0
                if qos and name is not None and after + 2 <= end:
                    packet_id = data[after] << 8 | data[after + 1]
                    after += 2
                    if not packet_id:
                        name = None
                if name is not None and self.version == V5:
                    if after < end and not data[after]:
                        after += 1
                    else:
                        name = None
                if name is not None and after <= end and (packet_id or not qos):
                    out.append(
                        Publish(
                            name,
                            data[after:end],
                            qos,
                            head & 1 == 1,
                            head & 8 == 8,
                            packet_id,
                            NO_PROPERTIES,
                        )
                    )
                    at = end
                    continue
            elif head == 0x40 and length == 2:
                packet_id = data[start] << 8 | data[start + 1]
                if packet_id:
                    out.append(Puback(packet_id, 0, NO_PROPERTIES))
                    at = end
                    continue
            self._slow(head, data[start:end], out)
            at = end
        return at

    def _length(self, data: bytes, at: int, total: int) -> tuple[int, int]:
        """Remaining length and where the body starts; 0 if it is not all there."""
        value = shift = 0
        for place in range(at + 1, min(at + 5, total)):
            byte = data[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if not byte and shift:
                    raise MalformedPacket("a remaining length is longer than it needs to be")
                return value, place + 1
            shift += 7
        if total - at >= 5:
            raise MalformedPacket("a remaining length has more than four bytes")
        return 0, 0

    def _slow(self, head: int, body: bytes, out: list[Packet]) -> None:
        packet = decoding.decode(head, body, self.version or V4, from_client=self._from_client)
        if isinstance(packet, Connect):
            if self.version:
                raise ProtocolError("a second CONNECT")  # [MQTT-3.1.0-2]
            self.version = packet.version
        elif isinstance(packet, Publish) and packet.topic and len(packet.topic) <= _NAME_BYTES:
            if len(self._names) >= _NAMES:
                self._names.clear()
            self._names[packet.topic.encode()] = packet.topic
        out.append(packet)
