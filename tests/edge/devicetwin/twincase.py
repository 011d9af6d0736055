"""EventBus, DeviceTwin, MetaManager and EdgeHub on a real bus and a real file."""

from __future__ import annotations

from typing import Any

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.edge.devicetwin.manager import DeviceTwin
from kubeedge_tx.edge.eventbus.bus import EventBus
from kubeedge_tx.edge.eventbus.outgoing import BusPort
from kubeedge_tx.store.topics import TopicStore
from tests.edge.edgecase import EdgeCase, push
from tests.fakes.mqtt import FakePort, Published

THERMO = "default/thermo"
DEVICE = f"$hw/events/device/{THERMO}"


def device_object(
    desired: dict[str, str | None] | None = None,
    *,
    name: str = "thermo",
    version: str = "10",
    uid: str = "u-thermo",
    model: str = "m",
    properties: tuple[str, ...] = ("threshold", "temperature", "label"),
) -> Any:
    """A Device; ``desired`` by property."""
    wanted = desired or {}
    spec = [
        {
            "name": each,
            **({"desired": {"value": wanted[each]}} if wanted.get(each) is not None else {}),
        }
        for each in properties
    ]
    return {
        "kind": "Device",
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "resourceVersion": version,
        },
        "spec": {"deviceModelRef": {"name": model}, "nodeName": "edge-1", "properties": spec},
    }


def model_object(version: str = "5", **bounds: str) -> Any:
    """The model ``m``: threshold and temperature are numbers, label is a text."""
    limits = {"minimum": "1", "maximum": "100", **bounds}
    return {
        "kind": "DeviceModel",
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "metadata": {
            "name": "m",
            "namespace": "default",
            "uid": "u-m",
            "resourceVersion": version,
        },
        "spec": {
            "properties": [
                {"name": "temperature", "type": "INT", "accessMode": "ReadOnly", **limits},
                {"name": "threshold", "type": "INT", "accessMode": "ReadWrite", **limits},
                {"name": "label", "type": "STRING", "accessMode": "ReadWrite"},
            ]
        },
    }


class TwinCase(EdgeCase):
    """An app and a cloud, with an edge between them."""

    modules = ("edged",)
    node = "edge-1"
    port_connected = True

    def more_modules(self) -> list[Any]:
        self.went_up: list[Message] = []
        self.port = FakePort(self.port_connected)
        self.events = EventBus(
            self.bus,
            self.messages,
            ports=self.bus_ports(),
            store=TopicStore(self.database),
            outbox=self.outbox,
            node=self.node,
        )
        self.devices = DeviceTwin(
            self.bus,
            self.messages,
            self.clock,
            database=self.database,
            objects=self.store,
            outbox=self.outbox,
            node=self.node,
            now_ms=self.now_ms,
            new_id=lambda: f"event-{next(self.ids)}",
        )
        return [self.devices, self.events]

    def bus_ports(self) -> list[BusPort]:
        """The brokers."""
        return [BusPort(name="external", port=self.port)]

    def arrive(self, topic: str, payload: object) -> list[Published]:
        """An app publishes; returns what EventBus published then."""
        self.port.take()
        done = self.port.arrive(topic, payload)
        self.settle()
        if done is not None and not self.database.held:
            self.successResultOf(done)
        return self.port.take()

    def report(self, **values: str) -> list[Published]:
        """The thermometer reports values."""
        twin = {name: {"actual": {"value": value}} for name, value in values.items()}
        return self.arrive(f"{DEVICE}/twin/update", {"event_id": "e", "twin": twin})

    def twins(self) -> Any:
        """What an app reads of the thermometer."""
        (answer,) = self.arrive(f"{DEVICE}/twin/get", {"event_id": "e"})
        return answer.json["twin"]

    def values(self) -> Any:
        """The same, as ``{property: (expected, actual)}``."""
        return {
            name: tuple(twin.get(side, {}).get("value") for side in ("expected", "actual"))
            for name, twin in self.twins().items()
        }

    def members(self, *added: str, removed: tuple[str, ...] = ()) -> list[Published]:
        """The cloud says who came and went; returns what was published."""
        self.port.take()
        content = {
            "event_id": "c",
            "timestamp": 1,
            "added_devices": [{"id": each, "name": each.rpartition("/")[2]} for each in added]
            or None,
            "removed_devices": [{"id": each, "name": each.rpartition("/")[2]} for each in removed]
            or None,
        }
        self.receive(push("update", "membership", content, source="devicecontroller", group="twin"))
        return self.port.take()

    def push_object(self, content: Any, operation: str = "update") -> list[Published]:
        """The cloud sends a Device or DeviceModel; returns what was published."""
        self.port.take()
        metadata = content["metadata"]
        resource = f"{metadata['namespace']}/{content['kind'].lower()}/{metadata['name']}"
        self.receive(push(operation, resource, content, source="devicecontroller"))
        return self.port.take()

    def confirm(self, message: Message) -> None:
        """The cloud has written a report."""
        self.receive(
            push(
                "response",
                "twin",
                "OK",
                source="devicecontroller",
                group="twin",
                parent=message.header.msg_id,
                message_id="confirm",
            )
        )

    def receive(self, message: Message) -> list[Message]:
        self.went_up += self.cloud.channel.take()
        sent = super().receive(message)
        self.went_up += sent
        return sent

    def confirm_all(self) -> None:
        """The cloud confirms until nothing more comes."""
        for _ in range(5):
            for message in self.reports():
                if message.route.operation == "update":
                    self.confirm(message)
        assert self.reports() == []

    def reports(self) -> list[Message]:
        """What the cloud got of devices since."""
        self.settle()
        sent, self.went_up = self.went_up + self.cloud.channel.take(), []
        return [each for each in sent if each.route.source == "twin"]
