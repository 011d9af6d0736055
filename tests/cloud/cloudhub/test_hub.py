from __future__ import annotations

from typing import Any

import msgspec
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from kubeedge_tx.api.resources import OBJECTSYNCS
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.errors import HandshakeFailed
from kubeedge_tx.viaduct.interfaces import IChannelUser
from tests.cloud.cloudhub.hubcase import KUBE_CA, HubCase, Settings, configmap


class HandshakeTests(HubCase):
    """Who gets in, and what the others are told."""

    def refused(self, *why: str, **options: Any) -> None:
        before = len(self.hub.sessions)
        link = self.dial(**options)
        text = str(self.failureResultOf(link.opening, HandshakeFailed).value)
        for part in why:
            self.assertIn(part, text)
        self.assertEqual(len(self.hub.sessions), before)

    def test_interfaces(self) -> None:
        """Hub and sessions keep to the interfaces."""
        self.assertTrue(verifyObject(IModule, self.hub))
        self.dial()
        self.assertTrue(verifyObject(IChannelUser, self.hub.sessions.get("edge-1")))

    def test_certificate_is_the_identity(self) -> None:
        """The header alone proves nothing: the certificate must be that node's."""
        self.refused("403", "that of node edge-2", certificate="edge-2")
        self.refused("403", "not one of an edge", certificate=None)
        self.successResultOf(self.dial().opening)

    def test_old_edges(self) -> None:
        """A certificate that names no node is taken only where the configuration says so."""
        self.refused("403", "legacyCertificates", certificate="")
        self.hub = self.make_hub(legacy_certificates=True)
        self.successResultOf(self.dial(certificate="").opening)

    def test_names(self) -> None:
        """A node's name is a DNS name; the header must be there."""
        self.refused("400", "node_id", node="Edge_1")
        self.refused("400", "node_id", node="a" * 254)
        self.refused("400", "node_id", node="")

    def test_other_use(self) -> None:
        """Streams are not served on this port."""
        self.refused("400", "ConnectionUse", headers={"Connectionuse": "str"})

    def test_storm(self) -> None:
        """More nodes at once than five seconds' worth are asked to come again, and may then."""
        self.hub = self.make_hub(connect_rate=1, node_limit=10)
        for number in range(5):
            self.successResultOf(self.dial(f"edge-{number}").opening)
        for wait in (1, 2, 3):
            error = self.failureResultOf(self.dial("edge-5").opening, HandshakeFailed).value
            self.assertIn("503", str(error))
            self.assertEqual(error.retry_after, wait)
        self.clock.advance(1.0)
        self.successResultOf(self.dial("edge-5").opening)

    def test_other_limits_while_it_runs(self) -> None:
        """Limits, rates and windows can change; who is connected stays, as it began."""
        self.hub = self.make_hub(node_limit=1, legacy_certificates=True)
        self.hub.start_ticking()
        old = self.dial("edge-1")
        self.refused("503", "limit of 1 nodes", node="edge-2")
        self.hub.reconfigure(
            Settings(
                node_limit=3, connect_rate=1, keepalive_interval=10, ack_window=2, message_rate=7
            )
        )
        self.refused("403", "legacyCertificates", certificate="")
        for number in range(2, 4):
            self.successResultOf(self.dial(f"edge-{number}").opening)
        self.assertEqual([session.window for session in self.hub.sessions], [32, 2, 2])
        self.assertEqual(self.hub.settings.message_rate, 7)
        self.refused("503", "limit of 3 nodes", node="edge-4")
        for _ in range(2):  # five at once: two that are in, one too many, and these
            self.refused("503", "limit of 3 nodes", node="edge-4")
        self.refused("503", "busy; try again", node="edge-4")
        self.pass_time(11)
        self.assertEqual([session.node for session in self.hub.sessions], ["edge-1"])
        self.hub.reconfigure(Settings(node_limit=1))
        self.assertEqual(self.seen(old.user), [])
        self.assertIsNotNone(self.hub.sessions.get("edge-1"))

    def test_node_limit(self) -> None:
        """One node too many is refused; a node that is connected may connect anew."""
        for number in range(3):
            self.successResultOf(self.dial(f"edge-{number}").opening)
        link = self.dial("edge-9")
        error = self.failureResultOf(link.opening, HandshakeFailed).value
        self.assertIn("503", str(error))
        self.assertIn("limit of 3 nodes", str(error))
        self.assertEqual(error.retry_after, 30)
        self.successResultOf(self.dial("edge-0").opening)
        self.assertEqual(len(self.hub.sessions), 3)


