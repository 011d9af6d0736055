"""Watch over one process of the ``process`` runtime. A program of its own, run by path.

One of these lives beside every container, whether or not the agent runs, so it imports as
little as it can. ``process_launcher.py`` becomes it, with the command as its child and
itself as the reaper of whatever the command leaves behind.

It copies the command's output to the log, in the format of CRI
(``2026-01-02T03:04:05.678901234Z stdout F text``; ``P`` for a part of a line), in so many files
of such a size. SIGTERM it passes on to the command's process group; at SIGUSR1 it kills everything.
When the command has ended it kills what is left of its descendants, writes ``exit.json``
and ends; whoever holds a pidfd of it then wakes up.

Arguments: the container's folder, the log file, the command's pid, and descriptors (-1 for
none): output, error output, the other end of its input, the lock; when a log file is full, in
bytes, and how many are kept.
"""

# This is in memory as often as there are containers: no pathlib, no contextlib.
# ruff: noqa: PTH105, PTH110, PTH112, PTH123, PTH208, SIM105
from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal brings enum and more
import os
import select
import sys
import time

LINE_BYTES = 16 * 1024
"""Longest part of a line in one record. Source: containerd's CRI log format."""


class Log:
    """A log file that starts anew when it is full.

    :param full: its size then, bytes.
    :param files: how many are kept, at least 1.
    """

    def __init__(self, path: str, full: int, files: int) -> None:
        self._path = path
        self._full = full
        self._files = files
        self._fd = -1
        self._size = 0
        self._rest: dict[str, bytes] = {}

    def add(self, stream: str, data: bytes) -> None:
        """Write what was read; the beginning of a line waits for its end."""
        *lines, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        stamp = self._stamp(stream)
        records = []
        for line in lines:
            while len(line) > LINE_BYTES:
                records.append(stamp + b" P " + line[:LINE_BYTES] + b"\n")
                line = line[LINE_BYTES:]
            records.append(stamp + b" F " + line + b"\n")
        while len(rest) >= LINE_BYTES:
            records.append(stamp + b" P " + rest[:LINE_BYTES] + b"\n")
            rest = rest[LINE_BYTES:]
        self._rest[stream] = rest
        self._write(records)

    def finish(self) -> None:
        """Write what never got its line end."""
        for stream, rest in self._rest.items():
            if rest:
                self._write([self._stamp(stream) + b" P " + rest + b"\n"])

    @staticmethod
    def _stamp(stream: str) -> bytes:
        seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
        day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return f"{day}.{nanos:09d}Z {stream}".encode()

    def _write(self, records: list[bytes]) -> None:
        # A full disk loses lines, never the container.
        try:
            for record in records:
                if self._fd < 0 or self._size >= self._full:
                    self._open()
                self._size += os.write(self._fd, record)
        except OSError:
            pass

    def _open(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            names = [self._path] + [f"{self._path}.{number}" for number in range(1, self._files)]
            for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
                if os.path.exists(newer):
                    os.replace(newer, older)
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size


class Shim:
    """One command and what belongs to it."""

    def __init__(self, folder: str, log: Log, pid: int, streams: dict[int, str]) -> None:
        self._folder = folder
        self._log = log
        self._pid = pid
        self._streams = streams
        self._status: int | None = None
        self._kill_now = False
        self._wake, wake = os.pipe()
        for fd in (self._wake, wake, *streams):
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGTERM, self._terminate)
        _signal.signal(_signal.SIGUSR1, self._kill)
        _signal.signal(_signal.SIGCHLD, lambda number, frame: None)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, [])

    def run(self) -> None:
        """Return when the command and all it left behind have ended."""
        poll = select.poll()
        for fd in (self._wake, *self._streams):
            poll.register(fd, select.POLLIN)
        self._reap()  # it may have ended before the handler was there
        while self._status is None:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    os.read(fd, 512)
                elif not self._copy(fd):
                    poll.unregister(fd)
                    os.close(fd)
                    del self._streams[fd]
            if self._kill_now:
                self._kill_children()
            self._reap()
        finished = time.time()
        self._kill_rest()
        for fd in self._streams:
            while self._copy(fd, drain=True):
                pass
        self._log.finish()
        self._write_exit(finished)

    def _terminate(self, number: int, frame: object) -> None:
        try:
            os.killpg(self._pid, _signal.SIGTERM)
        except OSError:
            pass  # it has just ended

    def _kill(self, number: int, frame: object) -> None:
        self._kill_now = True

    def _copy(self, fd: int, *, drain: bool = False) -> bool:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return not drain
        except OSError:
            return False  # the last user of a terminal has gone
        if data:
            self._log.add(self._streams[fd], data)
        return bool(data)

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._pid:
                    self._status = status
        except ChildProcessError:
            pass

    def _kill_children(self) -> bool:
        killed = False
        for pid in _children():
            try:
                os.kill(pid, _signal.SIGKILL)
                killed = True
            except OSError:
                pass  # ended just now, or runs as a user we have no power over
        return killed

    def _kill_rest(self) -> None:
        # Killing a child brings its children to us, hence again until there are none.
        while self._kill_children():
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _write_exit(self, finished: float) -> None:
        code = os.waitstatus_to_exitcode(self._status or 0)
        signal = -code if code < 0 else 0
        text = (
            f'{{"exit_code": {128 + signal if signal else code}, "signal": {signal}, '
            f'"error": "", "reason": "", "finished_at": {finished!r}}}'
        )
        path = f"{self._folder}/exit.json"
        while True:
            try:
                fd = os.open(path + ".new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
                try:
                    os.write(fd, text.encode())
                    os.fsync(fd)
                finally:
                    os.close(fd)
                os.replace(path + ".new", path)
                return
            except OSError:
                if not os.path.isdir(self._folder):
                    return  # removed; nobody asks any more
                time.sleep(1)  # the disk is full; the agent waits for this file


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:
        pass  # a kernel without CONFIG_PROC_CHILDREN
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == own:
                found.append(int(name))
    return found


def main() -> None:
    """Run as the module's docstring says."""
    folder, log, pid, output, error_output, _hold, lock, full, files = sys.argv[1:]
    os.set_inheritable(int(lock), False)
    streams = {int(output): "stdout"}
    if int(error_output) >= 0:
        streams[int(error_output)] = "stderr"
    Shim(folder, Log(log, int(full), int(files)), int(pid), streams).run()


if __name__ == "__main__":
    main()
