"""A full or a slow disk for one process: its system calls are tampered with, by ``strace``.

The filesystem and its other users notice nothing. The kernel lets go of the process when strace
ends, and strace is ended by the kernel when we are.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kubeedge_tx.errors import ConfigError

LONGEST_DELAY: Final = 60.0
"""Seconds by which one call can be late at most."""

STUBBORN: Final = 5.0
"""Seconds after which a strace that was told to let go is killed. It can wait for ever: for the
alarm of a delay that went off before it listened, of a process that was killed meanwhile."""

_WRITES: Final = "pwrite64,pwritev,pwritev2,fallocate"
"""With an offset: only files are written so. Databases (SQLite, bbolt, LevelDB's log apart) do."""
_SYNCS: Final = "fsync,fdatasync,sync_file_range,msync"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFaults:
    """What one process suffers."""

    full: bool = False
    """Writes at an offset fail with ENOSPC."""
    slow: float = 0.0
    """Seconds that each sync to the disk is late."""


class Injections:
    """Disk faults of processes, by their ids. One ``strace`` for each process that has some."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running: dict[int, _Strace] = {}

    def state(self) -> dict[str, DiskFaults]:
        """What is under way, by process id."""
        return {str(pid): each.faults for pid, each in self._running.items() if each.alive}

    async def no_space(self, pid: int, on: bool = True) -> None:
        """Let the process find the disk full, or not any more.

        :raises ConfigError: it may not be touched; says why.
        """
        await self._change("no-space", pid, full=on)

    async def slow(self, pid: int, seconds: float) -> None:
        """Make each sync of the process late; 0: not any more.

        :raises ConfigError: it may not be touched, or the time is out of bounds.
        """
        if not 0 <= seconds <= LONGEST_DELAY:
            raise ConfigError("slow-disk", f"{seconds:g} s is not within 0 and {LONGEST_DELAY:g}")
        await self._change("slow-disk", pid, slow=seconds)

    async def end(self, pid: int) -> None:
        """Let go of one process."""
        old = self._running.pop(pid, None)
        if old is not None:
            await old.stop()

    async def end_all(self) -> None:
        """Let go of all."""
        for pid in tuple(self._running):
            await self.end(pid)

    async def _change(self, what: str, pid: int, **changes: Any) -> None:
        if pid <= 1 or pid == os.getpid():
            raise ConfigError(what, f"pid {pid} is no process to be touched")
        old = self._running.get(pid)
        faults = replace(old.faults if old is not None and old.alive else DiskFaults(), **changes)
        await self.end(pid)  # a process has one tracer at a time
        if faults == DiskFaults():
            return
        tracer = _Strace(what, pid, faults)
        self._running[pid] = tracer
        try:
            await tracer.start(self._reactor)
        except BaseException:
            self._running.pop(pid, None)
            raise


class _Strace(ProcessProtocol):
    """One ``strace -p``: attached, or a reason why not."""

    def __init__(self, what: str, pid: int, faults: DiskFaults) -> None:
        self._what = what
        self._pid = pid
        self.faults = faults
        self.alive = False
        self._said = b""
        self._reactor: Any = None
        self._attached: Deferred[None] | None = None
        self._ended: Deferred[None] = Deferred()

    def start(self, reactor: Any) -> Deferred[None]:
        """Fires when the faults are in force."""
        # strace goes when we go, however we go.
        command = ["setpriv", "--pdeathsig", "TERM", "strace", *self._arguments()]
        for tool, package in (("strace", "strace"), ("setpriv", "util-linux")):
            if shutil.which(tool) is None:
                raise ConfigError(self._what, f"needs {tool}: apt-get install {package}")
        self._reactor = reactor
        attached = self._attached = Deferred()
        reactor.spawnProcess(self, command[0], command, env=dict(os.environ))
        return attached

    async def stop(self) -> None:
        """Let go; returns when it has."""
        if self.transport is None or self._ended.called:
            return
        self._signal("TERM")
        late = self._reactor.callLater(STUBBORN, self._signal, "KILL")
        await self._ended
        if late.active():
            late.cancel()

    def _signal(self, name: str) -> None:
        transport: IProcessTransport | None = self.transport
        assert transport is not None
        with suppress(ProcessExitedAlready):  # we hear of its end in a moment
            transport.signalProcess(name)

    def _arguments(self) -> list[str]:
        calls, tampering = [], []
        if self.faults.full:
            calls.append(_WRITES)
            tampering.append(f"--inject={_WRITES}:error=ENOSPC")
        if self.faults.slow:
            calls.append(_SYNCS)
            tampering.append(f"--inject={_SYNCS}:delay_enter={int(self.faults.slow * 1e6)}")
        # Threads, too: a database is often written from one of its own.
        return [
            *("-f", "-p", str(self._pid), "-o", "/dev/null"),
            *("-e", f"trace={','.join(calls)}", *tampering),
        ]

    def errReceived(self, data: bytes) -> None:
        if self._attached is None:
            return  # of threads that it attached to since
        self._said += data
        if b" attached" in self._said:
            self.alive = True
            attached, self._attached = self._attached, None
            attached.callback(None)

    def processEnded(self, reason: Failure) -> None:
        self.alive = False
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.errback(ConfigError(self._what, _why(self._said.decode(errors="replace"))))
        self._ended.callback(None)


def _why(said: str) -> str:
    lines = said.strip().splitlines() or ["strace ended and did not say why"]
    text = lines[-1].removeprefix("strace: ")
    if "Operation not permitted" in text:
        text += (
            "; root may, or the process's own user where /proc/sys/kernel/yama/ptrace_scope is 0, "
            "unless something else traces it already"
        )
    return text
