"""Dial the cloud, stay, back off, again."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.errors import ClockError, ConfigError, HandshakeFailed
from kubeedge_tx.observe.rarely import Rarely, and_more
from kubeedge_tx.viaduct.channel import Channel, ChannelSettings
from kubeedge_tx.viaduct.client import connect
from kubeedge_tx.viaduct.handshake import DIGEST_HEADER, WINDOW_HEADER
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.traffic import Traffic

log = Logger()

DEFAULT_PORT: Final = 10000
DEAD_AFTER_SECONDS: Final = 25.0
"""How long the kernel waits for an acknowledgement of what we wrote."""
LASTED_SECONDS: Final = 10.0
"""A connection of this length was wanted by the cloud. A link that breaks every half minute
must not make the pauses grow to a minute."""
LONGEST_RETRY_AFTER: Final = 120
"""Seconds; a cloud that asks for more is dialled then all the same."""


class Randomness(Protocol):
    """The part of :class:`random.Random` that jitter needs."""

    def uniform(self, a: float, b: float) -> float:
        """A number between the two."""


Credentials = Callable[[str], Awaitable[IOpenSSLClientConnectionCreator]]
"""Given the host name that was asked for, returns how to talk TLS to it as this node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeHubSettings:
    """The connection to the cloud; defaults are upstream's, except where marked."""

    node_name: str
    servers: tuple[str, ...]
    """``host:port``, tried in turn. One upstream."""
    project_id: str = "e632aba927ea4ac2b575ec1603d56f10"
    heartbeat: float = 15.0
    """Seconds between keepalive messages."""
    message_qps: float = 30.0
    """Messages a second to the cloud; answers and keepalives do not count."""
    message_burst: float = 60.0
    handshake_timeout: float = 30.0
    write_deadline: float = 15.0
    window: int = 32
    """*Ours:* pushes that our cloud may have unacknowledged at once; Go's knows of one."""
    first_delay: float = 1.0
    """*Ours:* seconds; the longest pause after one failure."""
    longest_delay: float = 60.0
    """*Ours:* seconds; the longest pause after many."""
    unreachable_delay: float = 3.0
    """*Ours:* seconds; the longest pause while no machine answers at that address."""
    connect_timeout: float = 5.0
    """*Ours:* seconds for TCP. Short: the kernel's own repeats come ever more seldom."""


class Backoff:
    """Pauses that grow and are spread: each between 0 and a limit that doubles.

    A restarted cloud is dialled by all its edges; only full jitter keeps them apart. A
    machine that does not answer at all has no work with us, so it is asked more often: the
    edge is back in service within seconds after the path is.

    :param first: seconds, limit of the first pause.
    :param limit: seconds, limit of every later pause.
    :param unreachable_limit: seconds, the same while there is nobody to be spared.
    """

    def __init__(
        self, random: Randomness, *, first: float, limit: float, unreachable_limit: float
    ) -> None:
        self._random = random
        self._first = first
        self.limit = limit
        self._unreachable_limit = unreachable_limit
        self._failures = 0
        self._unreached = 0
        self._displaced = False

    def displaced(self) -> None:
        """Note that another edge of our name took our place: the next pause is a long one.

        Who comes back at once throws the other out, which then comes back at once.
        """
        self._displaced = True

    def next(self, *, reached: bool) -> float:
        """Seconds to wait now.

        :param reached: the cloud answered, or had; it did not let us in, or threw us out.
        """
        if self._displaced:
            self._displaced = False
            return self._random.uniform(self.limit / 2, self.limit)
        if reached:
            limit, count = self.limit, self._failures
            self._failures += 1
        else:
            limit, count = self._unreachable_limit, self._unreached
            self._unreached += 1
        return self._random.uniform(0, min(limit, self._first * 2.0 ** min(count, 32)))

    def reset(self) -> None:
        """Start over: a connection lasted."""
        self._failures = self._unreached = 0


async def keep_connected(
    dial: Callable[[], Awaitable[Deferred[bool]]],
    backoff: Backoff,
    clock: IReactorTime,
    wait: Callable[[], float] = lambda: 0.0,
) -> None:
    """Connect, wait for the end, pause, again; ends only by cancellation.

    :param dial: opens a connection and returns what fires when it is over, with ``True``
        if it was ended on purpose and shall be opened again at once.
    :param wait: seconds until a server may be dialled that has said when; 0 if any may be now.
    """
    rarely = Rarely()
    while True:
        reached = True
        silent: int | None = 0
        try:
            closed = await dial()
            since = clock.seconds()
            on_purpose = await closed
            if clock.seconds() - since >= LASTED_SECONDS:
                backoff.reset()  # the cloud did not just throw us out
            if on_purpose:
                continue
        except (CancelledError, ConnectingCancelledError) as error:
            raise CancelledError from error  # an endpoint says it in a way of its own
        except Exception as error:  # noqa: BLE001 - any reason not to be connected is one
            why = _text(error)
            silent = rarely.due(why, clock.seconds())
            if silent is not None:  # every few seconds, for days perhaps
                log.warn("cannot reach the cloud: {why}{more}", why=why, more=and_more(silent))
            # A wrong clock is our own trouble, and may be set at any moment.
            reached = not isinstance(error, ConnectError | DNSLookupError | ClockError)
        pause = wait() or backoff.next(reached=reached)
        if silent is not None:
            log.info("dialling the cloud again in {seconds:.1f} s", seconds=pause)
        await deferLater(clock, pause)


