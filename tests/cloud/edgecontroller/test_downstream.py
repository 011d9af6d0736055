from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from kubeedge_tx.api.resources import CONFIGMAPS, NODES, PODS, SECRETS
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.cloud.edgecontroller.claims import SESSION
from tests.cloud.edgecontroller.rig import EdgeControllerCase
from tests.cloud.rig import config_map, connected, node, pod, read, secret

MOUNTS: dict[str, Any] = {"volumes": [{"name": "c", "configMap": {"name": "app"}}]}
PULLS: dict[str, Any] = {"imagePullSecrets": [{"name": "key"}]}


class PodTests(EdgeControllerCase):
    def setUp(self) -> None:
        super().setUp()
        self.kube.put(NODES, node())
        self.bus.take()

    def test_is_a_module(self) -> None:
        """It promises what the interface says."""
        verifyObject(IModule, self.controller)

    def test_a_new_pod(self) -> None:
        """A pod made for an edge node is inserted there, whole, with its version."""
        made = self.kube.put(PODS, pod())
        (message,) = self.bus.take()
        route = message.route
        self.assertEqual(route.resource, "node/edge-1/default/pod/web")
        self.assertEqual(
            (route.source, route.group, route.operation), ("edgecontroller", "resource", "insert")
        )
        self.assertEqual(message.header.resource_version, made["metadata"]["resourceVersion"])
        self.assertEqual(message.header.parent_id, "")
        content = read(message)
        self.assertEqual((content["kind"], content["apiVersion"]), ("Pod", "v1"))
        self.assertEqual(content["spec"], made["spec"])

    def test_pods_elsewhere(self) -> None:
        """Pods of other nodes, and of none yet, are nobody's business here."""
        self.kube.put(PODS, pod(node="server-1"))
        self.kube.put(PODS, pod("two", node=""))
        self.assertEqual(self.bus.take(), [])

    def test_a_pod_that_is_bound(self) -> None:
        """The scheduler's choice is a change of the pod, and so is an update for the edge."""
        self.kube.put(PODS, pod(node=""))
        self.kube.put(PODS, pod())
        self.assertEqual(self.bus.brief(), ["update node/edge-1/default/pod/web"])

    def test_status_does_not_come_back(self) -> None:
        """What the edge itself reported is not sent to it."""
        made = self.kube.put(PODS, pod())
        self.bus.take()
        made["status"] = {"phase": "Running"}
        made["metadata"]["managedFields"] = [{"manager": "cloudcore"}]
        self.kube.put(PODS, made)
        self.assertEqual(self.bus.take(), [])
        made["metadata"]["labels"] = {"a": "b"}
        self.kube.put(PODS, made)
        self.assertEqual(self.bus.brief(), ["update node/edge-1/default/pod/web"])

    def test_a_graceful_end(self) -> None:
        """First the edge hears that the pod shall end, then that it is gone."""
        self.kube.put(PODS, pod())
        self.bus.take()
        self.kube.delete(PODS, "default", "web")
        (message,) = self.bus.take()
        self.assertEqual(message.route.operation, "update")
        self.assertIn("deletionTimestamp", read(message)["metadata"])
        self.kube.drop(PODS, "default", "web")
        (message,) = self.bus.take()
        self.assertEqual(message.route.operation, "delete")
        self.assertTrue(message.header.resource_version)
        self.assertEqual(read(message)["metadata"]["uid"], "uid-web")

    def test_what_a_pod_needs_comes_before_it(self) -> None:
        """ConfigMaps and Secrets are there before the pod that mounts them, unasked."""
        self.kube.put(CONFIGMAPS, config_map(x="1"))
        self.kube.put(SECRETS, secret(x="MQ=="))
        self.assertEqual(self.bus.take(), [])
        self.kube.put(PODS, pod(spec=MOUNTS | PULLS))
        self.assertEqual(
            self.bus.brief(),
            [
                "insert node/edge-1/default/configmap/app",
                "update node/edge-1/default/secret/key",
                "insert node/edge-1/default/pod/web",
            ],
        )

    def test_a_second_pod_needs_no_second_copy(self) -> None:
        """What the node has is not sent again with each pod."""
        self.kube.put(CONFIGMAPS, config_map())
        self.kube.put(PODS, pod(spec=MOUNTS))
        self.bus.take()
        self.kube.put(PODS, pod("two", spec=MOUNTS))
        self.assertEqual(self.bus.brief(), ["insert node/edge-1/default/pod/two"])


