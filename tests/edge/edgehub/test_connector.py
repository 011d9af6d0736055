from __future__ import annotations

import random
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.edge.edgehub.connector import (
    Backoff,
    Dialer,
    EdgeHubSettings,
    TimedEndpoint,
    keep_connected,
)
from kubeedge_tx.errors import CertificateError, ConfigError, HandshakeFailed
from kubeedge_tx.security.authority import Authority
from kubeedge_tx.security.contexts import client, hub_server
from kubeedge_tx.viaduct.handshake import Handshake, HandshakeRefused
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.server import ChannelServerFactory
from kubeedge_tx.viaduct.traffic import Traffic


class Longest:
    """Jitter at its upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class BackoffTests(SynchronousTestCase):
    """Pauses."""

    def test_spread(self) -> None:
        """A thousand edges of a restarted cloud do not come back together."""
        pauses = []
        for seed in range(1000):
            backoff = Backoff(random.Random(seed), first=1, limit=60, unreachable_limit=3)
            for _ in range(10):
                pause = backoff.next(reached=True)
                self.assertTrue(0 <= pause <= 60)
            pauses.append(pause)
        for tenth in range(10):
            inside = [p for p in pauses if 6 * tenth <= p < 6 * tenth + 6]
            self.assertGreater(len(inside), 50)

    def test_never_overflows(self) -> None:
        """A year without a cloud is no reason to fail."""
        backoff = Backoff(Longest(), first=1, limit=60, unreachable_limit=3)
        pauses = [backoff.next(reached=True) for _ in range(5000)]
        self.assertEqual(pauses[:8], [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual(pauses[-1], 60)

    def test_displaced(self) -> None:
        """Who lost its place to another edge of its name waits long, once."""
        for seed in range(100):
            backoff = Backoff(random.Random(seed), first=1, limit=60, unreachable_limit=3)
            backoff.displaced()
            self.assertTrue(30 <= backoff.next(reached=True) <= 60)
            self.assertLessEqual(backoff.next(reached=True), 1)


class KeepConnectedTests(SynchronousTestCase):
    """The loop, with the time in hand."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dialled: list[float] = []
        self.ends: list[Deferred[bool]] = []

    def run_loop(
        self,
        *results: Exception | None,
        limit: float = 4,
        wait: Callable[[], float] = lambda: 0.0,
    ) -> Deferred[None]:
        remaining = list(results)

        async def dial() -> Deferred[bool]:
            self.dialled.append(self.clock.seconds())
            result = remaining.pop(0) if remaining else None
            if result is not None:
                raise result
            self.ends.append(Deferred())
            return self.ends[-1]

        backoff = Backoff(Longest(), first=1, limit=limit, unreachable_limit=2)
        loop = Deferred.fromCoroutine(keep_connected(dial, backoff, self.clock, wait))
        self.addCleanup(self.stop, loop)
        return loop

    def stop(self, loop: Deferred[None]) -> None:
        loop.cancel()
        self.failureResultOf(loop, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_delays_grow_then_stay(self) -> None:
        """Refused again and again, the edge asks less and less often."""
        self.run_loop(*[HandshakeFailed("403")] * 5)
        self.clock.pump([1] * 11)
        self.assertEqual(self.dialled, [0, 1, 3, 7, 11])

    def test_nobody_there(self) -> None:
        """While nothing answers the edge keeps asking, to be back soon after the path is.

        It does not count against the cloud that then answers.
        """
        self.run_loop(*[ConnectError()] * 30, HandshakeFailed("busy"))
        self.clock.pump([1] * 61)
        self.assertEqual(self.dialled, [0, 1, *range(3, 60, 2), 60])

    def test_connection_that_lasted(self) -> None:
        """After a connection of twenty seconds the next try comes soon."""
        self.run_loop(*[OSError()] * 3)
        self.clock.pump([1] * 7)
        self.clock.advance(20)
        self.ends[0].callback(False)
        self.clock.advance(1)
        self.assertEqual(self.dialled, [0, 1, 3, 7, 28])

    def test_stopped_while_connecting(self) -> None:
        """A stop in the middle of a TCP connection ends the loop, and is no failure to connect."""
        endpoint = HostnameEndpoint(MemoryReactorClock(), "192.0.2.1", 1)

        async def dial() -> Deferred[bool]:
            await endpoint.connect(Factory.forProtocol(Protocol))
            raise AssertionError("nobody is there")

        backoff = Backoff(Longest(), first=1, limit=4, unreachable_limit=2)
        loop = Deferred.fromCoroutine(keep_connected(dial, backoff, self.clock))
        self.assertNoResult(loop)
        loop.cancel()
        self.failureResultOf(loop, CancelledError)

    def test_thrown_out_at_once(self) -> None:
        """A cloud that accepts and closes is not dialled in a tight loop."""
        self.run_loop()
        for _ in range(3):
            self.ends[-1].callback(False)
            self.clock.pump([1] * 4)
        self.assertEqual(self.dialled, [0, 1, 6, 12])

    def test_asked_to_wait(self) -> None:
        """What a busy cloud says counts more than the pauses we would make ourselves."""
        waits = [7.0, 0.0, 3.0]
        self.run_loop(
            *[HandshakeFailed("503", retry_after=5) for _ in waits], wait=lambda: waits.pop(0)
        )
        self.clock.pump([0.5] * 40)
        self.assertEqual(self.dialled, [0, 7, 8, 11])

    def test_on_purpose(self) -> None:
        """A new certificate costs no pause."""
        self.run_loop()
        self.clock.advance(10)
        self.ends[0].callback(True)
        self.assertEqual(self.dialled, [0, 10])


class SettingsTests(SynchronousTestCase):
    """Server names."""

    def make(self, *servers: str) -> Dialer:
        async def credentials(host: str) -> Any:
            raise AssertionError

        settings = EdgeHubSettings(node_name="edge-1", servers=servers)
        return Dialer(
            Clock(), MessageFactory(lambda: 0), settings, credentials, Traffic(), Longest()
        )

    def test_bad(self) -> None:
        """A server that cannot be dialled is named with the key of the configuration."""
        for bad in ("", ":10000", "host:port", "https://host", "host/path", "host:99999", "a@b"):
            with self.assertRaises(ConfigError, msg=bad) as caught:
                self.make(bad)
            self.assertEqual(caught.exception.path, "modules.edgeHub.websocket.server")
        with self.assertRaises(ConfigError):
            self.make()

    def test_good(self) -> None:
        """Names, addresses of both kinds, with a port or without."""
        for good in ("cloud.example:10000", "10.0.0.1", "[fd00::1]:10000"):
            self.make(good)


@implementer(IChannelUser)
class User:
    def __init__(self) -> None:
        self.opened_with: list[Any] = []
        self.over: Deferred[str] = Deferred()

    def opened(self, channel: Any) -> None:
        self.opened_with.append(channel)

    def received(self, message: Message) -> Deferred[None]:
        return succeed(None)

    def writable(self) -> None:
        pass

    def closed(self, reason: str) -> None:
        self.over.callback(reason)


class DialTests(TestCase):
    """A real socket, real TLS, and the channel's real server."""

    NOW = datetime.now(UTC)

    def setUp(self) -> None:
        self.authority = Authority.create(now=self.NOW)
        self.handshakes: list[Handshake] = []
        self.messages = MessageFactory(lambda: 0)

    async def listen(self, admit: Callable[[Handshake], Any], names: tuple[str, ...]) -> int:
        pair = self.authority.issue_server((), names, now=self.NOW)
        options = hub_server(self.authority.cert_pem, pair.cert_pem, pair.key_pem)
        factory = ChannelServerFactory(reactor, admit, self.messages)
        wrapped = TLSMemoryBIOFactory(options, False, factory)
        wrapped.noisy = False
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(wrapped)
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def dialer(self, *servers: str) -> Dialer:
        pair = self.authority.issue_client("system:node:edge-1", ["system:nodes"], now=self.NOW)

        async def credentials(host: str) -> Any:
            return client(host, self.authority.cert_pem, pair.cert_pem, pair.key_pem)

        settings = EdgeHubSettings(node_name="edge-1", servers=servers, window=7)
        return Dialer(reactor, self.messages, settings, credentials, Traffic(), Longest())

    async def test_headers_and_path(self) -> None:
        """A Go cloud finds what it reads: path, node, project, use; ours finds the window."""
        far, near = User(), User()

        def admit(handshake: Handshake) -> User:
            self.handshakes.append(handshake)
            return far

        port = await self.listen(admit, ("127.0.0.1",))
        channel = await self.dialer(f"127.0.0.1:{port}").dial(near)
        self.assertEqual(near.opened_with, [channel])
        (handshake,) = self.handshakes
        self.assertEqual(handshake.path, "/e632aba927ea4ac2b575ec1603d56f10/edge-1/events")
        sent = {name: handshake.headers.get(name) for name in ("node_id", "connectionuse")}
        self.assertEqual(sent, {"node_id": "edge-1", "connectionuse": "msg"})
        self.assertEqual(handshake.headers["project_id"], "e632aba927ea4ac2b575ec1603d56f10")
        self.assertEqual(handshake.headers["kubeedge-tx-window"], "7")
        self.assertNotIn("origin", handshake.headers)
        self.assertNotIn("sec-websocket-extensions", handshake.headers)
        channel.close()
        await near.over
        await far.over

    async def test_servers_in_turn(self) -> None:
        """With one cloud gone the next dial goes to the other."""
        far = User()
        port = await self.listen(lambda _: far, ("127.0.0.1",))
        free = socket.socket()
        free.bind(("127.0.0.1", 0))
        dialer = self.dialer(f"127.0.0.1:{free.getsockname()[1]}", f"127.0.0.1:{port}")
        free.close()
        near = User()
        with self.assertRaises(ConnectError):
            await dialer.dial(near)
        channel = await dialer.dial(near)
        channel.close()
        await near.over
        await far.over

    async def test_other_servers(self) -> None:
        """Other servers are dialled from then on; what is no address changes nothing."""
        far = User()
        port = await self.listen(lambda _: far, ("127.0.0.1",))
        dialer = self.dialer("127.0.0.1:1")
        settings = EdgeHubSettings(node_name="edge-1", servers=(f"127.0.0.1:{port}",))
        dialer.reconfigure(settings)
        with self.assertRaises(ConfigError):
            dialer.reconfigure(replace(settings, servers=("https://host",)))
        near = User()
        channel = await dialer.dial(near)
        channel.close()
        await near.over
        await far.over

    async def test_busy(self) -> None:
        """A busy cloud is left alone as long as it says, and the other one dialled meanwhile."""
        busy, far = User(), User()
        asked = 0

        def admit(_: Handshake) -> User:
            nonlocal asked
            asked += 1
            raise HandshakeRefused(503, "busy", retry_after=40)

        one = await self.listen(admit, ("127.0.0.1",))
        two = await self.listen(lambda _: far, ("127.0.0.1",))
        dialer = self.dialer(f"127.0.0.1:{one}", f"127.0.0.1:{two}")
        with self.assertRaises(HandshakeFailed) as caught:
            await dialer.dial(busy)
        self.assertEqual(caught.exception.retry_after, 40)
        self.assertEqual(dialer.wait(), 0.0)
        for _ in range(2):
            near, far = User(), User()
            channel = await dialer.dial(near)
            channel.close()
            await near.over
            await far.over
        self.assertEqual(asked, 1)

    async def test_all_busy(self) -> None:
        """Where every cloud is busy the edge waits for the first that will have room."""
        seconds = [40, 30]

        def admit(_: Handshake) -> User:
            raise HandshakeRefused(503, "busy", retry_after=seconds.pop(0))

        port = await self.listen(admit, ("127.0.0.1",))
        dialer = self.dialer(f"127.0.0.1:{port}", f"127.0.0.1:{port}")
        for _ in range(2):
            with self.assertRaises(HandshakeFailed):
                await dialer.dial(User())
        self.assertTrue(25 < dialer.wait() <= 31, dialer.wait())

    async def test_busy_is_remembered(self) -> None:
        """Other settings are no reason to ask a busy cloud before its time; another cloud is."""

        def admit(_: Handshake) -> User:
            raise HandshakeRefused(503, "busy", retry_after=40)

        port = await self.listen(admit, ("127.0.0.1",))
        dialer = self.dialer(f"127.0.0.1:{port}")
        with self.assertRaises(HandshakeFailed):
            await dialer.dial(User())
        servers = (f"127.0.0.1:{port}",)
        dialer.reconfigure(EdgeHubSettings(node_name="edge-1", servers=servers))
        self.assertGreater(dialer.wait(), 30)
        dialer.reconfigure(EdgeHubSettings(node_name="edge-1", servers=(*servers, "127.0.0.9:1")))
        self.assertEqual(dialer.wait(), 0.0)

    async def test_wrong_name(self) -> None:
        """A server whose certificate is for another address is not talked to."""
        port = await self.listen(lambda _: User(), ("127.0.0.2",))
        with self.assertRaises(HandshakeFailed):
            await self.dialer(f"127.0.0.1:{port}").dial(User())

    async def test_refused(self) -> None:
        """The cloud's reason is in the error."""

        def admit(_: Handshake) -> User:
            raise HandshakeRefused(403, "the certificate is for edge-2")

        port = await self.listen(admit, ("127.0.0.1",))
        with self.assertRaises(HandshakeFailed) as caught:
            await self.dialer(f"127.0.0.1:{port}").dial(User())
        self.assertIn("403", str(caught.exception))

    async def test_no_certificate_yet(self) -> None:
        """What credentials() says stands in the way is what the dial fails with."""

        async def credentials(host: str) -> Any:
            raise CertificateError("the token has expired")

        settings = EdgeHubSettings(node_name="edge-1", servers=("127.0.0.1:1",))
        dialer = Dialer(reactor, self.messages, settings, credentials, Traffic(), Longest())
        with self.assertRaises(CertificateError):
            await dialer.dial(User())

    async def test_kernel_gives_up(self) -> None:
        """The socket is told how long to wait for a peer that acknowledges nothing."""
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            self.skipTest("this system has no TCP_USER_TIMEOUT")
        pair = self.authority.issue_client("system:node:edge-1", ["system:nodes"], now=self.NOW)
        port = await self.listen(lambda _: User(), ("127.0.0.1",))
        options = client("127.0.0.1", self.authority.cert_pem, pair.cert_pem, pair.key_pem)
        tcp = TimedEndpoint(TCP4ClientEndpoint(reactor, "127.0.0.1", port), 25.0)
        gone: Deferred[None] = Deferred()

        class Quiet(Protocol):
            def connectionLost(self, reason: Any = None) -> None:
                gone.callback(None)

        protocol: Any = await wrapClientTLS(options, tcp).connect(Factory.forProtocol(Quiet))
        handle = protocol.transport.transport.getHandle()
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 25000)
        protocol.transport.abortConnection()
        await gone
