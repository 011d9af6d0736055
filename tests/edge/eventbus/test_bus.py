from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.edge.eventbus import outgoing, topics
from kubeedge_tx.edge.eventbus.outgoing import BusPort
from kubeedge_tx.errors import StoreError
from kubeedge_tx.mqtt.interfaces import IMqttPort
from tests.edge.devicetwin.twincase import THERMO, TwinCase
from tests.edge.edgecase import push
from tests.fakes.mqtt import FakePort


def rule(operation: str, topic: str, content: object = None) -> Any:
    """What the cloud's router sends for a rule."""
    return push(operation, topic, content, source="router_eventbus", group="user")


class ToTheCloudTests(TwinCase):
    """What clients publish for the cloud."""

    def uploads(self) -> list[tuple[str, Any]]:
        self.settle()
        sent = [each for each in self.cloud.channel.take() if each.route.operation == "upload"]
        for each in sent:
            self.assertEqual((each.route.source, each.route.group), ("bus", "user"))
        return [(each.route.resource, each.read()) for each in sent]

    def test_interfaces(self) -> None:
        """It is a module; the stand-in is a port."""
        verifyObject(IModule, self.events)
        verifyObject(IMqttPort, self.port)

    def test_uploads(self) -> None:
        """The fixed topics reach the cloud with their payload; others are not subscribed."""
        self.arrive("$hw/events/upload/data", {"a": 1})
        self.arrive("SYS/dis/upload_records", "plain")
        self.arrive("abc/user/x/y", "ü")
        for topic in ("SYS/dis/upload_records/x", "default/some/topic", "$hw/user/x"):
            self.assertIsNone(self.port.arrive(topic, "x"), topic)
        self.assertEqual(
            self.uploads(),
            [
                ("$hw/events/upload/data", '{"a": 1}'),
                ("SYS/dis/upload_records", "plain"),
                ("abc/user/x/y", "ü"),
            ],
        )

    def test_binary(self) -> None:
        """Bytes that are no text arrive as Go sends them, with marks of replacement."""
        self.arrive("a/user/b", b"\xffabc\x00")
        self.assertEqual(self.uploads(), [("a/user/b", "\ufffdabc\0")])

    def test_kept_before_acknowledged(self) -> None:
        """The broker may say yes once the message is on disk, also without a cloud."""
        self.cloud.errors = [ConnectionRefusedError("away")]
        self.cloud.channel.lose()
        self.settle()
        self.database.held = True
        done = self.port.arrive("a/user/b", "x")
        assert done is not None
        self.settle()
        self.assertNoResult(done)
        self.database.run()
        self.successResultOf(done)
        self.kill()
        self.assertEqual(self.uploads(), [("a/user/b", "x")])

    def test_disk_full(self) -> None:
        """What cannot be kept is not acknowledged."""
        self.database.failing = StoreError("edge.db: the disk is full")
        done = self.port.arrive("a/user/b", "x")
        assert done is not None
        self.failureResultOf(done, StoreError)
        self.assertEqual(self.events.refused, 1)

    def test_twin_does_not_answer(self) -> None:
        """Without an answer of DeviceTwin the broker is not told yes."""
        self.database.held = True
        self.members(THERMO)
        done = self.port.arrive(
            f"$hw/events/device/{THERMO}/twin/update", {"twin": {"a": {"actual": {"value": "1"}}}}
        )
        assert done is not None
        self.settle()
        self.clock.advance(60)
        self.failureResultOf(done)
        self.database.crash()


