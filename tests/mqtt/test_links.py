from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.packets import (
    V5,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    Subscription,
)
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.service import Listener
from kubeedge_tx.security import foreign
from kubeedge_tx.security.authority import Authority, KeyPair
from tests.fakes.certificates import real_now
from tests.mqtt.brokers import BrokerCase
from tests.mqtt.peer import PATIENCE, Gone, Peer, reactor
from tests.system.roles import until


class TlsTests(BrokerCase):
    """TLS listeners and client certificates."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority.create(now=real_now())
        self.stranger = Authority.create(now=real_now())
        server = self.authority.issue_server(["localhost"], ["127.0.0.1"], now=real_now())
        self.ca = self._write("ca", self.authority.cert_pem)
        self.server = self._files("server", server)

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def _files(self, name: str, pair: KeyPair) -> tuple[Path, Path]:
        return (
            self._write(f"{name}.crt", pair.cert_pem),
            self._write(f"{name}.key", pair.key_pem),
        )

    def _listener(self, *, asks: bool, requires: bool, identifies: bool = False) -> Listener:
        ca = self.ca if asks else None
        return Listener(
            address="127.0.0.1",
            port=0,
            tls=foreign.server(*self.server, ca, require=requires),
            is_identified=identifies,
        )

    async def _dial(self, port: int, *own: Path, host: str = "127.0.0.1") -> Peer:
        endpoint = wrapClientTLS(
            foreign.client(host, self.ca, *own), TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        )
        peer: Any = await endpoint.connect(Factory.forProtocol(Peer))
        self._peers.append(peer)
        found: Peer = peer
        return found

    async def test_messages(self) -> None:
        """Messages of any size go through TLS, both ways."""
        service = await self.start(self._listener(asks=False, requires=False))
        peer = await self._dial(service.ports[0])
        self.assertFalse((await peer.connect("tls")).reason)
        await peer.subscribe("big")
        payload = bytes(range(256)) * 4_000
        await peer.publish("big", payload)
        self.assertEqual((await peer.expect(Publish)).payload, payload)

    async def test_identity(self) -> None:
        """A certificate's name is the user name; without one, or with a stranger's, nobody."""
        rules = self.folder / "acl"
        rules.write_text("user device-1\ntopic readwrite mine\n")
        service = await self.start(
            self._listener(asks=True, requires=True, identifies=True),
            allow_anonymous=False,
            acl_file=rules,
        )
        pair = self.authority.issue_client("device-1", [], now=real_now())
        peer = await self._dial(service.ports[0], *self._files("device", pair))
        self.assertFalse((await peer.connect("any")).reason)
        await peer.subscribe("#")
        await peer.publish("other", b"no")
        await peer.publish("mine", b"yes")
        self.assertEqual((await peer.expect(Publish)).topic, "mine")

        bad = self.stranger.issue_client("device-1", [], now=real_now())
        for own in ((), self._files("bad", bad)):
            other = await self._dial(service.ports[0], *own)
            with self.assertRaises(Gone):
                await other.connect("any")
        self.assertEqual(service.server.broker.counters.connections, 1)

    async def test_optional_certificate(self) -> None:
        """Where a certificate is asked for and not required, a password does, too."""
        service = await self.start(self._listener(asks=True, requires=False))
        peer = await self._dial(service.ports[0])
        self.assertFalse((await peer.connect("none")).reason)
        bad = self.stranger.issue_client("x", [], now=real_now())
        other = await self._dial(service.ports[0], *self._files("bad", bad))
        with self.assertRaises(Gone):
            await other.connect("any")

    async def test_plain_on_tls_port(self) -> None:
        """A client that does not speak TLS is cut off, and a silent one in time."""
        from kubeedge_tx.mqtt.server import ServerLimits

        service = await self.start(
            self._listener(asks=False, requires=False), server_limits=ServerLimits(admission=0.5)
        )
        plain, silent = await self.dial(service), await self.dial(service)
        cast(Any, plain).dataReceived = lambda data: None  # a TLS alert
        plain.send(Connect(client_id="plain"))
        await plain.ended()
        await silent.ended()
        await until("both to be forgotten", lambda: not service.server.links)

    def test_bad_files(self) -> None:
        """A file that is missing, is none, or does not fit is named."""
        cert, key = self.server
        other = self._files("other", self.stranger.issue_server(["x"], [], now=real_now()))
        junk = self._write("junk", b"junk")
        for files, word in (
            ((self.folder / "nowhere", key), "nowhere"),
            ((junk, key), "junk"),
            ((cert, junk), "junk"),
            ((cert, other[1]), "other.key"),
            ((cert, key, junk), "junk"),
        ):
            error = self.assertRaises(ConfigError, foreign.server, *files)
            self.assertIn(word, str(error))
        self.assertRaises(ConfigError, foreign.server, cert, key, None, require=True)


class _Socket(WebSocketClientProtocol):  # type: ignore[misc]
    """A client of MQTT in a WebSocket, which says what the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[bool] = Deferred()
        self.closed: Deferred[int] = Deferred()
        self.packets: list[Packet] = []
        self.kinds: list[bool] = []
        self._parser = Parser(1 << 28, from_client=False, version=V5)

    def onOpen(self) -> None:
        self.opened.callback(True)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.kinds.append(isBinary)
        self.packets += self._parser.feed(payload)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        if not self.opened.called:
            self.opened.callback(False)
        self.closed.callback(code)


