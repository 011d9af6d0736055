from __future__ import annotations

from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import NotConnected
from kubeedge_tx.mqtt import clienteffects as c
from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt.clientstate import ClientState
from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
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
    Will,
)
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from kubeedge_tx.mqtt.reasons import MqttError
from tests.mqtt.harness import VERSIONS

T = TypeVar("T")


class Rig:
    """A client, and a broker that says what the test wants."""

    def __init__(self, version: int = V5, **options: Any) -> None:
        self.version = version
        self.state = ClientState(
            c.ClientOptions(client_id="c", version=version, **{"clean_start": False, **options})
        )
        self.now = 100.0
        self.sent: list[Packet] = []
        self.effects: list[c.ClientEffect] = []
        self.parser = Parser(1 << 28, from_client=True)
        self.acks = True

    def open(self, *, present: bool = False, found: Properties = NO_PROPERTIES) -> Connect:
        """A new connection that is let in."""
        connect = self.dial()
        self.say(Connack(session_present=present, properties=found))
        return connect

    def dial(self) -> Connect:
        """A new connection without an answer."""
        self.parser = Parser(1 << 28, from_client=True)
        self.sent.clear()
        self.do(self.state.opened(self.now))
        connect = self.sent.pop(0)
        assert isinstance(connect, Connect) and not self.sent
        return connect

    def do(self, effects: list[c.ClientEffect]) -> None:
        """Carry effects out; messages are acknowledged at once, if wanted."""
        for each in effects:
            if isinstance(each, c.Write):
                self.sent += self.parser.feed(b"".join(each.data))
                assert self.parser.error is None, self.parser.error
            else:
                self.effects.append(each)
        for each in effects:
            if isinstance(each, c.Received) and each.qos and self.acks:
                self.do(self.state.acknowledge(each, self.now))

    def say(self, *packets: Packet) -> None:
        """The broker sends."""
        data = b"".join(encode(each, self.version) for each in packets)
        self.do(self.state.receive(data, self.now))

    def lose(self) -> None:
        self.do(self.state.lost(self.now))

    def publish(self, payload: bytes = b"x", qos: int = 1, **rest: Any) -> c.Token:
        token, effects = self.state.publish("a", payload, qos=qos, now=self.now, **rest)
        self.do(effects)
        return token

    def one(self, kind: type[T]) -> T:
        """The only packet sent since the last look."""
        sent, self.sent = self.sent, []
        assert len(sent) == 1 and isinstance(sent[0], kind), sent
        return sent[0]

    def take(self, kind: type[T]) -> list[T]:
        """Effects of a kind since the last look."""
        found: list[T] = [each for each in self.effects if isinstance(each, kind)]
        self.effects = [each for each in self.effects if not isinstance(each, kind)]
        return found

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.state.tick(self.now))


