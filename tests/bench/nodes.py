"""Many fake edge nodes in one process: real TLS, real WebSockets, an acknowledgement for each push.

Reads commands, one JSON object a line, and answers each with one line. Times are those of
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet import stdio
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.task import LoopingCall, react
from twisted.protocols.basic import LineReceiver
from twisted.python import log
from zope.interface import implementer

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.security import contexts
from kubeedge_tx.viaduct.channel import WINDOW_HEADER, Channel, connect
from kubeedge_tx.viaduct.interfaces import IChannelUser

ACKNOWLEDGED = frozenset({names.INSERT, names.UPDATE, names.DELETE})
CONNECTING = 16
"""Handshakes under way at once."""


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    version: str = msgspec.field(default="0", name="resourceVersion")


class _Head(msgspec.Struct, frozen=True, gc=False):
    metadata: _Metadata = _Metadata()


_heads = msgspec.json.Decoder(_Head)


@implementer(IChannelUser)
class FakeNode:
    """Acknowledge what comes, as MetaManager does, and remember the newest versions."""

    def __init__(self, name: str, messages: MessageFactory, fleet: Fleet) -> None:
        self.name = name
        self.channel: Channel | None = None
        self._messages = messages
        self._fleet = fleet
        self.newest: dict[str, int] = {}

    def opened(self, channel: Channel) -> None:
        self.channel = channel
        self.keep_alive()

    def keep_alive(self) -> None:
        """Send the keepalive message."""
        if self.channel is not None:
            self.channel.send(
                self._messages.new(
                    source=names.EDGEHUB,
                    group=names.GROUP_RESOURCE,
                    operation=names.KEEPALIVE,
                    resource="node",
                    content="ping",
                )
            )

    def received(self, message: Message) -> Deferred[None]:
        route = message.route
        if route.operation in ACKNOWLEDGED and self.channel is not None:
            self.channel.send(self._messages.reply(message))
            version = int(_heads.decode(message.content).metadata.version or 0)
            if version > self.newest.get(route.resource, 0):
                self.newest[route.resource] = version
            self._fleet.acknowledged()
        return succeed(None)

    def writable(self) -> None:
        return

    def closed(self, reason: str) -> None:
        self.channel = None
        self._fleet.lost(self.name, reason)


class Fleet:
    """All nodes of this process."""

    def __init__(self, reactor: Any, settings: Any) -> None:
        self._reactor = reactor
        self._settings = settings
        self._messages = MessageFactory(lambda: int(time.time() * 1000))
        self.nodes: list[FakeNode] = []
        self.acks = 0
        self.last = 0.0
        self.losses: list[str] = []
        self._waiting: tuple[Callable[[], bool], Callable[[], None]] | None = None
        LoopingCall(self._keep_alive).start(10.0, now=False)

    def acknowledged(self) -> None:
        """Count, and look whether somebody waits for just this."""
        self.acks += 1
        self.last = time.monotonic()
        if self._waiting is not None and self._waiting[0]():
            (_, tell), self._waiting = self._waiting, None
            tell()

    def lost(self, name: str, reason: str) -> None:
        """Note that a node was cut."""
        self.losses.append(f"{name}: {reason}")

    async def connect(self) -> None:
        """Connect all nodes, some at a time."""
        todo = list(self._settings["nodes"])

        async def work() -> None:
            while todo:
                await self._connect(todo.pop())

        await gatherResults([Deferred.fromCoroutine(work()) for _ in range(CONNECTING)])

    async def _connect(self, wanted: Any) -> None:
        settings = self._settings
        node = FakeNode(wanted["name"], self._messages, self)
        self.nodes.append(node)
        tls: IOpenSSLClientConnectionCreator = contexts.client(
            "127.0.0.1",
            settings["ca"].encode(),
            wanted["cert"].encode(),
            settings["key"].encode(),
        )
        port = settings["port"]
        headers = {"node_id": node.name, "project_id": "bench", "ConnectionUse": "msg"}
        if settings["window"] > 1:
            headers[WINDOW_HEADER] = str(settings["window"])
        await connect(
            self._reactor,
            wrapClientTLS(tls, HostnameEndpoint(self._reactor, "127.0.0.1", port)),
            f"wss://127.0.0.1:{port}/bench/{node.name}/events",
            headers=headers,
            user=node,
            messages=self._messages,
        )

    def wait_acks(self, count: int, tell: Callable[[], None]) -> None:
        """Tell when so many acknowledgements were sent in all."""
        self._wait(lambda: self.acks >= count, tell)

    def wait_version(self, resource: str, version: int, tell: Callable[[], None]) -> None:
        """Tell when every node has this version of a resource, or a newer one."""
        missing = list(self.nodes)

        def all_have() -> bool:
            while missing and missing[-1].newest.get(resource, 0) >= version:
                missing.pop()
            return not missing

        self._wait(all_have, tell)

    def _wait(self, until: Callable[[], bool], tell: Callable[[], None]) -> None:
        if until():
            tell()
        else:
            self._waiting = until, tell

    def _keep_alive(self) -> None:
        for node in self.nodes:
            node.keep_alive()


class Commands(LineReceiver):
    """What the parent process asks for."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 26

    def __init__(self, reactor: Any, done: Deferred[None]) -> None:
        self._reactor = reactor
        self._done = done
        self._fleet: Fleet | None = None

    def lineReceived(self, line: bytes) -> None:
        command = json.loads(line)
        what = command["do"]
        if what == "connect":
            self._fleet = Fleet(self._reactor, command)
            connecting = Deferred.fromCoroutine(self._fleet.connect())
            connecting.addCallbacks(lambda _: self._tell(), self._failed)
            return
        fleet = self._fleet
        assert fleet is not None
        if what == "acks":
            fleet.wait_acks(command["count"], self._tell)
        elif what == "version":
            fleet.wait_version(command["resource"], command["version"], self._tell)
        else:
            self._tell()

    def connectionLost(self, reason: Any = None) -> None:
        if not self._done.called:
            self._done.callback(None)

    def _tell(self) -> None:
        fleet = self._fleet
        assert fleet is not None
        answer = {"at": fleet.last, "acks": fleet.acks, "losses": fleet.losses}
        self.sendLine(json.dumps(answer).encode())

    def _failed(self, failure: Any) -> None:
        self.sendLine(json.dumps({"error": failure.getErrorMessage()}).encode())


async def main(reactor: Any) -> None:
    """Obey until the parent goes away."""
    done: Deferred[None] = Deferred()
    stdio.StandardIO(Commands(reactor, done), reactor=reactor)
    await done


if __name__ == "__main__":
    log.startLogging(sys.stderr, setStdout=False)
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
