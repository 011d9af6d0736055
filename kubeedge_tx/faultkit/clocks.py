"""Clocks that jump: of this machine, or of processes that were started for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kubeedge_tx.errors import ConfigError

MACHINE: Final = "machine"
"""The name of the machine's own clock; any other name is a file's path."""

_LIBRARIES: Final = ("/usr/lib", "/usr/local/lib", "/usr/lib64")
_LIBRARY: Final = "libfaketimeMT.so.1"


def find_library(folders: tuple[str, ...] = _LIBRARIES) -> Path:
    """Where libfaketime is on this machine.

    :raises ConfigError: nowhere.
    """
    for folder in folders:
        for pattern in (f"faketime/{_LIBRARY}", f"*/faketime/{_LIBRARY}"):
            for found in Path(folder).glob(pattern):
                return found
    raise ConfigError("run", f"needs libfaketime ({_LIBRARY}): apt-get install libfaketime")


def environment(library: Path, clock: Path, old: Mapping[str, str]) -> dict[str, str]:
    """What a program must be started with so that ``clock`` says how wrong its clock is.

    Its monotonic clock and the times of its files stay true: a jump is what a machine's clock
    does when somebody sets it. It notices within a second.
    """
    before = old.get("LD_PRELOAD")
    return {
        **old,
        "LD_PRELOAD": f"{library}:{before}" if before else str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock.absolute()),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
        "NO_FAKE_STAT": "1",
    }


def run(clock: Path, command: list[str]) -> None:
    """Become ``command``, with a clock that :class:`Clocks` can shift by the file's path.

    :raises ConfigError: libfaketime or the program is not there.
    """
    library = find_library()
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError("run", f"there is no program {command[0]}")
    if not clock.exists():
        clock.write_text("+0\n")
    os.execve(program, command, environment(library, clock, os.environ))  # noqa: S606


class Clocks:
    """Keeps clocks wrong, by their names; they are right again when this process ends."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._holders: dict[str, _Holder] = {}
        self._lock = DeferredLock()
        self._off: dict[str, float] = {}

    def state(self) -> dict[str, float]:
        """Seconds by which each clock is wrong."""
        return dict(self._off)

    async def shift(self, name: str, seconds: float) -> None:
        """Make a clock wrong by so many seconds, counted from the right time.

        :param name: :data:`MACHINE`, or the file that ``run`` was given, or will be.
        :raises ConfigError: it cannot be set; says why.
        """
        await self._lock.acquire()
        try:
            await self._shift(name, seconds)
        finally:
            self._lock.release()

    async def right(self, name: str) -> None:
        """Put one clock right."""
        self._off.pop(name, None)
        holder = self._holders.pop(name, None)
        if holder is not None:
            await holder.close()

    async def all_right(self) -> None:
        """Put all clocks right."""
        for name in tuple(self._holders):
            await self.right(name)

    async def _shift(self, name: str, seconds: float) -> None:
        holder = self._holders.get(name)
        if holder is None or holder.over:
            holder = self._holders[name] = _Holder()
            holder.start(self._reactor, name)
        answer = await holder.say(f"{seconds!r}\n")
        if answer == "ok":
            self._off[name] = seconds
            return
        await self.right(name)
        if name == MACHINE and "permitted" in answer:
            answer += "; only root sets a machine's clock, and in a container with CAP_SYS_TIME"
        raise ConfigError("clock", f"{name}: {answer}")


class _Holder(ProcessProtocol):
    """One ``faultkit.holder``."""

    def __init__(self) -> None:
        self.over = False
        self._said = b""
        self._complained = b""
        self._answer: Deferred[str] | None = None
        self._ended: Deferred[None] = Deferred()

    def start(self, reactor: Any, name: str) -> None:
        command = [sys.executable, "-m", "kubeedge_tx.faultkit.holder", name]
        reactor.spawnProcess(self, command[0], command, env=dict(os.environ))

    def say(self, line: str) -> Deferred[str]:
        """Send a line; fires with the answer."""
        answer = self._answer = Deferred()
        transport: Any = self.transport
        transport.write(line.encode("ascii"))
        return answer

    async def close(self) -> None:
        """End it, and with it the fault."""
        if not self.over:
            transport: Any = self.transport
            transport.closeStdin()
            await self._ended

    def outReceived(self, data: bytes) -> None:
        self._said += data
        if self._answer is not None and b"\n" in self._said:
            line, _, self._said = self._said.partition(b"\n")
            answer, self._answer = self._answer, None
            answer.callback(line.decode())

    def errReceived(self, data: bytes) -> None:
        self._complained += data

    def processEnded(self, reason: Failure) -> None:
        self.over = True
        answer, self._answer = self._answer, None
        if answer is not None:
            last = self._complained.decode(errors="replace").strip().splitlines()
            answer.callback(last[-1] if last else "its holder ended and did not say why")
        self._ended.callback(None)
