from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.apiserver.eventlog import EventExpiry
from tests.apiserver.direct import World


class EventExpiryTests(SynchronousTestCase):
    """Events are forgotten after an hour."""

    def test_an_hour(self) -> None:
        """The old one goes, the one that was repeated since stays."""
        world = World()
        expiry = EventExpiry(world.verbs, world.clock, 3600)
        expiry.start()
        self.addCleanup(expiry.stop)
        for name in ("old", "repeated"):
            world.create(
                "events",
                "default",
                {
                    "metadata": {"name": name},
                    "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
                    "reason": "Started",
                    "type": "Normal",
                },
            )
        world.clock.pump([60] * 50)
        world.patch("events", "default", "repeated", lastTimestamp="2027-01-15T08:50:00Z")
        self.assertIsNotNone(world.get("events", "default", "old"))
        world.clock.pump([60] * 15)
        self.assertIsNone(world.get("events", "default", "old"))
        self.assertIsNotNone(world.get("events", "default", "repeated"))
