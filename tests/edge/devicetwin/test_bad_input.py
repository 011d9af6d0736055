"""What apps and mappers send that is wrong."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.devicetwin.payloads import (
    MAX_TWINS,
    BadPayload,
    read_attributes,
    read_base,
    read_detail,
    read_membership,
    read_state,
    read_twins,
)
from kubeedge_tx.edge.devicetwin.twin import Refused, Twin, Value, sync, update
from tests.edge.devicetwin.twincase import (
    DEVICE,
    TwinCase,
    device_object,
    model_object,
)


def one(entry: Any) -> str:
    return json.dumps({"event_id": "e", "twin": {"label": entry}})


class BadUpdatesTests(TwinCase):
    """Each is answered with its code on the topic of its device, and changes nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.push_object(model_object(), "insert")
        self.push_object(device_object(), "insert")
        self.report(threshold="29", label="a")
        self.before = self.twins()

    def refused(self, payload: object, action: str = "twin/update", code: int = 400) -> str:
        seen = self.arrive(f"{DEVICE}/{action}", payload)
        (answer,) = seen
        self.assertEqual(answer.topic, f"{DEVICE}/{action}/result")
        self.assertEqual(answer.json["code"], code, payload)
        self.assertTrue(answer.json["reason"])
        return str(answer.json["event_id"])

    def unharmed(self) -> None:
        self.assertEqual(self.twins(), self.before)

    def test_updates(self) -> None:
        """Bodies of every wrong shape."""
        for payload in (
            "",
            "x",
            "{{{",
            "null",
            "[]",
            "3",
            '"text"',
            "[" * 100_000,
            '{"twin":' * 50_000,
            b"\xff\xfe\x00",
            '{"twin":{"label":{"actual":{"value":NaN}}}}',
            '{"twin":{"label":{"actual":{"value":"\\ud800"}}}}',
        ):
            self.refused(payload)
        self.unharmed()

    def test_entries(self) -> None:
        """Entries of every wrong shape: refused with the event id, never a crash."""
        entries: list[Any] = [
            3,
            [],
            "x",
            {"expected": {}},
            {"expected": {"value": None}},
            {"actual": {"value": 25}},
            {"actual": {"value": True}},
            {"actual": {"value": ["a"]}},
            {"actual": "25"},
            {"actual": {"value": "1", "metadata": {"timestamp": "now"}}},
            {"actual": {"value": "1", "metadata": {"timestamp": 1.5}}},
            {"actual": {"value": "1", "metadata": {"timestamp": 1 << 70}}},
            {"actual": {"value": "1", "metadata": 3}},
            {"actual": {"value": "1"}, "optional": "yes"},
            {"actual": {"value": "1"}, "metadata": {"type": 3}},
            {"actual": {"value": "1"}, "metadata": "int"},
            {"actual": {"value": "1"}, "expected_version": {"cloud": "x"}},
            {"actual": {"value": "a\u0000b"}},
            {"actual": {"value": "\u001b[31m"}},
            {"actual": {"value": "x" * 8193}},
        ]
        for entry in entries:
            self.assertEqual(self.refused(one(entry)), "e", entry)
        self.unharmed()

    def test_bases(self) -> None:
        """Ids that are no texts and times that are no integers."""
        for base in (
            {"event_id": 3},
            {"event_id": ["e"]},
            {"timestamp": "now"},
            {"timestamp": 1.5},
            {"timestamp": True},
            {"timestamp": 1 << 64},
        ):
            self.refused({**base, "twin": {}})
            self.refused(base, "twin/get")
            self.refused({**base, "state": "online"}, "state/update")
        self.unharmed()

    def test_names(self) -> None:
        """Names that are none."""
        for name in ("", "a b", "ü", "x" * 129, "a\n"):
            self.refused({"event_id": "e", "twin": {name: None}})
        self.unharmed()

    def test_too_many(self) -> None:
        """A message of more twins than anybody needs."""
        twins = {f"t{n}": {"actual": {"value": "1"}} for n in range(MAX_TWINS + 1)}
        self.assertEqual(self.refused({"event_id": "e", "twin": twins}), "e")
        self.unharmed()

    def test_model(self) -> None:
        """Unknown properties, values out of range, a wish for what is read-only."""
        for twin in (
            {"color": {"actual": {"value": "red"}}},
            {"temperature": {"actual": {"value": "0"}}},
            {"temperature": {"actual": {"value": "101"}}},
            {"temperature": {"actual": {"value": "warm"}}},
            {"temperature": {"expected": {"value": "20"}}},
            {"label": {"actual": {"value": "b"}}, "threshold": {"expected": {"value": "500"}}},
        ):
            self.assertEqual(self.refused({"event_id": "e", "twin": twin}), "e")
        self.unharmed()

    def test_states(self) -> None:
        """States that are none."""
        payloads: list[Any] = [{"state": ""}, {"state": "bogus"}, {"state": 3}, {}, "null", "x", []]
        for payload in payloads:
            self.refused(payload, "state/update")
        (members,) = self.arrive("$hw/events/node/n/membership/get", {})
        self.assertNotIn("state", members.json["devices"][0])

    def test_future(self) -> None:
        """Times of the sender, also of the year 9999, are not taken."""
        entry = {"actual": {"value": "1", "metadata": {"timestamp": 253402300799000}}}
        self.arrive(
            f"{DEVICE}/twin/update", {"timestamp": 253402300799000, "twin": {"label": entry}}
        )
        self.assertEqual(self.twins()["label"]["actual"]["metadata"]["timestamp"], self.now_ms())

    def test_unknown_devices(self) -> None:
        """Devices that are not here, and names that are none, are answered where they asked."""
        for name in (
            "default/nope",
            "nope",
            "/",
            "/thermo",
            "default/",
            " / ",
            "ü/ü",
            "a" * 60_000,
        ):
            topic = f"$hw/events/device/{name}"
            for action in ("twin/update", "twin/get", "state/update"):
                (answer,) = self.arrive(
                    f"{topic}/{action}", {"event_id": "e", "twin": {}, "state": "ok"}
                )
                self.assertEqual(answer.topic, f"{topic}/{action}/result")
                self.assertEqual(answer.json["code"], 404)
        self.unharmed()

    def test_topic_too_long_for_an_answer(self) -> None:
        """A topic of 65,535 bytes has no room for an answer; it is not sent, nothing breaks."""
        name = "a" * (65_535 - len("$hw/events/device//twin/get"))
        self.assertEqual(self.arrive(f"$hw/events/device/{name}/twin/get", {}), [])
        self.assertEqual(self.events.refused, 1)
        self.unharmed()

    def test_topics_that_ask_for_nothing(self) -> None:
        """Subscribed, but nothing to do: acknowledged and forgotten."""
        for topic in (f"{DEVICE}/twin/result", f"{DEVICE}/twin/edge_updated", f"{DEVICE}/twin/"):
            self.assertEqual(self.arrive(topic, {"twin": {}}), [])
        self.unharmed()

    def test_bare_names(self) -> None:
        """A bare name is the one device of that name, or the one in ``default``."""
        (answer,) = self.arrive("$hw/events/device/thermo/twin/get", {})
        self.assertEqual(answer.topic, "$hw/events/device/thermo/twin/get/result")
        self.assertEqual(answer.json["twin"], self.before)
        self.members("a/lamp")
        (answer,) = self.arrive("$hw/events/device/lamp/twin/get", {})
        self.assertNotIn("code", answer.json)
        self.members("b/lamp")
        (answer,) = self.arrive("$hw/events/device/lamp/twin/get", {})
        self.assertEqual(answer.json["code"], 404, "which lamp?")
        self.members(removed=("a/lamp",))
        (answer,) = self.arrive("$hw/events/device/lamp/twin/get", {})
        self.assertNotIn("code", answer.json)
        self.members("a/thermo")
        (answer,) = self.arrive("$hw/events/device/thermo/twin/get", {})
        self.assertEqual(answer.json["twin"], self.before)


