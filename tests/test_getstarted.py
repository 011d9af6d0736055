"""The get-started page, run as a reader would: command by command, in one shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.docmachine import ROOT, Shell
from tests.docpages import blocks
from tests.keadm.machine import EDGE_PORTS, FREE_PORTS, KEADM
from tests.requirements import requires

DEPENDENCIES: Final = sysconfig.get_path("purelib")


@requires("kubectl")
class GetStartedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        checkout = self.home / "checkout"
        checkout.mkdir(parents=True)
        for folder in ("kubeedge_tx", "twisted"):
            shutil.copytree(
                ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__")
            )
        for file in ("setup.py", "pyproject.toml", "README.rst", "LICENSE"):
            shutil.copy(ROOT / file, checkout)
        self.shell = Shell(
            ["bash", "--noprofile", "--norc"],
            {
                "HOME": str(self.home),
                "LANG": "C.UTF-8",
                "PATH": f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}",
                # what it needs comes from the tests' own environment, not from PyPI
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
                "PIP_NO_BUILD_ISOLATION": "false",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            },
            cwd=checkout,
        )
        self.addCleanup(self._clean)

    def _clean(self) -> None:
        self.shell.close()
        for role in ("edge", "cloud"):
            where = ("--data-dir", str(self.home / role), "--force")
            subprocess.run([*KEADM, "reset", role, *where], capture_output=True, check=False)

    def _typed(self, command: str) -> str:
        """The line as somebody types it whose usual ports are taken: "Another port" on the page."""
        if command.startswith(". ~/kubeedge/bin/activate"):
            self._lend()
        if command.startswith("keadm init"):
            return f"{command} {' '.join(FREE_PORTS)}"
        if command.startswith("keadm join"):
            ports = json.loads((self.home / "cloud/ready.json").read_text())["ports"]
            where = f"127.0.0.1:{ports['websocket']} --certport {ports['https']}"
            return f"{command.replace('127.0.0.1:10000', where)} {' '.join(EDGE_PORTS)}"
        return command

    def _lend(self) -> None:
        """Let the reader's environment use the packages of this one."""
        environment = self.home / "kubeedge"
        (site,) = environment.glob("lib/python3*/site-packages")
        (site / "lent.pth").write_text(f"import sys; sys.path.insert(0, {DEPENDENCIES!r})\n")
        twistd = environment / "bin/twistd"
        twistd.write_text(
            f"#!{environment}/bin/python\nfrom twisted.scripts.twistd import run\nrun()\n"
        )
        twistd.chmod(0o755)

    def test_page(self) -> None:
        """A pod runs on a Ready node, and at the end nothing is left."""
        steps = blocks("getstarted")
        self.assertGreater(sum(len(step.expected) for step in steps), 10)
        for step in steps:
            if step.file:
                (self.home / "checkout" / step.file).write_text(step.text)
            elif step.language == "console":
                self.assertIsNone(step.why_not, step.where)
                self.assertEqual(self.shell.type(step, self._typed), "", step.where)
        for name in ("kubeedge", "cloud", "edge", "checkout/pod.yaml"):
            self.assertFalse((self.home / name).exists(), name)
