"""A token bucket. No clock here: it is told the time."""

from __future__ import annotations

from typing import Final

_ONE: Final = 1.0 - 1e-6
"""A token, less what adding up floats loses: else a wait could end a moment too early."""


class TokenBucket:
    """Allow ``rate`` a second on average and ``burst`` at once.

    Source: KubeEdge ``edgeHub.messageQPS`` (30) and ``messageBurst`` (60).

    :param rate: tokens a second, more than 0.
    :param burst: tokens the bucket holds, at least 1; it starts full.
    :param now: the time it starts from, in seconds.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float, now: float = 0.0) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"rate {rate} must be above 0 and burst {burst} at least 1")
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def limit(self, *, rate: float, burst: float, now: float) -> None:
        """Go on with other limits; what is in the bucket stays, as far as it holds it."""
        self._fill(now)
        self._rate = rate
        self._burst = float(burst)
        self._tokens = min(self._tokens, self._burst)

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        self._fill(now)
        if self._tokens < _ONE:
            return False
        self._tokens -= 1.0
        return True

    def delay(self, now: float) -> float:
        """Seconds until :meth:`take` succeeds; 0 if it would now."""
        self._fill(now)
        return 0.0 if self._tokens >= _ONE else (1.0 - self._tokens) / self._rate

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
