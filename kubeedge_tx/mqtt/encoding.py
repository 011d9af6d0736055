"""Packets to bytes, both versions."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.mqtt import packets as p
from kubeedge_tx.mqtt.packets import V4, V5
from kubeedge_tx.mqtt.properties import (
    NO_PROPERTIES,
    Properties,
    write,
    write_binary,
    write_text,
    write_varint,
)
from kubeedge_tx.mqtt.reasons import connack_to_v4

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"

_ACK_HEADS: Final = {p.Puback: 0x40, p.Pubrec: 0x50, p.Pubrel: 0x62, p.Pubcomp: 0x70}


def short_ack(head: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP that says success: the same in both versions.

    :param head: first byte: 0x40, 0x50, 0x62 or 0x70.
    """
    return bytes((head, 2, packet_id >> 8, packet_id & 0xFF))


def ack(
    head: int, packet_id: int, version: int, reason: int, properties: Properties = NO_PROPERTIES
) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; 3.1.1 has no reason and no properties."""
    if version != V5 or (not reason and properties is NO_PROPERTIES):
        return short_ack(head, packet_id)
    if properties is NO_PROPERTIES:
        return bytes((head, 3, packet_id >> 8, packet_id & 0xFF, reason))
    return _whole(head, packet_id.to_bytes(2, "big") + bytes((reason,)) + write(properties))


def publish_parts(
    topic: str,
    payload: bytes,
    *,
    qos: int,
    retain: bool,
    dup: bool,
    version: int,
    properties: Properties = NO_PROPERTIES,
    extra: bytes = b"",
) -> tuple[bytes, bytes]:
    """A PUBLISH in two parts; with QoS 1 and 2 the packet identifier goes between them.

    :param extra: encoded properties to put before those in ``properties``.
    :raises ValueError: a value does not fit, or the packet is longer than MQTT allows.
    """
    name = write_text(topic)
    if version == V5:
        if extra:
            block = write(properties)
            if properties is NO_PROPERTIES:
                body = extra
            else:
                at = 1
                while block[at - 1] >= 0x80:
                    at += 1
                body = extra + block[at:]
            block = write_varint(len(body)) + body
        else:
            block = b"\0" if properties is NO_PROPERTIES else write(properties)
        tail = block + payload
    else:
        tail = payload
    head = 0x30 | dup << 3 | qos << 1 | retain
    size = len(name) + len(tail) + (2 if qos else 0)
    return bytes((head,)) + write_varint(size) + name, tail


def encode(packet: p.Packet, version: int) -> bytes:
    """Write one packet.

    :param version: 4 or 5; CONNECT has its own.
    :raises ValueError: a value does not fit its field, or 3.1.1 has no such packet or field.
    """
    kind = type(packet)
    head = _ACK_HEADS.get(kind)
    if head is not None:
        assert isinstance(packet, p.Puback | p.Pubrec | p.Pubrel | p.Pubcomp)
        return ack(head, packet.packet_id, version, packet.reason, packet.properties)
    match packet:
        case p.Publish():
            first, last = publish_parts(
                packet.topic,
                packet.payload,
                qos=packet.qos,
                retain=packet.retain,
                dup=packet.dup,
                version=version,
                properties=packet.properties,
            )
            middle = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
            return first + middle + last
        case p.Pingreq():
            return PINGREQ
        case p.Pingresp():
            return PINGRESP
        case p.Connect():
            return _connect(packet)
        case p.Connack():
            return _connack(packet, version)
        case p.Subscribe():
            return _subscribe(packet, version)
        case p.Suback():
            return _whole(
                0x90,
                packet.packet_id.to_bytes(2, "big")
                + (write(packet.properties) if version == V5 else b"")
                + bytes(packet.reasons),
            )
        case p.Unsubscribe():
            return _whole(
                0xA2,
                packet.packet_id.to_bytes(2, "big")
                + (write(packet.properties) if version == V5 else b"")
                + b"".join(write_text(each) for each in packet.filters),
            )
        case p.Unsuback():
            tail = write(packet.properties) + bytes(packet.reasons) if version == V5 else b""
            return _whole(0xB0, packet.packet_id.to_bytes(2, "big") + tail)
        case p.Disconnect():
            return _reasoned(0xE0, packet.reason, packet.properties, version)
        case p.Auth():
            if version != V5:
                raise ValueError("MQTT 3.1.1 has no AUTH")
            return _reasoned(0xF0, packet.reason, packet.properties, version)
    raise TypeError(f"not a packet: {kind.__name__}")


def _whole(head: int, body: bytes) -> bytes:
    return bytes((head,)) + write_varint(len(body)) + body


def _reasoned(head: int, reason: int, properties: Properties, version: int) -> bytes:
    if version != V5 or (not reason and properties is NO_PROPERTIES):
        return bytes((head, 0))
    if properties is NO_PROPERTIES:
        return bytes((head, 1, reason))
    return _whole(head, bytes((reason,)) + write(properties))


def _connect(packet: p.Connect) -> bytes:
    if packet.version not in (V4, V5):
        raise ValueError(f"no protocol version {packet.version}")
    flags = 0x02 if packet.clean_start else 0
    out = [b"", b"", write_text(packet.client_id)]
    if packet.will is not None:
        flags |= 0x04 | packet.will.qos << 3 | packet.will.retain << 5
        if packet.version == V5:
            out.append(write(packet.will.properties))
        out += (write_text(packet.will.topic), write_binary(packet.will.payload))
    if packet.username is not None:
        flags |= 0x80
        out.append(write_text(packet.username))
    if packet.password is not None:
        if packet.version == V4 and packet.username is None:
            raise ValueError("MQTT 3.1.1 has no password without a user name")
        flags |= 0x40
        out.append(write_binary(packet.password))
    out[0] = b"\0\4MQTT" + bytes((packet.version, flags)) + packet.keep_alive.to_bytes(2, "big")
    out[1] = write(packet.properties) if packet.version == V5 else b""
    return _whole(0x10, b"".join(out))


def _connack(packet: p.Connack, version: int) -> bytes:
    if version == V5:
        tail = bytes((packet.session_present, packet.reason)) + write(packet.properties)
        return _whole(0x20, tail)
    code = connack_to_v4(packet.reason)
    if code is None:
        raise ValueError(f"MQTT 3.1.1 has no return code for reason {packet.reason:#x}")
    return bytes((0x20, 2, packet.session_present, code))


def _subscribe(packet: p.Subscribe, version: int) -> bytes:
    out = [packet.packet_id.to_bytes(2, "big")]
    if version == V5:
        out.append(write(packet.properties))
    for each in packet.subscriptions:
        options = each.qos
        if version == V5:
            options |= (
                each.no_local << 2 | each.retain_as_published << 3 | each.retain_handling << 4
            )
        out += (write_text(each.filter), bytes((options,)))
    return _whole(0x82, b"".join(out))
