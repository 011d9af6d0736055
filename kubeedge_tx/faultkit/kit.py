"""All faults that are in force, and the end of them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.clocks import Clocks
from kubeedge_tx.faultkit.disk import FullDisk
from kubeedge_tx.faultkit.inject import Injections
from kubeedge_tx.faultkit.proxy import Proxy


class Kit:
    """A link, if there is one, and this machine's disks and clocks.

    :param link: the proxy between edges and a cloud.
    """

    def __init__(self, reactor: Any, link: Proxy | None = None) -> None:
        self._reactor = reactor
        self._link = link
        self._full: dict[Path, FullDisk] = {}
        self.stopped: set[int] = set()
        """Processes that hang: their ids."""
        self.injections = Injections(reactor)
        self.clocks = Clocks(reactor)

    @property
    def link(self) -> Proxy:
        """The link.

        :raises ConfigError: there is none.
        """
        if self._link is None:
            raise ConfigError("link", "there is none here; start `faultkit proxy` for it")
        return self._link

    async def fill(self, folder: Path, leave: int = 0, *, anyway: bool = False) -> None:
        """Fill the filesystem of a folder; what is free of it already held is given back first.

        :raises ConfigError: it cannot be filled, or must not be; says why.
        """
        disk = FullDisk(self._reactor, folder, leave, anyway=anyway)
        await self.empty(folder)
        await disk.start()
        self._full[folder] = disk

    async def empty(self, folder: Path) -> None:
        """Give back what was taken of a folder's filesystem."""
        old = self._full.pop(folder, None)
        if old is not None:
            await old.stop()

    async def heal(self) -> None:
        """Everything that lasts is over; what is broken stays broken."""
        if self._link is not None:
            self._link.heal()
        for folder in tuple(self._full):
            await self.empty(folder)
        for pid in self.stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped.clear()
        await self.injections.end_all()
        await self.clocks.all_right()

    def state(self) -> dict[str, Any]:
        """What is in force, for people and programs."""
        found: dict[str, Any] = {
            "full": {
                str(folder): {"taken": disk.taken, "free": disk.free()}
                for folder, disk in self._full.items()
            },
            "stopped": sorted(self.stopped),
            "processes": msgspec.to_builtins(self.injections.state()),
            "clocks": self.clocks.state(),
        }
        if self._link is not None:
            found |= {
                "connections": len(self._link.links),
                "accepted": self._link.accepted,
                "refused": self._link.refused,
                "refusing": self._link.refusing,
                "faults": {
                    which: msgspec.to_builtins(each) for which, each in self._link.faults.items()
                },
            }
        return found
