"""All objects: in memory for reading, in SQLite for good, and the log that watches read.

Writes are ordered by resourceVersion. They are checked against the newest state, on disk or
on its way there, and become visible to readers and watches once they are on disk.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


@dataclass(slots=True)
class Item:
    """One version of one object. Nobody changes it, nor the dicts inside."""

    resource: str
    """See :attr:`KindInfo.resource`."""
    namespace: str
    """Empty for cluster scope."""
    name: str
    version: int
    obj: dict[str, Any]
    body: bytes
    """``obj`` as JSON, beginning with ``kind`` and ``apiVersion``."""

    @property
    def key(self) -> tuple[str, str]:
        """Where it stands among the objects of its resource."""
        return self.namespace, self.name


@dataclass(slots=True)
class Event:
    """A committed change."""

    type: str
    item: Item
    """The new version; for DELETED the last state, with the deletion's version."""
    old: Item | None
    """What was there before; ``None`` for ADDED."""
    line: bytes = b""
    """The watch line, once somebody has asked for it."""


Listener = Callable[[list[Event]], None]


class _Database(Protocol):
    """The slice of :class:`kubeedge_tx.store.database.Database` that is used here."""

    def read(self, work: Callable[[sqlite3.Cursor], T]) -> Deferred[T]: ...

    def write(self, work: Callable[[sqlite3.Cursor], T]) -> Deferred[T]: ...


class Compacted(Exception):
    """The log no longer reaches back that far.

    :param oldest: the oldest version that can still be asked for.
    """

    def __init__(self, oldest: int) -> None:
        super().__init__(f"compacted up to {oldest}")
        self.oldest = oldest


class Shelf:
    """The committed objects of one resource, and its recent events.

    :param compacted: events up to and including this version are not in the log.
    """

    def __init__(self, compacted: int, max_events: int, max_bytes: int) -> None:
        self.items: dict[str, dict[str, Item]] = {}
        self.compacted = compacted
        self.count = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._log: list[Event] = []
        self._first = 0
        """Position of the log's first event, counted from the start of the process."""
        self._bytes = 0
        self._listeners: list[Listener] = []

    def get(self, namespace: str, name: str) -> Item | None:
        """Look one object up."""
        found = self.items.get(namespace)
        return found.get(name) if found else None

    def all(self, namespace: str = "") -> Iterable[Item]:
        """Objects of one namespace, or all, in no order."""
        if namespace:
            return list(self.items.get(namespace, {}).values())
        return [item for found in self.items.values() for item in found.values()]

    def snapshot(self, namespace: str = "", version: int | None = None) -> list[Item]:
        """Objects as they were at ``version``, sorted by namespace and name.

        :param version: ``None`` for now.
        :raises Compacted: the log does not reach back to that version.
        """
        if version is None or version >= self._newest():
            return sorted(self.all(namespace), key=_item_key)
        if version < self.compacted:
            raise Compacted(self.compacted)
        state = {item.key: item for item in self.all(namespace)}
        for event in reversed(self._log[self._index(version) :]):
            if namespace and event.item.namespace != namespace:
                continue
            if event.old is None:
                state.pop(event.item.key, None)
            else:
                state[event.item.key] = event.old
        return sorted(state.values(), key=_item_key)

    def position(self, version: int) -> int:
        """Where in the log to go on after ``version``.

        :raises Compacted: something after it is no longer in the log.
        """
        if version < self.compacted:
            raise Compacted(self.compacted)
        return self._first + self._index(version)

    @property
    def end(self) -> int:
        """The position after the newest event."""
        return self._first + len(self._log)

    def since(self, position: int, limit: int) -> list[Event]:
        """At most ``limit`` events from a position on.

        :raises Compacted: the reader was too slow.
        """
        if position < self._first:
            raise Compacted(self.compacted)
        start = position - self._first
        return self._log[start : start + limit]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` about every group of new events.

        :returns: call it to be told no more.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def load(self, item: Item) -> None:
        """Take in an object at start, without an event."""
        self.items.setdefault(item.namespace, {})[item.name] = item
        self.count += 1

    def apply(self, item: Item, deleted: bool) -> Event:
        """Make a committed change visible, and log it."""
        found = self.items.setdefault(item.namespace, {})
        old = found.get(item.name)
        if deleted:
            found.pop(item.name, None)
            self.count -= 1
            event = Event(DELETED, item, old)
        else:
            found[item.name] = item
            self.count += old is None
            event = Event(ADDED if old is None else MODIFIED, item, old)
        if not found:
            del self.items[item.namespace]
        self._log.append(event)
        self._bytes += len(item.body)
        return event

    def publish(self, events: list[Event]) -> None:
        """Tell the listeners, then shorten the log if it has become too long."""
        for listener in tuple(self._listeners):
            listener(events)
        if len(self._log) > self._max_events or self._bytes > self._max_bytes:
            self.compact()

    def compact(self, keep: float = 0.5) -> None:
        """Forget the oldest events, so that a part of the allowance is in use again."""
        events, size, cut = len(self._log), self._bytes, 0
        most, heaviest = self._max_events * keep, self._max_bytes * keep
        while cut < len(self._log) and (events > most or size > heaviest):
            size -= len(self._log[cut].item.body)
            events -= 1
            cut += 1
        if cut:
            self.compacted = self._log[cut - 1].item.version
            self._first += cut
            self._bytes = size
            del self._log[:cut]

    def _newest(self) -> int:
        return self._log[-1].item.version if self._log else self.compacted

    def _index(self, version: int) -> int:
        return bisect_right(self._log, version, key=lambda event: event.item.version)


def _item_key(item: Item) -> tuple[str, str]:
    return item.namespace, item.name


@dataclass(slots=True)
class _Write:
    item: Item
    deleted: bool
    done: Deferred[Item]


class ObjectStore:
    """Every object of the embedded API.

    :param database: open, with the schema of ``data/``.
    :param max_events: how many events per resource a watch may lag behind.
    :param max_bytes: the same in bytes of JSON.
    """

    _log = Logger()

    def __init__(
        self, database: _Database, *, max_events: int = 10_000, max_bytes: int = 32 << 20
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
