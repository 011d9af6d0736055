from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from kubeedge_tx.mqtt.properties import Properties
from tests.mqtt.harness import VERSIONS, Bench, Peer


class SubscribeTests(SynchronousTestCase):
    """Asking for topics."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.sender = self.bench.client("s")

    def test_answer(self) -> None:
        """One SUBACK with the packet's identifier, and a code for each filter in order."""
        for version in VERSIONS:
            reader = self.bench.client("r", version)
            reader.take()
            wanted = tuple(
                Subscription(each, qos) for each, qos in (("a", 2), ("b", 0), ("a/#", 1))
            )
            reader.send(Subscribe(packet_id=4711, subscriptions=wanted))
            self.assertEqual(reader.one(Suback), Suback(packet_id=4711, reasons=(2, 0, 1)))
            for topic in ("a", "b", "a/x"):
                self.sender.publish(topic)
            self.assertEqual(len(reader.payloads()), 3)

    def test_qos(self) -> None:
        """A message comes with the lower of its QoS and the granted one."""
        for granted in range(3):
            for qos in range(3):
                reader = self.bench.client("r")
                reader.subscribe("a", qos=granted)
                self.sender.publish("a", qos=qos, packet_id=granted * 3 + qos + 1)
                self.assertEqual(reader.last(Publish).qos, min(granted, qos))

    def test_replaced(self) -> None:
        """The same filter again replaces the subscription: one message, the new options."""
        for version in VERSIONS:
            self.sender.publish("a", b"kept", retain=True)
            reader = self.bench.client("r", version)
            reader.subscribe("a", qos=2)
            self.assertEqual(reader.payloads(), [b"kept"])
            reader.subscribe("a", qos=0)
            self.assertEqual(reader.payloads(), [b"kept"])
            self.sender.publish("a", b"live", 1)
            self.assertEqual(reader.one(Publish).qos, 0)

    def test_wildcards(self) -> None:
        """Filters with wildcards get what they match; topics that begin with $ only if named."""
        for version in VERSIONS:
            reader = self.bench.client("r", version)
            reader.subscribe("#", "+/x", "$hw/+/y")
            for topic in ("a", "$hw/x", "$hw/1/y", "$SYSTEM/x"):
                self.sender.publish(topic, topic.encode())
            self.assertEqual(reader.payloads(), [b"a", b"$hw/1/y"])

    def test_byte_for_byte(self) -> None:
        """Nothing is normalized: case, accents, slashes."""
        reader = self.bench.client("r")
        reader.subscribe("Caf\u00e9", "a//b", "/c", "d/")
        for topic in ("Cafe\u0301", "caf\u00e9", "a/b", "c", "d", "Caf\u00e9", "a//b", "/c", "d/"):
            self.sender.publish(topic, topic.encode())
        self.assertEqual(
            [each.decode() for each in reader.payloads()], ["Caf\u00e9", "a//b", "/c", "d/"]
        )

    def test_overlapping(self) -> None:
        """Filters that overlap bring one copy, with the highest QoS and all identifiers."""
        for version in VERSIONS:
            reader = self.bench.client("r", version)
            is_v5 = version == V5
            reader.subscribe("a/#", qos=1, identifier=1 * is_v5)
            reader.subscribe("a/+", qos=2, identifier=2 * is_v5)
            reader.subscribe("a/b", qos=0)
            self.sender.publish("a/b", qos=2, packet_id=version)
            packet = reader.one(Publish)
            self.assertEqual(packet.qos, 2)
            self.assertEqual(sorted(packet.properties.subscription_ids), [1, 2] if is_v5 else [])

    def test_identifiers_change(self) -> None:
        """A new identifier takes the old one's place; without one there is none."""
        reader = self.bench.client("r")
        for identifier in (5, 268_435_455, 0):
            reader.subscribe("a", identifier=identifier)
            self.sender.publish("a")
            wanted = (identifier,) if identifier else ()
            self.assertEqual(reader.one(Publish).properties.subscription_ids, wanted)

    def test_no_local(self) -> None:
        """A client does not get its own messages back if it does not want them."""
        reader = self.bench.client("r")
        reader.subscribe("a", no_local=True, identifier=1)
        reader.publish("a", b"own")
        self.sender.publish("a", b"other")
        self.assertEqual(reader.payloads(), [b"other"])
        reader.subscribe("#", identifier=2)
        reader.publish("a", b"own")
        self.assertEqual(reader.one(Publish).properties.subscription_ids, (2,))

    def test_no_local_over_connections(self) -> None:
        """It is the client id that counts."""
        reader = self.bench.client("r", expiry=100)
        reader.subscribe("a", qos=1, no_local=True)
        reader.publish("a", b"own", 1)
        reader.lose()
        reader = self.bench.client("r", clean=False, expiry=100)
        self.assertEqual(reader.payloads(), [])

    def test_too_many(self) -> None:
        """A session has a limit of filters; 3.1.1 hears 0x80."""
        bench = Bench(Limits(max_subscriptions=2))
        for version, said in ((V5, reasons.QUOTA_EXCEEDED), (V4, 0x80)):
            reader = bench.client("r", version)
            self.assertEqual(reader.subscribe("a", "b", "c", "a", qos=1), (1, 1, said, 1))
            bench.client("s").publish("c")
            self.assertEqual(reader.payloads(), [])

    def test_ten_thousand(self) -> None:
        """Ten thousand filters of one session, and their end."""
        reader = self.bench.client("r", V4)
        for start in range(0, 10_000, 500):
            reader.subscribe(*(f"d/{n}/+" for n in range(start, start + 500)))
        self.sender.publish("d/9999/x")
        self.assertEqual(reader.payloads(), [b"payload"])
        reader.lose()
        self.assertTrue(self.bench.broker._router.tree._root.is_empty)


