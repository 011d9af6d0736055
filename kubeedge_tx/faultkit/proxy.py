"""A TCP proxy that is as bad a link as it is told to be, at run time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger

MAX_HELD_BYTES: Final = 256 * 1024
"""Bytes of one direction that wait here before reading pauses: the sender feels it then."""

UP: Final = "up"
DOWN: Final = "down"


class Randomness(Protocol):
    """The part of :class:`random.Random` that jitter needs."""

    def uniform(self, a: float, b: float) -> float:
        """A number between the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What one direction does to its bytes. They stay in order, as TCP keeps them."""

    latency: float = 0.0
    """Seconds each piece is late."""
    jitter: float = 0.0
    """Seconds more, at most, by chance."""
    rate: float = 0.0
    """Bytes a second; 0 for no limit."""
    silent: bool = False
    """Nothing passes, not even the end of a connection: a link that is dead and looks alive.
    What was written meanwhile arrives when it is over, as after a cable was put back."""
    cut_after: int = 0
    """The connection is reset after so many bytes; 0 for never."""

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "rate", "cut_after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not isinstance(self.cut_after, int):
            raise ValueError(f"cut_after is {self.cut_after}; it must be a whole number of bytes")


class Pipe:
    """One direction of one connection: takes bytes, and writes them when they are due.

    :param source: read from; paused while too much waits.
    :param finish: called once, when all was written after the source had ended.
    :param cut: called when the connection is to be reset.
    """

    def __init__(self, clock: IReactorTime, random: Randomness, faults: Faults) -> None:
        self._clock = clock
        self._random = random
        self.faults = faults
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._free_at = 0.0
        self._passed = 0
        self._ended = self._closed = False
        self._timer: IDelayedCall | None = None
        self.source: Any = None
        self.sink: Any = None
        self.finish: Any = None
        self.cut: Any = None
        self._paused = False

    def take(self, data: bytes) -> None:
        """Accept bytes of the source."""
        self._wait(self._due(len(data)), data)
        self._held += len(data)
        self._work()

    def end(self) -> None:
        """The source has closed: so does the sink, after what waits."""
        self._ended = True
        self._work()

    def change(self, faults: Faults) -> None:
        """Behave differently from now on, also with what waits: it may become due earlier."""
        self.faults = faults
        self._free_at = 0.0
        waiting, self._waiting = self._waiting, deque()
        for due, data in waiting:
            self._wait(min(due, self._due(len(data))), data)
        self._work()

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        self._waiting.clear()
        self._stop_timer()

    def _due(self, size: int) -> float:
        """When so many bytes that come now are written."""
        faults = self.faults
        start = max(self._clock.seconds(), self._free_at)
        self._free_at = start + (size / faults.rate if faults.rate else 0.0)
        jitter = self._random.uniform(0, faults.jitter) if faults.jitter else 0.0
        return self._free_at + faults.latency + jitter

    def _wait(self, due: float, data: bytes) -> None:
        last = self._waiting[-1][0] if self._waiting else 0.0
        self._waiting.append((max(due, last), data))

    def _work(self) -> None:
        self._stop_timer()
        if self._closed or self.sink is None or self.faults.silent:
            self._regulate()
            return
        now = self._clock.seconds()
        while self._waiting and self._waiting[0][0] <= now:
            _, data = self._waiting.popleft()
            self._held -= len(data)
            limit = self.faults.cut_after
            if limit and self._passed + len(data) >= limit:
                self.sink.write(data[: limit - self._passed])
                self._closed = True
                self.cut()
                return
            self._passed += len(data)
            self.sink.write(data)
        self._regulate()
        if self._waiting:
            self._timer = self._clock.callLater(self._waiting[0][0] - now, self._woken)
        elif self._ended:
            self._closed = True
            self.finish()

    def _woken(self) -> None:
        self._timer = None
        self._work()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _regulate(self) -> None:
        paused = self._held >= MAX_HELD_BYTES
        if paused != self._paused and self.source is not None and not self._ended:
            self._paused = paused
            if paused:
                self.source.pauseProducing()
            else:
                self.source.resumeProducing()


class _End(TwistedProtocol):
    """One socket: what it reads goes into ``out``."""

    def __init__(self, link: Link, out: Pipe) -> None:
        self._link = link
        self._out = out

    def connectionMade(self) -> None:
        self._link.connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._out.take(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._out.end()
        self._link.lost()


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.pipes = {
            which: Pipe(proxy.clock, proxy.random, proxy.faults[which]) for which in (UP, DOWN)
        }
        self.client = _End(self, self.pipes[UP])
        self.server = _End(self, self.pipes[DOWN])
        self._open = 0
        self._over = False
        self.pipes[UP].cut = self.pipes[DOWN].cut = self.reset

    def connected(self, end: _End) -> None:
        """One of the two sockets is open."""
        self._open += 1
        if self._over:  # it was reset while the target was being dialled
            end.transport.abortConnection()  # type: ignore[union-attr]
            return
        there, back = (UP, DOWN) if end is self.client else (DOWN, UP)
        self.pipes[there].source = end.transport
        sink: Any = end.transport
        self.pipes[back].sink = sink
        self.pipes[back].finish = sink.loseConnection
        self.pipes[back].change(self._proxy.faults[back])
        if end is self.client:
            self._proxy.opened(self)

    def lost(self) -> None:
        """One of them is closed."""
        self._open -= 1
        if self._open <= 0:
            self._close()

    def reset(self) -> None:
        """Abort both ends."""
        self._over = True
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.abortConnection()  # type: ignore[attr-defined]
        self._close()

    def _close(self) -> None:
        for pipe in self.pipes.values():
            pipe.close()
        self._proxy.links.discard(self)


class Proxy(Factory):
    """Listen, and connect each client to a target, through faults.

    ``up`` is from the client, an edge, to the target, a cloud. ``accepted`` counts connections,
    ``refused`` those that were reset at once or found no target.

    :param random: for jitter.
    """

    noisy = False
    _log = Logger()

    def __init__(self, reactor: Any, random: Randomness, host: str, port: int) -> None:
        self._reactor = reactor
        self.clock: IReactorTime = reactor
        self.random = random
        self._target = HostnameEndpoint(reactor, host, port, timeout=5)
        self.faults = {UP: Faults(), DOWN: Faults()}
        self.refusing = False
        self.links: set[Link] = set()
        self.accepted = 0
        self.refused = 0
        self._listening: Any = None

    async def listen(self, port: int = 0, interface: str = "127.0.0.1") -> int:
        """Begin; returns the port."""
        endpoint = TCP4ServerEndpoint(self._reactor, port, interface=interface)
        self._listening = await endpoint.listen(self)
        return int(self._listening.getHost().port)

    async def close(self) -> None:
        """Stop listening, reset every connection."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        self.reset()

    def set(self, *directions: str, **faults: Any) -> None:
        """Change some faults of some directions, of both if none is named.

        :raises ValueError: an unknown direction or fault, or one that is negative.
        """
        for which in directions or (UP, DOWN):
            if which not in self.faults:
                raise ValueError(f"{which!r} is no direction; expected up or down")
            try:
                self.faults[which] = replace(self.faults[which], **faults)
            except TypeError as error:
                raise ValueError(str(error)) from None
            for link in tuple(self.links):
                link.pipes[which].change(self.faults[which])

    def heal(self) -> None:
        """Be a good link again; what is broken stays broken."""
        self.refusing = False
        self.faults = {UP: Faults(), DOWN: Faults()}
        for link in tuple(self.links):
            for which, pipe in link.pipes.items():
                pipe.change(self.faults[which])

    def reset(self) -> int:
        """Reset every connection; returns how many."""
        links = tuple(self.links)
        for link in links:
            link.reset()
        return len(links)

    def buildProtocol(self, addr: Any) -> _End:
        return Link(self).client

    def opened(self, link: Link) -> None:
        """A client is here: find it its target."""
        self.accepted += 1
        self.links.add(link)
        if self.refusing:
            self.refused += 1
            link.reset()
            return
        connecting: Deferred[Any] = self._target.connect(Factory.forProtocol(lambda: link.server))
        connecting.addErrback(self._unreachable, link)

    def _unreachable(self, failure: Any, link: Link) -> None:
        self.refused += 1
        self._log.warn("the target cannot be reached: {why}", why=failure.getErrorMessage())
        link.reset()
