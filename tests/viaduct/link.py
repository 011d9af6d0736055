"""Two ends of a channel in memory, under a Clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import txaio
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.observe.doors import Door
from kubeedge_tx.viaduct.channel import Channel, ChannelSettings
from kubeedge_tx.viaduct.client import connect
from kubeedge_tx.viaduct.handshake import Handshake
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.server import ChannelServerFactory
from kubeedge_tx.viaduct.traffic import Traffic


def factory(clock: Clock, prefix: str) -> MessageFactory:
    """Messages with ids ``<prefix>-1``, ``<prefix>-2``…"""
    numbers = itertools.count(1)
    return MessageFactory(lambda: int(clock.seconds() * 1000), lambda: f"{prefix}-{next(numbers)}")


@implementer(IChannelUser)
class User:
    """Remembers what it is told; ``ready`` makes the channel wait."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.messages: list[Message] = []
        self.closings: list[str] = []
        self.wrote = 0
        self.ready: Deferred[None] | None = None

    def opened(self, channel: Channel) -> None:
        self.channel = channel

    def received(self, message: Message) -> Deferred[None]:
        self.messages.append(message)
        return self.ready or succeed(None)

    def writable(self) -> None:
        self.wrote += 1

    def closed(self, reason: str) -> None:
        self.closings.append(reason)


class Wire(iosim.FakeTransport):  # type: ignore[misc]
    """A transport that keeps what arrives while reading is paused, and shows a certificate."""

    certificate: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reading = True
        self.kept: list[Any] = []

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        kept, self.kept = self.kept, []
        for data in kept:
            self.bufferReceived(data)

    def bufferReceived(self, buf: Any) -> None:
        if self.reading:
            super().bufferReceived(buf)
        else:
            self.kept.append(buf)


@implementer(IStreamClientEndpoint)
class Memory:
    """An endpoint that connects to a server factory in this process."""

    def __init__(self, clock: Clock, server: ChannelServerFactory, certificate: str | None) -> None:
        self._clock = clock
        self._server = server
        self._certificate = certificate
        self.pump: iosim.IOPump | None = None
        self.server_io: Wire | None = None
        self.client_io: Wire | None = None
        self.cut = False

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        client = protocolFactory.buildProtocol(None)
        server = self._server.buildProtocol(None)
        edge = IPv4Address("TCP", "192.0.2.1", 40000)
        self.server_io = Wire(server, True, peerAddress=edge)
        self.client_io = Wire(client, False)
        self.server_io.certificate = self._certificate
        self.pump = iosim.connect(
            server, self.server_io, client, self.client_io, greet=False, clock=self._clock
        )
        return succeed(client)

    def flush(self) -> None:
        if not self.cut and self.pump is not None:
            self.pump.flush()


class Link:
    """A client's channel, its user, and the wire; ``cut`` makes the wire a black hole."""

    def __init__(
        self,
        case: SynchronousTestCase,
        clock: Clock,
        server: ChannelServerFactory,
        *,
        headers: dict[str, str] | None = None,
        certificate: str | None = None,
        settings: ChannelSettings | None = None,
        user: User | None = None,
    ) -> None:
        self.user = user or User()
        self.memory = Memory(clock, server, certificate)
        self.opening = Deferred.fromCoroutine(
            connect(
                clock,
                self.memory,
                "wss://cloud.example:10000/e632/edge-1/events",
                headers=headers or {"node_id": "edge-1", "ConnectionUse": "msg"},
                user=self.user,
                messages=factory(clock, "edge"),
                settings=settings,
            )
        )
        self.memory.flush()

    @property
    def channel(self) -> Channel:
        assert self.user.channel is not None
        return self.user.channel

    @property
    def websocket(self) -> Any:
        """Autobahn's protocol of the client, for sending what a channel never would."""
        return self.channel._websocket

    def flush(self) -> None:
        self.memory.flush()

    def cut(self) -> None:
        self.memory.cut = True


class ChannelCase(SynchronousTestCase):
    """A server whose users are :class:`User`, and clients linked to it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(txaio.config, "loop", self.clock)
        self.users: list[User] = []
        self.handshakes: list[Handshake] = []
        self.traffic = Traffic()
        self.admit: Callable[[Handshake], User] = self.take
        self.server = self.make_server()

    def make_server(self, door: Door | None = None, **settings: Any) -> ChannelServerFactory:
        return ChannelServerFactory(
            self.clock,
            lambda handshake: self.admit(handshake),
            factory(self.clock, "cloud"),
            settings=ChannelSettings(**settings),
            traffic=self.traffic,
            door=door,
        )

    def take(self, handshake: Handshake) -> User:
        self.handshakes.append(handshake)
        user = User()
        self.users.append(user)
        return user

    def link(self, **options: Any) -> Link:
        return Link(self, self.clock, self.server, **options)

    def open(self, **options: Any) -> tuple[Link, User]:
        link = self.link(**options)
        self.successResultOf(link.opening)
        return link, self.users[-1]

    def pass_time(self, seconds: float, *links: Link) -> None:
        """Let time go by in steps of a second, and the wire with it."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            for link in links:
                link.flush()
