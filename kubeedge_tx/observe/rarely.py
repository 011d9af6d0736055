"""Say the same thing once in a while, however often it happens. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

PERIOD: Final = 60.0
"""Seconds between two lines about one subject."""

SUBJECTS: Final = 4096
"""Subjects that are remembered; the one that was spoken of longest ago goes first."""


class Rarely:
    """Decide whether to speak of a subject now.

    What a stranger can cause as often as he likes must not fill the disk with log lines.

    :param period: seconds between two lines about one subject, more than 0.
    :param subjects: how many are remembered, at least 1.
    """

    __slots__ = ("_period", "_since", "_subjects")

    def __init__(self, period: float = PERIOD, subjects: int = SUBJECTS) -> None:
        self._period = period
        self._subjects = subjects
        self._since: dict[Hashable, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def due(self, subject: Hashable, now: float) -> int | None:
        """Ask at each occurrence.

        :returns: ``None`` to be silent, or how many occurrences were passed over in silence
            since the last line.
        """
        at, silent = self._since.get(subject, (now - self._period, 0))
        if now - at < self._period:
            self._since[subject] = (at, silent + 1)
            return None
        self._since.pop(subject, None)
        self._since[subject] = (now, 0)
        if len(self._since) > self._subjects:
            del self._since[next(iter(self._since))]
        return silent


def and_more(silent: int) -> str:
    """What to write behind a line that stands for others, too."""
    return f" ({silent} more like it since the last line)" if silent else ""
