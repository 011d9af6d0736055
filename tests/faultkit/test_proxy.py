from __future__ import annotations

import random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.faultkit.kit import Kit
from kubeedge_tx.faultkit.proxy import MAX_HELD_BYTES, Faults, Pipe, Proxy
from kubeedge_tx.faultkit.script import Step, perform

reactor: Any = _reactor


class Sink:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.written = b""
        self.paused = False
        self.closed = ""

    def write(self, data: bytes) -> None:
        self.written += data

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


class PipeTests(SynchronousTestCase):
    """One direction, under a clock."""

    def pipe(self, **faults: Any) -> Pipe:
        self.clock = Clock()
        self.sink, self.source, self.ends = Sink(), Sink(), [""]
        pipe = Pipe(self.clock, random.Random(1), Faults(**faults))
        pipe.source, pipe.sink = self.source, self.sink
        pipe.finish = lambda: self.ends.append("finished")
        pipe.cut = lambda: self.ends.append("cut")
        return pipe

    def test_latency(self) -> None:
        """Bytes come so much later, in order, the end of the connection after them."""
        pipe = self.pipe(latency=2.0, jitter=1.0)
        for piece in (b"a", b"b", b"c"):
            pipe.take(piece)
        pipe.end()
        self.clock.advance(1.9)
        self.assertEqual(self.sink.written, b"")
        self.clock.advance(1.2)
        self.assertEqual((self.sink.written, self.ends[-1]), (b"abc", "finished"))

    def test_rate(self) -> None:
        """So many bytes a second; the sender is held back when too much waits."""
        pipe = self.pipe(rate=MAX_HELD_BYTES / 10)
        piece = b"x" * (MAX_HELD_BYTES // 10)
        for _ in range(12):
            pipe.take(piece)
        self.assertTrue(self.source.paused)
        for _ in range(5):
            self.clock.advance(1.0)
        self.assertEqual(len(self.sink.written), 5 * len(piece))
        self.assertFalse(self.source.paused)

    def test_healed(self) -> None:
        """What waits on a slow link does not wait on when it is fast again."""
        pipe = self.pipe(rate=1.0, latency=100.0)
        pipe.take(b"x" * 50)
        pipe.take(b"y" * 50)
        self.clock.advance(10)
        pipe.change(Faults(rate=10.0))
        self.clock.advance(5)
        self.assertEqual(self.sink.written, b"x" * 50)
        pipe.change(Faults())
        self.assertEqual(self.sink.written, b"x" * 50 + b"y" * 50)

    def test_silence(self) -> None:
        """Nothing passes, not even the end; afterwards everything does."""
        pipe = self.pipe(silent=True)
        pipe.take(b"a")
        pipe.end()
        self.clock.advance(1000)
        self.assertEqual((self.sink.written, self.ends[-1]), (b"", ""))
        pipe.change(Faults())
        self.assertEqual((self.sink.written, self.ends[-1]), (b"a", "finished"))

    def test_cut(self) -> None:
        """After just so many bytes it is over."""
        pipe = self.pipe(cut_after=5)
        pipe.take(b"abc")
        pipe.take(b"defg")
        pipe.take(b"h")
        self.assertEqual((self.sink.written, self.ends[-1]), (b"abcde", "cut"))

    def test_nonsense(self) -> None:
        """Negative faults are refused."""
        self.assertRaises(ValueError, Faults, latency=-1.0)


class Peer(Protocol):
    """Remembers what it reads and when it ended."""

    def __init__(self) -> None:
        self.got = b""
        self.waiting: list[tuple[int, Deferred[bytes]]] = []
        self.lost: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        ready = [each for each in self.waiting if len(self.got) >= each[0]]
        self.waiting = [each for each in self.waiting if each not in ready]
        for _, done in ready:
            done.callback(self.got)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.type.__name__)

    def read(self, count: int) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        self.waiting.append((count, done))
        self.dataReceived(b"")
        return done


class ProxyTests(TestCase):
    """Through real sockets."""

    timeout = 30

    async def open(self) -> None:
        self.served: Deferred[Peer] = Deferred()

        def build() -> Peer:
            peer = Peer()
            peer.connectionMade = lambda: self.served.callback(peer)  # type: ignore[method-assign]
            return peer

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        listening = await endpoint.listen(Factory.forProtocol(build))
        self.addCleanup(listening.stopListening)
        self.proxy = Proxy(reactor, random.Random(1), "127.0.0.1", listening.getHost().port)
        port = await self.proxy.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.proxy.close()))
        self.endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self.client = await self.dial()

    async def dial(self) -> Any:
        """Connect one more client."""
        return await self.endpoint.connect(Factory.forProtocol(Peer))

    def write(self, peer: Peer, data: bytes) -> None:
        assert peer.transport is not None
        peer.transport.write(data)

    async def test_both_ways(self) -> None:
        """Without faults everything passes, and the end of one is the end of the other."""
        await self.open()
        server = await self.served
        self.write(self.client, b"x" * 1_000_000)
        self.assertEqual(len(await server.read(1_000_000)), 1_000_000)
        self.write(server, b"answer")
        self.assertEqual(await self.client.read(6), b"answer")
        assert self.client.transport is not None
        self.client.transport.loseConnection()
        self.assertEqual(await server.lost, "ConnectionDone")
        await self.client.lost
        self.assertEqual(len(self.proxy.links), 0)

    async def test_silence_and_reset(self) -> None:
        """Silence one way leaves the other; a reset ends both at once."""
        await self.open()
        server = await self.served
        self.proxy.set("up", silent=True)
        self.write(self.client, b"unheard")
        self.write(server, b"heard")
        self.assertEqual(await self.client.read(5), b"heard")
        self.assertEqual(server.got, b"")
        self.assertEqual(self.proxy.reset(), 1)
        self.assertIn(await self.client.lost, ("ConnectionLost", "ConnectionDone"))
        self.assertIn(await server.lost, ("ConnectionLost", "ConnectionDone"))

    async def test_refuse(self) -> None:
        """While it refuses, connections end at once; healed, they live."""
        await self.open()
        server = await self.served
        await perform(Step(do="refuse"), Kit(reactor, self.proxy))
        await self.client.lost
        await server.lost
        again = await self.dial()
        await again.lost
        self.assertEqual(self.proxy.refused, 1)
        await perform(Step(do="heal"), Kit(reactor, self.proxy))
        self.served = Deferred()
        again = await self.dial()
        server = await self.served
        self.write(server, b"hello")
        self.assertEqual(await again.read(5), b"hello")
        self.proxy.reset()
        await again.lost
        await server.lost
