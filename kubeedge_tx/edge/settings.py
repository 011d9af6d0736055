"""From ``edgecore.yaml`` to what the modules are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from kubeedge_tx.api import quantity
from kubeedge_tx.config import edgecore as config
from kubeedge_tx.config import host
from kubeedge_tx.config.types import relocate, split_address
from kubeedge_tx.edge.edged.containers import ClusterNames
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.edge.edgehub.certclient import split_url
from kubeedge_tx.edge.edgehub.connector import EdgeHubSettings, split_server
from kubeedge_tx.edge.eventbus import brokers
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.runtime.interfaces import LogLimits
from kubeedge_tx.security.identity import is_node_name
from kubeedge_tx.store.outbox import OutboxLimits

MIN_LOG_BYTES: Final = 64 * 1024
"""The smallest log file of a container: a few of the longest lines."""


def check(whole: config.EdgeCoreConfig) -> Iterator[ConfigError]:
    """Find values of the right type that cannot be used all the same."""
    modules = whole.modules
    hub, name = modules.edge_hub, modules.edged.hostname_override
    monitor = whole.common_config.monitor_server.bind_address
    looks: list[Callable[[], object]] = [
        partial(split_address, monitor, "commonConfig.monitorServer.bindAddress"),
        partial(split_url, hub.http_server),
        *(partial(split_server, each.strip()) for each in hub.websocket.server.split(",")),
        partial(log_limits, modules.edged.tailored_kubelet_config),
    ]
    if name:
        looks.append(partial(check_name, name))
    for look in looks:
        try:
            look()
        except ConfigError as error:
            yield error
    yield from brokers.check(modules.event_bus)


def check_name(name: str) -> None:
    """See whether a node can be called so.

    :raises ConfigError: it cannot.
    """
    if not is_node_name(name):
        raise ConfigError(
            "modules.edged.hostnameOverride",
            f"{name!r} is no node name: lower-case letters, digits, '-' and '.', "
            "at most 253, beginning and ending with a letter or digit",
        )


def hub_settings(hub: config.EdgeHub, node_name: str) -> EdgeHubSettings:
    """What EdgeHub needs."""
    return EdgeHubSettings(
        node_name=node_name,
        servers=tuple(server.strip() for server in hub.websocket.server.split(",")),
        project_id=hub.project_id,
        heartbeat=float(hub.heartbeat),
        message_qps=float(hub.message_qps),
        message_burst=float(hub.message_burst),
        handshake_timeout=float(hub.websocket.handshake_timeout),
        write_deadline=float(hub.websocket.write_deadline),
        window=hub.ack_window,
        longest_delay=float(hub.longest_reconnect_delay),
    )


def outbox_limits(outbox: config.Outbox) -> OutboxLimits:
    """What the outbox may hold."""
    return OutboxLimits(
        max_bytes=outbox.max_bytes,
        max_messages=outbox.max_messages,
        max_age_seconds=outbox.max_age_hours * 3600.0,
    )


def log_limits(kubelet: config.TailoredKubeletConfig) -> LogLimits:
    """How much of a container's output is kept.

    :raises ConfigError: the size is no quantity, or less than a line.
    """
    path = "modules.edged.tailoredKubeletConfig.containerLogMaxSize"
    try:
        size = quantity.whole(kubelet.container_log_max_size)
    except ValueError:
        raise ConfigError(path, "expected a quantity, such as 10Mi") from None
    if size < MIN_LOG_BYTES:
        raise ConfigError(path, f"expected at least {MIN_LOG_BYTES} bytes")
    return LogLimits(file_bytes=size, files=max(2, kubelet.container_log_max_files))


def node_settings(edged: config.Edged, *, name: str, data_dir: Path, cloud: str) -> NodeSettings:
    """What Edged needs.

    :param cloud: a URL; a node without a given address has the one that it talks to it from.
    :raises ConfigError: the named network interface has no address.
    """
    kubelet = edged.tailored_kubelet_config
    if edged.node_ip:
        address = edged.node_ip
    elif edged.custom_interface_name:
        address = host.address_of(edged.custom_interface_name, "modules.edged.customInterfaceName")
    else:
        address = host.address_towards(urlsplit(cloud).hostname or "localhost")
    return NodeSettings(
        name=name,
        ip=address,
        root_dir=relocate(edged.root_directory, data_dir),
        labels=edged.node_labels,
        taints=tuple(msgspec.to_builtins(taint) for taint in kubelet.register_with_taints or ()),
        register=kubelet.register_node,
        schedulable=edged.register_schedulable,
        max_pods=kubelet.max_pods,
        names=ClusterNames(dns=tuple(kubelet.cluster_dns or ()), domain=kubelet.cluster_domain),
        status_update_seconds=config.seconds(kubelet.node_status_update_frequency),
        status_report_seconds=config.seconds(kubelet.node_status_report_frequency),
        lease_seconds=kubelet.node_lease_duration_seconds,
        image_gc_high_percent=float(kubelet.image_gc_high_threshold_percent),
        image_gc_low_percent=float(kubelet.image_gc_low_threshold_percent),
        dead_containers=edged.max_per_pod_container_count,
    )
