"""When the cluster has heard of this node last, in a time that nobody can set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from twisted.logger import Logger

from kubeedge_tx.edge.edged.volumes import InThread
from kubeedge_tx.errors import KubeEdgeError
from kubeedge_tx.security.files import write_file

FILE: Final = "contact.json"
SAVE_SECONDS: Final = 30.0
"""How old the file may be: an agent that is killed and comes back counts from it."""


class _Record(msgspec.Struct, frozen=True):
    boot: str
    elapsed: float


class Contact:
    """Remember the last time the cluster has heard of us, also across restarts of the agent.

    The time is that of the *question* that was answered, so the cluster has heard of us then or
    later, never earlier. It is counted since the machine was started, sleep included; after
    another start of the machine it is unknown, since what a clock says then may be false.

    :param boot: names this start of the machine.
    :param elapsed: seconds since then.
    """

    _log = Logger()

    def __init__(
        self, folder: Path, in_thread: InThread, boot: str, elapsed: Callable[[], float]
    ) -> None:
        self._file = folder / FILE
        self._in_thread = in_thread
        self._boot = boot
        self.elapsed = elapsed
        self._began = elapsed()
        self._at: float | None = None
        self._saved: float | None = None
        self.on_known: Callable[[], None] = lambda: None
        """Called once it is known when the last time was."""

    @property
    def is_known(self) -> bool:
        """Whether it is known when the last time was."""
        return self._at is not None

    def silence(self) -> float:
        """Seconds since the last time; since this agent was started, if it is not known."""
        return self.elapsed() - (self._began if self._at is None else self._at)

    def made(self, at: float) -> None:
        """Note that the cluster has answered what was asked at that time."""
        if self._at is None:
            self._at = at
            self.on_known()
        else:
            self._at = max(at, self._at)

    async def load(self) -> None:
        """Go on from what a former agent knew."""
        try:
            record = msgspec.json.decode(await self._in_thread(self._file.read_bytes), type=_Record)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            self._log.warn("{file} cannot be used: {why}", file=str(self._file), why=error)
            return
        if record.boot == self._boot and record.elapsed <= self.elapsed():
            self.made(record.elapsed)
            self._saved = self._at

    async def save(self, *, at_once: bool = False) -> None:
        """Write it down, if it is worth a write."""
        if self._at is None or self._at == self._saved:
            return
        if not at_once and self._saved is not None and self._at - self._saved < SAVE_SECONDS:
            return
        self._saved = self._at
        data = msgspec.json.encode(_Record(self._boot, self._at))
        try:
            await self._in_thread(write_file, self._file, data, 0o600)
        except KubeEdgeError as error:
            self._saved = None
            self._log.warn("{why}", why=error)
