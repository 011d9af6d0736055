"""Whether a process's databases can be written."""

from __future__ import annotations

from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.store.database import Database


class StoreHealth:
    """The databases of one process, for its readiness and its figures."""

    def __init__(self, metrics: Metrics) -> None:
        self._databases: list[Database] = []
        metrics.gauge(
            "kubeedge_store_failing",
            "Whether the last write did not reach the disk.",
            ("store",),
            lambda: {(each.path.name,): float(bool(each.problem)) for each in self._databases},
        )
        metrics.counter(
            "kubeedge_store_failed_writes_total",
            "Writes that did not reach the disk.",
            ("store",),
            lambda: {(each.path.name,): float(each.failed_writes) for each in self._databases},
        )

    def add(self, database: Database) -> None:
        """Look at one more."""
        self._databases.append(database)

    def problem(self) -> str | None:
        """Why something cannot be stored, and what to do; ``None`` if all can."""
        return next((each.problem for each in self._databases if each.problem), None)
