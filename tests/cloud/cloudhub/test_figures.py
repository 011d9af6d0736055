"""What CloudHub tells Prometheus, and whoever looks at one node."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kubeedge_tx.cloud.cloudhub.figures import WORST
from tests.cloud.cloudhub.hubcase import HubCase, configmap


class FiguresTests(HubCase):
    def figures(self) -> dict[tuple[str, ...], float]:
        """Each series: its name, the values of its labels, its number."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self.metrics.text())
            for sample in family.samples
        }

    def test_lag(self) -> None:
        """How long the edge lacks something grows until it confirms, whatever newer comes."""
        link = self.dial()
        self.push(configmap("u", "5"))
        self.clock.advance(2)
        newest = self.push(configmap("u", "6"))
        self.clock.advance(1)
        found = self.figures()
        self.assertEqual(found["kubeedge_sync_lag_seconds", "connected"], 3)
        self.assertEqual(found["kubeedge_sync_worst_lag_seconds", "edge-1"], 3)
        self.assertEqual(found["kubeedge_sync_unconfirmed_objects", "connected"], 1)
        self.ack(link, link.user.messages[0])
        self.ack(link, newest)
        self.clock.advance(1)
        found = self.figures()
        self.assertEqual(found["kubeedge_sync_lag_seconds", "connected"], 0)
        self.assertEqual(found["kubeedge_sync_unconfirmed_objects", "connected"], 0)
        self.assertNotIn(("kubeedge_sync_worst_lag_seconds", "edge-1"), found)
        self.assertEqual(found["kubeedge_sync_seconds_count", "configmap"], 2)
        self.assertEqual(found["kubeedge_sync_seconds_sum", "configmap"], 3 + 1)
        self.assertEqual(found["kubeedge_sync_seconds_bucket", "configmap", "1"], 1)

    def test_away(self) -> None:
        """What waits for a node that is not connected is counted apart."""
        self.push(configmap("u", "5"))
        self.clock.advance(7)
        found = self.figures()
        self.assertEqual(found["kubeedge_sync_lag_seconds", "away"], 7)
        self.assertEqual(found["kubeedge_sync_unconfirmed_objects", "away"], 1)
        self.assertEqual(found["kubeedge_sync_lag_seconds", "connected"], 0)

    def test_few_series(self) -> None:
        """Of many nodes only those that are most behind are named."""
        self.hub = self.make_hub(node_limit=100)
        self.hub.start_ticking()
        for number in range(WORST + 10):
            self.dial(f"edge-{number}")
            self.push(configmap(f"u{number}", "5"), node=f"edge-{number}")
            self.clock.advance(1)
        found = self.figures()
        named = {key[1] for key in found if key[0] == "kubeedge_sync_worst_lag_seconds"}
        self.assertEqual(named, {f"edge-{number}" for number in range(WORST)})
        self.assertEqual(found["kubeedge_sync_unconfirmed_objects", "connected"], WORST + 10)

    def test_never_less(self) -> None:
        """What was sent again counts on when its node is deleted: counters never go back."""
        self.dial()
        self.push(configmap("u", "5"))
        self.pass_time(12)
        self.assertEqual(self.figures()["kubeedge_cloudhub_resends_total",], 2)
        self.push("", resource="default/node/edge-1", operation="delete")
        self.assertEqual(self.hub.dispatcher.queues, {})
        self.assertEqual(self.figures()["kubeedge_cloudhub_resends_total",], 2)

    def test_traffic(self) -> None:
        """Bytes and messages are counted by direction and by what they are."""
        link = self.dial()
        message = self.push(configmap("u", "5"))
        self.ack(link, message)
        self.keepalive(link)
        found = self.figures()
        for way, kind, count in (
            ("down", "object", 1),
            ("up", "response", 1),
            ("up", "keepalive", 1),
            ("up", "event", 0),
        ):
            self.assertEqual(found["kubeedge_channel_messages_total", way, kind], count)
        self.assertGreater(found["kubeedge_channel_bytes_total", "down", "object"], 200)

    def test_one_node(self) -> None:
        """One can ask about a node: what waits for it, since when, and how it is connected."""
        self.dial()
        self.push(configmap("u", "5"))
        self.push(configmap("v", "6"), node="edge-2")
        self.clock.advance(3)
        self.assertEqual(list(self.hub.nodes_state(())), ["edge-1"])
        found = self.hub.nodes_state(("edge-2", "edge-3"))
        self.assertIsNone(found["edge-3"])
        self.assertEqual(
            found["edge-2"],
            {
                "peer": None,
                "unconfirmedObjects": 1,
                "inFlight": 0,
                "plainMessages": 0,
                "lagSeconds": 3.0,
                "resends": 0,
                "dropped": 0,
                "oldest": ["default/configmap/app"],
            },
        )
