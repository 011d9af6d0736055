"""What ``join`` and ``check`` know of an edge: its configuration and what to look at."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.config.types import relocate, split_address
from kubeedge_tx.keadm import cloudprobes, probes
from kubeedge_tx.keadm.cloudprobes import Cloud
from kubeedge_tx.keadm.places import Places
from kubeedge_tx.keadm.probes import Machine, Result


def node_name(config: EdgeCoreConfig) -> str:
    """The node's name: what the file says, or the host's."""
    override = config.modules.edged.hostname_override
    return override or socket.gethostname().lower().rstrip(".")


def cloud_of(places: Places, config: EdgeCoreConfig) -> Cloud:
    """The cloud that a configuration names."""
    hub = config.modules.edge_hub
    url = urlsplit(hub.http_server)
    _, hub_port = split_address(
        hub.websocket.server.split(",")[0], "modules.edgeHub.websocket.server"
    )
    return Cloud(
        host=url.hostname or "",
        hub_port=hub_port,
        cert_port=url.port or 10002,
        token=hub.token,
        node=node_name(config),
        ca_file=relocate(hub.tls_ca_file, places.data_dir),
        cert_file=relocate(hub.tls_cert_file, places.data_dir),
    )


def machine_of(places: Places, config: EdgeCoreConfig, *, running: bool) -> Machine:
    """What of this machine a configuration needs."""
    modules = config.modules
    where = "commonConfig.monitorServer.bindAddress"
    listens = [(where, *split_address(config.common_config.monitor_server.bind_address, where))]
    bus = modules.event_bus
    broker = None
    if bus.enable:
        if bus.mqtt_mode < 2:
            key = "modules.eventBus.mqttServerInternal"
            listens.append((key, *_endpoint(bus.mqtt_server_internal, 1884)))
        if bus.mqtt_mode > 0:
            broker = _endpoint(bus.mqtt_server_external, 1883)
    return Machine(
        node=node_name(config),
        data_dir=places.data_dir,
        runtime=modules.edged.runtime,
        docker_address=modules.edged.docker_address,
        cgroup_driver=modules.edged.tailored_kubelet_config.cgroup_driver,
        listens=tuple(listens),
        broker=broker,
        running=running,
    )


def probe(places: Places, config: EdgeCoreConfig, *, running: bool) -> list[Result]:
    """Run every probe."""
    return [
        *probes.local(machine_of(places, config, running=running)),
        *cloudprobes.all_of(cloud_of(places, config)),
    ]


def owned_files(places: Places, config: EdgeCoreConfig) -> list[Path]:
    """The files of an edge that may be outside its data directory."""
    hub = config.modules.edge_hub
    certs = [hub.tls_ca_file, hub.tls_cert_file, hub.tls_private_key_file]
    paths = [relocate(path, places.data_dir) for path in certs]
    store = relocate(config.database.data_source, places.data_dir)
    paths.append(paths[2].with_name(f"{paths[2].name}.next"))
    paths += [store, *(store.with_name(store.name + end) for end in ("-wal", "-shm"))]
    root = relocate(config.modules.edged.root_directory, places.data_dir)
    return [*paths, root / "pods", root / "contact.json"]


def _endpoint(url: str, default: int) -> tuple[str, int]:
    parts = urlsplit(url if "//" in url else f"tcp://{url}")
    return parts.hostname or "127.0.0.1", parts.port or default
