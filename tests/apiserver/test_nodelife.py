from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.apiserver.nodelife import GRACE_SECONDS, NodeLife
from tests.apiserver.direct import World


class NodeLifeTests(SynchronousTestCase):
    """Silence makes a node NotReady, and nothing more."""

    def setUp(self) -> None:
        self.world = World()
        self.life = NodeLife(self.world.verbs, self.world.clock)
        self.life.start()
        self.addCleanup(self.life.stop)
        self.world.node("edge-1")
        self.renewals = 0

    def renew(self) -> None:
        self.renewals += 1
        spec = {"holderIdentity": "edge-1", "renewTime": f"2020-01-01T00:00:{self.renewals:02}Z"}
        if self.renewals == 1:
            body = {"metadata": {"name": "edge-1"}, "spec": spec}
            self.world.create("leases", "kube-node-lease", body)
        else:
            self.world.patch("leases", "kube-node-lease", "edge-1", spec=spec)

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.world.clock.advance(1)

    def ready(self) -> dict[str, Any]:
        conditions = self.world.get("nodes", "", "edge-1")["status"]["conditions"]
        return next(c for c in conditions if c["type"] == "Ready")

    def taints(self) -> list[tuple[str, str]]:
        spec = self.world.get("nodes", "", "edge-1").get("spec") or {}
        return [(t["key"], t["effect"]) for t in spec.get("taints", [])]

    def test_lease_keeps_it_ready(self) -> None:
        """As long as the lease is renewed the node is Ready, whatever its clock says."""
        for _ in range(20):
            self.renew()
            self.wait(10)
        self.assertEqual(self.ready()["status"], "True")
        self.assertEqual(self.taints(), [])

    def test_silence(self) -> None:
        """40 s after the last sign of life the node is Unknown and tainted, and stays there."""
        self.renew()
        self.wait(GRACE_SECONDS - 6)
        self.assertEqual(self.ready()["status"], "True")
        self.wait(12)
        self.assertEqual(
            (self.ready()["status"], self.ready()["reason"]), ("Unknown", "NodeStatusUnknown")
        )
        self.assertEqual(
            self.taints(),
            [
                ("node.kubernetes.io/unreachable", "NoSchedule"),
                ("node.kubernetes.io/unreachable", "NoExecute"),
            ],
        )
        version = self.world.store.version
        self.wait(100)
        self.assertEqual(self.world.store.version, version)

    def test_deaf(self) -> None:
        """While the API itself hung it could hear nobody: that silence is not the node's."""
        self.renew()
        self.wait(20)
        self.world.clock.advance(300)  # SIGSTOP, or a machine that was asleep
        self.wait(GRACE_SECONDS - 26)
        self.assertEqual(self.ready()["status"], "True")
        self.wait(12)
        self.assertEqual(self.ready()["status"], "Unknown")

    def test_lease_says_how_long(self) -> None:
        """A node that promised to be heard of sooner is missed sooner."""
        self.renew()
        self.world.patch("leases", "kube-node-lease", "edge-1", spec={"leaseDurationSeconds": 8})
        self.wait(7)
        self.assertEqual(self.ready()["status"], "True")
        self.wait(6)
        self.assertEqual(self.ready()["status"], "Unknown")

    def test_pods_stay(self) -> None:
        """Pods on a silent node are neither deleted nor changed."""
        self.world.pod("web", nodeName="edge-1")
        before = self.world.get("pods", "default", "web")
        self.wait(1000)
        self.assertEqual(self.ready()["status"], "Unknown")
        self.assertEqual(self.world.get("pods", "default", "web"), before)

    def test_comes_back(self) -> None:
        """When the node reports again, its taints go."""
        self.wait(50)
        self.assertEqual(self.ready()["status"], "Unknown")
        self.renew()
        self.world.report("edge-1", "True", "2026-11-24T09:00:00Z")
        self.assertEqual(self.ready()["status"], "True")
        self.assertEqual(self.taints(), [])
        self.wait(30)
        self.renew()
        self.wait(30)
        self.assertEqual(self.ready()["status"], "True")

    def test_own_taints_stay(self) -> None:
        """Taints that people set are kept."""
        self.world.patch(
            "nodes", "", "edge-1", spec={"taints": [{"key": "site", "effect": "NoSchedule"}]}
        )
        self.wait(50)
        self.world.report("edge-1", "True", "2026-11-24T09:00:00Z")
        self.assertEqual(self.taints(), [("site", "NoSchedule")])

    def test_not_ready(self) -> None:
        """A node that says it is not Ready is tainted so."""
        self.world.report("edge-1", "False")
        self.assertEqual(
            self.taints(),
            [
                ("node.kubernetes.io/not-ready", "NoSchedule"),
                ("node.kubernetes.io/not-ready", "NoExecute"),
            ],
        )

    def test_never_heard_of(self) -> None:
        """A node that never spoke becomes Unknown too."""
        labels = {"node-role.kubernetes.io/edge": ""}
        self.world.create("nodes", "", {"metadata": {"name": "edge-2", "labels": labels}})
        self.wait(50)
        (condition,) = self.world.get("nodes", "", "edge-2")["status"]["conditions"]
        self.assertEqual(
            (condition["status"], condition["reason"]), ("Unknown", "NodeStatusNeverUpdated")
        )

    def test_pod_of_a_removed_node(self) -> None:
        """A pod that is being deleted on a node that is gone does not hang for ever."""
        self.world.pod("web", nodeName="gone")
        self.world.pod("kept", nodeName="gone")
        item = self.world.store.get("pods", "default", "web")
        assert item is not None
        metadata = {
            **item.obj["metadata"],
            "deletionTimestamp": "2026-11-24T09:00:00Z",
            "deletionGracePeriodSeconds": 30,
        }
        self.world.store.put("pods", "default", "web", {**item.obj, "metadata": metadata})
        self.wait(10)
        self.assertIsNone(self.world.get("pods", "default", "web"))
        self.assertIsNotNone(self.world.get("pods", "default", "kept"))
