"""Doors: how many may stand at a listener, how long, and how often they may come.

A *stranger* is a connection whose peer has not shown yet that it may be here: TLS, the upgrade
or the first request are under way. Strangers have little time. When there are too many, the one
that has stood there longest makes room, if it has had its second: who is quick always gets in,
however many are slow on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.observe.metrics import Counter, Metrics
from kubeedge_tx.observe.rarely import Rarely, and_more
from kubeedge_tx.observe.throttle import TokenBucket

HURRY: Final = 1.0
"""Seconds that a stranger has in any case, also when others wait."""

PEERS: Final = 4096
"""Peers whose rate is remembered; the one that came longest ago goes first."""

# Why a connection was refused or ended
FULL: Final = "full"
PEER_FULL: Final = "peer-full"
STRANGERS: Final = "strangers"
RATE: Final = "rate"
SLOW: Final = "slow"
TLS: Final = "tls"
TOO_LARGE: Final = "too-large"
UNREAD: Final = "unread"


class Limits(Protocol):
    """What a listener bears: a block of the configuration."""

    @property
    def max_connections(self) -> int:
        """At once."""

    @property
    def max_connections_per_peer(self) -> int:
        """The same, from one address."""

    @property
    def max_unauthenticated(self) -> int:
        """Of them, those whose peer is not known yet."""

    @property
    def max_unauthenticated_per_peer(self) -> int:
        """The same, from one address."""

    @property
    def connection_rate(self) -> int:
        """New connections a second from one address, on average."""

    @property
    def connection_burst(self) -> int:
        """The same, at once."""

    @property
    def handshake_timeout(self) -> int:
        """Seconds until a peer must be known."""


class Visit:
    """One connection; made by :meth:`Door.arrived`."""

    __slots__ = ("_door", "peer", "since", "turn_out")

    def __init__(self, door: Door, peer: str, since: float, turn_out: Callable[[], None]) -> None:
        self._door = door
        self.peer = peer
        self.since = since
        self.turn_out = turn_out

    def known(self) -> None:
        """Say that the peer may be here."""
        self._door.known(self)

    def left(self, tls: str = "") -> None:
        """Say that the connection is gone.

        :param tls: what TLS did not like, if that is why.
        """
        self._door.left(self, tls)

    def turned_out(self, reason: str, why: str) -> None:
        """Write down that the connection ends by our will: the caller ends it."""
        self._door.note(self.peer, reason, why)


class Door:
    """Guard one listener.

    :param name: of the listener, as the metrics have it.
    :param refused: counts by listener and reason.
    """

    _log = Logger()

    def __init__(self, name: str, limits: Limits, clock: IReactorTime, refused: Counter) -> None:
        self.name = name
        self.limits = limits
        self._clock = clock
        self._refused = refused
        self._rarely = Rarely()
        self._open: dict[str, int] = {}
        self._strangers: dict[Visit, None] = {}
        self._strangers_of: dict[str, int] = {}
        self._rates: dict[str, TokenBucket] = {}
        self._timer: IDelayedCall | None = None
        self.connections = 0

    @property
    def strangers(self) -> int:
        """Connections that are not known yet."""
        return len(self._strangers)

    def admits(self, peer: str) -> bool:
        """Whether a connection may be made; if not, that is written down.

        :param peer: IP address.
        """
        refusal = self._refusal(peer)
        if refusal is None:
            return True
        self.note(peer, *refusal)
        return False

    def _refusal(self, peer: str) -> tuple[str, str] | None:
        limits = self.limits
        now = self._clock.seconds()
        if not self._take(peer, now):
            return RATE, f"more than {limits.connection_rate} connections a second"
        if self.connections >= limits.max_connections:
            return FULL, f"{limits.max_connections} connections are open"
        if self._open.get(peer, 0) >= limits.max_connections_per_peer:
            return PEER_FULL, f"{limits.max_connections_per_peer} connections from there are open"
        if self._strangers_of.get(peer, 0) >= limits.max_unauthenticated_per_peer:
            oldest = next(visit for visit in self._strangers if visit.peer == peer)
            if not self._makes_room(oldest, now):
                return (
                    STRANGERS,
                    f"{limits.max_unauthenticated_per_peer} from there are not known yet",
                )
        elif len(self._strangers) >= limits.max_unauthenticated and not self._makes_room(
            next(iter(self._strangers)), now
        ):
            return STRANGERS, f"{limits.max_unauthenticated} are not known yet"
        return None

    def _makes_room(self, oldest: Visit, now: float) -> bool:
        waited = now - oldest.since
        if waited < HURRY:
            return False
        self._turn_out(oldest, f"not known after {waited:.0f} s, while others wait")
        return True

    def _take(self, peer: str, now: float) -> bool:
        bucket = self._rates.pop(peer, None)
        if bucket is None:
            limits = self.limits
            bucket = TokenBucket(
                rate=limits.connection_rate, burst=limits.connection_burst, now=now
            )
        self._rates[peer] = bucket
        if len(self._rates) > PEERS:
            del self._rates[next(iter(self._rates))]
        return bucket.take(now)

    def arrived(self, peer: str, turn_out: Callable[[], None]) -> Visit:
        """Take in a connection, as a stranger.

        :param turn_out: ends it at once.
        """
        visit = Visit(self, peer, self._clock.seconds(), turn_out)
        self.connections += 1
        self._open[peer] = self._open.get(peer, 0) + 1
        self._strangers[visit] = None
        self._strangers_of[peer] = self._strangers_of.get(peer, 0) + 1
        if self._timer is None:
            self._timer = self._clock.callLater(self.limits.handshake_timeout, self._look)
        return visit

    def known(self, visit: Visit) -> None:
        """See :meth:`Visit.known`."""
        if visit in self._strangers:
            del self._strangers[visit]
            _less(self._strangers_of, visit.peer)
            if not self._strangers and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def left(self, visit: Visit, tls: str = "") -> None:
        """See :meth:`Visit.left`."""
        if visit in self._strangers and tls:
            self.note(visit.peer, TLS, tls)
        self.known(visit)
        self.connections -= 1
        _less(self._open, visit.peer)

    def note(self, peer: str, reason: str, why: str) -> None:
        """Count a refusal, and log it once in a while."""
        self._refused.inc(self.name, reason)
        subject = (peer, reason, why if reason == TLS else "")
        silent = self._rarely.due(subject, self._clock.seconds())
        if silent is not None:
            self._log.warn(
                "connection from {peer} to {listener} refused ({reason}): {why}{more}",
                peer=peer,
                listener=self.name,
                reason=reason,
                why=why,
                more=and_more(silent),
            )

    def _turn_out(self, visit: Visit, why: str) -> None:
        self.note(visit.peer, SLOW, why)
        self.known(visit)
        visit.turn_out()

    def _look(self) -> None:
        self._timer = None
        admission = self.limits.handshake_timeout
        now = self._clock.seconds()
        while self._strangers:
            oldest = next(iter(self._strangers))
            left = oldest.since + admission - now
            if left > 0:
                self._timer = self._clock.callLater(left, self._look)
                return
            self._turn_out(oldest, f"not known after {admission:g} s")


def _less(counts: dict[str, int], key: str) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1


class Doors:
    """All doors of a process, and their figures."""

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self._clock = clock
        self._doors: list[Door] = []
        self._refused = metrics.counter(
            "kubeedge_listener_refused_connections_total",
            "Connections refused, or ended before their peer was known.",
            ("listener", "reason"),
        )
        metrics.gauge(
            "kubeedge_listener_connections",
            "Connections that are open.",
            ("listener",),
            read=lambda: {(door.name,): float(door.connections) for door in self._doors},
        )
        metrics.gauge(
            "kubeedge_listener_strangers",
            "Connections whose peer is not known yet.",
            ("listener",),
            read=lambda: {(door.name,): float(door.strangers) for door in self._doors},
        )

    def door(self, name: str, limits: Limits) -> Door:
        """Make the door of a listener."""
        door = Door(name, limits, self._clock, self._refused)
        self._doors.append(door)
        return door


@implementer(IProtocolFactory)
class Guarded:
    """A factory behind a door: who is refused costs no protocol, and no TLS.

    :param factory: the outermost: that of TLS, if there is TLS. Its protocols call
        :meth:`Door.arrived`.
    """

    noisy = False

    def __init__(self, door: Door, factory: Any) -> None:
        self._door = door
        self._factory = factory

    def buildProtocol(self, addr: Any) -> Any:
        """Make a protocol, or ``None``, at which Twisted closes the connection."""
        return self._factory.buildProtocol(addr) if self._door.admits(addr.host) else None

    def doStart(self) -> None:
        """Begin."""
        self._factory.doStart()

    def doStop(self) -> None:
        """End."""
        self._factory.doStop()


def tls_words(reason: object) -> str:
    """Say what TLS did not like; empty if the connection ended for another reason.

    :param reason: a Failure with an ``OpenSSL.SSL.Error``, whose argument is a list of library,
        function and text. (Not imported: a process without TLS need not load it.)
    """
    error = getattr(reason, "value", None)
    arguments = getattr(error, "args", ())
    if type(error).__name__ != "Error" or not arguments or not isinstance(arguments[0], list):
        return ""
    return "; ".join(str(entry[-1]) for entry in arguments[0] if entry) or "TLS failed"
