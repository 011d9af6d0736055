"""One SQLite file behind one thread, and the group commit in front of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kubeedge_tx.errors import StoreCorrupt, StoreError
from kubeedge_tx.store.migrate import Migration, migrate

T = TypeVar("T")
Work = Callable[[sqlite3.Cursor], T]
"""Runs in the database's thread: it touches its arguments and the cursor only, keeps
neither, and neither begins nor ends a transaction."""

BUSY_TIMEOUT_SECONDS: Final = 5.0
"""How long a statement waits for another process that holds the file."""

PROBE_SECONDS: Final = 5.0
"""After a failed write nobody may have anything to write; so often we look whether it works."""

_WHAT_TO_DO: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_BUSY: "locked by another process; is a second one running on this file?",
    sqlite3.SQLITE_LOCKED: "locked by another process; is a second one running on this file?",
    sqlite3.SQLITE_READONLY: "read-only; check the file's and the folder's owner and the mount",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that the folder exists and is writable",
    sqlite3.SQLITE_PERM: "no permission; check the file's owner",
    sqlite3.SQLITE_IOERR: "the disk does not answer as it should; check it",
}
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK: Final = _BROKEN | frozenset(_WHAT_TO_DO)
"""What is about the file, and not about what was to be written."""


@dataclass(frozen=True, slots=True)
class Change:
    """A write, and what becomes true in memory once it is on disk."""

    work: Work[Any]
    applied: Callable[[Any], None]
    """Called in the reactor, after the commit, with the work's result."""


