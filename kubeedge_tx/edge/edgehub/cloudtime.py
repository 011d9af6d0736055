"""What time it is at the cloud, and how wrong this machine's clock is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import stringToDatetime

TOLERANCE: Final = 60.0
"""Seconds by which the clocks may differ before it is worth a word."""

_UNITS: Final = (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


class CloudTime:
    """The cloud's clock, once it was heard; this machine's until then.

    Certificates are judged by it: a machine without a battery wakes up in 1970, and must
    neither ask for new ones nor refuse those that it has.

    :param clock: steady; measures what has passed since.
    :param wall_clock: seconds since 1970, which may be wrong and be set at any time.
    """

    def __init__(self, clock: IReactorTime, wall_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._ahead: float | None = None
        """The cloud's clock minus the steady one."""
        self._heard_at = float("-inf")

    def heard(self, date: str) -> None:
        """Take a ``Date`` header that the cloud sent just now; what is no date is none."""
        try:
            seconds = float(stringToDatetime(date.encode("ascii", "replace")))
        except (ValueError, IndexError, KeyError):
            return
        self._heard_at = self._clock.seconds()
        self._ahead = seconds - self._heard_at

    def now(self) -> float:
        """Seconds since 1970, as the cloud counts them if it was heard."""
        if self._ahead is None:
            return self._wall_clock()
        return self._clock.seconds() + self._ahead

    @property
    def age(self) -> float:
        """Seconds since the cloud was heard; infinite if it was not."""
        return self._clock.seconds() - self._heard_at

    @property
    def off(self) -> float | None:
        """Seconds by which this machine's clock is ahead of the cloud's; ``None``: not known."""
        return None if self._ahead is None else self._wall_clock() - self.now()

    @property
    def is_wrong(self) -> bool:
        """Whether this machine's clock is known to be wrong."""
        off = self.off
        return off is not None and abs(off) > TOLERANCE

    def describe(self) -> str:
        """Say how wrong it is, and what to do; empty if it is not known to be."""
        off = self.off
        if off is None or not self.is_wrong:
            return ""
        unit, size = next(each for each in _UNITS if abs(off) >= 2 * each[1] or each[1] == 1.0)
        return (
            f"this machine's clock is {abs(off) / size:.0f} {unit} "
            f"{'ahead of' if off > 0 else 'behind'} the cloud's; set the one that is wrong "
            "(timedatectl, or NTP)"
        )
