"""Run a command in a container for a person at a terminal; blocking."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

from kubeedge_tx.keadm.engine import Engine
from kubeedge_tx.runtime import process_plan
from kubeedge_tx.runtime.process_records import ContainerRecord, RunningRecord
from kubeedge_tx.runtime.process_spawn import LAUNCHER

_CHUNK: Final = 65536


def beside_process(
    record: ContainerRecord, running: RunningRecord, command: Sequence[str]
) -> NoReturn:
    """Become a command in the container of a plain process."""
    spec = process_plan.command_spec(record, tuple(command)) | {"pid": running.pid}
    # Not by standard input, which is the command's.
    descriptor = os.memfd_create("command", 0)
    os.write(descriptor, json.dumps(spec).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    words = [sys.executable, "-I", "-S", str(LAUNCHER), "enter", str(descriptor)]
    os.execve(sys.executable, words, {})  # noqa: S606 - that is the job


def in_engine(
    engine: Engine, container: str, command: Sequence[str], *, stdin: bool, terminal: bool
) -> int:
    """Run a command in a container of a Docker engine; returns its status.

    :param stdin: pass our standard input on.
    :param terminal: give it one.
    :raises EngineError: the engine refuses.
    """
    wanted = {
        "AttachStdin": stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": terminal,
        "Cmd": list(command),
    }
    identity = engine.ask("POST", f"/containers/{container}/exec", wanted)["Id"]
    stream, first = engine.upgrade(f"/exec/{identity}/start", {"Detach": False, "Tty": terminal})

    def resize() -> None:
        columns, lines = shutil.get_terminal_size()
        engine.ask("POST", f"/exec/{identity}/resize?h={lines}&w={columns}")

    with stream, _our_terminal(resize if terminal else None, raw=stdin):
        _pump(stream, first, stdin=stdin, framed=not terminal)
    code = engine.ask("GET", f"/exec/{identity}/json")["ExitCode"]
    return 255 if code is None else int(code)


@contextmanager
def _our_terminal(resize: Any, *, raw: bool) -> Iterator[None]:
    """Give the command's terminal the size of ours, if we have one.

    :param raw: and hand every key on as it is; without it Ctrl-C stays ours.
    """
    if resize is None or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    previous = signal.signal(signal.SIGWINCH, lambda number, frame: resize())
    try:
        if raw:
            tty.setraw(0, termios.TCSADRAIN)  # and what was typed ahead stays
        resize()
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, previous)


def _pump(stream: socket.socket, first: bytes, *, stdin: bool, framed: bool) -> None:
    """Carry bytes both ways until the command has ended."""
    frames = _Frames() if framed else None

    def show(data: bytes) -> None:
        for descriptor, part in frames.feed(data) if frames else [(1, data)]:
            while part:
                part = part[os.write(descriptor, part) :]

    def send() -> None:
        with suppress(OSError):  # the command has ended, and reads no more
            while data := os.read(0, _CHUNK):
                stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)

    show(first)
    if stdin:
        # A thread of its own: a command that answers while it reads would block us both else.
        threading.Thread(target=send, daemon=True).start()
    with suppress(ConnectionResetError):  # it ended before it had read all
        while data := stream.recv(_CHUNK):
            show(data)


class _Frames:
    """Takes Docker's stream apart: number of the output, three zeros, a length.

    Source: Engine API, attach.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give descriptor and bytes of each frame that is whole."""
        self._rest += data
        while len(self._rest) >= 8:
            size = int.from_bytes(self._rest[4:8], "big")
            if len(self._rest) < 8 + size:
                return
            yield (2 if self._rest[0] == 2 else 1), self._rest[8 : 8 + size]
            self._rest = self._rest[8 + size :]


def unframed(body: bytes) -> bytes:
    """Take the heads off a stream of Docker's."""
    return b"".join(part for _, part in _Frames().feed(body))
