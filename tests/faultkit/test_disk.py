from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.disk import FullDisk
from tests.faultkit.machines import SMALL, Program, small_disk
from tests.requirements import requires

reactor: Any = _reactor

_KILLED = """
set -e
mount -t tmpfs -o size=8m tmpfs "$1"
free() { stat -f -c %f "$1"; }
echo "before $(free "$1")"
"$2" -m kubeedge_tx.faultkit local --control 127.0.0.1:0 --script "$3" &
pid=$!
for try in $(seq 300); do [ "$(free "$1")" = 0 ] && break; sleep 0.1; done
echo "full $(free "$1")"
kill -$4 $pid
wait $pid || true
echo "after $(free "$1")"
ls -A "$1"
"""


@requires("root")
class FullDiskTests(TestCase):
    """A real filesystem, filled."""

    timeout = 60

    async def test_full(self) -> None:
        """A full disk takes nothing, as SQLite says; it does again when it is over."""
        folder = small_disk(self)
        writer = Program.writer(self, folder / "a.db")
        self.assertEqual((await writer.ask())[0], "")
        disk = FullDisk(reactor, folder)
        await disk.start()
        self.assertEqual(disk.free(), 0)
        # What the database's files have allocated is theirs; after it comes the end.
        for _ in range(3):
            why = (await writer.ask())[0]
        self.assertEqual(why, "SQLITE_FULL")
        await disk.stop()
        self.assertGreater(disk.free(), SMALL // 2)
        self.assertEqual((await writer.ask())[0], "")

    async def test_stays_full(self) -> None:
        """What others free is taken as well."""
        folder = small_disk(self)
        other = folder / "other"
        other.write_bytes(bytes(1024 * 1024))
        disk = FullDisk(reactor, folder)
        await disk.start()
        self.addCleanup(disk.stop)
        taken = disk.taken
        other.unlink()
        while disk.free():
            await deferLater(reactor, 0.05)
        while disk.taken == taken:  # the thread is done, and tells us in the next turn
            await deferLater(reactor, 0.01)
        self.assertGreaterEqual(disk.taken, taken + 1024 * 1024)

    async def test_leave(self) -> None:
        """So much is left as was asked for."""
        folder = small_disk(self)
        disk = FullDisk(reactor, folder, 1024 * 1024)
        await disk.start()
        self.assertEqual(disk.free(), 1024 * 1024)
        await disk.stop()
        self.assertEqual([*folder.iterdir()], [])


class RefusedTests(TestCase):
    """What is not filled."""

    def test_root(self) -> None:
        """The filesystem of / is not filled by mistake; nor is what is not there."""
        with self.assertRaises(ConfigError) as caught:
            FullDisk(reactor, Path("/"))
        self.assertIn("anyway: true", str(caught.exception))
        FullDisk(reactor, Path("/"), anyway=True)  # which fills nothing yet
        self.assertRaises(ConfigError, FullDisk, reactor, Path("/nowhere"))


class KilledTests(TestCase):
    """The command, by any user in a namespace of his own, ended in every way."""

    timeout = 120

    def setUp(self) -> None:
        probe = [*self.namespace(), "true"]
        if shutil.which("unshare") is None or subprocess.run(probe, check=False).returncode:
            self.skipTest("no user namespaces here")

    def namespace(self) -> list[str]:
        return ["unshare", "--user", "--map-root-user", "--mount"]

    async def given_back(self, signal: str) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        script = folder.with_suffix(".yaml")
        script.write_text(f"- {{at: 0, do: fill, path: {folder.resolve()}}}\n")
        out, err, status = await getProcessOutputAndValue(
            "/usr/bin/env",
            [
                *self.namespace(),
                *("sh", "-c", _KILLED, "sh"),
                *(str(folder.resolve()), sys.executable, str(script), signal),
            ],
            env=None,
        )
        words = dict(line.split() for line in out.decode().splitlines() if line.count(" ") == 1)
        self.assertEqual((status, words.get("full")), (0, "0"), (out + err).decode())
        self.assertEqual(words["after"], words["before"])
        self.assertTrue(out.endswith(f"after {words['after']}\n".encode()), out)

    async def test_terminated(self) -> None:
        """The space is back when the fault kit is stopped."""
        await self.given_back("TERM")

    async def test_killed(self) -> None:
        """The space is back, and no file left, when the fault kit is killed."""
        await self.given_back("KILL")
