"""Connections to the broker: MQTT on TCP or TLS, and MQTT in WebSocket messages.

Autobahn's class is subclassed for forwarding only. Source for the latter: MQTT 5.0, 6.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kubeedge_tx.mqtt.server import MqttServer

SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
"""What a WebSocket must ask for; the second is what old browsers' clients say."""
UNSUPPORTED_DATA: Final = 1003
"""WebSocket close code for a text frame [MQTT-6.0.0-1]."""


@implementer(IPushProducer)
class _Flow:
    """Back-pressure of one connection, both ways."""

    server: MqttServer
    transport: Any
    connection: Any = None
    is_writable = True
    is_identified = False
    """The name in the client's certificate is its user name."""
    peer = ""

    def _open(self) -> None:
        transport = self.transport
        transport.registerProducer(self, True)
        identity = _common_name(transport) if self.is_identified else ""
        self.connection = self.server.opened(self, identity)  # type: ignore[arg-type]

    def pauseProducing(self) -> None:
        """Told by the transport: its buffer is full."""
        self.is_writable = False
        self.server.writable(self.connection, False)

    def resumeProducing(self) -> None:
        """Told by the transport: its buffer has drained."""
        self.is_writable = True
        self.server.writable(self.connection, True)

    def stopProducing(self) -> None:
        """Told by the transport: it will never drain."""
        self.is_writable = False

    def pause(self) -> None:
        """Read no more."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self.transport.connected and not self.transport.disconnecting:
            self.transport.resumeProducing()

    def abort(self) -> None:
        """End it now."""
        self.transport.abortConnection()


@implementer(IHandshakeListener)
class TcpLink(_Flow, Protocol):
    """One connection on TCP or TLS."""

    def __init__(self, server: MqttServer, peer: str) -> None:
        self.server = server
        self.peer = peer

    def connectionMade(self) -> None:
        transport = self.transport
        transport.setTcpNoDelay(True)
        self.server.arrived(self)  # type: ignore[arg-type]
        if not hasattr(transport, "getPeerCertificate"):
            self._open()

    def handshakeCompleted(self) -> None:
        """Start MQTT: only now is it known who the client is."""
        self._open()

    def dataReceived(self, data: bytes) -> None:
        self.server.received(self.connection, data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        connection, self.connection = self.connection, None
        self.server.left(self, connection)  # type: ignore[arg-type]

    def send(self, data: list[bytes]) -> None:
        """Write."""
        self.transport.writeSequence(data)

    def close(self) -> None:
        """End it once everything is written."""
        self.transport.unregisterProducer()
        self.transport.resumeProducing()  # or TLS would not hear the client's goodbye
        self.transport.loseConnection()


class WebSocketLink(_Flow, WebSocketServerProtocol):  # type: ignore[misc]
    """One connection inside a WebSocket."""

    _log = Logger()

    def __init__(self, server: MqttServer, peer: str) -> None:
        super().__init__()
        self.server = server
        self._address = peer

    def connectionMade(self) -> None:
        super().connectionMade()
        self.peer = self._address  # and not Autobahn's way to write it
        self.server.arrived(self)  # type: ignore[arg-type]

    def onConnect(self, request: Any) -> str:
        for name in SUBPROTOCOLS:
            if name in request.protocols:
                return name
        raise ConnectionDeny(400, "ask for the WebSocket subprotocol mqtt")

    def onOpen(self) -> None:
        self._open()

    def onMessageBegin(self, isBinary: bool) -> None:
        if not isBinary:
            self._log.debug("{peer} sent text where MQTT is binary", peer=self.peer)
            # sendClose() takes no codes of the protocol's own.
            self.sendCloseFrame(UNSUPPORTED_DATA, b"MQTT is binary")

    def onMessageFrameBegin(self, length: int) -> None:
        """Do nothing: the broker limits packets, whatever frames they come in."""

    def onMessageFrameData(self, payload: bytes) -> None:
        if self.connection is not None and self.state == self.STATE_OPEN:
            self.server.received(self.connection, bytes(payload))

    def onMessageFrameEnd(self) -> None:
        """Do nothing: packets may span frames [MQTT-6.0.0-2]."""

    def onMessageEnd(self) -> None:
        """Do nothing: packets may span messages."""

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        connection, self.connection = self.connection, None
        self.server.left(self, connection)  # type: ignore[arg-type]

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.transport.write(data)

    def send(self, data: list[bytes]) -> None:
        """Write, as one message."""
        if self.state != self.STATE_OPEN:
            return
        size = sum(map(len, data))
        if size < 126:
            head = bytes((0x82, size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x82, 126, size)
        else:
            head = struct.pack("!BBQ", 0x82, 127, size)
        self.transport.writeSequence([head, *data])

    def close(self) -> None:
        """End it once everything is written."""
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        self.sendClose(1000)

    def abort(self) -> None:
        """End it now."""
        self.wasClean = True  # else Autobahn warns about what we decided
        self.dropConnection(abort=True)


class TcpFactory(Factory):
    """Makes the connections of a TCP or TLS listener."""

    noisy = False

    def __init__(self, server: MqttServer, *, is_identified: bool = False) -> None:
        self._server = server
        self._is_identified = is_identified

    def buildProtocol(self, addr: Any) -> TcpLink:
        link = TcpLink(self._server, _peer(addr))
        if self._is_identified:
            link.is_identified = True
        return link


class WebSocketFactory(WebSocketServerFactory):  # type: ignore[misc]
    """Makes the connections of a WebSocket listener, plain or TLS; any path will do."""

    noisy = False

    def __init__(self, reactor: Any, server: MqttServer, *, is_identified: bool = False) -> None:
        super().__init__(reactor=reactor, protocols=list(SUBPROTOCOLS))
        self._server = server
        self._is_identified = is_identified
        self.setProtocolOptions(
            webStatus=False,
            versions=[13],
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=2,
            autoPingInterval=0,
            tcpNoDelay=True,
            echoCloseCodeReason=False,
        )

    def buildProtocol(self, addr: Any) -> WebSocketLink:
        link = WebSocketLink(self._server, _peer(addr))
        link.factory = self
        link.is_identified = self._is_identified
        return link


def _peer(address: Any) -> str:
    host = getattr(address, "host", None)
    return f"{host}:{address.port}" if host is not None else str(address)


def _common_name(transport: Any) -> str:
    """The name in the client's certificate, which TLS has verified."""
    certificate = getattr(transport, "getPeerCertificate", lambda: None)()
    return certificate.get_subject().commonName or "" if certificate is not None else ""
