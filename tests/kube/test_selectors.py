from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.kube.selectors import (
    Requirement,
    Selector,
    parse_field_selector,
    parse_label_selector,
)

KEYS = st.sampled_from(["a", "b", "kubeedge.io/role", "app"])
WORDS = st.sampled_from(["", "x", "y", "v-1", "3", "10"])
LABELS = st.dictionaries(KEYS, WORDS)


class LabelSelectorTests(TestCase):
    def test_forms(self) -> None:
        """Every form of a requirement selects what Kubernetes selects."""
        labels = {"app": "web", "tier": "front", "n": "7", "empty": ""}
        for text, expected in (
            ("", True),
            ("app=web", True),
            ("app==web,tier!=back", True),
            ("app!=web", False),
            ("nope!=x", True),
            ("app in (web, api)", True),
            ("app notin (web)", False),
            ("nope notin (web)", True),
            ("nope in (web)", False),
            ("app", True),
            ("!app", False),
            ("! nope", True),
            ("n>6,n<8", True),
            ("n>7", False),
            ("app>1", False),
            ("empty=", True),
            ("empty in (,x)", True),
            ("app=", False),
        ):
            self.assertEqual(parse_label_selector(text).matches(labels), expected, text)
        self.assertTrue(parse_label_selector("!a").matches(None))

    def test_errors(self) -> None:
        """What is no selector is refused in Kubernetes' words."""
        for text, words in (
            ("n in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a=b,", "found '', expected: identifier after ','"),
        ):
            with self.assertRaises(ValueError) as caught:
                parse_label_selector(text)
            self.assertEqual(str(caught.exception), words, text)
        for text in ("_a=b", "a/b/c=d", "a=b_", "a=" + "x" * 64, "a>b", "a in (b c)"):
            self.assertRaises(ValueError, parse_label_selector, text)

    @given(
        st.lists(
            st.tuples(KEYS, st.sampled_from(["=", "!=", "==", "in", "notin", "!", ""]), WORDS)
        ),
        LABELS,
    )
    def test_meaning(self, terms: list[tuple[str, str, str]], labels: dict[str, str]) -> None:
        """A selector written out of terms selects exactly what all the terms select."""
        written = {
            "=": lambda k, v: f"{k}={v}",
            "==": lambda k, v: f"{k}=={v}",
            "!=": lambda k, v: f"{k} != {v}",
            "in": lambda k, v: f"{k} in ({v})",
            "notin": lambda k, v: f"{k} notin ({v})",
            "!": lambda k, v: f"!{k}",
            "": lambda k, v: k,
        }
        meant: dict[str, Callable[[str, str], bool]] = {
            "=": lambda k, v: labels.get(k) == v,
            "==": lambda k, v: labels.get(k) == v,
            "!=": lambda k, v: labels.get(k) != v,
            "in": lambda k, v: labels.get(k) == v,
            "notin": lambda k, v: labels.get(k) != v,
            "!": lambda k, v: k not in labels,
            "": lambda k, v: k in labels,
        }
        text = ",".join(written[op](key, value) for key, op, value in terms)
        expected = all(meant[op](key, value) for key, op, value in terms)
        self.assertEqual(parse_label_selector(text).matches(labels), expected)

    @given(st.text("ab=!(),<> in_/.-", max_size=20), LABELS)
    def test_garbage(self, text: str, labels: dict[str, str]) -> None:
        """Any text is a selector or a ValueError."""
        try:
            selector = parse_label_selector(text)
        except ValueError:
            return
        self.assertIsInstance(selector.matches(labels), bool)

    def test_truth(self) -> None:
        """A selector without requirements is false, so that callers can skip it."""
        self.assertFalse(Selector())
        self.assertTrue(Selector((Requirement("a", "exists"),)))


class FieldSelectorTests(TestCase):
    def test_forms(self) -> None:
        """Equal and unequal, several at once, and escaped separators."""
        self.assertEqual(
            parse_field_selector(r"metadata.name=a,status.phase!=Running,x==b\,c\=d"),
            [
                ("metadata.name", "=", "a"),
                ("status.phase", "!=", "Running"),
                ("x", "=", "b,c=d"),
            ],
        )
        self.assertEqual(parse_field_selector(""), [])

    def test_errors(self) -> None:
        """What is no field selector is refused and named."""
        with self.assertRaises(ValueError) as caught:
            parse_field_selector("a=b,what")
        self.assertEqual(
            str(caught.exception), "invalid selector: 'a=b,what'; can't understand 'what'"
        )
        for text in ("a=b=c", r"a=\x", "a=b\\"):
            self.assertRaises(ValueError, parse_field_selector, text)

    @given(st.dictionaries(st.sampled_from(["a", "b.c"]), st.text(max_size=5)))
    def test_escapes(self, wanted: dict[str, str]) -> None:
        """Any value can be asked for when its separators are escaped."""

        def escape(value: str) -> str:
            return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")

        text = ",".join(f"{path}={escape(value)}" for path, value in wanted.items())
        expected = [(path, "=", value) for path, value in wanted.items()]
        self.assertEqual(parse_field_selector(text), expected)
