"""The committed objects of one resource, and the log of what happened to them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"


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

    @property
    def history(self) -> int:
        """How many events are remembered."""
        return len(self._log)

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
        try:
            for listener in tuple(self._listeners):
                listener(events)
        finally:
            for event in events:
                event.line = b""  # it has served; whoever is slow makes it anew
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