class Dialer:
    """Open the WebSocket, on the next of several servers each time.

    A server that is busy and says when to come again (``Retry-After``) is left alone until
    then, or until there is no other one and its time has come.

    :param random: for the part of a second by which that time is spread.
    :raises ConfigError: from the constructor: no server, or one without a host name.
    """

    def __init__(
        self,
        reactor: Any,
        messages: MessageFactory,
        settings: EdgeHubSettings,
        credentials: Credentials,
        traffic: Traffic,
        random: Randomness,
    ) -> None:
        self._reactor = reactor
        self._messages = messages
        self._credentials = credentials
        self._traffic = traffic
        self._random = random
        self._rarely = Rarely()
        self._not_before: dict[tuple[str, int], float] = {}
        self.reconfigure(settings)

    def reconfigure(self, settings: EdgeHubSettings) -> None:
        """Dial from now on with other settings.

        :raises ConfigError: no server, or one without a host name; nothing has changed.
        """
        servers = [split_server(server) for server in settings.servers]
        if not servers:
            raise ConfigError("modules.edgeHub.websocket.server", "is empty; expected host:port")
        self._settings = settings
        self._servers = servers
        self._turn = 0
        now = self._reactor.seconds()
        self._not_before = {each: self._not_before.get(each, now) for each in servers}

    def wait(self) -> float:
        """Seconds until a server may be dialled; 0 if one may be now."""
        now: float = self._reactor.seconds()
        return max(0.0, min(self._not_before.values()) - now)

    def _next(self) -> int:
        """Choose the next server that may be dialled; else the one that may be soonest."""
        count = len(self._servers)
        turns = [(self._turn + more) % count for more in range(count)]
        now = self._reactor.seconds()
        soonest = min(turns, key=self._free_at)
        chosen = next((turn for turn in turns if self._free_at(turn) <= now), soonest)
        self._turn = chosen + 1
        return chosen

    def _free_at(self, turn: int) -> float:
        return self._not_before[self._servers[turn]]

    async def dial(self, user: IChannelUser) -> Channel:
        """Connect ``user``.

        :raises Exception: whatever stood in the way: name, TCP, TLS, handshake, certificate.
        """
        which = self._next()
        try:
            return await self._dial(user, *self._servers[which])
        except HandshakeFailed as error:
            if error.retry_after is not None:
                seconds = min(error.retry_after, LONGEST_RETRY_AFTER) + self._random.uniform(0, 1)
                self._not_before[self._servers[which]] = self._reactor.seconds() + seconds
            raise

    async def _dial(self, user: IChannelUser, host: str, port: int) -> Channel:
        settings = self._settings
        options = await self._credentials(host)
        name = HostnameEndpoint(self._reactor, host, port, timeout=settings.connect_timeout)
        tcp = TimedEndpoint(name, DEAD_AFTER_SECONDS)
        address = f"[{host}]" if ":" in host else host
        if self._rarely.due((host, port), self._reactor.seconds()) is not None:
            log.info("dialling {host}:{port}", host=address, port=port)
        return await connect(
            self._reactor,
            wrapClientTLS(options, tcp),
            f"wss://{address}:{port}/{settings.project_id}/{settings.node_name}/events",
            headers={
                "node_id": settings.node_name,
                "project_id": settings.project_id,
                "ConnectionUse": "msg",
                WINDOW_HEADER: str(settings.window),
                DIGEST_HEADER: "1",
            },
            user=user,
            messages=self._messages,
            settings=ChannelSettings(
                open_handshake_timeout=settings.handshake_timeout,
                write_deadline=settings.write_deadline,
            ),
            traffic=self._traffic,
        )


@implementer(IStreamClientEndpoint)
class TimedEndpoint:
    """A TCP endpoint whose kernel gives up on a peer that acknowledges nothing.

    Without it a write into a dead link is repeated for a quarter of an hour.

    :param seconds: how long written bytes may stay unacknowledged.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, seconds: float) -> None:
        self._endpoint = endpoint
        self._milliseconds = int(seconds * 1000)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return self._endpoint.connect(protocolFactory).addCallback(self._tune)

    def _tune(self, protocol: Any) -> Any:
        transport = protocol.transport
        # In memory, as in tests, there is no kernel to tell.
        if hasattr(transport, "getHandle") and hasattr(socket, "TCP_USER_TIMEOUT"):
            transport.setTcpKeepAlive(True)
            transport.getHandle().setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._milliseconds
            )
        return protocol


def split_server(server: str) -> tuple[str, int]:
    """Read one of ``modules.edgeHub.websocket.server``.

    :raises ConfigError: it is not ``HOST:PORT``, or ``HOST``.
    """
    path = "modules.edgeHub.websocket.server"
    try:
        parts = urlsplit(f"//{server}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(path, f"{server!r}: {error}; expected host:port") from None
    if not host or parts.path or parts.username:
        raise ConfigError(path, f"{server!r} is not host:port")
    return host, port or DEFAULT_PORT


def _text(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
