"""The get-started page, run as a reader would: command by command, in one shell."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from tests.keadm.machine import EDGE_PORTS, FREE_PORTS, KEADM
from tests.requirements import requires

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs/getstarted.rst"
PATIENCE: Final = 300.0
DEPENDENCIES: Final = sysconfig.get_path("purelib")


@dataclass
class Step:
    """A block of the page.

    :ivar file: what it is to be written to, with ``lines``; else they are commands.
    :ivar expected: what their output has, from the comments below the block.
    """

    file: str
    lines: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)


def steps(page: str) -> list[Step]:
    """The page's blocks with commands and files, in order."""
    found: list[Step] = []
    inside = False
    for line in page.splitlines():
        if line.startswith(".. code-block::"):
            found.append(Step(""))
            inside = True
        elif line.startswith(".. expect: "):
            found[-1].expected.append(line.removeprefix(".. expect: "))
        elif line.startswith("   :caption: ") and inside:
            found[-1].file = line.split()[-1]
        elif line and not line.startswith(" "):
            inside = False
        elif inside and line:
            text = line.removeprefix("   ")
            found[-1].lines.append(text if found[-1].file else text.removeprefix("$ "))
    return found


class Shell:
    """bash, fed line by line, with a home and a working folder of its own."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={
                "HOME": str(home),
                "LANG": "C.UTF-8",
                "PATH": f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}",
                # what it needs comes from the tests' own environment, not from PyPI
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
                "PIP_NO_BUILD_ISOLATION": "false",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            },
        )
        self._timer = Timer(PATIENCE, self._kill)
        self._timer.start()

    def run(self, command: str) -> tuple[int, str]:
        """Run a line; returns its status and all it wrote."""
        pipes: Any = self._process
        pipes.stdin.write(f"{{ {command}\n}} </dev/null; status=$?; echo; echo @@ $status\n")
        pipes.stdin.flush()
        said = ""
        for line in pipes.stdout:
            if line.startswith("@@ "):
                return int(line[3:]), said
            said += line
        raise AssertionError(f"the shell ended in {command}:\n{said}")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it."""
        self._timer.cancel()
        self._process.communicate()


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
        self.shell = Shell(self.home, checkout)
        self.addCleanup(self._clean)

    def _clean(self) -> None:
        self.shell.close()
        for role in ("edge", "cloud"):
            where = ("--data-dir", str(self.home / role), "--force")
            subprocess.run([*KEADM, "reset", role, *where], capture_output=True, check=False)

    def _typed(self, command: str) -> str:
        """The line as somebody types it whose usual ports are taken: "Another port" on the page."""
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
        blocks = steps(PAGE.read_text(encoding="utf-8"))
        self.assertGreater(sum(len(block.expected) for block in blocks), 10)
        for block in blocks:
            if block.file:
                text = "\n".join(block.lines) + "\n"
                (self.home / "checkout" / block.file).write_text(text)
                continue
            said = ""
            for line in block.lines:
                status, output = self.shell.run(self._typed(line))
                self.assertEqual(status, 0, f"$ {line}\n{output}")
                said += output
                if line.startswith("python3 -m venv"):
                    self._lend()
            for fragment in block.expected:
                self.assertIn(fragment, said)
        for name in ("kubeedge", "cloud", "edge", "checkout/pod.yaml"):
            self.assertFalse((self.home / name).exists(), name)
