from __future__ import annotations

import time
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.steady import keep_steady_time, steady_seconds


class SteadyTimeTests(SynchronousTestCase):
    """A reactor of its own, and a machine whose clock is set."""

    def setUp(self) -> None:
        self.wall = 1_800_000_000.0
        self.reactor: Any = EPollReactor()
        self.reactor.seconds = lambda: self.wall
        self.addCleanup(self.reactor.disconnectAll)
        self.fired: list[str] = []

    def test_pending_timers(self) -> None:
        """What was set before still comes when it was meant to."""
        call = self.reactor.callLater(100, self.fired.append, "late")
        self.reactor.callLater(0, self.fired.append, "soon")
        keep_steady_time(self.reactor)
        self.assertApproximates(call.getTime() - steady_seconds(), 100, 5)
        self.assertApproximates(self.reactor.timeout(), 0, 5)
        self.reactor.runUntilCurrent()
        self.assertEqual(self.fired, ["soon"])

    def test_clock_is_set(self) -> None:
        """A clock that is set back holds up no timer; set ahead, it fires none."""
        keep_steady_time(self.reactor)
        keep_steady_time(self.reactor)
        for wall in (0.0, 4e9):
            self.patch(time, "time", lambda wall=wall: wall)
            self.reactor.callLater(1000, self.fired.append, "early")
            call = self.reactor.callLater(1000, self.fired.append, "moved")
            call.reset(0)
            self.reactor.runUntilCurrent()
            self.assertEqual(self.fired.pop(), "moved")
            self.assertEqual(self.fired, [])
