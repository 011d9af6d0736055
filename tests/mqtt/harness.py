"""A broker without sockets, and clients that send and see single packets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from kubeedge_tx.mqtt import effects as e
from kubeedge_tx.mqtt.acl import Access
from kubeedge_tx.mqtt.broker import Broker
from kubeedge_tx.mqtt.connection import Connection
from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties
from kubeedge_tx.mqtt.records import Operation, QueuePut, RetainedDrop, RetainedPut, SessionDrop
from kubeedge_tx.mqtt.session import Local

P = TypeVar("P")

EPOCH = 1_700_000_000.0


class Store:
    """What a store keeps: all operations, in order; a reader of it drops what is gone."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def kept(self) -> list[Operation]:
        """All of them: the broker must come to the same state by replaying them."""
        return list(self.operations)


class Bench:
    """A broker whose effects are carried out at once.

    ``holds``: persists wait until :meth:`commit`. ``open_deliveries``: local deliveries
    that were not settled.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        access: Access | None = None,
        authenticate: bool = False,
        store: Store | None = None,
        now: float = 100.0,
        holds: bool = False,
        settles: bool = True,
    ) -> None:
        self.now = now
        self.serial = 0
        self.store = store if store is not None else Store()
        self.holds = holds
        self.settles = settles
        self.uncommitted: list[e.Persist] = []
        self.delivered: list[e.Deliver] = []
        self.authentications: list[e.Authenticate] = []
        self.settled: list[e.Settled] = []
        self.log: list[e.Effect] = []
        self.peers: dict[Connection, Peer] = {}
        self.broker = Broker(
            limits or Limits(),
            ids=self._next_id,
            access=access,
            authenticate=authenticate,
            epoch=EPOCH,
        )
        if store is not None and store.operations:
            self.run(self.broker.restore(store.kept(), now))

    def _next_id(self) -> str:
        self.serial += 1
        return f"made-{self.serial}"

    def run(self, effects: list[e.Effect]) -> None:
        """Carry out effects, and those that follow."""
        waiting = list(effects)
        while waiting:
            each = waiting.pop(0)
            self.log.append(each)
            match each:
                case e.Send():
                    self.peers[each.connection].feed(b"".join(each.data))
                case e.Close():
                    peer = self.peers[each.connection]
                    peer.closed = each
                    waiting += self.broker.lost(each.connection, self.now)
                case e.Persist():
                    if self.holds:
                        self.uncommitted.append(each)
                    else:
                        self.store.operations += each.operations
                        waiting += self.broker.settle(each.tickets, self.now)
                case e.Deliver():
                    self.delivered.append(each)
                    if each.ticket is not None and self.settles:
                        waiting += self.broker.settle([each.ticket], self.now)
                case e.Authenticate():
                    self.authentications.append(each)
                case e.Continue():
                    if each.connection.is_writable:
                        waiting += self.broker.writable(each.connection, True, self.now)
                case e.Settled():
                    self.settled.append(each)

    def commit(self) -> None:
        """Write what waits; what follows from it is not."""
        waiting, self.uncommitted = self.uncommitted, []
        for each in waiting:
            self.store.operations += each.operations
            self.run(self.broker.settle(each.tickets, self.now))

    def fail(self) -> None:
        """Fail what waits."""
        waiting, self.uncommitted = self.uncommitted, []
        for each in waiting:
            self.run(self.broker.fail(each.tickets, self.now))

    def advance(self, seconds: float) -> None:
        """Let time pass, with a tick at its end."""
        self.now += seconds
        self.run(self.broker.tick(self.now))

    def restart(self) -> Bench:
        """A new broker that knows what is in the store, as after ``kill -9``."""
        return Bench(self.broker._limits, store=self.store, now=self.now)

    def raw(self, version: int = V5, *, identity: str = "") -> Peer:
        """A connection on which nothing was sent."""
        connection = self.broker.open("test", self.now, identity=identity)
        peer = self.peers[connection] = Peer(self, connection, version)
        return peer

    def client(
        self,
        client_id: str,
        version: int = V5,
        *,
        clean: bool = True,
        expiry: int | None = None,
        keep_alive: int = 0,
        will: Will | None = None,
        username: str | None = None,
        password: bytes | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> Peer:
        """A connection that has sent CONNECT."""
        if expiry is not None:
            properties = Properties(session_expiry=expiry)
        peer = self.raw(version)
        peer.send(
            Connect(
                client_id=client_id,
                version=version,
                clean_start=clean,
                keep_alive=keep_alive,
                will=will,
                username=username,
                password=password,
                properties=properties,
            )
        )
        return peer

    def local(self, *filters: str, qos: int = 2, name: str = "bus") -> Local:
        """A subscriber in this process."""
        local = self.broker.attach(name)
        for each in filters:
            self.run(self.broker.subscribe_local(local, each, qos, self.now))
        return local

    @property
    def topics(self) -> list[str]:
        """Topics of what was delivered to subscribers in this process."""
        return [each.message.topic for each in self.delivered]


class Peer:
    """The client's end of one connection."""

    def __init__(self, bench: Bench, connection: Connection, version: int) -> None:
        self.bench = bench
        self.connection = connection
        self.version = version
        self.parser = Parser(1 << 28, from_client=False, version=version)
        self.got: list[Packet] = []
        self.bytes = b""
        self.closed: e.Close | None = None

    def feed(self, data: bytes) -> None:
        """Bytes came from the broker."""
        assert self.closed is None, "written after close"
        self.bytes += data
        self.got += self.parser.feed(data)
        if self.parser.error is not None:
            raise self.parser.error

    def send(self, *packets: Packet) -> None:
        """Send packets in one piece."""
        self.write(b"".join(encode(each, self.version) for each in packets))

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.bench.run(self.bench.broker.receive(self.connection, data, self.bench.now))

    def lose(self) -> None:
        """Vanish."""
        self.bench.run(self.bench.broker.lost(self.connection, self.bench.now))

    def block(self, is_writable: bool = False) -> None:
        """Read no more, or again."""
        self.bench.run(self.bench.broker.writable(self.connection, is_writable, self.bench.now))

    def take(self) -> list[Packet]:
        """All that came since the last call."""
        got, self.got = self.got, []
        return got

    def one(self, kind: type[P]) -> P:
        """The only packet since the last call; it must be of this kind."""
        got = self.take()
        assert len(got) == 1 and isinstance(got[0], kind), got
        return got[0]

    def last(self, kind: type[P]) -> P:
        """The newest packet of a kind, taken with all before it."""
        found = [each for each in self.take() if isinstance(each, kind)]
        assert found, f"no {kind.__name__}"
        return found[-1]

    @property
    def connack(self) -> Connack:
        """The first packet."""
        first = self.got[0]
        assert isinstance(first, Connack), first
        return first

    def subscribe(
        self,
        *filters: str,
        qos: int = 0,
        identifier: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> tuple[int, ...]:
        """Subscribe; returns the reasons. What else came is still to be taken."""
        properties = Properties(subscription_ids=(identifier,)) if identifier else NO_PROPERTIES
        wanted = tuple(
            Subscription(each, qos, no_local, retain_as_published, retain_handling)
            for each in filters
        )
        self.take()
        self.send(Subscribe(packet_id=1000, subscriptions=wanted, properties=properties))
        acks = [each for each in self.got if isinstance(each, Suback)]
        self.got = [each for each in self.got if not isinstance(each, Suback)]
        return acks[0].reasons if acks else ()

    def unsubscribe(self, *filters: str) -> Unsuback:
        """Unsubscribe."""
        self.send(Unsubscribe(packet_id=1001, filters=filters))
        return self.last(Unsuback)

    def publish(
        self,
        topic: str,
        payload: bytes = b"payload",
        qos: int = 0,
        *,
        retain: bool = False,
        packet_id: int = 1,
        properties: Properties = NO_PROPERTIES,
        dup: bool = False,
    ) -> None:
        """Publish, with QoS 2 to its end if the broker answers."""
        self.send(Publish(topic, payload, qos, retain, dup, packet_id if qos else 0, properties))

    def publish_whole(self, topic: str, payload: bytes = b"payload", packet_id: int = 1) -> None:
        """Publish with QoS 2, to its end."""
        self.publish(topic, payload, 2, packet_id=packet_id)
        self.one(Pubrec)
        self.send(Pubrel(packet_id))
        self.one(Pubcomp)

    def disconnect(self, reason: int = 0, properties: Properties = NO_PROPERTIES) -> None:
        """Say goodbye."""
        self.send(Disconnect(reason=reason, properties=properties))

    @property
    def published(self) -> list[Publish]:
        """Messages that came and were not taken."""
        return [each for each in self.got if isinstance(each, Publish)]

    def payloads(self) -> list[bytes]:
        """Payloads of messages since the last call; QoS 1 and 2 are answered."""
        out: list[bytes] = []
        while self.got:
            for each in self.take():
                if isinstance(each, Publish):
                    out.append(each.payload)
                    if each.qos == 1:
                        self.send(Puback(each.packet_id))
                    elif each.qos == 2:
                        self.send(Pubrec(each.packet_id))
                elif isinstance(each, Pubrel):
                    self.send(Pubcomp(each.packet_id))
        return out

    @property
    def goodbye(self) -> int | None:
        """Reason of the DISCONNECT that came, if one did; the connection is closed then."""
        found = [each for each in self.got if isinstance(each, Disconnect)]
        assert self.closed is not None, "still open"
        return found[0].reason if found else None


VERSIONS = (V4, V5)


def compact(operations: Iterable[Operation]) -> list[Operation]:
    """Retained and queued operations only, for comparisons."""
    kinds = QueuePut | RetainedPut | RetainedDrop | SessionDrop
    return [each for each in operations if isinstance(each, kinds)]
