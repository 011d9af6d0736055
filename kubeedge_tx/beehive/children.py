"""What is no service by itself, as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Child:
    """Two calls, seen as a service."""

    def __init__(self, name: str, start: Callable[[], Any], stop: Callable[[], Any]) -> None:
        self.name = name
        self._start = start
        self._stop = stop

    def startService(self) -> Any:
        return self._start()

    def stopService(self) -> Any:
        return self._stop()


class Threads:
    """Threads of their own for work that would hold the reactor up.

    :param most: threads at once.
    """

    def __init__(self, reactor: Any, name: str, most: int) -> None:
        self.name = f"threads for {name}"
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)

    def startService(self) -> None:
        self._pool.start()

    def stopService(self) -> None:
        self._pool.stop()

    def run(self, work: Callable[..., T], *args: Any) -> Deferred[T]:
        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, work, *args)
        return done
