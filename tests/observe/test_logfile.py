from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.observe.logfile import INTERVAL, LogFile


class LogFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.path = self.folder / "edgecore.log"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.out, self.error = (os.open(self.path, flags, 0o600) for _ in range(2))
        self.addCleanup(os.close, self.out)
        self.addCleanup(os.close, self.error)
        self.clock = Clock()
        self.log = LogFile(
            self.clock, self.path, most=100, kept=2, descriptors=(self.out, self.error)
        )
        self.log.startService()
        self.addCleanup(self.log.stopService)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def test_lines_stay_in_order(self) -> None:
        """Over several files no line is lost or doubled, whichever descriptor wrote it."""
        lines = [f"{number:04d} a line of the log\n" for number in range(14)]
        for number, line in enumerate(lines):
            os.write(self.error if number % 3 else self.out, line.encode())
            self.clock.advance(INTERVAL)
        self.assertEqual(self.names(), ["edgecore.log", "edgecore.log.1", "edgecore.log.2"])
        files = [self.folder / f"edgecore.log{end}" for end in (".2", ".1", "")]
        self.assertEqual("".join(path.read_text() for path in files), "".join(lines))

    def test_only_some_are_kept(self) -> None:
        """The oldest goes when there are enough; nobody else may read any of them."""
        for number in range(40):
            os.write(self.out, f"{number:04d} a line of the log\n".encode())
            self.clock.advance(INTERVAL)
        self.assertEqual(len(self.names()), 3)
        self.assertNotIn("0000", (self.folder / "edgecore.log.2").read_text())
        for path in self.folder.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_folder_is_gone(self) -> None:
        """A file that cannot be begun anew is told once a look, and writing goes on."""
        self.path.unlink()
        self.clock.advance(INTERVAL)
        os.write(self.out, b"still here\n")
        self.assertEqual(self.names(), [])
