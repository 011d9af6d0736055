from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.bench.failover import World
from tests.bench.processes import Bench

SESSIONS = 30


class FailoverTests(SynchronousTestCase):
    """``script/bench failover``, smaller; the same code."""

    def test_a_cloud_with_all_sessions_is_killed(self) -> None:
        """The other clouds have them soon; nothing is lost, nothing is sent or written in vain."""
        with Bench(api="separate") as bench:
            world = World(bench, SESSIONS, lasted=0)
            try:
                self.look(world, changes=0)
                self.look(world, changes=2)
            finally:
                world.end()

    def look(self, world: World, *, changes: int) -> None:
        """Kill the cloud once."""
        takeover = world.takeover(changes=changes)
        self.assertEqual(takeover.lost, 0)
        self.assertLess(max(takeover.back), 60)  # ten on a machine that has the time
        changed = 5 * changes
        # A node's address is noted, which is a change of the Node, which is confirmed; and each
        # change that reached a node is confirmed, once a second at most.
        self.assertLessEqual(takeover.messages, SESSIONS * (2 + 2 * changed))
        self.assertLessEqual(takeover.writes, SESSIONS * (4 + 2 * changed))
