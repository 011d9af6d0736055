from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt.acl import AccessList
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Will,
)
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from tests.mqtt.harness import VERSIONS, Bench, Peer


class ReceivingTests(SynchronousTestCase):
    """Messages from clients."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.reader = self.bench.client("reader")
        self.reader.subscribe("#", qos=2)

    def test_qos_0(self) -> None:
        """Passed on, not answered."""
        sender = self.bench.client("s", V4)
        sender.take()
        sender.publish("a", b"1")
        self.assertEqual(self.reader.one(Publish), Publish("a", b"1"))
        self.assertEqual(sender.got, [])

    def test_qos_1(self) -> None:
        """Passed on and answered with its identifier; the same identifier again is a new one."""
        for version in VERSIONS:
            sender = self.bench.client("s", version)
            for dup in (False, True):
                sender.take()
                sender.publish("a", b"1", 1, packet_id=77, dup=dup)
                self.assertEqual(sender.one(Puback), Puback(77))
                self.assertEqual(self.reader.payloads(), [b"1"])

    def test_qos_2(self) -> None:
        """Passed on once, however often it comes, until it is released."""
        for version in VERSIONS:
            sender = self.bench.client("s", version)
            sender.take()
            for dup in (False, True, True):
                sender.publish("a", b"1", 2, packet_id=5, dup=dup)
                self.assertEqual(sender.one(Pubrec), Pubrec(5))
            self.assertEqual(self.reader.payloads(), [b"1"])
            sender.send(Pubrel(5))
            self.assertEqual(sender.one(Pubcomp), Pubcomp(5))
            sender.publish("a", b"2", 2, packet_id=5, dup=True)
            self.assertEqual(self.reader.payloads(), [b"2"])

    def test_qos_2_over_a_reconnect(self) -> None:
        """The session remembers what was passed on."""
        sender = self.bench.client("s", V4, clean=False)
        sender.publish("a", b"1", 2, packet_id=5)
        sender.lose()
        sender = self.bench.client("s", V4, clean=False)
        sender.take()
        sender.publish("a", b"1", 2, packet_id=5, dup=True)
        sender.one(Pubrec)
        sender.send(Pubrel(5))
        sender.one(Pubcomp)
        self.assertEqual(self.reader.payloads(), [b"1"])

    def test_release_of_nothing(self) -> None:
        """A PUBREL of an unknown identifier is answered; MQTT 5 says that it is unknown."""
        for version, reason in ((V4, 0), (V5, reasons.PACKET_ID_NOT_FOUND)):
            sender = self.bench.client("s", version)
            sender.take()
            sender.send(Pubrel(9))
            self.assertEqual(sender.one(Pubcomp), Pubcomp(9, reason))

    def test_expired_before_release(self) -> None:
        """The handshake goes to its end when the message has expired meanwhile."""
        sender = self.bench.client("s")
        sender.take()
        sender.publish("a", b"", 2, packet_id=5, properties=Properties(message_expiry=1))
        sender.one(Pubrec)
        self.bench.advance(10)
        sender.send(Pubrel(5))
        self.assertEqual(sender.one(Pubcomp), Pubcomp(5))

    def test_no_subscribers(self) -> None:
        """MQTT 5 is told that nobody subscribed."""
        self.reader.unsubscribe("#")
        for version, reason in ((V4, 0), (V5, reasons.NO_MATCHING_SUBSCRIBERS)):
            sender = self.bench.client("s", version)
            sender.take()
            sender.publish("a", qos=1)
            self.assertEqual(sender.one(Puback), Puback(1, reason))
            sender.publish("a", qos=2)
            self.assertEqual(sender.one(Pubrec), Pubrec(1, reason))

    def test_answers_in_order(self) -> None:
        """Answers leave in the order of the messages."""
        sender = self.bench.client("s")
        sender.take()
        sender.send(*(Publish("a", b"", 1 + n % 2, packet_id=n) for n in range(1, 20)))
        self.assertEqual(
            [each.packet_id for each in sender.take()],  # type: ignore[union-attr]
            list(range(1, 20)),
        )

    def test_dup_is_not_passed_on(self) -> None:
        """The DUP flag says something about one connection only."""
        sender = self.bench.client("s")
        sender.publish("a", qos=1, dup=True)
        self.assertFalse(self.reader.one(Publish).dup)

    def test_binary_safe(self) -> None:
        """Payloads are bytes, empty or not."""
        sender = self.bench.client("s")
        for payload in (b"", b"\0\xff" * 3000, bytes(range(256))):
            sender.publish("a", payload)
            self.assertEqual(self.reader.payloads(), [payload])

    def test_subscription_identifier(self) -> None:
        """A client's PUBLISH has none."""
        sender = self.bench.client("s")
        sender.publish("a", properties=Properties(subscription_ids=(1,)))
        self.assertEqual(sender.goodbye, reasons.PROTOCOL_ERROR)

    def test_receive_maximum(self) -> None:
        """More unacknowledged messages than we allow end the connection."""
        bench = Bench(Limits(receive_maximum=2))
        sender = bench.client("s")
        sender.take()
        for n in (1, 2):
            sender.publish("a", qos=2, packet_id=n)
            sender.one(Pubrec)
        sender.send(Pubrel(1))
        sender.one(Pubcomp)
        sender.publish("a", qos=2, packet_id=3)
        sender.one(Pubrec)
        sender.publish("a", qos=1, packet_id=4)
        self.assertEqual(sender.goodbye, reasons.RECEIVE_MAXIMUM_EXCEEDED)

    def test_receive_maximum_is_given_back(self) -> None:
        """Completed and refused messages do not count."""
        access = AccessList.parse("topic write ok", "acl")
        bench = Bench(Limits(receive_maximum=2), access=access)
        sender = bench.client("s")
        for n in range(1, 50):
            sender.take()
            topic = "ok" if n % 3 else "no"
            sender.publish(topic, qos=1 + n % 2, packet_id=n)
            (answer,) = sender.take()
            if isinstance(answer, Pubrec) and answer.reason < 0x80:
                sender.send(Pubrel(n))
        self.assertIsNone(sender.closed)


