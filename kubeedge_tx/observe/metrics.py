"""Counters, gauges and histograms, and their Prometheus text form.

Our own writer: ``prometheus_client`` costs an edge agent 12 MB. Names follow Prometheus'
rules (``_total``, ``_seconds``, ``_bytes``). Source: Prometheus text format 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Default histogram buckets, for durations."""

LAGS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86400.0)
"""Histogram buckets for what waits for a link: from the same switch to a day away, in seconds."""

MOST_SERIES: Final = 200
"""Series of one counter or histogram; what comes after them is counted as ``other``."""

OTHER: Final = "other"

Labels = tuple[str, ...]
Values = Mapping[Labels, float]
Read = Callable[[], float | Values]
"""Looks a number up when somebody asks; or numbers, by the values of their labels."""
F = TypeVar("F", bound="_Family")


class _Family(Protocol):
    name: str
    help: str
    kind: str

    def samples(self) -> Iterable[tuple[str, str, float]]:
        """Name suffix, label text, value."""


def _label_text(names: Labels, values: Labels, more: str = "") -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True)]
    if more:
        pairs.append(more)
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _read(read: Read) -> Values:
    now = read()
    return now if isinstance(now, Mapping) else {(): now}


class Counter:
    """A number that only grows: counted here, or read by a function when somebody asks.

    A label may be what a peer sent or is called: there are at most :data:`MOST_SERIES`.
    """

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Labels = (), read: Read | None = None) -> None:
        self.name, self.help, self._labels, self._read = name, help, labels, read
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add ``by`` to the series with these label values."""
        before = self._values.get(labels)
        if before is None:
            if len(self._values) >= MOST_SERIES:
                labels = (OTHER,) * len(labels)
            before = self._values.get(labels, 0.0)
        self._values[labels] = before + by

    def value(self, *labels: str) -> float:
        """Read one series."""
        return self._values.get(labels, 0.0)

    def samples(self) -> Iterable[tuple[str, str, float]]:
        values = self._values if self._read is None else _read(self._read)
        for labels, number in values.items():
            yield "", _label_text(self._labels, labels), number


class Gauge:
    """A number that goes up and down: set, or read by a function when somebody asks."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help: str,
        labels: Labels = (),
        read: Read | None = None,
    ) -> None:
        self.name, self.help, self._labels, self._read = name, help, labels, read
        self._values: dict[Labels, float] = {}

    def set(self, value: float, *labels: str) -> None:
        """Set the series with these label values."""
        self._values[labels] = value

    def remove(self, *labels: str) -> None:
        """Forget a series: its node is gone."""
        self._values.pop(labels, None)

    def samples(self) -> Iterable[tuple[str, str, float]]:
        values = self._values if self._read is None else _read(self._read)
        for labels, number in values.items():
            yield "", _label_text(self._labels, labels), number


class Histogram:
    """How values are spread over buckets."""

    kind = "histogram"

    def __init__(
        self, name: str, help: str, labels: Labels = (), buckets: tuple[float, ...] = SECONDS
    ) -> None:
        self.name, self.help, self._labels, self._buckets = name, help, labels, buckets
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        counts = self._counts.get(labels)
        if counts is None:
            if len(self._counts) >= MOST_SERIES:
                labels = (OTHER,) * len(labels)
            counts = self._counts.setdefault(labels, [0] * (len(self._buckets) + 1))
            self._sums.setdefault(labels, 0.0)
        counts[bisect_left(self._buckets, value)] += 1
        self._sums[labels] += value

    def samples(self) -> Iterable[tuple[str, str, float]]:
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip((*self._buckets, float("inf")), counts, strict=True):
                total += count
                edge = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield "_bucket", _label_text(self._labels, labels, f'le="{edge}"'), total
            yield "_sum", _label_text(self._labels, labels), self._sums[labels]
            yield "_count", _label_text(self._labels, labels), total


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def counter(
        self, name: str, help: str, labels: Labels = (), read: Read | None = None
    ) -> Counter:
        """Add a counter; its name ends in ``_total``. ``read`` as for a gauge."""
        return self._add(Counter(name, help, labels, read))

    def gauge(
        self,
        name: str,
        help: str,
        labels: Labels = (),
        read: Read | None = None,
    ) -> Gauge:
        """Add a gauge; ``read`` gives its value, or its values by label, when asked."""
        return self._add(Gauge(name, help, labels, read))

    def histogram(
        self, name: str, help: str, labels: Labels = (), buckets: tuple[float, ...] = SECONDS
    ) -> Histogram:
        """Add a histogram."""
        return self._add(Histogram(name, help, labels, buckets))

    def text(self) -> str:
        """Write all of them in Prometheus' text form."""
        lines = []
        for family in self._families.values():
            lines.append(f"# HELP {family.name} {family.help}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += [
                f"{family.name}{suffix}{labels} {number:.17g}"
                for suffix, labels, number in family.samples()
            ]
        return "\n".join(lines) + "\n"

    def _add(self, family: F) -> F:
        assert family.name not in self._families, f"two metrics named {family.name}"
        self._families[family.name] = family
        return family
