"""What a process holds in queues and caches, and the most of it that it will hold."""

from __future__ import annotations

from collections.abc import Callable

from kubeedge_tx.observe.metrics import Metrics


class Bounds:
    """All that can grow, side by side: ``docs/operation.rst`` has the list, and what happens
    when one is full."""

    def __init__(self, metrics: Metrics) -> None:
        self._held: dict[str, tuple[float, Callable[[], float]]] = {}
        metrics.gauge(
            "kubeedge_held_items",
            "What is held in a queue or cache; where there is one for each node or client, in the "
            "fullest.",
            ("what",),
            lambda: {(what,): float(read()) for what, (_, read) in self._held.items()},
        )
        metrics.gauge(
            "kubeedge_held_limit",
            "The most that a queue or cache holds.",
            ("what",),
            lambda: {(what,): limit for what, (limit, _) in self._held.items()},
        )

    def add(self, what: str, limit: float, read: Callable[[], float]) -> None:
        """Add a queue or cache.

        :param read: how much is in it; asked at each scrape, so it should be cheap.
        """
        self._held[what] = (float(limit), read)
