from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from kubeedge_tx.api.holdings import fingerprint
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.errors import HandshakeFailed
from kubeedge_tx.viaduct.interfaces import IChannelUser
from tests.edge.edgecase import EdgeCase, k8s_object, push


class ConnectionTests(EdgeCase):
    """Coming, staying and going."""

    def test_interfaces(self) -> None:
        """It is a module, and serves a channel."""
        verifyObject(IModule, self.hub)
        verifyObject(IChannelUser, self.hub)

    def keepalives(self) -> int:
        sent, self.cloud.channel.sent = self.cloud.channel.sent, []
        return sum(each.route.operation == "keepalive" for each in sent)

    def test_keepalive(self) -> None:
        """At once and every 15 s, in upstream's words."""
        (first,) = self.cloud.channel.sent
        route = first.route
        self.assertEqual(
            (route.source, route.group, route.operation, route.resource, first.read()),
            ("websocket", "resource", "keepalive", "node", "ping"),
        )
        self.keepalives()
        self.clock.advance(14.9)
        self.assertEqual(self.keepalives(), 0)
        self.clock.pump([15] * 4)
        self.assertEqual(self.keepalives(), 4)

    def test_other_rhythm(self) -> None:
        """Another heartbeat counts from the next one on, and does not cost the connection."""
        self.keepalives()
        self.hub.reconfigure(replace(self.hub_settings, heartbeat=5.0))
        self.clock.advance(15)
        self.assertEqual(self.keepalives(), 1)
        self.clock.pump([5] * 4)
        self.assertEqual(self.keepalives(), 4)
        self.assertEqual(self.hub.connects, 1)

    def test_other_patience(self) -> None:
        """Another limit of the pauses counts from the next pause on."""
        self.hub.reconfigure(replace(self.hub_settings, longest_delay=3.0))
        self.cloud.errors = [HandshakeFailed("503") for _ in range(20)]
        self.cloud.channel.lose()
        self.clock.pump([1] * 70)
        self.settle()
        self.assertTrue(self.hub.connected)

    def test_news(self) -> None:
        """The groups that care hear of the connection, in order."""
        self.cloud.channel.lose()
        self.settle()
        self.clock.advance(60)
        self.settle()
        news = [message.read() for message in self.edged.got]
        self.assertEqual(news, ["cloud_connected", "cloud_disconnected", "cloud_connected"])
        (event, *_) = self.twin.got
        self.assertEqual(
            (event.route.source, event.route.operation, event.route.resource),
            ("edgehub", "connect", "node/connection"),
        )

    def test_back_within_a_minute(self) -> None:
        """After a lost link, or a refusal, there is another try within a minute."""
        self.cloud.errors = [HandshakeFailed("503") for _ in range(5)]
        self.cloud.channel.lose()
        self.clock.pump([1] * (1 + 2 + 4 + 8 + 16 + 32))
        self.settle()
        self.assertEqual(self.hub.connects, 2)
        self.assertTrue(self.hub.connected)

    def test_rotation(self) -> None:
        """With a new certificate the hub reconnects without a pause."""
        self.hub.reconnect()
        self.settle()
        self.assertEqual(len(self.cloud.channels), 2)
        self.assertTrue(self.meta.connected)
        self.cloud.channel.lose()
        self.settle()
        self.assertEqual(len(self.cloud.channels), 2, "the next loss is an ordinary one")

    def test_stop(self) -> None:
        """The cloud is told goodbye, nothing keeps running, nobody dials again."""
        self.stop()
        self.assertEqual(self.cloud.channels[0].closing, (1000, "the edge is stopping"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_offline(self) -> None:
        """A stop does not wait for the cloud."""
        self.cloud.hanging = Deferred()
        self.cloud.channel.lose()
        self.clock.advance(60)
        self.settle()
        self.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SeveralCloudsTests(EdgeCase):
    """With another cloud to go to."""

    servers = ("one:10000", "two:10000")

    def test_sent_away(self) -> None:
        """A cloud that stops sends its edges away, one after the other: they go at once."""
        self.clock.advance(60)
        self.cloud.channel.lose("4503 the cloud is stopping")
        self.settle()
        self.assertEqual(len(self.cloud.channels), 2)

    def test_sent_to_and_fro(self) -> None:
        """Sent away as soon as it has come, it takes its time."""
        self.cloud.channel.lose("4503 the cloud is stopping")
        self.settle()
        self.assertEqual(len(self.cloud.channels), 1)
        self.clock.advance(1)
        self.settle()
        self.assertEqual(len(self.cloud.channels), 2)


class InboundTests(EdgeCase):
    """What the cloud sends and nobody asked for."""

    modules = ("edged",)

    def test_dropped(self) -> None:
        """Unknown groups, absent modules and answers to nothing are counted; the link stays."""
        for message in (
            push("update", "x", group="unheard-of"),
            push("update", "membership", group="twin", source="devicecontroller"),
            push("publish", "topic", group="user", source="router_eventbus"),
            push("response", "x", group="user", parent="nobody"),
        ):
            self.assertEqual(self.receive(message), [])
        self.assertEqual(self.hub.dropped, 4)
        self.assertEqual(self.receive(push("response", "default/pod/x", "OK", parent="no")), [])
        self.assertTrue(self.hub.connected)


class OutboundTests(EdgeCase):
    """Who goes first, and how fast."""

    qps = 2.0
    burst = 3.0

    def test_throttled(self) -> None:
        """The outbox keeps to messageQPS and messageBurst."""
        for n in range(10):
            self.answer("insert", f"default/event/e{n}", {})
        self.assertEqual(len(self.cloud.channel.take()), 3)
        for _ in range(7):
            self.clock.advance(0.5)
            self.assertEqual(len(self.cloud.channel.take()), 1)
        self.clock.advance(60)
        self.assertEqual(self.cloud.channel.take(), [])

    def test_other_rate(self) -> None:
        """Other limits of the outbox count at once, also for what waits."""
        for n in range(20):
            self.answer("insert", f"default/event/e{n}", {})
        self.assertEqual(len(self.cloud.channel.take()), 3)
        self.hub.reconfigure(replace(self.hub_settings, message_qps=5.0, message_burst=9.0))
        for _ in range(4):
            self.clock.advance(0.5)
        self.assertIn(len(self.cloud.channel.take()), (9, 10))

    def test_acknowledgements_pass(self) -> None:
        """Acknowledgements and keepalives wait for no token."""
        for n in range(10):
            self.answer("insert", f"default/event/e{n}", {})
        for n in range(20):
            pod = k8s_object("Pod", f"p{n}")
            acks = self.receive(push("insert", f"default/pod/p{n}", pod))
            self.assertEqual([ack.route.operation for ack in acks], ["response"])

    def test_what_nobody_waits_for(self) -> None:
        """Our own cloud is spared the acknowledgement of an answer that it sends only once."""
        for ours, operations in ((False, ["response"]), (True, [])):
            self.cloud.channel.is_ours = ours
            self.ask("query", "kube-node-lease/lease/edge-1")
            self.clock.advance(1.0)
            question = self.cloud.channel.take()[-1]
            resource = question.route.resource
            content: dict[str, Any] = {"Object": {}, "Err": None}
            parent = question.header.msg_id
            acks = self.receive(push("response", resource, content, parent=parent))
            self.assertEqual([ack.route.operation for ack in acks], operations)

    def test_digest(self) -> None:
        """A cloud that knows digests gets a hash first, and all when it asks; others nothing."""
        self.receive(push("insert", "default/pod/web", k8s_object("Pod", "web", "u1", "7")))
        self.receive(push("update", "null/node/edge-1", k8s_object("Node", "edge-1", "n", "9")))
        said = []
        for takes in (False, True):
            self.cloud.takes_digest = takes
            self.cloud.channel.lose()
            self.clock.advance(60)
            self.settle()
            said += self.cloud.channel.take()
        (short,) = said
        self.assertEqual((short.route.operation, short.route.resource), ("digest", "digest"))
        (full,) = self.receive(push("digest", "digest", source="synccontroller"))
        holding = ["default/pod/web", "u1", "7"]
        hashed = fingerprint([("default", "u1", "7")])
        self.assertEqual(short.read(), {"fingerprint": hashed, "holdings": None})
        self.assertEqual(full.read(), {"fingerprint": hashed, "holdings": [holding]})

    def test_questions_pass_the_outbox(self) -> None:
        """A pod that waits for its secret does not wait for old events."""
        for n in range(10):
            self.answer("insert", f"default/event/e{n}", {})
        self.cloud.channel.take()
        self.ask("query", "default/secret/s")
        self.clock.advance(0.5)
        (sent,) = self.cloud.channel.take()
        self.assertEqual(sent.route.resource, "default/secret/s")

    def test_full_transport(self) -> None:
        """While the socket is full nothing leaves the outbox; then all of it does, in order."""
        self.cloud.channel.block()
        for n in range(3):
            self.answer("insert", f"default/event/e{n}", {})
        self.clock.advance(10)
        self.assertEqual(self.cloud.channel.take(), [])
        self.assertEqual(len(self.outbox), 3)
        self.cloud.channel.drain()
        self.settle()
        sent = [each.route.resource for each in self.cloud.channel.take()]
        self.assertEqual(sent, [f"default/event/e{n}" for n in range(3)])
        self.assertEqual(len(self.outbox), 0)

    def test_control_first(self) -> None:
        """After a time offline the node's state goes before its events."""
        self.cloud.hanging = Deferred()
        self.cloud.channel.lose()
        self.settle()
        self.answer("insert", "default/event/e1", {})
        self.answer("patch", "default/podpatch/web", "{}")
        self.answer("patch", "null/nodepatch/edge-1", "{}")
        hanging, self.cloud.hanging = self.cloud.hanging, None
        self.clock.advance(60)
        hanging.callback(None)
        self.settle()
        self.assertEqual(
            [each.route.resource for each in self.cloud.channel.take()],
            ["null/nodepatch/edge-1", "default/podpatch/web", "default/event/e1"],
        )

    def test_other_modules_data(self) -> None:
        """What a module just sends is kept while offline and goes out later, unmarked."""
        self.cloud.hanging = Deferred()
        self.cloud.channel.lose()
        self.settle()
        upload = self.messages.new(
            source="bus", group="user", operation="upload", resource="SYS/a", content="x"
        )
        self.successResultOf(self.bus.send("websocket", upload))
        self.settle()
        self.kill()
        self.assertEqual(self.cloud.channel.take("upload"), [upload])

    def test_old_messages(self) -> None:
        """Every now and then what is a week old is thrown out, also while offline."""
        self.cloud.hanging = Deferred()
        self.cloud.channel.lose()
        self.settle()
        self.answer("insert", "default/event/e1", {})
        self.clock.advance(8 * 24 * 3600)
        self.settle()
        self.assertEqual(len(self.outbox), 0)
        self.assertEqual(self.outbox.lost["old"][0], 1)

    def test_acknowledgement_while_offline(self) -> None:
        """It is dropped: on the next connection the cloud asks again."""
        self.cloud.channel.lose()
        self.settle()
        pod = push("insert", "default/pod/p", json.loads("{}"))
        self.successResultOf(self.bus.send("websocket", self.messages.reply(pod)))
        self.settle()
        self.assertEqual(len(self.outbox), 0)
