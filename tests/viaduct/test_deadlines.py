from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.observe.throttle import TokenBucket
from kubeedge_tx.viaduct.liveness import KeepaliveWindow, Liveness, Verdict


class LivenessTests(SynchronousTestCase):
    """A dead link is told from a quiet one."""

    def setUp(self) -> None:
        self.link = Liveness(ping_interval=10.0, silence_limit=25.0, now=0.0)

    def verdicts(self, upto: int) -> list[tuple[int, Verdict]]:
        checks = [(now, self.link.check(float(now))) for now in range(upto)]
        return [(now, verdict) for now, verdict in checks if verdict is not Verdict.FINE]

    def test_silence(self) -> None:
        """Two pings, ten seconds apart; after 25 s of silence the link is dead."""
        self.assertEqual(
            self.verdicts(26), [(10, Verdict.PING), (20, Verdict.PING), (25, Verdict.DEAD)]
        )

    def test_anything_heard(self) -> None:
        """Whatever is heard puts everything off."""
        self.link.heard(9.0)
        self.assertEqual(self.verdicts(20), [(19, Verdict.PING)])

    def test_rests_while_paused(self) -> None:
        """A peer that we do not read cannot be heard: its time starts when we read again."""
        self.link.pause()
        self.assertEqual(self.verdicts(100), [])
        self.link.resume(100.0)
        self.assertIs(self.link.check(109.0), Verdict.FINE)
        self.assertIs(self.link.check(125.0), Verdict.DEAD)

    def test_keepalive_window(self) -> None:
        """A keepalive message within 30 s keeps a session; nothing else feeds it."""
        window = KeepaliveWindow(limit=30.0, now=0.0)
        self.assertFalse(window.expired(29.9))
        window.feed(29.9)
        self.assertFalse(window.expired(59.8))
        self.assertTrue(window.expired(59.9))


class TokenBucketTests(SynchronousTestCase):
    """So many at once, so many a second."""

    def test_burst_then_rate(self) -> None:
        """The burst goes at once, then one each thirtieth of a second."""
        bucket = TokenBucket(rate=30.0, burst=60.0)
        self.assertEqual(sum(bucket.take(0.0) for _ in range(100)), 60)
        wait = bucket.delay(0.0)
        self.assertAlmostEqual(wait, 1 / 30)
        self.assertTrue(bucket.take(wait))
        self.assertFalse(bucket.take(wait))

    def test_other_limits(self) -> None:
        """Other limits count from then on; a smaller bucket does not keep what it cannot hold."""
        bucket = TokenBucket(rate=1.0, burst=10.0)
        bucket.limit(rate=2.0, burst=3.0, now=0.0)
        self.assertEqual(sum(bucket.take(0.0) for _ in range(10)), 3)
        bucket.limit(rate=4.0, burst=8.0, now=1.0)  # two came at the old rate
        self.assertEqual(sum(bucket.take(1.0) for _ in range(10)), 2)
        self.assertEqual(sum(bucket.take(2.0) for _ in range(10)), 4)

    def test_nonsense(self) -> None:
        """A rate of nothing is refused."""
        self.assertRaises(ValueError, TokenBucket, rate=0.0, burst=1.0)
        self.assertRaises(ValueError, TokenBucket, rate=1.0, burst=0.5)

    @given(st.lists(st.floats(0.0, 5.0), max_size=60), st.floats(0.1, 100.0), st.floats(1.0, 50.0))
    def test_never_more(self, gaps: list[float], rate: float, burst: float) -> None:
        """Over any time no more passes than burst + rate x time; and delay tells the truth."""
        bucket = TokenBucket(rate=rate, burst=burst)
        now, passed = 0.0, 0
        for gap in gaps:
            now += gap
            while bucket.take(now):
                passed += 1
            self.assertLessEqual(passed, burst + rate * now + 1e-3)
            wait = bucket.delay(now)
            self.assertGreater(wait, 0.0)
            now += wait
            self.assertTrue(bucket.take(now))
            passed += 1
