from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.mqtt import packets as p
from kubeedge_tx.mqtt import properties as props
from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.packets import V4, V5, Packet
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from kubeedge_tx.mqtt.reasons import MalformedPacket, MqttError, ProtocolError
from tests.mqtt.strategies import from_client, from_server, publishes, value_of

SIDES = [(V4, True), (V5, True), (V4, False), (V5, False)]
STREAMS = st.sampled_from(SIDES).flatmap(
    lambda side: st.tuples(
        st.just(side),
        st.lists(from_client(side[0]) if side[1] else from_server(side[0]), min_size=1, max_size=6),
    )
)


def parser(version: int, is_client: bool, limit: int = 1 << 28) -> Parser:
    return Parser(limit, from_client=is_client, version=version)


def parse(data: bytes, version: int = V5, *, is_client: bool = True) -> list[Packet]:
    """All packets in ``data``, which must be whole; raises what ended the stream."""
    one = parser(version, is_client)
    found = one.feed(data)
    if one.error is not None:
        raise one.error
    assert not one.held_bytes, "cut off"
    return found


class RoundTripTests(SynchronousTestCase):
    """What one side writes the other reads."""

    @given(STREAMS)
    def test_every_packet(self, stream: tuple[tuple[int, bool], list[Packet]]) -> None:
        """Packets of both versions and both sides come back as they were."""
        (version, is_client), sent = stream
        for packet in sent:
            data = encode(packet, version)
            if isinstance(packet, p.Connect):
                fresh = parser(0, True)
                self.assertEqual(fresh.feed(data), [packet])
                self.assertEqual(fresh.version, version)
            else:
                self.assertEqual(parse(data, version, is_client=is_client), [packet])

    @given(STREAMS, st.lists(st.integers(1, 40), min_size=1))
    def test_chunks(self, stream: tuple[tuple[int, bool], list[Packet]], sizes: list[int]) -> None:
        """However the bytes are cut, the same packets come out."""
        (version, is_client), sent = stream
        sent = [each for each in sent if not isinstance(each, p.Connect)]
        data = b"".join(encode(each, version) for each in sent)
        one, out, at = parser(version, is_client), [], 0
        while at < len(data):
            size = sizes[at % len(sizes)]
            out += one.feed(data[at : at + size])
            at += size
        self.assertIsNone(one.error)
        self.assertEqual(out, sent)
        self.assertEqual(one.held_bytes, 0)

    @given(
        st.sampled_from(sorted(props.ALLOWED)).flatmap(
            lambda name: st.tuples(st.just(name), value_of(name))
        )
    )
    def test_every_property(self, found: tuple[str, object]) -> None:
        """Each property is read where it is allowed, and nowhere else."""
        name, value = found
        given_ = {name: value}
        if name == "authentication_data":
            given_["authentication_method"] = "m"
        one = Properties(**given_)  # type: ignore[arg-type]
        data = props.write(one)
        for kind in range(16):
            if kind in props.ALLOWED[name]:
                if (
                    kind == p.SUBSCRIBE
                    and name == "subscription_ids"
                    and len(one.subscription_ids) > 1
                ):
                    self.assertRaises(ProtocolError, props.read, data, 0, len(data), kind)
                else:
                    self.assertEqual(props.read(data, 0, len(data), kind), (one, len(data)))
            elif kind not in (p.PINGREQ, p.PINGRESP):
                self.assertRaises(MalformedPacket, props.read, data, 0, len(data), kind)

    @given(st.integers(0, props.MAX_VARINT))
    def test_variable_byte_integer(self, value: int) -> None:
        """The shortest form is written, and read."""
        data = props.write_varint(value)
        self.assertEqual(props.read_varint(data, 0, len(data)), (value, len(data)))
        self.assertEqual(len(data), 1 + (value > 127) + (value > 16_383) + (value > 2_097_151))

    @given(publishes(V4) | publishes(V5), st.sampled_from((V4, V5)))
    def test_message_wire(self, packet: p.Publish, version: int) -> None:
        """What the broker writes of a message is the packet that encode() writes."""
        found = packet.properties if version == V5 else NO_PROPERTIES
        wanted = p.Publish(
            packet.topic, packet.payload, packet.qos, packet.retain, False, packet.packet_id, found
        )
        message = Message(packet.topic, packet.payload, properties=found)
        for _ in range(2):
            head, tail = message.wire(version, 0x30 | packet.qos << 1 | packet.retain)
            middle = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
            self.assertEqual(head + middle + tail, encode(wanted, version))


