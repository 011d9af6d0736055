"""Parallel across objects, serial for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

from twisted.internet.defer import Deferred

from kubeedge_tx.beehive.tasks import TaskSet

BACKLOG: Final = 1024
"""Jobs that may wait before those who bring more wait, too."""

Work = Callable[[], Coroutine[Deferred[Any], Any, object]]


class KeyedWorkers:
    """Run jobs: one at a time for each key, in order; at most ``limit`` at once in all.

    :param limit: jobs under way at the same time, >= 1.
    :param backlog: jobs waiting before :meth:`submit` makes its caller wait.
    """

    def __init__(self, limit: int, backlog: int = BACKLOG) -> None:
        self._limit = limit
        self._backlog = backlog
        self._queues: dict[Hashable, deque[tuple[str, Work]]] = {}
        self._ready: deque[Hashable] = deque()
        self._busy: set[Hashable] = set()
        self._waiting = 0
        self._submitters: deque[Deferred[None]] = deque()
        self._idle: list[Deferred[None]] = []
        self._tasks = TaskSet()

    def __len__(self) -> int:
        """Jobs waiting and under way."""
        return self._waiting + len(self._busy)

    def submit(self, key: Hashable, work: Work, what: str = "job") -> Deferred[None]:
        """Queue a job; fires when the backlog has room, which is normally at once."""
        queue = self._queues.setdefault(key, deque())
        queue.append((what, work))
        self._waiting += 1
        if key not in self._busy and len(queue) == 1:
            self._ready.append(key)
        self._start_more()
        accepted: Deferred[None] = Deferred()
        if self._waiting <= self._backlog:
            accepted.callback(None)
        else:
            self._submitters.append(accepted)
        return accepted

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing waits and nothing runs."""
        idle: Deferred[None] = Deferred()
        if len(self):
            self._idle.append(idle)
        else:
            idle.callback(None)
        return idle

    async def cancel_all(self) -> None:
        """Drop what waits, cancel what runs, and wait for it to end."""
        self._queues.clear()
        self._ready.clear()
        self._waiting = 0
        await self._tasks.cancel_all()

    def _start_more(self) -> None:
        while self._ready and len(self._busy) < self._limit:
            key = self._ready.popleft()
            what, work = self._queues[key].popleft()
            self._waiting -= 1
            self._busy.add(key)
            self._tasks.spawn(what, self._run(key, work))

    async def _run(self, key: Hashable, work: Work) -> None:
        try:
            await work()
        finally:
            self._busy.discard(key)
            if self._queues.get(key):
                self._ready.append(key)
            else:
                self._queues.pop(key, None)
            self._start_more()
            while self._submitters and self._waiting <= self._backlog:
                self._submitters.popleft().callback(None)
            if not len(self):
                idle, self._idle = self._idle, []
                for waiter in idle:
                    waiter.callback(None)
