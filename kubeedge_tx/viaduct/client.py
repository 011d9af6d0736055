"""The end of a channel that dials: EdgeHub's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.errors import HandshakeFailed
from kubeedge_tx.viaduct.channel import Channel, ChannelSettings, Shared
from kubeedge_tx.viaduct.traffic import Traffic
from kubeedge_tx.viaduct.websocket import Forwarding, options

if TYPE_CHECKING:
    from kubeedge_tx.viaduct.interfaces import IChannelUser


class _ClientProtocol(Forwarding, WebSocketClientProtocol):  # type: ignore[misc]
    """EdgeHub's end."""

    settled: Deferred[None]
    """Fires when the WebSocket is open, or will never be."""
    retry_after: int | None = None

    def failHandshake(self, reason: str) -> None:
        wish = (getattr(self, "http_headers", None) or {}).get("retry-after", "").strip()
        if wish.isascii() and wish.isdigit() and len(wish) <= 6:  # else it is a date
            self.retry_after = int(wish)
        super().failHandshake(reason)

    def onConnect(self, response: Any) -> None:
        self.read_headers(response.headers)
        self.date = response.headers.get("date", "")

    def onOpen(self) -> None:
        super().onOpen()
        self.settled.callback(None)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        super().onClose(wasClean, code, reason)
        if not self.settled.called:
            self.settled.callback(None)

    def send_text(self, frame: bytes) -> None:
        self.sendMessage(frame, isBinary=False)


class _ClientFactory(WebSocketClientFactory):  # type: ignore[misc]
    noisy = False

    def __init__(
        self,
        reactor: Any,
        url: str,
        headers: Mapping[str, str],
        shared: Shared,
        user: IChannelUser,
    ) -> None:
        super().__init__(url=url, headers=dict(headers), reactor=reactor, useragent="KubeEdge-TX")
        self._shared = shared
        self._user = user
        self.setProtocolOptions(version=18, **options(shared.settings))

    def buildProtocol(self, addr: Any) -> _ClientProtocol:
        protocol = _ClientProtocol()
        protocol.factory = self
        protocol.shared = self._shared
        protocol.user = self._user
        protocol.settled = Deferred()
        return protocol


async def connect(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    url: str,
    *,
    headers: Mapping[str, str],
    user: IChannelUser,
    messages: MessageFactory,
    settings: ChannelSettings | None = None,
    traffic: Traffic | None = None,
) -> Channel:
    """Open a WebSocket; returns once ``user.opened`` was called. May be cancelled.

    :param endpoint: TLS included: ``wrapClientTLS(options, HostnameEndpoint(…))``.
    :param url: ``wss://host:port/<project>/<node>/events``: sets Host and path only.
    :param headers: sent as they are: ``node_id``, ``ConnectionUse`` and so on.
    :raises HandshakeFailed: TLS or the upgrade was refused, or took too long; the text
        says why. ``user.closed`` was called before.
    :raises Exception: the endpoint's, when there is no TCP connection; the user heard
        nothing.
    """
    shared = Shared(reactor, messages, settings or ChannelSettings(), traffic or Traffic())
    factory = _ClientFactory(reactor, url, headers, shared, user)
    protocol: Any = await endpoint.connect(factory)
    if not protocol.settled.called:
        protocol.settled = Deferred(lambda _: protocol.dropConnection(abort=True))
        await protocol.settled
    channel: Channel | None = protocol.channel
    if channel is None:
        raise HandshakeFailed(protocol.wasNotCleanReason or "closed", protocol.retry_after)
    return channel
