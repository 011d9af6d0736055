from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.resources import EVENTS
from kubeedge_tx.cloud.cloudhub.expired import EVENT_PERIOD, ExpiredNodes
from kubeedge_tx.observe.metrics import Metrics
from tests.fakes.kube import FakeKube, unreachable


class ExpiredNodesTests(SynchronousTestCase):
    """Edges that ask again and again with a certificate that ended long ago."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.kube = FakeKube()
        self.metrics = Metrics()
        names = iter("abcdef")
        self.expired = ExpiredNodes(
            self.clock,
            self.kube,
            self.metrics,
            wall_clock=lambda: 1_800_000_000.0,
            uid=lambda name: "uid-1" if name == "edge-1" else "",
            new_id=lambda: next(names),
        )

    def test_event(self) -> None:
        """The first refusal is an Event about the node, as kubectl describe looks for it."""
        self.expired.seen("edge-1", "the client certificate expired")
        event = self.kube.peek(EVENTS, "default", "edge-1.a")
        assert event is not None
        self.assertEqual(event["involvedObject"]["uid"], "uid-1")
        self.assertEqual((event["type"], event["reason"]), ("Warning", "CertificateExpired"))
        self.assertIn("the client certificate expired; set modules.edgeHub.token", event["message"])

    def test_rarely(self) -> None:
        """One in a while for each node, and each refusal counted."""
        for _ in range(3):
            self.expired.seen("edge-1", "x")
            self.expired.seen("edge-2", "x")
        self.clock.advance(EVENT_PERIOD)
        self.expired.seen("edge-2", "x")
        events = [call for call in self.kube.calls if call.verb == "create"]
        self.assertEqual(len(events), 3)
        text = self.metrics.text()
        self.assertIn("kubeedge_cloudhub_expired_certificates_total 7", text)

    def test_api_away(self) -> None:
        """An API that is away is only logged; the next Event is written again."""
        self.kube.fail_next("create", unreachable())
        self.expired.seen("edge-1", "x")
        self.clock.advance(EVENT_PERIOD)
        self.expired.seen("edge-1", "x")
        self.assertIsNone(self.kube.peek(EVENTS, "default", "edge-1.a"))
        self.assertIsNotNone(self.kube.peek(EVENTS, "default", "edge-1.b"))
        self.successResultOf(self.expired.stopService())
