from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.api.quantity import canonical, parse

SUFFIXES = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "e3", "E-2"])
NUMBERS = st.decimals(-9999, 9999, places=3).map(lambda number: f"{number:f}")
QUANTITIES = st.builds(lambda number, suffix: number + suffix, NUMBERS, SUFFIXES)


class CanonicalQuantityTests(TestCase):
    def test_canonical(self) -> None:
        """The shortest form without a fraction, in the unit system it came in."""
        for text, shown in (
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1000Ki", "1000Ki"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("0Gi", "0"),
            ("0.0000000001", "1n"),
            ("-1500m", "-1500m"),
        ):
            self.assertEqual(canonical(text), shown, text)

    def test_errors(self) -> None:
        """What is no quantity is refused with the API server's text."""
        for text in ("", "x", "1 Gi", "1.2.3", "Gi", "1e", "1KI", "--1", "1e999999999", "9" * 99):
            error = self.assertRaises(ValueError, canonical, text)
            self.assertIn("quantit", str(error))

    @given(QUANTITIES)
    def test_laws(self, text: str) -> None:
        """The canonical form has the same value up to a nano, and is its own canonical form."""
        shown = canonical(text)
        self.assertEqual(canonical(shown), shown)
        self.assertLessEqual(abs(parse(shown) - parse(text)), Fraction(1, 10**9))

    @given(st.text("0123456789.eEKMGmni+- ", max_size=12))
    def test_garbage(self, text: str) -> None:
        """Any text is a quantity or a ValueError."""
        try:
            parse(text)
        except ValueError:
            return
        self.assertTrue(canonical(text))
