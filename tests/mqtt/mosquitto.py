"""A real mosquitto on a port of this machine."""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from pathlib import Path

from tests.system.roles import Process, until


def program(name: str = "mosquitto") -> str:
    """Where a program of mosquitto's is."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    assert found is not None, f"{name} is not installed"
    return found


class Mosquitto:
    """One broker; it keeps its port and data when it is started again.

    :param folder: for its files; made if it is not there.
    :param port: a free one that stays ours.
    :param lines: more lines for its configuration.
    """

    def __init__(self, folder: Path, port: int, *lines: str) -> None:
        self.port = port
        self._folder = folder.absolute()
        self._lines = lines
        self.process: Process | None = None

    async def start(self) -> None:
        """Start, and wait until it listens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "mosquitto.conf"
        config.write_text(
            "\n".join(
                (
                    "user root",  # as root it would become a user that cannot read our files
                    "persistence true",
                    f"persistence_location {self._folder}/",
                    "autosave_interval 1",
                    "set_tcp_nodelay true",
                    f"listener {self.port} 127.0.0.1",
                    *(self._lines or ("allow_anonymous true",)),
                    "",
                )
            )
        )
        self.process = Process([program(), "-c", str(config)])
        self.process.start()
        await until("mosquitto to listen", self._listens)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.status is None, f"mosquitto ended: {self.process.output}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    async def stop(self) -> None:
        """End it in order: it keeps its data."""
        if self.process is not None:
            await self.process.stop()
