"""Device messages of real Go edges and clouds, and what ours does in the same place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kubeedge_tx.api.resources import DEVICEMODELS, DEVICES, DEVICESTATUSES, NODES
from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.beehive.route import with_node
from kubeedge_tx.kube.interfaces import MERGE_PATCH
from tests.cloud.devicecontroller.rig import DeviceControllerCase
from tests.cloud.rig import NOW_MS, node, read

GOLDEN = Path(__file__).parents[2] / "golden"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


def message(event: dict[str, Any]) -> Message:
    found = event["message"]
    content = msgspec.Raw(json.dumps(found["content"]).encode())
    return msgspec.convert({**found, "content": content}, Message)


def is_about_devices(found: Message) -> bool:
    return (
        found.route.source in ("twin", "devicecontroller") and found.route.operation != "response"
    ) or found.route.resource == "twin"


class SessionTests(DeviceControllerCase):
    """The cluster goes through what it went through; every message must come as recorded."""

    nodes = ()

    def view(self, found: Message) -> Any:
        """What an edge sees of a message, but for ids, times and versions."""
        route = found.route
        content = read(found)
        if isinstance(content, dict):
            content.pop("event_id", None), content.pop("timestamp", None)
            content.get("metadata", {}).pop("managedFields", None)
            content.get("metadata", {}).pop("resourceVersion", None)
        return (
            (route.source, route.group, route.operation, route.resource),
            bool(found.header.resource_version),
            found.header.parent_id,
            content,
        )

    def replay(self, name: str, edge: str) -> None:
        """Ours sends the same, the answer to ``membership/detail`` aside.

        Deletes of device and model and the membership go through different queues of a Go
        cloud, so their order among each other says nothing.
        """
        self.kube.put(NODES, node(edge))
        seen: list[Message] = []
        expected: list[Message] = []
        deleting: dict[str, Any] = {}
        for event in lines(name):
            if "message" not in event or not is_about_devices(found := message(event)):
                continue
            if event["dir"] == "edge>cloud":
                up = msgspec.structs.replace(
                    found,
                    route=msgspec.structs.replace(
                        found.route, resource=with_node(edge, found.route.resource)
                    ),
                )
                self.run_now(self.controller.handle(up))
                self.wait(2)
                if found.route.resource == "membership/detail":
                    confirm, detail = self.bus.sent.pop(), self.bus.sent.pop()
                    self.assertEqual(detail.route.resource, f"node/{edge}/membership/detail")
                    self.assertEqual(confirm.header.parent_id, found.header.msg_id)
                continue
            expected.append(found)
            parts = found.route.resource.split("/")
            kinds = {"device": DEVICES, "devicemodel": DEVICEMODELS}
            if len(parts) == 3 and parts[1] in kinds:
                if found.route.operation == "delete":
                    deleting[parts[1]] = parts[2]
                elif self.kube.peek(kinds[parts[1]], parts[0], parts[2]) is None or (
                    found.route.operation == "update"
                ):
                    obj = read(found)
                    obj["metadata"].pop("managedFields")
                    self.kube.put(kinds[parts[1]], obj)
        if "device" in deleting:
            self.kube.drop(DEVICES, "default", deleting["device"])
        seen = [
            msgspec.structs.replace(
                each,
                route=msgspec.structs.replace(
                    each.route, resource=each.route.resource.removeprefix(f"node/{edge}/")
                ),
            )
            for each in self.bus.take()
        ]
        ours, theirs = [self.view(m) for m in seen], [self.view(m) for m in expected]
        if deleting:
            ours[-3:], theirs[-3:] = sorted(ours[-3:], key=str), sorted(theirs[-3:], key=str)
        self.assertEqual(ours, theirs)

    def test_session(self) -> None:
        """Join, device, twin and state reported, delete."""
        self.replay("session-websocket.jsonl", "go-edge-2")

    def test_restart(self) -> None:
        """Device, desired value changed, twin reported, the cloud away and back."""
        self.replay("session-restart.jsonl", "go-b")


BETTER = {
    "report one property": "a Go cloud keeps an empty value at the first report",
    "report a desired property": "the same",
    "report two": "the value of the step before is still missing there",
    "report an unknown property": "likewise",
    "report a value of the wrong type": "likewise",
    "report out of the model range": "a Go cloud shows a value that the model forbids",
    "desire from the edge": "a Go cloud shows what was reported first as empty",
}
"""Steps after which our DeviceStatus says more, or less that is wrong, than a Go cloud's."""


