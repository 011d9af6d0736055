"""EdgeHub and MetaManager on a real bus and a real file, with the time in the test's hand."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Header, Message, MessageFactory, Route, raw
from kubeedge_tx.beehive.service import ModuleService
from kubeedge_tx.edge.edgehub.connector import EdgeHubSettings
from kubeedge_tx.edge.edgehub.hub import EdgeHub
from kubeedge_tx.edge.metamanager.manager import MetaManager
from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.outbox import Outbox
from tests.fakes.channel import FakeCloud
from tests.fakes.database import DirectDatabase

START = 1_795_503_134


@implementer(IModule)
class Recorder:
    """A module that keeps what it gets; while ``busy`` it takes nothing more."""

    def __init__(self, name: str, group: str) -> None:
        self.name = name
        self.group = group
        self.got: list[Message] = []
        self.busy: Deferred[None] | None = None

    async def handle(self, message: Message) -> None:
        self.got.append(message)
        if self.busy is not None:
            await self.busy

    def take(self) -> list[Message]:
        """What it got since, less news of the connection."""
        got, self.got = self.got, []
        return [message for message in got if message.route.operation != "connect"]


def push(
    operation: str,
    resource: str,
    content: object = None,
    *,
    source: str = "edgecontroller",
    group: str = "resource",
    version: str = "",
    parent: str = "",
    message_id: str = "cloud-1",
) -> Message:
    """A message as the cloud sends it."""
    return Message(
        Header(msg_id=message_id, timestamp=1, parent_id=parent, resource_version=version),
        Route(source, group, operation, resource),
        raw(content),
    )


def k8s_object(kind: str, name: str, uid: str = "u1", version: str = "1", **more: Any) -> Any:
    metadata = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": version}
    return {"kind": kind, "apiVersion": "v1", "metadata": metadata, **more}


class EdgeCase(SynchronousTestCase):
    """The edge's middle: from the channel to edged."""

    modules: tuple[str, ...] = ("edged", "twin")
    qps = 30.0
    burst = 60.0
    servers: tuple[str, ...] = ("cloud:10000",)

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "edge.db"
        self.clock = Clock()
        self.cloud = FakeCloud()
        self.ids = itertools.count(1)
        self.boot()

    def boot(self) -> None:
        """Start the process on whatever is in the file."""
        self.database = DirectDatabase(self.path)
        self.store = MetaStore(self.database)
        self.outbox = Outbox(self.database, self.now_ms)
        self.bus = MessageBus(self.clock)
        self.messages = MessageFactory(self.now_ms, lambda: f"edge-{next(self.ids)}")
        self.meta = MetaManager(
            self.bus,
            self.messages,
            database=self.database,
            store=self.store,
            outbox=self.outbox,
            now_ms=self.now_ms,
        )
        self.hub_settings = EdgeHubSettings(
            node_name="edge-1",
            servers=self.servers,
            message_qps=self.qps,
            message_burst=self.burst,
        )
        self.hub = EdgeHub(
            self.clock,
            self.bus,
            self.messages,
            self.outbox,
            settings=self.hub_settings,
            credentials=self.no_credentials,
            random=random.Random(1),
            dial=self.cloud.dial,
            holdings=self.store.holdings,
        )
        self.edged = Recorder("edged", "edged")
        self.twin = Recorder("twin", "twin")
        present: list[Any] = [self.meta, self.hub]
        present += [each for each in (self.edged, self.twin) if each.name in self.modules]
        present += self.more_modules()
        self.services = [ModuleService(each, self.bus, self.messages) for each in present]
        for service in self.services:
            self.successResultOf(service.startService())
        self.settle()

    def more_modules(self) -> list[Any]:
        """Real modules in place of recorders."""
        return []

    def kill(self) -> None:
        """``kill -9``, and start again."""
        self.database.crash()
        self.clock = Clock()
        self.cloud = FakeCloud()
        self.boot()

    def stop(self) -> None:
        for service in reversed(self.services):
            stopping = service.stopService()
            self.settle()
            self.successResultOf(stopping)

    async def no_credentials(self, host: str) -> Any:
        raise AssertionError("the fake cloud needs none")

    def now_ms(self) -> int:
        return START * 1000 + int(self.clock.seconds() * 1000)

    def settle(self) -> None:
        """Let the bus deliver what is on its way."""
        for _ in range(20):
            self.clock.advance(0)

    def receive(self, message: Message) -> list[Message]:
        """The cloud sends one message; returns what went back."""
        self.cloud.channel.take()
        taken = self.cloud.channel.user.received(message)
        self.settle()
        if not self.database.held:
            self.successResultOf(taken)
        return self.cloud.channel.take()

    def ask(
        self, operation: str, resource: str, content: object = None, timeout: float = 600.0
    ) -> Deferred[Message]:
        """Edged asks MetaManager."""
        question = self.messages.new(
            source="edged", group="meta", operation=operation, resource=resource, content=content
        )
        answer = self.bus.send_sync("metamanager", question, timeout)
        self.settle()
        return answer

    def answer(self, operation: str, resource: str, content: object = None) -> Any:
        """Ask, and read the answer that comes at once; an error comes as its text in a tuple."""
        return self.read(self.successResultOf(self.ask(operation, resource, content)))

    def read(self, message: Message) -> Any:
        if message.route.operation == "error":
            return ("error", message.read())
        return message.read()

    def stored(self, key: str) -> Any:
        """What the file says, not the memory."""
        rows: list[Any] = self.successResultOf(
            self.database.read(
                lambda cursor: cursor.execute(
                    "SELECT value FROM meta WHERE key = ?", (key,)
                ).fetchall()
            )
        )
        return json.loads(rows[0][0]) if rows else None
