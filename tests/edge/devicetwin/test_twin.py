from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.twins import (
    MAX_VALUE,
    Desired,
    PropertyRule,
    Version,
    check_name,
    check_text,
    check_value,
    read_desired,
    read_float,
    read_rules,
)
from kubeedge_tx.edge.devicetwin import topics
from kubeedge_tx.edge.devicetwin.attributes import Attribute, change_attributes
from kubeedge_tx.edge.devicetwin.payloads import AttributeChange
from kubeedge_tx.edge.devicetwin.twin import (
    BOTH,
    MAX_TWINS,
    Change,
    Refused,
    Twin,
    Value,
    body,
    delta,
    desire,
    sync,
    update,
)


class ValuesTests(SynchronousTestCase):
    """Names, values and types."""

    def test_names(self) -> None:
        """Upstream's letters, 1 to 128 of them."""
        for name in ("a", "A-z_0.9,:/@#", "x" * 128):
            self.assertEqual(check_name(name), "")
        for name in ("", "x" * 129, "a b", "ü", "a\n", "$x", "a'"):
            self.assertNotEqual(check_name(name), "", name)

    def test_texts(self) -> None:
        """Any letters, spaces and new lines; no control characters, and an end somewhere."""
        for value in ("", "a b ü", "x" * 513, "{}\n\t'\"", "ü" * (MAX_VALUE // 2), "𝄞"):
            self.assertEqual(check_text(value), "")
        for value in ("\0", "a\x1b[2J", "x" * (MAX_VALUE + 1), "ü" * (MAX_VALUE // 2 + 1)):
            self.assertNotEqual(check_text(value), "")

    def test_types(self) -> None:
        """Go's numbers are numbers, others are not."""
        table: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
            "int": (
                ("0", "-1", "+5", "007", "9223372036854775807", "-9223372036854775808"),
                ("", "1.0", "1e3", "0x1", "1_000", " 1", "9223372036854775808", "٣", "1" * 50),
            ),
            "integer": (("1",), ("x",)),
            "float": (
                ("1", "-1.5", ".5", "5.", "1e-3", "inf", "-Infinity", "NaN", "0x1p-2", "0x.8P1"),
                ("", "1e999", "abc", "1_0.0", "0x1", "-nan", ".", "1,5", "0x1p99999"),
            ),
            "boolean": (("true", "false"), ("True", "1", "", "yes")),
            "string": (("", "anything"), ()),
            "": (("anything",), ()),
            "deleted": (("anything",), ()),
            "date": ((), ("2026",)),
        }
        for kind, (good, bad) in table.items():
            for value in good:
                self.assertEqual(check_value(kind, value), "", (kind, value))
            for value in bad:
                self.assertNotEqual(check_value(kind, value), "", (kind, value))

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_floats(self, number: float) -> None:
        """What Python writes, Go reads, and so do we."""
        self.assertEqual(read_float(repr(number)), number)

    def test_rules(self) -> None:
        """Bounds are inclusive, and numbers; what the model leaves open is open."""
        rule = PropertyRule("t", "INT", minimum="1", maximum="100")
        for value in ("1", "50", "100"):
            self.assertEqual(rule.refuses(value), "")
        for value in ("0", "101", "warm"):
            self.assertIn("t", rule.refuses(value))
        half = PropertyRule("h", "DOUBLE", minimum="-0.5", maximum="no number")
        self.assertEqual(half.refuses("1e9"), "")
        self.assertNotEqual(half.refuses("-0.6"), "")
        self.assertNotEqual(half.refuses("NaN"), "")
        self.assertEqual(PropertyRule("s", "STRING", minimum="5").refuses("a"), "")
        self.assertIn("read-only", PropertyRule("r", "INT", read_only=True).refuses_desired("1"))

    def test_read_objects(self) -> None:
        """Devices and models of any shape are read as far as they make sense."""
        device: Any = {
            "spec": {
                "properties": [
                    {"name": "a", "desired": {"value": "1", "metadata": {"type": "INT"}}},
                    {"name": "b", "desired": {"value": ""}},
                    {"name": "c", "desired": 3},
                    {"name": "d", "desired": {"value": 5}},
                    {"name": 7},
                    "x",
                ]
            }
        }
        self.assertEqual(
            read_desired(device),
            {"a": Desired("1", "int"), "b": Desired(), "c": Desired(), "d": Desired("5")},
        )
        for broken in ({}, {"spec": 1}, {"spec": {"properties": "x"}}):
            self.assertEqual(read_desired(broken), {})
            self.assertEqual(read_rules(broken), {})
        model: Any = {"spec": {"properties": [{"name": "a", "type": "int", "minimum": 2}]}}
        self.assertNotEqual(read_rules(model)["a"].refuses("1"), "")


class UpdateTests(SynchronousTestCase):
    """What an app or a mapper may do to twins."""

    def setUp(self) -> None:
        self.known = Twin(
            expected=Value("30", 1),
            actual=Value("29", 1),
            type="int",
            expected_version=Version(7, 0),
            actual_version=Version(0, 4),
        )

    def test_new(self) -> None:
        """An unknown twin is made: string, optional, version 1 for what it has."""
        outcome = update({}, {"a": Change(actual="x")}, 5)
        twin = outcome.changed["a"]
        self.assertEqual(
            twin, Twin(actual=Value("x", 5), type="string", actual_version=Version(0, 1))
        )
        self.assertEqual(outcome.document["a"], (None, twin))
        self.assertEqual(outcome.report["a"], BOTH)
        empty = update({}, {"a": Change()}, 5).changed["a"]
        self.assertEqual(empty, Twin())

    def test_same_value(self) -> None:
        """The same value again is a change: a new time, a new version."""
        outcome = update({"a": self.known}, {"a": Change(actual="29")}, 5)
        self.assertEqual(outcome.changed["a"].actual_version, Version(0, 5))
        self.assertEqual(outcome.changed["a"].expected_version, Version(7, 0))
        self.assertEqual(outcome.result["a"]["actual"]["metadata"]["timestamp"], 5)
        self.assertNotIn("expected", outcome.result["a"])

    def test_all_or_nothing(self) -> None:
        """One wrong value refuses the whole request."""
        with self.assertRaisesRegex(Refused, "the value is not int or integer"):
            update({"a": self.known}, {"b": Change(actual="1"), "a": Change(actual="x")}, 5)
        with self.assertRaises(Refused):
            update({"a": self.known}, {"a": Change(expected="x")}, 5)
        with self.assertRaisesRegex(Refused, "type is not allowed"):
            update({}, {"a": Change(actual="x", type="date")}, 5)
        with self.assertRaisesRegex(Refused, "type is not allowed"):
            update({}, {"a": Change(actual="x", type="deleted")}, 5)

    def test_too_many(self) -> None:
        """A device cannot be given twins without end; those that are there go on."""
        twins = {f"t{n}": Twin() for n in range(MAX_TWINS - 1)}
        twins |= update(twins, {"last": Change(actual="1")}, 5).changed
        with self.assertRaisesRegex(Refused, "most"):
            update(twins, {"one more": Change(actual="1")}, 5)
        self.assertIn("t1", update(twins, {"t1": Change(actual="1")}, 5).changed)

    def test_type_stays(self) -> None:
        """A live twin keeps its type, whatever the message says; that counts as a change."""
        outcome = update({"a": self.known}, {"a": Change(type="string")}, 5)
        self.assertEqual(outcome.changed["a"], self.known)
        self.assertEqual(outcome.document["a"], (self.known, self.known))
        self.assertEqual(outcome.result["a"], {})
        self.assertEqual(outcome.report, {})
        same = update({"a": self.known}, {"a": Change(type="int")}, 5)
        self.assertEqual(same.changed, {})

    def test_optional(self) -> None:
        """Optional goes from true to false, never back."""
        outcome = update({"a": self.known}, {"a": Change(optional=False)}, 5)
        fixed = outcome.changed["a"]
        self.assertFalse(fixed.optional)
        self.assertEqual(outcome.result["a"], {"optional": False, "metadata": {"type": "int"}})
        self.assertEqual(update({"a": fixed}, {"a": Change(optional=True)}, 5).changed, {})

    def test_delete(self) -> None:
        """Null deletes an optional twin and nothing else; versions go on."""
        outcome = update({"a": self.known}, {"a": None}, 5)
        gone = outcome.changed["a"]
        self.assertFalse(gone.live)
        self.assertIsNone(gone.expected)
        self.assertEqual(gone.expected_version, Version(7, 1))
        self.assertEqual(gone.actual_version, Version(0, 5))
        self.assertEqual(outcome.result, {"a": None})
        self.assertEqual(outcome.document["a"], (self.known, None))
        again = update({"a": gone}, {"a": None}, 6)
        self.assertEqual((again.changed, again.document), ({}, {}))
        fixed = update({"a": Twin(optional=False)}, {"a": None}, 5)
        self.assertEqual((fixed.changed, fixed.result, fixed.document), ({}, {}, {}))
        back = update({"a": gone}, {"a": Change(actual="x")}, 7)
        self.assertEqual(back.document["a"][0], None)
        self.assertEqual(back.changed["a"].type, "string")
        self.assertEqual(back.changed["a"].actual_version, Version(0, 6))
        self.assertEqual(update({"a": gone}, {"a": Change(type="deleted")}, 7).changed, {})

    def test_delta(self) -> None:
        """A delta has all twins with something expected, and names those that differ."""
        twins = {
            "differs": self.known,
            "same": Twin(expected=Value("1"), actual=Value("1")),
            "never reported": Twin(expected=Value("1")),
            "cleared": Twin(expected=Value(""), actual=Value("1")),
            "deleted": Twin(expected=Value("1"), type="deleted"),
            "only reported": Twin(actual=Value("1")),
        }
        bodies, wanted = delta(twins)
        self.assertEqual(wanted, {"differs": "30", "never reported": "1"})
        self.assertEqual(set(bodies), {"differs", "same", "never reported"})

    def test_body(self) -> None:
        """Versions are for the cloud alone."""
        self.assertNotIn("expected_version", body(self.known))
        self.assertIn("actual_version", body(self.known, versions=True))
        self.assertIsNone(body(None))


class SyncTests(SynchronousTestCase):
    """Twins with versions from the cloud."""

    def change(self, cloud: int, edge: int, **more: Any) -> Change:
        values: dict[str, Any] = {"expected": "9", "actual": "8", "type": "int", **more}
        version = Version(cloud, edge)
        return Change(**values, expected_version=version, actual_version=version)

    def test_versions(self) -> None:
        """Either number lower refuses; equal or higher is adopted."""
        known = Twin(
            expected=Value("1"),
            actual=Value("2"),
            type="int",
            expected_version=Version(5, 5),
            actual_version=Version(5, 5),
        )
        for cloud, edge in ((5, 5), (6, 5), (5, 6), (6, 6)):
            outcome = sync({"a": known}, {"a": self.change(cloud, edge)}, 3)
            self.assertEqual(outcome.changed["a"].expected, Value("9", 3))
            self.assertEqual(outcome.changed["a"].actual_version, Version(cloud, edge))
            self.assertEqual(outcome.report, {})
        for cloud, edge in ((4, 5), (5, 4), (4, 9), (9, 4)):
            outcome = sync({"a": known}, {"a": self.change(cloud, edge)}, 3)
            self.assertEqual(outcome.changed, {})
            self.assertEqual(outcome.report, {"a": frozenset(("expected",))})

    def test_deleted_at_once_or_not(self) -> None:
        """A deletion with one side's version too old changes neither side."""
        known = Twin(expected_version=Version(5, 5), actual_version=Version(9, 9))
        change = self.change(6, 6, type="deleted")
        outcome = sync({"a": known}, {"a": change}, 3)
        self.assertEqual(outcome.changed, {})
        self.assertEqual(outcome.report, {"a": BOTH})
        outcome = sync({"a": known}, {"a": Change(type="deleted")}, 3)
        self.assertFalse(outcome.changed["a"].live)
        self.assertEqual(sync({}, {"a": Change(type="deleted")}, 3).changed, {})

    def test_new(self) -> None:
        """An unknown twin needs versions and a value of its type."""
        self.assertIn("a", sync({}, {"a": self.change(1, 0)}, 3).changed)
        self.assertIn("a", sync({}, {"a": Change(expected="1")}, 3).ignored)
        self.assertIn("a", sync({}, {"a": self.change(1, 0, expected="x")}, 3).ignored)

    def test_wrong_type(self) -> None:
        """A value of another type is left out, the other side taken."""
        known = Twin(type="int")
        outcome = sync({"a": known}, {"a": self.change(1, 0, expected="x", optional=False)}, 3)
        self.assertEqual(outcome.changed["a"].actual, Value("8", 3))
        self.assertFalse(outcome.changed["a"].optional)


class DesireTests(SynchronousTestCase):
    """Device objects."""

    def test_only_changes(self) -> None:
        """What the last object desired, too, is not touched."""
        outcome, after = desire({}, {"a": "1"}, {"a": Desired("1"), "b": Desired()}, 9, 3)
        self.assertEqual(outcome.changed, {})
        self.assertEqual(after, {"a": "1", "b": None})

    def test_refused_is_asked_again(self) -> None:
        """What cannot be taken in now is not noted as taken in."""
        rules = {"a": PropertyRule("a", "INT")}
        outcome, after = desire({}, {}, {"a": Desired("x")}, 9, 3, rules)
        self.assertEqual((outcome.changed, after), ({}, {}))
        self.assertIn("a", outcome.ignored)
        outcome, after = desire({}, {"a": "1"}, {"a": Desired("x")}, 9, 3, rules)
        self.assertEqual(after, {"a": "1"})
        outcome, _ = desire({}, {}, {"a": Desired("\0")}, 9, 3)
        self.assertIn("a", outcome.ignored)

    def test_type(self) -> None:
        """The type is the twin's, the model's, or the desired value's own."""
        rules = {"a": PropertyRule("a", "DOUBLE")}
        for twins, kind, known, found in (
            ({"a": Twin(type="int")}, "float", rules, "int"),
            ({}, "int", rules, "float"),
            ({}, "int", None, "int"),
            ({}, "INT32", None, "string"),
        ):
            outcome, _ = desire(twins, {}, {"a": Desired("1", kind)}, 9, 3, known)
            self.assertEqual(outcome.changed["a"].type, found)


class AttributeTests(SynchronousTestCase):
    """Attributes."""

    def test_differences(self) -> None:
        """Only what differs is told."""
        old = {"a": Attribute(value="1"), "b": Attribute(value="2", optional=False)}
        asked = {
            "a": AttributeChange(value="1", type="int", optional=False),
            "b": None,
            "c": AttributeChange(value="3"),
            "d": None,
        }
        outcome = change_attributes(old, asked, complete=False)
        self.assertEqual(
            outcome.told,
            {
                "a": {"value": "", "optional": False, "metadata": {"type": "int"}},
                "c": {"value": "3", "optional": True, "metadata": {"type": "string"}},
            },
        )
        self.assertEqual(outcome.removed, [])
        outcome = change_attributes(old, {"a": AttributeChange(value="1")}, complete=True)
        self.assertEqual(outcome.removed, ["b"])


class TopicsTests(SynchronousTestCase):
    """What a topic asks for."""

    def test_read(self) -> None:
        """By the place of its levels: any device name will do."""
        table = {
            "$hw/events/device/ns/name/twin/get": topics.Request("twin get", "ns/name"),
            "$hw/events/device/device/events/twin/update": topics.Request(
                "twin update", "device/events"
            ),
            "$hw/events/device/twin/update/state/update": topics.Request(
                "state update", "twin/update"
            ),
            "$hw/events/device/name/twin/cloud_updated": topics.Request("twin sync", "name"),
            "$hw/events/device///twin/get": topics.Request("twin get", "/"),
            "$hw/events/node/x/membership/get": topics.Request("membership get"),
        }
        for topic, request in table.items():
            self.assertEqual(topics.read(topic), request, topic)
        self.assertTrue(topics.Request("twin get", "a").bare)
        for topic in (
            "",
            "$hw/events/device/ns/name/twin/update/result",
            "$hw/events/device/ns/name/twin/nothing",
            "$hw/events/device/ns/name/state/get",
            "$hw/events/node/x/membership/updated",
            "$hw/events/device/a/b/c/twin/get",
            "hw/events/node/x/membership/get",
        ):
            self.assertIsNone(topics.read(topic), topic)
