"""Fake edge nodes that have several clouds, and move as EdgeHub does: its own dialer and pauses.

Each keeps what it was sent, by name, and says on every connection what it has, as MetaManager's
store would; so a cloud that takes over has to send what is missing and nothing else.
"""

from __future__ import annotations

import random
import time
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from kubeedge_tx.api.holdings import UNCOUNTED, Holding, digest
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edgehub.connector import Backoff, Dialer, EdgeHubSettings, keep_connected
from kubeedge_tx.security import contexts
from kubeedge_tx.viaduct.channel import Channel
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.traffic import Traffic
from tests.bench.nodes import ACKNOWLEDGED, HEADS, main

KEEPALIVE_SECONDS = 10.0


@implementer(IChannelUser)
class Mover:
    """One node: connected somewhere, always again."""

    def __init__(self, reactor: Any, fleet: Movers, wanted: Any) -> None:
        settings = fleet.settings
        self.name = wanted["name"]
        self.channel: Channel | None = None
        self.at = 0.0
        """When the connection of now was opened."""
        self.holdings: dict[str, Holding] = {}
        self._fleet = fleet
        self._over: Deferred[bool] = Deferred()
        hub = EdgeHubSettings(
            node_name=self.name, servers=tuple(settings["servers"]), window=settings["window"]
        )
        tls: IOpenSSLClientConnectionCreator = contexts.client(
            "127.0.0.1",
            settings["ca"].encode(),
            wanted["cert"].encode(),
            settings["key"].encode(),
        )

        async def credentials(_host: str) -> IOpenSSLClientConnectionCreator:
            return tls

        self._dialer = Dialer(reactor, fleet.messages, hub, credentials, fleet.traffic, random)
        backoff = Backoff(
            random,
            first=hub.first_delay,
            limit=hub.longest_delay,
            unreachable_limit=hub.unreachable_delay,
        )
        fleet.tasks.spawn(
            f"connection of {self.name}",
            keep_connected(self._connect, backoff, reactor, self._dialer.wait),
        )

    async def _connect(self) -> Deferred[bool]:
        over = self._over = Deferred()
        await self._dialer.dial(self)
        return over

    def opened(self, channel: Channel) -> None:
        self.channel = channel
        self.at = time.monotonic()
        self.keep_alive()
        self._compare(full=False)
        self._fleet.opened()

    def keep_alive(self) -> None:
        """Send the keepalive message."""
        self._send(names.KEEPALIVE, "node", "ping")

    def received(self, message: Message) -> Deferred[None]:
        route = message.route
        if route.operation == names.DIGEST:
            self._compare(full=True)
        elif route.operation in ACKNOWLEDGED and self.channel is not None:
            about = HEADS.decode(message.content).metadata
            if route.operation == names.DELETE:
                self.holdings.pop(route.resource, None)
            else:
                self.holdings[route.resource] = Holding(route.resource, about.uid, about.version)
            self.channel.send(self._fleet.messages.reply(message))
            self._fleet.acknowledged()
        return succeed(None)

    def writable(self) -> None:
        return

    def closed(self, reason: str) -> None:
        if self.channel is not None:
            self.channel = None
            self._over.callback(False)

    def _compare(self, *, full: bool) -> None:
        counted = [
            each for key, each in self.holdings.items() if key.split("/")[1] not in UNCOUNTED
        ]
        self._send(names.DIGEST, names.DIGEST_RESOURCE, digest(counted, full=full))

    def _send(self, operation: str, resource: str, content: Any) -> None:
        if self.channel is not None:
            self.channel.send(
                self._fleet.messages.new(
                    source=names.EDGEHUB,
                    group=names.GROUP_RESOURCE,
                    operation=operation,
                    resource=resource,
                    content=content,
                )
            )


class Movers:
    """All nodes of this process."""

    def __init__(self, reactor: Any, settings: Any) -> None:
        self._reactor = reactor
        self.settings = settings
        self.messages = MessageFactory(lambda: int(time.time() * 1000))
        self.traffic = Traffic()
        self.tasks = TaskSet()
        self.nodes: list[Mover] = []
        self.acks = 0
        self.last = 0.0
        self.losses: list[str] = []
        self._connected: Deferred[None] = Deferred()
        LoopingCall(self._keep_alive).start(KEEPALIVE_SECONDS, now=False)

    async def connect(self) -> None:
        """Let all nodes dial; wait until each is connected."""
        for wanted in self.settings["nodes"]:
            self.nodes.append(Mover(self._reactor, self, wanted))
        await self._connected

    def opened(self) -> None:
        """Look whether all are there for the first time."""
        complete = len(self.nodes) == len(self.settings["nodes"])
        if complete and all(each.channel for each in self.nodes) and not self._connected.called:
            self._connected.callback(None)

    def acknowledged(self) -> None:
        """Count."""
        self.acks += 1
        self.last = time.monotonic()

    def more(self) -> dict[str, Any]:
        """Who is connected since when, what all of them have, and what was said."""
        versions: dict[str, list[int]] = {}
        for node in self.nodes:
            for key, held in node.holdings.items():
                versions.setdefault(key, []).append(int(held.version or 0))
        sent, received = self.traffic.sent.values(), self.traffic.received.values()
        return {
            "opened": [node.at for node in self.nodes if node.channel is not None],
            "oldest": {key: [len(found), min(found)] for key, found in versions.items()},
            "bytes": [sum(each.bytes for each in way) for way in (sent, received)],
        }

    def _keep_alive(self) -> None:
        for node in self.nodes:
            node.keep_alive()


if __name__ == "__main__":
    main(Movers)