class UnsubscribeTests(SynchronousTestCase):
    """Asking for topics no more."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.sender = self.bench.client("s")

    def test_answer(self) -> None:
        """One UNSUBACK, also for filters that were not there; MQTT 5 says which."""
        for version in VERSIONS:
            reader = self.bench.client("r", version)
            reader.subscribe("a", "b/#")
            reader.take()
            reader.send(Unsubscribe(packet_id=9, filters=("a", "x", "b/#", "b/c")))
            codes = (0, 0x11, 0, 0x11) if version == V5 else ()
            self.assertEqual(reader.one(Unsuback), Unsuback(packet_id=9, reasons=codes))
            self.sender.publish("a")
            self.sender.publish("b/c")
            self.assertEqual(reader.payloads(), [])

    def test_only_the_same(self) -> None:
        """Filters are compared byte for byte, not by what they match."""
        reader = self.bench.client("r")
        reader.subscribe("a/+", "a/b")
        self.assertEqual(reader.unsubscribe("a/#", "A/+", "a/b").reasons, (0x11, 0x11, 0))
        self.sender.publish("a/b")
        self.assertEqual(reader.payloads(), [b"payload"])

    def test_under_way(self) -> None:
        """What was begun is brought to its end."""
        reader = self.bench.client("r", expiry=100)
        reader.subscribe("a", qos=2)
        self.sender.publish("a", qos=2)
        number = reader.one(Publish).packet_id
        reader.unsubscribe("a")
        reader.send(Pubrec(number))
        reader.one(Pubrel)
        self.sender.publish("a", b"1", 1)
        reader.lose()
        reader = self.bench.client("r", clean=False, expiry=100)
        self.assertEqual(reader.take()[1:], [Pubrel(number)])

    def test_shared(self) -> None:
        """A shared filter is another one than the filter alone."""
        reader = self.bench.client("r")
        reader.subscribe("$share/g/a")
        self.assertEqual(reader.unsubscribe("a", "$share/h/a").reasons, (0x11, 0x11))
        self.sender.publish("a")
        self.assertEqual(reader.payloads(), [b"payload"])
        self.assertEqual(reader.unsubscribe("$share/g/a").reasons, (0,))
        self.sender.publish("a")
        self.assertEqual(reader.payloads(), [])


class SharedTests(SynchronousTestCase):
    """Shared subscriptions."""

    def setUp(self) -> None:
        self.bench = Bench(Limits(max_inflight=2))
        self.sender = self.bench.client("s")

    def members(self, *names: str, qos: int = 2, version: int = V5) -> list[Peer]:
        made = [self.bench.client(name, version) for name in names]
        for each in made:
            each.subscribe("$share/g/a/#", qos=qos)
        return made

    def test_one_of_them(self) -> None:
        """Each message goes to one member, in turn; in both versions."""
        for version in VERSIONS:
            members = self.members("x", "y", "z", version=version)
            for n in range(6):
                self.sender.publish("a/b", b"%d" % n)
            got = [each.payloads() for each in members]
            self.assertEqual(got, [[b"0", b"3"], [b"1", b"4"], [b"2", b"5"]])

    def test_groups(self) -> None:
        """Each group, and each plain subscription, gets its own copy."""
        reader = self.bench.client("r")
        reader.subscribe("$share/g/a", "$share/h/a", "$share/g/+", "a")
        self.sender.publish("a")
        self.assertEqual(len(reader.payloads()), 4)

    def test_qos_of_each(self) -> None:
        """The granted QoS of the member that gets it."""
        (low,) = self.members("low", qos=0)
        (high,) = self.members("high", qos=2)
        for n in (1, 2):
            self.sender.publish("a", qos=1, packet_id=n)
        self.assertEqual([low.one(Publish).qos, high.one(Publish).qos], [0, 1])

    def test_busy(self) -> None:
        """A member whose window is full is passed over while others have room."""
        slow, quick = self.members("slow", "quick")
        for n in range(8):
            self.sender.publish("a", b"%d" % n, 1)
            quick.payloads()
        self.assertEqual(len(slow.published), 2)

    def test_away(self) -> None:
        """A member that is away gets messages only if all are."""
        here, away = self.bench.client("here"), self.bench.client("away", expiry=100)
        for each in (here, away):
            each.subscribe("$share/g/a", qos=1)
        away.lose()
        for _ in range(3):
            self.sender.publish("a", qos=1)
            self.assertEqual(len(here.payloads()), 1)
        here.lose()
        self.sender.publish("a", b"late", 1)
        away = self.bench.client("away", clean=False, expiry=100)
        self.assertEqual(away.payloads(), [b"late"])

    def test_qos_2_stays_with_its_client(self) -> None:
        """What was begun with one client is ended with it, or not at all."""
        for ends in (False, True):
            first, second = self.bench.client("x", expiry=10), self.bench.client("y")
            first.subscribe("$share/g/a", qos=2)
            self.sender.publish("a", b"mine", 2)
            self.sender.send(Pubrel(1))
            first.lose()
            second.subscribe("$share/g/a", qos=2)
            if ends:
                self.bench.advance(20)
            self.assertEqual(second.payloads(), [])
            first = self.bench.client("x", clean=False, expiry=10)
            self.assertEqual(first.payloads(), [] if ends else [b"mine"])
            second.lose()
            self.bench.client("x").lose()

    def test_refused_by_the_client(self) -> None:
        """A message that its member refuses goes to no other."""
        first, second = self.members("x", "y")
        self.sender.publish("a", qos=1)
        first.send(Puback(first.one(Publish).packet_id, 0x80))
        self.assertEqual(second.got, [])

    def test_copies_have_their_identifiers(self) -> None:
        """Two copies, by a shared and by a plain filter, have one identifier each."""
        member = self.bench.client("x")
        member.subscribe("$share/g/a", identifier=3)
        member.subscribe("a", identifier=4)
        self.sender.publish("a")
        found = sorted(each.properties.subscription_ids for each in member.published)
        self.assertEqual(found, [(3,), (4,)])

    def test_own_messages(self) -> None:
        """A member gets its own messages like any other."""
        (member,) = self.members("x")
        member.publish("a", b"own")
        self.assertEqual(member.payloads(), [b"own"])

    def test_identifier(self) -> None:
        """Identifiers come with shared messages, too."""
        member = self.bench.client("x")
        member.subscribe("$share/g/a", identifier=3)
        self.sender.publish("a")
        self.assertEqual(member.one(Publish).properties, Properties(subscription_ids=(3,)))


class LocalTests(SynchronousTestCase):
    """Subscribers in this process."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.sender = self.bench.client("s")

    def test_delivered(self) -> None:
        """They get messages, with who sent them."""
        local = self.bench.local("a/+", qos=1)
        self.sender.publish("a/b", b"1", 2, properties=Properties(user=(("k", "v"),)))
        (got,) = self.bench.delivered
        self.assertIs(got.local, local)
        self.assertEqual((got.message.publisher, got.qos, got.retain), ("s", 1, False))
        self.assertEqual((got.message.payload, got.message.properties.user), (b"1", (("k", "v"),)))

    def test_own_messages(self) -> None:
        """What it publishes does not come back, unless asked for; others get it."""
        local = self.bench.local("#", name="bus")
        other = self.bench.local("#", name="other")
        reader = self.bench.client("r")
        reader.subscribe("#")
        _, effects = self.bench.broker.publish("a", b"1", now=self.bench.now, origin=local)
        self.bench.run(effects)
        self.assertEqual([each.local for each in self.bench.delivered], [other])
        self.assertEqual(reader.payloads(), [b"1"])

    def test_retained(self) -> None:
        """Retained messages come when it subscribes."""
        self.sender.publish("a", b"1", retain=True)
        self.bench.local("a")
        (got,) = self.bench.delivered
        self.assertTrue(got.retain)
        self.assertIsNone(got.ticket)

    def test_gone(self) -> None:
        """After unsubscribing or detaching nothing comes."""
        local = self.bench.local("a", "b", "$share/g/c")
        self.bench.run(self.bench.broker.unsubscribe_local(local, "a", self.bench.now))
        self.bench.run(self.bench.broker.unsubscribe_local(local, "a", self.bench.now))
        for topic in "abc":
            self.sender.publish(topic)
        self.assertEqual(self.bench.topics, ["b", "c"])
        self.bench.run(self.bench.broker.detach(local, self.bench.now))
        for topic in "abc":
            self.sender.publish(topic)
        self.assertEqual(self.bench.topics, ["b", "c"])
        self.assertEqual(self.bench.broker._router.locals, 0)

    def test_shared(self) -> None:
        """It may share with clients."""
        self.bench.local("$share/g/a")
        member = self.bench.client("m", V4)
        member.subscribe("$share/g/a")
        for _ in range(4):
            self.sender.publish("a")
        self.assertEqual((len(self.bench.delivered), len(member.payloads())), (2, 2))
