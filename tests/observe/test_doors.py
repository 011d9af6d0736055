from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.config.types import ListenerLimits
from kubeedge_tx.observe.doors import Door, Doors, Guarded, Visit
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.rarely import Rarely, and_more


class RarelyTests(SynchronousTestCase):
    def test_once_in_a_while(self) -> None:
        """The first time, then silence, then once more with the number of what was left out."""
        rarely = Rarely(period=60)
        said = [rarely.due("a", now) for now in (0, 1, 59, 60, 61)]
        self.assertEqual(said, [0, None, None, 2, None])
        self.assertEqual(rarely.due("b", 61), 0)
        self.assertEqual((and_more(0), and_more(2)[:8]), ("", " (2 more"))

    def test_bounded(self) -> None:
        """However many subjects there are, few are remembered."""
        rarely = Rarely(subjects=10)
        for number in range(1000):
            self.assertEqual(rarely.due(number, 0), 0)
        self.assertEqual(len(rarely), 10)
        self.assertIsNone(rarely.due(999, 0))


class Gate:
    """A door and who stands at it."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.door: Door = Doors(self.clock, self.metrics).door("port", ListenerLimits(**limits))
        self.out: list[str] = []
        self.gone: set[Visit] = set()

    def come(self, peer: str = "192.0.2.1", name: str = "") -> Visit | None:
        if not self.door.admits(peer):
            return None
        visits: list[Visit] = []

        def turn_out() -> None:
            self.out.append(name or peer)
            self.gone.add(visits[0])
            visits[0].left()

        visits.append(self.door.arrived(peer, turn_out))
        return visits[0]

    def refused(self, reason: str) -> int:
        labels = f'{{listener="port",reason="{reason}"}} '
        name = "kubeedge_listener_refused_connections_total"
        for line in self.metrics.text().splitlines():
            if line.startswith(name + labels):
                return int(line.split()[-1])
        return 0


class DoorTests(SynchronousTestCase):
    """Limits of connections, and who has to go."""

    def test_total_and_per_peer(self) -> None:
        """Neither all together nor one address alone can have more than is configured."""
        gate = Gate(max_connections=3, max_connections_per_peer=2)
        first = gate.come()
        gate.come()
        self.assertIsNone(gate.come())
        self.assertEqual(gate.refused("peer-full"), 1)
        self.assertIsNotNone(gate.come("192.0.2.2"))
        self.assertIsNone(gate.come("192.0.2.3"))
        self.assertEqual(gate.refused("full"), 1)
        assert first is not None
        first.left()
        self.assertIsNotNone(gate.come("192.0.2.3"))

    def test_slow_strangers(self) -> None:
        """Who has not become known in time is turned out; who has, stays."""
        gate = Gate(handshake_timeout=30)
        known = gate.come(name="known")
        gate.come(name="slow")
        gate.clock.advance(10)
        gate.come(name="later")
        assert known is not None
        known.known()
        gate.clock.advance(20)
        self.assertEqual(gate.out, ["slow"])
        gate.clock.advance(10)
        self.assertEqual(gate.out, ["slow", "later"])
        gate.clock.advance(1000)
        self.assertEqual((gate.door.connections, gate.door.strangers), (1, 0))
        self.assertEqual(gate.refused("slow"), 2)
        self.assertEqual(gate.clock.getDelayedCalls(), [])

    def test_the_quick_get_in(self) -> None:
        """When slow ones fill the place, the oldest makes room, but not in its first second."""
        gate = Gate(max_unauthenticated=2, max_unauthenticated_per_peer=2)
        gate.come(name="a")
        gate.come(name="b")
        self.assertIsNone(gate.come("192.0.2.9"))
        self.assertEqual(gate.refused("strangers"), 1)
        gate.clock.advance(1)
        visit = gate.come("192.0.2.9")
        assert visit is not None
        visit.known()
        self.assertEqual(gate.out, ["a"])
        gate.clock.advance(0.5)
        gate.come("192.0.2.1", "c")
        gate.come("192.0.2.1", "d")
        self.assertEqual(gate.out, ["a", "b"])

    def test_one_peer_pays_itself(self) -> None:
        """An address with too many strangers loses its own, not those of others."""
        gate = Gate(max_unauthenticated=10, max_unauthenticated_per_peer=2)
        gate.come("192.0.2.2", "other")
        gate.come(name="a")
        gate.come(name="b")
        gate.clock.advance(2)
        self.assertIsNotNone(gate.come(name="c"))
        self.assertEqual(gate.out, ["a"])

    def test_rate(self) -> None:
        """One address comes only so often; others are not concerned; later it may again."""
        gate = Gate(connection_rate=2, connection_burst=3)
        self.assertEqual(
            [gate.door.admits("192.0.2.1") for _ in range(5)], [True] * 3 + [False] * 2
        )
        self.assertTrue(gate.door.admits("192.0.2.2"))
        gate.clock.advance(0.5)
        self.assertEqual([gate.door.admits("192.0.2.1") for _ in range(2)], [True, False])
        self.assertEqual(gate.refused("rate"), 3)

    def test_many_peers(self) -> None:
        """Addresses that come once are not remembered for ever."""
        gate = Gate()
        for number in range(10_000):
            visit = gate.come(f"10.0.{number // 256}.{number % 256}")
            assert visit is not None
            visit.left()
        self.assertLessEqual(len(gate.door._rates), 4096)
        self.assertEqual((gate.door._open, gate.door._strangers_of), ({}, {}))

    @given(
        st.lists(st.tuples(st.sampled_from(["come", "known", "left", "wait"]), st.integers(0, 5)))
    )
    def test_counts_hold(self, steps: list[tuple[str, int]]) -> None:
        """Whatever happens, the figures are those of who is there, and the limits are kept."""
        gate = Gate(
            max_connections=6,
            max_connections_per_peer=4,
            max_unauthenticated=4,
            max_unauthenticated_per_peer=3,
            handshake_timeout=10,
        )
        there: list[Visit] = []
        for what, number in steps:
            if what == "come":
                visit = gate.come(f"192.0.2.{number % 3}")
                if visit is not None:
                    there.append(visit)
            elif what == "wait":
                gate.clock.advance(number)
            elif there:
                visit = there[number % len(there)]
                visit.known() if what == "known" else self.leave(gate, there, visit)
            alive = gate.door.connections
            self.assertEqual(alive, sum(each not in gate.gone for each in there))
            self.assertLessEqual(alive, 6)
            self.assertLessEqual(gate.door.strangers, 4)
            self.assertEqual(alive, sum(gate.door._open.values()))
            self.assertEqual(gate.door.strangers, sum(gate.door._strangers_of.values()))
            self.assertLessEqual(max(gate.door._open.values(), default=0), 4)
            self.assertLessEqual(max(gate.door._strangers_of.values(), default=0), 3)

    @staticmethod
    def leave(gate: Gate, there: list[Visit], visit: Visit) -> None:
        """Let one go, unless it was turned out already."""
        there.remove(visit)
        if visit not in gate.gone:
            visit.left()

    def test_refused_before_there_is_a_protocol(self) -> None:
        """A refused connection costs no more than its socket."""
        gate = Gate(max_connections=0)

        class Factory:
            def buildProtocol(self, addr: Any) -> Any:
                raise AssertionError("made")

        class Address:
            host = "192.0.2.1"

        self.assertIsNone(Guarded(gate.door, Factory()).buildProtocol(Address()))
