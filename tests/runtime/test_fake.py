from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from kubeedge_tx.runtime.interfaces import ExecResult
from tests.fakes.runtime import FakeRuntime, Program
from tests.runtime.contract import RuntimeContract

_reactor: Any = reactor


class FakeRuntimeTests(RuntimeContract, TestCase):
    """The fake keeps the contract, so tests with it say something of the others."""

    fake: FakeRuntime

    def make_runtime(self) -> FakeRuntime:
        self.fake = FakeRuntime(_reactor)
        return self.fake

    def _does(self, name: str, program: Program) -> tuple[str, ...]:
        self.fake.programs[(name,)] = program
        self.fake.programs[("no-such-program",)] = Program(not_found=True)
        return (name,)

    def shell(self, script: str) -> tuple[str, ...]:
        return self._does("traps", Program(output=b"ready\n", on_sigterm=9))

    def sleeps(self) -> tuple[str, ...]:
        return self._does("sleeps", Program())

    def exits(self, code: int) -> tuple[str, ...]:
        return self._does(f"exits-{code}", Program(exits=code))

    def prints(self, *lines: str) -> tuple[str, ...]:
        output = "".join(f"{line}\n" for line in lines).encode()
        return self._does("prints", Program(output=output, exits=0))

    def stubborn(self) -> tuple[str, ...]:
        return self._does("stubborn", Program(output=b"ready\n", ignores_sigterm=True))

    def echo(self, text: str, code: int) -> tuple[str, ...]:
        self.fake.execs[("echo", text)] = ExecResult(exit_code=code, output=f"{text}\n".encode())
        return ("echo", text)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.fake.programs[("no-such-program",)] = Program(not_found=True)
