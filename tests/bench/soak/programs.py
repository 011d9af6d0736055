"""A program of the soak: started, killed, held, started again, and looked at."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.system.roles import until


class Program(ProcessProtocol):
    """One program and its successive processes; what they print goes into one file.

    :ivar deaths: how it ended when nobody had asked it to, one line for each.
    :ivar may_quit: it has a reason to end by itself: its disk was full.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        command: list[str],
        data_dir: Path,
        env: dict[str, str],
    ) -> None:
        self._reactor = reactor
        self.name = name
        self.data_dir = data_dir
        self.log = data_dir.with_suffix(".log")
        self._command = command
        self._env = env
        self._waiting: list[Deferred[None]] = []
        self._asked = False
        self.pid = 0
        """0 while it does not run."""
        self.is_held = False
        self.deaths: list[str] = []
        self.may_quit = False
        self.has_quit = False

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid:
            return
        (self.data_dir / "ready.json").unlink(missing_ok=True)
        self._asked = self.is_held = self.has_quit = False
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self._reactor.spawnProcess(
                self,
                self._command[0],
                self._command,
                env=self._env,
                childFDs={0: nothing, 1: log, 2: log},
            )
        finally:
            os.close(log)
            os.close(nothing)
        assert self.transport is not None
        self.pid = self.transport.pid

    def processEnded(self, reason: Failure) -> None:
        if not self._asked and self.may_quit:
            self.has_quit = True
        elif not self._asked:
            self.deaths.append(f"{self.name} ended by itself: {reason.getErrorMessage()}")
        self.pid = 0
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    def is_ready(self) -> dict[str, int] | None:
        """The ports of the process that runs, once it is ready."""
        try:
            found = json.loads((self.data_dir / "ready.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return dict(found["ports"]) if found["pid"] == self.pid else None

    async def ready(self) -> dict[str, int]:
        """Wait until it is ready; returns its ports."""

        def look() -> dict[str, int] | None:
            if self.deaths:
                raise AssertionError(f"{self.deaths[-1]}: {self.tail()}")
            return self.is_ready()

        ports: dict[str, int] = await until(f"{self.name} to be ready", look, patience=180)
        return ports

    def hold(self) -> None:
        """SIGSTOP: it hangs."""
        self._signal(signal.SIGSTOP)
        self.is_held = bool(self.pid)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.is_held = False

    def kill(self) -> Deferred[None]:
        """SIGKILL; fires when it is gone."""
        return self._end(signal.SIGKILL)

    def stop(self) -> Deferred[None]:
        """SIGTERM, and SIGKILL if it does not obey; fires when it is gone."""
        self.go_on()
        late = self._reactor.callLater(30, self._signal, signal.SIGKILL)

        def over(_: None) -> None:
            if late.active():
                late.cancel()

        return self._end(signal.SIGTERM).addCallback(over)

    def _end(self, number: int) -> Deferred[None]:
        self._asked = True
        if not self.pid:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        self._signal(number)
        return done

    def _signal(self, number: int) -> None:
        if self.pid and self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(number)

    def memory_kb(self) -> int:
        """Resident memory; 0 while it does not run."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0

    def tail(self, count: int = 3000) -> str:
        """The last that it printed."""
        return self.log.read_text(errors="replace")[-count:] if self.log.exists() else ""

    def tracebacks(self) -> list[str]:
        """The errors in its log that nobody had foreseen, some lines of each."""
        lines = self.tail(1 << 30).splitlines()
        return [
            "\n".join(lines[max(0, at - 2) : at + 25])
            for at, line in enumerate(lines)
            if "Traceback" in line
        ]