KEYS = [
    "twin",
    "Twin",
    "expected",
    "actual",
    "ACTUAL",
    "value",
    "metadata",
    "timestamp",
    "type",
    "optional",
    "event_id",
    "state",
    "a",
    "expected_version",
    "cloud",
    "edge",
    "added_devices",
    "removed_devices",
    "devices",
    "id",
    "attributes",
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


class FuzzTests(SynchronousTestCase):
    """Any JSON, and what is none."""

    @given(values)
    @settings(max_examples=400, deadline=None)
    def test_any_json(self, value: Any) -> None:
        """Read or refused, never anything else; what is read can be applied."""
        text = json.dumps(value)
        for read in (lambda: read_base(text, "x"), lambda: read_state(text)):
            _try(read)
        for content in (value, text):
            _try(lambda content=content: read_membership(content))
            _try(lambda content=content: read_detail(content))
            _try(lambda content=content: read_attributes(content))
        twins = {"a": Twin(expected=Value("1"), type="int")}
        for strict in (True, False):
            request = _try(lambda strict=strict: read_twins(text, strict=strict))
            if request is not None:
                sync(twins, request.twins, 1)
                try:
                    update(twins, request.twins, 1)
                except Refused as error:
                    self.assertTrue(error.reason)

    @given(st.text(max_size=40))
    @settings(max_examples=200, deadline=None)
    def test_any_text(self, text: str) -> None:
        """The same for texts that are mostly no JSON."""
        _try(lambda: read_twins(text))
        _try(lambda: read_state(text))
        _try(lambda: read_base(text, "x"))


def _try(read: Any) -> Any:
    try:
        return read()
    except BadPayload as error:
        assert error.reason
        return None
