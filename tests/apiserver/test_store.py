from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.apiserver.shelf import DELETED, Compacted, Event
from kubeedge_tx.apiserver.store import ObjectStore
from kubeedge_tx.errors import StoreError
from tests.apiserver.direct import DirectDatabase

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "remove", "commit", "hold"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["x", "y"]),
    ),
    max_size=40,
)


def loaded(database: DirectDatabase, **limits: int) -> ObjectStore:
    """A store on a database, with what is in it."""
    store = ObjectStore(database, **limits)
    Deferred.fromCoroutine(store.load())
    return store


def obj(name: str, **more: Any) -> dict[str, Any]:
    """A small object."""
    return {"kind": "Thing", "apiVersion": "v1", "metadata": {"name": name}, **more}


class StoreTests(SynchronousTestCase):
    """What was answered is on disk, and watches see it once and in order."""

    def setUp(self) -> None:
        self.database = DirectDatabase()
        self.store = loaded(self.database)
        self.seen: list[tuple[str, str, int]] = []
        self.store.shelf("things").listen(self.see)

    def see(self, events: list[Event]) -> None:
        self.seen += [(e.type, e.item.name, e.item.version) for e in events]

    def test_versions_are_one_line(self) -> None:
        """Every change of any kind gets the next resourceVersion."""
        first = self.successResultOf(self.store.put("things", "n", "a", obj("a")))
        other = self.successResultOf(self.store.put("others", "n", "a", obj("a")))
        gone = self.successResultOf(self.store.remove("things", "n", "a", obj("a")))
        self.assertEqual([first.version, other.version, gone.version], [1, 2, 3])
        self.assertEqual(json.loads(first.body)["metadata"]["resourceVersion"], "1")
        self.assertEqual(self.seen, [("ADDED", "a", 1), ("DELETED", "a", 3)])

    def test_nothing_shows_before_the_disk(self) -> None:
        """Readers and watches see a change when it is durable; writers are checked before."""
        self.database.held = True
        done = self.store.put("things", "n", "a", obj("a"))
        self.assertNoResult(done)
        self.assertIsNone(self.store.get("things", "n", "a"))
        head = self.store.head("things", "n", "a")
        assert head is not None
        self.assertEqual((head.version, self.store.version, self.seen), (1, 0, []))
        self.database.run()
        self.assertEqual(self.successResultOf(done).version, 1)
        self.assertEqual(self.seen, [("ADDED", "a", 1)])

    def test_writes_share_a_transaction(self) -> None:
        """What is asked for while the disk is busy goes out together."""
        self.database.held = True
        results = [self.store.put("things", "n", name, obj(name)) for name in "abcd"]
        self.assertEqual(len(self.database.waiting), 1)
        self.database.run()
        self.assertEqual(len(self.database.waiting), 1)
        self.database.run()
        self.assertEqual([self.successResultOf(r).version for r in results], [1, 2, 3, 4])

    def test_full_disk(self) -> None:
        """A failed write fails everyone that built on it, and leaves the old state."""
        self.successResultOf(self.store.put("things", "n", "a", obj("a", value=1)))
        self.database.held = True
        self.database.failing = StoreError("apiserver.db: the disk is full; free some space")
        doomed = [self.store.put("things", "n", "a", obj("a", value=n)) for n in (2, 3)]
        self.database.run()
        for result in doomed:
            self.failureResultOf(result, StoreError)
        head = self.store.head("things", "n", "a")
        assert head is not None
        self.assertEqual(head.obj["value"], 1)
        self.database.held, self.database.failing = False, None
        self.assertEqual(
            self.successResultOf(self.store.put("things", "n", "a", obj("a", value=4))).version, 4
        )
        self.assertEqual([v for _, _, v in self.seen], [1, 4])

    def test_giving_up_does_not_undo(self) -> None:
        """Whoever cancels loses the answer; the write happens, and the next ones too."""
        self.database.held = True
        gone = self.store.put("things", "n", "a", obj("a"))
        gone.addErrback(lambda _: None)
        gone.cancel()
        self.database.run()
        self.assertIsNotNone(self.store.get("things", "n", "a"))

    def test_restart(self) -> None:
        """After a restart objects and the version are there, and older watches must relist."""
        for name in "ab":
            self.successResultOf(self.store.put("things", "n", name, obj(name)))
        self.successResultOf(self.store.remove("things", "n", "b", obj("b")))
        again = loaded(self.database)
        self.assertEqual(again.version, 3)
        self.assertEqual([i.name for i in again.shelf("things").snapshot()], ["a"])
        self.assertEqual(again.shelf("things").position(3), 0)
        self.assertRaises(Compacted, again.shelf("things").position, 2)
        self.assertEqual(self.successResultOf(again.put("things", "n", "c", obj("c"))).version, 4)

    def test_compaction(self) -> None:
        """The log is bounded; who falls behind it is told so."""
        store = loaded(self.database, max_events=10)
        for n in range(25):
            self.successResultOf(store.put("things", "n", "a", obj("a", value=n)))
        shelf = store.shelf("things")
        self.assertLessEqual(len(shelf.since(shelf.position(shelf.compacted), 100)), 10)
        self.assertRaises(Compacted, shelf.position, 1)
        self.assertRaises(Compacted, shelf.since, 0, 1)
        self.assertRaises(Compacted, shelf.snapshot, "", 1)

    def test_log_is_bounded_by_bytes(self) -> None:
        """Big objects shorten the log as well."""
        store = loaded(self.database, max_events=1000, max_bytes=10_000)
        for n in range(30):
            self.successResultOf(store.put("things", "n", "a", obj("a", value=f"{n}" * 500)))
        shelf = store.shelf("things")
        held = shelf.since(shelf.position(shelf.compacted), 1000)
        self.assertLessEqual(sum(len(e.item.body) for e in held), 10_000)
        self.assertTrue(held)


class StoreHistoryTests(SynchronousTestCase):
    """Whatever happens, watching gives the same picture as listing."""

    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def test_history(self, steps: list[tuple[str, str, str]]) -> None:
        database = DirectDatabase()
        store = loaded(database)
        shelf = store.shelf("things")
        watched: dict[tuple[str, str], int] = {}
        history: dict[int, dict[tuple[str, str], int]] = {0: {}}

        def see(events: list[Event]) -> None:
            for event in events:
                if event.type == DELETED:
                    del watched[event.item.key]
                else:
                    self.assertEqual(event.type == "ADDED", event.item.key not in watched)
                    watched[event.item.key] = event.item.version
                history[event.item.version] = dict(watched)

        shelf.listen(see)
        for verb, name, namespace in steps:
            if verb == "put":
                store.put("things", namespace, name, obj(name))
            elif verb == "remove":
                if store.head("things", namespace, name) is not None:
                    store.remove("things", namespace, name, obj(name))
            elif verb == "commit":
                database.held = False
                while database.waiting:
                    database.run()
            else:
                database.held = True
        database.held = False
        while database.waiting:
            database.run()
        self.assertEqual({i.key: i.version for i in shelf.snapshot()}, watched)
        for version, state in history.items():
            found = {item.key: item.version for item in shelf.snapshot("", version)}
            self.assertEqual(found, state, f"as of {version}")
        self.assertEqual(
            {i.key: i.version for i in loaded(database).shelf("things").snapshot()}, watched
        )
