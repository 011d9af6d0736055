"""What a channel tells its user."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.viaduct.channel import Channel


class IChannelUser(Interface):
    """The one party that a channel serves: a NodeSession, or EdgeHub."""

    def opened(channel: Channel) -> None:
        """The WebSocket is open; messages may be sent from now on."""

    def received(message: Message) -> Deferred[None]:
        """Take one message; reading pauses until the Deferred fires."""

    def writable() -> None:
        """The transport has drained; ``channel.is_writable`` is true again."""

    def closed(reason: str) -> None:
        """The WebSocket is gone. Comes exactly once, also if it never opened."""