class GarbageTests(SynchronousTestCase):
    """Whatever comes, a parser gives packets or says why not."""

    @given(st.binary(max_size=200), st.sampled_from([0, V4, V5]), st.booleans())
    @example(b"\x82\x00", V5, True)
    @example(b"\x30\x01\x00", V4, True)
    @example(b"\x62\x01\x00", V4, True)
    def test_fuzz(self, data: bytes, version: int, is_client: bool) -> None:
        """Random bytes raise nothing but our two errors, and those are kept, not raised."""
        one = parser(version if is_client or version else V5, is_client)
        one.feed(data)
        if one.error is not None:
            self.assertIsInstance(one.error, MalformedPacket | ProtocolError)
            self.assertEqual(one.feed(b"\xc0\x00"), [])

    @given(STREAMS, st.data())
    def test_mutated(
        self, stream: tuple[tuple[int, bool], list[Packet]], data: st.DataObject
    ) -> None:
        """Packets with changed, cut or doubled bytes raise nothing else either."""
        (version, is_client), sent = stream
        raw = bytearray(b"".join(encode(each, version) for each in sent))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(raw) - 1))
            match data.draw(st.integers(0, 2)):
                case 0:
                    raw[at] = data.draw(st.integers(0, 255))
                case 1 if len(raw) > 1:
                    del raw[at]
                case _:
                    raw.insert(at, raw[at])
        for started in (version, 0) if is_client else (version,):
            one = parser(started, is_client)
            one.feed(bytes(raw))
            if one.error is not None:
                self.assertIsInstance(one.error, MalformedPacket | ProtocolError)

    def test_good_packets_before_a_bad_one(self) -> None:
        """They are given out; what follows the bad one is not."""
        one = parser(V4, True)
        ping = b"\xc0\x00"
        self.assertEqual(one.feed(ping + ping + b"\xff\x00" + ping), [p.Pingreq()] * 2)
        self.assertIsInstance(one.error, MalformedPacket)

    def test_errors_do_not_quote(self) -> None:
        """Texts of errors, and packets in logs, do not show payloads or passwords."""
        secret = b"hunter2-secret"
        packets = [
            p.Publish("t", secret, 1, packet_id=1),
            p.Connect(client_id="c", username="u", password=secret),
            p.Will(topic="t", payload=secret),
            Message("t", secret),
        ]
        for each in packets:
            self.assertNotIn("hunter2", repr(each))
            self.assertNotIn("hunter2", str(each))
        bad = encode(p.Publish("t", secret, 1, packet_id=1), V4).replace(b"\0\1h", b"\0\0h")
        error = self.assertRaises(ProtocolError, parse, bad, V4)
        self.assertNotIn("hunter2", str(error))


