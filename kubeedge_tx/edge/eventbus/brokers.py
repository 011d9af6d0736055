"""The brokers of EventBus, as the configuration has them: our own, another one, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from kubeedge_tx.config.edgecore import EventBus as EventBusConfig
from kubeedge_tx.config.types import relocate
from kubeedge_tx.edge.eventbus.outgoing import BusPort
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.mqtt.client import MqttClient
from kubeedge_tx.mqtt.clienteffects import ClientOptions
from kubeedge_tx.mqtt.packets import V5
from kubeedge_tx.mqtt.ports import BrokerPort, ClientPort
from kubeedge_tx.mqtt.server import Store
from kubeedge_tx.mqtt.service import Listener, MqttService
from kubeedge_tx.mqtt.settings import broker_limits, server_limits
from kubeedge_tx.security import foreign

INTERNAL: Final = 0
EXTERNAL: Final = 2
"""Modes: 0 has our own broker only, 2 another one only, 1 both."""

SESSION_EXPIRY: Final = 300
"""Seconds that the other broker keeps our subscriptions and what came for them."""

_PATH: Final = "modules.eventBus"
_PLAIN: Final = ("tcp", "mqtt")
_TLS: Final = ("ssl", "tls", "mqtts")


@dataclass(frozen=True, slots=True)
class Brokers:
    """What EventBus publishes on, and what has to run for that."""

    ports: Sequence[BusPort]
    services: Sequence[Any]
    """To be started after EventBus has subscribed, so that it misses nothing."""
    own: MqttService | None = None
    """Our own broker, if there is one."""


def make_brokers(
    reactor: Any,
    config: EventBusConfig,
    *,
    data_dir: Path,
    store: Store | None,
    random: Random,
    wall_clock: Callable[[], float],
) -> Brokers:
    """Make them; nothing is started.

    :param data_dir: where files are that stand at upstream's default place.
    :param store: of our own broker: sessions and retained messages.
    :param wall_clock: seconds since 1970.
    :raises ConfigError: a URL is none.
    """
    ports: list[BusPort] = []
    services: list[Any] = []
    own: MqttService | None = None
    if config.mqtt_mode != EXTERNAL:
        own = _own(reactor, config, store, random, wall_clock)
        services.append(own)
        ports.append(
            BusPort(
                name="internal",
                port=BrokerPort(own.server, "eventbus"),
                qos=config.mqtt_qos,
                retain=config.mqtt_retain,
            )
        )
    if config.mqtt_mode != INTERNAL:
        client = _client(reactor, config, data_dir, random, wall_clock)
        services.append(client)
        ports.append(BusPort(name="external", port=ClientPort(client)))
    return Brokers(ports, services, own)


def check(config: EventBusConfig) -> Iterator[ConfigError]:
    """Find addresses that are none."""
    for is_used, url, key, schemes in (
        (config.mqtt_mode != EXTERNAL, config.mqtt_server_internal, "mqttServerInternal", _PLAIN),
        (
            config.mqtt_mode != INTERNAL,
            config.mqtt_server_external,
            "mqttServerExternal",
            (*_PLAIN, *_TLS),
        ),
    ):
        try:
            if config.enable and is_used:
                _address(url, key, schemes)
        except ConfigError as error:
            yield error


def _own(
    reactor: Any,
    config: EventBusConfig,
    store: Store | None,
    random: Random,
    wall_clock: Callable[[], float],
) -> MqttService:
    _, host, port = _address(config.mqtt_server_internal, "mqttServerInternal", _PLAIN)
    return MqttService(
        reactor,
        [Listener(address=host, port=port)],
        limits=broker_limits(config.mqtt_limits, queue_messages=config.mqtt_session_queue_size),
        server_limits=server_limits(config.mqtt_limits),
        ids=lambda: f"auto-{random.getrandbits(80):020x}",
        wall_clock=wall_clock,
        store=store,
    )


def _client(
    reactor: Any,
    config: EventBusConfig,
    data_dir: Path,
    random: Random,
    wall_clock: Callable[[], float],
) -> MqttClient:
    scheme, host, port = _address(
        config.mqtt_server_external, "mqttServerExternal", (*_PLAIN, *_TLS)
    )
    is_tls = config.event_bus_tls.enable or scheme in _TLS
    client_id = (
        config.mqtt_sub_client_id
        or config.mqtt_pub_client_id
        or f"hub-client-sub-{int(wall_clock())}"
    )

    def endpoint() -> IStreamClientEndpoint:
        plain = HostnameEndpoint(reactor, host, port)
        return _with_tls(plain, host, config, data_dir) if is_tls else plain

    def options(version: int) -> ClientOptions:
        return ClientOptions(
            client_id=client_id,
            version=version,
            clean_start=version != V5,  # mosquitto 2.0.11 forgets a session begun otherwise
            session_expiry=SESSION_EXPIRY if version == V5 else 0,
            username=config.mqtt_username or None,
            password=config.mqtt_password.encode() if config.mqtt_password else None,
        )

    return MqttClient(reactor, endpoint, options, random=random, name=config.mqtt_server_external)


def _with_tls(
    plain: HostnameEndpoint, host: str, config: EventBusConfig, data_dir: Path
) -> IStreamClientEndpoint:
    """Read the files anew for each connection: they may have been renewed."""
    tls = config.event_bus_tls
    files = (tls.tls_mqtt_ca_file, tls.tls_mqtt_cert_file, tls.tls_mqtt_private_key_file)
    try:
        options = foreign.client(host, *(relocate(file, data_dir) for file in files))
    except ConfigError as error:
        raise ConfigError(f"{_PATH}.eventBusTLS", str(error)) from None
    endpoint: IStreamClientEndpoint = wrapClientTLS(options, plain)
    return endpoint


def _address(url: str, key: str, schemes: Sequence[str]) -> tuple[str, str, int]:
    """Read ``tcp://HOST:PORT``."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in schemes or not host or port is None:
        raise ConfigError(
            f"{_PATH}.{key}", f"expected tcp://HOST:PORT ({', '.join(schemes)}), got {url!r}"
        )
    return scheme, host, port
