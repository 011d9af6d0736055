"""Many fake edge nodes in one process: real TLS, real WebSockets, an acknowledgement for each push.

Reads commands, one JSON object a line, and answers each with one line. Times are those of
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
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
from kubeedge_tx.viaduct.channel import Channel
from kubeedge_tx.viaduct.client import connect
from kubeedge_tx.viaduct.handshake import WINDOW_HEADER
from kubeedge_tx.viaduct.interfaces import IChannelUser

ACKNOWLEDGED = frozenset({names.INSERT, names.UPDATE, names.DELETE})
LEASES = "kube-node-lease/lease/"
CONNECTING = 16
"""Handshakes under way at once."""


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    uid: str = ""
    version: str = msgspec.field(default="0", name="resourceVersion")


class _Head(msgspec.Struct, frozen=True, gc=False):
    metadata: _Metadata = _Metadata()


HEADS = msgspec.json.Decoder(_Head)
"""Reads of an object who it is and in which version."""


@implementer(IChannelUser)
class FakeNode:
    """Acknowledge what comes, as MetaManager does, and remember the newest versions."""

    def __init__(self, name: str, messages: MessageFactory, fleet: Fleet) -> None:
        self.name = name
        self.channel: Channel | None = None
        self._messages = messages
        self._fleet = fleet
        self.newest: dict[str, int] = {}
        self._lease: Any = None
        self._renewals = 0

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

    def renew(self, times: int) -> None:
        """Renew the node's lease, so many times."""
        self._renewals = times
        self._renew()

    def _renew(self) -> None:
        if not self._renewals:
            self._fleet.renewed()
            return
        self._renewals -= 1
        lease = self._lease or {"metadata": {"name": self.name, "namespace": "kube-node-lease"}}
        lease["spec"] = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": 40,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        assert self.channel is not None
        self.channel.send(
            self._messages.new(
                source=names.EDGED,
                group=names.GROUP_META,
                operation=names.UPDATE if self._lease else names.INSERT,
                resource=LEASES + self.name,
                content=lease,
            )
        )

    def received(self, message: Message) -> Deferred[None]:
        route = message.route
        if message.header.parent_id and route.resource.startswith(LEASES):
            self._lease = message.read()["Object"]
            self._renew()
        elif route.operation in ACKNOWLEDGED and self.channel is not None:
            self.channel.send(self._messages.reply(message))
            version = int(HEADS.decode(message.content).metadata.version or 0)
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
        self._to_renew = 0
        self._tell: Callable[[], None] = lambda: None
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

    def renew(self, times: int, tell: Callable[[], None]) -> None:
        """Let every node renew its lease, so many times; tell when all have."""
        self._to_renew, self._tell = len(self.nodes), tell
        for node in self.nodes:
            node.renew(times)

    def renewed(self) -> None:
        """Count a node that is through."""
        self._to_renew -= 1
        if not self._to_renew:
            self._tell()

    def more(self) -> dict[str, Any]:
        """What else there is to tell: nothing."""
        return {}

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

    def __init__(
        self, reactor: Any, done: Deferred[None], fleet: Callable[[Any, Any], Any]
    ) -> None:
        self._reactor = reactor
        self._done = done
        self._make = fleet
        self._fleet: Any = None

    def lineReceived(self, line: bytes) -> None:
        command = json.loads(line)
        what = command["do"]
        if what == "connect":
            self._fleet = self._make(self._reactor, command)
            connecting = Deferred.fromCoroutine(self._fleet.connect())
            connecting.addCallbacks(lambda _: self._tell(), self._failed)
            return
        fleet = self._fleet
        assert fleet is not None
        if what == "acks":
            fleet.wait_acks(command["count"], self._tell)
        elif what == "leases":
            fleet.renew(command["rounds"], self._tell)
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
        answer = {"at": fleet.last, "acks": fleet.acks, "losses": fleet.losses, **fleet.more()}
        self.sendLine(json.dumps(answer).encode())

    def _failed(self, failure: Any) -> None:
        self.sendLine(json.dumps({"error": failure.getErrorMessage()}).encode())


async def obey(reactor: Any, fleet: Callable[[Any, Any], Any]) -> None:
    """Obey until the parent goes away."""
    done: Deferred[None] = Deferred()
    stdio.StandardIO(Commands(reactor, done, fleet), reactor=reactor)
    await done


def main(fleet: Callable[[Any, Any], Any]) -> None:
    """Be a client process.

    :param fleet: makes the nodes, from a reactor and what the parent says.
    """
    log.startLogging(sys.stderr, setStdout=False)
    react(lambda reactor: Deferred.fromCoroutine(obey(reactor, fleet)))


if __name__ == "__main__":
    main(Fleet)
