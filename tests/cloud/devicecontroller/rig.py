"""A DeviceController over a FakeKube."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.resources import DEVICEMODELS, DEVICES, DEVICESTATUSES, NODES
from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.cloud.devicecontroller.controller import DeviceController
from kubeedge_tx.errors import Displaced
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from tests.cloud.rig import NOW_MS, Recorder, factory, node, read
from tests.fakes.kube import FakeKube

WRITES = ("create", "update", "patch", "delete")


def model(name: str = "m", *properties: dict[str, Any], **about: Any) -> dict[str, Any]:
    """A DeviceModel of namespace default; by default that of the recording."""
    default = (
        {"name": "temperature", "type": "INT", "accessMode": "ReadOnly", "maximum": "100"},
        {"name": "threshold", "type": "INT", "accessMode": "ReadWrite", "maximum": "100"},
        {"name": "label", "type": "STRING", "accessMode": "ReadWrite"},
    )
    return {
        "metadata": {"namespace": "default", "name": name, **about},
        "spec": {"protocol": "modbus", "properties": list(properties or default)},
    }


def device(
    name: str = "thermo",
    node: str = "edge-1",
    model: str = "m",
    properties: tuple[str, ...] = ("temperature", "threshold", "label"),
    desired: dict[str, str] | None = None,
    **about: Any,
) -> dict[str, Any]:
    """A Device of namespace default."""
    spec: dict[str, Any] = {
        "properties": [
            {"name": each} | ({"desired": {"value": desired[each]}} if each in desired else {})
            for desired in (desired or {},)
            for each in properties
        ]
    }
    if node:
        spec["nodeName"] = node
    if model:
        spec["deviceModelRef"] = {"name": model}
    return {"metadata": {"namespace": "default", "name": name, **about}, "spec": spec}


def twin(
    value: str | None = None,
    at: int = 1,
    expected: str | None = None,
    edge: int = 0,
    kind: str = "int",
) -> dict[str, Any]:
    """One twin of a report."""
    entry: dict[str, Any] = {"optional": True, "metadata": {"type": kind}}
    for side, text in (("actual", value), ("expected", expected)):
        if text is not None:
            entry[side] = {"value": text, "metadata": {"timestamp": at}}
            if edge:
                entry[f"{side}_version"] = {"cloud": 0, "edge": edge}
    return entry


class Sessions:
    """Sessions that are the nodes' own, unless their node is ``elsewhere``."""

    def __init__(self) -> None:
        self.elsewhere: set[str] = set()
        self.looks: list[str] = []

    def of(self, node: str) -> str:
        return node

    def verify(self, claim: str) -> Deferred[None]:
        self.looks.append(claim)
        return fail(Displaced(claim)) if claim in self.elsewhere else succeed(None)


class DeviceControllerCase(SynchronousTestCase):
    """Sets up a started controller over two edge nodes."""

    deadband = 0.0
    nodes: tuple[str, ...] = ("edge-1", "edge-2")
    synced = True

    def setUp(self) -> None:
        self.kube = FakeKube()
        self.clock = Clock()
        self.metrics = Metrics()
        self.ids = itertools.count(1)
        for name in self.nodes:
            self.kube.put(NODES, node(name))
        self.start()

    def start(self) -> None:
        """Start a controller that knows nothing yet."""
        self.bus = Recorder()
        self.sessions = Sessions()
        self.informers = [
            self.kube.informer(kind, synced=self.synced)
            for kind in (NODES, DEVICES, DEVICEMODELS, DEVICESTATUSES)
        ]
        nodes, devices, models, statuses = self.informers
        events = itertools.count(1)
        self.controller = DeviceController(
            self.clock,
            self.bus,
            factory(),
            self.kube,
            nodes=nodes,
            devices=devices,
            models=models,
            statuses=statuses,
            sessions=self.sessions,
            now_ms=lambda: NOW_MS,
            denials=Denials(self.clock, Metrics()),
            metrics=Metrics(),
            deadband=self.deadband,
            new_id=lambda: f"e{next(events)}",
        )
        self.run_now(self.controller.started())
        self.addCleanup(lambda: self.run_now(self.controller.stopped()))

    def run_now(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def say(
        self,
        resource: str,
        content: Any,
        node: str = "edge-1",
        message_id: str = "",
        op: str = "update",
    ) -> str:
        """Report as a node; returns the message's id."""
        message_id = message_id or f"r{next(self.ids)}"
        message = Message(
            Header(msg_id=message_id, timestamp=NOW_MS),
            Route("twin", "resource", op, f"node/{node}/{resource}"),
            raw(content),
        )
        self.run_now(self.controller.handle(message))
        return message_id

    def report(self, name: str = "thermo", node: str = "edge-1", **twins: Any) -> str:
        """Report twins of a device."""
        content = {"event_id": "x", "timestamp": NOW_MS, "twin": twins}
        return self.say(f"device/default/{name}/twin/edge_updated", content, node)

    def state(self, state: str, last: str | None = None, name: str = "thermo") -> str:
        """Report a device's state."""
        about = {"name": name, "state": state} | ({} if last is None else {"lastOnlineTime": last})
        return self.say(f"device/default/{name}/state/update", {"device": about})

    def answers(self) -> dict[str, Any]:
        """What was confirmed or refused since the last look, by the report's id."""
        return {
            message.header.parent_id: read(message)
            for message in self.bus.take()
            if message.header.parent_id
        }

    def wait(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    def status(self, name: str = "thermo") -> dict[str, Any]:
        """What the cluster says of a device."""
        found = self.kube.peek(DEVICESTATUSES, "default", name)
        assert found is not None, f"no DeviceStatus {name}"
        return found.get("status") or {}

    def twins(self, name: str = "thermo") -> dict[str, tuple[str, str]]:
        """Its reported and observed values, by property."""
        return {
            each["propertyName"]: (each["reported"]["value"], each["observedDesired"]["value"])
            for each in self.status(name).get("twins", [])
        }

    def problems(self, name: str = "thermo") -> list[tuple[str, str, str]]:
        """Its problems: property, what about, reason."""
        found = self.status(name).get("extensions", {}).get("problems", [])
        return [(each["property"], each["about"], each["reason"]) for each in found]

    def writes(self) -> list[str]:
        """The writes since the last look, as ``verb plural``."""
        found = [f"{c.verb} {c.kind.plural}" for c in self.kube.calls if c.verb in WRITES]
        self.kube.calls.clear()
        return found
