from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edged.gc import bytes_to_free
from kubeedge_tx.edge.edged.machine import Usage, read_machine, read_usage
from kubeedge_tx.edge.edged.nodestatus import Engine, node_object, node_status
from kubeedge_tx.edge.edged.settings import NodeSettings
from tests.edge.edged.harness import EPOCH, MACHINE, USAGE, EdgedCase, make_pod
from tests.recordings import lines

ENGINE = Engine(name="docker", version="28.0")


def settings(**fields: Any) -> NodeSettings:
    return NodeSettings(name="go-edge-2", ip="192.0.2.2", root_dir=Path("/"), **fields)


def shape(value: Any) -> Any:
    """Keys and types of a JSON value, all the way down."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


class NodeObjectTests(SynchronousTestCase):
    # As a Go edge of 2026 registered itself; recorded.
    GO_NODE: ClassVar[Any] = {
        "metadata": {
            "name": "go-edge-2",
            "creationTimestamp": None,
            "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": "go-edge-2",
                "kubernetes.io/os": "linux",
                "node-role.kubernetes.io/agent": "",
                "node-role.kubernetes.io/edge": "",
            },
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {},
    }

    def test_like_a_go_edge(self) -> None:
        """The Node that we register is that of a Go edge on the same machine."""
        node = node_object(settings(), MACHINE, USAGE, ENGINE, "0.1", EPOCH)
        status = node.pop("status")
        self.assertEqual(node, self.GO_NODE)
        self.assertEqual(
            status["capacity"],
            {
                "cpu": "2",
                "ephemeral-storage": "264212084Ki",
                "hugepages-1Gi": "0",
                "hugepages-2Mi": "0",
                "memory": "24684084Ki",
                "pods": "110",
            },
        )
        self.assertEqual(status["allocatable"]["memory"], "24581684Ki")
        self.assertEqual(
            status["addresses"],
            [
                {"type": "InternalIP", "address": "192.0.2.2"},
                {"type": "Hostname", "address": "go-edge-2"},
            ],
        )
        self.assertEqual(
            [(each["type"], each["status"], each["reason"]) for each in status["conditions"]],
            [
                ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                ("PIDPressure", "False", "KubeletHasSufficientPID"),
                ("Ready", "True", "EdgeReady"),
            ],
        )
        self.assertEqual(status["nodeInfo"]["kubeletVersion"], "v1.32.10-kubeedge-tx-0.1")
        self.assertEqual(status["nodeInfo"]["containerRuntimeVersion"], "docker://28.0")

    def test_labels_and_taints(self) -> None:
        """What was configured is in the Node."""
        taint = {"key": "edge", "effect": "NoSchedule"}
        node = node_object(
            settings(labels={"zone": "a"}, taints=(taint,), schedulable=False),
            MACHINE,
            USAGE,
            ENGINE,
            "0.1",
            EPOCH,
        )
        self.assertEqual(node["metadata"]["labels"]["zone"], "a")
        self.assertTrue(node["spec"]["unschedulable"])
        self.assertIn(taint, node["spec"]["taints"])

    def test_cannot_store(self) -> None:
        """An edge that cannot store anything has disk pressure, and says why."""
        usage = Usage(
            memory_free_kib=10**7,
            disk_kib=1000,
            disk_free_kib=900,
            inodes=100,
            inodes_free=50,
            processes=1,
            processes_limit=100,
            disk_problem="/var/lib/edgecore.db: the disk is full; free some space",
        )
        status = node_status(settings(), MACHINE, usage, Engine(name="docker"), "0.1", {}, EPOCH)
        (found,) = (each for each in status["conditions"] if each["type"] == "DiskPressure")
        self.assertEqual((found["status"], found["message"]), ("True", usage.disk_problem))

    def test_pressure(self) -> None:
        """Little memory, a full disk and an engine that is away are conditions."""
        full = Usage(
            memory_free_kib=1000,
            disk_kib=1000,
            disk_free_kib=50,
            inodes=100,
            inodes_free=50,
            processes=99,
            processes_limit=100,
        )
        engine = Engine(name="docker", problem="no answer")
        status = node_status(settings(), MACHINE, full, engine, "0.1", {}, EPOCH)
        self.assertEqual(
            {each["type"]: each["status"] for each in status["conditions"]},
            {
                "MemoryPressure": "True",
                "DiskPressure": "True",
                "PIDPressure": "True",
                "Ready": "False",
            },
        )
        self.assertIn("no answer", status["conditions"][3]["message"])

    def test_transitions(self) -> None:
        """A condition keeps its time until it changes."""
        first = node_status(settings(), MACHINE, USAGE, ENGINE, "0.1", {}, EPOCH)
        engine = Engine(name="docker", problem="no answer")
        later = node_status(settings(), MACHINE, USAGE, engine, "0.1", first, EPOCH + 60)
        times = [each["lastTransitionTime"] for each in later["conditions"]]
        self.assertEqual(times, ["2026-11-24T06:52:53Z"] * 3 + ["2026-11-24T06:53:53Z"])

    def test_this_machine(self) -> None:
        """The facts of the machine that runs this are there."""
        machine, usage = read_machine(), read_usage(Path("/nonexistent/folder"))
        self.assertGreater(machine.cpus, 0)
        self.assertGreater(machine.memory_kib, usage.memory_free_kib)
        self.assertGreaterEqual(usage.disk_kib, usage.disk_free_kib)
        self.assertGreater(usage.processes_limit, usage.processes)
        self.assertTrue(machine.boot_id and machine.kernel and machine.os_image)

    def test_bare_machine(self) -> None:
        """A machine without these files is still a node."""
        root = Path(self.mktemp())
        root.mkdir()
        machine = read_machine(root)
        self.assertEqual((machine.memory_kib, machine.os_image), (0, "Linux"))
        status = node_status(settings(), machine, read_usage(root, root), ENGINE, "0.1", {}, EPOCH)
        self.assertEqual(status["capacity"]["memory"], "0Ki")


class RecordedNodeTests(SynchronousTestCase):
    def test_same_shape(self) -> None:
        """Keys and types of our Node are those on the recorded wire."""
        for event in lines("session-websocket.jsonl"):
            message = event.get("message") or {}
            route = message.get("route", {})
            if (route.get("operation"), route.get("resource")) == ("insert", "null/node/go-edge-2"):
                ours = node_object(settings(), MACHINE, USAGE, ENGINE, "0.1", EPOCH)
                self.assertEqual(shape(ours), shape(message["content"]))
                return
        self.fail("the recording has no node")


class NodeInTheCloudTests(EdgedCase):
    def connect(self, content: str = "cloud_connected") -> None:
        self.send("connect", "node/connection", content, source="edgehub")

    def test_registers_tells_and_leases(self) -> None:
        """Once connected, the node is registered, its status told and its lease taken."""
        self.start_agent()
        self.assertEqual(self.meta.told("insert", "null/node/edge-1"), [])
        self.connect()
        self.assertEqual(len(self.meta.told("insert", "null/node/edge-1")), 1)
        (patch,) = self.meta.told("patch", "null/nodepatch/edge-1")
        self.assertEqual(patch["status"]["conditions"][3]["status"], "True")
        self.assertNotIn("daemonEndpoints", patch["status"])
        (lease,) = self.meta.told("insert", "kube-node-lease/lease/edge-1")
        self.assertEqual(
            lease,
            {
                "metadata": {
                    "name": "edge-1",
                    "namespace": "kube-node-lease",
                    "creationTimestamp": None,
                    "ownerReferences": [
                        {
                            "apiVersion": "v1",
                            "kind": "Node",
                            "name": "edge-1",
                            "uid": "node-uid",
                        }
                    ],
                },
                "spec": {
                    "holderIdentity": "edge-1",
                    "leaseDurationSeconds": 40,
                    "renewTime": "2026-11-24T06:52:53.000000Z",
                },
            },
        )

    def test_renews(self) -> None:
        """The lease is renewed every ten seconds, an unchanged status every five minutes."""
        self.start_agent()
        self.connect()
        self.wait(31)
        self.assertEqual(len(self.meta.told("update", "kube-node-lease/lease/edge-1")), 3)
        self.assertEqual(len(self.meta.told("patch", "null/nodepatch/edge-1")), 1)
        self.wait(280)
        self.assertEqual(len(self.meta.told("patch", "null/nodepatch/edge-1")), 2)

    def test_given_up(self) -> None:
        """A cluster that believes the node silent is told at the next look, once each time."""
        self.start_agent()
        self.connect()
        node = self.meta.node
        assert node is not None
        for number, version in enumerate(("7", "7", "8")):
            self.meta.node = {
                "metadata": {**node["metadata"], "resourceVersion": version},
                "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
            }
            self.wait(11)
            told = len(self.meta.told("patch", "null/nodepatch/edge-1"))
            self.assertEqual(told, (2, 2, 3)[number])

    def test_rests_offline(self) -> None:
        """Without a connection there is no lease to renew; with it, there is at once."""
        self.start_agent()
        self.connect()
        self.connect("cloud_disconnected")
        told = len(self.meta.seen)
        self.wait(60)
        self.assertEqual(len(self.meta.seen), told)
        self.connect()
        self.assertEqual(len(self.meta.told("patch", "null/nodepatch/edge-1")), 2)
        self.assertEqual(len(self.meta.told("update", "kube-node-lease/lease/edge-1")), 1)

    def test_known_node(self) -> None:
        """A node that exists already is taken as it is."""
        self.meta.node_exists = True
        self.meta.node = {"metadata": {"name": "edge-1", "uid": "old-uid"}}
        self.start_agent()
        self.connect()
        (lease,) = self.meta.told("insert", "kube-node-lease/lease/edge-1")
        self.assertEqual(lease["metadata"]["ownerReferences"][0]["uid"], "old-uid")

    def test_cloud_that_does_not_answer(self) -> None:
        """A registration that failed is tried again."""
        self.meta.offline = True
        self.start_agent()
        self.connect()
        self.assertEqual(self.meta.told("patch", "null/nodepatch/edge-1")[:1], [])
        self.meta.offline = False
        self.wait(6)
        self.assertIsNotNone(self.meta.node)
        self.assertIsNotNone(self.meta.lease)

    def test_engine_away(self) -> None:
        """When the engine stops answering, the node says that it is not ready."""
        self.start_agent()
        self.connect()
        self.runtime.down = True
        self.wait(11)
        patch = self.meta.told("patch", "null/nodepatch/edge-1")[-1]
        self.assertEqual(patch["status"]["conditions"][3]["reason"], "EdgeNotReady")


class GarbageTests(EdgedCase):
    def test_how_much(self) -> None:
        """Nothing is freed below the high mark; above it, down to the low one."""

        def free(free_kib: int) -> int:
            usage = Usage(
                memory_free_kib=0,
                disk_kib=1000,
                disk_free_kib=free_kib,
                inodes=0,
                inodes_free=0,
                processes=0,
                processes_limit=0,
            )
            return bytes_to_free(usage, 85, 80)

        self.assertEqual(free(151), 0)
        self.assertEqual(free(150), 50 * 1024)
        self.assertEqual(free(0), 200 * 1024)

    def test_folder_left_behind(self) -> None:
        """The folder of a pod that nobody knows is removed; that of a known one stays."""
        left = self.root / "pods" / "gone" / "volumes"
        left.mkdir(parents=True)
        self.meta.pods = [make_pod(volumes=[{"name": "v", "emptyDir": {}}])]
        self.start_agent()
        self.assertFalse(left.parent.exists())
        self.assertTrue((self.root / "pods" / "uid-1" / "volumes").exists())


class EventTests(EdgedCase):
    def test_repeats_are_counted(self) -> None:
        """The same event again is the same object with a higher count."""
        self.runtime.start_errors = {}
        self.start_agent()
        self.apply(make_pod(volumes=[{"name": "c", "configMap": {"name": "app"}}]))
        self.wait(130)
        events = [each for each in self.meta.seen if "/event/" in each[1]]
        self.assertEqual([each[0] for each in events][:2], ["insert", "update"])
        self.assertEqual(events[0][1], events[1][1])
        self.assertGreater(events[1][2]["count"], 2)
        self.assertEqual(events[0][2]["involvedObject"]["uid"], "uid-1")

    def test_not_wanted(self) -> None:
        """Without reportEvent nothing is sent."""
        self.report_events = False
        self.start_agent()
        self.apply(make_pod())
        self.assertEqual(self.meta.events(), [])
