"""The log of a process: what the shim writes, the agent reads."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.runtime.interfaces import LogLimits
from kubeedge_tx.runtime.process_logs import log_files, read_log
from kubeedge_tx.runtime.process_shim import LINE_BYTES, Log


def a_log(path: Path) -> Log:
    """A log with the usual limits."""
    limits = LogLimits()
    return Log(str(path), limits.file_bytes, limits.files)


class LogTests(SynchronousTestCase):
    """Written and read back."""

    def path(self) -> Path:
        return Path(self.mktemp())

    @given(st.lists(st.binary(max_size=40).map(lambda part: part.replace(b"\r", b""))))
    def test_as_written(self, parts: list[bytes]) -> None:
        """However output comes in pieces, it reads as it was."""
        path = self.path()
        log = a_log(path)
        for part in parts:
            log.add("stdout", part)
        log.finish()
        self.assertEqual(read_log(path, None), b"".join(parts))

    @given(st.lists(st.binary(max_size=9)), st.integers(0, 9))
    def test_tail(self, parts: list[bytes], tail: int) -> None:
        """The tail is the last lines of the whole."""
        path = self.path()
        log = a_log(path)
        for part in parts:
            log.add("stdout", part)
        log.finish()
        lines = b"".join(parts).split(b"\n")
        lines = [line + b"\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
        self.assertEqual(read_log(path, tail), b"".join(lines[-tail:] if tail else []))

    def test_streams(self) -> None:
        """Halves of lines of two streams do not mix."""
        path = self.path()
        log = a_log(path)
        log.add("stdout", b"o" * (LINE_BYTES + 1))
        log.add("stderr", b"error\n")
        log.add("stdout", b"\n")
        self.assertEqual(read_log(path, None), b"o" * (LINE_BYTES + 1) + b"\nerror\n")

    def test_rotation(self) -> None:
        """Full files move on, the oldest goes, and reading begins with the oldest left."""
        path = self.path()
        log = Log(str(path), 100, 3)
        for number in range(100):
            log.add("stdout", b"line %d\n" % number)
        self.assertEqual(len(log_files(path)), 3)
        for file in log_files(path):
            self.assertLess(file.stat().st_size, 200)
        lines = read_log(path, None).decode().splitlines()
        self.assertEqual(lines, [f"line {number}" for number in range(100 - len(lines), 100)])
        self.assertEqual(read_log(path, 3), b"line 97\nline 98\nline 99\n")

    def test_full_disk(self) -> None:
        """A disk that takes nothing loses lines and nothing else."""
        log = a_log(Path("/dev/full"))
        log.add("stdout", b"lost\n")
        log.finish()
        self.assertEqual(log_files(self.path()), [])

    def test_absent(self) -> None:
        """What printed nothing has an empty log."""
        self.assertEqual(read_log(self.path(), None), b"")
