"""What the process takes of the machine, under Prometheus' usual names. Source: proc(5)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kubeedge_tx.observe.metrics import Metrics

PROC: Final = Path("/proc/self")


def add_process(metrics: Metrics, version: str, *, proc: Path = PROC) -> None:
    """Show version, memory, CPU and files; where there is no ``/proc``, the version alone.

    :param version: of the program.
    :param proc: the process' folder in ``/proc``.
    """
    metrics.gauge(
        "kubeedge_build_info", "1; the label is the version.", ("version",), lambda: {(version,): 1}
    )
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    metrics.gauge(
        "process_resident_memory_bytes",
        "Memory of this process that is in RAM.",
        read=_if_there(lambda: float(_words(proc / "statm")[1]) * page),
    )
    metrics.counter(
        "process_cpu_seconds_total",
        "CPU time of this process, user and system.",
        read=_if_there(lambda: sum(map(float, _after_name(proc / "stat")[11:13])) / tick),
    )
    metrics.gauge(
        "process_open_fds",
        "Open files and sockets of this process.",
        read=_if_there(lambda: float(len(os.listdir(proc / "fd")))),  # noqa: PTH208 - a count
    )
    metrics.gauge(
        "process_threads",
        "Threads of this process.",
        read=_if_there(lambda: float(_after_name(proc / "stat")[17])),
    )


def _if_there(look: Callable[[], float]) -> Callable[[], float | dict[tuple[str, ...], float]]:
    def read() -> float | dict[tuple[str, ...], float]:
        try:
            return look()
        except OSError:
            return {}

    return read


def _words(path: Path) -> list[str]:
    return path.read_text().split()


def _after_name(path: Path) -> list[str]:
    """The fields of ``stat`` from the third on: the second is a name, with anything in it."""
    return path.read_text().rpartition(")")[2].split()
