"""A UNIX socket in front of a server's, to take the server away and bring it back."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class _Relay(Protocol):
    """One side of a connection relayed to a server's socket."""

    def __init__(self, other: _Relay | None = None) -> None:
        self.other = other

    def dataReceived(self, data: bytes) -> None:
        assert self.other is not None and self.other.transport is not None
        self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class Relay(Factory):
    """A socket that leads to the server while it is open.

    :param path: the UNIX socket to make.
    :param target: the server's.
    """

    def __init__(self, reactor: Any, path: str, target: str) -> None:
        self._reactor = reactor
        self._path = path
        self._target = target
        self._all: set[Any] = set()
        self._port: Any = None
        self.open()

    def open(self) -> None:
        """Let connections through."""
        self._port = self._reactor.listenUNIX(self._path, self)

    async def close(self) -> None:
        """End every connection and take no more: the server is down."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
        for each in list(self._all):
            each.transport.abortConnection()

    def buildProtocol(self, address: Any) -> Protocol:
        relay = self

        class Near(_Relay):
            def connectionMade(self) -> None:
                relay._all.add(self)
                self.transport.pauseProducing()  # type: ignore[union-attr]
                factory = Factory.forProtocol(lambda: _Relay(self))
                UNIXClientEndpoint(relay._reactor, relay._target).connect(factory).addCallback(
                    self.joined
                )

            def joined(self, far: Any) -> None:
                self.other = far
                self.transport.resumeProducing()  # type: ignore[union-attr]

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                relay._all.discard(self)
                super().connectionLost(reason)

        return Near()
