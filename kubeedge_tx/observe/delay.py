"""How late the reactor runs."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

from kubeedge_tx.observe.metrics import Metrics


class ReactorDelay:
    """Measure the lateness of a call that should come every half second."""

    name = "reactor delay"
    INTERVAL = 0.5

    def __init__(self, clock: Any, metrics: Metrics) -> None:
        self._clock = clock
        self._histogram = metrics.histogram(
            "kubeedge_reactor_delay_seconds", "How late the reactor ran a timed call."
        )
        self._loop = LoopingCall(self._measure)
        self._loop.clock = clock
        self._due = 0.0

    def startService(self) -> None:
        """Begin."""
        self._due = self._clock.seconds() + self.INTERVAL
        self._loop.start(self.INTERVAL, now=False)

    def stopService(self) -> None:
        """End."""
        if self._loop.running:
            self._loop.stop()

    def _measure(self) -> None:
        now = self._clock.seconds()
        self._histogram.observe(max(0.0, now - self._due))
        self._due = now + self.INTERVAL
