from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.viaduct.window import AckWindow

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 3), st.integers(0, 2)),
        st.tuples(st.just("ack"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("tick"), st.integers(0, 7), st.integers(1, 3)),
        st.tuples(st.just("lost"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class AckWindowTests(SynchronousTestCase):
    """Whatever happens to the channel, the newest state of every object arrives."""

    @settings(max_examples=300)
    @given(STEPS, st.integers(1, 4), st.sampled_from([0, 1, 5]))
    def test_newest_always_arrives(
        self, steps: list[tuple[str, int, int]], width: int, max_sends: int
    ) -> None:
        """The newest of each part lands; no part goes back; one of each key is in flight."""
        window: AckWindow[tuple[str, str, int]] = AckWindow(
            width=width, resend_after=5.0, max_sends=max_sends
        )
        now, serial = 0.0, 0
        newest: dict[tuple[str, str], int] = {}
        landed: dict[tuple[str, str], int] = {}
        sent: list[str] = []
        flying: dict[str, str] = {}

        def deliver(most: int) -> None:
            for key, part, version in window.to_send(now, most):
                self.assertGreaterEqual(version, landed.get((key, part), 0), "went back in time")
                landed[key, part] = version
                sent.append(str(version))
            self.assertLessEqual(window.in_flight, width)
            flying.clear()

        for verb, n, m in steps:
            if verb == "offer":
                serial += 1
                key, part = f"pod-{n}", f"uid-{m}"
                newest[key, part] = serial
                window.offer(key, str(serial), (key, part, serial), part=part)
            elif verb == "ack" and sent:
                window.acked(sent[n % len(sent)])
            elif verb == "tick":
                now += n
                deliver(m)
            elif verb == "lost":
                window.connection_lost()
        for _ in range(len(newest) * 2 + 2):
            deliver(1 << 30)
            for message_id in tuple(sent):
                window.acked(message_id)
        self.assertEqual(landed, newest)
        self.assertEqual((len(window), window.keys, window.in_flight), (0, 0, 0))
        self.assertIsNone(window.next_due())

    def setUp(self) -> None:
        self.window: AckWindow[str] = AckWindow(width=2, resend_after=5.0)

    def test_one_of_each_key(self) -> None:
        """Two states of one object are never in flight together, however wide the window."""
        self.window.offer("a", "1", "a1")
        self.assertEqual(self.window.to_send(0.0), ["a1"])
        self.window.offer("a", "2", "a2")
        self.window.offer("a", "3", "a3")
        self.assertEqual(self.window.to_send(0.0), [])
        self.assertEqual(self.window.acked("1"), "a1")
        self.assertEqual(self.window.to_send(0.0), ["a3"])
        self.assertIsNone(self.window.acked("2"))

    def test_width(self) -> None:
        """No more keys are in flight than the window is wide."""
        for key in "abc":
            self.window.offer(key, key, key)
        self.assertEqual(self.window.to_send(0.0), ["a", "b"])
        self.window.acked("b")
        self.assertEqual(self.window.to_send(0.0), ["c"])

    def test_resend(self) -> None:
        """After five seconds the same is sent again, with the same id, for ever."""
        self.window.offer("a", "1", "a1")
        sends = [now for now in range(21) if self.window.to_send(float(now))]
        self.assertEqual(sends, [0, 5, 10, 15, 20])
        self.assertEqual(self.window.next_due(), 25.0)
        self.assertEqual(self.window.acked("1"), "a1")
        self.assertIsNone(self.window.acked("1"))

    def test_turn_passes(self) -> None:
        """To a Go edge: five sends, then the next object; the first one's turn comes again."""
        self.window.configure(width=1, max_sends=5)
        self.window.offer("a", "1", "a1")
        self.window.offer("b", "2", "b1")
        sends = [(now, item) for now in range(61) for item in self.window.to_send(float(now))]
        expected = [(5 * n, "a1") for n in range(5)] + [(25 + 5 * n, "b1") for n in range(5)]
        self.assertEqual(sends, [*expected, (50, "a1"), (55, "a1"), (60, "a1")])

    def test_late_ack(self) -> None:
        """What was given up for now and is acknowledged after all is not sent again."""
        self.window.configure(width=1, max_sends=1)
        self.window.offer("a", "1", "a1")
        self.window.offer("b", "2", "b1")
        self.window.to_send(0.0)
        self.assertEqual(self.window.to_send(5.0), ["b1"])
        self.assertEqual(self.window.acked("1"), "a1")
        self.window.acked("2")
        self.assertEqual(self.window.to_send(10.0), [])

    def test_parts_in_order(self) -> None:
        """The delete of one object and the insert of the next of that name: both, in order."""
        self.window.offer("a", "1", "delete old", part="old")
        self.window.offer("a", "2", "insert new", part="new")
        self.window.offer("a", "3", "update new", part="new")
        self.assertEqual(self.window.to_send(0.0), ["delete old"])
        self.window.acked("1")
        self.assertEqual(self.window.to_send(0.0), ["update new"])

    def test_lost(self) -> None:
        """After a new connection what was in flight goes first, in its order."""
        for key in "abc":
            self.window.offer(key, key, key)
        self.window.to_send(0.0)
        self.window.connection_lost()
        self.assertEqual(self.window.to_send(0.0), ["a", "b"])

    def test_prune(self) -> None:
        """What is not needed any more is taken back, what is in flight is not."""
        for key in "abc":
            self.window.offer(key, key, key)
        self.window.to_send(0.0, 1)
        self.assertEqual(self.window.prune(lambda item: item in "ab"), ["b"])
        self.assertEqual(sorted(self.window), ["a", "c"])