class FromTheCloudTests(TwinCase):
    """What rules and modules publish, and what rules subscribe to."""

    def test_publish(self) -> None:
        """A rule's message goes to its topic; not retained, as upstream's client has it."""
        self.receive(rule("publish", "a/b", "hello"))
        (seen,) = self.port.take()
        self.assertEqual((seen.topic, seen.payload), ("a/b", b"hello"))
        self.assertEqual((seen.qos, seen.retain), (1, False))

    def test_refused(self) -> None:
        """What cannot be published is counted and left."""
        for message in (
            rule("publish", "a/+", "x"),
            rule("publish", "", "x"),
            rule("publish", "a" * 70_000, "x"),
            rule("publish", "a\0", "x"),
            rule("publish", "a", {"no": "text"}),
            rule("publish", "a", None),
            rule("subscribe", "a/#/b"),
            rule("subscribe", "a+/b"),
            rule("subscribe", ""),
            rule("start", "http://x"),
            rule("message", "x", {"message": 3}),
            rule("message", "x", []),
            rule("get_result", "something"),
        ):
            before = self.events.refused
            self.receive(message)
            self.assertEqual(self.events.refused, before + 1, message.route)
        self.assertEqual(self.port.take(), [])
        self.assertEqual(set(self.port.filters), set(topics.FIXED))

    def test_message_and_credentials(self) -> None:
        """Operations that upstream has besides."""
        inner = {"topic": "t", "code": 1}
        self.receive(rule("message", "x", {"message": inner}))
        self.receive(rule("get_result", "auth_info", "secret"))
        first, second = self.port.take()
        self.assertEqual((first.topic, first.json), ("t", inner))
        self.assertEqual(second.topic, "$hw/events/node/edge-1/authInfo/get/result")

    def test_rules(self) -> None:
        """A rule's topic is subscribed, kept over a restart, and reaches the cloud."""
        self.receive(rule("subscribe", "default/room"))
        self.arrive("default/room", "21")
        sent = [each for each in self.cloud.channel.take() if each.route.operation == "upload"]
        self.assertEqual([each.route.resource for each in sent], ["default/room"])
        self.kill()
        self.assertIn("default/room", self.port.filters)
        self.receive(rule("unsubscribe", "default/room"))
        self.assertNotIn("default/room", self.port.filters)
        self.kill()
        self.assertEqual(set(self.port.filters), set(topics.FIXED))

    def test_fixed_stays(self) -> None:
        """A rule that ends does not take a fixed topic with it."""
        self.receive(rule("subscribe", "+/user/#"))
        self.receive(rule("unsubscribe", "+/user/#"))
        self.assertIn("+/user/#", self.port.filters)


