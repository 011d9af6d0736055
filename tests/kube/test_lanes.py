from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.kube.lanes import MOST, Lanes


class LanesTests(SynchronousTestCase):
    """Calls are spread over lanes, and share the way there when there are many."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.started: list[Deferred[None]] = []
        self.done: list[int] = []
        self.lanes: Lanes[int, int] = Lanes(self.clock, [self.work, self.work])

    async def work(self, numbers: Sequence[int]) -> list[int | Exception]:
        until: Deferred[None] = Deferred()
        self.started.append(until)
        await until
        self.done += numbers
        return [10 // number if number else ZeroDivisionError() for number in numbers]

    def finish(self) -> None:
        """Let the lane that started first do all it has."""
        self.started.pop(0).callback(None)

    def test_few_calls_run_side_by_side(self) -> None:
        """Each of two calls gets a lane, and neither waits for the other's answer."""
        first, second = self.lanes.submit(1), self.lanes.submit(2)
        self.clock.advance(0)
        self.assertEqual(len(self.started), 2)
        self.finish()
        self.assertEqual(self.successResultOf(first), 10)
        self.assertNoResult(second)
        self.assertTrue(self.lanes.is_busy)
        self.finish()
        self.assertEqual(self.successResultOf(second), 5)
        self.assertFalse(self.lanes.is_busy)

    def test_many_calls_share_lanes(self) -> None:
        """Of more calls than lanes each lane takes some, but not too many."""
        answers = [self.lanes.submit(1) for _ in range(4 * MOST)]
        self.clock.advance(0)
        self.finish()
        self.assertEqual(len(self.done), MOST)
        while self.started:
            self.finish()
        self.assertEqual([self.successResultOf(each) for each in answers], [10] * len(answers))

    def test_a_failure_is_its_own_call_s(self) -> None:
        """One call fails; those that shared its lane do not."""
        answers = [self.lanes.submit(number) for number in (1, 1, 0, 1, 1)]
        self.clock.advance(0)
        while self.started:
            self.finish()
        self.failureResultOf(answers.pop(2), ZeroDivisionError)
        self.assertEqual([self.successResultOf(each) for each in answers], [10] * 4)

    def test_a_lane_that_fails(self) -> None:
        """What goes wrong for all of a batch reaches all of it, and the lane goes on."""

        async def break_down(words: Sequence[str]) -> list[str | Exception]:
            raise OSError("no way")

        lanes: Lanes[str, str] = Lanes(self.clock, [break_down])
        for _ in range(2):
            answers = [lanes.submit(word) for word in ("a", "b", "c")]
            self.clock.advance(0)
            for answer in answers:
                self.failureResultOf(answer, OSError)
