"""Commands in an engine's container, and logs of it, with an engine that does as it is told."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from threading import Thread
from typing import IO, Any

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.keadm.engine import Engine, EngineError
from tests.generated import ROOT

COMMAND = """
import socket, sys, termios, threading
from kubeedge_tx.keadm.execution import in_engine

class Container:
    cooked = 9

    def ask(self, method, path, sent=None):
        if "/resize" in path:
            self.cooked = int(bool(termios.tcgetattr(0)[3] & termios.ICANON))
        return {"Id": "1", "ExitCode": self.cooked}

    def upgrade(self, path, sent):
        ours, theirs = socket.socketpair()
        threading.Thread(target=self.run, args=(theirs,), daemon=True).start()
        return ours, b""

    def run(self, stream):
        while ECHO and (data := stream.recv(65536)):
            stream.sendall(b"\\1\\0\\0\\0" + len(data).to_bytes(4, "big") + data)
        stream.close()

sys.exit(in_engine(Container(), "web", ["cat"], stdin=STDIN, terminal=TERMINAL))
"""
"""Ends with 9 if no size was asked for, else whether our terminal handled lines then."""


def run(
    stdin: int | IO[bytes], *, echo: bool = False, interactive: bool = True, terminal: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the container, in a process of its own."""
    given = f"ECHO, STDIN, TERMINAL = {echo}, {interactive}, {terminal}\n"
    return subprocess.run(
        [sys.executable, "-c", given + COMMAND],
        stdin=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )


class ExecutionTests(SynchronousTestCase):
    def test_large_file(self) -> None:
        """What a command answers is shown while a large file still goes to it."""
        sent = os.urandom(1 << 20)
        with tempfile.TemporaryFile() as file:
            file.write(sent)
            file.seek(0)
            done = run(file, echo=True)
        self.assertEqual((done.returncode, done.stderr), (9, b""))
        self.assertTrue(done.stdout == sent)

    def test_command_that_reads_nothing(self) -> None:
        """A command may end before it has read what we have for it."""
        with tempfile.TemporaryFile() as file:
            file.truncate(1 << 20)
            done = run(file)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (9, b"", b""))

    def test_terminal(self) -> None:
        """A command's terminal has the size of ours; only one that reads keys gets them raw."""
        leader, follower = pty.openpty()
        self.addCleanup(os.close, leader)
        self.addCleanup(os.close, follower)
        for interactive in (True, False):
            done = run(follower, interactive=interactive, terminal=True)
            self.assertEqual((done.returncode, done.stderr), (int(not interactive), b""))


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        status, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class LogTests(SynchronousTestCase):
    def log(self, status: int, body: bytes, tail: int | None) -> tuple[bytes, Sequence[str]]:
        """What a log is, and the paths that the engine was asked for."""
        folder = tempfile.TemporaryDirectory()  # its path is short enough for a socket's
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name) / "engine")
        server: Any = UnixStreamServer(path, _Answer)
        self.addCleanup(server.server_close)
        server.answer, server.asked = (status, body), []
        server.timeout = 30
        thread = Thread(target=server.handle_request)
        thread.start()
        try:
            return Engine(f"unix://{path}").log("1", tail), server.asked
        finally:
            thread.join()

    def test_refused(self) -> None:
        """A log that the engine does not give is an error that says why, not an empty log."""
        said = b'{"message": "configured logging driver does not support reading"}'
        with self.assertRaisesRegex(EngineError, "driver does not support reading"):
            self.log(501, said, None)

    def test_tail(self) -> None:
        """The engine is asked for the last lines only."""
        body, (path,) = self.log(200, b"two\n", 1)
        self.assertEqual(body, b"two\n")
        self.assertTrue(path.endswith("&tail=1"), path)