class ObjectTests(EdgeControllerCase):
    def setUp(self) -> None:
        super().setUp()
        for name in ("edge-1", "edge-2", "edge-3"):
            self.kube.put(NODES, node(name))
        self.kube.put(PODS, pod("one", "edge-1", MOUNTS | PULLS))
        self.kube.put(PODS, pod("two", "edge-2", MOUNTS))
        self.bus.take()

    def test_a_configmap_that_comes_late(self) -> None:
        """Made after the pods that wait for it, it goes to their nodes."""
        self.kube.put(CONFIGMAPS, config_map())
        self.assertEqual(
            self.bus.brief(),
            [
                "insert node/edge-1/default/configmap/app",
                "insert node/edge-2/default/configmap/app",
            ],
        )

    def test_changes_and_the_end(self) -> None:
        """Every change goes to the nodes that need it; the end too."""
        self.kube.put(CONFIGMAPS, config_map())
        self.kube.put(SECRETS, secret())
        self.bus.take()
        self.kube.put(CONFIGMAPS, config_map(x="2"))
        self.kube.put(SECRETS, secret(x="Mg=="))
        self.kube.drop(CONFIGMAPS, "default", "app")
        self.kube.drop(SECRETS, "default", "key")
        self.assertEqual(
            self.bus.brief(),
            [
                "update node/edge-1/default/configmap/app",
                "update node/edge-2/default/configmap/app",
                "update node/edge-1/default/secret/key",
                "delete node/edge-1/default/configmap/app",
                "delete node/edge-2/default/configmap/app",
                "delete node/edge-1/default/secret/key",
            ],
        )

    def test_made_anew(self) -> None:
        """Deleted and made again, it arrives again: the pods still refer to it."""
        self.kube.put(CONFIGMAPS, config_map())
        self.kube.drop(CONFIGMAPS, "default", "app")
        self.bus.take()
        self.kube.put(CONFIGMAPS, config_map())
        self.assertEqual(len(self.bus.take()), 2)

    def test_no_longer_needed(self) -> None:
        """When the last pod of a node is gone, the node hears no more of it."""
        self.kube.put(CONFIGMAPS, config_map())
        self.kube.drop(PODS, "default", "two")
        self.bus.take()
        self.kube.put(CONFIGMAPS, config_map(x="2"))
        self.assertEqual(self.bus.brief(), ["update node/edge-1/default/configmap/app"])

    def test_encoded_once(self) -> None:
        """However many nodes get it, its JSON is made once."""
        self.kube.put(CONFIGMAPS, config_map())
        first, second = self.bus.take()
        self.assertIs(first.content, second.content)
        self.assertNotEqual(first.header.msg_id, second.header.msg_id)

    def busy(self) -> list[Deferred[None]]:
        """CloudHub has room for one message now, and for more when told so."""
        rooms: list[Deferred[None]] = []

        def send(module: str, message: Message) -> Deferred[None]:
            self.bus.sent.append(message)
            rooms.append(Deferred())
            return rooms[-1]

        self.bus.send = send  # type: ignore[method-assign]
        return rooms

    def let_all_in(self, rooms: list[Deferred[None]]) -> list[Message]:
        while rooms:
            rooms.pop(0).callback(None)
        return self.bus.take()

    def test_faster_than_it_can_be_sent(self) -> None:
        """Of ten changes that come while one is on its way, only the newest is sent."""
        self.kube.put(CONFIGMAPS, config_map())
        self.bus.take()
        rooms = self.busy()
        for number in range(11):
            self.kube.put(CONFIGMAPS, config_map(x=str(number)))
        sent = [
            (message.route.resource.split("/")[1], read(message)["data"]["x"])
            for message in self.let_all_in(rooms)
        ]
        self.assertEqual(
            sent, [("edge-1", "0"), ("edge-2", "0"), ("edge-1", "10"), ("edge-2", "10")]
        )

    def test_remade_while_another_is_sent(self) -> None:
        """The end of an object and a new one of its name both arrive, in this order."""
        self.kube.put(CONFIGMAPS, config_map())
        self.kube.put(SECRETS, secret())
        self.bus.take()
        rooms = self.busy()
        self.kube.put(SECRETS, secret(x="Mg=="))
        self.kube.put(CONFIGMAPS, config_map(x="2"))
        self.kube.drop(CONFIGMAPS, "default", "app")
        self.kube.put(CONFIGMAPS, config_map(x="3"))
        self.kube.put(CONFIGMAPS, config_map(x="4"))
        sent = [
            (message.route.operation, read(message)["data"].get("x"))
            for message in self.let_all_in(rooms)
            if "edge-1" in message.route.resource
        ]
        self.assertEqual(sent, [("update", "Mg=="), ("delete", "2"), ("insert", "4")])


