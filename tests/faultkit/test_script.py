from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.kit import Kit
from kubeedge_tx.faultkit.proxy import Faults, Pipe, Proxy
from kubeedge_tx.faultkit.script import DEEDS, Step, perform, read_line, read_steps
from tests.faultkit.machines import Program, small_disk
from tests.requirements import requires

reactor: Any = _reactor


class ScriptTests(SynchronousTestCase):
    """What may be said."""

    def setUp(self) -> None:
        self.kit = Kit(Clock(), Proxy(Clock(), random.Random(1), "127.0.0.1", 1))

    def perform(self, step: Step, kit: Kit | None = None) -> dict[str, Any]:
        results: list[Any] = []
        Deferred.fromCoroutine(perform(step, kit or self.kit)).addBoth(results.append)
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        state: dict[str, Any] = result
        return state

    def test_steps(self) -> None:
        """A script is sorted by time; a line changes some faults and leaves the others."""
        text = b"- {at: 5, do: heal}\n- {at: 1, do: set, direction: up, faults: {latency: 0.5}}\n"
        steps = read_steps(text)
        self.assertEqual([step.do for step in steps], ["set", "heal"])
        self.perform(steps[0])
        state = self.perform(read_line(b'{"do": "set", "faults": {"silent": true}}'))
        self.assertEqual(state["faults"]["up"]["latency"], 0.5)
        self.assertTrue(state["faults"]["up"]["silent"] and state["faults"]["down"]["silent"])
        self.assertFalse(self.perform(steps[1])["faults"]["up"]["silent"])

    def test_nonsense(self) -> None:
        """What it does not understand it says, and does nothing."""
        for line in (
            b"{",
            b'{"do": "dance"}',
            b'{"do": "set", "faults": {"magic": 1}}',
            b'{"do": "set", "faults": {"latency": -1}}',
            b'{"do": "set", "faults": {"cut_after": 0.5}}',
            b'{"do": "set", "direction": "left"}',
            b'{"do": "kill"}',
            b'{"do": "kill", "pid": 1}',
            b'{"do": "kill", "pid": 99999999}',
            b'{"do": "fill"}',
            b'{"do": "fill", "path": "/", "leave": -1}',
            b'{"do": "fill", "path": "/"}',
            b'{"do": "no-space"}',
            b'{"do": "slow-disk", "pid": 2, "seconds": -1}',
            b'{"do": "clock", "seconds": 5}',
            b'{"do": "clock", "path": "machine", "seconds": 5}',
        ):
            with self.assertRaises(ConfigError, msg=line):
                self.perform(read_line(line))
        self.assertRaises(ConfigError, read_steps, b"- {do: 5}")

    def test_cut(self) -> None:
        """A control line cuts a connection after so many bytes."""
        faults: Any = read_line(b'{"do": "set", "faults": {"cut_after": 5}}').faults
        pipe = Pipe(Clock(), random.Random(1), Faults(**faults))
        pipe.sink = sink = StringTransport()
        cuts: list[bytes] = []
        pipe.cut = lambda: cuts.append(sink.value())
        pipe.take(b"1234567")
        self.assertEqual(cuts, [b"12345"])

    def test_no_link(self) -> None:
        """Without a link, what is done to one is refused, and the rest is not."""
        kit = Kit(Clock())
        for deed in ("set", "reset", "refuse"):
            with self.assertRaisesRegex(ConfigError, "faultkit proxy"):
                self.perform(Step(do=deed), kit)
        self.assertEqual(
            self.perform(Step(do="heal"), kit),
            {"full": {}, "stopped": [], "processes": {}, "clocks": {}},
        )

    def test_documented(self) -> None:
        """Everything that can be done is in the documentation."""
        text = (Path(__file__).parents[2] / "docs/faultkit.rst").read_text()
        self.assertEqual([deed for deed in DEEDS if f"``{deed}``" not in text], [])


class MachineTests(TestCase):
    """Steps that touch this machine."""

    timeout = 60

    async def test_processes(self) -> None:
        """A process is stopped, goes on, and is killed."""
        teller = Program.teller(self)
        await teller.ask()
        kit = Kit(reactor)
        await perform(Step(do="stop", pid=teller.pid), kit)
        while "\nState:\tT" not in Path(f"/proc/{teller.pid}/status").read_text():
            await deferLater(reactor, 0.01)
        answer = teller.ask()
        self.assertEqual(kit.state()["stopped"], [teller.pid])
        await perform(Step(do="continue", pid=teller.pid), kit)
        await answer
        await perform(Step(do="stop", pid=teller.pid), kit)
        await perform(Step(do="heal"), kit)
        await teller.ask()
        await perform(Step(do="kill", pid=teller.pid), kit)
        await teller.ended
        self.assertEqual(teller.signal, signal.SIGKILL)

    @requires("root")
    @requires("strace")
    async def test_heal(self) -> None:
        """Everything that lasts is over after one word."""
        folder = small_disk(self)
        writer = Program.writer(self, folder / "a.db")
        await writer.ask()
        kit = Kit(reactor)
        self.addCleanup(kit.heal)
        await perform(Step(do="fill", path=str(folder)), kit)
        state = await perform(Step(do="slow-disk", pid=writer.pid, seconds=0.05), kit)
        self.assertEqual(state["full"][str(folder)]["free"], 0)
        self.assertEqual(state["processes"][str(writer.pid)], {"full": False, "slow": 0.05})
        state = await perform(Step(do="heal"), kit)
        self.assertEqual((state["full"], state["processes"]), ({}, {}))
        self.assertEqual((await writer.ask())[0], "")
