from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.errors import StoreError
from tests.edge.edgecase import EdgeCase, k8s_object, push

OK = b'"OK"'


def facts(message: Message) -> tuple[str, str, str, str, str, bytes]:
    route = message.route
    return (
        route.source,
        route.group,
        route.operation,
        route.resource,
        message.header.parent_id,
        bytes(message.content),
    )


class PushTests(EdgeCase):
    """Objects that come from the cloud: stored, acknowledged, passed on."""

    def test_interface(self) -> None:
        """It is a module."""
        verifyObject(IModule, self.meta)

    def test_new_pod(self) -> None:
        """A pod is on disk, acknowledged with the cloud's own labels, and edged has it."""
        pod = k8s_object("Pod", "web")
        acks = self.receive(push("insert", "default/pod/web", pod, version="1"))
        self.assertEqual(
            [facts(ack) for ack in acks],
            [("edgecontroller", "resource", "response", "default/pod/web", "cloud-1", OK)],
        )
        self.assertEqual(self.stored("default/pod/web"), pod)
        self.assertEqual([each.header.msg_id for each in self.edged.take()], ["cloud-1"])

    def test_acknowledged_after_commit_only(self) -> None:
        """While the disk works nobody is told anything."""
        self.database.held = True
        sent = self.receive(push("insert", "default/pod/web", k8s_object("Pod", "web")))
        self.assertEqual((sent, self.edged.take()), ([], []))
        self.database.run()
        self.settle()
        self.assertEqual(len(self.cloud.channel.take("response")), 1)
        self.assertEqual(len(self.edged.take()), 1)

    def test_killed_before_commit(self) -> None:
        """The cloud heard nothing, so it sends the pod again, and then it arrives."""
        message = push("insert", "default/pod/web", k8s_object("Pod", "web"))
        self.database.held = True
        self.assertEqual(self.receive(message), [])
        self.kill()
        self.assertIsNone(self.store.get("default/pod/web"))
        self.assertEqual(len(self.receive(message)), 1)
        self.assertEqual(len(self.edged.take()), 1)

    def test_killed_after_commit(self) -> None:
        """The pod is there for edged after the restart; the repeat is acknowledged, no more."""
        message = push("insert", "default/pod/web", k8s_object("Pod", "web"))
        self.database.held = True
        self.receive(message)
        self.database.run(tell=False)
        self.kill()
        self.assertEqual(self.answer("query", "default/pod"), [k8s_object("Pod", "web")])
        self.assertEqual(len(self.receive(message)), 1)
        self.assertEqual(self.edged.take(), [])

    def test_repeat(self) -> None:
        """The same version again is acknowledged again and not applied again."""
        pod = k8s_object("Pod", "web", version="7")
        for message_id in ("a", "a", "b"):
            acks = self.receive(push("update", "default/pod/web", pod, message_id=message_id))
            self.assertEqual([ack.header.parent_id for ack in acks], [message_id])
        self.assertEqual(len(self.edged.take()), 1)
        self.assertEqual(self.meta.repeats, 2)

    def test_recreated(self) -> None:
        """Another uid with a newer version is another object of the name."""
        self.receive(push("insert", "default/pod/web", k8s_object("Pod", "web", "u1", "7")))
        self.receive(push("insert", "default/pod/web", k8s_object("Pod", "web", "u2", "8")))
        self.assertEqual(len(self.edged.take()), 2)
        self.assertEqual(self.stored("default/pod/web")["metadata"]["uid"], "u2")

    def test_a_cloud_that_is_behind(self) -> None:
        """An older version than ours, or one of an object that is gone, changes nothing."""
        for message_id, uid, version in (
            ("a", "u1", "7"),
            ("b", "u1", "5"),
            ("c", "u2", "9"),
            ("d", "u1", "7"),
            ("e", "u1", "6"),
        ):
            pod = k8s_object("Pod", "web", uid, version)
            (ack,) = self.receive(push("update", "default/pod/web", pod, message_id=message_id))
            self.assertEqual((ack.header.parent_id, ack.route.operation), (message_id, "response"))
        self.assertEqual(self.stored("default/pod/web")["metadata"]["uid"], "u2")
        self.assertEqual(len(self.edged.take()), 2)
        self.assertEqual(self.meta.repeats, 3)

    def test_deleted_stays_deleted(self) -> None:
        """What was deleted does not come back in an old version, not even after a restart."""
        pod = k8s_object("Pod", "web", "u1", "7")
        self.receive(push("insert", "default/pod/web", pod))
        self.receive(push("delete", "default/pod/web", {"metadata": {"uid": "u1"}}))
        self.kill()
        self.assertEqual(len(self.receive(push("update", "default/pod/web", pod))), 1)
        self.assertIsNone(self.stored("default/pod/web"))
        moved_back = k8s_object("Pod", "web", "u1", "8")
        self.receive(push("update", "default/pod/web", moved_back))
        self.assertEqual(self.stored("default/pod/web"), moved_back)

    def test_node_is_stored_only(self) -> None:
        """Edged reads its node when it wants to; nobody is woken by an update of it."""
        node = k8s_object("Node", "edge-1")
        self.assertEqual(len(self.receive(push("update", "null/node/edge-1", node))), 1)
        self.assertEqual(self.edged.take(), [])
        self.assertEqual(self.answer("query", "null/node/edge-1"), node)

    def test_unknown_updater(self) -> None:
        """An update from nowhere is refused, not stored."""
        sent = self.receive(
            push("update", "default/pod/web", k8s_object("Pod", "web"), source="stranger")
        )
        self.assertEqual([each.route.operation for each in sent], ["error"])
        self.assertEqual(sent[0].route.source, "metamanager")
        self.assertIsNone(self.stored("default/pod/web"))

    def test_nonsense(self) -> None:
        """What is no object, or has no address, is answered with an error and harms nothing."""
        for message in (
            push("insert", "default/pod/web", None),
            push("insert", "default/pod/web", "text"),
            push("insert", "default/pod/web/more", k8s_object("Pod", "web")),
            push("insert", "pod", k8s_object("Pod", "web")),
            push("frobnicate", "default/pod/web", {}),
        ):
            sent = self.receive(message)
            self.assertEqual([each.route.operation for each in sent], ["error"])
            self.assertEqual(sent[0].header.parent_id, "cloud-1")
        self.assertEqual(self.edged.take(), [])
        self.assertEqual(self.meta.refused, 5)

    def test_error_is_not_answered(self) -> None:
        """Two peers do not send each other errors for ever."""
        self.assertEqual(self.receive(push("error", "nowhere", "what?")), [])

    def test_full_disk(self) -> None:
        """No acknowledgement but an error, and edged is not told; the next one works."""
        message = push("insert", "default/pod/web", k8s_object("Pod", "web"))
        self.database.failing = StoreError("/var/lib/edge.db: the disk is full")
        sent = self.receive(message)
        self.assertEqual([each.route.operation for each in sent], ["error"])
        self.assertIn("disk is full", sent[0].read())
        self.assertEqual(self.edged.take(), [])
        self.database.failing = None
        self.assertEqual([each.route.operation for each in self.receive(message)], ["response"])

    def test_response_without_parent(self) -> None:
        """An old form of a push is kept and passed on, without an acknowledgement."""
        pod = k8s_object("Pod", "web")
        self.assertEqual(self.receive(push("response", "default/pod/web", pod)), [])
        self.assertEqual(len(self.edged.take()), 1)

    def test_policy(self) -> None:
        """Access rules are kept; edged has no use for them."""
        rule = k8s_object("ServiceAccountAccess", "a")
        sent = self.receive(
            push("insert", "default/serviceaccountaccess/a", rule, source="policycontroller")
        )
        self.assertEqual(len(sent), 1)
        self.assertEqual(self.edged.take(), [])


