"""What the MQTT broker keeps: sessions, their subscriptions and queues, retained messages.

Records come in the order the broker made them and are folded before they are written: a
message that was queued and acknowledged while the disk was busy never reaches it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from kubeedge_tx.mqtt.records import (
    IncomingDrop,
    IncomingPut,
    MessageRecord,
    Operation,
    QueueDrop,
    QueuePut,
    QueueReleased,
    QueueSent,
    RetainedDrop,
    RetainedPut,
    SessionDrop,
    SessionPut,
    SubscriptionDrop,
    SubscriptionPut,
    WillRecord,
)
from kubeedge_tx.store.database import Database

_Key = tuple[str, int]


@dataclass(slots=True)
class _Fold:
    """What a run of records comes to. Each session dropped in it was dropped before the rest."""

    dropped: dict[str, None] = field(default_factory=dict)
    sessions: dict[str, SessionPut] = field(default_factory=dict)
    subscriptions: dict[tuple[str, str], SubscriptionPut | SubscriptionDrop] = field(
        default_factory=dict
    )
    queued: dict[_Key, QueuePut] = field(default_factory=dict)
    sent: dict[_Key, int] = field(default_factory=dict)
    released: dict[_Key, None] = field(default_factory=dict)
    done: dict[_Key, None] = field(default_factory=dict)
    incoming: dict[_Key, bool] = field(default_factory=dict)
    retained: dict[str, RetainedPut | RetainedDrop] = field(default_factory=dict)

    def add(self, record: Operation) -> None:
        """Take one record in."""
        _ADD[type(record)](self, record)

    def _queue_put(self, record: QueuePut) -> None:
        self.queued[record.client_id, record.number] = record

    def _queue_sent(self, record: QueueSent) -> None:
        self.sent[record.client_id, record.number] = record.packet_id

    def _queue_released(self, record: QueueReleased) -> None:
        self.released[record.client_id, record.number] = None

    def _queue_drop(self, record: QueueDrop) -> None:
        key = (record.client_id, record.number)
        self.sent.pop(key, None)
        self.released.pop(key, None)
        if self.queued.pop(key, None) is None:
            self.done[key] = None

    def _incoming_put(self, record: IncomingPut) -> None:
        self.incoming[record.client_id, record.packet_id] = True

    def _incoming_drop(self, record: IncomingDrop) -> None:
        self.incoming[record.client_id, record.packet_id] = False

    def _session_put(self, record: SessionPut) -> None:
        self.sessions[record.client_id] = record

    def _session_drop(self, record: SessionDrop) -> None:
        name = record.client_id
        self.dropped[name] = None
        self.sessions.pop(name, None)
        for table in (self.subscriptions, self.queued, self.sent, self.released, self.incoming):
            rows: dict[tuple[str, object], object] = table  # type: ignore[assignment]
            for key in [key for key in rows if key[0] == name]:
                del rows[key]

    def _subscription(self, record: SubscriptionPut | SubscriptionDrop) -> None:
        self.subscriptions[record.client_id, record.filter] = record

    def _retained(self, record: RetainedPut | RetainedDrop) -> None:
        self.retained[record.topic] = record

    def merge_older_drops(self, older: _Fold) -> None:
        """Take over what ``older`` wanted gone: it could not be written, and still holds."""
        for key in older.done:
            self.done.setdefault(key)
        for key, is_put in older.incoming.items():
            if not is_put:
                self.incoming.setdefault(key, False)
        for pair, subscription in older.subscriptions.items():
            if isinstance(subscription, SubscriptionDrop):
                self.subscriptions.setdefault(pair, subscription)
        for topic, retained in older.retained.items():
            if isinstance(retained, RetainedDrop):
                self.retained.setdefault(topic, retained)
        for name in older.dropped:
            self.dropped.setdefault(name)

    def apply(self, cursor: sqlite3.Cursor) -> None:
        """Write; runs in the database's thread."""
        run = cursor.executemany
        if self.dropped:
            _drop_sessions(cursor, self.dropped)
        if self.sessions:
            run(
                "INSERT OR REPLACE INTO session (client_id, expiry, expires_at, user, will)"
                " VALUES (?, ?, ?, ?, ?)",
                [
                    (s.client_id, s.expiry, s.expires_at, s.user, s.will and _pack(s.will))
                    for s in self.sessions.values()
                ],
            )
        if self.subscriptions:
            _write_subscriptions(cursor, self.subscriptions.values())
        if self.queued:
            _write_queue(cursor, self.queued.values())
        if self.sent:
            run(
                "UPDATE queue SET packet_id = ? WHERE client_id = ? AND number = ?",
                [(packet_id, *key) for key, packet_id in self.sent.items()],
            )
        if self.released:
            run("UPDATE queue SET released = 1 WHERE client_id = ? AND number = ?", self.released)
        if self.done:
            _drop_queued(cursor, self.done)
        if self.incoming:
            run(
                "INSERT OR IGNORE INTO incoming (client_id, packet_id) VALUES (?, ?)",
                [key for key, is_put in self.incoming.items() if is_put],
            )
            run(
                "DELETE FROM incoming WHERE client_id = ? AND packet_id = ?",
                [key for key, is_put in self.incoming.items() if not is_put],
            )
        if self.retained:
            _write_retained(cursor, self.retained.values())


