"""A CloudHub under a Clock, with edges in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import txaio
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.resources import CLUSTEROBJECTSYNCS, OBJECTSYNCS
from kubeedge_tx.beehive.bus import Inbox, MessageBus
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.cloud.cloudhub.hub import CloudHub
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.viaduct.handshake import WINDOW_HEADER
from tests.fakes.doors import a_door
from tests.fakes.kube import FakeKube
from tests.viaduct.link import Link, User, factory

KUBE_CA = "-----BEGIN CERTIFICATE-----\nkube\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True)
class Address:
    address: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True)
class Settings:
    websocket: Address = field(default_factory=Address)
    node_limit: int = 3
    keepalive_interval: int = 30
    ack_window: int = 32
    connect_rate: int = 100
    drain_seconds: int = 5
    legacy_certificates: bool = False
    queue_objects: int = 16384
    queue_messages: int = 1024
    message_rate: int = 1000
    creation_rate: int = 30
    max_message_bytes: int = 32 * 1024 * 1024


def configmap(uid: str, version: str, name: str = "app") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "resourceVersion": version,
        },
        "data": {"k": version},
    }


class HubCase(SynchronousTestCase):
    """Everything but the network."""

    modules: tuple[str, ...] = ("edgecontroller", "synccontroller")

    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(txaio.config, "loop", self.clock)
        self.kube = FakeKube()
        self.bus = MessageBus(self.clock)
        self.inboxes: dict[str, Inbox] = {
            name: self.bus.register(name, name, size=4) for name in self.modules
        }
        self.messages = factory(self.clock, "cloud")
        self.links: list[Link] = []
        self.hub = self.make_hub()
        self.hub.start_ticking()

    def make_hub(self, **settings: Any) -> CloudHub:
        self.metrics = Metrics()
        self.syncpoint = SyncPoint(
            self.clock,
            self.kube,
            self.kube.informer(OBJECTSYNCS),
            self.kube.informer(CLUSTEROBJECTSYNCS),
        )
        return CloudHub(
            self.clock,
            self.bus,
            self.messages,
            settings=Settings(**settings),
            context_factory=None,
            identify=lambda transport: transport.certificate,
            syncpoint=self.syncpoint,
            kube_ca=KUBE_CA,
            denials=Denials(self.clock, self.metrics),
            door=a_door(self.clock, self.metrics),
            metrics=self.metrics,
        )

    def dial(
        self,
        node: str = "edge-1",
        *,
        certificate: str | None = "same",
        window: str = "32",
        headers: dict[str, str] | None = None,
    ) -> Link:
        """Connect an edge of our kind; ``window=""`` makes it a Go edge."""
        sent = {"Node_id": node, "Connectionuse": "msg", **(headers or {})}
        if window:
            sent[WINDOW_HEADER] = window
        link = Link(
            self,
            self.clock,
            self.hub.factory,
            headers=sent,
            certificate=node if certificate == "same" else certificate,
        )
        self.links.append(link)
        self.flush()
        return link

    def flush(self) -> None:
        for _ in range(3):
            for link in self.links:
                link.flush()

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.flush()

    def push(self, content: Any, node: str = "edge-1", **options: Any) -> Message:
        """What EdgeController gives to the hub."""
        defaults = {
            "source": "edgecontroller",
            "group": "resource",
            "operation": "update",
            "resource": "default/configmap/app",
            "resource_version": (content or {}).get("metadata", {}).get("resourceVersion", "")
            if isinstance(content, dict)
            else "",
        }
        values = {**defaults, **options}
        values["resource"] = f"node/{node}/{values['resource']}"
        message = self.messages.new(content=content, **values)
        self.successResultOf(self.hub.handle(message))
        self.flush()
        return message

    def say(self, link: Link, operation: str, resource: str, **options: Any) -> Message:
        """What an edge sends."""
        values = {"source": "edged", "group": "meta", "content": None, **options}
        message = self.messages.new(operation=operation, resource=resource, **values)
        link.channel.send(message)
        self.flush()
        return message

    def ack(self, link: Link, message: Message, content: str = "OK") -> None:
        link.channel.send(self.messages.reply(message, content))
        self.flush()

    def keepalive(self, link: Link) -> None:
        self.say(link, "keepalive", "node", source="websocket", group="resource", content="ping")

    def inbox(self, module: str) -> list[Message]:
        """Take what a module was sent."""
        taken = self.inboxes[module].take(100)
        self.clock.advance(0)
        if taken.called:
            messages: list[Message] = self.successResultOf(taken)
            return messages
        taken.cancel()
        self.failureResultOf(taken)
        return []

    @staticmethod
    def seen(user: User) -> list[tuple[str, str]]:
        """What an edge received: operation and resource."""
        return [(m.route.operation, m.route.resource) for m in user.messages]
