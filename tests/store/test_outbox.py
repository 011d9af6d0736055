from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.errors import StoreError
from kubeedge_tx.store.outbox import BULK, CONTROL, FULL, OLD, STATE, Outbox, OutboxLimits
from tests.fakes.database import DirectDatabase


def message(message_id: str, content: object = "x") -> Message:
    return Message(
        Header(msg_id=message_id, timestamp=1),
        Route("edged", "meta", "patch", "default/podpatch/web"),
        raw(content),
    )


class OutboxCase(SynchronousTestCase):
    limits = OutboxLimits()

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "edge.db"
        self.now_ms = 1_000_000
        self.open()

    def open(self) -> None:
        self.database = DirectDatabase(self.path)
        self.outbox = Outbox(self.database, lambda: self.now_ms, self.limits)
        self.finish(self.outbox.load())

    def finish(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def put(self, message_id: str, key: str | None = None, priority: int = STATE) -> None:
        self.successResultOf(
            self.outbox.put(message(message_id), key=key, priority=priority, confirm=True)
        )

    def restart(self) -> None:
        self.database.crash()
        self.open()


class OutboxTests(OutboxCase):
    """Nothing that was put is lost, and nothing old overtakes something new."""

    def test_order(self) -> None:
        """Control goes before states, states before bulk; inside a lane the oldest first."""
        self.put("event", priority=BULK)
        self.put("pod-1")
        self.put("node", priority=CONTROL)
        self.put("pod-2")
        self.assertEqual(self.outbox.next_ids(9), ["node", "pod-1", "pod-2", "event"])
        self.assertEqual(self.outbox.next_ids(1, skip={"node"}), ["pod-1"])
        self.restart()
        self.assertEqual(self.outbox.next_ids(9), ["node", "pod-1", "pod-2", "event"])

    def test_newest_of_a_key(self) -> None:
        """A newer status replaces the older one and queues behind what came between."""
        self.put("old", key="web")
        self.put("delete")
        self.put("new", key="web")
        self.assertEqual(self.outbox.next_ids(9), ["delete", "new"])
        self.assertFalse(self.outbox.has("old"))
        self.restart()
        self.assertEqual(self.outbox.next_ids(9), ["delete", "new"])

    def test_read(self) -> None:
        """Messages come back as they went in, in the order asked for."""
        self.put("a")
        self.put("b")
        entries = self.finish(self.outbox.read(["b", "gone", "a"]))
        self.assertEqual([entry.message for entry in entries], [message("b"), message("a")])
        self.assertTrue(entries[0].confirm)

    def test_confirmed(self) -> None:
        """A confirmed message is gone, also after a restart; a late confirmation is nothing."""
        self.put("a", key="web")
        self.put("b", key="web")
        self.successResultOf(self.outbox.confirm("a"))
        self.assertEqual(len(self.outbox), 1)
        self.successResultOf(self.outbox.confirm("b"))
        self.restart()
        self.assertEqual((len(self.outbox), self.outbox.size_bytes), (0, 0))

    def test_age_of_confirmed(self) -> None:
        """Whoever asked hears how long a message had waited; not of one that was replaced."""
        heard: list[float] = []
        self.outbox.on_confirmed(heard.append)
        self.put("a", key="web")
        self.now_ms += 2500
        self.put("b", key="web")
        self.now_ms += 1500
        for message_id in ("a", "b", "b"):
            self.successResultOf(self.outbox.confirm(message_id))
        self.assertEqual(heard, [1.5])

    def test_listener(self) -> None:
        """Whoever sends hears of a message once it is on disk."""
        heard: list[int] = []
        self.outbox.on_change(lambda: heard.append(len(self.outbox)))
        self.database.held = True
        self.outbox.put(message("a"), key=None, priority=STATE, confirm=True)
        self.assertEqual(heard, [])
        self.database.run()
        self.assertEqual(heard, [1])

    def test_killed_before_commit(self) -> None:
        """The caller was told nothing, and there is nothing."""
        self.database.held = True
        putting = self.outbox.put(message("a"), key=None, priority=STATE, confirm=True)
        self.assertNoResult(putting)
        self.restart()
        self.assertEqual(len(self.outbox), 0)

    def test_killed_after_commit(self) -> None:
        """The caller was told nothing yet, but the message goes out."""
        self.database.held = True
        self.outbox.put(message("a"), key=None, priority=STATE, confirm=True)
        self.database.run(tell=False)
        self.restart()
        self.assertEqual(self.outbox.next_ids(9), ["a"])

    def test_too_old(self) -> None:
        """What nobody took for a week is given up and counted for ever."""
        self.put("a")
        self.now_ms += 4 * 24 * 3600 * 1000
        self.put("b")
        self.assertEqual(self.outbox.oldest_seconds(), 4 * 24 * 3600)
        self.now_ms += 4 * 24 * 3600 * 1000
        self.finish(self.outbox.expire())
        self.assertEqual(self.outbox.next_ids(9), ["b"])
        self.restart()
        self.assertEqual(self.outbox.lost[OLD][0], 1)

    def test_off_and_set(self) -> None:
        """Nothing grows older while the edge is off, and no clock that is set makes it so."""
        self.put("a")
        self.now_ms += 6 * 24 * 3600 * 1000
        self.finish(self.outbox.expire())
        for now in (0, 10**15, 5):  # the machine's own count begins anew, whatever it says
            self.now_ms = now
            self.restart()
            self.assertEqual(self.outbox.oldest_seconds(), 6 * 24 * 3600)
            self.put("b", key="b")
        self.now_ms += 25 * 3600 * 1000
        self.finish(self.outbox.expire())
        self.assertEqual(self.outbox.next_ids(9), ["b"])


class FullOutboxTests(OutboxCase):
    """An outbox with room for four messages."""

    limits = OutboxLimits(max_messages=4, max_bytes=1000)

    def test_bulk_goes_first(self) -> None:
        """Events are given up before states, oldest first, and counted."""
        self.put("state")
        for name in ("e1", "e2", "e3"):
            self.put(name, priority=BULK)
        self.put("new")
        self.assertEqual(self.outbox.next_ids(9), ["state", "new", "e2", "e3"])
        self.restart()
        self.assertEqual(self.outbox.lost[FULL][0], 1)

    def test_replacing_needs_no_room(self) -> None:
        """A newer state of something already waiting pushes nobody out."""
        for name in "abcd":
            self.put(name, key=name)
        self.put("d2", key="d")
        self.assertEqual(self.outbox.next_ids(9), ["a", "b", "c", "d2"])
        self.assertEqual(self.outbox.lost, {})

    def test_bytes(self) -> None:
        """Room is counted in bytes too."""
        self.put("a")
        big = message("big", "x" * 800)
        self.successResultOf(self.outbox.put(big, key=None, priority=STATE, confirm=True))
        self.assertEqual(self.outbox.next_ids(9), ["big"])

    def test_larger_than_everything(self) -> None:
        """A message that never fits is refused and throws nobody out."""
        self.put("a")
        with self.assertRaises(StoreError):
            self.outbox.put(message("big", "x" * 2000), key=None, priority=STATE, confirm=True)
        self.assertEqual(self.outbox.next_ids(9), ["a"])


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "keep", "confirm", "restart"]), st.integers(0, 3)),
    max_size=30,
)


class OutboxPromiseTests(OutboxCase):
    """Against a list in memory."""

    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def test_like_a_list(self, steps: list[tuple[str, int]]) -> None:
        """Whatever happens, the newest of every key and all of the rest wait, in order."""
        self.setUp()
        expected: list[tuple[str | None, str]] = []
        for serial, (verb, n) in enumerate(steps):
            name = f"m{serial}"
            if verb == "put":
                expected = [pair for pair in expected if pair[0] != f"k{n}"]
                expected.append((f"k{n}", name))
                self.put(name, key=f"k{n}")
            elif verb == "keep":
                expected.append((None, name))
                self.put(name)
            elif verb == "confirm" and n < len(expected):
                self.successResultOf(self.outbox.confirm(expected.pop(n)[1]))
            elif verb == "restart":
                self.restart()
            self.assertEqual(self.outbox.next_ids(99), [pair[1] for pair in expected])
        self.database.crash()
