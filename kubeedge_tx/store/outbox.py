"""What must reach the cloud and has not yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.errors import StoreError
from kubeedge_tx.store.database import Change, Database

CONTROL: Final = 0
"""Priority of what keeps the node Ready."""
STATE: Final = 1
"""Priority of pods' and devices' states, and of deletes; one lane, so their order stays."""
BULK: Final = 2
"""Priority of events and uploads; given up first when there is no room."""

_LANES: Final = {CONTROL: "control", STATE: "state", BULK: "bulk"}

_decode: Final = msgspec.json.Decoder(Message).decode
_encode: Final = msgspec.json.Encoder().encode

FULL: Final = "full"
"""Why a message was given up: there was no room."""
OLD: Final = "old"
"""Why a message was given up: the cloud did not take it for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLimits:
    """How much the outbox keeps while the cloud is away."""

    max_bytes: int = 64 * 1024 * 1024
    max_messages: int = 20_000
    max_age_seconds: float = 7 * 24 * 3600.0
    """Of time in which the edge ran: while it is off, nothing grows older."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message that waits."""

    message: Message
    confirm: bool
    """It stays until :meth:`Outbox.confirm`; otherwise until it was written."""


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    seq: int
    key: str | None
    priority: int
    confirm: bool
    created_ms: int
    bytes: int