class OpeningTests(SynchronousTestCase):
    """How a client begins."""

    def test_connect(self) -> None:
        """CONNECT is the first packet and says what the options say."""
        will = Will(topic="w", payload=b"m", qos=1)
        rig = Rig(
            session_expiry=30,
            keep_alive=7,
            username="u",
            password=b"p",
            will=will,
            user_properties=(("k", "v"),),
        )
        connect = rig.dial()
        self.assertEqual(
            connect,
            Connect(
                client_id="c",
                clean_start=False,
                keep_alive=7,
                will=will,
                username="u",
                password=b"p",
                properties=Properties(
                    session_expiry=30,
                    receive_maximum=256,
                    maximum_packet_size=2 * 1024 * 1024,
                    topic_alias_maximum=32,
                    user=(("k", "v"),),
                ),
            ),
        )
        self.assertNotIn("b'p'", repr(rig.state.options))

    def test_clean_only_once(self) -> None:
        """A session that the broker keeps is not thrown away at the second connection."""
        rig = Rig(clean_start=True, session_expiry=30)
        self.assertTrue(rig.open().clean_start)
        rig.lose()
        self.assertFalse(rig.open(present=True).clean_start)
        rig = Rig(V4, clean_start=True)
        rig.open()
        rig.lose()
        self.assertTrue(rig.open().clean_start)

    def test_refused(self) -> None:
        """A refusal is told, with the broker's words if it has some."""
        for version, text in ((V4, "reason 0x87"), (V5, "not you")):
            rig = Rig(version)
            rig.dial()
            found = Properties(reason_string="not you") if version == V5 else NO_PROPERTIES
            rig.say(Connack(reason=reasons.NOT_AUTHORIZED, properties=found))
            self.assertEqual(rig.take(c.Refused), [c.Refused(reasons.NOT_AUTHORIZED, text)])
            self.assertEqual(len(rig.take(c.Shut)), 1)
            self.assertFalse(rig.state.is_open)

    def test_session_that_should_not_be(self) -> None:
        """After a clean start a present session is an error of the broker."""
        rig = Rig(clean_start=True)
        rig.dial()
        rig.say(Connack(session_present=True))
        self.assertEqual(len(rig.take(c.Shut)), 1)

    def test_wrong_packets(self) -> None:
        """Before CONNACK nothing else; after it no second one, no AUTH, nothing unasked."""
        bad: list[Packet] = [Publish("a", b""), Auth(), Suback(packet_id=1, reasons=(0,))]
        for packet in bad:
            rig = Rig()
            rig.dial()
            rig.say(packet)
            self.assertEqual(len(rig.take(c.Shut)), 1, packet)
            self.assertEqual(rig.sent, [])
        for packet in (Connack(), Auth(), *bad[2:]):
            rig = Rig()
            rig.open()
            rig.say(packet)
            self.assertEqual(rig.one(Disconnect).reason, reasons.PROTOCOL_ERROR, packet)
            self.assertEqual(len(rig.take(c.Shut)), 1)

    def test_garbage(self) -> None:
        """Malformed packets end the connection; MQTT 5 brokers are told."""
        for version in VERSIONS:
            rig = Rig(version)
            rig.open()
            rig.do(rig.state.receive(b"\x36\x05\0\1t\0\1", rig.now))
            if version == V5:
                self.assertEqual(rig.one(Disconnect).reason, reasons.MALFORMED_PACKET)
            self.assertEqual(len(rig.take(c.Shut)), 1)
            self.assertEqual(rig.state.receive(b"\xd0\x00", rig.now), [])

    def test_before_connack(self) -> None:
        """Nothing is sent between CONNECT and CONNACK; then what waits is."""
        rig = Rig()
        rig.dial()
        rig.publish()
        self.assertEqual(rig.sent, [])
        self.assertRaises(NotConnected, rig.publish, qos=0)
        self.assertRaises(NotConnected, rig.state.subscribe, [Subscription("a")], now=rig.now)
        self.assertRaises(NotConnected, rig.state.unsubscribe, ["a"], now=rig.now)
        rig.say(Connack())
        rig.one(Publish)

    def test_goodbye(self) -> None:
        """DISCONNECT is the last packet."""
        for version in VERSIONS:
            rig = Rig(version)
            rig.open()
            rig.do(rig.state.disconnect(rig.now))
            self.assertEqual(rig.one(Disconnect), Disconnect())
            self.assertEqual(len(rig.take(c.Shut)), 1)
            rig.publish()
            rig.advance(1000)
            self.assertEqual(rig.sent, [])
            self.assertEqual(rig.state.disconnect(rig.now), [])

    def test_goodbye_of_the_broker(self) -> None:
        """A broker's DISCONNECT is told and the connection closed."""
        rig = Rig()
        rig.open()
        rig.say(Disconnect(reason=reasons.SESSION_TAKEN_OVER))
        self.assertEqual(rig.take(c.Ended), [c.Ended(reasons.SESSION_TAKEN_OVER, "reason 0x8e")])
        self.assertEqual(len(rig.take(c.Shut)), 1)
        self.assertEqual(rig.sent, [])


