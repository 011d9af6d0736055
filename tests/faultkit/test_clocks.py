from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.__main__ import main
from kubeedge_tx.faultkit.clocks import MACHINE, Clocks, environment, find_library
from kubeedge_tx.faultkit.holder import hold, machine_clock
from tests.faultkit.machines import Program
from tests.requirements import requires

reactor: Any = _reactor

HOUR = 3600.0

_HOLDING = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from kubeedge_tx.faultkit.clocks import Clocks
async def main():
    await Clocks(reactor).shift(sys.argv[1], 3600)
    print("shifted", flush=True)
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
reactor.run()
"""


@requires("libfaketime")
class ProcessClockTests(TestCase):
    """A process that was started for it."""

    timeout = 60

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.file = folder.resolve() / "clock"
        command = (sys.executable, "-m", "kubeedge_tx.faultkit", "run", "--clock", str(self.file))
        self.teller = Program.teller(self, *command, "--")
        self.clocks = Clocks(reactor)
        self.addCleanup(self.clocks.all_right)

    async def off(self) -> float:
        """By how much the process's clock is wrong."""
        wall, _ = await self.teller.ask()
        return float(wall - time.time())

    async def becomes(self, seconds: float) -> None:
        while abs(await self.off() - seconds) > 60:
            await deferLater(reactor, 0.05)

    async def test_jumps(self) -> None:
        """It jumps an hour ahead, an hour back, and is right again; monotonic time goes on."""
        _, begin = await self.teller.ask()
        for seconds in (HOUR, -HOUR):
            await self.clocks.shift(str(self.file), seconds)
            await self.becomes(seconds)
            self.assertEqual(self.clocks.state(), {str(self.file): seconds})
        await self.clocks.right(str(self.file))
        await self.becomes(0)
        _, end = await self.teller.ask()
        self.assertTrue(0 < end - begin < 60)

    async def test_killed(self) -> None:
        """It is right again when the fault kit is killed."""
        await self.teller.ask()
        kit = Program.start(self, [sys.executable, "-c", _HOLDING, str(self.file)])
        await self.becomes(HOUR)
        kit.end()
        await self.becomes(0)


class RefusedTests(TestCase):
    """What cannot be done, said."""

    timeout = 30

    async def test_no_such_clock(self) -> None:
        """A file that cannot be made is no clock."""
        with self.assertRaisesRegex(ConfigError, "clock: /nowhere/clock: No such file"):
            await Clocks(reactor).shift("/nowhere/clock", 1)

    async def test_cannot_be_written(self) -> None:
        """A clock that cannot be set is an error that names it, and nothing is held."""
        clocks = Clocks(reactor)
        with self.assertRaisesRegex(ConfigError, "clock: /proc/self/status: No such file"):
            await clocks.shift("/proc/self/status", 1)
        self.assertEqual(clocks.state(), {})

    @requires("root")
    async def test_machine(self) -> None:
        """The machine's clock can be set by root: here to what it says."""
        clocks = Clocks(reactor)
        try:
            await clocks.shift(MACHINE, 0.0)
        except ConfigError as error:  # in a container
            self.assertIn("CAP_SYS_TIME", str(error))
        else:
            self.assertEqual(clocks.state(), {MACHINE: 0.0})
        await clocks.all_right()


class HolderTests(SynchronousTestCase):
    """What keeps a clock wrong."""

    def clocks(self, steady: float, wall: float) -> dict[int, float]:
        return {time.CLOCK_BOOTTIME: steady, time.CLOCK_REALTIME: wall}

    def test_machine_clock(self) -> None:
        """Each shift counts from the right time, which has gone on meanwhile."""
        now = self.clocks(100.0, 5000.0)
        shift = machine_clock(now.__getitem__, now.__setitem__)
        now[time.CLOCK_BOOTTIME] += 10
        shift(-HOUR)
        self.assertEqual(now[time.CLOCK_REALTIME], 5010.0 - HOUR)
        now[time.CLOCK_BOOTTIME] += 10
        shift(0.0)
        self.assertEqual(now[time.CLOCK_REALTIME], 5020.0)

    def test_end(self) -> None:
        """At the end of its input the clock is put right, if it was made wrong."""
        for lines, expected in (
            (["5\n", "x\n", "-7.5\n"], [5.0, -7.5, 0.0]),
            (["3\n", "0\n"], [3.0, 0.0]),
            ([], []),
        ):
            done: list[float] = []
            answers = io.StringIO()
            hold(done.append, lines, answers)
            self.assertEqual(done, expected)
            self.assertEqual(
                [answer == "ok" for answer in answers.getvalue().splitlines()],
                [line != "x\n" for line in lines],
            )

    def test_not_permitted(self) -> None:
        """What the system says is the answer, and nothing is undone that was not done."""

        def refuse(seconds: float) -> None:
            raise PermissionError(1, os.strerror(1))

        answers = io.StringIO()
        hold(refuse, ["5\n"], answers)
        self.assertEqual(answers.getvalue(), "Operation not permitted\n")


class RunTests(SynchronousTestCase):
    """Starting a program with a clock of its own."""

    def test_environment(self) -> None:
        """What is preloaded already stays."""
        here = environment(Path("/lib/x.so"), Path("/c"), {"LD_PRELOAD": "y.so", "A": "b"})
        self.assertEqual((here["LD_PRELOAD"], here["A"]), ("/lib/x.so:y.so", "b"))
        self.assertEqual(here["FAKETIME_TIMESTAMP_FILE"], "/c")

    def test_not_there(self) -> None:
        """A library that is not installed, or a program that is none, is said."""
        with self.assertRaisesRegex(ConfigError, "apt-get install libfaketime"):
            find_library(("/nowhere",))
        result = CliRunner().invoke(main, ["run", "--clock", "/nowhere/c", "--", "no-such-thing"])
        self.assertNotEqual(result.exit_code, 0)
        self.assertRegex(result.output, "no program no-such-thing|libfaketime")
