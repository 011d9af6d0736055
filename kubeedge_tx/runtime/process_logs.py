"""Reading the logs that ``process_shim.py`` writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def log_files(log: Path) -> list[Path]:
    """Return a container's log files that exist, newest first."""
    older = (log.with_name(f"{log.name}.{number}") for number in range(1, 100))
    files = [log]
    for path in older:
        if not path.exists():
            break
        files.append(path)
    return [path for path in files if path.exists()]


def text_of(records: Iterable[bytes]) -> list[bytes]:
    """Take the stamps off records without their line ends; returns lines with theirs.

    Parts of a line become one, per stream. A last part without an end stays one.
    """
    lines: list[bytes] = []
    open_at: dict[bytes, int] = {}
    for record in records:
        fields = record.split(b" ", 3)
        if len(fields) != 4:
            continue  # the rest of a record that a full disk cut off
        _, stream, tag, text = fields
        index = open_at.pop(stream, None)
        if index is None:
            index = len(lines)
            lines.append(b"")
        lines[index] += text
        if tag == b"P":
            open_at[stream] = index
        else:
            lines[index] += b"\n"
    return lines


def read_log(log: Path, tail: int | None) -> bytes:
    """Return a container's output, or its last ``tail`` lines. Blocks."""
    records: list[bytes] = []
    for path in log_files(log):
        try:
            records = path.read_bytes().split(b"\n") + records
        except FileNotFoundError:
            continue  # rotated away meanwhile
        if tail is not None and len(text_of(records)) > tail:
            break
    lines = text_of(records)
    if tail is not None:
        lines = lines[-tail:] if tail else []
    return b"".join(lines)