class Outbox:
    """A durable queue of messages to the cloud.

    Its order, sizes and ids are in memory, the messages on disk. Rows with the same key
    replace each other: only the newest is kept, at the end of its lane, under its own id.
    ``lost`` counts, by reason, messages and bytes that were given up since the file was made.

    Age is counted by a clock that goes on from process to process: a machine that wakes up in 1970
    and is set right an hour later must not lose everything as too old.

    :param now_ms: a steady clock in milliseconds, whatever it counts from.
    """

    _log = Logger()

    def __init__(
        self,
        database: Database,
        now_ms: Callable[[], int],
        limits: OutboxLimits | None = None,
    ) -> None:
        self._database = database
        self._steady_ms = now_ms
        self._before_ms = -now_ms()
        """What the outbox's clock had when this process's began."""
        self.limits = limits or OutboxLimits()
        self._rows: dict[str, _Row] = {}
        self._by_key: dict[str, str] = {}
        self._lanes: dict[int, dict[str, None]] = {CONTROL: {}, STATE: {}, BULK: {}}
        self._bytes = 0
        self._changed: Callable[[], None] = lambda: None
        self._confirmed: Callable[[float], None] = lambda seconds: None
        self._declined: Callable[[str], None] = lambda message_id: None
        self.lost: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size_bytes(self) -> int:
        """Bytes of all messages that wait."""
        return self._bytes

    def depths(self) -> dict[str, int]:
        """How many messages wait in each lane."""
        return {_LANES[priority]: len(lane) for priority, lane in self._lanes.items()}

    def oldest_seconds(self) -> float:
        """Age of the oldest message; 0 if there is none."""
        oldest = next(iter(self._rows.values()), None)
        return 0.0 if oldest is None else max(0.0, (self._now_ms() - oldest.created_ms) / 1000)

    def _now_ms(self) -> int:
        return self._before_ms + self._steady_ms()

    def on_confirmed(self, callback: Callable[[float], None]) -> None:
        """Call ``callback`` with the age of each message that was removed, in seconds."""
        self._confirmed = callback

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever a message was added; there is one such listener."""
        self._changed = callback

    def on_declined(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the id of each message that the cloud could not take just now."""
        self._declined = callback

    async def load(self) -> None:
        """Read what a former process left; call after the database is open."""
        rows, self.lost, clock = await self._database.read(_load)
        self._before_ms = clock - self._steady_ms()
        self._rows.clear()
        self._by_key.clear()
        for lane in self._lanes.values():
            lane.clear()
        self._bytes = 0
        for row in rows:
            self._keep(row)
        await self.expire()

    def has(self, message_id: str) -> bool:
        """Tell whether a message of this id waits."""
        return message_id in self._rows

    def keyed(self, prefix: str) -> dict[str, str]:
        """Keys that begin with ``prefix``, and the ids of their messages."""
        return {key: each for key, each in self._by_key.items() if key.startswith(prefix)}

    def put(
        self, message: Message, *, key: str | None, priority: int, confirm: bool
    ) -> Deferred[None]:
        """Keep a message; fires when it is on disk.

        :param key: earlier messages of the same key are replaced; ``None`` keeps them all.
        :raises StoreError: it is not kept.
        """
        return self._database.commit(
            self.putting(message, key=key, priority=priority, confirm=confirm)
        )

    def putting(self, message: Message, *, key: str | None, priority: int, confirm: bool) -> Change:
        """The change that :meth:`put` makes, to be committed with others.

        :raises StoreError: the message alone is more than the outbox may hold.
        """
        frame = _encode(message)
        text, size = frame.decode(), len(frame)
        created = self._now_ms()
        victims = self._victims(size, key)

        def work(cursor: sqlite3.Cursor) -> tuple[_Row, dict[str, tuple[int, int]]]:
            _give_up(cursor, victims, FULL)
            if key is not None:
                cursor.execute("DELETE FROM outbox WHERE key = ?", (key,))
            cursor.execute(
                "INSERT INTO outbox (id, key, priority, confirm, created_ms, bytes, message)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (message.header.msg_id, key, priority, confirm, created, size, text),
            )
            seq = cursor.lastrowid
            assert seq is not None
            row = _Row(message.header.msg_id, seq, key, priority, confirm, created, size)
            _set_clock(cursor, created)
            return row, _lost(cursor)

        def applied(result: tuple[_Row, dict[str, tuple[int, int]]]) -> None:
            row, self.lost = result
            for victim in victims:
                self._drop(victim)
            self._keep(row)
            self._changed()

        return Change(work, applied)

    def confirm(self, message_id: str) -> Deferred[None]:
        """Forget a message: the cloud has it, or will never take it."""
        return self.remove([message_id])

    def decline(self, message_id: str) -> None:
        """Have a message sent again soon: the cloud could not take it just now."""
        self._declined(message_id)

    def remove(self, message_ids: Iterable[str]) -> Deferred[None]:
        """Forget messages; fires when that is on disk. Unknown ids are ignored."""
        known = [message_id for message_id in message_ids if message_id in self._rows]
        return self._database.commit(self.removing(known)) if known else succeed(None)

    def removing(self, message_ids: Collection[str]) -> Change:
        """The change that :meth:`remove` makes, to be committed with others."""
        ids = tuple(message_ids)

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.executemany("DELETE FROM outbox WHERE id = ?", [(each,) for each in ids])

        def applied(_: None) -> None:
            for message_id in ids:
                row = self._rows.get(message_id)
                if row is not None:
                    self._confirmed(max(0.0, (self._now_ms() - row.created_ms) / 1000))
                self._drop(message_id)

        return Change(work, applied)

    def removing_keyed(self, *prefixes: str) -> Change:
        """The change that forgets all messages whose key begins with one of the prefixes.

        It also finds those whose commit is still under way when this is called.
        """

        def work(cursor: sqlite3.Cursor) -> list[str]:
            gone: list[str] = []
            for prefix in prefixes:
                found = cursor.execute(
                    "DELETE FROM outbox WHERE substr(key, 1, ?) = ? RETURNING id",
                    (len(prefix), prefix),
                )
                gone += [row[0] for row in found.fetchall()]
            return gone

        def applied(gone: list[str]) -> None:
            for message_id in gone:
                self._drop(message_id)

        return Change(work, applied)

    def next_ids(self, most: int, skip: Collection[str] = ()) -> list[str]:
        """Ids in the order to send them: by priority, then by age."""
        found: list[str] = []
        for lane in self._lanes.values():
            for message_id in lane:
                if len(found) >= most:
                    return found
                if message_id not in skip:
                    found.append(message_id)
        return found

    async def read(self, message_ids: Collection[str]) -> list[Entry]:
        """Read messages, in the order given; ids that are gone meanwhile are left out."""
        ids = tuple(message_ids)

        def work(cursor: sqlite3.Cursor) -> dict[str, tuple[str, int]]:
            marks = ",".join("?" * len(ids))
            found = cursor.execute(
                f"SELECT id, message, confirm FROM outbox WHERE id IN ({marks})",  # noqa: S608 - question marks only
                ids,
            )
            return {row[0]: (row[1], row[2]) for row in found}

        found = await self._database.read(work)
        return [
            Entry(_decode(found[each][0]), bool(found[each][1])) for each in ids if each in found
        ]

    async def expire(self) -> None:
        """Give up what is older than the limit, and note how old the rest is."""
        if not self._rows:
            return
        now = self._now_ms()
        before = now - int(self.limits.max_age_seconds * 1000)
        old = [row.id for row in self._rows.values() if row.created_ms < before]

        def work(cursor: sqlite3.Cursor) -> dict[str, tuple[int, int]]:
            _set_clock(cursor, now)
            _give_up(cursor, old, OLD)
            return _lost(cursor)

        self.lost = await self._database.write(work)
        for message_id in old:
            self._drop(message_id)
        if not old:
            return
        self._log.warn(
            "{count} messages to the cloud were given up: older than {seconds:g} s",
            count=len(old),
            seconds=self.limits.max_age_seconds,
        )

    def _victims(self, size: int, key: str | None) -> list[str]:
        """Choose what to give up for a new message: the least important, oldest first."""
        limits = self.limits
        if size > limits.max_bytes:
            self._refuse(size)
        replaced = self._rows.get(self._by_key.get(key, "")) if key is not None else None
        too_many = len(self._rows) + (replaced is None) - limits.max_messages
        too_big = self._bytes + size - limits.max_bytes - (replaced.bytes if replaced else 0)
        victims: list[str] = []
        for lane in reversed(self._lanes.values()):
            for message_id in lane:
                if too_many <= 0 and too_big <= 0:
                    break
                row = self._rows[message_id]
                if row is not replaced:
                    victims.append(message_id)
                    too_many -= 1
                    too_big -= row.bytes
        if victims:
            self._log.warn(
                "the outbox is full ({messages} messages, {bytes} bytes): {count} given up",
                messages=len(self._rows),
                bytes=self._bytes,
                count=len(victims),
            )
        return victims

    def _refuse(self, size: int) -> NoReturn:
        raise StoreError(
            f"{self._database.path}: a message of {size} bytes does not fit the outbox "
            f"({self.limits.max_bytes} bytes)"
        )

    def _keep(self, row: _Row) -> None:
        if row.key is not None:
            self._drop(self._by_key.get(row.key, ""))
            self._by_key[row.key] = row.id
        self._rows[row.id] = row
        self._lanes[row.priority][row.id] = None
        self._bytes += row.bytes

    def _drop(self, message_id: str) -> None:
        row = self._rows.pop(message_id, None)
        if row is None:
            return
        self._lanes[row.priority].pop(message_id)
        self._bytes -= row.bytes
        if row.key is not None and self._by_key.get(row.key) == message_id:
            del self._by_key[row.key]


