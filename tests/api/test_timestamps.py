from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.timestamps import rfc3339, rfc3339_micro, seconds_since_1970


class TimestampTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Times are read with any zone, and with up to nanoseconds."""
        for text, value in {
            "1970-01-01T00:00:01Z": 1.0,
            "1970-01-01T00:00:01.5Z": 1.5,
            "1970-01-01T01:00:01+01:00": 1.0,
            "1969-12-31T19:00:01-05:00": 1.0,
            "1970-01-01T00:00:00.000000001Z": 1e-9,
        }.items():
            self.assertEqual(seconds_since_1970(text), value, text)

    def test_nonsense(self) -> None:
        """What names no moment is none: no zone, no such day, no text."""
        for text in ("", "2026-11-24", "2026-11-24T08:00:00", "2026-02-30T08:00:00Z", None, 5):
            self.assertIsNone(seconds_since_1970(text), text)

    @given(st.integers(0, 2**33))
    def test_round_trip(self, moment: int) -> None:
        """What is written is read back."""
        self.assertEqual(seconds_since_1970(rfc3339(moment)), moment)
        self.assertEqual(seconds_since_1970(rfc3339_micro(moment + 0.5)), moment + 0.5)
