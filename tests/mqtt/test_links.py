from __future__ import annotations

from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock

from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.packets import V4, Connack, Connect, Packet, Pingreq, Pingresp, Publish
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.service import Listener, MqttService
from tests.mqtt.brokers import BrokerCase
from tests.mqtt.peer import PATIENCE, reactor


class _Browser(WebSocketClientProtocol):  # type: ignore[misc]
    """A WebSocket client that sends the frames a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.parser = Parser(1 << 20, from_client=False, version=V4)
        self.packets: list[Packet] = []
        self.subprotocol: str | None = None
        self.wanted = 0
        self.arrived: Deferred[None] = Deferred()
        self.opened: Deferred[None] = Deferred()
        self.ended: Deferred[int | None] = Deferred()

    def onConnect(self, response: Any) -> None:
        self.subprotocol = response.protocol

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert isBinary
        self.packets += self.parser.feed(payload)
        if self.wanted and len(self.packets) >= self.wanted:
            self.wanted = 0
            self.arrived.callback(None)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self.opened.called:
            self.opened.callback(None)
        self.ended.callback(self.remoteCloseCode)

    async def packets_when(self, count: int) -> list[Packet]:
        """All packets, once there are so many."""
        if len(self.packets) < count:
            self.wanted = count
            await self.arrived.addTimeout(PATIENCE, reactor)
        return self.packets


class WebSocketTests(BrokerCase):
    """MQTT in WebSocket messages, section 6 of both specifications."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(txaio.config, "loop", Clock())  # Autobahn's timers outlive its connections

    async def browse(self, service: MqttService, *subprotocols: str) -> Any:
        port = service.ports[0]
        factory = WebSocketClientFactory(
            f"ws://127.0.0.1:{port}/mqtt", protocols=list(subprotocols), reactor=reactor
        )
        factory.protocol = _Browser
        factory.noisy = False
        factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
        browser: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
        await browser.opened.addTimeout(PATIENCE, reactor)
        return browser

    async def leave(self, browser: Any) -> None:
        browser.sendClose(1000)
        await browser.ended.addTimeout(PATIENCE, reactor)

    async def ws(self) -> MqttService:
        return await self.start(Listener(address="127.0.0.1", port=0, is_websocket=True))

    async def test_subprotocol(self) -> None:
        """The subprotocol is mqtt; who does not offer it is not let in."""
        service = await self.ws()
        browser = await self.browse(service, "chat", "mqtt")
        self.assertEqual(browser.subprotocol, "mqtt")
        await self.leave(browser)
        for offered in ((), ("chat",)):
            refused = await self.browse(service, *offered)
            self.assertIsNone(refused.subprotocol)
            self.assertEqual(refused.state, refused.STATE_CLOSED)

    async def test_frames_are_no_packets(self) -> None:
        """Packets may share a frame, or be spread over many, down to single bytes."""
        browser = await self.browse(await self.ws(), "mqtt")
        data = encode(Connect(client_id="c", version=V4), V4)
        for at in range(len(data)):
            browser.sendMessage(data[at : at + 1], isBinary=True)
        rest = encode(Pingreq(), V4) * 3 + encode(Publish("a", b"x" * 300), V4)
        browser.sendMessage(rest + encode(Pingreq(), V4)[:1], isBinary=True)
        browser.sendMessage(encode(Pingreq(), V4)[1:], isBinary=True, fragmentSize=1)
        packets = await browser.packets_when(5)
        self.assertEqual([type(each) for each in packets], [Connack] + [Pingresp] * 4)
        await self.leave(browser)

    async def test_text_frames(self) -> None:
        """A text frame closes the connection."""
        browser = await self.browse(await self.ws(), "mqtt")
        browser.sendMessage(encode(Connect(client_id="c", version=V4), V4), isBinary=False)
        code = await browser.ended.addTimeout(PATIENCE, reactor)
        self.assertEqual(code, 1003)
        self.assertEqual(browser.packets, [])
