"""Threads that make calls, a few at a time: handing one over costs as much as the call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

A = TypeVar("A")
B = TypeVar("B")

MOST: Final = 8
"""Calls that one thread takes at once; the first one's answer waits for the last."""

Work = Callable[[Sequence[A]], Sequence[B | Exception]]
"""Does some pieces in a thread; gives for each what came of it, an exception if it failed."""


class Lanes(Generic[A, B]):
    """Do work in threads; when more waits than there are threads, each takes several pieces.

    :param pool: runs the threads.
    :param drained: called whenever no thread is at work any more.
    """

    def __init__(
        self,
        reactor: Any,
        pool: ThreadPool,
        work: Work[A, B],
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._work = work
        self._drained = drained
        self._idle = pool.max
        self._waiting: deque[tuple[A, Deferred[B]]] = deque()
        self._looking = False

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work: it goes on when nobody waits for it any more."""
        return self._idle < self._pool.max or bool(self._waiting)

    def submit(self, piece: A) -> Deferred[B]:
        """Have one piece done; fires with what came of it, or fails with it."""
        done: Deferred[B] = Deferred()
        self._waiting.append((piece, done))
        if self._idle and not self._looking:
            # In the next turn: who submits one piece often submits more.
            self._looking = True
            self._reactor.callLater(0, self._look)
        return done

    def _look(self) -> None:
        self._looking = False
        while self._waiting and self._idle:
            share = -(-len(self._waiting) // self._idle)
            batch = [self._waiting.popleft() for _ in range(min(share, MOST))]
            self._idle -= 1
            self._pool.callInThread(self._run, batch)

    def _run(self, batch: list[tuple[A, Deferred[B]]]) -> None:
        try:
            results = self._work([piece for piece, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever submitted them hears
            results = [error] * len(batch)
        self._reactor.callFromThread(self._done, [done for _, done in batch], results)

    def _done(self, waiting: Sequence[Deferred[B]], results: Sequence[B | Exception]) -> None:
        self._idle += 1
        self._look()
        for done, result in zip(waiting, results, strict=True):
            if isinstance(result, Exception):
                done.errback(result)
            else:
                done.callback(result)
        if not self.is_busy:
            self._drained()
