from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.cloud.cloudhub.attention import Attention


class AttentionTests(SynchronousTestCase):
    """Who says too much is read more slowly."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.attention = Attention(self.clock, 100, 1)

    def test_a_burst(self) -> None:
        """Twice the rate at once is no matter; what is beyond waits as long as it is worth."""
        for _ in range(200):
            self.successResultOf(self.attention.heard())
        waiting = [self.attention.heard() for _ in range(50)]
        self.clock.advance(0.4)
        self.assertNoResult(waiting[0])
        self.clock.advance(0.2)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_rate_holds(self) -> None:
        """However much comes with each read, over time it is no more than the rate."""
        heard, seconds = 0, 0.0
        while seconds < 30:
            for _ in range(70):
                heard += 1
                pause = self.attention.heard()
            while not pause.called:
                self.clock.advance(0.05)
                seconds += 0.05
            seconds += 0.001
            self.clock.advance(0.001)
        self.assertLess(heard, 30 * 100 + 200 + 70)
        self.assertGreater(heard, 30 * 90)

    def test_gone(self) -> None:
        """The end of a connection ends its pause, and leaves no timer."""
        for _ in range(201):
            last = self.attention.heard()
        self.assertNoResult(last)
        self.attention.stop()
        self.successResultOf(last)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_creations(self) -> None:
        """Objects are counted apart: a burst, then one a second here."""
        self.assertEqual([self.attention.may_create() for _ in range(31)], [True] * 30 + [False])
        self.clock.advance(1)
        self.assertEqual([self.attention.may_create() for _ in range(2)], [True, False])