class PingTests(SynchronousTestCase):
    """Keep alive."""

    def test_ping(self) -> None:
        """A silent client pings within its keep alive; one that is answered stays."""
        rig = Rig(keep_alive=20)
        rig.open()
        for _ in range(5):
            rig.advance(14)
            self.assertEqual(rig.sent, [])
            rig.advance(1)
            rig.one(Pingreq)
            rig.say(Pingresp())
        self.assertTrue(rig.state.is_open)

    def test_no_answer(self) -> None:
        """A broker that does not answer is given up."""
        rig = Rig(keep_alive=20)
        rig.open()
        rig.advance(15)
        rig.advance(10)
        self.assertEqual(rig.take(c.Shut), [])
        rig.advance(1)
        self.assertEqual(rig.take(c.Shut)[0].reason, reasons.KEEP_ALIVE_TIMEOUT)

    def test_only_sending(self) -> None:
        """A client that only sends learns, too, that nobody is there."""
        rig = Rig(keep_alive=20)
        rig.open()
        for _ in range(16):
            rig.publish(qos=0)
            rig.advance(1)
        self.assertTrue(any(isinstance(each, Pingreq) for each in rig.sent))

    def test_of_the_server(self) -> None:
        """The server's keep alive counts, not ours; 0 means none."""
        rig = Rig(keep_alive=20)
        rig.open(found=Properties(server_keep_alive=4))
        rig.advance(3)
        rig.one(Pingreq)
        rig = Rig(keep_alive=0)
        rig.open()
        rig.advance(10**6)
        self.assertEqual(rig.sent, [])


