"""A log that a background process writes to a file, and that does not fill the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

INTERVAL: Final = 5.0
"""Seconds between two looks at its size."""


class LogFile(Service):
    """Begins the file anew when it is large, and keeps some of the older ones.

    The file is the process' output and error output; what other threads or C code print goes
    where the log goes. Nothing is lost at the change, and nothing copied.

    :param most: bytes; a file that has more becomes ``FILE.1``, and that ``FILE.2``.
    :param kept: how many of the older ones stay.
    :param descriptors: those that write to it.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        path: Path,
        *,
        most: int = 10_000_000,
        kept: int = 3,
        descriptors: Sequence[int] = (1, 2),
    ) -> None:
        self._path = path
        self._most = most
        self._kept = kept
        self._descriptors = descriptors
        self._looking = LoopingCall(self.look)
        self._looking.clock = clock

    def startService(self) -> None:
        super().startService()
        self._looking.start(INTERVAL)

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """Begin a new file if this one is large; a disk that refuses leaves it as it is."""
        try:
            if self._path.stat().st_size <= self._most:
                return
            for number in range(self._kept, 0, -1):
                source = self._older(number - 1)
                if source.exists():
                    source.replace(self._older(number))
            self._open()
        except OSError as error:
            self._log.warn(
                "the log {path} cannot be begun anew: {reason}",
                path=str(self._path),
                reason=error.strerror,
            )

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        opened = os.open(self._path, flags, 0o600)
        try:
            for descriptor in self._descriptors:
                os.dup2(opened, descriptor)
        finally:
            os.close(opened)