def hexes(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


class MalformedTests(SynchronousTestCase):
    """One packet for each rule, broken in that rule only."""

    def refuse(
        self,
        data: str | bytes,
        reason: int = reasons.MALFORMED_PACKET,
        *,
        version: int = V5,
        is_client: bool = True,
    ) -> None:
        raw = hexes(data) if isinstance(data, str) else data
        error = self.assertRaises(MqttError, parse, raw, version, is_client=is_client)
        self.assertEqual(hex(error.reason), hex(reason), str(error))

    def test_utf8(self) -> None:
        """Strings that are no UTF-8, have surrogates or a null are refused."""
        for bad in (b"\xc0\x80", b"\xed\xa0\x80", b"\xffa", b"\0a", b"\xf4\x90\x80\x80"):
            with self.subTest(bad.hex()):
                size = len(bad)
                self.refuse(bytes((0x30, 3 + size, 0, size)) + bad + b"\0")
                self.refuse(bytes((0x30, 2 + size, 0, size)) + bad, version=V4)
                self.refuse(bytes((0x82, 6 + size, 0, 1, 0, 0, size)) + bad + b"\0")

    def test_utf8_in_every_string(self) -> None:
        """The rule holds for client ids, user names, wills, filters and properties."""
        for at in range(5):
            fields = [b"\0\1c", b"\0\1t", b"\0\1m", b"\0\1u", b"\0\1p"]
            names = ("client id", "will topic", "", "user name", "")
            if not names[at]:
                continue
            fields[at] = b"\0\2\xc0\x80"
            body = b"\0\4MQTT\x04\xc6\0\0" + b"".join(fields)
            with self.subTest(names[at]):
                self.refuse(bytes((0x10, len(body))) + body, version=0)
        self.refuse("30 0b 0001 74 07 26 0001 ff 0001 61")
        self.refuse("30 0b 0001 74 07 26 0001 61 0001 ff")
        self.refuse("a2 06 0001 00 0001 ff")
        for tag in ("03", "08"):  # content type, response topic
            self.refuse(f"30 08 0001 74 04 {tag} 0001 ff")
        self.refuse("10 0d 0004 4d515454 04 02 0000 0001 ff", version=0)

    def test_byte_order_mark_stays(self) -> None:
        """EF BB BF is a character of the topic like any other."""
        (packet,) = parse(hexes("30 07 0004 efbbbf 61 00"))
        assert isinstance(packet, p.Publish)
        self.assertEqual(packet.topic, "\N{ZERO WIDTH NO-BREAK SPACE}a")

    def test_control_characters(self) -> None:
        """Topics and client ids with control characters or non-characters are refused."""
        for bad in ("\x01", "\x1f", "\x7f", "\x85", "\ufdd0", "\uffff", "\U0001fffe"):
            with self.subTest(repr(bad)):
                raw = f"a{bad}".encode()
                self.refuse(
                    b"\x30" + bytes((3 + len(raw),)) + b"\0" + bytes((len(raw),)) + raw + b"\0"
                )

    def test_varint(self) -> None:
        """A remaining or property length longer than it needs to be, or than four bytes."""
        self.refuse("c0 80 00")
        self.refuse("30 ff ff ff ff 01")
        self.refuse("30 06 0001 74 80 00 61")
        self.refuse("30 08 0001 74 80 80 80 80 01")

    def test_reserved_flags(self) -> None:
        """The low bits of the first byte are as the table says."""
        bodies = {1: "", 4: "0001", 5: "0001", 6: "0001", 7: "0001", 10: "0001 0001 61"}
        bodies |= {8: "0001 0001 61 00", 12: "", 14: ""}
        for kind, body in bodies.items():
            for flags in range(16):
                if flags == (2 if kind in (6, 8, 10) else 0):
                    continue
                with self.subTest(f"{kind} {flags}"):
                    data = hexes(body)
                    raw = bytes((kind << 4 | flags, len(data))) + data
                    self.refuse(raw, version=V4)

    def test_reserved_flags_from_servers(self) -> None:
        """The same for what servers send, AUTH included."""
        for head, body in ((0x21, "0000"), (0x91, "0001 00"), (0xB1, "0001"), (0xD1, "")):
            raw = bytes((head, len(hexes(body)))) + hexes(body)
            self.refuse(raw, version=V4, is_client=False)
        self.refuse("f1 00", is_client=False)
        self.refuse("f1 00")

    def test_qos_3(self) -> None:
        """A PUBLISH with both QoS bits, or QoS 0 and DUP."""
        for head in ("36", "37", "3e"):
            self.refuse(f"{head} 06 0001 74 0001 00")
            self.refuse(f"{head} 05 0001 74 0001", version=V4)
        self.refuse("38 04 0001 74 00")

    def test_packet_id_0(self) -> None:
        """Packet identifiers are not 0."""
        self.refuse("32 06 0001 74 0000 00", 0x82)
        for head in ("40", "50", "62", "70"):
            self.refuse(f"{head} 02 0000", 0x82)
        self.refuse("82 07 0000 00 0001 61 00", 0x82)
        self.refuse("a2 06 0000 00 0001 61", 0x82)

    def test_topic_name(self) -> None:
        """A PUBLISH with a wildcard, or without topic and alias."""
        self.refuse("30 04 0001 2b 00")
        self.refuse("30 04 0001 23 00")
        self.refuse("30 03 0000 00", 0x82)
        self.refuse("30 02 0000", 0x82, version=V4)
        self.refuse("30 06 0000 03 23 0000", 0x94)

    def test_deep_topic(self) -> None:
        """Names and filters of more than 200 levels are refused, at 200 not."""
        for levels, is_good in ((200, True), (201, False)):
            name = "/" * (levels - 1)
            packet = encode(p.Publish(name, b""), V5)
            sub = encode(p.Subscribe(packet_id=1, subscriptions=(p.Subscription(name),)), V5)
            if is_good:
                parse(packet)
                parse(sub)
            else:
                self.refuse(packet, reasons.TOPIC_NAME_INVALID)
                self.refuse(sub, reasons.TOPIC_FILTER_INVALID)

    def test_long_topic(self) -> None:
        """A topic of 65,535 bytes arrives; a longer one cannot be written."""
        name = "x" * 65_535
        self.assertEqual(parse(encode(p.Publish(name, b""), V5)), [p.Publish(name, b"")])
        self.assertRaises(ValueError, encode, p.Publish(name + "x", b""), V5)

    def test_response_topic(self) -> None:
        """A response topic has no wildcards, in a will neither."""
        packet = p.Publish("t", b"", properties=Properties(response_topic="a/#"))
        self.refuse(encode(packet, V5))
        will = p.Will(topic="t", payload=b"", properties=Properties(response_topic="+"))
        self.refuse(encode(p.Connect(client_id="c", will=will), V5), version=0)

    def test_filters(self) -> None:
        """Wildcards stand where they may, share names are names."""
        bad: tuple[str, ...] = (
            "a#",
            "a/#/b",
            "#/a",
            "a+",
            "a/+b",
            "++",
            "",
            "$share//a",
            "$share/a",
            "$share/a/",
        )
        bad = (*bad, "$share/+/a", "$share/a#/b", "$share/g/a#", "$share/g/a+")
        for each in bad:
            with self.subTest(each):
                sub = p.Subscribe(packet_id=1, subscriptions=(p.Subscription(each),))
                self.refuse(encode(sub, V5))
                self.refuse(encode(p.Unsubscribe(packet_id=1, filters=(each,)), V5))
        for each in ("#", "+", "+/+", "/", "a//b", "$SYS/#", "$share/g//", "$share/g/#", "$share"):
            sub = p.Subscribe(packet_id=1, subscriptions=(p.Subscription(each),))
            self.assertEqual(parse(encode(sub, V5)), [sub])

    def test_subscribe_options(self) -> None:
        """QoS 3, reserved bits, retain handling 3, no local on a shared filter, no filter."""
        self.refuse("82 07 0001 00 0001 61 03")
        self.refuse("82 06 0001 0001 61 03", version=V4)
        self.refuse("82 06 0001 0001 61 04", version=V4)
        self.refuse("82 07 0001 00 0001 61 40")
        self.refuse("82 07 0001 00 0001 61 80")
        self.refuse("82 07 0001 00 0001 61 30", 0x82)
        shared = p.Subscription("$share/g/a", no_local=True)
        self.refuse(encode(p.Subscribe(packet_id=1, subscriptions=(shared,)), V5), 0x82)
        self.refuse("82 03 0001 00", 0x82)
        self.refuse("82 02 0001", 0x82, version=V4)
        self.refuse("a2 03 0001 00", 0x82)
        self.refuse("a2 02 0001", 0x82, version=V4)

    def test_connect_flags(self) -> None:
        """CONNECT: reserved flag, will flags without a will, will QoS 3, password alone."""
        for flags in ("01", "08", "10", "20", "1c", "40"):
            with self.subTest(flags):
                self.refuse(f"10 0d 0004 4d515454 04 {flags} 0000 0001 61", version=0)
        self.refuse("10 0e 0004 4d515454 05 01 0000 00 0001 61", version=0)

    def test_connect_fields(self) -> None:
        """CONNECT: fields that the flags promise are there, others are not."""
        head = "0004 4d515454 04"
        for flags, rest in (
            ("80", "0001 61"),
            ("c0", "0001 61 0001 75"),
            ("04", "0001 61 0001 74"),
            ("00", "0001 61 0001 75"),
            ("80", "0001 61 0001 75 0001 70"),
            ("00", ""),
        ):
            body = hexes(f"{head} {flags} 0000 {rest}")
            with self.subTest(f"{flags} {rest}"):
                self.refuse(bytes((0x10, len(body))) + body, version=0)

    def test_connect_order(self) -> None:
        """Client id, will topic, will message, user name, password: in this order."""
        body = hexes("0004 4d515454 04 c6 0000 0001 63 0001 74 0001 6d 0001 75 0001 70")
        fresh = parser(0, True)
        (packet,) = fresh.feed(bytes((0x10, len(body))) + body)
        assert isinstance(packet, p.Connect) and packet.will is not None
        self.assertEqual(
            (packet.client_id, packet.will.topic, packet.will.payload, packet.username),
            ("c", "t", b"m", "u"),
        )
        self.assertEqual(packet.password, b"p")

    def test_protocol_name_and_level(self) -> None:
        """Another protocol's name is malformed; another level says what we do not speak."""
        self.refuse("10 0d 0004 4d515458 04 02 0000 0001 61", version=0)
        for level in ("03", "06"):
            self.refuse(f"10 0d 0004 4d515454 {level} 02 0000 0001 61", 0x84, version=0)
        self.refuse("10 0f 0006 4d5149736470 03 02 0000 0001 61", 0x84, version=0)

    def test_first_packet(self) -> None:
        """The first packet is CONNECT, and there is only one."""
        self.refuse("c0 00", 0x82, version=0)
        one = encode(p.Connect(client_id="c"), V5)
        self.refuse(one + one, 0x82, version=0)

    def test_direction(self) -> None:
        """Packets of servers do not come from clients, nor the other way."""
        for data in ("20 02 0000", "90 03 0001 00", "b0 02 0001", "d0 00"):
            self.refuse(data, 0x82, version=V4)
        for data in ("10 00", "82 00", "a2 00", "c0 00"):
            self.refuse(data, 0x82, version=V4, is_client=False)
        self.refuse("00 00")
        self.refuse("f0 00", version=V4)

    def test_properties(self) -> None:
        """Unknown, repeated, misplaced, cut off, zero where not allowed."""
        self.refuse("30 06 0001 74 02 7f 00")
        self.refuse("30 08 0001 74 04 01 00 01 00", 0x82)
        self.refuse("30 07 0001 74 03 21 0001")
        self.refuse("30 06 0001 74 02 02 00")
        self.refuse("30 06 0001 74 02 01 02", 0x82)
        self.refuse("30 06 0001 74 02 0b 00", 0x82)
        self.refuse("82 0b 0001 04 0b 01 0b 02 0001 61 00", 0x82)
        for tag, zero in (("21", "0000"), ("27", "00000000")):
            body = hexes(f"0004 4d515454 05 02 0000 0{1 + len(zero) // 2} {tag} {zero} 0001 61")
            self.refuse(bytes((0x10, len(body))) + body, 0x82, version=0)
        body = hexes("0004 4d515454 05 02 0000 04 16 0001 61 0001 61")
        self.refuse(bytes((0x10, len(body))) + body, 0x82, version=0)

    def test_no_properties_is_a_zero(self) -> None:
        """A packet without properties says so with a length of 0."""
        self.assertEqual(encode(p.Publish("t", b"x"), V5), hexes("30 05 0001 74 00 78"))
        self.assertEqual(
            encode(p.Subscribe(packet_id=1, subscriptions=(p.Subscription("a"),)), V5),
            hexes("82 07 0001 00 0001 61 00"),
        )
        self.assertEqual(encode(p.Connack(), V5), hexes("20 03 00 00 00"))

    def test_reason_codes(self) -> None:
        """Each packet has its own reasons; others are refused."""
        for head in ("40", "50"):
            self.refuse(f"{head} 03 0001 01", 0x82)
        for head in ("62", "70"):
            self.refuse(f"{head} 03 0001 80", 0x82)
        self.refuse("e0 01 01", 0x82)
        self.refuse("e0 01 8e", 0x82)
        self.refuse("e0 01 04", 0x82, is_client=False)
        self.refuse("f0 01 01", 0x82)
        self.refuse("20 03 00 01 00", 0x82, is_client=False)
        self.refuse("20 02 00 06", version=V4, is_client=False)
        self.refuse("90 04 0001 00 03", 0x82, is_client=False)
        self.refuse("90 03 0001 03", 0x82, version=V4, is_client=False)
        self.refuse("b0 04 0001 00 01", 0x82, is_client=False)

    def test_connack_flags(self) -> None:
        """Reserved flags, and a session with a refusal."""
        self.refuse("20 02 02 00", version=V4, is_client=False)
        self.refuse("20 03 01 80 00", 0x82, is_client=False)

    def test_server_disconnect(self) -> None:
        """A server's DISCONNECT has no session expiry."""
        packet = p.Disconnect(properties=Properties(session_expiry=1))
        self.refuse(encode(packet, V5), 0x82, is_client=False)

    def test_too_long(self) -> None:
        """Packets with more than their content, or less."""
        for data in ("c0 01 00", "e0 01 00", "40 03 0001 00"):
            self.refuse(data, version=V4)
        self.refuse("10 01 00", version=0)
        self.refuse("82 02 0001", 0x82, version=V4)
        self.refuse("40 01 00")

    def test_limit(self) -> None:
        """A packet over the limit is refused as soon as its length is known."""
        one = parser(V5, True, limit=100)
        self.assertEqual(len(one.feed(encode(p.Publish("t", b"x" * 94), V5))), 1)
        one.feed(b"\x30\x63")
        assert one.error is not None
        self.assertEqual(one.error.reason, reasons.PACKET_TOO_LARGE)
        self.assertEqual(one.held_bytes, 0)


class EncodingTests(SynchronousTestCase):
    """What cannot be said is not said."""

    def test_refused(self) -> None:
        """Values that do not fit raise ValueError that names the property."""
        for found in (
            Properties(receive_maximum=70_000),
            Properties(message_expiry=2**32),
            Properties(content_type="x" * 65_536),
            Properties(user=(("a\0", ""),)),
            Properties(subscription_ids=(2**28,)),
        ):
            with self.subTest(str(found)):
                self.assertRaises(ValueError, props.write, found)
        self.assertRaises(ValueError, encode, p.Auth(), V4)
        self.assertRaises(ValueError, encode, p.Connack(reason=0x9D + 5), V4)
        self.assertRaises(
            ValueError, encode, p.Connect(client_id="c", version=V4, password=b"p"), V4
        )
        self.assertRaises(ValueError, encode, p.Connect(client_id="c", version=3), V4)

    def test_known_bytes(self) -> None:
        """Bytes as the specifications show them."""
        cases: list[tuple[Packet, int, str]] = [
            (p.Puback(7), V5, "40 02 0007"),
            (p.Puback(7, 0x10), V5, "40 03 0007 10"),
            (p.Puback(7, 0x10), V4, "40 02 0007"),
            (p.Pubrel(7), V4, "62 02 0007"),
            (p.Suback(packet_id=1, reasons=(1, 0x80)), V4, "90 04 0001 01 80"),
            (p.Unsuback(packet_id=1, reasons=(0,)), V4, "b0 02 0001"),
            (p.Connack(reason=0x87), V4, "20 02 00 05"),
            (p.Disconnect(), V5, "e0 00"),
            (p.Disconnect(reason=0x8E), V5, "e0 01 8e"),
            (p.Disconnect(reason=0x8E), V4, "e0 00"),
            (p.Publish("a/b", b"x", 1, True, True, 10), V4, "3b 08 0003 612f62 000a 78"),
        ]
        for packet, version, data in cases:
            self.assertEqual(encode(packet, version).hex(" "), hexes(data).hex(" "))
