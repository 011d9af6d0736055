"""Work spread over a few lanes, several pieces at a time: a turn costs as much as a piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

A = TypeVar("A")
B = TypeVar("B")

MOST: Final = 8
"""Pieces that one lane takes at once; the first one's result waits for the last."""

Lane = Callable[[Sequence[A]], Coroutine[Any, Any, Sequence[B | Exception]]]
"""Does some pieces; gives for each what came of it, an exception if it failed."""


class Lanes(Generic[A, B]):
    """Do work in lanes; when more waits than there are lanes, each takes several pieces.

    :param lanes: each is given one batch at a time.
    :param drained: called whenever no lane is at work any more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        lanes: Sequence[Lane[A, B]],
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._count = len(lanes)
        self._idle = list(reversed(lanes))
        self._drained = drained
        self._waiting: deque[tuple[A, Deferred[B]]] = deque()
        self._looking = False

    @property
    def is_busy(self) -> bool:
        """Whether a lane is at work: it goes on when nobody waits for it any more."""
        return len(self._idle) < self._count or bool(self._waiting)

    def submit(self, piece: A) -> Deferred[B]:
        """Have one piece done; fires with what came of it, or fails with it."""
        done: Deferred[B] = Deferred()
        self._waiting.append((piece, done))
        if self._idle and not self._looking:
            # In the next turn: who submits one piece often submits more.
            self._looking = True
            self._clock.callLater(0, self._look)
        return done

    def _look(self) -> None:
        self._looking = False
        while self._waiting and self._idle:
            share = -(-len(self._waiting) // len(self._idle))
            batch = [self._waiting.popleft() for _ in range(min(share, MOST))]
            lane = self._idle.pop()  # the one used last: its connection is warm
            Deferred.fromCoroutine(self._run(lane, batch))

    async def _run(self, lane: Lane[A, B], batch: Sequence[tuple[A, Deferred[B]]]) -> None:
        results: Sequence[B | Exception]
        try:
            results = await lane([piece for piece, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever submitted them hears
            results = [error] * len(batch)
        self._idle.append(lane)
        self._look()
        for (_, done), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                done.errback(result)
            else:
                done.callback(result)
        if not self.is_busy:
            self._drained()
