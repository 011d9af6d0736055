"""A machine of its own for the documentation: what a page says is typed there as it stands.

It is this one with other mounts, processes and network: an empty ``/var/lib``, ``/var/log``,
``/run`` and home, a copy of ``/etc``, no systemd, no Docker, no network but itself, in which it is
``cloud.example``, 192.0.2.1. So usual places and ports are free, and nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any, Final

from tests.docpages import Block

ROOT: Final = Path(__file__).parent.parent
PATIENCE: Final = 240.0
WAIT: Final = 60
"""Seconds until something that runs in the background has said what is expected."""

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
    :param logs: a folder for what background commands write.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], logs: Path, cwd: Path | None = None
    ) -> None:
        self._logs = logs
        self._background = 0
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
        if block.background:
            return self._start(block)
        said, status = "", 0
        commands = block.commands()
        for number, command in enumerate(commands, 1):
            status, output = self.run(change(command))
            said += output
            if status and (number < len(commands) or not block.status):
                return f"$ {command}\n{output}ended with status {status}"
        if status != block.status:
            return f"{said}ended with status {status} instead of {block.status}"
        return "".join(
            f"{said}\nhas nothing of {each!r}\n" for each in block.expected if each not in said
        )

    def _start(self, block: Block) -> str:
        for command in block.commands():
            self._background += 1
            log = shlex.quote(str(self._logs / f"background-{self._background}"))
            self.run(f"{{ {command}\n}} >{log} 2>&1 & running+=($!)")
            for text in map(shlex.quote, block.expected):
                status, said = self.run(
                    f"for _ in $(seq {WAIT * 20}); do grep -qF -- {text} {log} && break; "
                    f"kill -0 $! 2>/dev/null || break; sleep 0.05; done; cat {log}; "
                    f"grep -qF -- {text} {log}"
                )
                if status:
                    return f"$ {command}\n{said}\nhas not said {text}"
        return ""

    def end_page(self) -> None:
        """End what a page has left running in the background."""
        self.run(
            'for each in "${running[@]}"; do pkill -P "$each"; kill "$each"; done; '
            'wait "${running[@]}"; running=()'
        )

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
            scratch,
        )
        status, said = self.run(f"set -e\n{_SETUP}\nset +e")
        assert status == 0, said

    def write(self, block: Block) -> None:
        """Write the file that a block is."""
        (self._folder / block.file).write_text(block.text)
