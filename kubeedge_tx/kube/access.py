"""Who we are to the API server, and through what we reach it."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

from urllib3.util.proxy import connection_requires_http_tunnel

from kubeedge_tx.kube import config
from kubeedge_tx.kube.connection import Connections

WAY_SECONDS: Final = 5.0
"""How long credentials are used before they are looked at again: they may be a plugin's."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach the server, good for some seconds."""

    connections: Connections
    prefix: bytes
    """What stands before paths."""
    head: bytes
    """Header lines that every request has: whom it is for, and what proves who we are."""
    until: float


class Access:
    """The official package's credentials and connections, without the rest of it.

    :param api: its ``ApiClient``; from :func:`kubeedge_tx.kube.config.load`.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        self._files = config.credentials(api)
        self._way: Way | None = None
        self._connections: Connections | None = None
        self._finding = Lock()

    @property
    def known(self) -> Way | None:
        """How to reach the server; ``None`` if that must be found (again)."""
        way = self._way
        return None if way is None or monotonic() >= way.until else way

    def find(self) -> Way:
        """Find how to reach the server. In a thread: it may run a credential plugin."""
        with self._finding:  # one thread asks the plugin, the others take what it said
            way = self.known
            if way is None:
                way = self._way = self._look(monotonic() + WAY_SECONDS)
            return way

    def authority(self) -> str:
        """Read the API server's CA, PEM; empty if its certificate is one of the system's.

        :raises ConfigError: the file cannot be read.
        """
        return config.authority(self._api)

    def _look(self, until: float) -> Way:
        api = self._api
        headers: dict[str, str] = {}
        api.update_params_for_auth(headers, None, ["BearerToken"], "", "", None)
        if config.credentials(api) != self._files:  # a plugin brought other certificates
            self._files = config.credentials(api)
            api.rest_client = type(api.rest_client)(api.configuration)
            self._connections = None
        host, manager = api.configuration.host.rstrip("/"), api.rest_client.pool_manager
        pool, url = manager.connection_from_url(host), urlsplit(host)
        proxy = getattr(manager, "proxy", None)
        tunnel = connection_requires_http_tunnel(proxy, pool.proxy_config, url.scheme)
        prefix = url.path
        if proxy is not None and not tunnel:  # such a proxy wants to see all of the address
            prefix = host
            headers |= dict(manager.proxy_headers)
        headers |= {"Host": url.netloc.rpartition("@")[2], "Accept": "application/json"}
        headers |= {"Accept-Encoding": "identity", "User-Agent": "kubeedge-tx"}
        lines = "".join(f"{name}: {_one_line(value)}\r\n" for name, value in headers.items())
        if self._connections is None:
            self._connections = Connections(pool, tunnel=tunnel)
        return Way(self._connections, prefix.encode(), lines.encode("latin-1"), until)


def _one_line(value: str) -> str:
    return value.replace("\r", "").replace("\n", "")
