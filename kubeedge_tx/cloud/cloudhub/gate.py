"""How fast nodes are let in, and when those that are not shall come again. Pure."""

from __future__ import annotations

import math
from typing import Final

from kubeedge_tx.observe.throttle import TokenBucket

BURST_SECONDS: Final = 5
"""Seconds' worth of connections that are taken at once."""

LONGEST_WAIT: Final = 60
"""Seconds; the latest that a node is asked to come again."""

_GRAIN: Final = 1e-6
"""What adding up floats loses, with room to spare, in seconds."""

LATE: Final = 2.0
"""Seconds by which a process may be late for its own timers before it takes on little more."""

TRICKLE: Final = 1.0
"""Nodes a second that are let in all the same: nobody is locked out for good."""


class Gate:
    """Let ``rate`` nodes a second in, and give each of the others a time of its own to come.

    All at once would be refused again, all but a few; one after the other they are let in.

    :param rate: nodes a second on average, more than 0; five times as many at once.
    """

    def __init__(self, *, rate: float, now: float) -> None:
        self._bucket = TokenBucket(rate=rate, burst=rate * BURST_SECONDS, now=now)
        self._trickle = TokenBucket(rate=min(rate, TRICKLE), burst=1, now=now)
        self._rate = rate
        self._booked = now
        """Until when all the room that there will be is promised."""
        self._expected: float | None = None
        self._late = 0.0

    def ticked(self, now: float, interval: float) -> None:
        """Note that a timer ran, and that it is to run again after ``interval`` seconds."""
        self._late = 0.0 if self._expected is None else now - self._expected
        self._expected = now + interval

    def wait(self, now: float) -> int:
        """Let a node in.

        :returns: 0 if it may enter; else the whole seconds after which it shall come again.
        """
        if (not self._is_late(now) or self._trickle.take(now)) and self._bucket.take(now):
            return 0
        self._booked = max(self._booked, now) + 1.0 / self._rate
        return min(max(1, math.ceil(self._booked - now - _GRAIN)), LONGEST_WAIT)

    def _is_late(self, now: float) -> bool:
        if self._expected is None:
            return False
        return max(self._late, now - self._expected) > LATE