class SessionTests(HubCase):
    """The life of one session, and of the next one."""

    def test_events(self) -> None:
        """The controllers hear of connects and disconnects."""
        link = self.dial()
        (event,) = self.inbox("edgecontroller")
        self.assertEqual(
            (event.route.operation, event.route.resource), ("connected", "node/edge-1")
        )
        self.assertEqual((event.route.source, event.route.group), ("cloudhub", "resource"))
        self.assertEqual(len(self.inbox("synccontroller")), 1)
        link.channel.close()
        self.flush()
        (event,) = self.inbox("edgecontroller")
        self.assertEqual(event.route.operation, "disconnected")
        self.assertEqual(len(self.hub.sessions), 0)

    def test_newest_wins(self) -> None:
        """A second connection takes over; the end of the first one cannot hurt it."""
        old = self.dial()
        new = self.dial()
        self.assertIn("4409", old.user.closings[0])
        self.assertEqual(new.user.closings, [])
        self.push(configmap("u", "1"))
        self.assertEqual(len(new.user.messages), 1)
        self.pass_time(3)
        self.assertEqual(new.user.closings, [])
        operations = [m.route.operation for m in self.inbox("edgecontroller")]
        self.assertEqual(operations, ["connected", "connected"])

    def test_old_link_dies_late(self) -> None:
        """The old socket is found dead long after the node came back: nothing happens."""
        old = self.dial()
        old.cut()
        new = self.dial()
        for _ in range(40):
            self.keepalive(new)
            self.pass_time(1)
        self.assertEqual(new.user.closings, [])
        self.assertEqual(len(self.hub.sessions), 1)
        self.push(configmap("u", "1"))
        self.assertEqual(len(new.user.messages), 1)

    def test_who_is_there(self) -> None:
        """An edge that is here answers; one that is not here, or says nothing, is not."""
        link = self.dial()
        proof = self.hub.prove("edge-1")
        self.flush()
        self.assertTrue(self.successResultOf(proof))
        self.assertFalse(self.successResultOf(self.hub.prove("edge-2")))
        link.cut()
        proof = self.hub.prove("edge-1")
        self.clock.pump([1.0] * 14)
        self.assertNoResult(proof)
        self.clock.advance(1.0)
        self.assertFalse(self.successResultOf(proof))

    def test_connected_elsewhere(self) -> None:
        """An edge that has a newer connection to another process is told, if it still listens."""
        link = self.dial()
        self.hub.displace("edge-1")
        self.flush()
        self.assertIn("4409", link.user.closings[0])
        self.assertEqual(len(self.hub.sessions), 0)
        self.hub.displace("edge-1")

    def test_keepalive_window(self) -> None:
        """Only keepalive messages keep a session, whatever else the node says."""
        link = self.dial()
        for _ in range(5):
            self.keepalive(link)
            self.pass_time(15)
        self.assertEqual(link.user.closings, [])
        for _ in range(31):
            self.say(link, "response", "x", parent_id="nobody")
            self.pass_time(1)
        self.assertIn("4408", link.user.closings[0])
        self.assertIn("30 s", link.user.closings[0])

    def test_dead_link(self) -> None:
        """A link that swallows everything is noticed in less than 30 s."""
        link = self.dial()
        self.keepalive(link)
        link.cut()
        self.pass_time(29)
        link.memory.cut = False  # in memory an end is seen only by pumping
        self.flush()
        self.assertEqual(len(self.hub.sessions), 0)
        self.assertIn("nothing heard", link.user.closings[0])
        self.assertEqual(self.hub.traffic.dead_links, 1)

    def test_stop(self) -> None:
        """At stop sessions end, confirmed versions are written, no timer is left."""
        link = self.dial()
        self.ack(link, self.push(configmap("u", "1")))
        self.ack(link, self.push(configmap("u", "2")))
        stopped = self.hub.stopService()
        self.flush()
        self.successResultOf(stopped)
        self.assertIn("4503", link.user.closings[0])
        found = self.kube.peek(OBJECTSYNCS, "default", "edge-1.u")
        assert found is not None
        self.assertEqual(found["status"]["objectResourceVersion"], "2")
        self.pass_time(40)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """At stop edges are sent away at the rate at which they may connect, served until then."""
        self.hub = self.make_hub(connect_rate=2, node_limit=20, drain_seconds=4)
        self.hub.start_ticking()
        links = [self.dial(f"edge-{number}") for number in range(7)]
        stopped = self.hub.stopService()
        gone = []
        for _ in range(30):
            self.flush()
            gone.append(sum(bool(link.user.closings) for link in links))
            self.clock.advance(0.1)
        self.assertEqual([gone[0], gone[-1]], [1, 7])
        self.assertTrue(3 <= gone[15] <= 5, gone)
        self.successResultOf(stopped)
        self.assertEqual({link.user.closings[0] for link in links}, {"4503 the cloud is stopping"})

    def test_drain_of_many(self) -> None:
        """However many there are, it takes no longer than it may."""
        self.hub = self.make_hub(connect_rate=2, node_limit=40, drain_seconds=1)
        self.hub.start_ticking()
        links = [self.dial(f"edge-{number}") for number in range(10)]
        for _ in range(8):
            self.clock.advance(1.0)
            links += [self.dial(f"edge-{len(links) + more}") for more in range(2)]
        stopped = self.hub.stopService()
        for _ in range(9):
            self.assertFalse(stopped.called)
            self.flush()
            late = self.dial("edge-99")
            self.assertIn("stopping", str(self.failureResultOf(late.opening).value))
            self.clock.advance(0.1)
            self.flush()
        self.successResultOf(stopped)
        self.assertTrue(all(link.user.closings for link in links))

    def test_stop_with_a_deaf_edge(self) -> None:
        """An edge that does not answer holds up the stop for three seconds at most."""
        self.dial().cut()
        stopped = self.hub.stopService()
        self.clock.advance(1.0)
        self.assertNoResult(stopped)
        self.clock.pump([0.5] * 5)
        self.links[0].memory.cut = False
        self.flush()
        self.successResultOf(stopped)


