from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.apiserver import placement
from kubeedge_tx.apiserver.podindex import PodIndex
from kubeedge_tx.apiserver.scheduler import Scheduler
from tests.apiserver.direct import World


def node(name: str, **more: Any) -> dict[str, Any]:
    """A Ready edge node."""
    labels = {"node-role.kubernetes.io/edge": "", **more.pop("labels", {})}
    conditions = [{"type": "Ready", "status": more.pop("ready", "True")}]
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": more,
        "status": {"conditions": conditions},
    }


def pod(**spec: Any) -> dict[str, Any]:
    """A pod with nothing but what placement looks at."""
    return {"metadata": {"name": "p"}, "spec": spec}


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    """Node affinity."""
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}
        }
    }


class PlacementTests(SynchronousTestCase):
    """A pod goes where its rules and the node's rules let it."""

    def fits(self, pod: dict[str, Any], node: dict[str, Any]) -> bool:
        return not placement.refusal(pod, node, 0)

    def test_plain(self) -> None:
        """A Ready edge node takes any pod; one that is no edge, or not Ready, takes none."""
        self.assertTrue(self.fits(pod(), node("a")))
        self.assertIn("not ready", placement.refusal(pod(), node("a", ready="Unknown"), 0))
        server = node("a")
        server["metadata"]["labels"] = {}
        self.assertIn("no edge nodes", placement.refusal(pod(), server, 0))

    def test_node_selector(self) -> None:
        """Every label asked for must be there."""
        wants = pod(nodeSelector={"site": "north", "disk": "ssd"})
        self.assertTrue(self.fits(wants, node("a", labels={"site": "north", "disk": "ssd"})))
        self.assertFalse(self.fits(wants, node("a", labels={"site": "north"})))

    def test_affinity(self) -> None:
        """Terms are alternatives; a term's expressions must all hold."""
        a, b = node("a", labels={"zone": "1", "size": "9"}), node("b", labels={"zone": "2"})
        for expression, on_a, on_b in (
            ({"key": "zone", "operator": "In", "values": ["1", "3"]}, True, False),
            ({"key": "zone", "operator": "NotIn", "values": ["1"]}, False, True),
            ({"key": "size", "operator": "Exists"}, True, False),
            ({"key": "size", "operator": "DoesNotExist"}, False, True),
            ({"key": "size", "operator": "Gt", "values": ["8"]}, True, False),
            ({"key": "size", "operator": "Lt", "values": ["9"]}, False, False),
        ):
            wants = pod(affinity=required({"matchExpressions": [expression]}))
            self.assertEqual((self.fits(wants, a), self.fits(wants, b)), (on_a, on_b), expression)
        by_name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
        self.assertFalse(self.fits(pod(affinity=required(by_name)), a))
        self.assertTrue(self.fits(pod(affinity=required(by_name)), b))
        self.assertFalse(self.fits(pod(affinity=required({})), a))
        self.assertTrue(self.fits(pod(affinity=required({}, by_name)), b))

    def test_taints(self) -> None:
        """A taint keeps pods away that do not tolerate it; PreferNoSchedule does not."""
        tainted = node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
        self.assertEqual(
            placement.refusal(pod(), tainted, 0), "node(s) had untolerated taint {k: v}"
        )
        for toleration, ok in (
            ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
            ({"key": "k", "value": "v"}, True),
            ({"key": "k", "operator": "Exists"}, True),
            ({"operator": "Exists"}, True),
            ({"key": "k", "value": "w"}, False),
            ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
        ):
            self.assertEqual(self.fits(pod(tolerations=[toleration]), tainted), ok, toleration)
        soft = node("a", taints=[{"key": "k", "effect": "PreferNoSchedule"}])
        self.assertTrue(self.fits(pod(), soft))

    def test_cordoned(self) -> None:
        """An unschedulable node gets nothing new."""
        self.assertEqual(
            placement.refusal(pod(), node("a", unschedulable=True), 0), "node(s) were unschedulable"
        )

    def test_full(self) -> None:
        """A node takes as many pods as it says it can."""
        full = node("a")
        full["status"]["allocatable"] = {"pods": "3"}
        self.assertEqual(placement.refusal(pod(), full, 3), "Too many pods")
        self.assertEqual(placement.refusal(pod(), full, 2), "")

    @given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), min_size=1))
    def test_least_pods(self, counts: dict[str, int]) -> None:
        """Of the nodes that fit, the one with the fewest pods is taken."""
        chosen, why = placement.choose(pod(), [node(name) for name in counts], counts.__getitem__)
        self.assertEqual((counts[chosen], why), (min(counts.values()), ""))

    def test_why_not(self) -> None:
        """The reasons are counted, as kube-scheduler does."""
        nodes = [node("a", unschedulable=True), node("b", unschedulable=True), node("c", ready="")]
        self.assertEqual(
            placement.choose(pod(), nodes, lambda name: 0),
            (
                "",
                "0/3 nodes are available: 1 node(s) were not ready, 2 node(s) were unschedulable.",
            ),
        )
        self.assertEqual(
            placement.choose(pod(), [], lambda name: 0), ("", "no nodes available to schedule pods")
        )


