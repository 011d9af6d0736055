"""What the machine says about itself: names and addresses."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.error import CannotListenError

from kubeedge_tx.errors import ConfigError

_SIOCGIFADDR = 0x8915


def host_name() -> str:
    """The machine's name as a node name: lower case, without a trailing dot."""
    return socket.gethostname().lower().rstrip(".")


def address_towards(host: str, port: int = 9) -> str:
    """The local address that packets to ``host`` leave from; ``127.0.0.1`` if there is no way.

    No packet is sent: connecting a datagram socket only picks the route.
    """
    for family, kind, protocol, _, target in _resolve(host, port):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(target)
                address: str = probe.getsockname()[0]
                return address
        except OSError:
            continue
    return "127.0.0.1"


def own_address() -> str:
    """The address of the default route; no packet is sent."""
    return address_towards("192.0.2.1")  # TEST-NET-1: routed like the world, belongs to nobody


def address_of(interface: str, what: str) -> str:
    """Read the IPv4 address of a network interface.

    :param what: the key's path, for the error.
    :raises ConfigError: there is no such interface, or it has no address.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
        except OSError as error:
            raise ConfigError(what, f"{interface!r} has no address: {error.strerror}") from None
    return socket.inet_ntoa(answer[20:24])


@contextmanager
def listening(what: str) -> Iterator[None]:
    """Say which key a port came from that cannot be listened on.

    :param what: the key's path.
    :raises ConfigError: instead of ``CannotListenError``.
    """
    try:
        yield
    except CannotListenError as error:
        why = getattr(error.socketError, "strerror", None) or error.socketError
        raise ConfigError(
            what,
            f"cannot listen on {error.interface or '*'}:{error.port}: {why}; stop what holds "
            "the port, or choose another one (0 takes a free one)",
        ) from None


def _resolve(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)  # type: ignore[return-value]
    except OSError:
        return []
