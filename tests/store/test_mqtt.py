from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.errors import StoreError
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
from kubeedge_tx.store.migrate import load_migrations
from kubeedge_tx.store.mqtt import MqttStore
from tests.mqtt.peer import reactor

STEPS = load_migrations("kubeedge_tx.store", "schema_mqtt")


def message(number: int, topic: str = "t") -> MessageRecord:
    """A message with a value in each field."""
    return MessageRecord(
        number=number,
        topic=topic,
        payload=b"\0\xff%d" % number,
        qos=1,
        retain=False,
        publisher="sender",
        properties=b"\x03\x01",
        expires_at=1e9 + number,
    )


def queued(client: str, number: int, shared: int, packet_id: int = 0) -> QueuePut:
    """A message that waits for a client."""
    return QueuePut(
        client,
        number=number,
        packet_id=packet_id,
        qos=2,
        retain=True,
        identifiers=(1, 200),
        message=message(shared),
    )


class Model:
    """What the records come to, applied one by one without any cleverness."""

    def __init__(self) -> None:
        self.sessions: dict[str, Any] = {}
        self.subscriptions: dict[Any, Any] = {}
        self.queue: dict[Any, Any] = {}
        self.released: set[Any] = set()
        self.incoming: set[Any] = set()
        self.retained: dict[str, Any] = {}

    def apply(self, record: Operation) -> None:
        match record:
            case SessionPut():
                self.sessions[record.client_id] = record
            case SessionDrop(client_id=name):
                self.sessions.pop(name, None)
                for rows in (self.subscriptions, self.queue):
                    for key in [key for key in rows if key[0] == name]:
                        del rows[key]
                self.released = {key for key in self.released if key[0] != name}
                self.incoming = {key for key in self.incoming if key[0] != name}
            case SubscriptionPut():
                self.subscriptions[record.client_id, record.filter] = record
            case SubscriptionDrop():
                self.subscriptions.pop((record.client_id, record.filter), None)
            case QueuePut():
                self.queue[record.client_id, record.number] = record
            case QueueSent():
                key = (record.client_id, record.number)
                if key in self.queue:
                    old = self.queue[key]
                    self.queue[key] = queued(
                        old.client_id, old.number, old.message.number, record.packet_id
                    )
            case QueueReleased():
                if (record.client_id, record.number) in self.queue:
                    self.released.add((record.client_id, record.number))
            case QueueDrop():
                self.queue.pop((record.client_id, record.number), None)
                self.released.discard((record.client_id, record.number))
            case IncomingPut():
                self.incoming.add((record.client_id, record.packet_id))
            case IncomingDrop():
                self.incoming.discard((record.client_id, record.packet_id))
            case RetainedPut():
                self.retained[record.topic] = record.message
            case RetainedDrop():
                self.retained.pop(record.topic, None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        return repr(self.__dict__)


def loaded(records: list[Operation]) -> Model:
    """The model that records make."""
    model = Model()
    for record in records:
        model.apply(record)
    return model


NAMES = st.sampled_from(["ann", "bob"])
NUMBERS = st.integers(1, 4)


@st.composite
def schedules(draw: st.DrawFn) -> list[list[Operation]]:
    """Batches of records as a broker makes them: queue numbers are never used again."""
    batches: list[list[Operation]] = []
    number = 0
    for _ in range(draw(st.integers(1, 6))):
        batch: list[Operation] = []
        for _ in range(draw(st.integers(0, 8))):
            name = draw(NAMES)
            earlier = draw(st.integers(max(number - 4, 0), number))
            kind = draw(st.integers(0, 12))
            if kind <= 2:
                number += 1
                batch.append(queued(name, number, draw(st.integers(number, number + 1))))
            else:
                made: Any = [
                    lambda: SessionPut(
                        name,  # noqa: B023
                        expiry=draw(NUMBERS),
                        expires_at=None,
                        user="u",
                    ),
                    lambda: SessionDrop(name),  # noqa: B023
                    lambda: SubscriptionPut(name, filter="f/#", qos=draw(NUMBERS)),  # noqa: B023
                    lambda: SubscriptionDrop(name, "f/#"),  # noqa: B023
                    lambda: QueueSent(name, earlier, draw(NUMBERS)),  # noqa: B023
                    lambda: QueueReleased(name, earlier),  # noqa: B023
                    lambda: QueueDrop(name, earlier),  # noqa: B023
                    lambda: IncomingPut(name, draw(NUMBERS)),  # noqa: B023
                    lambda: IncomingDrop(name, draw(NUMBERS)),  # noqa: B023
                    lambda: RetainedPut("r", retained(draw(NUMBERS))),
                ][kind - 3]()
                batch.append(made)
        batches.append(batch)
    return batches


def retained(number: int) -> MessageRecord:
    """What is kept of a retained message."""
    return MessageRecord(
        number=number,
        topic="r",
        payload=b"%d" % number,
        qos=1,
        retain=True,
        publisher="p",
        properties=b"",
        expires_at=None,
    )


class _Disk:
    """A database without a thread; each write waits until the test lets it, or refuses it."""

    def __init__(self) -> None:
        import sqlite3

        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for step in STEPS:
            self.connection.executescript(step.sql)
        self.waiting: list[tuple[Any, Deferred[Any]]] = []

    def write(self, work: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((work, done))
        return done

    def read(self, work: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        done.callback(work(self.connection.cursor()))
        return done

    def go(self, *, is_full: bool = False) -> None:
        """Let the next write through."""
        work, done = self.waiting.pop(0)
        if is_full:
            done.errback(Failure(StoreError("full")))
        else:
            done.callback(work(self.connection.cursor()))


class FoldTests(SynchronousTestCase):
    """Records are folded before they are written."""

    @settings(deadline=None, max_examples=300)
    @given(schedules(), st.randoms(use_true_random=False))
    def test_same_as_one_by_one(self, batches: list[list[Operation]], chance: Any) -> None:
        """However writes and commits interleave, the file says what the records say in order."""
        disk = _Disk()
        store = MqttStore(disk)  # type: ignore[arg-type]
        done: list[object] = []
        for batch in batches:
            store.write(batch).addCallback(done.append)
            while disk.waiting and chance.random() < 0.4:
                disk.go()
        while disk.waiting:
            disk.go()
        self.assertEqual(len(done), len(batches))
        found = loaded(self.successResultOf(store.load()))
        expected = loaded([record for batch in batches for record in batch])
        self.assertEqual(found, expected)
        used = {record.message.number for record in found.queue.values()}
        kept = {row[0] for row in disk.connection.execute("SELECT number FROM message")}
        self.assertEqual(kept, used)

    def test_drops_survive_a_full_disk(self) -> None:
        """What was acknowledged while the disk was full is gone once there is room."""
        disk = _Disk()
        store = MqttStore(disk)  # type: ignore[arg-type]
        store.write([queued("ann", 1, 1), IncomingPut("ann", 5), RetainedPut("r", retained(1))])
        disk.go()
        gone: list[Operation] = [
            *(QueueDrop("ann", 1), IncomingDrop("ann", 5), RetainedDrop("r")),
        ]
        refused = store.write([*gone, queued("ann", 2, 2)])
        disk.go(is_full=True)
        self.failureResultOf(refused, StoreError)
        store.write([])
        disk.go()
        found = loaded(self.successResultOf(store.load()))
        self.assertEqual((found.queue, found.incoming, found.retained), ({}, set(), {}))

    def test_short_life(self) -> None:
        """A message that is acknowledged while the disk is busy never reaches it."""
        disk = _Disk()
        store = MqttStore(disk)  # type: ignore[arg-type]
        store.write([queued("ann", 1, 1)])
        store.write([queued("ann", 2, 2), QueueSent("ann", 2, 7)])
        store.write([QueueDrop("ann", 2)])
        disk.go()
        seen: list[str] = []
        disk.connection.set_trace_callback(seen.append)
        disk.go()
        self.assertEqual(seen, [])


class FileTests(TestCase):
    """A real file."""

    async def test_everything_comes_back(self) -> None:
        """Each field of each record is there in the next process."""
        will = WillRecord(
            topic="w", payload=b"\0", qos=2, retain=True, properties=b"\x01\x01", due_at=12.5
        )
        records: list[Operation] = [
            SessionPut("ann", expiry=2**32 - 1, expires_at=1.5, user="u", will=will),
            SubscriptionPut(
                "ann",
                filter="$share/g/ü/#",
                qos=2,
                no_local=True,
                retain_as_published=True,
                retain_handling=2,
                identifier=268_435_455,
            ),
            queued("ann", 3, 9),
            queued("ann", 4, 9, packet_id=65_535),
            QueueReleased("ann", 4),
            IncomingPut("ann", 1),
            RetainedPut("r", retained(11)),
        ]
        path = Path(self.mktemp()) / "mqtt.db"
        for is_first in (True, False):
            database = Database(reactor, path, STEPS)
            await database.open()
            store = MqttStore(database)
            if is_first:
                await store.write(records)
            else:
                self.assertEqual(await store.load(), records)
            await database.close()