class RefusedTests(SynchronousTestCase):
    """Messages that may not be published."""

    def setUp(self) -> None:
        text = "topic readwrite free/#\ntopic read secret\npattern write own/%c"
        self.bench = Bench(access=AccessList.parse(text, "acl"))

    def test_not_allowed(self) -> None:
        """MQTT 5 is told; 3.1.1 gets the answer that it would get for any message."""
        self.bench.local("#")
        sender = self.bench.client("s")
        sender.take()
        sender.publish("secret", qos=1)
        self.assertEqual(sender.one(Puback), Puback(1, reasons.NOT_AUTHORIZED))
        sender.publish("secret", qos=2)
        self.assertEqual(sender.one(Pubrec), Pubrec(1, reasons.NOT_AUTHORIZED))
        sender.publish("secret")
        old = self.bench.client("old", V4)
        old.take()
        old.publish("secret", qos=1)
        self.assertEqual(old.one(Puback), Puback(1))
        old.publish_whole("secret")
        self.assertEqual(self.bench.topics, [])
        self.assertEqual(self.bench.broker.counters.denied_publish, 5)
        sender.publish("own/s")
        sender.publish("own/old")
        self.assertEqual(self.bench.topics, ["own/s"])

    def test_reading(self) -> None:
        """A subscription gives what may be read, live and retained, and no more."""
        boss = self.bench.broker
        for topic in ("secret", "hidden", "free/x"):
            _, effects = boss.publish(topic, topic.encode(), now=self.bench.now, retain=True)
            self.bench.run(effects)
        reader = self.bench.client("r")
        reader.subscribe("#")
        self.assertEqual(sorted(reader.payloads()), [b"free/x", b"secret"])
        for topic in ("secret", "hidden", "free/x"):
            _, effects = boss.publish(topic, topic.encode(), now=self.bench.now)
            self.bench.run(effects)
        self.assertEqual(sorted(reader.payloads()), [b"free/x", b"secret"])

    def test_changed(self) -> None:
        """Rules that changed count from the moment the broker is told."""
        rules = {"free/x": True}

        class Access:
            def allows(self, user: str, client_id: str, topic: str, write: bool) -> bool:
                return rules[topic]

        bench = Bench(access=Access())
        reader, sender = bench.client("r"), bench.client("s")
        reader.subscribe("#")
        for is_allowed in (True, False, True):
            rules["free/x"] = is_allowed
            bench.broker.access_changed()
            sender.publish("free/x")
            self.assertEqual(len(reader.payloads()), int(is_allowed))

    def test_shared(self) -> None:
        """A shared message goes to a member that may read it."""
        readers = [self.bench.client(name) for name in "ab"]
        for reader in readers:
            reader.subscribe("$share/g/own/a")
        self.bench.client("a").publish("own/a")
        self.assertEqual([each.payloads() for each in readers], [[], []])

    def test_wills(self) -> None:
        """A will is published only where its client may."""
        self.bench.local("#")
        for topic in ("secret", "free/w"):
            self.bench.client("c", will=Will(topic=topic, payload=b"")).lose()
        self.assertEqual(self.bench.topics, ["free/w"])

    def test_system_topics(self) -> None:
        """$SYS is the broker's own; other topics that begin with $ are not."""
        bench = Bench()
        bench.local("$SYS/#", "$hw/#", "$SYSTEM")
        sender = bench.client("s")
        sender.take()
        sender.publish("$SYS/x", qos=1)
        self.assertEqual(sender.one(Puback).reason, reasons.NOT_AUTHORIZED)
        for topic in ("$SYS", "$SYSTEM", "$hw/events/device/ns/d/twin/update"):
            sender.publish(topic)
        self.assertEqual(bench.topics, ["$SYSTEM", "$hw/events/device/ns/d/twin/update"])


