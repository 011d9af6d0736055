"""A full disk: take what is free of a filesystem, and give it back whatever happens.

The space goes into a file without a name, so the kernel frees it when this process ends, also
by ``kill -9``: nothing is left to clean up, now or on the next run.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.errors import ConfigError

REFILL_SECONDS: Final = 0.25
"""How often to take what others have freed meanwhile."""

LARGEST_PIECE: Final = 1 << 30
"""Bytes that are asked for at once."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class FullDisk:
    """Keeps the filesystem of ``folder`` full from :meth:`start` to :meth:`stop`.

    :param leave: bytes that stay free for others.
    :param anyway: also if it is the filesystem of ``/``.
    :raises ConfigError: there is no such folder, or it is on the filesystem of ``/``.
    """

    _log = Logger()

    def __init__(self, reactor: Any, folder: Path, leave: int = 0, *, anyway: bool = False) -> None:
        if not folder.is_dir():
            raise ConfigError("fill", f"{folder} is not a folder")
        if not anyway and folder.stat().st_dev == Path("/").stat().st_dev:
            raise ConfigError(
                "fill",
                f"{folder} is on the filesystem of /, and the whole machine would suffer: mount a "
                "small one there (mount -t tmpfs -o size=64m tmpfs FOLDER), use no-space for one "
                "process, or say anyway: true",
            )
        self._reactor = reactor
        self._folder = folder
        self._leave = leave
        self._taken = 0
        self._file: Any = None
        self._tasks = TaskSet()

    @property
    def taken(self) -> int:
        """Bytes that we hold."""
        return self._taken

    def free(self) -> int:
        """Bytes that a process of this user can still write there."""
        found = os.statvfs(self._folder)
        blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
        return blocks * found.f_frsize

    async def start(self) -> None:
        """Fill it, and keep it full.

        :raises ConfigError: no file can be made there.
        """
        try:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise ConfigError("fill", f"{self._folder}: {error.strerror}") from None
        try:
            await self._in_thread()
        except OSError as error:
            await self.stop()
            raise ConfigError("fill", f"{self._folder}: {error.strerror}") from None
        except CancelledError:
            await self.stop()
            raise
        self._tasks.spawn("filling the disk", self._keep_full())

    async def stop(self) -> None:
        """Give the space back."""
        await self._tasks.cancel_all()
        file, self._file = self._file, None
        self._taken = 0
        if file is not None:
            file.close()

    async def _keep_full(self) -> None:
        while True:
            await deferLater(self._reactor, REFILL_SECONDS)
            try:
                await self._in_thread()
            except OSError as error:
                self._log.warn("{folder}: {why}", folder=str(self._folder), why=error.strerror)

    async def _in_thread(self) -> None:
        # A duplicate, so that a stop meanwhile cannot close it under the thread.
        mine = os.dup(self._file.fileno())
        pool = self._reactor.getThreadPool()
        taken = await deferToThreadPool(self._reactor, pool, self._fill, mine, self._taken)
        if self._file is not None:
            self._taken = taken

    def _fill(self, mine: int, taken: int) -> int:
        try:
            piece = LARGEST_PIECE
            block = os.statvfs(self._folder).f_frsize
            while piece >= block and self._file is not None:
                wanted = min(piece, self.free() - self._leave) // block * block
                if wanted < block:
                    break
                try:
                    os.posix_fallocate(mine, taken, wanted)
                except OSError as error:
                    if error.errno not in _FULL:
                        raise
                    piece = wanted // 2  # the filesystem needs a little for its own books
                else:
                    taken += wanted
            return taken
        finally:
            os.close(mine)
