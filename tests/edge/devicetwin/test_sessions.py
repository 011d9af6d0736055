"""The device frames of two recorded sessions of a Go edge with a Go cloud, played to ours."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.viaduct import codec
from tests.edge.devicetwin.twincase import TwinCase
from tests.recordings import lines

UPDATED = "/twin/edge_updated"


def facts(message: Message) -> Any:
    """What a message says, without ids and times; how it is written counts."""
    route = message.route
    content = message.read()
    is_text = isinstance(content, str) and content.startswith("{")
    said = json.loads(content) if is_text else content
    return (route.source, route.group, route.operation, route.resource, is_text, _plain(said))


def _plain(said: Any) -> Any:
    if isinstance(said, dict):
        own = ("event_id", "timestamp", "lastOnlineTime", "group_id")
        return {
            key: "…" if key in own and not isinstance(value, dict) else _plain(value)
            for key, value in said.items()
        }
    return said


def is_wish(message: Message) -> bool:
    """A report of what is expected: Go's edge has none, as it knows of no wish."""
    return message.route.resource.endswith(UPDATED) and all(
        "actual" not in entry for entry in message.read()["twin"].values()
    )


class SessionTests(TwinCase):
    """A Go cloud's half, and what a Go edge's devices did."""

    def play(self, name: str, stop: float = 1e9) -> list[Message]:
        """Play a session; compares what went up, returns the wishes that were observed."""
        before, connection = 0.0, 1
        gos: list[Any] = []
        ours: list[Any] = []
        wishes: list[Message] = []
        once: list[Any] = []
        newest: dict[str, Message] = {}

        def collect() -> None:
            for message in self.reports():
                if message.route.operation == "update":
                    said = facts(message)
                    if said in once:  # a property's first report is made twice
                        self.confirm(message)
                        continue
                    once.append(said)
                newest[message.route.operation] = message
                if is_wish(message):
                    wishes.append(message)
                    self.confirm(message)
                else:
                    ours.append(facts(message))

        for event in lines(name):
            if event["t"] >= stop:
                break
            self.clock.advance(event["t"] - before)
            before = event["t"]
            self.settle()
            collect()
            if event.get("conn", connection) != connection:
                connection = event["conn"]
                self.cloud.channel.lose()
                self.clock.advance(1)
                self.settle()
            if "message" not in event:
                continue
            message = codec.decode(msgspec.json.encode(event["message"]))
            if event["dir"] == "edge>cloud" and message.route.source == "twin":
                gos.append(facts(message))
                self.cause(message)
                collect()
            elif event["dir"] == "cloud>edge" and message.route.source == "devicecontroller":
                if message.header.parent_id:
                    self.confirm(newest["update"])
                else:
                    self.receive(message)
                collect()
        collect()
        self.assertGreater(len(gos), 1)
        self.assertEqual(ours, gos)
        return wishes

    def cause(self, message: Message) -> None:
        """Do as the device did when Go's edge reported this."""
        resource, content = message.route.resource, message.read()
        if resource.endswith(UPDATED):
            topic = f"$hw/events/{resource.removesuffix(UPDATED)}/twin/update"
            twin = {
                name: {"actual": {"value": each["actual"]["value"]}, "metadata": each["metadata"]}
                for name, each in content["twin"].items()
            }
            self.arrive(topic, {"event_id": "", "timestamp": 1, "twin": twin})
        elif resource.endswith("/state/update"):
            state = json.loads(content)["device"]["state"]
            self.arrive(f"$hw/events/{resource}", {"event_id": "", "state": state})

    def test_normal_life(self) -> None:
        """A device comes, reports, says its state and goes."""
        wishes = self.play("session-websocket.jsonl")
        (wish,) = wishes
        self.assertEqual(wish.read()["twin"]["threshold"]["expected"]["value"], "30")
        self.assertEqual(len(self.outbox), 0)
        (members,) = self.arrive("$hw/events/node/n/membership/get", {})
        self.assertEqual(members.json["devices"], [])

    def test_cloud_away(self) -> None:
        """The same through a restart of the cloud; the 43 that upstream loses arrives."""
        wishes = self.play("session-restart.jsonl", stop=60.0)
        values = [each.read()["twin"]["threshold"]["expected"]["value"] for each in wishes]
        self.assertEqual(values, ["30", "42"])
        self.cloud.errors = [ConnectionRefusedError("away")] * 2
        self.cloud.channel.lose()
        self.settle()
        topic = "$hw/events/device/default/bar-thermo/twin/update"
        self.arrive(topic, {"twin": {"threshold": {"actual": {"value": "43"}}}})
        self.clock.pump([1] * 30)
        report = [each for each in self.reports() if each.route.operation == "update"][-1]
        entry = report.read()["twin"]["threshold"]
        self.assertEqual(entry["actual"]["value"], "43")
        self.assertEqual(entry["actual_version"], {"cloud": 0, "edge": 2})