class DownTests(HubCase):
    """From a controller to an edge."""

    def test_trimmed(self) -> None:
        """The edge sees the resource without its node, no sync flag, and the content as is."""
        link = self.dial()
        self.push(configmap("u", "7"), operation="insert")
        (message,) = link.user.messages
        self.assertEqual(
            message.route, Route("edgecontroller", "resource", "insert", "default/configmap/app")
        )
        self.assertEqual(message.header.resource_version, "7")
        self.assertEqual(message.read(), configmap("u", "7"))

    def test_waits_for_the_node(self) -> None:
        """What changes while the node is away comes when it connects: the newest only."""
        for version in "123":
            self.push(configmap("u", version))
        self.push("x", resource="membership", group="twin", source="devicecontroller")
        link = self.dial()
        self.assertEqual(
            [(m.route.resource, m.header.resource_version) for m in link.user.messages],
            [("membership", ""), ("default/configmap/app", "3")],
        )

    def test_acknowledged(self) -> None:
        """An acknowledgement records the version, and the same is not sent again."""
        link = self.dial()
        message = self.push(configmap("u", "7"))
        self.ack(link, message, content="anything")
        self.pass_time(6)
        self.assertEqual(len(link.user.messages), 1)
        self.assertEqual(self.syncpoint.recorded("edge-1", "default", "u"), "7")
        self.push(configmap("u", "7"))
        self.assertEqual(len(link.user.messages), 1)

    def test_resent(self) -> None:
        """Without an acknowledgement the same message comes every five seconds."""
        link = self.dial()
        message = self.push(configmap("u", "7"))
        for _ in range(4):
            self.keepalive(link)
            self.pass_time(5)
        self.assertEqual([m.header.msg_id for m in link.user.messages], [message.header.msg_id] * 5)

    def test_error_is_no_acknowledgement(self) -> None:
        """An edge that could not store it gets it again."""
        link = self.dial()
        message = self.push(configmap("u", "7"))
        self.say(
            link,
            "error",
            "default/configmap/app",
            parent_id=message.header.msg_id,
            source="metamanager",
            content="disk full",
        )
        self.pass_time(6)
        self.assertEqual(len(link.user.messages), 2)

    def test_reconnect(self) -> None:
        """What was in flight when the link broke comes again over the new one."""
        first = self.dial()
        self.push(configmap("u", "7"))
        first.channel.abort("cable pulled")
        self.flush()
        second = self.dial()
        self.assertEqual(self.seen(second.user), [("update", "default/configmap/app")])

    def test_window(self) -> None:
        """Our own edge gets as many objects at once as it asked for, at most 32."""
        narrow, wide = self.dial("edge-1", window="2"), self.dial("edge-2", window="4000")
        for node in ("edge-1", "edge-2"):
            for number in range(40):
                self.push(
                    configmap(f"u{number}", "1"), node, resource=f"default/configmap/c{number}"
                )
        self.assertEqual(len(narrow.user.messages), 2)
        self.assertEqual(len(wide.user.messages), 32)

    def test_go_edge(self) -> None:
        """A Go edge gets one object at a time, five times, then the next has its turn."""
        link = self.dial(window="")
        for name in "ab":
            self.push(configmap(name, "1", name), resource=f"default/configmap/{name}")
        for _ in range(30):
            self.keepalive(link)
            self.pass_time(1)
        names = [m.route.resource[-1] for m in link.user.messages]
        self.assertEqual(names, ["a"] * 5 + ["b"] * 2)

    def test_go_edge_is_paced(self) -> None:
        """A Go edge keeps 100 messages and throws the oldest away: never so many at once."""
        link = self.dial(window="")
        for _ in range(200):
            self.push("OK", operation="response", resource="default/pod/web", parent_id="q")
        self.assertEqual(len(link.user.messages), 64)
        self.clock.pump([0.01] * 9)
        self.flush()
        self.assertTrue(64 < len(link.user.messages) <= 128, len(link.user.messages))
        self.clock.pump([0.01] * 20)
        self.flush()
        self.assertEqual([m.header.parent_id for m in link.user.messages], ["q"] * 200)

    def test_unwritable(self) -> None:
        """To a peer that does not read nothing is written; later the newest is."""
        link = self.dial()
        session = self.hub.sessions.get("edge-1")
        assert session is not None and session.channel is not None
        session.channel.pauseProducing()
        for version in "123":
            self.push(configmap("u", version))
        self.assertEqual(link.user.messages, [])
        session.channel.resumeProducing()
        self.flush()
        self.assertEqual([m.header.resource_version for m in link.user.messages], ["3"])

    def test_node_deleted(self) -> None:
        """A deleted node's session ends, nothing is sent, its queue is gone."""
        link = self.dial()
        self.push(configmap("u", "1"))
        self.push(None, operation="delete", resource="null/node/edge-1")
        self.assertIn("4410", link.user.closings[0])
        self.assertEqual(len(link.user.messages), 1)
        self.assertEqual(self.seen(self.dial().user), [])

    def test_no_node(self) -> None:
        """A message that names no node is dropped with a warning and harms nothing."""
        message = self.messages.new(
            source="edgecontroller", group="resource", operation="update", resource="default/pod/x"
        )
        self.successResultOf(self.hub.handle(message))
        self.assertEqual(self.hub.dispatcher.queues, {})

    def test_task_resource_is_not_cut(self) -> None:
        """The node of a task stands at the end of its resource, which stays whole."""
        link = self.dial()
        message = self.messages.new(
            source="taskmanager",
            group="taskmanager",
            operation="upgrade",
            resource="upgrade/t1/node/edge-1",
            content={},
        )
        self.hub.handle(message)
        self.flush()
        self.assertEqual(self.seen(link.user), [("upgrade", "upgrade/t1/node/edge-1")])

    def test_question(self) -> None:
        """A module asks an edge through the hub and gets its answer."""
        self.bus.register("cloudhub", "cloudhub")
        question = self.messages.new(
            source="router_servicebus",
            group="user",
            operation="GET",
            resource="node/edge-1/8080:health",
        )
        answer = self.bus.send_sync("cloudhub", question, 60.0)
        link = self.dial()
        self.hub.handle(
            Message(Header(msg_id=question.header.msg_id, timestamp=0, sync=True), question.route)
        )
        self.flush()
        (asked,) = link.user.messages
        self.assertFalse(asked.header.sync)
        self.ack(link, asked, "fine")
        self.assertEqual(self.successResultOf(answer).read(), "fine")


