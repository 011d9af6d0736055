"""Ctrl-C at every step of init, join and reset: the same command then goes on, and gets through."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from tests.keadm.machine import CHECKOUT, FREE_PORTS, MachineCase, files, run

INTERRUPTING: Final = (sys.executable, "-m", "tests.keadm.interrupting")


class InterruptTests(MachineCase):
    def interrupted(self, *words: str) -> list[str]:
        """Interrupt a command at its first, second, third … effect; returns what these were."""
        done = run([*INTERRUPTING, *words], cwd=CHECKOUT)
        self.assertEqual(done.status, 0, done.output)
        return re.findall(r"^run \d+: status 130, before (.*)$", done.output, re.M)

    def processes(self) -> list[str]:
        """Command lines of all roles of this test that run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode().split("\0")
            except OSError:
                continue
            if any(word.startswith(str(self.root)) for word in words) and "--config" in words:
                found.append(" ".join(words))
        return found

    def test_every_step(self) -> None:
        """Nothing is in the way of the next run, nothing runs twice, and reset leaves nothing."""
        before = files(self.root)
        where = ("--data-dir", str(self.cloud_dir))
        steps = self.interrupted(
            "init", *where, "--advertise-address", "127.0.0.1", *FREE_PORTS, "--timeout", "60"
        )
        for step in ("os.mkdir", "open", "os.rename", "subprocess.Popen"):
            self.assertIn(step, [each.split()[0] for each in steps])
        self.assertEqual(len(self.processes()), 1, self.processes())

        token = self.keadm("gettoken", *where).output.strip()
        steps = self.interrupted(*self.join_command(token), "--timeout", "60")
        self.assertIn("subprocess.Popen", [each.split()[0] for each in steps])
        self.assertTrue(self.node_ready())
        self.assertEqual(len(self.processes()), 2, self.processes())
        self.assertNotIn(token, (self.edge_dir / "config" / "edgecore.yaml").read_text())

        for role, folder in (("edge", self.edge_dir), ("cloud", self.cloud_dir)):
            steps = self.interrupted("reset", role, "--data-dir", str(folder), "--force")
            self.assertIn("os.kill", [each.split()[0] for each in steps])
            self.assertNotIn(f"kubeedge-{role}", " ".join(self.processes()))
        self.assertEqual(self.processes(), [])
        self.assertEqual(files(self.root), before)
