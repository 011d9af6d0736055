"""HTTP connections behind a door: each request has its time, and so has reading its answer."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from kubeedge_tx.observe.doors import SLOW, UNREAD, Door, Visit, tls_words


class HttpLimits(Protocol):
    """What an HTTP listener bears, beside its door's limits: a block of the configuration."""

    @property
    def request_timeout(self) -> int:
        """Seconds from a request's first byte to its last: who sends a byte now and then is
        cut."""

    @property
    def idle_timeout(self) -> int:
        """Seconds between two requests."""

    @property
    def write_timeout(self) -> int:
        """Seconds that a peer may leave an answer unread."""


C = TypeVar("C", bound="DoorChannel")


class DoorChannel(HTTPChannel):
    """One connection: see :func:`behind`.

    Its requests call :meth:`known` once their peer may be here.
    """

    door: Door
    limits: HttpLimits
    _visit: Visit | None = None
    _arriving: IDelayedCall | None = None
    _reading: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Come to the door; the admission is the first request's time, too."""
        super().connectionMade()
        transport: Any = self.transport
        self._visit = self.door.arrived(transport.getPeer().host, self._abort)

    def dataReceived(self, data: bytes) -> None:
        """Start the clock if a request has begun and is not whole."""
        super().dataReceived(data)
        is_begun = bool(self._buffer or self.requests)
        if (
            is_begun
            and self._arriving is None
            and self._visit is not None
            and not self._handlingRequest
        ):
            self._arriving = self.callLater(self.limits.request_timeout, self._too_slow)

    def allContentReceived(self) -> None:
        """The request is here."""
        self._stop_clock()
        super().allContentReceived()

    def pauseProducing(self) -> None:
        """Told by the transport: the peer does not read."""
        if self._reading is None:
            self._reading = self.callLater(self.limits.write_timeout, self._unread)
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Told by the transport: it has read everything."""
        self._stop_waiting()
        super().resumeProducing()

    def timeoutConnection(self) -> None:
        """End an idle connection; that is nothing to write of."""
        self._abort()

    def known(self) -> None:
        """Say that the peer may be here."""
        if self._visit is not None:
            self._visit.known()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave."""
        self._stop_clock()
        self._stop_waiting()
        visit, self._visit = self._visit, None
        if visit is not None:
            visit.left(getattr(self.transport, "refusal", "") or tls_words(reason))
        super().connectionLost(reason)

    def _too_slow(self) -> None:
        self._arriving = None
        self._turn_out(SLOW, f"the request was not complete after {self.limits.request_timeout} s")

    def _unread(self) -> None:
        self._reading = None
        self._turn_out(UNREAD, f"nothing of the answer was read for {self.limits.write_timeout} s")

    def _turn_out(self, reason: str, why: str) -> None:
        if self._visit is not None:
            self._visit.turned_out(reason, why)
        self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def _stop_clock(self) -> None:
        call, self._arriving = self._arriving, None
        if call is not None:
            call.cancel()

    def _stop_waiting(self) -> None:
        call, self._reading = self._reading, None
        if call is not None:
            call.cancel()


def behind(door: Door, limits: HttpLimits, channel: C) -> C:
    """Put a new connection behind a door."""
    channel.door = door
    channel.limits = limits
    channel.timeOut = limits.idle_timeout
    return channel
