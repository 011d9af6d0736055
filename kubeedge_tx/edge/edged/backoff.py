"""How long to wait before something is tried again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    delay: float
    updated: float


class Backoff:
    """Delays per key: the first retry is at once, then 10, 20, 40 … seconds.

    Source: ``k8s.io/client-go/util/flowcontrol/backoff.go`` as kubelet uses it.

    :param initial: seconds, the first delay.
    :param limit: seconds, the longest; after twice as long without trouble it starts over.
    """

    def __init__(self, initial: float = 10.0, limit: float = 300.0) -> None:
        self._initial = initial
        self._limit = limit
        self._entries: dict[str, _Entry] = {}

    def next(self, key: str, event: float, now: float) -> float:
        """Record one more try.

        :param event: when what makes the retry necessary happened.
        :returns: the delay that now holds, seconds.
        """
        entry = self._entries.get(key)
        if entry is None or event - entry.updated > 2 * self._limit:
            entry = self._entries[key] = _Entry(self._initial, now)
        else:
            entry.delay = min(entry.delay * 2, self._limit)
            entry.updated = now
        return entry.delay

    def delay(self, key: str) -> float:
        """Give the delay that holds for a key; 0 if none does."""
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def waiting_until(self, key: str, event: float, now: float) -> float | None:
        """Tell until when to wait after ``event``; ``None`` if it may be tried now.

        A clock that was set back must not make the wait longer than the delay.
        """
        entry = self._entries.get(key)
        if entry is None or event - entry.updated > 2 * self._limit:
            return None
        until = min(event, now) + entry.delay
        return until if until > now else None

    def forget(self, key: str) -> None:
        """Start over for a key."""
        self._entries.pop(key, None)


def spelled(seconds: float) -> str:
    """Write a duration as Go does: ``10s``, ``1m20s``, ``5m0s``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
