"""The version of a database file, and the numbered steps that raise it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from kubeedge_tx.errors import StoreTooNew

_STEP: Final = re.compile(r"(\d{4})-[a-z0-9-]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: the SQL that makes version ``version`` out of the one before."""

    version: int
    """1 for the first step; no gaps."""
    sql: str


def load_migrations(package: str, folder: str) -> tuple[Migration, ...]:
    """Read the steps ``NNNN-what-it-does.sql`` that come with a package.

    :param package: for example ``kubeedge_tx.store``.
    :param folder: below it, for example ``schema``.
    """
    place = resources.files(package).joinpath(*folder.split("/"))
    found = [
        Migration(int(match[1]), item.read_text(encoding="utf-8"))
        for item in place.iterdir()
        if (match := _STEP.fullmatch(item.name))
    ]
    return tuple(sorted(found, key=lambda step: step.version))


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Migration]) -> int:
    """Bring a database to the newest version; runs in the database's thread.

    Before the first step on a file that already has data, a copy is written beside it,
    ``<file>.v<version>.bak``. Each step and its version number commit together.

    :returns: the version that the file had.
    :raises StoreTooNew: the file is newer than the newest step; it is not touched.
    :raises sqlite3.Error: a step failed; the file has the version before that step.
    """
    if [step.version for step in steps] != list(range(1, len(steps) + 1)):
        raise ValueError("migrations must be numbered 1, 2, 3, … without a gap")
    had: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if had > len(steps):
        raise StoreTooNew(
            f"{path}: written by a newer version of this program (schema {had}, this one knows "
            f"{len(steps)}); install that version again, or move the file away"
        )
    if 0 < had < len(steps):
        _copy(connection, path, had)
    for step in steps[had:]:
        try:
            # executescript commits what is open before it starts, so BEGIN stands inside.
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{step.sql}\n;PRAGMA user_version = {step.version};\nCOMMIT;"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return had


def _copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    target = path.with_name(f"{path.name}.v{version}.bak")
    half = target.with_name(target.name + ".part")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)  # VACUUM INTO accepts an empty file, and keeps its mode
    connection.execute("VACUUM INTO ?", (str(half),))
    half.replace(target)
