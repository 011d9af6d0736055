"""All objects: in memory for reading, in SQLite for good, and the log that watches read.

Writes are ordered by resourceVersion. They are checked against the newest state, on disk or
on its way there, and become visible to readers and watches once they are on disk.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kubeedge_tx.apiserver.shelf import Event, Item, Shelf

T = TypeVar("T")

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class _Database(Protocol):
    """The slice of :class:`kubeedge_tx.store.database.Database` that is used here."""

    def read(self, work: Callable[[sqlite3.Cursor], T]) -> Deferred[T]: ...

    def write(self, work: Callable[[sqlite3.Cursor], T]) -> Deferred[T]: ...


@dataclass(slots=True)
class _Write:
    item: Item
    deleted: bool
    done: Deferred[Item]


class ObjectStore:
    """Every object of the embedded API.

    :param database: open, with the schema of ``data/``.
    :param max_events: how many events per resource a watch may lag behind.
    :param max_bytes: the same in bytes of JSON; in memory an event takes some five times that.
    """

    _log = Logger()

    def __init__(
        self, database: _Database, *, max_events: int = 10_000, max_bytes: int = 8 << 20
    ) -> None:
        self._database = database
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._shelves: dict[str, Shelf] = {}
        self._head: dict[tuple[str, str, str], _Write] = {}
        """Newest state of what is not committed yet."""
        self._waiting: list[_Write] = []
        self._writing: list[_Write] = []
        self._durable: deque[list[_Write]] = deque()
        """Groups that are on disk and not yet visible."""
        self._applying = False
        self._assigned = 0
        self.version = 0
        """resourceVersion of the newest committed change."""
        self._loaded = 0

    async def load(self) -> None:
        """Read everything into memory.

        :raises StoreError: the file cannot be read.
        """
        version, rows = await self._database.read(_read_all)
        self.version = self._assigned = self._loaded = version
        for resource, namespace, name, body in rows:
            obj = _decode(body)
            own = int(obj["metadata"]["resourceVersion"])
            self.shelf(resource).load(Item(resource, namespace, name, own, obj, body))

    def shelf(self, resource: str) -> Shelf:
        """The committed objects of a resource."""
        found = self._shelves.get(resource)
        if found is None:
            found = Shelf(self._loaded, self._max_events, self._max_bytes)
            self._shelves[resource] = found
        return found

    def get(self, resource: str, namespace: str, name: str) -> Item | None:
        """Look up a committed object."""
        return self.shelf(resource).get(namespace, name)

    def head(self, resource: str, namespace: str, name: str) -> Item | None:
        """The newest state, committed or about to be; writes are checked against it."""
        write = self._head.get((resource, namespace, name))
        if write is None:
            return self.shelf(resource).get(namespace, name)
        return None if write.deleted else write.item

    def heads(self, resource: str) -> Iterator[Item]:
        """The newest state of all objects of a resource, in no order."""
        for item in self.shelf(resource).all():
            if (resource, item.namespace, item.name) not in self._head:
                yield item
        for key, write in tuple(self._head.items()):
            if key[0] == resource and not write.deleted:
                yield write.item

    def put(self, resource: str, namespace: str, name: str, obj: dict[str, Any]) -> Deferred[Item]:
        """Write one object; fires when it is on disk and watches have been told.

        :param obj: belongs to the store from now on. Its resourceVersion is set here.
        :raises StoreError: it is not on disk, and neither is any later write that was
            under way. Cancelling gives up the answer, not the write.
        """
        return self._enqueue(resource, namespace, name, obj, deleted=False)

    def remove(
        self, resource: str, namespace: str, name: str, obj: dict[str, Any]
    ) -> Deferred[Item]:
        """Remove one object; fires like :meth:`put` does.

        :param obj: its last state, as DELETED events shall show it; becomes the store's.
        """
        return self._enqueue(resource, namespace, name, obj, deleted=True)

    @property
    def backlog(self) -> int:
        """How many writes are not on disk yet."""
        return len(self._waiting) + len(self._writing)

    @property
    def history(self) -> int:
        """How many changes of one resource are remembered for watches: the most of any."""
        return max((shelf.history for shelf in self._shelves.values()), default=0)

    def when_idle(self) -> Deferred[None]:
        """Fires when no write is under way."""
        done: Deferred[None] = Deferred()
        last = (self._waiting or self._writing)[-1:]
        if last:
            last[0].done.addBoth(_pass_on, done)
        else:
            done.callback(None)
        return done

    def _enqueue(
        self, resource: str, namespace: str, name: str, obj: dict[str, Any], *, deleted: bool
    ) -> Deferred[Item]:
        self._assigned += 1
        obj["metadata"]["resourceVersion"] = str(self._assigned)
        item = Item(resource, namespace, name, self._assigned, obj, _encode(obj))
        write = _Write(item, deleted, Deferred())
        self._head[(resource, namespace, name)] = write
        self._waiting.append(write)
        if not self._writing:
            self._flush()
        return write.done

    def _flush(self) -> None:
        group, self._waiting = self._waiting, []
        self._writing = group
        if group:
            last: dict[tuple[str, str, str], _Write] = {}
            for write in group:
                item = write.item
                last[(item.resource, item.namespace, item.name)] = write
            puts = [(*key, w.item.body) for key, w in last.items() if not w.deleted]
            removals = [key for key, w in last.items() if w.deleted]
            version = group[-1].item.version
            self._database.write(
                lambda cursor: _write_all(cursor, puts, removals, version)
            ).addCallbacks(self._committed, self._failed).addErrback(self._broken)

    def _committed(self, _: None) -> None:
        self._durable.append(self._writing)
        self._flush()  # first, so the disk works while the callbacks run
        if self._applying:
            return  # a listener wrote, and the database answered at once
        self._applying = True
        try:
            while self._durable:
                self._apply(self._durable.popleft())
        finally:
            self._applying = False

    def _apply(self, group: list[_Write]) -> None:
        told: dict[str, list[Event]] = {}
        for write in group:
            item = write.item
            key = (item.resource, item.namespace, item.name)
            if self._head.get(key) is write:
                del self._head[key]
            event = self.shelf(item.resource).apply(item, write.deleted)
            told.setdefault(item.resource, []).append(event)
        self.version = group[-1].item.version
        for resource, events in told.items():
            try:
                self._shelves[resource].publish(events)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a listener's mistake must not fail the writers
                self._log.failure("a listener of {resource} failed", resource=resource)
        for write in group:
            write.done.callback(write.item)

    def _failed(self, failure: Failure) -> None:
        # What came after was checked against what is now not there.
        group = self._writing + self._waiting
        self._writing, self._waiting = [], []
        self._head.clear()
        self._log.error("{count} writes failed: {why}", count=len(group), why=failure.value)
        for write in group:
            write.done.errback(failure)

    def _broken(self, failure: Failure) -> None:
        self._log.failure("the object store made a mistake", failure)


def _pass_on(result: T, done: Deferred[None]) -> T:
    done.callback(None)
    return result


def _read_all(cursor: sqlite3.Cursor) -> tuple[int, list[tuple[str, str, str, bytes]]]:
    cursor.execute("SELECT value FROM counters WHERE name = 'resourceVersion'")
    version: int = cursor.fetchone()[0]
    cursor.execute("SELECT resource, namespace, name, body FROM objects")
    return version, cursor.fetchall()


def _write_all(
    cursor: sqlite3.Cursor,
    puts: list[tuple[str, str, str, bytes]],
    removals: list[tuple[str, str, str]],
    version: int,
) -> None:
    if puts:
        cursor.executemany(
            "INSERT INTO objects VALUES (?, ?, ?, ?) "
            "ON CONFLICT (resource, namespace, name) DO UPDATE SET body = excluded.body",
            puts,
        )
    if removals:
        cursor.executemany(
            "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", removals
        )
    cursor.execute("UPDATE counters SET value = ? WHERE name = 'resourceVersion'", (version,))