class PublishingTests(SynchronousTestCase):
    """Messages we send."""

    def test_all_qos(self) -> None:
        """Each is completed when the broker has it."""
        for version in VERSIONS:
            rig = Rig(version)
            rig.open()
            token = rig.publish(qos=0)
            self.assertEqual(rig.one(Publish), Publish("a", b"x"))
            self.assertEqual(rig.take(c.Completed), [c.Completed(token, (0,))])
            token = rig.publish(qos=1)
            number = rig.one(Publish).packet_id
            self.assertEqual(rig.take(c.Completed), [])
            rig.say(Puback(number))
            self.assertEqual(rig.take(c.Completed), [c.Completed(token, (0,))])
            token = rig.publish(qos=2)
            number = rig.one(Publish).packet_id
            rig.say(Pubrec(number))
            self.assertEqual(rig.one(Pubrel), Pubrel(number))
            rig.say(Pubcomp(number))
            self.assertEqual(rig.take(c.Completed), [c.Completed(token, (0,))])
            self.assertEqual(len(rig.state), 0)

    def test_releases_in_order(self) -> None:
        """PUBRELs leave in the order of the PUBRECs."""
        rig = Rig()
        rig.open()
        for _ in range(3):
            rig.publish(qos=2)
        numbers = [each.packet_id for each in rig.sent if isinstance(each, Publish)]
        rig.sent.clear()
        order = [numbers[1], numbers[2], numbers[0]]
        rig.say(*(Pubrec(each) for each in order))
        self.assertEqual(rig.sent, [Pubrel(each) for each in order])

    def test_properties_of_brokers(self) -> None:
        """A publish has no subscription identifiers, and no alias that was not agreed on."""
        rig = Rig()
        rig.open()
        found = Properties(subscription_ids=(1,), topic_alias=3, content_type="t")
        rig.publish(qos=0, properties=found)
        self.assertEqual(rig.one(Publish).properties, Properties(content_type="t"))

    def test_refused(self) -> None:
        """A reason of the broker comes with the completion."""
        rig = Rig()
        rig.open()
        tokens = [rig.publish(qos=qos) for qos in (1, 2)]
        one, two = (each.packet_id for each in rig.sent if isinstance(each, Publish))
        rig.say(Puback(one, reasons.NOT_AUTHORIZED), Pubrec(two, reasons.QUOTA_EXCEEDED))
        self.assertEqual(
            rig.take(c.Completed),
            [c.Completed(tokens[0], (0x87,)), c.Completed(tokens[1], (0x97,))],
        )

    def test_resent(self) -> None:
        """On the next connection what is unacknowledged comes again, in order, then the rest."""
        for version in VERSIONS:
            rig = Rig(version, session_expiry=100)
            rig.open()
            for n in range(3):
                rig.publish(b"%d" % n, 2)
            first = [each.packet_id for each in rig.sent if isinstance(each, Publish)]
            rig.sent.clear()
            rig.say(Pubrec(first[0]))
            rig.lose()
            rig.publish(b"3", 1)
            rig.open(present=True)
            sent, rig.sent = rig.sent, []
            self.assertEqual(sent[0], Pubrel(first[0]))
            again = [each for each in sent[1:] if isinstance(each, Publish)]
            self.assertEqual(
                [(each.payload, each.dup) for each in again],
                [(b"1", True), (b"2", True), (b"3", False)],
            )
            self.assertEqual([each.packet_id for each in again[:2]], first[1:])

    def test_session_lost(self) -> None:
        """Without a session QoS 1 is sent anew; of QoS 2 in flight nobody knows."""
        rig = Rig(session_expiry=100)
        rig.open()
        one, two, three = rig.publish(b"1", 1), rig.publish(b"2", 2), rig.publish(b"3", 2)
        numbers = [each.packet_id for each in rig.sent if isinstance(each, Publish)]
        rig.say(Pubrec(numbers[2]))
        rig.lose()
        rig.open()
        packet = rig.one(Publish)
        self.assertEqual((packet.payload, packet.dup), (b"1", False))
        self.assertEqual([each.token for each in rig.take(c.Failed)], [two])
        rig.say(Puback(packet.packet_id))
        self.assertEqual([each.token for each in rig.take(c.Completed)], [three, one])

    def test_receive_maximum(self) -> None:
        """The broker's receive maximum holds; subscribing passes by."""
        rig = Rig()
        rig.open(found=Properties(receive_maximum=2))
        for _ in range(4):
            rig.publish()
        self.assertEqual(len(rig.sent), 2)
        first = rig.sent[0]
        assert isinstance(first, Publish)
        rig.sent.clear()
        _, effects = rig.state.subscribe([Subscription("b")], now=rig.now)
        rig.do(effects)
        rig.one(Subscribe)
        rig.say(Puback(first.packet_id))
        rig.one(Publish)

    def test_limits_of_the_broker(self) -> None:
        """Maximum QoS, no retained messages, maximum packet size."""
        rig = Rig()
        rig.open(found=Properties(maximum_qos=1, retain_available=0, maximum_packet_size=40))
        self.assertRaises(MqttError, rig.publish, qos=2)
        self.assertRaises(MqttError, rig.publish, retain=True)
        for qos in (0, 1):
            token = rig.publish(b"x" * 50, qos)
            self.assertEqual([each.token for each in rig.take(c.Failed)], [token])
        self.assertEqual(rig.sent, [])
        self.assertEqual(len(rig.state), 0)

    def test_aliases(self) -> None:
        """Topics get aliases if the broker allows, anew on each connection."""
        rig = Rig(session_expiry=100)
        topic = "long/topic/name"
        for maximum in (1, None):
            rig.open(found=Properties(topic_alias_maximum=maximum), present=maximum is None)
            for _ in range(2):
                _, effects = rig.state.publish(topic, b"", now=rig.now)
                rig.do(effects)
            got = [
                (each.topic, each.properties.topic_alias)
                for each in rig.sent
                if isinstance(each, Publish)
            ]
            wanted = [(topic, 1), ("", 1)] if maximum else [(topic, None)] * 2
            self.assertEqual(got, wanted)
            rig.lose()

    def test_queue(self) -> None:
        """Without a connection as many wait as are allowed."""
        rig = Rig(max_queued=2)
        tokens = [rig.publish(b"%d" % n) for n in range(3)]
        self.assertEqual([each.token for each in rig.take(c.Failed)], tokens[2:])
        rig.open()
        self.assertEqual(len(rig.sent), 2)

    def test_expired(self) -> None:
        """What expires while it waits is not sent."""
        rig = Rig()
        token = rig.publish(properties=Properties(message_expiry=5))
        rig.now += 6
        rig.open()
        self.assertEqual(rig.sent, [])
        self.assertEqual([each.token for each in rig.take(c.Failed)], [token])

    def test_bad_topics(self) -> None:
        """Topics with wildcards, and empty ones, are refused at once."""
        rig = Rig()
        rig.open()
        for topic in ("", "a/#", "+"):
            self.assertRaises(MqttError, rig.state.publish, topic, b"", now=rig.now)
        self.assertRaises(MqttError, rig.state.subscribe, [Subscription("a#")], now=rig.now)
        self.assertRaises(MqttError, rig.state.unsubscribe, ["$share/g"], now=rig.now)

    def test_odd_answers(self) -> None:
        """An answer that does not fit the QoS is an error of the broker."""
        rig = Rig()
        rig.open()
        rig.publish(qos=2)
        rig.say(Puback(rig.one(Publish).packet_id))
        self.assertEqual(rig.one(Disconnect).reason, reasons.PROTOCOL_ERROR)