class DeviceTests(EdgeCase):
    """Devices go to the twin module, under upstream's labels."""

    def send(self, operation: str) -> tuple[str, str, str]:
        device = k8s_object("Device", "thermo", version=operation)
        (ack,) = self.receive(
            push(operation, "default/device/thermo", device, source="devicecontroller")
        )
        return ack.route.source, ack.route.group, ack.route.operation

    def test_labels(self) -> None:
        """Insert and delete are acknowledged as ``meta``/``twin``, update as it came."""
        self.assertEqual(self.send("insert"), ("meta", "twin", "response"))
        self.assertEqual(self.send("update"), ("devicecontroller", "resource", "response"))
        self.assertEqual(self.send("delete"), ("meta", "twin", "response"))
        passed = self.twin.take()
        self.assertEqual([each.route.operation for each in passed], ["insert", "update", "delete"])
        self.assertEqual(
            {(each.route.source, each.route.group) for each in passed}, {("meta", "twin")}
        )
        self.assertEqual(self.edged.take(), [])


class NoModuleTests(EdgeCase):
    """An edge without edged and twin."""

    modules = ()

    def test_stored_all_the_same(self) -> None:
        """Objects are kept and acknowledged for when the module comes."""
        for kind, source in (("pod", "edgecontroller"), ("device", "devicecontroller")):
            message = push("insert", f"default/{kind}/x", k8s_object(kind, "x"), source=source)
            self.assertEqual(len(self.receive(message)), 1)
            self.assertIsNotNone(self.stored(f"default/{kind}/x"))


