from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api import quantity


class QuantityTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Every form that Kubernetes writes is read exactly."""
        for text, value in {
            "0": Fraction(0),
            "250m": Fraction(1, 4),
            "1.5": Fraction(3, 2),
            ".5": Fraction(1, 2),
            "2.": Fraction(2),
            "64Mi": Fraction(64 * 2**20),
            "24684084Ki": Fraction(24684084 * 1024),
            "1e3": Fraction(1000),
            "1E3": Fraction(1000),
            "12e-1": Fraction(6, 5),
            "1E": Fraction(10**18),
            "2Ei": Fraction(2**61),
            "100n": Fraction(1, 10**7),
            "3k": Fraction(3000),
            "-1": Fraction(-1),
            "-.5": Fraction(-1, 2),
            "+3": Fraction(3),
        }.items():
            self.assertEqual(quantity.parse(text), value, text)

    def test_numbers(self) -> None:
        """YAML's plain numbers are quantities too."""
        self.assertEqual(quantity.parse(2), 2)
        self.assertEqual(quantity.parse(0.5), Fraction(1, 2))

    def test_nonsense(self) -> None:
        """What is no quantity is refused by name."""
        for text in ("", "m", "1 Mi", "1mi", "0x10", "1KiB", "e3", "\u0661", "1e1000000000"):
            error = self.assertRaises(ValueError, quantity.parse, text)
            self.assertIn(repr(text), str(error))

    def test_rounding(self) -> None:
        """Parts of a unit count as a whole one."""
        self.assertEqual(quantity.whole("1500m"), 2)
        self.assertEqual(quantity.millis("0.1001"), 101)
        self.assertEqual(quantity.divided("1.5Gi", "1Mi"), 1536)
        self.assertEqual(quantity.divided("250m", "1"), 1)
        self.assertEqual(quantity.divided("250m", "0"), 1)

    @given(st.integers(0, 10**12), st.sampled_from(["", "m", "k", "Ki", "Mi", "G"]))
    def test_sizes_add_up(self, number: int, suffix: str) -> None:
        """A number with a suffix is that many of one with it."""
        self.assertEqual(quantity.parse(f"{number}{suffix}"), number * quantity.parse(f"1{suffix}"))