def _load(cursor: sqlite3.Cursor) -> tuple[list[_Row], dict[str, tuple[int, int]], int]:
    found = cursor.execute(
        "SELECT id, seq, key, priority, confirm, created_ms, bytes FROM outbox ORDER BY seq"
    )
    rows = [
        _Row(row[0], row[1], row[2], row[3], bool(row[4]), row[5], row[6])
        for row in found.fetchall()
    ]
    (clock,) = cursor.execute("SELECT ms FROM outbox_clock").fetchone()
    return rows, _lost(cursor), clock


def _set_clock(cursor: sqlite3.Cursor, now: int) -> None:
    cursor.execute("UPDATE outbox_clock SET ms = max(ms, ?)", (now,))


def _lost(cursor: sqlite3.Cursor) -> dict[str, tuple[int, int]]:
    found = cursor.execute("SELECT reason, messages, bytes FROM outbox_lost")
    return {row[0]: (row[1], row[2]) for row in found}


def _give_up(cursor: sqlite3.Cursor, ids: Iterable[str], reason: str) -> None:
    for message_id in ids:
        found = cursor.execute(
            "DELETE FROM outbox WHERE id = ? RETURNING bytes", (message_id,)
        ).fetchone()
        if found is not None:
            cursor.execute(
                "INSERT INTO outbox_lost (reason, messages, bytes) VALUES (?, 1, ?)"
                " ON CONFLICT (reason) DO UPDATE SET messages = messages + 1,"
                " bytes = bytes + excluded.bytes",
                (reason, found[0]),
            )
