from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kubeedge_tx.api.holdings import Confirmation, Holding, digest
from kubeedge_tx.api.resources import (
    CLUSTEROBJECTSYNCS,
    CONFIGMAPS,
    DEVICES,
    NODES,
    OBJECTSYNCS,
    PODS,
    ResourceType,
)
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.cloud.synccontroller.controller import SyncController
from kubeedge_tx.cloud.synccontroller.objects import Wanted
from kubeedge_tx.cloud.synccontroller.records import Key
from kubeedge_tx.cloud.synccontroller.relevance import Relevance
from kubeedge_tx.kube.interfaces import IListener
from tests.cloud.rig import Recorder, config_map, connected, factory, node, pod, read
from tests.fakes.kube import FakeKube, unreachable


class SyncControllerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.kube = FakeKube()
        self.bus = Recorder()
        self.clock = Clock()
        self.kube.put(NODES, node())
        self.running = False
        self.wanted: Wanted | None = None
        self.unconfirmed: list[tuple[str, ...]] = []
        self.confirmed: list[Confirmation] = []
        self.held: list[tuple[str, ...]] = []

    def start(self) -> None:
        self.pods = self.kube.informer(PODS)
        nodes = self.kube.informer(NODES)
        self.controller = SyncController(
            self.bus,
            factory(),
            self.kube,
            self.clock,
            object_syncs=self.kube.informer(OBJECTSYNCS),
            cluster_object_syncs=self.kube.informer(CLUSTEROBJECTSYNCS),
            nodes=nodes,
            objects=[self.pods, self.kube.informer(CONFIGMAPS), self.kube.informer(DEVICES), nodes],
            wanted=self.wanted,
            confirmations=self,
        )
        self.run_now(self.controller.started())
        self.addCleanup(lambda: self.run_now(self.controller.stopped()))

    def reported(self, node: str, namespace: str, uid: str, version: str) -> None:
        self.held.append((node, namespace, uid, version))

    def removed(self, node: str, namespace: str, uid: str) -> None:
        self.unconfirmed.append((node, namespace, uid))

    def unwritten(self, node: str) -> list[Confirmation]:
        return self.confirmed

    def run_now(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def record(
        self,
        obj: dict[str, Any],
        version: str = "",
        *,
        kind: str = "",
        node: str = "edge-1",
        uid: str = "",
    ) -> None:
        """Write down that a node has confirmed an object, in its present version or another."""
        about = obj["metadata"]
        place: ResourceType = OBJECTSYNCS if about.get("namespace") else CLUSTEROBJECTSYNCS
        where = {"namespace": about["namespace"]} if about.get("namespace") else {}
        self.kube.put(
            place,
            {
                "metadata": {"name": f"{node}.{uid or about['uid']}", **where},
                "spec": {
                    "objectAPIVersion": obj["apiVersion"],
                    "objectKind": kind or obj["kind"],
                    "objectName": about["name"],
                },
                "status": {"objectResourceVersion": version or about["resourceVersion"]},
            },
        )

    def test_is_a_module(self) -> None:
        """It promises what the interfaces say."""
        self.start()
        verifyObject(IModule, self.controller)
        verifyObject(IListener, Relevance())

    def say(self, *holdings: Holding, full: bool = True) -> list[str]:
        """The edge says what it has; returns what it is sent."""
        said = digest(holdings, full=full)
        message = Message(
            Header(msg_id="d1", timestamp=1),
            Route("websocket", "resource", "digest", "node/edge-1/digest"),
            raw(said),
        )
        self.bus.take()
        self.run_now(self.controller.handle(message))
        return self.bus.brief()

    def test_same_digest(self) -> None:
        """An edge that has what it has confirmed is sent nothing; another one is asked."""
        made = self.kube.put(PODS, pod())
        self.record(made)
        version = made["metadata"]["resourceVersion"]
        self.start()
        self.assertEqual(self.say(Holding("default/pod/web", "uid-web", version), full=False), [])
        asked = ["digest node/edge-1/digest"]
        for holdings in (
            (),
            (Holding("default/pod/web", "uid-web", "1"),),
            (Holding("default/pod/web", "other", version),),
        ):
            self.run_now(self.controller.handle(connected("edge-1")))
            self.assertEqual(self.say(*holdings, full=False), asked)

    def test_question_got_lost(self) -> None:
        """An edge that does not answer is asked again, a few times."""
        self.record(self.kube.put(PODS, pod()))
        self.start()
        asked = ["digest node/edge-1/digest"]
        self.assertEqual(self.say(full=False), asked)
        self.assertEqual(self.say(full=False), [])
        for expected in (asked, asked, [], []):
            self.bus.take()
            self.clock.advance(30)
            self.assertEqual(self.bus.brief(), expected)
        self.assertEqual(self.say(full=False), asked)
        self.assertEqual(self.say(), ["update node/edge-1/default/pod/web"])
        self.clock.advance(30)
        self.assertEqual(self.bus.brief(), [])

    def test_first_word_got_lost(self) -> None:
        """An edge of ours that connects and does not say what it has is asked; one of Go is not."""
        self.start()
        for window, speaks, asked in ((0, False, False), (32, True, False), (32, False, True)):
            self.run_now(self.controller.handle(connected("edge-1", window)))
            if speaks:
                self.say(full=False)
            self.bus.take()
            self.clock.advance(30)
            self.assertEqual(self.bus.brief(), ["digest node/edge-1/digest"] * asked)
        self.run_now(self.controller.handle(connected("edge-1", 32)))
        self.clock.advance(29)
        self.run_now(self.controller.handle(connected("edge-1", 32)))
        self.bus.take()
        self.clock.advance(29)
        self.assertEqual(self.bus.brief(), [])

    def test_lost_objects(self) -> None:
        """What an edge has confirmed and has not, or in an older version, is sent again."""
        for name in ("web", "old", "kept"):
            self.record(self.kube.put(PODS, pod(name)))
        kept = self.kube.peek(PODS, "default", "kept")
        assert kept is not None
        self.start()
        sent = self.say(
            Holding("default/pod/old", "uid-old", "1"),
            Holding("default/pod/kept", "uid-kept", kept["metadata"]["resourceVersion"]),
        )
        self.assertEqual(
            sorted(sent),
            ["update node/edge-1/default/pod/old", "update node/edge-1/default/pod/web"],
        )
        self.assertEqual(
            sorted(self.unconfirmed),
            [("edge-1", "default", "uid-old"), ("edge-1", "default", "uid-web")],
        )
        self.assertEqual(self.controller.inventory.lost, 2)

    def test_lost_before_it_was_recorded(self) -> None:
        """So is what it has confirmed a moment ago, and no record tells yet."""
        for name in ("web", "gone"):
            self.record(self.kube.put(PODS, pod(name)), "1")
        version = self.kube.put(PODS, pod("web"))["metadata"]["resourceVersion"]
        self.start()
        self.confirmed = [
            Confirmation("default", "uid-web", "Pod", "web", version),
            Confirmation("default", "uid-gone", "Pod", "gone", None),
        ]
        self.assertEqual(self.say(Holding("default/pod/web", "uid-web", version), full=False), [])
        self.assertEqual(
            self.say(Holding("default/pod/web", "uid-web", "1")),
            ["update node/edge-1/default/pod/web"],
        )

    def test_asked_again(self) -> None:
        """Each sweep also asks the edges that tell, while they are connected."""
        self.start()
        self.assertEqual(self.say(full=False), [])
        self.clock.advance(3600)
        self.assertEqual(self.bus.brief(), ["digest node/edge-1/digest"])
        self.bus.take()
        self.run_now(self.controller.handle(connected("edge-1")))
        self.clock.advance(3600)
        self.assertEqual(self.bus.brief(), [])

    def test_objects_of_the_past(self) -> None:
        """What an edge has from an old backup and the cluster has not is taken from it."""
        made = self.kube.put(PODS, pod("web"))
        self.start()
        sent = self.say(
            Holding("default/pod/gone", "u1", "7"),
            Holding("default/pod/web", "u2", "7"),
            Holding("default/pod/web", "uid-web", "1"),
            Holding("default/unheard/of", "u3", "7"),
            Holding("nonsense", "u4", "7"),
        )
        self.assertEqual(
            sent,
            [
                "delete node/edge-1/default/pod/gone",
                "delete node/edge-1/default/pod/web",
                "update node/edge-1/default/pod/web",
            ],
        )
        self.assertTrue(made)

    def test_recorded_by_nobody(self) -> None:
        """What an edge has, and no record tells, is sent again: its answer makes the record."""
        made = self.kube.put(CONFIGMAPS, config_map())
        about = made["metadata"]
        self.start()
        self.assertEqual(
            self.say(Holding("default/configmap/app", about["uid"], about["resourceVersion"])),
            ["update node/edge-1/default/configmap/app"],
        )

    def test_records_catch_up(self) -> None:
        """A record that is older than what the edge has follows it; one of the past does not.

        So the edge, whose digest differs on every connection, need not tell everything again.
        """
        made = self.kube.put(PODS, pod())
        version = int(made["metadata"]["resourceVersion"])
        self.record(made)
        made["status"] = {"phase": "Running"}
        newer = int(self.kube.put(PODS, made)["metadata"]["resourceVersion"])
        self.start()
        for uid, has in (
            ("uid-web", newer + 1),  # which we have not heard of
            ("another", newer),
            ("uid-web", version),
        ):
            self.say(Holding("default/pod/web", uid, str(has)))
            self.assertEqual(self.held, [])
        self.assertEqual(self.say(Holding("default/pod/web", "uid-web", str(newer))), [])
        self.assertEqual(self.held, [("edge-1", "default", "uid-web", str(newer))])

    def test_bad_digest(self) -> None:
        """A digest that is none changes nothing."""
        self.start()
        for content in (None, "text", {"fingerprint": 5}, {"fingerprint": "", "holdings": [1]}):
            message = Message(
                Header(msg_id="d1", timestamp=1),
                Route("websocket", "resource", "digest", "node/edge-1/digest"),
                raw(content),
            )
            self.run_now(self.controller.handle(message))
        self.assertEqual(self.bus.take(), [])

    def test_all_is_well(self) -> None:
        """A node that has confirmed everything is left in peace."""
        self.record(self.kube.put(PODS, pod()))
        node_ = self.kube.peek(NODES, "", "edge-1")
        assert node_ is not None
        self.record(node_)
        self.start()
        self.assertEqual(self.bus.take(), [])
        self.assertEqual(self.kube.calls, [])

    def test_a_newer_object(self) -> None:
        """A version the node has not confirmed is sent, as an update of EdgeController."""
        made = self.kube.put(PODS, pod())
        self.record(made, "7")
        self.start()
        (message,) = self.bus.take()
        route = message.route
        self.assertEqual(
            (route.source, route.group, route.operation, route.resource),
            ("edgecontroller", "resource", "update", "node/edge-1/default/pod/web"),
        )
        self.assertEqual(message.header.resource_version, made["metadata"]["resourceVersion"])
        self.assertEqual(message.header.parent_id, "")
        self.assertEqual(read(message), made)

    def test_a_record_without_a_version(self) -> None:
        """What a crash left half-made counts as nothing confirmed."""
        made = self.kube.put(PODS, pod())
        self.record(made)
        record = self.kube.peek(OBJECTSYNCS, "default", "edge-1.uid-web")
        assert record is not None
        self.kube.put(OBJECTSYNCS, {**record, "status": {}})
        self.start()
        self.assertEqual(self.bus.brief(), ["update node/edge-1/default/pod/web"])

    def test_cluster_scope(self) -> None:
        """Where there is no namespace, the resource says null."""
        self.kube.put(NODES, node())
        found = self.kube.peek(NODES, "", "edge-1")
        assert found is not None
        self.record(found, "1")
        self.start()
        self.assertEqual(self.bus.brief(), ["update node/edge-1/null/node/edge-1"])

    def test_devices(self) -> None:
        """A repaired device comes from DeviceController, or DeviceTwin would not hear of it."""
        device = {"metadata": {"namespace": "default", "name": "thermo"}, "spec": {}}
        self.record(self.kube.put(DEVICES, device), "1")
        self.start()
        self.assertEqual(self.bus.take()[0].route.source, "devicecontroller")

    def test_an_object_of_another_node(self) -> None:
        """A device that has moved, as its node was away, is deleted there."""
        device = {"metadata": {"namespace": "default", "name": "thermo"}, "spec": {}}
        made = self.kube.put(DEVICES, device)
        self.kube.put(NODES, node("edge-2"))
        self.record(made)
        self.record(made, node="edge-2")
        self.wanted = lambda where, obj: (where, obj["kind"]) != ("edge-1", "Device")
        self.start()
        (message,) = self.bus.take()
        route = message.route
        self.assertEqual(
            (route.source, route.operation, route.resource),
            ("devicecontroller", "delete", "node/edge-1/default/device/thermo"),
        )
        self.assertEqual(read(message)["metadata"]["uid"], made["metadata"]["uid"])

    def test_an_object_that_is_gone(self) -> None:
        """It was deleted while nobody looked: the node deletes it too, by its uid."""
        self.record(self.kube.put(PODS, pod()))
        self.kube.drop(PODS, "default", "web")
        self.start()
        (message,) = self.bus.take()
        self.assertEqual(message.route.operation, "delete")
        self.assertEqual(message.route.resource, "node/edge-1/default/pod/web")
        self.assertEqual(message.header.resource_version, "")
        self.assertEqual(
            read(message), {"metadata": {"name": "web", "namespace": "default", "uid": "uid-web"}}
        )

    def test_an_object_that_was_replaced(self) -> None:
        """Another uid is another object; the record is about the one that is gone."""
        self.record(self.kube.put(CONFIGMAPS, config_map()), uid="uid-before")
        self.start()
        (message,) = self.bus.take()
        self.assertEqual(message.route.operation, "delete")
        self.assertEqual(read(message)["metadata"]["uid"], "uid-before")

    def test_no_delete_on_hearsay(self) -> None:
        """An informer that is behind, or an API server that is away, deletes nothing."""
        self.start()
        made = self.kube.put(PODS, pod())
        self.pods._cache.clear()
        self.record(made)
        self.assertEqual([call.verb for call in self.kube.calls], ["get"])
        self.kube.fail_next("get", unreachable())
        self.record(made, "1")
        self.assertEqual(self.bus.take(), [])

    def test_old_records(self) -> None:
        """Those of v1.6 name the plural."""
        self.record(self.kube.put(PODS, pod()), "1", kind="pods")
        self.start()
        self.assertEqual(self.bus.brief(), ["update node/edge-1/default/pod/web"])

    def test_kinds_we_do_not_follow(self) -> None:
        """Their records belong to somebody else."""
        self.record(self.kube.put(PODS, pod()), "1", kind="CronTab")
        self.start()
        self.assertEqual(self.bus.take(), [])

    def test_a_node_that_is_gone(self) -> None:
        """Its records are deleted, and nothing is sent."""
        self.record(self.kube.put(PODS, pod()), node="edge-9")
        self.kube.put(NODES, node("edge-2"))
        self.record(self.kube.put(CONFIGMAPS, config_map()), node="edge-2")
        self.start()
        self.assertEqual(len(self.kube.all(OBJECTSYNCS)), 1)
        self.kube.drop(NODES, "", "edge-2")
        self.assertEqual(self.kube.all(OBJECTSYNCS), [])
        self.assertEqual(self.controller.collected, 2)
        self.assertEqual(self.bus.take(), [])

    def test_a_node_that_connects(self) -> None:
        """Its records, and nobody else's, are compared."""
        for name in ("edge-1", "edge-2"):
            self.kube.put(NODES, node(name))
            self.record(self.kube.put(PODS, pod(name, name)), "1", node=name)
        self.start()
        self.bus.take()
        self.run_now(self.controller.handle(connected("edge-2")))
        self.assertEqual(self.bus.brief(), ["update node/edge-2/default/pod/edge-2"])

    def test_status_is_no_reason(self) -> None:
        """What the edge itself reported makes the pod newer, and need not be sent to it."""
        made = self.kube.put(PODS, pod())
        self.record(made)
        self.start()
        self.kube.put(PODS, {**made, "status": {"phase": "Running"}})
        self.run_now(self.controller.handle(connected("edge-1")))
        self.assertEqual(self.bus.take(), [])
        self.kube.put(PODS, {**made, "spec": {"nodeName": "edge-1", "hostNetwork": True}})
        self.run_now(self.controller.handle(connected("edge-1")))
        self.assertEqual(self.bus.brief(), ["update node/edge-1/default/pod/web"])

    def test_an_object_deleted_where_no_pod_needs_it(self) -> None:
        """EdgeController would not tell the node; the record says that it has it."""
        self.record(self.kube.put(CONFIGMAPS, config_map()))
        self.start()
        self.kube.drop(CONFIGMAPS, "default", "app")
        self.assertEqual(self.bus.brief(), ["delete node/edge-1/default/configmap/app"])

    def test_once_an_hour(self) -> None:
        """What was missed in any way is found by the next sweep, not by polling."""
        made = self.kube.put(PODS, pod())
        self.record(made, "1")
        self.start()
        self.assertEqual(len(self.bus.take()), 1)
        self.clock.advance(3599)
        self.assertEqual(self.bus.take(), [])
        self.clock.advance(1)
        self.assertEqual(len(self.bus.take()), 1)
        self.kube.drop(OBJECTSYNCS, "default", "edge-1.uid-web")
        self.clock.advance(3600)
        self.assertEqual(self.bus.take(), [])

    def test_names_with_dots(self) -> None:
        """A node's name may have dots; the uid is what follows the last one."""
        key = Key("default", "edge.site.example.7-a")
        self.assertEqual((key.node, key.uid), ("edge.site.example", "7-a"))