class UpTests(HubCase):
    """From an edge to a controller."""

    def setUp(self) -> None:
        super().setUp()
        self.edge = self.dial()
        for module in self.modules:
            self.inbox(module)

    def test_prefixed(self) -> None:
        """Controllers see whose resource it is."""
        sent = self.say(self.edge, "patch", "default/podpatch/web", content="{}")
        (message,) = self.inbox("edgecontroller")
        self.assertEqual(message.header, sent.header)
        self.assertEqual(message.route.resource, "node/edge-1/default/podpatch/web")

    def test_ca(self) -> None:
        """The Kubernetes CA is answered by the hub itself."""
        sent = self.say(self.edge, "query", "k8s/ca.crt", source="metamanager")
        (answer,) = self.edge.user.messages
        self.assertEqual(answer.route, Route("cloudhub", "resource", "response", "k8s/ca.crt"))
        self.assertEqual((answer.header.parent_id, answer.read()), (sent.header.msg_id, KUBE_CA))

    def test_membership_is_confirmed(self) -> None:
        """Without DeviceController the question for devices is confirmed, so it ends."""
        sent = self.say(self.edge, "get", "membership/detail", source="twin", group="resource")
        (answer,) = self.edge.user.messages
        self.assertEqual(answer.route, Route("devicecontroller", "twin", "response", "twin"))
        self.assertEqual(answer.header.parent_id, sent.header.msg_id)

    def test_by_source(self) -> None:
        """Twins go to DeviceController and user data to the Router, where there is one."""
        for name in ("devicecontroller", "router", "taskmanager"):
            self.inboxes[name] = self.bus.register(name, name)
        self.say(self.edge, "get", "membership/detail", source="twin", group="resource")
        self.say(self.edge, "upload", "a/topic", source="bus", group="user", content="x")
        self.say(self.edge, "UpdateNodeActionStatus", "task/1/node/edge-1", source="websocket")
        (twin,) = self.inbox("devicecontroller")
        self.assertEqual(twin.route.resource, "node/edge-1/membership/detail")
        (user,) = self.inbox("router")
        self.assertEqual(user.route.resource, "node/edge-1/a/topic")
        (task,) = self.inbox("taskmanager")
        self.assertEqual(task.route.resource, "task/1/node/edge-1")

    def test_nobody_there(self) -> None:
        """What no module of this cloud takes is dropped; the session goes on."""
        self.say(self.edge, "upload", "a/topic", source="bus", group="user", content="x")
        self.say(self.edge, "null", "null", source="metaserver", group="dynamiccontroller")
        self.say(self.edge, "update", "default/pod/x", source="edgecontroller")
        self.say(self.edge, "response", "default/pod/x", parent_id="nothing-we-sent")
        self.assertEqual(self.edge.user.closings, [])
        self.assertEqual(self.inbox("edgecontroller"), [])

    def test_refused(self) -> None:
        """What a node may not say is answered with an error and goes no further."""
        for operation, resource in (
            ("update", "null/node/edge-2"),
            ("frobnicate", "default/pod/web"),
            ("query", "default/unheardof/x"),
        ):
            sent = self.say(self.edge, operation, resource)
            answer = self.edge.user.messages[-1]
            self.assertEqual(answer.route, Route("cloudhub", "resource", "error", resource))
            self.assertEqual(answer.header.parent_id, sent.header.msg_id)
            self.assertIn("403 Forbidden", answer.read())
        self.assertEqual(self.inbox("edgecontroller"), [])
        self.assertEqual(self.edge.user.closings, [])

    def test_denials_are_counted_and_said_once(self) -> None:
        """However often a node tries, the log has one line of it, and none of its content."""
        events: list[Any] = []
        note: Any = events.append
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        for number in range(50):
            self.say(self.edge, "update", f"default/secret/s{number}", content="PLANTED")
            self.say(self.edge, "error", "x" * 5000, source="edged", content="PLANTED")
        labels = '{kind="secret",reason="not-for-nodes"}'
        self.assertIn(f"kubeedge_denied_requests_total{labels} 50\n", self.metrics.text())
        lines = [text for event in events if "edge-1" in (text := formatEvent(event) or "")]
        self.assertEqual(len([line for line in lines if "was denied" in line]), 1)
        self.assertEqual(len([line for line in lines if "could not do" in line]), 1)
        self.assertNotIn("PLANTED", str(events))
        self.assertLess(max(map(len, lines)), 1000)
        for _ in range(4):
            self.keepalive(self.edge)
            self.pass_time(16)
        self.say(self.edge, "update", "default/secret/s", content="PLANTED")
        self.assertIn("(49 more like it", formatEvent(events[-1]) or "")

    def test_too_many_objects(self) -> None:
        """A node that makes Events without end is refused, without a word, and may go on later."""
        taken = 0
        for number in range(1000):
            self.say(self.edge, "insert", f"default/event/e{number}", content={})
            taken += len(self.inbox("edgecontroller"))
        self.assertEqual(taken, 900)
        labels = '{kind="event",reason="rate"}'
        self.assertIn(f"kubeedge_denied_requests_total{labels} 100\n", self.metrics.text())
        self.assertEqual(self.edge.user.messages, [])
        self.say(self.edge, "update", "default/nodestatus/edge-1", content={})
        self.assertEqual(len(self.inbox("edgecontroller")), 1)
        self.pass_time(1)
        self.say(self.edge, "insert", "default/event/late", content={})
        self.assertEqual(len(self.inbox("edgecontroller")), 1)

    def test_answers_for_others(self) -> None:
        """Only the node that was asked can answer, even if another has seen the question."""
        question = self.messages.new(
            source="router", group="resource", operation="publish", resource="node/edge-1/x"
        )
        answer = self.bus.send_sync("edgecontroller", question, 30)
        asked = msgspec.structs.replace(
            question, header=msgspec.structs.replace(question.header, sync=True)
        )
        self.successResultOf(self.hub.handle(asked))
        other = self.dial("edge-2")
        about = {"parent_id": question.header.msg_id, "content": "yes"}
        self.say(other, "response", "x", **about)
        self.say(other, "query", "drv/volume/v", **about)
        self.assertNoResult(answer)
        labels = '{kind="response",reason="not-its-own"}'
        self.assertIn(f"kubeedge_denied_requests_total{labels} 2\n", self.metrics.text())
        self.say(self.edge, "response", "x", **about)
        self.assertEqual(self.successResultOf(answer).read(), "yes")

    def test_back_pressure(self) -> None:
        """When the controller's inbox is full the edge is not read; nothing is lost."""
        for number in range(30):
            self.say(self.edge, "insert", f"default/event/e{number}", content={})
        session = self.hub.sessions.get("edge-1")
        assert session is not None and session.channel is not None
        self.assertTrue(session.channel.is_paused)
        got: list[str] = []
        for _ in range(40):
            got += [m.route.resource.rpartition("/")[2] for m in self.inbox("edgecontroller")]
            self.flush()
        self.assertEqual(got, [f"e{number}" for number in range(30)])
        self.assertFalse(session.channel.is_paused)

    def test_busy_cloud_does_not_cut(self) -> None:
        """A session that we do not read for two minutes ourselves is not called dead."""
        for number in range(10):
            self.say(self.edge, "insert", f"default/event/e{number}", content={})
        self.edge.cut()
        self.pass_time(120)
        self.assertEqual(len(self.hub.sessions), 1)

    def test_one_edge_sends_garbage(self) -> None:
        """Garbage ends its own session; the neighbour does not notice."""
        other = self.dial("edge-2")
        self.edge.websocket.sendMessage(b"garbage", isBinary=False)
        self.flush()
        self.assertIn("4400", self.edge.user.closings[0])
        self.push(configmap("u", "1"), "edge-2")
        self.assertEqual(len(other.user.messages), 1)

    def test_no_waiting_in_a_circle(self) -> None:
        """Both directions full, the edge's reads paused: let go, and all arrives."""
        for number in range(20):
            self.push(configmap(f"u{number}", "1"), resource=f"default/configmap/c{number}")
            self.say(self.edge, "insert", f"default/event/e{number}", content={})
        for message in list(self.edge.user.messages):
            self.edge.channel.send(self.messages.reply(message))
        got = 0
        for _ in range(40):
            got += len(self.inbox("edgecontroller"))
            self.flush()
        self.assertEqual(got, 20)
        self.assertEqual(len(self.hub.dispatcher.queue("edge-1").window), 0)


class FullTests(HubCase):
    """Messages that nobody would acknowledge."""

    def test_dropped_with_a_word(self) -> None:
        """A push without a version is dropped, counted, and the next one goes out."""
        link = self.dial()
        self.hub.handle(
            Message(
                Header(msg_id="1", timestamp=1),
                Route("edgecontroller", "resource", "update", "node/edge-1/default/secret/s"),
                raw({"metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}}),
            )
        )
        self.push(configmap("u", "1"))
        self.assertEqual(self.seen(link.user), [("update", "default/configmap/app")])
