"""``twistd kubeedge-mqtt``: the broker alone."""

from __future__ import annotations

import ipaddress
import random
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace
from twisted.application.service import IService
from twisted.logger import Logger

from kubeedge_tx import VERSION
from kubeedge_tx.beehive.children import Child, Threads
from kubeedge_tx.beehive.service import OrderedService
from kubeedge_tx.config import host
from kubeedge_tx.config.mqtt import MqttConfig, MqttListener
from kubeedge_tx.config.types import split_address
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.mqtt.service import Doorkeeper, Listener, MqttService
from kubeedge_tx.mqtt.settings import broker_limits, server_limits
from kubeedge_tx.observe.bounds import Bounds
from kubeedge_tx.observe.delay import ReactorDelay
from kubeedge_tx.observe.doors import Doors
from kubeedge_tx.observe.httpd import StatusServer
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.process import add_process
from kubeedge_tx.security import foreign
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.health import StoreHealth
from kubeedge_tx.store.migrate import load_migrations
from kubeedge_tx.store.mqtt import MqttStore
from kubeedge_tx.tap.role import RoleOptions, RoleService

_random: Final = random.SystemRandom()


class Options(RoleOptions[MqttConfig]):
    """The broker's command line."""

    form = MqttConfig
    minimal = ("listeners", "allowAnonymous", "passwordFile", "aclFile")
    optParameters = [  # noqa: RUF012 - usage.Options wants a list
        ["port", None, None, "port of the first listener; 0 takes a free one", int],  # type: ignore[list-item]
    ]

    def apply(self) -> None:
        if self["port"] is None:
            return
        if not 0 <= self["port"] <= 65535:
            raise ConfigError("--port", "expected 0 to 65535")
        first, *others = self.config.listeners
        self.config = replace(self.config, listeners=(replace(first, port=self["port"]), *others))


def makeService(options: Options) -> IService:
    """Build the broker's service; nothing is opened before it starts."""
    from twisted.internet import reactor

    return service(reactor, options)


def service(reactor: Any, options: Options) -> RoleService:
    """Build the broker's service on any reactor."""

    def build() -> Any:
        return MqttCore(reactor, options.config, options.data_dir)

    return RoleService(reactor, options, build, "kubeedge-mqtt")


class MqttCore(OrderedService):
    """The broker and what it needs around it.

    :raises ConfigError: a file that the configuration names cannot be used.
    """

    _log = Logger()

    def __init__(self, reactor: Any, config: MqttConfig, data_dir: Path) -> None:
        super().__init__(reactor)
        self.setName("mqtt")
        self._reactor = reactor
        self._config = config
        self._data_dir = data_dir
        self._ports: dict[str, int] = {}
        self._waiting_for: str | None = "the start"
        self._broker: MqttService | None = None
        self.metrics = Metrics()
        self._stores = StoreHealth(self.metrics)

    def ports(self) -> dict[str, int]:
        """``mqtt`` is the first listener, ``mqtt-2`` the second and so on; and ``metrics``."""
        return dict(self._ports)

    def reload(self, config: MqttConfig) -> set[str]:
        """Read the password and access files again; keys need a restart."""
        if self._broker is not None:
            self._broker.look()
        return set()

    async def start_children(self) -> None:
        """Start all parts."""
        config, reactor = self._config, self._reactor
        _raise_file_limit()
        where = "commonConfig.monitorServer.bindAddress"
        monitor = config.common_config.monitor_server
        interface, port = split_address(monitor.bind_address, where)
        status = StatusServer(
            reactor,
            self.metrics,
            lambda: self._waiting_for or self._stores.problem(),
            interface=interface,
            port=port,
            door=Doors(reactor, self.metrics).door("metrics", monitor.limits),
            limits=monitor.limits,
        )
        with host.listening(where):
            await self.start_child(status)
        await self.start_child(ReactorDelay(reactor, self.metrics))
        add_process(self.metrics, VERSION)
        threads = Threads(reactor, "passwords", 2)
        await self.start_child(threads)

        self._waiting_for = "the store"
        store = None
        if config.persistence:
            database = Database(
                reactor,
                self._data_dir / "mqtt.db",
                load_migrations("kubeedge_tx.store", "schema_mqtt"),
            )
            self._stores.add(database)
            await self.start_child(Child("store", database.open, database.close))
            store = MqttStore(database)

        self._waiting_for = "the listeners"
        broker = self._broker = MqttService(
            reactor,
            [self._listener(each, at) for at, each in enumerate(config.listeners)],
            limits=broker_limits(config.limits),
            ids=lambda: f"auto-{_random.getrandbits(80):020x}",
            wall_clock=time.time,
            store=store,
            doorkeeper=self._doorkeeper(threads),
            server_limits=server_limits(config.limits),
        )
        await self.start_child(broker)
        broker.add_metrics(self.metrics)
        broker.add_bounds(Bounds(self.metrics))
        for at, port in enumerate(broker.ports):
            self._ports[f"mqtt-{at + 1}" if at else "mqtt"] = port
        self._ports["metrics"] = status.port
        self._waiting_for = None

    def _doorkeeper(self, threads: Threads) -> Doorkeeper:
        config = self._config
        allow = config.allow_anonymous
        if allow is None:
            local = all(_is_loopback(each.address) for each in config.listeners)
            allow = local and not config.password_file
        may_identify = any(
            each.tls is not None and each.tls.use_identity_as_username for each in config.listeners
        )
        if not allow and not config.password_file and not may_identify:
            raise ConfigError(
                "allowAnonymous",
                "nobody could connect: set it to true, or give a passwordFile, or "
                "tls.useIdentityAsUsername",
            )
        return Doorkeeper(
            threads.run,
            allow_anonymous=allow,
            password_file=self._path(config.password_file),
            acl_file=self._path(config.acl_file),
        )

    def _listener(self, config: MqttListener, at: int) -> Listener:
        tls = None
        if config.tls is not None:
            try:
                tls = foreign.server(
                    self._data_dir / config.tls.cert_file,
                    self._data_dir / config.tls.key_file,
                    self._path(config.tls.ca_file),
                    require=config.tls.require_certificate or config.tls.use_identity_as_username,
                )
            except ConfigError as error:
                raise ConfigError(f"listeners[{at}].tls: {error.path}", error.reason) from None
        return Listener(
            address=config.address,
            port=config.port,
            is_websocket=config.protocol == "websockets",
            tls=tls,
            is_identified=config.tls is not None and config.tls.use_identity_as_username,
        )

    def _path(self, name: str) -> Path | None:
        """A file that the configuration names; relative ones are below the data directory."""
        return self._data_dir / name if name else None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _raise_file_limit() -> None:
    """A connection is an open file, and distributions start processes with 1,024 of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