class NodeTests(EdgeControllerCase):
    def test_a_node_gets_itself(self) -> None:
        """A Node is sent to its edge when it is made and when it changes."""
        made = self.kube.put(NODES, node())
        made["spec"] = {"unschedulable": True}
        self.kube.put(NODES, made)
        first, second = self.bus.take()
        for message in (first, second):
            self.assertEqual(message.route.operation, "update")
            self.assertEqual(message.route.resource, "node/edge-1/null/node/edge-1")
        self.assertTrue(read(second)["spec"]["unschedulable"])

    def test_a_heartbeat_is_no_news(self) -> None:
        """That a condition was seen once more is not sent; that it changed is."""
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "1"}
        made = self.kube.put(NODES, {**node(), "status": {"conditions": [condition]}})
        self.bus.take()
        self.kube.put(
            NODES, {**made, "status": {"conditions": [{**condition, "lastHeartbeatTime": "2"}]}}
        )
        self.assertEqual(self.bus.take(), [])
        self.kube.put(
            NODES, {**made, "status": {"conditions": [{**condition, "status": "Unknown"}]}}
        )
        self.assertEqual(len(self.bus.take()), 1)

    def test_pods_bound_before_the_node_was_known(self) -> None:
        """The watches run apart; a pod that is seen before its node is sent with it."""
        self.kube.put(CONFIGMAPS, config_map())
        self.kube.put(PODS, pod(spec=MOUNTS))
        self.kube.put(NODES, node())
        self.assertEqual(
            self.bus.brief(),
            [
                "update node/edge-1/null/node/edge-1",
                "insert node/edge-1/default/configmap/app",
                "insert node/edge-1/default/pod/web",
            ],
        )

    def test_a_deleted_node(self) -> None:
        """CloudHub is told to end its session; nothing is sent to it any more."""
        self.kube.put(NODES, node())
        self.kube.put(PODS, pod(spec=MOUNTS))
        self.bus.take()
        self.kube.drop(NODES, "", "edge-1")
        (message,) = self.bus.take()
        self.assertEqual(message.route.resource, "node/edge-1/null/node/edge-1")
        self.assertEqual(message.route.operation, "delete")
        self.assertIsNone(read(message))
        self.kube.put(CONFIGMAPS, config_map())
        self.kube.drop(PODS, "default", "web")
        self.assertEqual(self.bus.take(), [])

    def test_a_node_that_connects(self) -> None:
        """It gets its Node, which says from now on where it is connected."""
        self.kube.put(NODES, node())
        sent = self.say(connected("edge-1"))
        self.assertEqual({m.route.resource for m in sent}, {"node/edge-1/null/node/edge-1"})
        annotations = read(sent[-1])["metadata"]["annotations"]
        self.assertEqual(annotations["cloudcore"], "192.0.2.2")
        self.assertEqual(annotations[SESSION], "cloud-a/1")
        self.assertEqual(len(self.kube.made("patch")), 1)
        again = self.say(connected("edge-1"))
        self.assertEqual(read(again[-1])["metadata"]["annotations"][SESSION], "cloud-a/2")
        self.assertEqual(len(self.kube.made("patch")), 2)

    def test_an_unknown_node_that_connects(self) -> None:
        """It will register; until then there is nothing to send."""
        self.assertEqual(self.say(connected("edge-9")), [])


class StartTests(EdgeControllerCase):
    synced = False

    def test_everything_is_sent_at_the_start(self) -> None:
        """After a restart edges get what they may have missed, once all of it is known."""
        self.kube.put(NODES, node())
        self.kube.put(PODS, pod(spec=MOUNTS))
        self.kube.put(PODS, pod("ending"))
        self.kube.delete(PODS, "default", "ending")
        self.kube.put(CONFIGMAPS, config_map())
        for informer in self.informers:
            self.assertEqual(self.bus.take(), [])
            informer.sync()
        self.assertEqual(
            self.bus.brief(),
            [
                "update node/edge-1/null/node/edge-1",
                "update node/edge-1/default/pod/ending",
                "insert node/edge-1/default/configmap/app",
                "insert node/edge-1/default/pod/web",
                "insert node/edge-1/default/configmap/app",
            ],
        )

    def test_a_full_cloudhub_makes_the_informer_wait(self) -> None:
        """The next change is not taken before the last is handed over."""
        room: Deferred[None] = Deferred()
        self.bus.send = lambda module, message: room  # type: ignore[method-assign]
        told = Deferred.fromCoroutine(self.controller.downstream.node_changed(node()))
        self.assertNoResult(told)
        room.callback(None)
        self.successResultOf(told)