class SubscribingTests(SynchronousTestCase):
    """Subscriptions."""

    def test_subscribe(self) -> None:
        """Options go out, reasons come back."""
        rig = Rig()
        rig.open()
        wanted = (Subscription("a", 1, True, True, 2), Subscription("b/#", 2))
        token, effects = rig.state.subscribe(wanted, now=rig.now, identifier=9)
        rig.do(effects)
        packet = rig.one(Subscribe)
        self.assertEqual(packet.subscriptions, wanted)
        self.assertEqual(packet.properties.subscription_ids, (9,))
        rig.say(Suback(packet_id=packet.packet_id, reasons=(1, 0x87)))
        self.assertEqual(rig.take(c.Completed), [c.Completed(token, (1, 0x87))])

    def test_unsubscribe(self) -> None:
        """Both versions are completed."""
        for version, codes in ((V4, ()), (V5, (0x11,))):
            rig = Rig(version)
            rig.open()
            token, effects = rig.state.unsubscribe(["a"], now=rig.now)
            rig.do(effects)
            packet = rig.one(Unsubscribe)
            rig.say(Unsuback(packet_id=packet.packet_id, reasons=codes))
            self.assertEqual(rig.take(c.Completed), [c.Completed(token, codes or (0,))])

    def test_lost(self) -> None:
        """What was asked for and not answered fails with the connection."""
        rig = Rig()
        rig.open()
        token, effects = rig.state.subscribe([Subscription("a")], now=rig.now)
        rig.do(effects)
        rig.lose()
        self.assertEqual([each.token for each in rig.take(c.Failed)], [token])

    def test_identifiers(self) -> None:
        """Packet identifiers of all kinds are different while in use."""
        rig = Rig()
        rig.open()
        rig.state._flow._last_id = 0xFFFD
        for n in range(6):
            if n % 2:
                rig.publish(qos=2)
            else:
                _, effects = rig.state.subscribe([Subscription("a")], now=rig.now)
                rig.do(effects)
        used = [each.packet_id for each in rig.sent]  # type: ignore[union-attr]
        self.assertEqual(used, [0xFFFE, 0xFFFF, 1, 2, 3, 4])


