from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edged.backoff import Backoff, spelled


class BackoffTests(SynchronousTestCase):
    def test_doubles_to_its_limit(self) -> None:
        """The delay doubles from 10 seconds to 5 minutes."""
        backoff = Backoff()
        self.assertIsNone(backoff.waiting_until("a", 0, 0))
        delays = [backoff.next("a", 0, 0) for _ in range(8)]
        self.assertEqual(delays, [10, 20, 40, 80, 160, 300, 300, 300])

    def test_keys_are_apart(self) -> None:
        """One container's trouble is not another's."""
        backoff = Backoff()
        backoff.next("a", 0, 0)
        self.assertEqual(backoff.waiting_until("a", 5, 6), 15)
        self.assertIsNone(backoff.waiting_until("b", 5, 6))

    def test_long_peace(self) -> None:
        """After ten minutes without trouble it starts over."""
        backoff = Backoff()
        for _ in range(5):
            backoff.next("a", 0, 0)
        self.assertIsNone(backoff.waiting_until("a", 601, 601))
        self.assertEqual(backoff.next("a", 601, 601), 10)

    @given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(1, 10))
    def test_bounded(self, event: float, now: float, tries: int) -> None:
        """However the clock was set, nobody waits longer than the delay."""
        backoff = Backoff()
        for _ in range(tries):
            backoff.next("a", event, event)
        until = backoff.waiting_until("a", event, now)
        self.assertTrue(until is None or now < until <= now + backoff.delay("a"))

    def test_spelled(self) -> None:
        """Durations read as Go writes them."""
        for seconds, text in {
            10: "10s",
            60: "1m0s",
            80: "1m20s",
            300: "5m0s",
            3661: "1h1m1s",
        }.items():
            self.assertEqual(spelled(seconds), text)
