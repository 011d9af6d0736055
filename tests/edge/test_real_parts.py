from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.service import ModuleService, OrderedService
from kubeedge_tx.edge.edgehub.connector import EdgeHubSettings
from kubeedge_tx.edge.edgehub.hub import EdgeHub
from kubeedge_tx.edge.metamanager.manager import MetaManager
from kubeedge_tx.security.authority import Authority
from kubeedge_tx.security.contexts import client, hub_server
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.migrate import load_migrations
from kubeedge_tx.store.outbox import Outbox
from kubeedge_tx.viaduct.channel import Channel
from kubeedge_tx.viaduct.handshake import Handshake
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.server import ChannelServerFactory
from tests.edge.edgecase import Recorder, k8s_object, push

PODS = 200


@implementer(IChannelUser)
class Cloud:
    """Pushes pods, counts acknowledgements, confirms statuses."""

    def __init__(self, messages: MessageFactory) -> None:
        self.messages = messages
        self.acknowledged: set[str] = set()
        self.statuses: set[str] = set()
        self.all_acknowledged: Deferred[None] = Deferred()
        self.all_statuses: Deferred[None] = Deferred()
        self.over: Deferred[str] = Deferred()
        self.channel: Any = None

    def opened(self, channel: Channel) -> None:
        self.channel = channel
        for n in range(PODS):
            pod = k8s_object("Pod", f"p{n}", uid=f"u{n}")
            channel.send(push("insert", f"default/pod/p{n}", pod, message_id=f"push-{n}"))

    def received(self, message: Message) -> Deferred[None]:
        if message.route.operation == "response":
            self.acknowledged.add(message.header.parent_id)
            if len(self.acknowledged) == PODS and not self.all_acknowledged.called:
                self.all_acknowledged.callback(None)
        elif message.route.operation == "patch":
            self.statuses.add(message.route.resource)
            content = {"Object": k8s_object("Pod", "p"), "Err": None}
            parent = message.header.msg_id
            self.channel.send(push("response", message.route.resource, content, parent=parent))
            if len(self.statuses) == PODS and not self.all_statuses.called:
                self.all_statuses.callback(None)
        return succeed(None)

    def writable(self) -> None:
        pass

    def closed(self, reason: str) -> None:
        self.over.callback(reason)


class RealPartsTests(TestCase):
    """EdgeHub and MetaManager over TLS, on a file that is really synced."""

    timeout = 60

    async def test_there_and_back(self) -> None:
        """Many pods come down at once and are acknowledged; their statuses go up."""
        messages = MessageFactory(lambda: int(time.time() * 1000))
        now = datetime.now(UTC)
        authority = Authority.create(now=now)
        cloud = Cloud(messages)

        def admit(_: Handshake) -> Cloud:
            return cloud

        server = authority.issue_server((), ("127.0.0.1",), now=now)
        listener = TLSMemoryBIOFactory(
            hub_server(authority.cert_pem, server.cert_pem, server.key_pem),
            False,
            ChannelServerFactory(reactor, admit, messages),
        )
        listener.noisy = False
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(listener)
        self.addCleanup(port.stopListening)
        own = authority.issue_client("system:node:edge-1", ["system:nodes"], now=now)

        async def credentials(host: str) -> Any:
            return client(host, authority.cert_pem, own.cert_pem, own.key_pem)

        path = Path(self.mktemp()) / "edge.db"
        groups: list[int] = []
        database = Database(
            reactor,
            path,
            load_migrations("kubeedge_tx.store", "schema"),
            committed=groups.append,
        )
        await database.open()
        clock: Any = reactor
        bus = MessageBus(clock)
        store = MetaStore(database)
        outbox = Outbox(database, lambda: int(time.time() * 1000))
        edged = Recorder("edged", "edged")
        manager = MetaManager(
            bus,
            messages,
            database=database,
            store=store,
            outbox=outbox,
            now_ms=lambda: int(time.time() * 1000),
        )
        hub = EdgeHub(
            reactor,
            bus,
            messages,
            outbox,
            settings=EdgeHubSettings(
                node_name="edge-1",
                servers=(f"127.0.0.1:{port.getHost().port}",),
                message_qps=10_000,
                message_burst=1000,
            ),
            credentials=credentials,
            random=random.Random(1),
        )
        services = [ModuleService(each, bus, messages) for each in (manager, edged, hub)]
        edge = OrderedService(clock, services, 10)
        await edge.startService()
        await cloud.all_acknowledged
        self.assertEqual(len(store.list("pod")), PODS)
        self.assertGreater(max(groups), 1, "commits are shared")
        answers = [
            bus.send_sync(
                "metamanager",
                messages.new(
                    source="edged",
                    group="meta",
                    operation="patch",
                    resource=f"default/podpatch/p{n}",
                    content="{}",
                ),
                30.0,
            )
            for n in range(PODS)
        ]
        await gatherResults(answers)
        await cloud.all_statuses
        while len(outbox):
            await database.write(lambda cursor: None)
        await edge.stopService()
        await cloud.over
        await database.close()
        self.assertEqual(len(edged.take()), PODS)

        again = Database(reactor, path, load_migrations("kubeedge_tx.store", "schema"))
        await again.open()
        self.addCleanup(again.close)
        kept = MetaStore(again)
        await kept.load()
        self.assertEqual(len(kept.list("pod")), PODS)