class DeviceStepTests(DeviceControllerCase):
    """Each step against a real edge's MQTT bus, as its reports reach the cloud."""

    nodes = ("go-c",)

    def setUp(self) -> None:
        super().setUp()
        self.versions: dict[tuple[str, str], int] = {}

    def test_steps(self) -> None:
        """The cluster shows after each step what a Go cloud shows, or a listed, better thing."""
        differing = set()
        for step in lines("mqtt-devices.jsonl"):
            for _ in range(5):
                self.wait()
            self.take(step)
            for _ in range(5):
                self.wait()
            for each in step.get("cloud", ()):
                if (each["kind"], each["name"]) != ("DeviceStatus", "thermo"):
                    continue
                if self.shown() != self.theirs(each["status"]):
                    differing.add(step["what"])
                if step["what"] == "report out of the model range":
                    self.assertEqual(self.shown()["temperature"], ("24", ""))
        self.assertIsNone(self.kube.peek(DEVICESTATUSES, "default", "thermo"))  # Go keeps it
        self.assertEqual(differing, set(BETTER))

    def theirs(self, status: dict[str, Any]) -> dict[str, Any]:
        """What a Go cloud shows."""
        found: dict[str, Any] = {
            each["propertyName"]: (each["reported"]["value"], each["observedDesired"]["value"])
            for each in status.get("twins", ())
        }
        found |= {key: status[key] for key in ("state", "lastOnlineTime") if key in status}
        return found

    def shown(self) -> dict[str, Any]:
        """What ours shows."""
        return self.theirs(self.status("thermo"))

    def take(self, step: dict[str, Any]) -> None:
        """Do what the step did, and report what the edge did then."""
        if "kubectl" in step:
            self.kubectl(step)
            return
        for seen in step["seen"]:
            parts = seen["topic"].split("/")
            payload = seen["payload"]
            if (
                parts[-2:] == ["update", "result"]
                and not payload.get("code")
                and parts[4:5] == ["thermo"]
            ):
                kind = "state/update" if parts[5] == "state" else "twin/edge_updated"
                content = json.dumps(payload) if parts[5] == "state" else self.numbered(payload)
                if content:
                    report = self.send(f"device/default/thermo/{kind}", content)
                    self.assertIn(report, self.settled())

    def numbered(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The report to the cloud: the result, with versions."""
        if not payload["twin"]:
            return {}
        twins = {}
        for name, entry in payload["twin"].items():
            twins[name] = dict(entry or {})
            for side in ("actual", "expected"):
                if side in twins[name]:
                    edge = self.versions[name, side] = self.versions.get((name, side), 0) + 1
                    twins[name][f"{side}_version"] = {"cloud": 0, "edge": edge}
        return {**payload, "twin": twins}

    def send(self, resource: str, content: Any) -> str:
        self.bus.take()
        report = f"r{next(self.ids)}"
        route = Route("twin", "resource", "update", f"node/go-c/{resource}")
        up = Message(Header(msg_id=report, timestamp=NOW_MS), route, raw(content))
        self.run_now(self.controller.handle(up))
        return report

    def settled(self) -> dict[str, Any]:
        self.wait(5)
        return self.answers()

    def kubectl(self, step: dict[str, Any]) -> None:
        if step["stdin"]:
            obj = yaml.safe_load(step["stdin"])
            self.kube.put(DEVICEMODELS if obj["kind"] == "DeviceModel" else DEVICES, obj)
        elif step["kubectl"].startswith("delete"):
            self.kube.drop(DEVICES, "default", "thermo")
        else:
            body = json.loads(step["kubectl"].split("'")[1])
            self.successResultOf(
                self.kube.patch(DEVICES, "default", "thermo", body, content_type=MERGE_PATCH)
            )
        moves = [m for m in self.bus.take() if m.route.resource.endswith("/membership")]
        notices = [s for s in step["seen"] if s["topic"].endswith("membership/updated")]
        said = [
            (read(m)["added_devices"], read(m)["removed_devices"])
            for m in moves
            if m.route.resource.startswith("node/go-c/")
        ]
        self.assertEqual(
            said,
            [(s["payload"]["added_devices"], s["payload"]["removed_devices"]) for s in notices],
        )
