"""Running ``process_launcher.py`` from the reactor."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

LAUNCHER: Final = Path(__file__).with_name("process_launcher.py")
SHIM: Final = Path(__file__).with_name("process_shim.py")

LINGER_SECONDS: Final = 1.0
"""How long a command's output is read on after its end, if something else has it open."""

MAX_OUTPUT: Final = 1024 * 1024
"""Most bytes of a command's output that are kept; what follows is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a launcher, or the command it became, ended."""

    exit_code: int
    """128 and the signal's number if a signal ended it."""
    output: bytes
    error_output: bytes


class _Launch(ProcessProtocol):
    def __init__(self, spec: dict[str, Any], exited: Callable[[], None] | None = None) -> None:
        self._exited = exited
        self._spec = spec
        self._out = bytearray()
        self._err = bytearray()
        self.exit_code: int | None = None
        self.done: Deferred[Ended] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(self._spec).encode())
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._out += data[: MAX_OUTPUT - len(self._out)]

    def errReceived(self, data: bytes) -> None:
        self._err += data[: MAX_OUTPUT - len(self._err)]

    def processExited(self, reason: Failure) -> None:
        status: Any = reason.value
        self.exit_code = 128 + status.signal if status.signal else status.exitCode
        if self._exited is not None:
            self._exited()

    def processEnded(self, reason: Failure) -> None:
        self.finish()

    def finish(self) -> None:
        """Answer, if nobody has."""
        if not self.done.called:
            self.done.callback(
                Ended(
                    exit_code=self.exit_code or 0,
                    output=bytes(self._out),
                    error_output=bytes(self._err),
                )
            )


def _spawn(reactor: Any, verb: str, launch: _Launch, fds: dict[int, Any]) -> Any:
    arguments = [sys.executable, "-I", "-S", str(LAUNCHER), verb]
    return reactor.spawnProcess(launch, sys.executable, arguments, env={}, childFDs=fds)


def launch(
    reactor: Any, verb: str, spec: dict[str, Any], lock: int | None = None
) -> Deferred[Ended]:
    """Let the launcher do something short; fires when it has let go of its descriptors.

    :param lock: given to it as descriptor 3, and closed here.
    """
    process = _Launch(spec)
    fds: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
    if lock is not None:
        fds[3] = lock
    try:
        _spawn(reactor, verb, process, fds)
    finally:
        if lock is not None:
            os.close(lock)
    return process.done


def run_command(reactor: Any, spec: dict[str, Any], timeout: float) -> Deferred[Ended | None]:
    """Run a command beside a container; its outputs come interleaved.

    :param timeout: seconds; then it is killed with its process group.
    :returns: how it ended, or ``None`` if it had to be killed. Cancelling kills it too.
    """

    def kill(_: object = None) -> None:
        try:
            pid = transport.pid
            # Until it has made its session, its group is the agent's.
            if pid is not None and os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                transport.signalProcess("KILL")
        except (ProcessExitedAlready, ProcessLookupError, PermissionError):
            pass
        transport.loseConnection()
        if timer.active():
            timer.cancel()

    result: Deferred[Ended | None] = Deferred(kill)

    def too_late() -> None:
        kill()
        result.callback(None)

    def linger() -> None:
        if timer.active():
            timer.cancel()
            lingering.append(reactor.callLater(LINGER_SECONDS, finish))

    def finish() -> None:
        transport.loseConnection()
        process.finish()

    def answer(ended: Ended) -> None:
        for call in (timer, *lingering):
            if call.active():
                call.cancel()
        if not result.called:
            result.callback(ended)

    lingering: list[Any] = []
    timer = reactor.callLater(timeout, too_late)
    process = _Launch(spec, linger)
    transport = _spawn(reactor, "exec", process, {0: "w", 1: "r", 2: "r"})
    process.done.addCallback(answer)
    return result
