from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.kube.lanes import MOST, Lanes


class Threads:
    """Two threads that do their work when told to."""

    max = 2

    def __init__(self) -> None:
        self.started: list[Callable[[], None]] = []

    def callInThread(self, work: Callable[..., None], *args: Any) -> None:
        self.started.append(lambda: work(*args))

    def finish(self) -> None:
        """Let the thread that started first do all it has."""
        self.started.pop(0)()


class LanesClock(Clock):
    def callFromThread(self, work: Callable[..., None], *args: Any) -> None:
        work(*args)


class LanesTests(SynchronousTestCase):
    """Calls are spread over threads, and share the way there when there are many."""

    def setUp(self) -> None:
        self.clock = LanesClock()
        self.threads = Threads()
        self.done: list[int] = []
        self.lanes: Lanes[int, int] = Lanes(self.clock, self.threads, self.work)  # type: ignore[arg-type]

    def work(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.done += numbers
        return [10 // number if number else ZeroDivisionError() for number in numbers]

    def test_few_calls_run_side_by_side(self) -> None:
        """Each of two calls gets a thread, and neither waits for the other's answer."""
        first, second = self.lanes.submit(1), self.lanes.submit(2)
        self.clock.advance(0)
        self.assertEqual(len(self.threads.started), 2)
        self.threads.finish()
        self.assertEqual(self.successResultOf(first), 10)
        self.assertNoResult(second)
        self.threads.finish()
        self.assertEqual(self.successResultOf(second), 5)

    def test_many_calls_share_threads(self) -> None:
        """Of more calls than threads each thread takes some, but not too many."""
        answers = [self.lanes.submit(1) for _ in range(4 * MOST)]
        self.clock.advance(0)
        self.threads.finish()
        self.assertEqual(len(self.done), MOST)
        while self.threads.started:
            self.threads.finish()
        self.assertEqual([self.successResultOf(each) for each in answers], [10] * len(answers))

    def test_a_failure_is_its_own_call_s(self) -> None:
        """One call fails; those that shared its thread do not."""
        answers = [self.lanes.submit(number) for number in (1, 1, 0, 1, 1)]
        self.clock.advance(0)
        while self.threads.started:
            self.threads.finish()
        self.failureResultOf(answers.pop(2), ZeroDivisionError)
        self.assertEqual([self.successResultOf(each) for each in answers], [10] * 4)

    def test_a_thread_that_fails(self) -> None:
        """What goes wrong for all of them reaches all of them."""
        lanes: Lanes[str, str] = Lanes(self.clock, self.threads, self.break_down)  # type: ignore[arg-type]
        answers = [lanes.submit(word) for word in ("a", "b", "c")]
        self.clock.advance(0)
        while self.threads.started:
            self.threads.finish()
        for answer in answers:
            self.failureResultOf(answer, OSError)

    def break_down(self, words: Sequence[str]) -> list[str | Exception]:
        raise OSError("no threads")
