"""Resident memory of each process over time, and whether it grows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Final

SETTLED: Final = 120.0
"""Seconds of a process that are not counted: it fills its caches."""
LEAST: Final = 300.0
"""Seconds after those that a growth can be told from."""


@dataclass(slots=True)
class Memory:
    """Samples of all processes, by program and process id."""

    samples: dict[tuple[str, int], list[tuple[float, int]]] = field(default_factory=dict)

    def take(self, name: str, pid: int, at: float, kilobytes: int) -> None:
        """Keep one sample."""
        if kilobytes:
            self.samples.setdefault((name, pid), []).append((at, kilobytes))

    def most(self, prefix: str) -> float:
        """The most that any process of a kind has had, in MiB; 0 if none was seen."""
        found = [
            size
            for (name, _), line in self.samples.items()
            if name.startswith(prefix)
            for _, size in line
        ]
        return max(found, default=0) / 1024

    def lines(self, prefix: str) -> list[tuple[float, float, float]]:
        """The processes of a kind that lived long enough to tell whether they grow.

        :returns: of each the MiB at the beginning, at the end (means of a fifth of its
            samples), and the growth of a straight line through all of them, MiB an hour.
        """
        found = []
        for (name, _), line in self.samples.items():
            born = line[0][0]
            kept = [(at, size) for at, size in line if at - born >= SETTLED]
            if name.startswith(prefix) and kept and kept[-1][0] - kept[0][0] >= LEAST:
                part = max(1, len(kept) // 5)
                first, last = (
                    fmean(size for _, size in some) / 1024 for some in (kept[:part], kept[-part:])
                )
                found.append((first, last, _slope(kept) * 3600 / 1024))
        return found

    def course(self, prefix: str, every: float = 300.0) -> list[float]:
        """How the process of a kind that lived longest went: its median in each so many seconds.

        :returns: MiB.
        """
        lines = [line for (name, _), line in self.samples.items() if name.startswith(prefix)]
        line = max(lines, key=lambda line: line[-1][0] - line[0][0], default=[])
        parts: dict[int, list[int]] = {}
        for at, size in line:
            parts.setdefault(int((at - line[0][0]) // every), []).append(size)
        return [median(sizes) / 1024 for _, sizes in sorted(parts.items())]

    def typical(self, prefix: str) -> tuple[float, float, float] | None:
        """The medians of :meth:`lines`; ``None`` if no process lived long enough."""
        lines = self.lines(prefix)
        if not lines:
            return None
        first, last, growth = (median(column) for column in zip(*lines, strict=True))
        return first, last, growth


def _slope(points: list[tuple[float, int]]) -> float:
    """Least squares: KiB a second."""
    middle_x = fmean(x for x, _ in points)
    middle_y = fmean(y for _, y in points)
    across = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / across if across else 0.0
