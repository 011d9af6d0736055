from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.cloud.cloudhub.gate import LONGEST_WAIT, Gate


class GateTests(SynchronousTestCase):
    """When nodes may come."""

    def test_a_storm(self) -> None:
        """A thousand nodes at once are let in at the rate, each the second time it asks."""
        gate = Gate(rate=50, now=0.0)
        waits = [gate.wait(0.0) for _ in range(1000)]
        self.assertEqual(waits[:250], [0] * 250)
        self.assertEqual(waits[250], 1)
        self.assertEqual(max(waits), 15)
        for second in range(1, 16):
            coming = waits.count(second)
            self.assertEqual(coming, 50)
            again = [gate.wait(float(second)) for _ in range(coming)]
            self.assertEqual(again, [0] * coming, f"at second {second}")

    @given(
        st.integers(1, 1000),
        st.lists(st.tuples(st.floats(0, 30), st.integers(0, 300)), max_size=30),
    )
    def test_never_faster(self, rate: int, arrivals: list[tuple[float, int]]) -> None:
        """However they come, no more are let in than the rate and the burst allow."""
        gate = Gate(rate=rate, now=0.0)
        now, let_in = 0.0, 0
        for pause, count in arrivals:
            now += pause
            for _ in range(count):
                wait = gate.wait(now)
                self.assertTrue(0 <= wait <= LONGEST_WAIT)
                let_in += wait == 0
            self.assertLessEqual(let_in, rate * (5 + now) + 1)

    def test_late_for_its_own_timers(self) -> None:
        """A process that does not keep up takes on one a second, until it has caught up."""
        gate = Gate(rate=50, now=0.0)
        gate.ticked(0.0, 1.0)
        self.assertEqual(gate.wait(1.5), 0)
        self.assertEqual(gate.wait(3.5), 0)  # the timer is due for 2.5 s
        self.assertEqual(gate.wait(3.5), 1)
        gate.ticked(3.5, 1.0)
        self.assertEqual(gate.wait(3.6), 1)
        self.assertEqual(gate.wait(4.5), 0)
        gate.ticked(4.5, 1.0)
        self.assertEqual(gate.wait(4.6), 0)
