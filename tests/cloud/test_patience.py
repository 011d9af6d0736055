from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.cloud.patience import patiently
from kubeedge_tx.errors import KubeError


class PatienceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[float] = []

    def start(self, codes: Iterable[int], *, last: int | None = None) -> Deferred[str]:
        """Begin a step that fails with each code in turn, then as ``last`` if there is one."""
        left = iter(codes)

        async def step() -> str:
            self.calls.append(self.clock.seconds())
            code = next(left, last)
            if code is None:
                return "done"
            raise KubeError("no", code=code)

        return Deferred.fromCoroutine(patiently(self.clock, step))

    def test_a_server_that_is_away(self) -> None:
        """It is asked after 1, 2, 4, 4… seconds, for as long as it takes."""
        done = self.start([0, 503, 429, 0, 0])
        self.clock.pump([1.0] * 16)
        self.assertEqual(self.successResultOf(done), "done")
        self.assertEqual(self.calls, [0, 1, 3, 7, 11, 15])

    def test_a_server_that_has_just_started(self) -> None:
        """What it refuses in its first seconds it may allow a moment later."""
        done = self.start([0, 403, 401])
        self.clock.pump([1.0] * 8)
        self.assertEqual(self.successResultOf(done), "done")

    def test_a_server_that_goes_on_refusing(self) -> None:
        """That is an error for a person, as soon as it is none of a start."""
        done = self.start([0] * 10, last=403)
        self.clock.pump([1.0] * 54)  # the first refusal was at 35
        self.assertNoResult(done)
        self.clock.pump([1.0] * 5)
        self.assertEqual(self.failureResultOf(done, KubeError).value.code, 403)

    def test_a_wrong_request(self) -> None:
        """Repeating it would not make it better."""
        self.assertEqual(self.failureResultOf(self.start([422]), KubeError).value.code, 422)