_ADD: Final[Mapping[type, Callable[[_Fold, Any], None]]] = {
    SessionPut: _Fold._session_put,
    SessionDrop: _Fold._session_drop,
    SubscriptionPut: _Fold._subscription,
    SubscriptionDrop: _Fold._subscription,
    QueuePut: _Fold._queue_put,
    QueueSent: _Fold._queue_sent,
    QueueReleased: _Fold._queue_released,
    QueueDrop: _Fold._queue_drop,
    IncomingPut: _Fold._incoming_put,
    IncomingDrop: _Fold._incoming_drop,
    RetainedPut: _Fold._retained,
    RetainedDrop: _Fold._retained,
}


class MqttStore:
    """The broker's records in a database of their own.

    Only records of sessions that outlive their connection come here; each write fires once
    its transaction is on disk.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fold = _Fold()
        self._waiting: list[Deferred[None]] = []
        self._busy = False

    def load(self) -> Deferred[list[Operation]]:
        """Read everything, in the order that ``Broker.restore`` wants."""
        return self._database.read(_load)

    def write(self, operations: Sequence[Operation]) -> Deferred[None]:
        """Keep records; fires when they are on disk.

        :raises StoreError: they are not. What was to be removed is tried again with the
            next write, since that stays true.
        """
        add = self._fold.add
        for operation in operations:
            add(operation)
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if not self._busy:
            self._flush()
        return done

    def flush(self) -> Deferred[None]:
        """Fires when everything handed to :meth:`write` was tried."""
        if not self._busy:
            return succeed(None)
        last: Deferred[None] = Deferred()
        self._waiting.append(last)
        return last.addErrback(lambda _: None)

    def _flush(self) -> None:
        fold, self._fold = self._fold, _Fold()
        waiting, self._waiting = self._waiting, []
        self._busy = True
        self._database.write(fold.apply).addCallbacks(
            self._written, self._not_written, (waiting,), errbackArgs=(fold, waiting)
        )

    def _next(self) -> None:
        self._busy = False
        if self._waiting:
            self._flush()

    def _written(self, _: None, waiting: list[Deferred[None]]) -> None:
        self._next()  # first, so the disk works while the callbacks run
        for done in waiting:
            done.callback(None)

    def _not_written(self, failure: Failure, fold: _Fold, waiting: list[Deferred[None]]) -> None:
        self._fold.merge_older_drops(fold)
        self._next()
        for done in waiting:
            done.errback(failure)


_pack = msgspec.msgpack.Encoder().encode
_unpack_will = msgspec.msgpack.Decoder(WillRecord).decode


def _drop_sessions(cursor: sqlite3.Cursor, names: Iterable[str]) -> None:
    rows = [(name,) for name in names]
    for row in rows:
        numbers = cursor.execute("SELECT message FROM queue WHERE client_id = ?", row).fetchall()
        cursor.execute("DELETE FROM queue WHERE client_id = ?", row)
        _drop_unused(cursor, numbers)
    for table in ("session", "subscription", "incoming"):
        cursor.executemany(f"DELETE FROM {table} WHERE client_id = ?", rows)  # noqa: S608 - ours


def _write_subscriptions(
    cursor: sqlite3.Cursor, records: Iterable[SubscriptionPut | SubscriptionDrop]
) -> None:
    for kind, group in groupby(records, type):
        if kind is SubscriptionDrop:
            cursor.executemany(
                "DELETE FROM subscription WHERE client_id = ? AND filter = ?",
                [(s.client_id, s.filter) for s in group],
            )
        else:
            cursor.executemany(
                "INSERT OR REPLACE INTO subscription (client_id, filter, qos, no_local,"
                " retain_as_published, retain_handling, identifier) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(s.client_id, s.filter, s.qos, s.no_local),
                        *(s.retain_as_published, s.retain_handling, s.identifier),
                    )
                    for s in group
                    if isinstance(s, SubscriptionPut)
                ],
            )


def _write_queue(cursor: sqlite3.Cursor, records: Iterable[QueuePut]) -> None:
    messages = {record.message.number: record.message for record in records}
    cursor.executemany(
        "INSERT OR IGNORE INTO message (number, topic, payload, qos, retain, publisher,"
        " properties, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(m.number, m.topic, m.payload, m.qos, m.retain),
                *(m.publisher, m.properties, m.expires_at),
            )
            for m in messages.values()
        ],
    )
    cursor.executemany(
        "INSERT OR REPLACE INTO queue (client_id, number, message, packet_id, qos, retain,"
        " identifiers) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(record.client_id, record.number, record.message.number, record.packet_id),
                *(record.qos, record.retain, ",".join(map(str, record.identifiers))),
            )
            for record in records
        ],
    )


def _drop_queued(cursor: sqlite3.Cursor, keys: Iterable[_Key]) -> None:
    numbers = []
    for key in keys:
        row = cursor.execute(
            "DELETE FROM queue WHERE client_id = ? AND number = ? RETURNING message", key
        ).fetchone()
        if row is not None:
            numbers.append(row)
    _drop_unused(cursor, numbers)


def _drop_unused(cursor: sqlite3.Cursor, numbers: Iterable[tuple[int]]) -> None:
    cursor.executemany(
        "DELETE FROM message WHERE number = ?1"
        " AND NOT EXISTS (SELECT 1 FROM queue WHERE message = ?1)",
        numbers,
    )


def _write_retained(cursor: sqlite3.Cursor, records: Iterable[RetainedPut | RetainedDrop]) -> None:
    cursor.executemany(
        "DELETE FROM retained WHERE topic = ?",
        [(record.topic,) for record in records if isinstance(record, RetainedDrop)],
    )
    cursor.executemany(
        "INSERT OR REPLACE INTO retained (topic, number, payload, qos, publisher, properties,"
        " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(record.topic, record.message.number, record.message.payload),
                *(record.message.qos, record.message.publisher),
                *(record.message.properties, record.message.expires_at),
            )
            for record in records
            if isinstance(record, RetainedPut)
        ],
    )


def _load(cursor: sqlite3.Cursor) -> list[Operation]:
    found: list[Operation] = [
        SessionPut(
            row[0],
            expiry=row[1],
            expires_at=row[2],
            user=row[3],
            will=None if row[4] is None else _unpack_will(row[4]),
        )
        for row in cursor.execute("SELECT client_id, expiry, expires_at, user, will FROM session")
    ]
    found += [
        SubscriptionPut(
            row[0],
            filter=row[1],
            qos=row[2],
            no_local=bool(row[3]),
            retain_as_published=bool(row[4]),
            retain_handling=row[5],
            identifier=row[6],
        )
        for row in cursor.execute(
            "SELECT client_id, filter, qos, no_local, retain_as_published, retain_handling,"
            " identifier FROM subscription"
        )
    ]
    found += _load_queue(cursor)
    found += [
        IncomingPut(*row) for row in cursor.execute("SELECT client_id, packet_id FROM incoming")
    ]
    found += [
        RetainedPut(row[1], _message(row))
        for row in cursor.execute(
            "SELECT number, topic, payload, qos, 1, publisher, properties, expires_at FROM retained"
        )
    ]
    return found


def _load_queue(cursor: sqlite3.Cursor) -> Iterable[Operation]:
    messages: dict[int, MessageRecord] = {}
    rows = cursor.execute(
        "SELECT q.client_id, q.number, q.packet_id, q.qos, q.retain, q.identifiers, q.released,"
        " m.number, m.topic, m.payload, m.qos, m.retain, m.publisher, m.properties, m.expires_at"
        " FROM queue q JOIN message m ON m.number = q.message ORDER BY q.number"
    )
    for client_id, number, packet_id, qos, retain, identifiers, released, *rest in rows:
        message = messages.get(rest[0])
        if message is None:
            message = messages[rest[0]] = _message(rest)
        yield QueuePut(
            client_id,
            number=number,
            packet_id=packet_id,
            qos=qos,
            retain=bool(retain),
            identifiers=tuple(map(int, identifiers.split(","))) if identifiers else (),
            message=message,
        )
        if released:
            yield QueueReleased(client_id, number)


def _message(row: Sequence[Any]) -> MessageRecord:
    return MessageRecord(
        number=row[0],
        topic=row[1],
        payload=row[2],
        qos=row[3],
        retain=bool(row[4]),
        publisher=row[5],
        properties=row[6],
        expires_at=row[7],
    )
