from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.twins import Version
from kubeedge_tx.edge.devicetwin.attributes import Attribute
from kubeedge_tx.edge.devicetwin.devices import (
    Device,
    TakenIn,
    attribute_row,
    object_row,
    restored,
    twin_row,
)
from kubeedge_tx.edge.devicetwin.twin import Twin, Value
from kubeedge_tx.store.device import AttrRow, DeviceStore, TwinRow
from kubeedge_tx.store.topics import TopicStore
from tests.fakes.database import DirectDatabase


class DeviceStoreTests(SynchronousTestCase):
    """Tables ``device``, ``device_attr``, ``device_twin`` and ours beside them."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "edge.db"
        self.open()

    def open(self) -> None:
        self.database = DirectDatabase(self.path)
        self.store = DeviceStore(self.database)

    def rows(self, statement: str) -> list[Any]:
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def load(self) -> list[Device]:
        return [
            restored(each)
            for each in self.successResultOf(Deferred.fromCoroutine(self.store.load()))
        ]

    def make(self) -> Device:
        twins = {
            "t": Twin(
                expected=Value("30", 5),
                actual=Value("", 6),
                optional=False,
                type="int",
                expected_version=Version(7, 1),
                actual_version=Version(0, 2),
            ),
            "gone": Twin(type="deleted", actual_version=Version(0, 3)),
        }
        device = Device("default/a", "a", "text", "online", "2026-01-01T00:00:00Z")
        device.attributes["site"] = Attribute(value="hall", optional=False)
        device.twins.update(twins)
        device.stored.update(twins)
        device.taken_in = TakenIn("u", "9", {"t": "30", "x": None})
        self.successResultOf(
            self.database.commit(
                self.store.putting(device.row()),
                self.store.putting_twins(
                    device.id, [twin_row(name, each) for name, each in twins.items()]
                ),
                self.store.putting_attributes(
                    device.id, [attribute_row("site", device.attributes["site"])], ()
                ),
                self.store.putting_object(device.id, object_row(device.taken_in)),
            )
        )
        return device

    def test_there_and_back(self) -> None:
        """Everything of a device comes back from another process' file."""
        device = self.make()
        self.database.crash()
        self.open()
        self.assertEqual(self.load(), [device])

    def test_names(self) -> None:
        """Tables and columns are KubeEdge's, for its tools."""
        self.make()
        (row,) = self.rows(
            "SELECT deviceid, name, description, expected, actual, expected_meta, actual_meta,"
            " expected_version, actual_version, optional, attr_type, metadata FROM device_twin"
            " WHERE name = 't'"
        )
        self.assertEqual(
            row,
            (
                "default/a",
                "t",
                "",
                "30",
                "",
                '{"timestamp":5}',
                '{"timestamp":6}',
                '{"cloud":7,"edge":1}',
                '{"cloud":0,"edge":2}',
                0,
                "int",
                "{}",
            ),
        )
        self.assertEqual(
            self.rows("SELECT id, name, description, state, last_online FROM device"),
            [("default/a", "a", "text", "online", "2026-01-01T00:00:00Z")],
        )
        self.assertEqual(
            self.rows(
                "SELECT deviceid, name, description, value, optional, attr_type, metadata"
                " FROM device_attr"
            ),
            [("default/a", "site", "", "hall", 0, "string", "{}")],
        )

    def test_written_again(self) -> None:
        """A twin written again keeps its row, its own id and its place."""
        self.make()
        before = self.rows("SELECT id FROM device_twin")
        self.successResultOf(
            self.database.commit(
                self.store.putting_twins("default/a", [twin_row("t", Twin(actual=Value("1", 1)))])
            )
        )
        self.assertEqual(self.rows("SELECT id FROM device_twin"), before)
        self.assertEqual(self.load()[0].twins["t"], Twin(actual=Value("1", 1)))

    def test_deleted(self) -> None:
        """A device takes everything of it along, and nothing of others."""
        self.make()
        other = Device("default/ab", "ab")
        self.successResultOf(
            self.database.commit(
                self.store.putting(other.row()),
                self.store.putting_twins(other.id, [twin_row("t", Twin())]),
                self.store.deleting("default/a"),
            )
        )
        (left,) = self.load()
        self.assertEqual((left.id, list(left.twins)), ("default/ab", ["t"]))
        for table in ("device_attr", "device_object"):
            self.assertEqual(self.rows(f"SELECT * FROM {table}"), [])

    def test_attributes_removed(self) -> None:
        """Some written, others deleted, in one change."""
        self.make()
        rows = [AttrRow("row", "3", True, "int")]
        self.successResultOf(
            self.database.commit(self.store.putting_attributes("default/a", rows, ["site"]))
        )
        self.assertEqual(
            self.load()[0].attributes, {"row": Attribute(value="3", optional=True, type="int")}
        )

    def test_of_another_writer(self) -> None:
        """Empty texts for nothing, and JSON that is none, are read as nothing."""
        self.make()
        row = TwinRow("t", "", "5", "", "no", "", "no", True, "int", "")
        self.successResultOf(self.database.commit(self.store.putting_twins("default/a", [row])))
        self.assertEqual(self.load()[0].twins["t"], Twin(actual=Value("5", 0), type="int"))


class TopicStoreTests(SynchronousTestCase):
    """Table ``sub_topics``."""

    def test_kept(self) -> None:
        """Topics stay, in their order, until they are removed."""
        path = Path(self.mktemp()) / "edge.db"
        database = DirectDatabase(path)
        store = TopicStore(database)
        for topic in ("b", "a", "b"):
            self.successResultOf(store.add(topic))
        self.successResultOf(store.remove("unknown"))
        self.assertEqual(set(store.all()), {"a", "b"})
        database.crash()
        store = TopicStore(DirectDatabase(path))
        self.successResultOf(Deferred.fromCoroutine(store.load()))
        self.assertEqual(set(store.all()), {"a", "b"})
        self.successResultOf(store.remove("a"))
        self.assertEqual(store.all(), ("b",))

    def test_shown_once_on_disk(self) -> None:
        """A topic counts when it is on disk."""
        database = DirectDatabase(Path(self.mktemp()) / "edge.db")
        store = TopicStore(database)
        database.held = True
        done = store.add("a")
        self.assertEqual(store.all(), ())
        database.run()
        self.successResultOf(done)
        self.assertEqual(store.all(), ("a",))
