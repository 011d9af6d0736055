"""One container of the ``process`` runtime, as the agent has it in memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from kubeedge_tx.runtime import process_records as records
from kubeedge_tx.runtime.interfaces import ContainerState
from kubeedge_tx.runtime.process_logs import log_files
from kubeedge_tx.runtime.process_records import ContainerRecord, ExitRecord, RunningRecord


@implementer(IReadDescriptor)
class ShimWatch:
    """A pidfd: tells when its process has ended, and signals no other.

    :param fd: owned from now on.
    :param ended: called once, from the reactor.
    """

    def __init__(self, reactor: Any, fd: int, ended: Callable[[], None]) -> None:
        self._reactor = reactor
        self._fd = fd
        self._ended = ended
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "container"

    def doRead(self) -> None:
        self.close()
        self._ended()

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._fd >= 0:
            with suppress(ProcessLookupError):  # doRead is about to be called
                signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            self._reactor.removeReader(self)
            os.close(self._fd)
            self._fd = -1


class ProcessContainer:
    """What is known of a container, and whoever waits for its end.

    :param folder: where its records are.
    :param log: its newest log file.
    """

    def __init__(self, record: ContainerRecord, folder: Path, log: Path) -> None:
        self.record = record
        self.folder = folder
        self.log = log
        self.running: RunningRecord | None = None
        self.exit: ExitRecord | None = None
        self.watch: ShimWatch | None = None
        self._waiting: list[Deferred[None]] = []
        self._kill_asked = False

    def state(self) -> ContainerState:
        """Return it as Edged sees it."""
        record, running, found = self.record, self.running, self.exit
        if found is not None:
            return ContainerState(
                state="exited",
                started_at=running.started_at if running else 0.0,
                finished_at=found.finished_at,
                exit_code=found.exit_code,
                signal=found.signal,
                error=found.error,
                **self._who(record),
            )
        if running is not None:
            return ContainerState(
                state="running", started_at=running.started_at, **self._who(record)
            )
        return ContainerState(state="created", **self._who(record))

    @staticmethod
    def _who(record: ContainerRecord) -> dict[str, Any]:
        return {
            "id": record.id,
            "name": record.name,
            "attempt": record.attempt,
            "image": record.image,
            "image_id": f"process://{record.image}",
            "spec_hash": record.spec_hash,
            "created_at": record.created_at,
        }

    def terminate(self) -> None:
        """Ask it to end."""
        if self.watch is not None:
            self.watch.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything it started; as soon as it runs, if it is being started."""
        self._kill_asked = True
        if self.watch is not None:
            self.watch.signal(signal.SIGUSR1)

    def watched_by(self, watch: ShimWatch, running: RunningRecord) -> None:
        """It runs."""
        self.running, self.watch = running, watch
        if self._kill_asked:
            self.kill()

    def kill_leftover(self) -> None:
        """Kill the command, whose supervisor is gone."""
        running = self.running
        if running is not None and records.is_alive(running.pid, running.pid_start):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(running.pid, signal.SIGKILL)

    def ended(self, found: ExitRecord) -> None:
        """It ended so."""
        self.exit = found
        self.watch = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def when_ended(self) -> Deferred[None]:
        """Fires when it has ended; at once if it has."""
        if self.exit is not None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def let_go(self) -> None:
        """Watch it no more; it goes on. Whoever waits is cancelled."""
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        for waiting in list(self._waiting):
            waiting.cancel()

    def remove_files(self) -> None:
        """Remove records and logs. Blocks."""
        for path in [*self.folder.iterdir(), *log_files(self.log)]:
            path.unlink(missing_ok=True)
        self.folder.rmdir()