class DeleteTests(EdgeCase):
    """Deletes are for one object, not for whatever has its name now."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(push("insert", "default/pod/web", k8s_object("Pod", "web", "u2")))
        self.edged.take()

    def delete(self, content: object) -> int:
        return len(self.receive(push("delete", "default/pod/web", content)))

    def test_bare(self) -> None:
        """Name and uid are enough; what was kept of the pod goes with it."""
        self.answer("patch", "default/podpatch/web", "{}")
        bare = {"metadata": {"name": "web", "namespace": "default", "uid": "u2"}}
        self.assertEqual(self.delete(bare), 1)
        self.assertIsNone(self.stored("default/pod/web"))
        self.assertIsNone(self.stored("default/podpatch/web"))
        self.assertEqual([each.route.operation for each in self.edged.take()], ["delete"])

    def test_of_an_earlier_pod(self) -> None:
        """A late delete of the pod before this one is acknowledged and changes nothing."""
        self.assertEqual(self.delete(k8s_object("Pod", "web", "u1")), 1)
        self.assertIsNotNone(self.stored("default/pod/web"))
        self.assertEqual(self.edged.take(), [])

    def test_twice(self) -> None:
        """A repeated delete is acknowledged again."""
        self.delete(k8s_object("Pod", "web", "u2"))
        self.assertEqual(self.delete(k8s_object("Pod", "web", "u2")), 1)

    def test_recreated_configmap(self) -> None:
        """The same holds for every kind."""
        self.receive(push("update", "default/configmap/c", k8s_object("ConfigMap", "c", "u2")))
        self.receive(push("delete", "default/configmap/c", k8s_object("ConfigMap", "c", "u1")))
        self.assertIsNotNone(self.stored("default/configmap/c"))


class SharedCommitTests(EdgeCase):
    """A slow disk is asked as seldom as possible."""

    def test_many_objects(self) -> None:
        """Thirty objects that come during one commit share the next; one object keeps its order."""
        self.database.held = True
        for n in range(30):
            self.receive(push("insert", f"default/pod/p{n}", k8s_object("Pod", f"p{n}")))
        self.receive(push("update", "default/pod/p0", k8s_object("Pod", "p0", version="2")))
        for commits in (1, 29, 1):
            self.assertEqual(self.database.waiting, 1)
            self.database.run()
            self.settle()
            self.assertEqual(len(self.cloud.channel.take("response")), commits)
        self.assertEqual(self.database.waiting, 0)
        self.assertEqual(self.store.list("pod")[0].identity.version, "2")

    def test_stop_in_the_middle(self) -> None:
        """A stop during a commit acknowledges nothing and leaves nothing running."""
        self.database.held = True
        for n in range(100):
            self.receive(push("insert", f"default/pod/p{n}", k8s_object("Pod", f"p{n}")))
        self.stop()
        self.assertEqual(self.cloud.channel.take("response"), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OneDirectionTests(EdgeCase):
    """The two directions never wait for each other."""

    def test_edged_busy(self) -> None:
        """With edged stuck and its inbox full, the edge reads no more and still sends."""
        self.edged.busy = Deferred()
        pods = [
            push("insert", f"default/pod/p{n}", k8s_object("Pod", f"p{n}"), message_id=f"m{n}")
            for n in range(3000)
        ]
        taken = []
        for pod in pods:
            taken.append(self.cloud.channel.user.received(pod))
            self.clock.advance(0)
        self.settle()
        self.assertFalse(all(each.called for each in taken), "reading goes on")
        self.cloud.channel.take()
        self.bus.send("websocket", self.messages.reply(pods[0]))
        self.settle()
        self.assertEqual(len(self.cloud.channel.take("response")), 1)
        busy, self.edged.busy = self.edged.busy, None
        busy.callback(None)
        while self.clock.getDelayedCalls() and not all(each.called for each in taken):
            self.clock.advance(0)
        for _ in range(100):
            self.settle()
        self.assertEqual(len(self.edged.take()), 3000)
