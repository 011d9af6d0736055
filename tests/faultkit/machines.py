"""A small disk, a program that writes to one, and one that says what time it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import TestCase

reactor: Any = _reactor

SMALL: Final = 8 * 1024 * 1024
"""Bytes of a small disk."""

_WRITER: Final = """
import json, sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
database.execute("CREATE TABLE IF NOT EXISTS t (x)")
for line in sys.stdin:
    began = time.monotonic()
    try:
        database.execute("INSERT INTO t VALUES (zeroblob(5000))")
        why = ""
    except sqlite3.Error as error:
        why = error.sqlite_errorname
    print(json.dumps([why, time.monotonic() - began]), flush=True)
"""

_TELLER: Final = """
import json, sys, time
for line in sys.stdin:
    print(json.dumps([time.time(), time.monotonic()]), flush=True)
"""


def small_disk(test: TestCase, size: int = SMALL) -> Path:
    """Mount a small filesystem for the length of a test; needs root."""
    folder = Path(test.mktemp())
    folder.mkdir(parents=True)
    folder = folder.resolve()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(folder)], check=True
    )
    test.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
    return folder


class Program(ProcessProtocol):
    """Answers each line with a line of JSON."""

    def __init__(self) -> None:
        self._said = b""
        self._asked: list[Deferred[Any]] = []
        self.ended: Deferred[None] = Deferred()
        self.over = False
        self.signal: int | None = None
        """What ended it."""

    @classmethod
    def start(cls, test: TestCase, command: list[str]) -> Program:
        """Start it; the test's end is its end."""
        program = cls()
        reactor.spawnProcess(program, command[0], command, env=None)
        test.addCleanup(program.end)
        return program

    @classmethod
    def writer(cls, test: TestCase, database: Path) -> Program:
        """One that writes a row for each question; the answer is why not, and seconds."""
        return cls.start(test, [sys.executable, "-c", _WRITER, str(database)])

    @classmethod
    def teller(cls, test: TestCase, *before: str) -> Program:
        """One that says wall clock and monotonic clock."""
        return cls.start(test, [*before, sys.executable, "-c", _TELLER])

    @property
    def pid(self) -> int:
        assert self.transport is not None
        pid: int = self.transport.pid
        return pid

    def ask(self) -> Deferred[Any]:
        """One question."""
        answer: Deferred[Any] = Deferred()
        self._asked.append(answer)
        transport: Any = self.transport
        transport.write(b"\n")
        return answer

    def end(self) -> Deferred[None] | None:
        """End it."""
        transport: Any = self.transport
        if self.over:
            return None
        transport.signalProcess("KILL")
        return self.ended

    def outReceived(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines if self._asked else ():
            self._asked.pop(0).callback(json.loads(line))

    def processEnded(self, reason: Any) -> None:
        self.over = True
        self.signal = reason.value.signal
        self.ended.callback(None)
