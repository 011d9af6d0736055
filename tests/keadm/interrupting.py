"""Run ``keadm`` again and again, with Ctrl-C before its first, its second, its third … effect.

A program of its own: ``python -m tests.keadm.interrupting VERB…``. Each run is a process that goes
on from what the one before has left; the last is the one that got through. Then all of it once
more, on what is done already. Effects are what changes something outside the process: a file made,
written, renamed, removed; a program started, a signal sent. Prints a line for each run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from kubeedge_tx.keadm.main import VERBS, main

EFFECTS: Final = frozenset(
    {
        "fcntl.flock",
        "os.chmod",
        "os.kill",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
        "shutil.rmtree",
        "subprocess.Popen",
    }
)
"""Audit events. Source: Python's table of audit events."""

WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

MOST: Final = 200
"""Runs; more would mean that it does not get on."""


class Interrupter:
    """Presses Ctrl-C before the given effect.

    :ivar last: what was about to happen when it did.
    """

    def __init__(self, at: int) -> None:
        self._left = at
        self.last = ""

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at one audit event."""
        if self.last or not self._counts(event, arguments):
            return
        self._left -= 1
        if self._left == 0:
            self.last = f"{event} {arguments[0] if arguments else ''}"
            os.kill(os.getpid(), signal.SIGINT)

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return bool(arguments[2] & WRITES) and arguments[0] != os.devnull
        return event in EFFECTS


def run(words: Sequence[str], at: int) -> int:
    """Run it in a process of its own; returns its status."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        interrupter = Interrupter(at)
        sys.addaudithook(interrupter)
        status: Any = 1
        try:
            main(list(words), prog_name="keadm")
        except SystemExit as end:
            status = end.code
        finally:
            before = interrupter.last or "nothing"
            sys.stdout.write(f"run {at}: status {status}, before {before}\n")
            sys.stdout.flush()
            os._exit(status if isinstance(status, int) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def until_through(words: Sequence[str]) -> int:
    """Interrupt it later and later; returns the status of the run that was not."""
    import_module(f"kubeedge_tx.keadm.{VERBS[words[0]][0]}")  # once, and not in every run
    for at in range(1, MOST):
        status = run(words, at)
        if status != 130:
            return status
    return 130


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(until_through(sys.argv[1:]) or until_through(sys.argv[1:]))
