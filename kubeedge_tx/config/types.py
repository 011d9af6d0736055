"""Small types that several blocks of configuration share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from kubeedge_tx.errors import ConfigError

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP port; 0 takes a free one."""

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
NotNegative = Annotated[float, Meta(ge=0)]

Duration = Annotated[str, Meta(pattern=r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$|^0$")]
"""A Go duration: ``10s``, ``1m30s``."""

LogLevel = Literal["debug", "info", "warn", "error"]


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A block of configuration; an unknown key in it is an error."""


class ListenerLimits(Block, frozen=True, kw_only=True):
    """*Ours.* What a listener bears; who exceeds it is refused, counted and logged.

    When too many are not known yet, who has waited longest makes room for who comes.
    """

    max_connections: Positive = 10_000
    """Connections at once."""
    max_connections_per_peer: Positive = 5_000
    """The same from one address, behind which there may be a whole site."""
    max_unauthenticated: Positive = 1_000
    """Connections at once whose peer is not known yet."""
    max_unauthenticated_per_peer: Positive = 500
    """The same from one address."""
    connection_rate: Positive = 200
    """New connections a second from one address, on average."""
    connection_burst: Positive = 1_000
    """The same, at once."""
    handshake_timeout: Positive = 30
    """Seconds until a peer must be known, TLS included."""


class HttpLimits(ListenerLimits, frozen=True, kw_only=True):
    """*Ours.* The same for HTTP."""

    request_timeout: Positive = 30
    """Seconds from the first byte of a request to its last."""
    idle_timeout: Positive = 30
    """Seconds between two requests."""
    write_timeout: Positive = 30
    """Seconds that a peer may leave an answer unread."""


def small_limits() -> HttpLimits:
    """Limits of a port for this machine's own programs."""
    return HttpLimits(
        max_connections=100,
        max_connections_per_peer=100,
        max_unauthenticated=50,
        max_unauthenticated_per_peer=50,
        idle_timeout=60,
    )


class MonitorServer(Block, frozen=True, kw_only=True):
    """The local port with ``/healthz``, ``/readyz`` and ``/metrics``."""

    bind_address: str = "127.0.0.1:9091"
    """``HOST:PORT``; port 0 takes a free one."""
    enable_profiling: bool = False
    """Kept for upstream's files; there is no profiling endpoint here."""
    limits: HttpLimits = field(default_factory=small_limits)


class Logging(Block, frozen=True, kw_only=True):
    """*Ours.* What is logged; changed while it runs by SIGHUP (``systemctl reload``)."""

    level: LogLevel = "info"
    """What is below is left out; ``--log-level`` on the command line beats it."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or one object a line; ``--log-format`` beats it."""
    levels: dict[str, LogLevel] = {}
    """Other levels for single parts: ``{edge.edgehub: debug, cloud.cloudhub: warn}``."""


def split_address(address: str, what: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPv6]:PORT``.

    :param what: the key's path, for the error.
    :raises ConfigError: no port, or not a port.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(what, f"expected HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


def relocate(path: str, data_dir: Path) -> Path:
    """Move a path that is still upstream's default below the data directory.

    With the default data directory of root, ``/var/lib/kubeedge``, everything stays where
    upstream has it.
    """
    if data_dir != Path("/var/lib/kubeedge"):
        for folder in ("/etc/kubeedge/", "/var/lib/kubeedge/", "/var/lib/"):
            if path.startswith(folder):
                return data_dir / path.removeprefix(folder)
    return Path(path)
