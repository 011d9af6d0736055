"""An EdgeController over a FakeKube."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.resources import CONFIGMAPS, NODES, PODS, SECRETS
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.controller import EdgeController
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from tests.cloud.rig import NOW_MS, Recorder, factory, from_edge, read
from tests.fakes.kube import FakeKube

CLOUD_IP = "192.0.2.2"


class Edges:
    """The connections of one cloud process: which edges answer, and which were sent away."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.asked: list[str] = []
        self.displaced: list[str] = []

    def prove(self, node: str) -> Deferred[bool]:
        self.asked.append(node)
        return succeed(node in self.there)

    def displace(self, node: str) -> None:
        self.displaced.append(node)


class EdgeControllerCase(SynchronousTestCase):
    """Sets up a started controller, as the class attributes say."""

    impersonate = False
    synced = True
    heartbeat = 10.0

    def setUp(self) -> None:
        self.kube = FakeKube()
        self.bus = Recorder()
        self.metrics = Metrics()
        self.informers = [
            self.kube.informer(kind, synced=self.synced)
            for kind in (NODES, PODS, CONFIGMAPS, SECRETS)
        ]
        nodes, pods, configmaps, secrets = self.informers
        self.clock = Clock()
        self.edges = Edges()
        self.claims = Claims(
            self.clock, self.kube, self.edges, identity="cloud-a", cloud_ip=CLOUD_IP
        )
        self.controller = EdgeController(
            self.bus,
            factory(),
            self.kube,
            nodes=nodes,
            pods=pods,
            configmaps=configmaps,
            secrets=secrets,
            claims=self.claims,
            now_ms=lambda: NOW_MS,
            denials=Denials(Clock(), self.metrics),
            impersonate=self.impersonate,
            heartbeat=self.heartbeat,
        )
        self.run_now(self.controller.started())
        self.addCleanup(lambda: self.run_now(self.controller.stopped()))

    def run_now(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def say(self, message: Message) -> list[Message]:
        """Hand over a message; returns everything sent because of it."""
        self.bus.take()
        self.run_now(self.controller.handle(message))
        return self.bus.take()

    def ask(
        self, operation: str, resource: str, content: Any = None, node: str = "edge-1"
    ) -> Message:
        """Ask as a node; returns the answer."""
        sent = self.say(from_edge(operation, f"node/{node}/{resource}", content))
        answers = [message for message in sent if message.header.parent_id]
        self.pushed = [message for message in sent if not message.header.parent_id]
        self.assertEqual(len(answers), 1, sent)
        return answers[0]

    def error_of(self, answer: Message) -> dict[str, Any]:
        """The status in an object answer that is an error."""
        content = read(answer)
        self.assertEqual(set(content), {"Object", "Err"})
        self.assertIsNone(content["Object"])
        status: dict[str, Any] = content["Err"]["ErrStatus"]
        return status

    def object_of(self, answer: Message) -> dict[str, Any]:
        """The object in an object answer that is none."""
        content = read(answer)
        self.assertEqual(set(content), {"Object", "Err"})
        self.assertIsNone(content["Err"])
        found: dict[str, Any] = content["Object"]
        return found
