from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import TestCase

from kubeedge_tx.api.resources import CLUSTEROBJECTSYNCS, OBJECTSYNCS
from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.cloud.cloudhub.hub import CloudHub
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.errors import HandshakeFailed
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.security import contexts
from kubeedge_tx.security.authority import Authority, KeyPair
from kubeedge_tx.viaduct.channel import Channel
from kubeedge_tx.viaduct.client import connect
from kubeedge_tx.viaduct.handshake import WINDOW_HEADER
from tests.cloud.cloudhub.hubcase import Address, Settings, configmap
from tests.fakes.doors import a_door
from tests.fakes.kube import FakeKube
from tests.viaduct.link import User

NOW = datetime.now(UTC)


class Waiting(User):
    """A user that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.message: Deferred[Message] = Deferred()
        self.end: Deferred[str] = Deferred()

    def received(self, message: Message) -> Deferred[None]:
        done = super().received(message)
        if not self.message.called:
            self.message.callback(message)
        return done

    def closed(self, reason: str) -> None:
        super().closed(reason)
        self.end.callback(reason)


@dataclass
class Dialled:
    user: Waiting
    opening: Deferred[Channel]


class TlsTests(TestCase):
    """CloudHub on a real port with real certificates."""

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        self.authority = Authority.create(now=NOW)
        self.server = self.authority.issue_server(["localhost"], ["127.0.0.1"], now=NOW)
        self.messages = MessageFactory(lambda: time.time_ns() // 1_000_000)
        self.kube = FakeKube()
        self.hub = self.make_hub()
        self.addCleanup(self.hub.stopService)
        return self.hub.startService()

    def make_hub(self, port: int = 0) -> CloudHub:
        bus = MessageBus(reactor)  # type: ignore[arg-type]
        syncpoint = SyncPoint(
            reactor,  # type: ignore[arg-type]
            self.kube,
            self.kube.informer(OBJECTSYNCS),
            self.kube.informer(CLUSTEROBJECTSYNCS),
        )
        return CloudHub(
            reactor,
            bus,
            self.messages,
            settings=Settings(websocket=Address(port=port)),
            context_factory=contexts.hub_server(
                self.authority.cert_pem, self.server.cert_pem, self.server.key_pem
            ),
            syncpoint=syncpoint,
            kube_ca="",
            denials=Denials(reactor, Metrics()),
            door=a_door(reactor),
            metrics=Metrics(),
        )

    def certificate(self, node: str, authority: Authority | None = None) -> KeyPair:
        return (authority or self.authority).issue_client(
            f"system:node:{node}", ["system:nodes"], now=NOW
        )

    def dial(self, node: str, pair: KeyPair | None) -> Dialled:
        options = contexts.client(
            "127.0.0.1",
            self.authority.cert_pem,
            pair.cert_pem if pair else b"",
            pair.key_pem if pair else b"",
        )
        endpoint: Any = wrapClientTLS(
            options, HostnameEndpoint(reactor, "127.0.0.1", self.hub.port)
        )
        user = Waiting()
        opening = Deferred.fromCoroutine(
            connect(
                reactor,
                endpoint,
                f"wss://127.0.0.1:{self.hub.port}/e632/{node}/events",
                headers={"node_id": node, "ConnectionUse": "msg", WINDOW_HEADER: "8"},
                user=user,
                messages=self.messages,
            )
        )
        return Dialled(user, opening)

    async def test_delivered_and_recorded(self) -> None:
        """An edge with its certificate gets a configmap, and its answer is recorded."""
        edge = self.dial("edge-1", self.certificate("edge-1"))
        channel = await edge.opening
        await self.hub.handle(
            self.messages.new(
                source="edgecontroller",
                group="resource",
                operation="update",
                resource="node/edge-1/default/configmap/app",
                content=configmap("u", "7") | {"data": {"big": "x" * 200_000}},
                resource_version="7",
            )
        )
        message = await edge.user.message
        self.assertEqual(len(message.read()["data"]["big"]), 200_000)
        channel.send(self.messages.reply(message))
        channel.close()
        await edge.user.end
        await self.hub.stopService()
        found = self.kube.peek(OBJECTSYNCS, "default", "edge-1.u")
        assert found is not None
        self.assertEqual(found["status"]["objectResourceVersion"], "7")

    async def test_certificate_of_another_node(self) -> None:
        """The certificate of one node does not open the door for another."""
        edge = self.dial("edge-1", self.certificate("edge-2"))
        error = await self.assertFailure(edge.opening, HandshakeFailed)
        self.assertIn("403", str(error))
        self.assertIn("edge-2", str(error))

    async def test_certificate_of_another_ca(self) -> None:
        """A certificate of a CA that is not ours ends in the TLS handshake."""
        stranger = Authority.create(now=NOW)
        edge = self.dial("edge-1", self.certificate("edge-1", stranger))
        await self.assertFailure(edge.opening, HandshakeFailed)
        self.assertEqual(len(edge.user.closings), 1)
        self.assertEqual(len(self.hub.sessions), 0)

    async def test_no_certificate(self) -> None:
        """So does none at all."""
        edge = self.dial("edge-1", None)
        await self.assertFailure(edge.opening, HandshakeFailed)
        self.assertEqual(len(self.hub.sessions), 0)

    async def test_port_in_use(self) -> None:
        """A port that is taken is an error of the start."""
        second = self.make_hub(self.hub.port)
        await self.assertFailure(second.startService(), CannotListenError)
        await second.stopService()