class WebSocketTests(BrokerCase):
    """MQTT in WebSocket messages."""

    async def _open(self, port: int, *names: str) -> Any:
        factory = WebSocketClientFactory(f"ws://127.0.0.1:{port}/mqtt", protocols=list(names))
        factory.noisy = False
        factory.protocol = _Socket
        socket: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
        self.addCleanup(lambda: socket.closed.called or self._end(socket))
        return socket

    def _end(self, socket: Any) -> Any:
        socket.dropConnection(abort=True)
        return socket.closed

    async def test_messages(self) -> None:
        """Packets come through however they are cut into frames and messages."""
        listener = Listener(address="127.0.0.1", port=0, is_websocket=True)
        service = await self.start(listener)
        socket = await self._open(service.ports[0], "mqtt")
        self.assertTrue(await socket.opened)
        self.assertEqual(socket.websocket_protocol_in_use, "mqtt")
        payload = bytes(range(256)) * 1_000
        data = b"".join(
            encode(packet, V5)
            for packet in (
                Connect(client_id="ws"),
                Subscribe(packet_id=1, subscriptions=(Subscription("t"),)),
                Publish("t", payload),
                Pingreq(),
            )
        )
        for start in range(0, len(data), 9_999):  # packets span messages
            socket.sendMessage(data[start : start + 9_999], isBinary=True, fragmentSize=5_000)
        await until("the answers", lambda: any(isinstance(p, Pingresp) for p in socket.packets))
        self.assertIsInstance(socket.packets[0], Connack)
        found = [each for each in socket.packets if isinstance(each, Publish)]
        self.assertEqual([each.payload for each in found], [payload])
        self.assertEqual(set(socket.kinds), {True})

    async def test_subprotocol(self) -> None:
        """A WebSocket that does not ask for MQTT is refused."""
        service = await self.start(Listener(address="127.0.0.1", port=0, is_websocket=True))
        for names in ((), ("chat",)):
            socket = await self._open(service.ports[0], *names)
            self.assertFalse(await socket.opened)

    async def test_text(self) -> None:
        """A text frame ends the connection [MQTT-6.0.0-1]."""
        service = await self.start(Listener(address="127.0.0.1", port=0, is_websocket=True))
        socket = await self._open(service.ports[0], "mqtt")
        await socket.opened
        socket.sendMessage(b"hello", isBinary=False)
        code = await socket.closed.addTimeout(PATIENCE, reactor)
        self.assertEqual(code, 1003)
        await until("it to be forgotten", lambda: not service.server.links)

    async def test_stop(self) -> None:
        """A broker that stops closes WebSockets, too."""
        service = await self.start(Listener(address="127.0.0.1", port=0, is_websocket=True))
        socket = await self._open(service.ports[0], "mqtt")
        await socket.opened
        socket.sendMessage(encode(Connect(client_id="ws"), V5), isBinary=True)
        await until("the answer", lambda: socket.packets)
        await self.stop(service)
        await socket.closed.addTimeout(PATIENCE, reactor)
        self.assertEqual(len(socket.packets), 2)