class SendingTests(SynchronousTestCase):
    """Messages to clients."""

    def setUp(self) -> None:
        self.bench = Bench(Limits(max_inflight=10))
        self.sender = self.bench.client("sender")

    def reader(self, version: int = V5, **rest: object) -> Peer:
        reader = self.bench.client("reader", version, **rest)  # type: ignore[arg-type]
        reader.subscribe("#", qos=2)
        return reader

    def send(self, *payloads: bytes, qos: int = 1, topic: str = "a") -> None:
        for payload in payloads:
            self.sender.publish(topic, payload, qos)
            if qos == 2:
                self.sender.send(Pubrel(1))

    def test_identifiers(self) -> None:
        """Messages in flight have different identifiers, none of them 0."""
        reader = self.reader()
        for _ in range(7):
            self.send(*[b"x"] * 10, qos=2)
            used = [each.packet_id for each in reader.published]
            self.assertEqual(len(set(used)), 10)
            self.assertNotIn(0, used)
            reader.payloads()

    def test_identifiers_wrap(self) -> None:
        """After 65,535 come 1 and the next that is free."""
        reader = self.reader()
        self.send(b"1", qos=2)
        held = reader.last(Publish)
        session = self.bench.broker.sessions["reader"]
        session.flow._last_id = 0xFFFF
        session.flow.inflight[2] = session.flow.inflight.pop(held.packet_id)
        self.send(b"2", b"3")
        self.assertEqual([each.packet_id for each in reader.published], [1, 3])

    def test_window(self) -> None:
        """No more than the client takes are unacknowledged; QoS 0 and answers pass by."""
        reader = self.reader(properties=Properties(receive_maximum=3))
        self.send(*[b"%d" % n for n in range(6)], qos=2)
        self.assertEqual([each.payload for each in reader.published], [b"0", b"1", b"2"])
        self.send(b"zero", qos=0)
        self.assertEqual(reader.published[-1].payload, b"zero")
        first = reader.published[0].packet_id
        reader.take()
        reader.send(Pubrec(first))
        reader.one(Pubrel)
        self.assertEqual(reader.got, [])
        reader.send(Pubcomp(first))
        self.assertEqual(reader.one(Publish).payload, b"3")
        reader.subscribe("other")

    def test_window_of_ours(self) -> None:
        """3.1.1 clients do not say; our own limit holds."""
        reader = self.reader(V4)
        self.send(*[b"x"] * 30)
        self.assertEqual(len(reader.published), 10)
        self.assertEqual(len(reader.payloads()), 30)

    def test_resent(self) -> None:
        """What is not acknowledged comes again: same identifiers, same order, DUP set."""
        for version in VERSIONS:
            made = {"clean": False} if version == V4 else {"clean": False, "expiry": 100}
            reader = self.reader(version, **made)
            self.send(b"1", b"2", qos=2)
            self.send(b"3", qos=1)
            first = reader.published
            self.assertFalse(any(each.dup for each in first))
            reader.take()
            reader.send(Pubrec(first[0].packet_id))
            reader.one(Pubrel)
            reader.lose()
            reader = self.bench.client("reader", version, **made)  # type: ignore[arg-type]
            got = reader.take()[1:]
            self.assertEqual(got[0], Pubrel(first[0].packet_id))
            again = [each for each in got if isinstance(each, Publish)]
            self.assertEqual(
                [(each.payload, each.packet_id, each.dup) for each in again],
                [(b"2", first[1].packet_id, True), (b"3", first[2].packet_id, True)],
            )
            reader.send(Pubcomp(first[0].packet_id))
            reader.send(Puback(first[2].packet_id))
            reader.send(Pubrec(first[1].packet_id))
            reader.send(Pubcomp(first[1].packet_id))
            reader.lose()
            reader = self.bench.client("reader", version, **made)  # type: ignore[arg-type]
            self.assertEqual(len(reader.take()), 1)
            reader.disconnect()
            self.bench.client("reader").lose()

    def test_not_resent_on_the_same_connection(self) -> None:
        """Silence is no reason to send again."""
        reader = self.reader()
        self.send(b"1")
        reader.take()
        self.bench.advance(1000)
        self.assertEqual(reader.got, [])

    def test_resent_within_a_smaller_window(self) -> None:
        """A client that now takes fewer gets them one after the other."""
        reader = self.reader(expiry=100)
        self.send(*[b"%d" % n for n in range(5)])
        reader.lose()
        found = Properties(receive_maximum=2, session_expiry=100)
        reader = self.bench.client("reader", clean=False, properties=found)
        self.assertEqual(len(reader.published), 2)
        self.assertEqual(reader.payloads(), [b"%d" % n for n in range(5)])

    def test_resent_to_a_client_that_takes_less(self) -> None:
        """What is now too large is given up, and does not stop the rest."""
        reader = self.reader(expiry=100)
        self.send(b"a", b"x" * 100, b"y" * 100, b"z")
        reader.lose()
        found = Properties(receive_maximum=1, session_expiry=100, maximum_packet_size=50)
        reader = self.bench.client("reader", clean=False, properties=found)
        self.assertEqual(reader.payloads(), [b"a", b"z"])
        self.send(b"x" * 100, b"new")
        self.assertEqual(reader.payloads(), [b"new"])

    def test_refused_by_the_client(self) -> None:
        """A PUBACK or PUBREC with an error ends a message; it is not sent again."""
        reader = self.reader(expiry=100)
        self.send(b"1", qos=1)
        self.send(b"2", qos=2)
        one, two = reader.published
        reader.take()
        reader.send(Puback(one.packet_id, 0x80), Pubrec(two.packet_id, 0x97))
        self.assertEqual(reader.got, [])
        reader.lose()
        reader = self.bench.client("reader", clean=False, expiry=100)
        self.assertEqual(len(reader.got), 1)

    def test_answers_that_do_not_fit(self) -> None:
        """An answer of another QoS, or out of its turn, is a protocol error."""
        for qos, wrong in ((2, Puback), (1, Pubrec), (1, Pubcomp), (2, Pubcomp)):
            reader = self.reader()
            self.send(b"1", qos=qos)
            reader.send(wrong(reader.last(Publish).packet_id))
            self.assertEqual(reader.goodbye, reasons.PROTOCOL_ERROR)

    def test_answers_to_nothing(self) -> None:
        """Unknown identifiers are let be; an unknown PUBREC is released."""
        for version, reason in ((V4, 0), (V5, reasons.PACKET_ID_NOT_FOUND)):
            reader = self.reader(version)
            reader.take()
            reader.send(Puback(9), Pubcomp(9))
            self.assertEqual(reader.got, [])
            reader.send(Pubrec(9))
            self.assertEqual(reader.one(Pubrel), Pubrel(9, reason))

    def test_pubrec_again(self) -> None:
        """A repeated PUBREC is released again; the message is not sent again."""
        reader = self.reader()
        self.send(b"1", qos=2)
        number = reader.last(Publish).packet_id
        for _ in range(2):
            reader.send(Pubrec(number))
            reader.one(Pubrel)

    def test_order(self) -> None:
        """Messages of one topic and QoS arrive as they were published, queued or not."""
        for qos in (0, 1, 2):
            reader = self.reader()
            wanted = [b"%d" % n for n in range(40)]
            self.send(*wanted[:20], qos=qos)
            reader.block()
            self.send(*wanted[20:], qos=qos)
            reader.block(True)
            self.assertEqual(reader.payloads(), wanted)

    def test_maximum_packet_size(self) -> None:
        """Packets over the client's limit are not sent; the flow goes on without them."""
        topic = "a" * 20
        size = 2 + 2 + 20 + 2 + 1 + 50
        reader = self.reader(properties=Properties(maximum_packet_size=size))
        self.send(b"x" * 51, b"y" * 50, b"z" * 51, topic=topic)
        self.send(b"q" * 60, qos=2, topic=topic)
        (packet,) = reader.published
        self.assertEqual(packet.payload, b"y" * 50)
        self.assertEqual(reader.payloads(), [b"y" * 50])
        self.assertEqual(self.bench.broker.counters.dropped_too_large, 3)
        self.assertEqual(len(self.bench.broker.sessions["reader"].flow), 0)

    def test_small_packets_only(self) -> None:
        """Reasons are told without their text where the text does not fit."""
        reader = self.reader(properties=Properties(maximum_packet_size=30))
        before = len(reader.bytes)
        reader.send(Publish("a", b"", properties=Properties(subscription_ids=(1,))))
        self.assertEqual(reader.goodbye, reasons.PROTOCOL_ERROR)
        self.assertLessEqual(len(reader.bytes) - before, 30)
        found = Properties(maximum_packet_size=30, authentication_method="x")
        refused = self.bench.client("c", properties=found)
        self.assertEqual(refused.connack.reason, reasons.BAD_AUTHENTICATION_METHOD)
        self.assertLessEqual(len(refused.bytes), 30)

    def test_no_problem_information(self) -> None:
        """Answers have no reason strings and no user properties, asked for or not."""
        for wanted in (0, 1):
            reader = self.reader(properties=Properties(request_problem_information=wanted))
            reader.publish("$SYS/x", qos=1)
            self.assertEqual(reader.last(Puback).properties, NO_PROPERTIES)
            self.assertEqual(reader.unsubscribe("nothing").properties, NO_PROPERTIES)

    def test_to_both_versions(self) -> None:
        """Properties reach MQTT 5 clients; 3.1.1 clients get the same message without."""
        new = self.bench.client("new")
        old = self.bench.client("old", V4)
        for each in (new, old):
            each.subscribe("a")
            each.take()
        found = Properties(content_type="text")
        self.sender.publish("a", b"1", properties=found)
        self.assertEqual(new.one(Publish), Publish("a", b"1", properties=found))
        self.assertEqual(old.one(Publish), Publish("a", b"1"))


