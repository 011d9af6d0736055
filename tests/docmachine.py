"""A machine of its own for the documentation: what a page says is typed there as it stands.

It is this one with other mounts, processes and network: an empty ``/var/lib``, ``/var/log``,
``/run`` and home, a copy of ``/etc``, no systemd, no Docker, no network but itself, in which it is
``cloud.example``, 192.0.2.1. So usual places and ports are free, and nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any, Final

from tests.docpages import Block

ROOT: Final = Path(__file__).parent.parent
PATIENCE: Final = 600.0
WAIT: Final = 60.0
"""Seconds until what is expected must have come."""

_PROGRAMS: Final = {
    "keadm": f"{sys.executable} -m kubeedge_tx.keadm.main",
    "twistd": str(Path(sys.executable).with_name("twistd")),
    "python": sys.executable,
    "python3": sys.executable,
}

_SETUP: Final = """
mount --make-rprivate /
ip link set lo up
ip address add 192.0.2.1/32 dev lo
cp -a /etc "$SCRATCH/etc"
echo "192.0.2.1 cloud.example" >>"$SCRATCH/etc/hosts"
for place in etc var/lib var/log run; do
  mkdir -p "$SCRATCH/$place"
  mount --bind "$SCRATCH/$place" "/$place"
done
mkdir -p "$HOME" "$SCRATCH/work"
cd "$SCRATCH/work"
ln -s "$ROOT"/{examples,deploy,script} .
"""


class Shell:
    """bash, fed command by command.

    :param arguments: how it is started.
    :param env: its environment; all of it.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self._process = subprocess.Popen(
            arguments,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=env,
        )
        self._timer = Timer(PATIENCE, self._kill)
        self._timer.start()

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; returns its status and all it wrote."""
        pipes: Any = self._process
        pipes.stdin.write(f"{{ {command}\n}} </dev/null; status=$?; echo; echo @@ $status\n")
        pipes.stdin.flush()
        said = ""
        for line in pipes.stdout:
            if line.startswith("@@ "):
                return int(line[3:]), said
            said += line
        raise AssertionError(f"the shell ended in {command}:\n{said}")

    def type(self, block: Block, change: Callable[[str], str] = lambda command: command) -> str:
        """Type a block's commands; returns what is wrong, or an empty text.

        :param change: what is typed instead of a command.
        """
        said = ""
        *before, last = block.commands()
        for command in before:
            status, output = self.run(change(command))
            said += output
            if status:
                return f"$ {command}\n{output}ended with status {status}"
        deadline = time.monotonic() + (WAIT if block.retry else 0.0)
        while True:
            status, output = self.run(change(last))
            missing = [each for each in block.expected if each not in said + output]
            if status == block.status and not missing:
                return ""
            if time.monotonic() >= deadline:
                break
            time.sleep(0.1)
        wrong = f"{said}$ {last}\n{output}ended with status {status}, expected was {block.status}\n"
        return wrong + "".join(f"there is nothing of {each!r}\n" for each in missing)

    def end_page(self) -> None:
        """End what a page has left running in the background."""
        self.run("kill $(jobs -p) 2>/dev/null; wait")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it."""
        self._timer.cancel()
        self._kill()
        self._process.communicate()


class Machine(Shell):
    """A shell on such a machine; all that runs there ends with it.

    :param scratch: a folder for all that is written there.
    """

    def __init__(self, scratch: Path) -> None:
        programs = scratch / "bin"
        programs.mkdir(parents=True)
        for name, words in _PROGRAMS.items():
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            path.chmod(0o755)
        self._folder = scratch / "work"
        namespaces = "-mnp" if os.geteuid() == 0 else "-rmnp"
        super().__init__(
            [
                *("unshare", namespaces, "--fork", "--kill-child", "--mount-proc"),
                *("bash", "--noprofile", "--norc"),
            ],
            {
                "HOME": str(scratch / "home"),
                "LANG": "C.UTF-8",
                "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
                "PYTHONPATH": str(ROOT),
                "ROOT": str(ROOT),
                "SCRATCH": str(scratch),
            },
        )
        status, said = self.run(f"set -e\n{_SETUP}\nset +e")
        assert status == 0, said

    def write(self, block: Block) -> None:
        """Write the file that a block is."""
        (self._folder / block.file).write_text(block.text)
