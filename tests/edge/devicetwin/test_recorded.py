"""What apps saw of a real Go edge, step by step, and what they see of ours."""

from __future__ import annotations

from typing import Any

import yaml

from tests.edge.devicetwin.differences import DIFFERENCES
from tests.edge.devicetwin.twincase import THERMO, TwinCase
from tests.recordings import lines


def steps() -> list[Any]:
    return list(lines("mqtt-devices.jsonl"))


def timeless(value: Any) -> Any:
    """Without times, and without the ids of events that the edge thought up."""
    if isinstance(value, dict):
        found = {key: timeless(each) for key, each in value.items() if key not in _OWN}
        if len(value.get("event_id", "x" * 36)) < 6:
            found["event_id"] = value["event_id"]
        if "lastOnlineTime" in value:
            found["lastOnlineTime"] = "some time"
        return found
    return [timeless(each) for each in value] if isinstance(value, list) else value


_OWN = ("timestamp", "event_id", "lastOnlineTime")


def essence(topic: str, payload: Any) -> str:
    """One message in one line: ``expected|actual`` of each twin."""
    topic = topic.removeprefix("$hw/events/").removeprefix("device/")
    if "code" in payload:
        return f"{topic} {payload['code']} {payload['reason'][:44]}"
    if "delta" in payload:
        return f"{topic} {payload['delta']}"
    if "device" in payload:
        return f"{topic} {payload['device']['state']} {'lastOnlineTime' in payload['device']}"
    twins = payload.get("twin")
    if twins is None:
        return f"{topic} {[payload.get('added_devices'), payload.get('removed_devices')]}"
    return f"{topic} " + ", ".join(f"{name} {short(twins[name])}" for name in sorted(twins))


def short(twin: Any) -> str:
    if twin is None:
        return "-"
    if "current" in twin:
        return f"{short(twin['last'])} > {short(twin['current'])}"
    sides = (twin.get(side, {}).get("value", "") for side in ("expected", "actual"))
    return "|".join(side if len(side) < 20 else f"{len(side)} chars" for side in sides)


class MqttStepsTests(TwinCase):
    """The recorded steps, one after another."""

    node = "go-c"

    def test_each_step(self) -> None:
        """Each step has the recorded outcome, or the better one that is listed."""
        differing = set()
        for number, step in enumerate(steps(), 1):
            self.clock.advance(1)
            self.settle()
            seen = self.play(number, step)
            ours = [{"topic": each.topic, "payload": each.json} for each in seen]
            gos = [{"topic": each["topic"], "payload": each["payload"]} for each in step["seen"]]
            if number in DIFFERENCES:
                differing.add(number)
                found = [essence(each["topic"], each["payload"]) for each in ours]
                self.assertEqual(found, DIFFERENCES[number][1], f"step {number}: {step['what']}")
                self.assertNotEqual(timeless(ours), timeless(gos), f"step {number} is no other")
            elif number in (7, 8, 11, 12):  # Go's reason has an error object of Go
                for our, go in zip(ours, gos, strict=True):
                    self.assertEqual(our["topic"], go["topic"])
                    self.assertEqual(our["payload"]["code"], go["payload"]["code"])
                    self.assertEqual(our["payload"]["event_id"], go["payload"]["event_id"])
                    begin = go["payload"]["reason"].partition(" , err: ")[0]
                    self.assertTrue(our["payload"]["reason"].startswith(f"{begin} , err: "))
            else:
                self.assertEqual(timeless(ours), timeless(gos), f"step {number}: {step['what']}")
            self.assertFalse(any(each.retain for each in seen))
        self.assertEqual(differing, set(DIFFERENCES), "every difference is one that happens")

    def test_keys_in_order(self) -> None:
        """Payloads have their keys in Go's order, and types as Go's."""
        self.play(2, steps()[1])
        self.members(THERMO)
        recorded = steps()[12]
        seen = self.play(13, recorded)
        for our, go in zip(seen, recorded["seen"], strict=True):
            self.assertEqual(shape(our.json), shape(go["payload"]))

    def play(self, number: int, step: Any) -> list[Any]:
        if "publish" in step:
            return self.arrive(step["publish"]["topic"], step["publish"]["payload"])
        if step["stdin"]:
            content = yaml.safe_load(step["stdin"])
            content["metadata"] |= {"uid": content["kind"], "resourceVersion": str(number)}
            # As a Go cloud does: membership first, then the object.
            first = self.members(THERMO) if number == 3 else []
            return first + self.push_object(content)
        if number == 54:
            return self.members(THERMO)
        gone = self.members(removed=(THERMO,))
        content = {"kind": "Device", "metadata": {"name": "thermo", "namespace": "default"}}
        return gone + self.push_object(content, "delete")


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, shape(each)) for key, each in value.items()]
    return type(value).__name__
