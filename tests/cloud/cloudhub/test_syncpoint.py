from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kubeedge_tx.api.resources import CLUSTEROBJECTSYNCS, OBJECTSYNCS
from kubeedge_tx.beehive.message import Header, Message, Route
from kubeedge_tx.cloud.cloudhub.queue import Order
from kubeedge_tx.cloud.cloudhub.syncpoint import ISyncPoint, SyncPoint
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IListener
from tests.fakes.kube import FakeKube

REFUSED = KubeError("nobody there", code=0)


def order(
    version: str,
    *,
    uid: str = "u",
    namespace: str = "default",
    operation: str = "update",
    kind: str = "ConfigMap",
) -> Order:
    message = Message(
        Header(msg_id="m", timestamp=1),
        Route("edgecontroller", "resource", operation, f"{namespace}/configmap/app"),
    )
    return Order(
        message, namespace, uid, "v1", kind, "app", version, operation == "delete", False, False, 0
    )


class SyncPointTests(SynchronousTestCase):
    """What a node confirmed is in the cluster soon after, with few writes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.kube = FakeKube()
        self.point = self.make()

    def make(self, **options: Any) -> SyncPoint:
        return SyncPoint(
            self.clock,
            self.kube,
            self.kube.informer(OBJECTSYNCS),
            self.kube.informer(CLUSTEROBJECTSYNCS),
            **{"linger": 0.0, **options},
        )

    def recorded_in_cluster(self, name: str = "edge-1.u") -> str | None:
        found = self.kube.peek(OBJECTSYNCS, "default", name)
        return None if found is None else found.get("status", {}).get("objectResourceVersion")

    def test_interfaces(self) -> None:
        """It keeps to its interfaces."""
        self.assertTrue(verifyObject(ISyncPoint, self.point))
        self.assertTrue(verifyObject(IListener, self.point))

    def test_first_acknowledgement(self) -> None:
        """Upstream's form: name, namespace, spec and status."""
        self.assertIsNone(self.point.recorded("edge-1", "default", "u"))
        self.point.acked("edge-1", order("10"))
        found = self.kube.peek(OBJECTSYNCS, "default", "edge-1.u")
        assert found is not None
        self.assertEqual(
            found["spec"],
            {"objectAPIVersion": "v1", "objectKind": "ConfigMap", "objectName": "app"},
        )
        self.assertEqual(found["status"], {"objectResourceVersion": "10"})
        self.assertEqual(self.point.recorded("edge-1", "default", "u"), "10")

    def test_cluster_scope(self) -> None:
        """Namespace ``null`` makes a ClusterObjectSync."""
        self.point.acked("edge-1", order("10", namespace="null", kind="Node"))
        self.assertIsNotNone(self.kube.peek(CLUSTEROBJECTSYNCS, "", "edge-1.u"))
        self.assertEqual(self.point.recorded("edge-1", "null", "u"), "10")

    def test_one_write_a_second(self) -> None:
        """Two hundred acknowledgements in two seconds are three writes of the newest."""
        for version in range(1, 201):
            self.point.acked("edge-1", order(str(version)))
            self.clock.advance(0.01)
        self.clock.advance(1.0)
        self.assertEqual(self.recorded_in_cluster(), "200")
        self.assertEqual(len(self.kube.made("patch")), 3)
        self.assertEqual(len(self.kube.made("create")), 1)
        self.clock.advance(10.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_records_wait_for_deliveries(self) -> None:
        """Half a second goes by first, and what is acknowledged meanwhile is in the same write."""
        point = self.make(linger=0.5)
        point.acked("edge-1", order("10"))
        self.clock.advance(0.4)
        point.acked("edge-1", order("11"))
        self.assertIsNone(self.recorded_in_cluster())
        self.assertEqual(point.recorded("edge-1", "default", "u"), "11")
        self.clock.advance(0.2)
        self.assertEqual(self.recorded_in_cluster(), "11")
        self.assertEqual(len(self.kube.made("patch")), 1)

    def test_own_memory_is_newer_than_the_informer(self) -> None:
        """What was just confirmed counts before the API server has it."""
        self.kube.hold()
        self.point.acked("edge-1", order("10"))
        self.assertEqual(self.point.recorded("edge-1", "default", "u"), "10")
        self.kube.release()

    def test_never_backwards(self) -> None:
        """An older acknowledgement changes nothing."""
        self.point.acked("edge-1", order("10"))
        self.clock.advance(2.0)
        self.point.acked("edge-1", order("9"))
        self.clock.advance(2.0)
        self.assertEqual(self.recorded_in_cluster(), "10")

    def test_what_a_node_has(self) -> None:
        """A record follows what its node says to have; where there is none, none is made."""
        self.point.reported("edge-1", "default", "u", "10")
        self.assertIsNone(self.recorded_in_cluster())
        self.point.acked("edge-1", order("10"))
        self.clock.advance(2.0)
        another = self.make()
        for version, recorded in (("9", "10"), ("12", "12")):
            another.reported("edge-1", "default", "u", version)
            self.clock.advance(2.0)
            self.assertEqual(self.recorded_in_cluster(), recorded)
        found = self.kube.peek(OBJECTSYNCS, "default", "edge-1.u")
        assert found is not None
        self.assertEqual(found["spec"]["objectKind"], "ConfigMap")
        self.kube.hold()
        another.removed("edge-1", "default", "u")
        another.reported("edge-1", "default", "u", "13")  # said before its delete was confirmed
        self.kube.release()
        self.clock.advance(2.0)
        self.assertIsNone(self.recorded_in_cluster())

    def test_another_process_wrote(self) -> None:
        """A newer record of another cloud process is believed."""
        self.point.acked("edge-1", order("10"))
        found = self.kube.peek(OBJECTSYNCS, "default", "edge-1.u")
        assert found is not None
        self.kube.put(OBJECTSYNCS, {**found, "status": {"objectResourceVersion": "12"}})
        self.assertEqual(self.point.recorded("edge-1", "default", "u"), "12")

    def test_undone(self) -> None:
        """An older write of another process that lands after ours does not stay."""
        for seconds in (0.0, 5.0):  # at once, and when all seemed written long ago
            version = f"2{seconds:.0f}"
            self.point.acked("edge-1", order(version))
            self.clock.advance(seconds)
            found = self.kube.peek(OBJECTSYNCS, "default", "edge-1.u")
            assert found is not None
            self.kube.put(OBJECTSYNCS, {**found, "status": {"objectResourceVersion": "10"}})
            self.point.acked("edge-1", order(version))
            self.clock.advance(2.0)
            self.assertEqual(self.recorded_in_cluster(), version)
            self.assertEqual(len(self.point), 0)
        self.clock.advance(10.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_delete(self) -> None:
        """An acknowledged delete removes the record; one that is gone already is fine."""
        self.point.acked("edge-1", order("10"))
        self.clock.advance(2.0)
        self.point.acked("edge-1", order("11", operation="delete"))
        self.assertIsNone(self.kube.peek(OBJECTSYNCS, "default", "edge-1.u"))
        self.assertIsNone(self.point.recorded("edge-1", "default", "u"))
        self.point.removed("edge-1", "default", "never-there")
        self.clock.advance(2.0)
        self.assertEqual(len(self.kube.made("delete")), 1)

    def test_delete_overtakes_waiting_write(self) -> None:
        """A record that was to be written and is not wanted any more ends removed."""
        self.point.acked("edge-1", order("10"))
        self.point.acked("edge-1", order("11"))
        self.point.acked("edge-1", order("12", operation="delete"))
        self.clock.advance(2.0)
        self.assertIsNone(self.kube.peek(OBJECTSYNCS, "default", "edge-1.u"))

    def test_record_was_removed_behind_our_back(self) -> None:
        """Somebody deleted the record: it is made anew."""
        self.point.acked("edge-1", order("10"))
        self.clock.advance(2.0)
        self.kube.drop(OBJECTSYNCS, "default", "edge-1.u")
        self.point.acked("edge-1", order("11"))
        self.clock.advance(2.0)
        self.assertEqual(self.recorded_in_cluster(), "11")

    def test_removed_and_confirmed_again(self) -> None:
        """A record that is deleted is made anew, though the informer still has the old one."""
        self.point.acked("edge-1", order("10"))
        self.clock.advance(2.0)
        self.kube._watchers.clear()
        self.point.removed("edge-1", "default", "u")
        self.clock.advance(2.0)
        self.assertIsNone(self.kube.peek(OBJECTSYNCS, "default", "edge-1.u"))
        self.point.acked("edge-1", order("10"))
        self.clock.advance(2.0)
        self.assertEqual(self.recorded_in_cluster(), "10")

    def test_created_by_another(self) -> None:
        """Another process was faster in creating it: its record is updated."""

        def faster(call: Any) -> None:
            if call.verb == "create":
                self.kube.before = None
                self.kube.put(OBJECTSYNCS, call.body)

        self.kube.before = faster
        self.point.acked("edge-1", order("10"))
        self.assertEqual(self.recorded_in_cluster(), "10")

    def test_api_server_away(self) -> None:
        """Failed writes are tried again, with growing pauses, until one works."""
        self.kube.fail_next("create", REFUSED, times=3)
        self.point.acked("edge-1", order("10"))
        self.clock.pump([0.5] * 13)
        self.assertEqual(len(self.kube.made("create")), 3)
        self.clock.advance(2.0)
        self.assertEqual(self.recorded_in_cluster(), "10")
        self.assertEqual(self.point.failures, 3)

    def test_namespace_gone(self) -> None:
        """Where the namespace is gone nothing is recorded, and nothing tried for ever."""
        self.point.acked("edge-1", order("10", namespace="gone"))
        self.clock.pump([1.0] * 100)
        self.assertEqual(len(self.kube.made("create")), 1)
        self.assertEqual(len(self.point), 0)

    def test_bounded_parallelism(self) -> None:
        """Three hundred nodes at once are 64 calls at a time."""
        self.kube.hold()
        for number in range(300):
            self.point.acked(f"edge-{number}", order("10"))
        self.assertEqual(len(self.kube.made("create")), 64)
        self.kube.release()
        self.assertEqual(len(self.kube.all(OBJECTSYNCS)), 300)

    def test_memory_is_given_back(self) -> None:
        """Once the informer tells the same, nothing is kept."""
        for number in range(10):
            self.point.acked("edge-1", order("10", uid=f"u{number}"))
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.point._records, {})

    def test_stop_writes_what_is_left(self) -> None:
        """At stop what waits for its second is written at once."""
        self.point.acked("edge-1", order("10"))
        self.point.acked("edge-1", order("11"))
        self.assertEqual(self.recorded_in_cluster(), "10")
        self.successResultOf(self.point.stop())
        self.assertEqual(self.recorded_in_cluster(), "11")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_without_an_api_server(self) -> None:
        """At stop an API server that does not answer is waited for five seconds."""
        self.kube.hold()
        self.point.acked("edge-1", order("10"))
        stopped = self.point.stop()
        self.clock.advance(4.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forgotten_node(self) -> None:
        """For a deleted node nothing more is written; a node of a longer name is another."""
        self.point.acked("edge", order("10"))
        self.point.acked("edge.b", order("10"))
        self.point.acked("edge", order("11"))
        self.point.acked("edge.b", order("11"))
        self.point.forget("edge")
        self.clock.advance(2.0)
        self.assertEqual(self.recorded_in_cluster("edge.u"), "10")
        self.assertEqual(self.recorded_in_cluster("edge.b.u"), "11")
