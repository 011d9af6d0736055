"""A client that says exactly what a test wants it to say, over real sockets."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet import reactor as _global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.packets import (
    V5,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
)
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties

reactor: Any = _global_reactor
P = TypeVar("P")

PATIENCE = 30.0
"""Seconds until something that does not come is given up."""


class Gone(Exception):
    """The connection ended while a packet was waited for."""


class Peer(Protocol):
    """One connection; packets that came wait until they are asked for.

    :ivar packets: what has come and was not taken yet.
    """

    def __init__(self, version: int = V5) -> None:
        self.version = version
        self.packets: list[Packet] = []
        self.received_bytes = 0
        self.is_open = False
        self._parser = Parser(1 << 28, from_client=False, version=version)
        self._waiting: list[Deferred[None]] = []
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.is_open = True
        transport: Any = self.transport
        transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self.packets += self._parser.feed(data)
        assert self._parser.error is None, self._parser.error
        self._wake()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.is_open = False
        self._wake()
        self.closed.callback(None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    def send(self, *packets: Packet) -> None:
        """Write packets, all in one go."""
        self.write(b"".join(encode(packet, self.version) for packet in packets))

    def write(self, data: bytes) -> None:
        """Write bytes, whatever they are."""
        transport: Any = self.transport
        transport.write(data)

    def reading(self, is_reading: bool) -> None:
        """Take what comes, or let it pile up."""
        transport: Any = self.transport
        if is_reading:
            transport.resumeProducing()
        else:
            transport.pauseProducing()

    async def next(self) -> Packet:
        """Take the next packet.

        :raises Gone: the connection has ended and there is none.
        """
        while not self.packets:
            if not self.is_open:
                raise Gone
            done: Deferred[None] = Deferred()
            self._waiting.append(done)
            await done.addTimeout(PATIENCE, reactor)
        return self.packets.pop(0)

    async def expect(self, kind: type[P]) -> P:
        """Take the next packet, which must be of this kind."""
        packet = await self.next()
        assert isinstance(packet, kind), f"{packet!r}, not {kind.__name__}"
        return packet

    async def connect(self, client_id: str, **fields: Any) -> Connack:
        """Say CONNECT; returns the answer."""
        self.send(Connect(client_id=client_id, version=self.version, **fields))
        return await self.expect(Connack)

    async def subscribe(self, *filters: str, qos: int = 0, **fields: Any) -> tuple[int, ...]:
        """Subscribe; returns the reasons. Nothing else may come meanwhile."""
        chosen = tuple(Subscription(each, qos, **fields) for each in filters)
        self.send(Subscribe(packet_id=1, subscriptions=chosen))
        return (await self.expect(Suback)).reasons

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        packet_id: int = 1,
        properties: Properties = NO_PROPERTIES,
    ) -> Packet | None:
        """Publish; returns the answer to QoS 1 or 2."""
        self.send(Publish(topic, payload, qos, retain, False, packet_id if qos else 0, properties))
        return await self.next() if qos else None

    async def collect(self, count: int) -> list[Publish]:
        """Take this many messages, whatever comes between, and acknowledge them."""
        found: list[Publish] = []
        while len(found) < count:
            packet = await self.next()
            if isinstance(packet, Publish):
                found.append(packet)
                if packet.qos == 1:
                    self.send(Puback(packet.packet_id))
                elif packet.qos == 2:
                    self.send(Pubrec(packet.packet_id))
            elif isinstance(packet, Pubrel):
                self.send(Pubcomp(packet.packet_id))
        return found

    async def quiet(self) -> list[Packet]:
        """Everything that came before the answer to a PINGREQ."""
        self.send(Pingreq())
        found: list[Packet] = []
        while not isinstance(packet := await self.next(), Pingresp):
            found.append(packet)
        return found

    async def drop(self) -> None:
        """End the connection without a word."""
        if self.is_open:
            transport: Any = self.transport
            transport.abortConnection()
            await self.closed

    async def ended(self) -> list[Packet]:
        """Wait until the other side has ended the connection; returns what came before."""
        if self.is_open:
            await self.closed.addTimeout(PATIENCE, reactor)
        found, self.packets = self.packets, []
        return found


async def dial(port: int, version: int = V5) -> Peer:
    """Connect to a port of this machine, without a CONNECT."""
    peer: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(
        Factory.forProtocol(lambda: Peer(version))
    )
    found: Peer = peer
    return found


async def client(port: int, client_id: str, version: int = V5, **fields: Any) -> Peer:
    """Connect, and be admitted."""
    peer = await dial(port, version)
    answer = await peer.connect(client_id, **fields)
    assert not answer.reason, answer
    return peer


def persistent(version: int, *, clean: bool = False) -> dict[str, Any]:
    """Fields of a CONNECT for a session that outlives its connection."""
    if version == V5:
        return {"clean_start": clean, "properties": Properties(session_expiry=3600)}
    return {"clean_start": False}
