"""What the types of ``cloudcore.yaml`` cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.types import split_address
from kubeedge_tx.errors import ConfigError


def check(config: CloudCoreConfig) -> Iterator[ConfigError]:
    """Find values of the right type that cannot be used all the same."""
    try:
        monitor = config.common_config.monitor_server.bind_address
        split_address(monitor, "commonConfig.monitorServer.bindAddress")
    except ConfigError as error:
        yield error
    for address in filter(None, config.modules.cloud_hub.advertise_address):
        try:
            ip_address(address)
        except ValueError:
            yield ConfigError(
                "modules.cloudHub.advertiseAddress",
                f"{address!r} is no IP address; names belong into dnsNames",
            )
