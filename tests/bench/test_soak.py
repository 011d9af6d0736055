from __future__ import annotations

import sqlite3
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.faultkit.history import Event
from kubeedge_tx.store.migrate import load_migrations
from tests.bench.soak.looks import History, Looks
from tests.bench.soak.memory import Memory
from tests.bench.soak.objects import Thing, layout


class LayoutTests(SynchronousTestCase):
    """What changes, and where."""

    def test_all_there(self) -> None:
        """As many objects as asked for; each edge has pods, and one that needs what is its."""
        things = layout(30, 500)
        self.assertEqual(len(things), 500)
        self.assertEqual(len({thing.key for thing in things}), 500)
        kinds = Counter(thing.kind for thing in things)
        self.assertEqual(set(kinds), {"Pod", "ConfigMap", "Secret", "Device"})
        self.assertEqual(kinds["Pod"], 60)
        needs = {thing.nodes[0]: set(thing.needs) for thing in things if thing.needs}
        self.assertEqual(len(needs), 30)
        for thing in things:
            if thing.kind in ("ConfigMap", "Secret"):
                self.assertTrue(thing.nodes)
                for edge in range(30):
                    self.assertEqual(thing.name in needs[edge], edge in thing.nodes)


class MemoryTests(SynchronousTestCase):
    """Whether processes grow."""

    def test_growth(self) -> None:
        """A process that grows is told from one that fills its caches once, by its slope."""
        memory = Memory()
        for at in range(0, 1200, 10):
            memory.take("soak-01", 7, at, 60 * 1024 if at > 100 else 40 * 1024)
            memory.take("cloud-0", 8, at, 100 * 1024 + at)
            memory.take("soak-02", 9, min(at, 200), 70 * 1024)  # too short to tell
        flat = memory.typical("soak-")
        grows = memory.typical("cloud-")
        assert flat is not None and grows is not None
        self.assertEqual(flat, (60.0, 60.0, 0.0))
        self.assertAlmostEqual(grows[2], 3600 / 1024)
        self.assertEqual(memory.most("soak-"), 70.0)
        self.assertIsNone(memory.typical("the API"))
        self.assertEqual(memory.course("soak-"), [60.0] * 4)
        self.assertEqual(memory.course("the API"), [])


class _Edge:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir


class _Site:
    def __init__(self, data_dir: Path) -> None:
        self.edges = [_Edge(data_dir)]
        self.nodes = ["soak-00"]


class LooksTests(SynchronousTestCase):
    """Differences between an edge's store and the cluster."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.database = sqlite3.connect(folder / "edgecore.db", isolation_level=None)
        self.addCleanup(self.database.close)
        for migration in load_migrations("kubeedge_tx.store", "schema"):
            self.database.executescript(migration.sql)
        self.history = History(BytesIO())
        things = [Thing("ConfigMap", "map-1", (0,)), Thing("Device", "device-1", (0,))]
        site: Any = _Site(folder)
        self.looks = Looks(site, things, self.history)

    def store(self, kind: str, name: str, uid: str, version: int) -> None:
        metadata = {"name": name, "uid": uid, "resourceVersion": str(version)}
        value = msgspec.json.encode({"metadata": metadata}).decode()
        row = f"default/{kind}/{name}", kind, value
        self.database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", row)

    def cluster(self, key: str, uid: str, version: int, *, gone: bool = False) -> None:
        self.history.note(Event(where="cluster", key=key, uid=uid, version=version, gone=gone))

    def test_missing(self) -> None:
        """What never came, came in another version, or should be gone, is a difference."""
        self.assertEqual(self.looks.not_delivered(), [])
        self.cluster("default/configmap/map-1", "a", 5)
        self.assertIn("map-1 in None", self.looks.not_delivered()[0])
        self.store("configmap", "map-1", "a", 4)
        self.assertIn("('a', 4)", self.looks.not_delivered()[0])
        self.store("configmap", "map-1", "a", 5)
        self.assertEqual(self.looks.not_delivered(), [])
        self.cluster("default/configmap/map-1", "a", 6, gone=True)
        self.assertIn("the cluster in None", self.looks.not_delivered()[0])
        self.assertEqual(self.history.checker.broken, [])

    def test_back(self) -> None:
        """The judge hears of a version that went back between two looks."""
        self.cluster("default/configmap/map-1", "a", 5)
        for version in (5, 4):
            self.store("configmap", "map-1", "a", version)
            self.looks.edges()
        self.assertIn("went back from version 5 to 4", self.history.checker.broken[0])

    def test_device(self) -> None:
        """A Device that is stored and that its twins have not taken in is a difference."""
        self.cluster("default/device/device-1", "d", 9)
        self.store("device", "device-1", "d", 9)
        self.assertIn("has not taken it in", self.looks.not_delivered()[0])
        row = "default/device-1", "d", "9", "{}"
        self.database.execute("INSERT INTO device_object VALUES (?, ?, ?, ?)", row)
        self.assertEqual(self.looks.not_delivered(), [])