class BrokerTests(TwinCase):
    """The broker comes and goes."""

    def test_subscribed_again(self) -> None:
        """Whenever the broker is back, everything is subscribed again, with QoS 1."""
        self.receive(rule("subscribe", "default/room"))
        self.port.lose()
        self.assertEqual(self.events.connected(), {"external": False})
        self.receive(rule("subscribe", "default/hall"))
        self.port.come_back()
        self.assertEqual(
            self.port.filters, dict.fromkeys((*topics.FIXED, "default/room", "default/hall"), 1)
        )

    def test_a_refused_filter(self) -> None:
        """A filter that the broker forbids does not keep the others out."""
        self.port.forbidden.add("default/secret")
        self.receive(rule("subscribe", "default/secret"))
        self.receive(rule("subscribe", "default/room"))
        self.port.lose()
        self.port.come_back()
        self.assertEqual(set(self.port.filters), {*topics.FIXED, "default/room"})

    def test_late_broker(self) -> None:
        """The edge starts without its broker; what it says meanwhile is said later, in order."""
        self.port_connected = False
        self.kill()
        for n in range(3):
            self.receive(rule("publish", "a", str(n)))
        self.assertEqual(self.port.take(), [])
        self.assertEqual(self.events.waiting(), {"external": 3})
        self.port.come_back()
        self.assertEqual([each.payload for each in self.port.take()], [b"0", b"1", b"2"])
        self.assertEqual(self.events.published(), {"external": 3})

    def test_unanswered(self) -> None:
        """What the broker had not answered when it went away is published again, first."""
        self.port.holding = True
        for n in range(4):
            self.receive(rule("publish", "a", str(n)))
        self.port.answer()
        self.port.take()
        self.port.lose()
        self.receive(rule("publish", "a", "4"))
        self.port.holding = False
        self.port.come_back()
        self.assertEqual([each.payload for each in self.port.take()], [b"1", b"2", b"3", b"4"])
        self.assertEqual(self.events.waiting(), {"external": 0})

    def test_gone_unheard(self) -> None:
        """A port that fails before it says that the broker is gone loses nothing."""
        self.port.connected = False
        self.receive(rule("publish", "a", "x"))
        self.assertEqual(self.events.waiting(), {"external": 1})
        self.port.come_back()
        self.assertEqual(len(self.port.take()), 1)

    def test_bounded(self) -> None:
        """Without a broker the oldest messages are given up, and counted."""
        self.patch(outgoing, "MOST_WAITING", 5)
        self.port.lose()
        for n in range(9):
            self.receive(rule("publish", "a", str(n)))
        self.assertEqual(self.events.dropped(), {"external": 4})
        self.port.come_back()
        self.assertEqual(
            [each.payload for each in self.port.take()], [b"4", b"5", b"6", b"7", b"8"]
        )

    def test_slow(self) -> None:
        """A broker that answers slowly holds its senders up, and loses nothing."""
        self.patch(outgoing, "MOST_WAITING", 2)
        self.patch(outgoing, "MOST_UNANSWERED", 1)
        self.port.holding = True
        for n in range(8):
            self.cloud.channel.user.received(rule("publish", "a", str(n)))
        self.settle()
        self.assertEqual(self.events.waiting(), {"external": 4})
        self.assertEqual(self.bus.depths()["eventbus"], 0, "taken, but not done with")
        while self.port.unanswered:
            self.port.answer()
            self.settle()
        self.assertEqual([each.payload for each in self.port.take()], [b"%d" % n for n in range(8)])
        self.assertEqual(self.events.dropped(), {"external": 0})

    def test_slow_then_gone(self) -> None:
        """Senders that waited for a slow broker do not wait for an absent one."""
        self.patch(outgoing, "MOST_WAITING", 2)
        self.patch(outgoing, "MOST_UNANSWERED", 1)
        self.port.holding = True
        for n in range(8):
            self.cloud.channel.user.received(rule("publish", "a", str(n)))
        self.settle()
        self.port.lose()
        self.settle()
        self.assertEqual(self.events.waiting(), {"external": 2})
        self.assertEqual(self.events.dropped(), {"external": 6})


class TwoBrokersTests(TwinCase):
    """Mode 1: the built-in broker and another one."""

    def bus_ports(self) -> list[BusPort]:
        self.inside = FakePort()
        inside = BusPort(name="internal", port=self.inside, qos=0, retain=True)
        return [inside, *super().bus_ports()]

    def test_published_on_both(self) -> None:
        """A result appears on both, each with its own QoS and retain flag."""
        self.inside.take()
        seen = self.arrive("$hw/events/node/edge-1/membership/get", {"event_id": "e"})
        (inner,) = self.inside.take()
        (outer,) = seen
        self.assertEqual(inner.payload, outer.payload)
        self.assertEqual((inner.qos, inner.retain, outer.qos, outer.retain), (0, True, 1, False))

    def test_taken_from_both(self) -> None:
        """Devices on either are heard."""
        done = self.inside.arrive("$hw/events/node/edge-1/membership/get", {})
        assert done is not None
        self.settle()
        self.successResultOf(done)
        self.assertEqual(len(self.port.take()), 1)

    def test_one_away(self) -> None:
        """One broker's absence is nothing to the other."""
        self.port.lose()
        self.inside.take()
        self.inside.arrive("$hw/events/node/edge-1/membership/get", {})
        self.settle()
        self.assertEqual(len(self.inside.take()), 1)
        self.assertEqual(self.events.connected(), {"internal": True, "external": False})