class SchedulerTests(SynchronousTestCase):
    """Pods without a node get one as soon as there is one."""

    def setUp(self) -> None:
        self.world = World()
        self.scheduler = Scheduler(self.world.verbs, PodIndex(self.world.store), self.world.clock)
        self.scheduler.start()
        self.addCleanup(self.scheduler.stop)
        self.settle()

    def settle(self) -> None:
        for _ in range(5):
            self.world.clock.advance(0.001)

    def where(self, name: str) -> str:
        node: str = self.world.get("pods", "default", name)["spec"].get("nodeName", "")
        return node

    def reasons(self) -> list[str]:
        return [item.obj["reason"] for item in self.world.store.shelf("events").snapshot()]

    def test_binds(self) -> None:
        """A pod is bound to a Ready edge node, with its condition and an event."""
        self.world.node("edge-1")
        self.world.pod("web")
        self.settle()
        self.assertEqual(self.where("web"), "edge-1")
        conditions = self.world.get("pods", "default", "web")["status"]["conditions"]
        self.assertEqual([(c["type"], c["status"]) for c in conditions], [("PodScheduled", "True")])
        self.assertEqual(self.reasons(), ["Scheduled"])

    def test_spreads(self) -> None:
        """Pods that come at once are spread over the nodes."""
        for name in ("edge-1", "edge-2", "edge-3"):
            self.world.node(name)
        for number in range(9):
            self.world.pod(f"web-{number}")
        self.settle()
        places = [self.where(f"web-{number}") for number in range(9)]
        self.assertEqual(
            {place: places.count(place) for place in places},
            dict.fromkeys(("edge-1", "edge-2", "edge-3"), 3),
        )

    def test_waits(self) -> None:
        """Without a place the pod says why, once, and is bound when a node becomes Ready."""
        self.world.node("edge-1", ready=False)
        self.world.pod("web")
        self.settle()
        (condition,) = self.world.get("pods", "default", "web")["status"]["conditions"]
        self.assertEqual(
            (condition["status"], condition["reason"], condition["message"]),
            ("False", "Unschedulable", "0/1 nodes are available: 1 node(s) were not ready."),
        )
        self.world.report("edge-1", "False", "2026-11-24T08:00:10Z")
        self.settle()
        self.assertEqual(self.reasons(), ["FailedScheduling"])
        self.world.report("edge-1", "True")
        self.settle()
        self.assertEqual(self.where("web"), "edge-1")
        (condition,) = self.world.get("pods", "default", "web")["status"]["conditions"]
        self.assertEqual(condition["status"], "True")

    def test_leaves_others_alone(self) -> None:
        """A pod with a node, or with another scheduler's name, is not touched."""
        self.world.node("edge-1")
        self.world.pod("fixed", nodeName="elsewhere")
        self.world.pod("theirs", schedulerName="volcano")
        self.settle()
        self.assertEqual((self.where("fixed"), self.where("theirs")), ("elsewhere", ""))

    def test_full_disk(self) -> None:
        """A binding that does not reach the disk is tried again with the next change."""
        self.world.pod("web")
        self.settle()
        self.world.database.held = True
        self.world.node("edge-1")
        self.world.database.run()
        self.world.database.run()
        self.settle()
        self.world.database.failing = OSError("full")
        while self.world.database.waiting:
            self.world.database.run()
        self.world.database.failing = None
        self.world.database.held = False
        self.assertEqual(self.where("web"), "")
        self.world.report("edge-1", "False")
        self.world.report("edge-1", "True")
        self.settle()
        self.assertEqual(self.where("web"), "edge-1")
        self.flushLoggedErrors()
