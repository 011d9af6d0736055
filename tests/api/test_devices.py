"""Devices read from what users write, and values judged by the model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api import devices
from kubeedge_tx.api.twins import PropertyRule


def reason(rule: PropertyRule, value: str) -> str:
    refusal = devices.check_value(rule, value)
    return "" if refusal is None else refusal.reason


class ValueTests(SynchronousTestCase):
    """Type and bounds of a DeviceModel."""

    def test_table(self) -> None:
        """Each type takes its own values, within bounds that are part of the range."""
        table = [
            ("INT", "1", "100", {"": ["1", "100", "+5", "007"], "OutOfRange": ["0", "-1", "101"]}),
            ("INT", "", "", {"": ["-9223372036854775808"], "WrongType": ["9223372036854775808"]}),
            ("INT", "0.5", "1.5", {"": ["1"], "OutOfRange": ["0", "2"]}),
            ("INT", "", "", {"WrongType": ["", "1.0", "1e3", "warm", "٣", "1_0", " 1", "0x10"]}),
            ("FLOAT", "-1.5", "1.5", {"": ["0", "-1.5", "1.5", "1e-9"], "OutOfRange": ["1.51"]}),
            ("FLOAT", "0", "", {"OutOfRange": ["NaN", "-inf"], "WrongType": ["", "x", "1,5"]}),
            (
                "DOUBLE",
                "",
                "1e300",
                {"": ["1e299"], "OutOfRange": ["1e301"], "WrongType": ["1e999"]},
            ),
            ("BOOLEAN", "", "", {"": ["true", "false"], "WrongType": ["True", "1", ""]}),
            ("STRING", "5", "6", {"": ["", "a b ü", "9", "x" * 513], "BadValue": ["\x00"]}),
            ("BYTES", "", "", {"": ["AAEC"], "BadValue": ["x" * 8193]}),
            ("STREAM", "", "", {"": ["rtsp://a"]}),
            ("", "", "", {"": ["anything"]}),
        ]
        for kind, minimum, maximum, expected in table:
            rule = PropertyRule("p", type=kind, minimum=minimum, maximum=maximum)
            for wanted, values in expected.items():
                for value in values:
                    self.assertEqual(reason(rule, value), wanted, (kind, value))

    def test_read_only(self) -> None:
        """What can only be read can be reported, not wanted."""
        rule = PropertyRule("p", type="INT", read_only=True)
        self.assertIsNone(devices.check_value(rule, "1"))
        refusal = devices.check_desired(rule, "1")
        assert refusal is not None
        self.assertEqual(refusal.reason, "ReadOnly")

    @given(
        st.sampled_from(["INT", "FLOAT", "DOUBLE", "BOOLEAN", "STRING", "BYTES", "STREAM", "?"]),
        st.text(max_size=20) | st.floats().map(str) | st.integers().map(str),
        st.text(max_size=5) | st.integers().map(str),
        st.text(max_size=5) | st.integers().map(str),
    )
    def test_any_value(self, kind: str, value: str, minimum: str, maximum: str) -> None:
        """Whatever a device reports, there is a verdict of one line."""
        rule = PropertyRule("p", type=kind, minimum=minimum, maximum=maximum)
        refusal = devices.check_value(rule, value)
        if refusal is not None:
            self.assertTrue(refusal.reason.isalpha())
            self.assertTrue(refusal.message.isprintable())

    @given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-50, 50))
    def test_bounds(self, value: int, minimum: int, maximum: int) -> None:
        """A number is refused exactly when it is outside."""
        rule = PropertyRule("p", type="INT", minimum=str(minimum), maximum=str(maximum))
        self.assertEqual(reason(rule, str(value)) == "", minimum <= value <= maximum)


class ReadTests(SynchronousTestCase):
    """What is absent or of a wrong type reads as empty."""

    def test_device(self) -> None:
        """The parts of a Device."""
        device = {
            "metadata": {"namespace": "ns", "name": "d"},
            "spec": {
                "nodeName": "n",
                "deviceModelRef": {"name": "m"},
                "properties": [
                    {"name": "a", "desired": {"value": "1"}},
                    {"name": "b"},
                    {"name": "a", "desired": {"value": "2"}},
                    {"desired": {"value": "3"}},
                    7,
                ],
            },
        }
        self.assertEqual(devices.device_id(device), "ns/d")
        self.assertEqual(devices.node_name(device), "n")
        self.assertEqual(devices.model_key(device), ("ns", "m"))
        found = devices.properties(device)
        self.assertEqual(
            {name: devices.desired(each) for name, each in found.items()}, {"a": "1", "b": None}
        )

    def test_garbage(self) -> None:
        """Nothing raises."""
        garbage: list[dict[str, Any]] = [
            {},
            {"spec": None},
            {"spec": {"nodeName": 1, "deviceModelRef": [], "properties": {}}},
            {"spec": {"properties": [{"name": None}, {"name": "a", "desired": {"value": 1}}]}},
        ]
        for device in garbage:
            self.assertEqual(devices.node_name(device), "")
            self.assertIsNone(devices.model_key(device))
            for prop in devices.properties(device).values():
                self.assertIsNone(devices.desired(prop))
            self.assertEqual(list(devices.device_problems(device, device)), [])


class ProblemTests(SynchronousTestCase):
    """What is wrong with a Device's own words."""

    def problems(
        self, properties: list[Any], model: list[Any] | None
    ) -> list[tuple[str, str, str]]:
        device = {
            "metadata": {"namespace": "ns", "name": "d"},
            "spec": {"deviceModelRef": {"name": "m"}, "properties": properties},
        }
        found = devices.device_problems(
            device, None if model is None else {"spec": {"properties": model}}
        )
        return [(each.property, each.about, each.reason) for each in found]

    def test_all(self) -> None:
        """No model, unknown properties, bounds that are none, desires that cannot be."""
        wanted = {"name": "a", "desired": {"value": "7"}}
        self.assertEqual(self.problems([wanted], None), [("", "model", "NoModel")])
        self.assertEqual(self.problems([wanted], []), [("a", "model", "UnknownProperty")])
        for rule, expected in (
            ({"type": "INT", "accessMode": "ReadWrite", "maximum": "7"}, []),
            ({"type": "INT", "maximum": "6"}, [("a", "desired", "OutOfRange")]),
            ({"type": "BOOLEAN"}, [("a", "desired", "WrongType")]),
            ({"type": "INT", "accessMode": "ReadOnly"}, [("a", "desired", "ReadOnly")]),
            ({"type": "INT", "minimum": "low"}, [("a", "model", "BadBound")]),
            ({"type": "STRING", "minimum": "low"}, []),
        ):
            self.assertEqual(self.problems([wanted], [{"name": "a", **rule}]), expected, rule)
        self.assertEqual(
            self.problems([{"name": "a"}], [{"name": "a", "accessMode": "ReadOnly"}]), []
        )
