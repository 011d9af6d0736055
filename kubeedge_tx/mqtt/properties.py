"""Properties of MQTT 5: one struct, its bytes, and which packet may have which.

Source: MQTT 5.0, 2.2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from kubeedge_tx.mqtt import topics
from kubeedge_tx.mqtt.reasons import MalformedPacket, ProtocolError

Value: TypeAlias = int | str | bytes | tuple[str, str]


class Properties(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """All there are; ``None`` or empty means absent. Names are those of the specification."""

    payload_format: int | None = None
    message_expiry: int | None = None
    """Seconds, 0 to 2**32 - 1."""
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    """1 to 268,435,455; more than one only in a PUBLISH from a server."""
    session_expiry: int | None = None
    """Seconds; 2**32 - 1 is for ever."""
    assigned_client_id: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    """Name and value pairs, in order; names may repeat."""
    maximum_packet_size: int | None = None
    wildcard_available: int | None = None
    subscription_id_available: int | None = None
    shared_available: int | None = None


NO_PROPERTIES: Final = Properties()
"""The absence of all."""

WILL: Final = 0
"""Stands for the will's properties where others give a packet type."""


def _byte(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at >= end:
        raise MalformedPacket("properties end inside a property")
    if data[at] > 1:
        raise ProtocolError("a property that is 0 or 1 is neither")
    return data[at], at + 1


def _two(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at + 2 > end:
        raise MalformedPacket("properties end inside a property")
    return data[at] << 8 | data[at + 1], at + 2


def _four(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at + 4 > end:
        raise MalformedPacket("properties end inside a property")
    return int.from_bytes(data[at : at + 4], "big"), at + 4


def _binary(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    length, at = _two(data, at, end)
    if at + length > end:
        raise MalformedPacket("properties end inside a property")
    return bytes(data[at : at + length]), at + length


def _text(data: bytes, at: int, end: int) -> tuple[str, int]:
    raw, at = _binary(data, at, end)
    return topics.text(raw, "a property"), at


def _pair(data: bytes, at: int, end: int) -> tuple[tuple[str, str], int]:
    name, at = _text(data, at, end)
    value, at = _text(data, at, end)
    return (name, value), at


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a variable byte integer at ``at``; returns it and where it ended.

    :raises MalformedPacket: cut off, longer than four bytes, or longer than it needs to be
        [MQTT-1.5.5-1].
    """
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if shift and not byte:
                raise MalformedPacket("a variable byte integer is longer than it needs to be")
            return value, at
        shift += 7
        if shift > 21:
            raise MalformedPacket("a variable byte integer has more than four bytes")
    raise MalformedPacket("a variable byte integer is cut off")


def write_varint(value: int) -> bytes:
    """The shortest variable byte integer [MQTT-1.5.5-1].

    :param value: 0 to 268,435,455.
    :raises ValueError: it is not in that range.
    """
    if 0 <= value < 0x80:
        return bytes((value,))
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} does not fit a variable byte integer")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


MAX_VARINT: Final = 268_435_455


def _write_byte(value: int) -> bytes:
    return value.to_bytes(1, "big")


def _write_two(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _write_four(value: int) -> bytes:
    return value.to_bytes(4, "big")


def write_binary(value: bytes) -> bytes:
    """Length-prefixed bytes, as MQTT has them everywhere.

    :raises ValueError: more than 65,535.
    """
    if len(value) > 0xFFFF:
        raise ValueError("more than 65,535 bytes")
    return len(value).to_bytes(2, "big") + value


def write_text(value: str) -> bytes:
    """A length-prefixed UTF-8 string.

    :raises ValueError: more than 65,535 bytes, a null character, or not Unicode.
    """
    if "\0" in value:
        raise ValueError("a null character")
    return write_binary(value.encode())


def _write_pair(value: tuple[str, str]) -> bytes:
    return write_text(value[0]) + write_text(value[1])


_Reader: TypeAlias = Callable[[bytes, int, int], tuple[Value, int]]
_Writer: TypeAlias = Callable[..., bytes]

_B: tuple[_Reader, _Writer] = (_byte, _write_byte)
_2: tuple[_Reader, _Writer] = (_two, _write_two)
_4: tuple[_Reader, _Writer] = (_four, _write_four)
_V: tuple[_Reader, _Writer] = (read_varint, write_varint)
_S: tuple[_Reader, _Writer] = (_text, write_text)
_D: tuple[_Reader, _Writer] = (_binary, write_binary)
_P: tuple[_Reader, _Writer] = (_pair, _write_pair)

_ACKS: Final = (2, 4, 5, 6, 7, 9, 11, 14, 15)
_TABLE: Final[tuple[tuple[int, str, tuple[_Reader, _Writer], tuple[int, ...]], ...]] = (
    (0x01, "payload_format", _B, (3, WILL)),
    (0x02, "message_expiry", _4, (3, WILL)),
    (0x03, "content_type", _S, (3, WILL)),
    (0x08, "response_topic", _S, (3, WILL)),
    (0x09, "correlation_data", _D, (3, WILL)),
    (0x0B, "subscription_ids", _V, (3, 8)),
    (0x11, "session_expiry", _4, (1, 2, 14)),
    (0x12, "assigned_client_id", _S, (2,)),
    (0x13, "server_keep_alive", _2, (2,)),
    (0x15, "authentication_method", _S, (1, 2, 15)),
    (0x16, "authentication_data", _D, (1, 2, 15)),
    (0x17, "request_problem_information", _B, (1,)),
    (0x18, "will_delay", _4, (WILL,)),
    (0x19, "request_response_information", _B, (1,)),
    (0x1A, "response_information", _S, (2,)),
    (0x1C, "server_reference", _S, (2, 14)),
    (0x1F, "reason_string", _S, _ACKS),
    (0x21, "receive_maximum", _2, (1, 2)),
    (0x22, "topic_alias_maximum", _2, (1, 2)),
    (0x23, "topic_alias", _2, (3,)),
    (0x24, "maximum_qos", _B, (2,)),
    (0x25, "retain_available", _B, (2,)),
    (0x26, "user", _P, (1, 3, 8, 10, WILL, *_ACKS)),
    (0x27, "maximum_packet_size", _4, (1, 2)),
    (0x28, "wildcard_available", _B, (2,)),
    (0x29, "subscription_id_available", _B, (2,)),
    (0x2A, "shared_available", _B, (2,)),
)
"""Identifier, field, form and packets. Source: MQTT 5.0, table 2-4."""

_READ: Final = {row[0]: (row[1], row[2][0], frozenset(row[3])) for row in _TABLE}
_WRITE: Final = tuple((bytes((row[0],)), row[1], row[2][1]) for row in _TABLE)
_NOT_ZERO: Final = ("receive_maximum", "maximum_packet_size", "topic_alias")

ALLOWED: Final = {row[1]: frozenset(row[3]) for row in _TABLE}
"""Packet types by field name; :data:`WILL` for the will."""


def read(data: bytes, at: int, end: int, packet: int) -> tuple[Properties, int]:
    """Read a property length and the properties at ``at``.

    :param end: end of the packet.
    :param packet: packet type, or :data:`WILL`.
    :returns: the properties, and where they ended.
    :raises MalformedPacket: they do not parse, or do not belong in this packet.
    :raises ProtocolError: one comes twice, or has a value that is not allowed.
    """
    if at < end and not data[at]:
        return NO_PROPERTIES, at + 1
    length, at = read_varint(data, at, end)
    stop = at + length
    if stop > end:
        raise MalformedPacket("properties are longer than the packet")
    found: dict[str, Value] = {}
    user: list[tuple[str, str]] = []
    identifiers: list[int] = []
    while at < stop:
        identifier = data[at]
        row = _READ.get(identifier)
        if row is None:
            raise MalformedPacket("a property that does not exist")
        name, reader, packets = row
        if packet not in packets:
            raise MalformedPacket(f"a property that does not belong here: {name}")
        value, at = reader(data, at + 1, stop)
        if identifier == 0x26:
            user.append(value)  # type: ignore[arg-type]
        elif identifier == 0x0B:
            if not value:
                raise ProtocolError("a subscription identifier is 0")
            if identifiers and packet == 8:
                raise ProtocolError("more than one subscription identifier")
            identifiers.append(value)  # type: ignore[arg-type]
        elif name in found:
            raise ProtocolError(f"a property comes twice: {name}")
        else:
            if not value and name in _NOT_ZERO:
                raise ProtocolError(f"a property is 0: {name}", _zero_reason(name))
            found[name] = value
    if "authentication_data" in found and "authentication_method" not in found:
        raise ProtocolError("authentication data without a method")
    if user:
        found["user"] = tuple(user)  # type: ignore[assignment]
    if identifiers:
        found["subscription_ids"] = tuple(identifiers)  # type: ignore[assignment]
    return Properties(**found), stop  # type: ignore[arg-type]


def _zero_reason(name: str) -> int:
    return 0x94 if name == "topic_alias" else 0x82


def write(properties: Properties) -> bytes:
    """Property length and properties [MQTT-2.2.2-1].

    :raises ValueError: a value does not fit its form.
    """
    if properties is NO_PROPERTIES:
        return b"\0"
    body = write_body(properties)
    return write_varint(len(body)) + body


def write_body(properties: Properties) -> bytes:
    """The properties without their length.

    :raises ValueError: a value does not fit its form.
    """
    out: list[bytes] = []
    for tag, name, writer in _WRITE:
        value = getattr(properties, name)
        if value is None or value == ():
            continue
        try:
            if tag == b"\x26" or tag == b"\x0b":
                out.extend(tag + writer(each) for each in value)
            else:
                out.append(tag + writer(value))
        except (OverflowError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from None
    return b"".join(out)
