"""``python -m kubeedge_tx.faultkit.holder``: keeps a clock wrong, and puts it right at the end.

A process of its own, so that the clock is put right also when the fault kit is killed: it reads
seconds, one number a line, and answers ``ok`` or what is wrong. At the end of its input the
clock is right again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

Shift = Callable[[float], None]
"""Make a clock wrong by so many seconds, counted from the right time."""


def machine_clock(
    gettime: Callable[[int], float] = time.clock_gettime,
    settime: Callable[[int, float], None] = time.clock_settime,
) -> Shift:
    """The clock of this machine. The right time is what it says now."""
    # It counts on while somebody turns the other one, and while the machine sleeps.
    steady = time.CLOCK_BOOTTIME
    base = gettime(time.CLOCK_REALTIME) - gettime(steady)

    def shift(seconds: float) -> None:
        settime(time.CLOCK_REALTIME, gettime(steady) + base + seconds)

    return shift


def file_clock(path: Path) -> Shift:
    """The clock of processes that were started by ``faultkit run --clock``."""

    def shift(seconds: float) -> None:
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_text(f"{seconds:+.3f}\n")
        beside.replace(path)

    return shift


def hold(shift: Shift, lines: Iterable[str], answers: TextIO) -> None:
    """Obey until the input ends, then put the clock right if it is not."""
    wrong = 0.0
    try:
        for line in lines:
            try:
                shift(wanted := float(line))
            except (OSError, ValueError, OverflowError) as error:
                answer = getattr(error, "strerror", None) or str(error)
            else:
                answer, wrong = "ok", wanted
            answers.write(f"{answer}\n")
            answers.flush()
    finally:
        if wrong:
            shift(0.0)


def main() -> None:
    """Hold the clock that the first argument names: ``machine``, or a file's path."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the end of the input is what ends it
    name = sys.argv[1]
    hold(machine_clock() if name == "machine" else file_clock(Path(name)), sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