class ReceivingTests(SynchronousTestCase):
    """Messages we get."""

    def test_received(self) -> None:
        """All that a message has, and the answer its QoS asks for."""
        rig = Rig()
        rig.open()
        found = Properties(content_type="t", subscription_ids=(1, 2), message_expiry=9)
        rig.say(Publish("a", b"1", 1, True, False, 7, found))
        (got,) = rig.take(c.Received)
        self.assertEqual((got.message.topic, got.message.payload), ("a", b"1"))
        self.assertEqual((got.qos, got.retain, got.dup, got.packet_id), (1, True, False, 7))
        self.assertEqual(got.subscription_ids, (1, 2))
        self.assertEqual(got.message.properties, found)
        self.assertEqual(rig.one(Puback), Puback(7))
        rig.say(Publish("a", b"2"))
        self.assertEqual(rig.sent, [])
        self.assertEqual(len(rig.take(c.Received)), 1)

    def test_qos_2(self) -> None:
        """Handed over once, over connections, until it is released."""
        rig = Rig(session_expiry=100)
        rig.open()
        rig.say(Publish("a", b"1", 2, packet_id=7))
        rig.one(Pubrec)
        rig.say(Publish("a", b"1", 2, dup=True, packet_id=7))
        rig.one(Pubrec)
        rig.lose()
        rig.open(present=True)
        rig.say(Publish("a", b"1", 2, dup=True, packet_id=7))
        rig.one(Pubrec)
        self.assertEqual(len(rig.take(c.Received)), 1)
        rig.say(Pubrel(7))
        self.assertEqual(rig.one(Pubcomp), Pubcomp(7))
        rig.say(Publish("a", b"2", 2, packet_id=7))
        self.assertEqual(len(rig.take(c.Received)), 1)
        rig.say(Pubrel(8))
        self.assertEqual(rig.sent[-1], Pubcomp(8, reasons.PACKET_ID_NOT_FOUND))

    def test_acknowledged_late(self) -> None:
        """Answers leave in the order of the messages, however they are dealt with."""
        rig = Rig()
        rig.acks = False
        rig.open()
        rig.say(*(Publish("a", b"", 1 + n % 2, packet_id=n) for n in range(1, 6)))
        got = rig.take(c.Received)
        for each in reversed(got[1:]):
            rig.do(rig.state.acknowledge(each, rig.now))
        self.assertEqual(rig.sent, [])
        rig.do(rig.state.acknowledge(got[0], rig.now))
        self.assertEqual([each.packet_id for each in rig.sent], [1, 2, 3, 4, 5])  # type: ignore[union-attr]

    def test_acknowledged_after_the_connection(self) -> None:
        """QoS 2 dealt with late is not handed over again; QoS 1 is."""
        rig = Rig(session_expiry=100)
        rig.acks = False
        rig.open()
        rig.say(Publish("a", b"1", 1, packet_id=1), Publish("a", b"2", 2, packet_id=2))
        got = rig.take(c.Received)
        rig.lose()
        for each in got:
            rig.do(rig.state.acknowledge(each, rig.now))
        rig.open(present=True)
        rig.acks = True
        rig.say(
            Publish("a", b"1", 1, dup=True, packet_id=1),
            Publish("a", b"2", 2, dup=True, packet_id=2),
        )
        self.assertEqual([each.qos for each in rig.take(c.Received)], [1])
        self.assertEqual(rig.sent, [Puback(1), Pubrec(2)])

    def test_refused(self) -> None:
        """We can say no; it is over then."""
        rig = Rig()
        rig.acks = False
        rig.open()
        rig.say(Publish("a", b"", 1, packet_id=1), Publish("a", b"", 2, packet_id=2))
        for each in rig.take(c.Received):
            rig.do(rig.state.acknowledge(each, rig.now, reasons.QUOTA_EXCEEDED))
        self.assertEqual(rig.sent, [Puback(1, 0x97), Pubrec(2, 0x97)])
        rig.say(Publish("a", b"", 2, packet_id=2))
        self.assertEqual(len(rig.take(c.Received)), 1)

    def test_receive_maximum(self) -> None:
        """A broker that sends more than we allow is cut off."""
        rig = Rig(receive_maximum=2)
        rig.open()
        for n in range(1, 20):
            rig.say(Publish("a", b"", 2, packet_id=n), Pubrel(n))
            rig.say(Publish("a", b"", 1, packet_id=n))
        self.assertTrue(rig.state.is_open)
        rig.acks = False
        rig.sent.clear()
        rig.say(*(Publish("a", b"", 1, packet_id=n) for n in range(1, 4)))
        self.assertEqual(rig.one(Disconnect).reason, reasons.RECEIVE_MAXIMUM_EXCEEDED)

    def test_aliases(self) -> None:
        """Aliases of the broker are understood up to our maximum."""
        rig = Rig(topic_alias_maximum=1)
        rig.open()
        rig.say(Publish("a", b"", properties=Properties(topic_alias=1)))
        rig.say(Publish("", b"", properties=Properties(topic_alias=1)))
        self.assertEqual([each.message.topic for each in rig.take(c.Received)], ["a", "a"])
        rig.say(Publish("a", b"", properties=Properties(topic_alias=2)))
        self.assertEqual(rig.one(Disconnect).reason, reasons.TOPIC_ALIAS_INVALID)

    def test_too_large(self) -> None:
        """A packet over our limit ends the connection."""
        rig = Rig(maximum_packet_bytes=100)
        rig.open()
        rig.say(Publish("a", b"x" * 100))
        self.assertEqual(rig.one(Disconnect).reason, reasons.PACKET_TOO_LARGE)
