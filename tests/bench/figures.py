"""Figures, with what they were measured under, as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number."""

    bench: str
    what: str
    value: float
    unit: str
    promise: str = ""
    """What PRODUCT.md says about it."""
    conditions: str = ""
    samples: tuple[float, ...] = ()
    """What the value is the median of, if it is one."""


@dataclass(slots=True)
class Report:
    """Everything that one run has measured, printed while it is measured."""

    console: Console = field(default_factory=Console)
    figures: list[Figure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _bench: str = ""
    _conditions: str = ""

    @contextmanager
    def about(self, bench: str, conditions: str) -> Iterator[None]:
        """Say what the figures that follow belong to."""
        before = self._bench, self._conditions
        self._bench, self._conditions = bench, conditions
        try:
            yield
        finally:
            self._bench, self._conditions = before

    def add(
        self, what: str, value: float, unit: str, promise: str = "", samples: Sequence[float] = ()
    ) -> None:
        """Note one figure."""
        figure = Figure(
            bench=self._bench,
            what=what,
            value=value,
            unit=unit,
            promise=promise,
            conditions=self._conditions,
            samples=tuple(samples),
        )
        self.figures.append(figure)
        self.say(f"  {what}: {_number(value)} {unit}")

    def say(self, text: str) -> None:
        """Tell what goes on."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def problem(self, text: str) -> None:
        """Note that something could not be measured."""
        self.problems.append(text)
        self.say(f"not measured: {text}")

    def print_table(self) -> None:
        """Print all figures."""
        for name, value in machine().items():
            self.say(f"{name}: {value}")
        groups: dict[tuple[str, str], Table] = {}
        for figure in self.figures:
            key = figure.bench, figure.conditions
            if key not in groups:
                title = f"{figure.bench}: {figure.conditions}"
                table = groups[key] = Table(title=title, title_justify="left")
                for name in ("figure", "value", "unit", "promise"):
                    table.add_column(name, justify="right" if name == "value" else "left")
            groups[key].add_row(figure.what, _number(figure.value), figure.unit, figure.promise)
        for table in groups.values():
            self.console.print(table)
        for problem in self.problems:
            self.say(f"not measured: {problem}")

    def as_json(self) -> dict[str, Any]:
        """Give all figures as JSON."""
        return {
            "machine": machine(),
            "figures": [asdict(figure) for figure in self.figures],
            "not_measured": self.problems,
        }


def machine() -> dict[str, str]:
    """Describe what this runs on."""
    model = "unknown processor"
    memory = ""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            memory = f"{int(line.split()[1]) // 1024} MiB"
            break
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": load,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