class PropertyTests(SynchronousTestCase):
    """Properties of messages."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.reader = self.bench.client("r", expiry=1000)
        self.reader.subscribe("#", qos=1)
        self.sender = self.bench.client("s")

    def pass_on(self, found: Properties) -> Properties:
        self.reader.take()
        self.sender.publish("a", properties=found)
        return self.reader.one(Publish).properties

    def test_unaltered(self) -> None:
        """Format, type, response topic, correlation and user properties, in order."""
        found = Properties(
            payload_format=1,
            content_type="text/plain",
            response_topic="resp/1",
            correlation_data=b"\0\xff",
            user=(("b", "1"), ("a", "2"), ("b", "3"), ("", "")),
        )
        self.assertEqual(self.pass_on(found), found)

    def test_not_passed_on(self) -> None:
        """An alias is between the sender and us."""
        self.assertEqual(self.pass_on(Properties(topic_alias=3)), NO_PROPERTIES)

    def test_expiry(self) -> None:
        """What is left of the expiry is passed on; after it nothing is."""
        found = Properties(message_expiry=100)
        self.assertEqual(self.pass_on(found), found)
        self.reader.lose()
        self.sender.publish("a", b"1", 1, properties=found)
        self.bench.advance(30.5)
        self.reader = self.bench.client("r", clean=False, expiry=1000)
        (packet,) = self.reader.published
        self.assertEqual(packet.properties.message_expiry, 70)
        self.reader.payloads()
        self.reader.lose()
        self.sender.publish("a", b"2", 1, properties=found)
        self.bench.advance(100)
        self.reader = self.bench.client("r", clean=False, expiry=1000)
        self.assertEqual(self.reader.published, [])
        self.assertEqual(self.bench.broker.counters.dropped_expired, 1)

    def test_expiry_in_flight(self) -> None:
        """A message whose sending has begun is sent to its end."""
        self.sender.publish("a", b"1", 1, properties=Properties(message_expiry=10))
        self.reader.lose()
        self.bench.advance(50)
        self.reader = self.bench.client("r", clean=False, expiry=1000)
        self.assertEqual(self.reader.payloads(), [b"1"])

    def test_expiry_of_retained(self) -> None:
        """Retained messages expire, and are forgotten in time."""
        self.sender.publish("k", retain=True, properties=Properties(message_expiry=100))
        self.bench.advance(40)
        late = self.bench.client("late")
        late.subscribe("k")
        self.assertEqual(late.one(Publish).properties.message_expiry, 60)
        self.bench.advance(60)
        late.subscribe("k")
        self.assertEqual(late.got, [])
        self.bench.advance(31)
        self.assertEqual(len(self.bench.broker.retained), 0)


class AliasTests(SynchronousTestCase):
    """Topic aliases, both ways."""

    def setUp(self) -> None:
        self.bench = Bench(Limits(topic_alias_maximum=3, topic_alias_maximum_out=2))
        self.bench.local("#")

    def alias(self, sender: Peer, topic: str, number: int) -> None:
        sender.publish(topic, properties=Properties(topic_alias=number))

    def test_from_clients(self) -> None:
        """An alias stands for the topic it was set with last."""
        sender = self.bench.client("s")
        for topic, number in (("a", 1), ("", 1), ("b", 3), ("", 3), ("c", 1), ("", 1), ("", 3)):
            self.alias(sender, topic, number)
        self.assertEqual(self.bench.topics, list("aabbccb"))

    def test_of_one_connection(self) -> None:
        """Aliases are gone with the connection."""
        sender = self.bench.client("s", expiry=100)
        self.alias(sender, "a", 1)
        sender.lose()
        sender = self.bench.client("s", clean=False, expiry=100)
        self.alias(sender, "", 1)
        self.assertEqual(sender.goodbye, reasons.PROTOCOL_ERROR)

    def test_out_of_range(self) -> None:
        """Higher than we allow, or 0, is refused; the highest allowed is not."""
        sender = self.bench.client("s")
        self.alias(sender, "a", 3)
        self.alias(sender, "a", 4)
        self.assertEqual(sender.goodbye, reasons.TOPIC_ALIAS_INVALID)
        self.assertEqual(self.bench.topics, ["a"])

    def test_to_clients(self) -> None:
        """As many as the client and we allow; the first time with the topic."""
        reader = self.bench.client("r", properties=Properties(topic_alias_maximum=9))
        reader.subscribe("#")
        sender = self.bench.client("s")
        names = ("long/topic/1", "long/topic/2", "long/topic/3", "short")
        for _ in range(2):
            for name in names:
                sender.publish(name)
        got = [(each.topic, each.properties.topic_alias) for each in reader.published]
        self.assertEqual(
            got,
            [
                ("long/topic/1", 1),
                ("long/topic/2", 2),
                ("long/topic/3", None),
                ("short", None),
                ("", 1),
                ("", 2),
                ("long/topic/3", None),
                ("short", None),
            ],
        )

    def test_to_clients_that_allow_none(self) -> None:
        """No aliases to a client that did not ask for any."""
        reader = self.bench.client("r")
        reader.subscribe("#")
        sender = self.bench.client("s")
        for _ in range(3):
            sender.publish("long/topic/1")
        self.assertTrue(all(each.topic == "long/topic/1" for each in reader.published))
        self.assertTrue(all(each.properties is NO_PROPERTIES for each in reader.published))

    def test_with_a_size_limit(self) -> None:
        """An alias never makes a packet too large for the client."""
        topic = "long/topic/1"
        size = 2 + 2 + len(topic) + 1 + 10
        found = Properties(topic_alias_maximum=9, maximum_packet_size=size)
        reader = self.bench.client("r", properties=found)
        reader.subscribe("#")
        before = len(reader.bytes)
        self.bench.client("s").publish(topic, b"x" * 10)
        self.assertEqual(reader.payloads(), [b"x" * 10])
        self.assertLessEqual(len(reader.bytes) - before, size)

    def test_resent_in_full(self) -> None:
        """On a new connection the topic is sent again."""
        found = Properties(topic_alias_maximum=9, session_expiry=100)
        reader = self.bench.client("r", properties=found)
        reader.subscribe("#", qos=1)
        sender = self.bench.client("s")
        sender.publish("long/topic/1", qos=1)
        sender.publish("long/topic/1", qos=1)
        reader.lose()
        reader = self.bench.client("r", clean=False, properties=found)
        self.assertEqual([each.topic for each in reader.published], ["long/topic/1", ""])


class RetainTests(SynchronousTestCase):
    """The last message of each topic."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.sender = self.bench.client("s")

    def late(self, topic: str = "a", version: int = V5, **rest: object) -> list[Publish]:
        late = self.bench.client("late", version)
        late.subscribe(topic, qos=2, **rest)  # type: ignore[arg-type]
        return late.published

    def test_kept(self) -> None:
        """A new subscription gets the last one, with its QoS and the RETAIN flag."""
        for version in VERSIONS:
            self.sender.publish("a", b"1", 2, retain=True)
            self.sender.send(Pubrel(1))
            self.sender.publish("a", b"2", 1, retain=True)
            (packet,) = self.late(version=version)
            self.assertEqual((packet.payload, packet.qos, packet.retain), (b"2", 1, True))

    def test_qos_0_replaces(self) -> None:
        """A QoS 0 message takes the place of one with a higher QoS."""
        self.sender.publish("a", b"1", 1, retain=True)
        self.sender.publish("a", b"2", 0, retain=True)
        self.assertEqual([each.payload for each in self.late()], [b"2"])

    def test_not_retained(self) -> None:
        """A message without the flag neither is kept nor takes one away."""
        self.sender.publish("a", b"1", retain=True)
        self.sender.publish("a", b"2")
        self.sender.publish("a", b"")
        self.assertEqual([each.payload for each in self.late()], [b"1"])

    def test_removed(self) -> None:
        """An empty retained message is passed on, and leaves none."""
        reader = self.bench.client("r")
        reader.subscribe("a")
        self.sender.publish("a", b"1", retain=True)
        self.sender.publish("a", b"", retain=True)
        self.assertEqual(reader.payloads(), [b"1", b""])
        self.assertEqual(self.late(), [])
        self.assertEqual(len(self.bench.broker.retained), 0)

    def test_flag_of_live_messages(self) -> None:
        """An established subscription sees RETAIN 0, or as published if it asked for that."""
        for version in VERSIONS:
            reader = self.bench.client("r", version)
            reader.subscribe("a")
            self.sender.publish("a", b"1", retain=True)
            self.assertFalse(reader.last(Publish).retain)
        reader.subscribe("a", retain_as_published=True, retain_handling=2)
        for flag in (True, False):
            self.sender.publish("a", b"1", retain=flag)
            self.assertEqual(reader.last(Publish).retain, flag)

    def test_handling(self) -> None:
        """0: at each subscription; 1: at a new one; 2: never."""
        self.sender.publish("a", b"1", retain=True)
        reader = self.bench.client("r")
        for handling, wanted in ((2, 0), (1, 0), (0, 1), (0, 1)):
            reader.subscribe("a", retain_handling=handling)
            self.assertEqual(len(reader.payloads()), wanted, handling)
        reader.unsubscribe("a")
        for wanted in (1, 0):
            reader.subscribe("a", retain_handling=1)
            self.assertEqual(len(reader.payloads()), wanted)

    def test_not_to_shared(self) -> None:
        """A shared subscription gets none."""
        self.sender.publish("a", b"1", retain=True)
        self.assertEqual(self.late("$share/g/a"), [])

    def test_identifier(self) -> None:
        """A retained message has the identifier of the subscription that brings it."""
        self.sender.publish("a", b"1", retain=True)
        (packet,) = self.late(identifier=7)
        self.assertEqual(packet.properties.subscription_ids, (7,))

    def test_flood(self) -> None:
        """More than the limits are refused: MQTT 5 is told so, others still reach the living."""
        bench = Bench(Limits(max_retained_messages=2))
        bench.local("#")
        sender = bench.client("s")
        for topic in ("a", "b"):
            sender.publish(topic, b"1", 1, retain=True)
        sender.take()
        sender.publish("c", b"1", 1, retain=True)
        self.assertEqual(sender.one(Puback).reason, reasons.QUOTA_EXCEEDED)
        sender.publish("d", b"1", 0, retain=True)
        old = bench.client("old", V4)
        old.publish("e", b"1", 1, retain=True)
        sender.publish("a", b"2", 1, retain=True)
        self.assertEqual(bench.topics, list("abdea"))
        self.assertEqual(len(bench.broker.retained), 2)
        self.assertEqual(bench.broker.counters.retained_refused, 3)

    def test_more_than_the_queue_holds(self) -> None:
        """All arrive once, though a queue is shorter; asked for twice they are bounded."""
        bench = Bench(Limits(queue_messages=5, max_inflight=2))
        sender = bench.client("s")
        for n in range(300):
            sender.publish(f"r/{n}", b"x" * 1000, n % 2, retain=True)
        reader = bench.client("r")
        reader.block()
        reader.subscribe("r/#", qos=1)
        reader.subscribe("r/+", qos=0)
        self.assertEqual(reader.published, [])
        reader.block(True)
        self.assertEqual(len(reader.payloads()), 300 + 5)
        self.assertEqual(len(bench.broker.sessions["r"].flow), 0)
