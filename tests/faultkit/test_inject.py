from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit import inject
from kubeedge_tx.faultkit.inject import DiskFaults, Injections
from tests.faultkit.machines import Program
from tests.requirements import requires

reactor: Any = _reactor

_SLOW = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from kubeedge_tx.faultkit.inject import Injections
async def main():
    await Injections(reactor).no_space(int(sys.argv[1]))
    print("attached", flush=True)
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
reactor.run()
"""


def tracer(pid: int) -> int:
    """Who traces a process; 0: nobody."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    raise AssertionError("no TracerPid")


@requires("strace")
class InjectionTests(TestCase):
    """A process that writes to a database, tampered with."""

    timeout = 60

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.writer = Program.writer(self, folder / "a.db")
        self.faults = Injections(reactor)
        self.addCleanup(self.faults.end_all)

    async def test_full(self) -> None:
        """The process finds the disk full, and not any more when it is over."""
        self.assertEqual((await self.writer.ask())[0], "")
        await self.faults.no_space(self.writer.pid)
        self.assertEqual((await self.writer.ask())[0], "SQLITE_FULL")
        self.assertEqual(self.faults.state(), {str(self.writer.pid): DiskFaults(full=True)})
        await self.faults.no_space(self.writer.pid, False)
        self.assertEqual((await self.writer.ask())[0], "")
        self.assertEqual((self.faults.state(), tracer(self.writer.pid)), ({}, 0))

    async def test_slow(self) -> None:
        """A commit takes as long as was asked for; faults add up, and end one by one."""
        await self.writer.ask()
        await self.faults.slow(self.writer.pid, 0.3)
        why, seconds = await self.writer.ask()
        self.assertEqual(why, "")
        self.assertGreaterEqual(seconds, 0.3)
        await self.faults.no_space(self.writer.pid)
        self.assertEqual((await self.writer.ask())[0], "SQLITE_FULL")
        await self.faults.slow(self.writer.pid, 0)
        self.assertEqual((await self.writer.ask())[0], "SQLITE_FULL")

    async def test_stubborn(self) -> None:
        """A tracer that does not let go when it is told to is killed; the process goes on."""
        self.patch(inject, "STUBBORN", 0.1)
        await self.writer.ask()
        await self.faults.no_space(self.writer.pid)
        os.kill(tracer(self.writer.pid), signal.SIGSTOP)
        await self.faults.end(self.writer.pid)
        self.assertEqual(tracer(self.writer.pid), 0)
        self.assertEqual((await self.writer.ask())[0], "")

    async def test_target_ends(self) -> None:
        """A process that ends under its faults is forgotten."""
        await self.writer.ask()
        await self.faults.no_space(self.writer.pid)
        os.kill(self.writer.pid, signal.SIGKILL)
        while self.faults.state():
            await deferLater(reactor, 0.02)
        await self.faults.end(self.writer.pid)

    async def test_killed(self) -> None:
        """The process is let go when the fault kit is killed."""
        await self.writer.ask()
        kit = Program.start(self, [sys.executable, "-c", _SLOW, str(self.writer.pid)])
        while not tracer(self.writer.pid):
            await deferLater(reactor, 0.02)
        kit.end()
        while tracer(self.writer.pid):
            await deferLater(reactor, 0.02)
        self.assertEqual((await self.writer.ask())[0], "")

    async def test_refused(self) -> None:
        """No such process, ourselves, or no such delay: it says so."""
        for pid in (-1, 0, 1, os.getpid()):
            with self.assertRaisesRegex(ConfigError, "no process to be touched"):
                await self.faults.no_space(pid)
        await self.writer.ask()
        for seconds in (-1.0, 1e9, float("nan")):
            with self.assertRaisesRegex(ConfigError, "is not within"):
                await self.faults.slow(self.writer.pid, seconds)
        gone = self.writer.pid
        await self.writer.end()  # type: ignore[misc]
        with self.assertRaisesRegex(ConfigError, "no-space: .*No such process"):
            await self.faults.no_space(gone)

    async def test_traced_already(self) -> None:
        """One that somebody else traces is left alone; the text says what may be the matter."""
        await self.writer.ask()
        await self.faults.no_space(self.writer.pid)
        with self.assertRaisesRegex(ConfigError, "unless something else traces it already"):
            await Injections(reactor).slow(self.writer.pid, 0.1)


class NoStraceTests(TestCase):
    """Without the tool."""

    async def test_absent(self) -> None:
        """The reader is told what to install."""
        self.patch(os, "environ", {**os.environ, "PATH": "/nowhere"})
        with self.assertRaisesRegex(ConfigError, "needs strace: apt-get install strace"):
            await Injections(reactor).no_space(2)
