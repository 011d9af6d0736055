"""A real SQLite file without a thread, whose commits can be held back or lost."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from kubeedge_tx.store.database import Database, Writer
from kubeedge_tx.store.migrate import load_migrations, migrate

STEPS = load_migrations("kubeedge_tx.store", "schema")


class DirectDatabase(Database):
    """The edge's database, run by the caller.

    With ``held`` set, work waits for :meth:`run`; :meth:`crash` leaves the file as a
    ``kill -9`` would.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(None, path, STEPS)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        migrate(self._connection, path, STEPS)
        # Nobody pulls the plug of a test machine; a kill loses nothing that was written.
        self._connection.execute("PRAGMA synchronous=OFF")
        self._writer = Writer(self._on_pool)
        self._work: deque[tuple[Callable[[Any], Any], Deferred[Any]]] = deque()
        self.held = False
        self.failing: Exception | None = None

    def open(self) -> Deferred[None]:
        return succeed(None)

    @property
    def waiting(self) -> int:
        """How much work is held."""
        return len(self._work)

    def run(self, *, tell: bool = True) -> None:
        """Do the oldest work that was held; without ``tell`` nobody hears of it."""
        work, done = self._work.popleft()
        try:
            result = work(self._connection)
        except Exception:  # noqa: BLE001 - given to whoever asked
            if tell:
                done.errback(Failure())
        else:
            if tell:
                done.callback(result)

    def crash(self) -> None:
        """Lose everything that is not in the file."""
        self._work.clear()
        self._connection.close()

    async def _close(self) -> None:
        self._writer = None
        self._connection.close()

    def _on_pool(self, work: Callable[[Any], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        if self.failing is not None:
            done.errback(self.failing)
            return done
        self._work.append((work, done))
        if not self.held:
            self.run()
        return done
