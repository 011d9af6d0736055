from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kubeedge_tx.api.partition import CONDITION, ON_PARTITION
from kubeedge_tx.api.resources import LEASES, NODES, PODS
from kubeedge_tx.cloud.partitions import Partitions
from kubeedge_tx.kube.interfaces import IListener
from kubeedge_tx.observe.metrics import Metrics
from tests.cloud.rig import node, pod
from tests.fakes.kube import FakeKube, unreachable

WAITS = 600 + 30 + 60
"""The pod's time, its grace, the margin."""


class PartitionsTests(SynchronousTestCase):
    """Pods of nodes out of reach."""

    def setUp(self) -> None:
        self.kube = FakeKube()
        self.clock = Clock()
        self.renewals = 0
        self.say("True")
        self.renew()
        self.put()
        self.partitions = self.make()
        self.kube.calls.clear()

    def make(self) -> Partitions:
        made = Partitions(
            self.clock,
            self.kube,
            nodes=self.kube.informer(NODES),
            pods=self.kube.informer(PODS),
            metrics=Metrics(),
        )
        made.startService()
        self.addCleanup(made.stopService)
        return made

    def say(self, ready: str) -> None:
        conditions = [{"type": "Ready", "status": ready}]
        self.kube.put(NODES, {**node(), "status": {"conditions": conditions}})

    def renew(self) -> None:
        self.renewals += 1
        about = {"name": "edge-1", "namespace": "kube-node-lease"}
        self.kube.put(LEASES, {"metadata": about, "spec": {"renewals": self.renewals}})

    def put(self, name: str = "web", policy: str = "replace-after=10m", said: str = "") -> None:
        made: dict[str, Any] = pod(name)
        made["metadata"]["annotations"] = {ON_PARTITION: policy}
        condition = {"type": CONDITION, "status": "True", "message": said or policy}
        self.kube.put(PODS, {**made, "status": {"conditions": [condition]}})

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([1.0] * int(seconds))

    def there(self, name: str = "web") -> bool:
        return self.kube.peek(PODS, "default", name) is not None

    def test_interface(self) -> None:
        """It hears of pods as every listener does."""
        verifyObject(IListener, self.partitions)

    def test_replaced(self) -> None:
        """It is deleted, at once and for good, when its node must have ended it."""
        self.say("Unknown")
        self.pass_time(WAITS)
        self.assertTrue(self.there())
        self.pass_time(30)
        self.assertFalse(self.there())
        (delete,) = self.kube.made("delete")
        self.assertEqual(
            delete.body, {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-web"}}
        )

    def test_costs_nothing(self) -> None:
        """While nodes are in reach nothing is asked of the API server."""
        self.pass_time(1000)
        self.assertEqual(self.kube.calls, [])

    def test_a_lease_that_was_renewed(self) -> None:
        """A word that the node got through, even if it is called silent, begins the time anew."""
        self.say("Unknown")
        for _ in range(3):
            self.pass_time(600)
            self.renew()
        self.assertTrue(self.there())

    def test_back_in_between(self) -> None:
        """A node that came back has its whole time again."""
        self.say("Unknown")
        self.pass_time(600)
        self.say("True")
        self.pass_time(20)
        self.say("Unknown")
        self.pass_time(600)
        self.assertTrue(self.there())
        self.pass_time(120)
        self.assertFalse(self.there())

    def test_others_stay(self) -> None:
        """Pods that shall be kept, or only stopped, or whose node has said nothing, stay."""
        self.put("kept", "keep")
        self.put("stopped", "stop-after=10m")
        self.put("unsaid", "replace-after=10m", "keep")
        self.put("changed", "keep", "replace-after=10m")
        self.put("odd", "replace")
        self.say("Unknown")
        self.pass_time(WAITS + 60)
        self.assertFalse(self.there())
        for name in ("kept", "stopped", "unsaid", "changed", "odd"):
            self.assertTrue(self.there(name), name)

    def test_longer(self) -> None:
        """A time that the node may not have heard of shortens nothing."""
        self.put("web", "replace-after=1m", "replace-after=10m")
        self.say("Unknown")
        self.pass_time(WAITS)
        self.assertTrue(self.there())

    def test_api_server_away(self) -> None:
        """What cannot be seen is not acted upon; the time runs on."""
        self.say("Unknown")
        self.pass_time(20)
        self.kube.fail_next("get", unreachable(), times=1000)
        self.pass_time(WAITS + 60)
        self.assertTrue(self.there())
        self.kube._failing.clear()
        self.pass_time(20)
        self.assertFalse(self.there())

    def test_two_clouds(self) -> None:
        """Two of them harm no pod that has come in its place."""
        self.make()
        self.say("Unknown")
        self.pass_time(WAITS)

        def meanwhile(call: Any) -> None:
            if call.verb == "delete":
                self.kube.before = None
                self.kube.drop(PODS, "default", "web")
                anew = pod()
                anew["metadata"]["uid"] = "uid-anew"
                self.kube.put(PODS, anew)

        self.kube.before = meanwhile
        self.pass_time(60)
        self.assertTrue(self.there())

    def test_no_lease(self) -> None:
        """A node that never had a lease is silent all the same."""
        self.kube.drop(LEASES, "kube-node-lease", "edge-1")
        self.say("Unknown")
        self.pass_time(WAITS + 30)
        self.assertFalse(self.there())