class Writer:
    """Group commit: what is asked for during one transaction shares the next one.

    :param run: runs a function of the connection in the database's thread.
    :param committed: told the number of works in each group that reached the disk.
    """

    def __init__(
        self,
        run: Callable[[Callable[[sqlite3.Connection], Any]], Deferred[Any]],
        committed: Callable[[int], None] = lambda works: None,
    ) -> None:
        self._run = run
        self._committed = committed
        self._waiting: list[tuple[Work[Any], Deferred[Any]]] = []
        self._busy = False
        self._idle: list[Deferred[None]] = []

    def write(self, work: Work[T]) -> Deferred[T]:
        """Run ``work`` in a transaction; fires with its result after the commit.

        Works run in call order. One that raises is undone alone, by savepoint, and
        fails its own Deferred; the others of the group still commit. Cancelling gives
        up the result, not the write.
        """
        done: Deferred[T] = Deferred()
        self._waiting.append((work, done))
        if not self._busy:
            self._commit_group()
        return done

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing is waiting and nothing is being written."""
        done: Deferred[None] = Deferred()
        if self._busy:
            self._idle.append(done)
        else:
            done.callback(None)
        return done

    def _commit_group(self) -> None:
        group, self._waiting = self._waiting, []
        self._busy = bool(group)
        if group:
            works = [work for work, _ in group]
            running = self._run(lambda connection: _run_all(connection, works))
            running.addCallbacks(self._succeeded, self._failed, (group,), errbackArgs=(group,))
        else:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)

    def _succeeded(self, results: list[Any], group: list[tuple[Work[Any], Deferred[Any]]]) -> None:
        self._commit_group()  # first, so the disk works while the callbacks run
        self._committed(len(group))
        for (_, done), result in zip(group, results, strict=True):
            if isinstance(result, _Raised):
                done.errback(result.error)
            else:
                done.callback(result)

    def _failed(self, failure: Failure, group: list[tuple[Work[Any], Deferred[Any]]]) -> None:
        self._commit_group()
        for _, done in group:
            done.errback(failure)


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


def _run_all(connection: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    results: list[Any] = []
    cursor = connection.cursor()
    # Without an open transaction the first RELEASE would itself be a commit.
    cursor.execute("BEGIN IMMEDIATE")
    try:
        for work in works:
            cursor.execute("SAVEPOINT work")
            try:
                results.append(work(cursor))
            except Exception as error:  # goes to the one who asked
                if not connection.in_transaction:
                    raise  # a full disk undoes the whole transaction, not just this work
                cursor.execute("ROLLBACK TO work")
                results.append(_Raised(error))
            cursor.execute("RELEASE work")
        cursor.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")
        raise
    finally:
        cursor.close()
    return results


class Database:
    """One SQLite file, opened, checked and migrated.

    :param reactor: where results come back to.
    :param path: the file; made, with its folder, if it is not there.
    :param migrations: every step since the first version, see :func:`load_migrations`.
    :param remedy: what the reader of a :class:`StoreCorrupt` should do.
    :param committed: told the number of works in each group commit, for metrics.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        path: Path,
        migrations: Sequence[Migration],
        *,
        remedy: str = "move the file away and start again",
        committed: Callable[[int], None] = lambda works: None,
    ) -> None:
        self.path = path
        self._reactor = reactor
        self._migrations = migrations
        self._remedy = remedy
        self._committed = committed
        self._pool: ConnectionPool | None = None
        self._writer: Writer | None = None
        self._problem = ""
        self._probing: IDelayedCall | None = None
        self.failed_writes = 0
        """Writes that did not reach the disk, since the start."""

    @property
    def problem(self) -> str:
        """Why the last write did not reach the disk, and what to do; empty if it did."""
        return self._problem

    def open(self) -> Deferred[None]:
        """Fires when the file can be used.

        :raises StoreError: it cannot be opened; the text says why.
        :raises StoreCorrupt: it is no database, or a damaged one.
        :raises StoreTooNew: a newer version of this program wrote it.
        """
        return Deferred.fromCoroutine(self._open())

    def read(self, work: Work[T]) -> Deferred[T]:
        """Run ``work`` on what is committed; never inside a write's transaction."""
        if self._writer is None:
            return fail(self._not_open())
        return self._on_thread(lambda connection: _run_one(connection, work))

    def write(self, work: Work[T]) -> Deferred[T]:
        """Run ``work`` in a transaction shared with others; fires after the commit.

        :raises StoreError: nothing of it is on disk. What ``work`` itself raises comes
            back as it is, and only that work is undone.
        """
        if self._writer is None:
            return fail(self._not_open())
        return self._writer.write(work).addErrback(self._not_written)

    def commit(self, *changes: Change) -> Deferred[None]:
        """Write all changes or none, then apply them to memory, in this order."""

        def work(cursor: sqlite3.Cursor) -> list[Any]:
            return [change.work(cursor) for change in changes]

        def apply(results: list[Any]) -> None:
            for change, result in zip(changes, results, strict=True):
                change.applied(result)

        return self.write(work).addCallback(apply)

    def close(self) -> Deferred[None]:
        """Refuse new work, let what waits commit, fold the log into the file, close."""
        return Deferred.fromCoroutine(self._close())

    async def _open(self) -> None:
        if self._pool is not None:
            raise StoreError(f"{self.path}: already open")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite would make it readable for all, and there are Secrets in it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        self._pool = ConnectionPool(
            "sqlite3",
            str(self.path),
            cp_min=1,
            cp_max=1,
            cp_reactor=self._reactor,
            cp_openfun=_prepare,
            cp_name="store",
            check_same_thread=False,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_SECONDS,
        )
        try:
            had = await self._on_thread(self._check_and_migrate)
        except BaseException:
            pool, self._pool = self._pool, None
            pool.close()
            raise
        self._writer = Writer(self._on_pool, self._written)
        if had != len(self._migrations):
            self._log.info(
                "{path}: schema {had} is now schema {now}",
                path=str(self.path),
                had=had,
                now=len(self._migrations),
            )

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
        if writer is None or self._pool is None:
            return
        pool = self._pool
        try:
            await writer.when_idle()
            await self._on_thread(
                lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            )
        finally:
            self._pool = None
            pool.close()

    def _check_and_migrate(self, connection: sqlite3.Connection) -> int:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreCorrupt(self._corrupt(f"SQLite says: {verdict}"))
        return migrate(connection, self.path, self._migrations)

    def _written(self, works: int) -> None:
        if self._problem:
            self._log.info("{path}: can be written again", path=str(self.path))
            self._problem = ""
        self._committed(works)

    def _not_written(self, failure: Failure) -> Failure:
        explained = self._explain(failure)
        if _code(failure.value) in _DISK:
            self.failed_writes += 1
            self._problem = str(explained.value)
            if self._probing is None and self._writer is not None:
                self._probing = self._reactor.callLater(PROBE_SECONDS, self._probe)
        return explained

    def _probe(self) -> None:
        self._probing = None
        if self._problem and self._writer is not None:
            # It changes nothing, and SQLite writes a page all the same.
            self.write(_touch).addErrback(lambda failure: failure.trap(StoreError) and None)

    def _on_pool(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        assert self._pool is not None
        done: Deferred[T] = self._pool.runWithConnection(work)
        return done

    def _on_thread(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        return self._on_pool(work).addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        error = failure.value
        if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.ProgrammingError):
            return failure
        code = _code(error)
        if code in _BROKEN:
            return Failure(StoreCorrupt(self._corrupt(str(error))))
        # The text of an IntegrityError names columns, never values.
        return Failure(StoreError(f"{self.path}: {_WHAT_TO_DO.get(code, str(error))}"))

    def _corrupt(self, why: str) -> str:
        return f"{self.path}: damaged ({why}); {self._remedy}"

    def _not_open(self) -> StoreError:
        return StoreError(f"{self.path}: not open; the process is starting or stopping")


def _prepare(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except sqlite3.Error:
        connection.close()
        raise


def _code(error: object) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _touch(cursor: sqlite3.Cursor) -> None:
    (version,) = cursor.execute("PRAGMA user_version").fetchone()
    cursor.execute(f"PRAGMA user_version = {int(version)}")


def _run_one(connection: sqlite3.Connection, work: Work[T]) -> T:
    cursor = connection.cursor()
    try:
        return work(cursor)
    finally:
        cursor.close()
