from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

import kubeedge_tx.store.database as _settings
from kubeedge_tx.errors import StoreCorrupt, StoreError, StoreTooNew
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.store.database import Change, Database, Writer
from kubeedge_tx.store.health import StoreHealth
from kubeedge_tx.store.migrate import Migration, load_migrations

FIRST = Migration(1, "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT); CREATE TABLE u (k TEXT);")
SECOND = Migration(2, "ALTER TABLE t ADD COLUMN w TEXT DEFAULT 'new';")


async def fails(work: Deferred[Any], kind: type[BaseException]) -> BaseException:
    try:
        await work
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def insert(key: str, value: str = "") -> Any:
    def work(cursor: sqlite3.Cursor) -> str:
        cursor.execute("INSERT INTO t (k, v) VALUES (?, ?)", (key, value))
        return key

    return work


def keys(cursor: sqlite3.Cursor) -> list[str]:
    return [row[0] for row in cursor.execute("SELECT k FROM t ORDER BY k")]


def _full(cursor: sqlite3.Cursor) -> None:
    """Leave room for two more pages."""
    pages = cursor.execute("PRAGMA page_count").fetchone()[0]
    cursor.execute(f"PRAGMA max_page_count = {pages + 2}")


class DatabaseTests(TestCase):
    """A real file, real threads."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "edge.db"

    async def opened(self, *steps: Migration, **settings: Any) -> Database:
        database = Database(reactor, self.path, steps or (FIRST,), **settings)
        await database.open()
        self.addCleanup(database.close)
        return database

    async def test_pragmas(self) -> None:
        """The connection writes ahead, syncs fully and checks foreign keys."""
        database = await self.opened()

        def pragmas(cursor: sqlite3.Cursor) -> list[Any]:
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        self.assertEqual(await database.read(pragmas), ["wal", 2, 1])

    async def test_file_is_private(self) -> None:
        """Secrets are inside: only the owner may read the file."""
        await self.opened()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    async def test_write_then_open_again(self) -> None:
        """What was written is there after a restart, and the log was folded into the file."""
        database = await self.opened()
        await database.write(insert("a"))
        await database.close()
        self.assertFalse(self.path.with_name("edge.db-wal").exists())
        again = await self.opened()
        self.assertEqual(await again.read(keys), ["a"])

    async def test_one_failure_does_not_undo_the_group(self) -> None:
        """A write that raises is undone alone; its neighbours in the commit stay."""

        def half(cursor: sqlite3.Cursor) -> None:
            insert("half")(cursor)
            raise KeyError("no")

        groups: list[int] = []
        database = await self.opened(committed=groups.append)
        first = database.write(insert("a"))
        bad = database.write(half)
        last = database.write(insert("c"))
        await gatherResults([first, last])
        await fails(bad, KeyError)
        self.assertEqual(await database.read(keys), ["a", "c"])
        self.assertEqual(groups, [1, 2])

    async def test_sqlite_error_becomes_store_error(self) -> None:
        """The text names the file."""
        database = await self.opened()
        await database.write(insert("a"))
        error = await fails(database.write(insert("a")), StoreError)
        self.assertIn(str(self.path), str(error))

    async def test_full_disk(self) -> None:
        """Every write of the group fails and says that the disk is full; later ones work."""
        database = await self.opened()
        await database.read(_full)
        big = database.write(insert("big", "x" * 100_000))
        error = await fails(big, StoreError)
        self.assertIn("disk is full", str(error))
        await database.write(insert("small"))
        self.assertEqual(await database.read(keys), ["small"])

    async def test_problem(self) -> None:
        """A full disk is a problem until something is written again, if only to try."""
        self.patch(_settings, "PROBE_SECONDS", 0.05)
        metrics = Metrics()
        health = StoreHealth(metrics)
        database = await self.opened()
        health.add(database)
        self.assertIsNone(health.problem())
        await database.write(insert("a"))
        await fails(database.write(insert("a")), StoreError)
        self.assertIsNone(health.problem(), "what was to be written was wrong, not the disk")

        await database.read(_full)
        await fails(database.write(insert("big", "x" * 100_000)), StoreError)
        self.assertIn("the disk is full; free some space", str(health.problem()))
        self.assertIn('kubeedge_store_failing{store="edge.db"} 1', metrics.text())
        self.assertIn('kubeedge_store_failed_writes_total{store="edge.db"} 1', metrics.text())
        while health.problem():
            await deferLater(reactor, 0.01)
        self.assertIn('kubeedge_store_failing{store="edge.db"} 0', metrics.text())

    async def test_closed_amid_a_problem(self) -> None:
        """Closing waits for no further try."""
        database = await self.opened()
        await database.read(_full)
        await fails(database.write(insert("big", "x" * 100_000)), StoreError)
        await database.close()

    async def test_locked_by_another_process(self) -> None:
        """A second writer on the file is named as the likely cause."""
        self.patch(_settings, "BUSY_TIMEOUT_SECONDS", 0.05)
        database = await self.opened()
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        error = await fails(database.write(insert("a")), StoreError)
        self.assertIn("locked", str(error))
        other.execute("ROLLBACK")
        other.close()
        await database.write(insert("a"))

    async def test_changes_apply_after_commit_only(self) -> None:
        """All changes of one commit reach the disk before any of them shows in memory."""
        database = await self.opened()
        seen: list[str] = []
        done = database.commit(Change(insert("a"), seen.append), Change(insert("b"), seen.append))
        self.assertEqual(seen, [])
        await done
        self.assertEqual(seen, ["a", "b"])
        twice = database.commit(Change(insert("c"), seen.append), Change(insert("a"), seen.append))
        await fails(twice, StoreError)
        self.assertEqual((seen, await database.read(keys)), (["a", "b"], ["a", "b"]))

    async def test_closing_lets_waiting_writes_commit(self) -> None:
        """Writes asked for before the stop are on disk after it; later ones are refused."""
        database = await self.opened()
        writes = [database.write(insert(str(n))) for n in range(20)]
        closing = database.close()
        await fails(database.write(insert("late")), StoreError)
        await closing
        await gatherResults(writes)
        again = await self.opened()
        self.assertEqual(len(await again.read(keys)), 20)

    async def test_folder_cannot_be_made(self) -> None:
        """A path through a file is reported with the path."""
        block = Path(self.mktemp())
        block.write_text("")
        database = Database(reactor, block / "edge.db", (FIRST,))
        error = await fails(database.open(), StoreError)
        self.assertIn(str(block), str(error))

    async def test_no_database(self) -> None:
        """A file of something else is left alone, and the reader is told what to do."""
        self.path.parent.mkdir()
        self.path.write_bytes(b"this is no database at all" * 100)
        database = Database(reactor, self.path, (FIRST,), remedy="move it away")
        error = await fails(database.open(), StoreCorrupt)
        self.assertIn("move it away", str(error))
        self.assertTrue(self.path.read_bytes().startswith(b"this is no"))

    async def test_damaged_page(self) -> None:
        """A page overwritten with rubbish is found when the file is opened."""
        database = await self.opened()
        for n in range(200):
            database.write(insert(str(n), "x" * 500))
        await database.close()
        content = bytearray(self.path.read_bytes())
        content[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
        self.path.write_bytes(content)
        await fails(Database(reactor, self.path, (FIRST,)).open(), StoreCorrupt)

    async def test_upgrade_keeps_a_copy(self) -> None:
        """Before a step is taken on data, the old file is kept beside the new one."""
        database = await self.opened(FIRST)
        await database.write(insert("a"))
        await database.close()
        newer = await self.opened(FIRST, SECOND)
        found = await newer.read(lambda cursor: cursor.execute("SELECT k, w FROM t").fetchall())
        self.assertEqual(found, [("a", "new")])
        copy = sqlite3.connect(self.path.with_name("edge.db.v1.bak"))
        self.assertEqual(copy.execute("SELECT * FROM t").fetchall(), [("a", "")])
        self.assertEqual(copy.execute("PRAGMA user_version").fetchone(), (1,))
        copy.close()

    async def test_failed_step_changes_nothing(self) -> None:
        """A step that fails half-way leaves the version and the tables of before."""
        await (await self.opened(FIRST)).close()
        broken = Migration(2, "CREATE TABLE half (a); CREATE TABLE t (again);")
        await fails(Database(reactor, self.path, (FIRST, broken)).open(), StoreError)
        database = await self.opened(FIRST)
        tables = await database.read(
            lambda cursor: [row[0] for row in cursor.execute("SELECT name FROM sqlite_schema")]
        )
        self.assertNotIn("half", tables)

    async def test_newer_than_us(self) -> None:
        """A file of a newer version is refused and says so."""
        await (await self.opened(FIRST, SECOND)).close()
        error = await fails(Database(reactor, self.path, (FIRST,)).open(), StoreTooNew)
        self.assertIn("newer version", str(error))


class WriterTests(SynchronousTestCase):
    """Groups, with the thread played by hand."""

    def test_group_shares_a_commit(self) -> None:
        """What is asked for while the disk works goes together, in order."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT)")
        running: list[tuple[Any, Deferred[Any]]] = []

        def run(work: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            running.append((work, done))
            return done

        def disk() -> None:
            work, done = running.pop(0)
            done.callback(work(connection))

        writer = Writer(run)
        writes = [writer.write(insert(str(n))) for n in range(4)]
        idle = writer.when_idle()
        self.assertNoResult(writes[0])
        disk()
        self.successResultOf(writes[0])
        self.assertNoResult(writes[1])
        self.assertNoResult(idle)
        disk()
        self.assertEqual([self.successResultOf(write) for write in writes[1:]], ["1", "2", "3"])
        self.successResultOf(idle)
        self.assertEqual(running, [])
        connection.close()

    def test_lost_transaction_fails_the_group(self) -> None:
        """If SQLite gave up the whole transaction, nobody of the group is told it worked."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT)")

        def lose(cursor: sqlite3.Cursor) -> None:
            cursor.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")

        held: Deferred[None] = Deferred()
        first = True

        def run(work: Any) -> Deferred[Any]:
            nonlocal first
            if first:
                first = False
                return held.addCallback(lambda _: work(connection))
            done: Deferred[Any] = succeed(None)
            return done.addCallback(lambda _: work(connection))

        writer = Writer(run)
        opener = writer.write(insert("opener"))
        before, lost = writer.write(insert("before")), writer.write(lose)
        held.callback(None)
        self.successResultOf(opener)
        self.failureResultOf(before, sqlite3.OperationalError)
        self.failureResultOf(lost, sqlite3.OperationalError)
        found = connection.execute("SELECT k FROM t").fetchall()
        self.assertEqual(found, [("opener",)])
        connection.close()


class MigrationTests(SynchronousTestCase):
    """The files that come with the package."""

    def test_edge_schema_is_complete(self) -> None:
        """Steps are numbered from 1 without a gap, and run on an empty database."""
        steps = load_migrations("kubeedge_tx.store", "schema")
        self.assertEqual([step.version for step in steps], list(range(1, len(steps) + 1)))
        connection = sqlite3.connect(":memory:")
        for step in steps:
            connection.executescript(step.sql)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(meta_v2)")]
        self.assertEqual(
            columns,
            ["key", "group_version_resource", "namespace", "name", "resource_version", "value"],
        )
        connection.close()
