"""Coroutines that end with their owner."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure


class TaskSet:
    """Start coroutines, report the ones that fail, cancel the rest at the end."""

    _log = Logger()

    def __init__(self) -> None:
        self._running: dict[Deferred[None], str] = {}

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, what: str, coroutine: Coroutine[Deferred[Any], Any, object]) -> None:
        """Run to completion in the background.

        :param what: names the task in the log if it fails: ``resend to edge-1``.
        """
        task: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        self._running[task] = what
        task.addErrback(self._failed, what).addBoth(self._ended, task)

    async def cancel_all(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await DeferredList(tasks)

    def _failed(self, failure: Failure, what: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure("{what} failed", failure, what=what)

    def _ended(self, _: object, task: Deferred[None]) -> None:
        self._running.pop(task, None)
