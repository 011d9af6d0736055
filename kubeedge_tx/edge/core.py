"""EdgeCore: builds every part of the edge, in the order of their start."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from kubeedge_tx import VERSION
from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.children import Child, Threads
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.beehive.service import ModuleService, OrderedService
from kubeedge_tx.beehive.steady import steady_seconds
from kubeedge_tx.config import host
from kubeedge_tx.config.edgecore import RELOADABLE, EdgeCoreConfig, Modules
from kubeedge_tx.config.types import relocate, split_address
from kubeedge_tx.edge import figures
from kubeedge_tx.edge.devicetwin.manager import DeviceTwin
from kubeedge_tx.edge.edged.machine import Usage, read_usage
from kubeedge_tx.edge.edged.manager import Edged
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.edge.edgehub.certificates import CertFiles, CertManager
from kubeedge_tx.edge.edgehub.hub import EdgeHub
from kubeedge_tx.edge.edgehub.tokenfile import blank_token
from kubeedge_tx.edge.eventbus.brokers import EXTERNAL, Brokers, make_brokers
from kubeedge_tx.edge.eventbus.bus import EventBus
from kubeedge_tx.edge.metamanager.manager import MetaManager
from kubeedge_tx.edge.settings import (
    check_name,
    hub_settings,
    log_limits,
    node_settings,
    outbox_limits,
)
from kubeedge_tx.errors import ContainerError
from kubeedge_tx.observe.bounds import Bounds
from kubeedge_tx.observe.delay import ReactorDelay
from kubeedge_tx.observe.doors import Doors
from kubeedge_tx.observe.figures import add_bus, add_modules
from kubeedge_tx.observe.httpd import StatusServer
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.process import add_process
from kubeedge_tx.runtime.interfaces import IContainerRuntime
from kubeedge_tx.runtime.process import ProcessRuntime
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.health import StoreHealth
from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.migrate import load_migrations
from kubeedge_tx.store.mqtt import MqttStore
from kubeedge_tx.store.outbox import Outbox
from kubeedge_tx.store.topics import TopicStore

_random = random.SystemRandom()

UPSTREAMS_PAUSE: Final = "kubeedge/pause:3.6"
"""The default of ``podSandboxImage``; here it stands for an image that needs no registry."""

_KINDS: Final = ("pod", "configmap", "secret", "node")
"""What ``/debug`` counts in the store."""


class EdgeCore(OrderedService):
    """The edge: everything between the WebSocket and the containers.

    :param data_dir: holds the store, keys, pods' volumes and, of processes, their logs.
    :param config_file: where the join token is removed from once it was used.
    :raises ConfigError: the node's name is none.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, config: EdgeCoreConfig, data_dir: Path, config_file: Path | None
    ) -> None:
        super().__init__(reactor)
        self.setName("edgecore")
        self._reactor = reactor
        self._config = config
        self._data_dir = data_dir
        self._config_file = config_file
        self._ports: dict[str, int] = {}
        self._waiting_for: str | None = "the start"
        self._looks: dict[str, Callable[[], Any]] = {}
        self._certs: CertManager | None = None
        self._take: Callable[[Modules], None] | None = None
        """How the parts that have started take over other settings."""
        self.metrics = Metrics()
        self._stores = StoreHealth(self.metrics)
        self.node_name = config.modules.edged.hostname_override or host.host_name()
        check_name(self.node_name)

    def ports(self) -> dict[str, int]:
        """The ports it listens on, by name; complete once started."""
        return dict(self._ports)

    def state(self, nodes: tuple[str, ...] = ()) -> dict[str, Any]:
        """What this edge is in the middle of, for ``/debug``; no secrets."""
        return {
            "role": "edge",
            "version": VERSION,
            "node": self.node_name,
            "waitingFor": self._waiting_for,
            "ports": self.ports(),
            **{name: look() for name, look in self._looks.items()},
        }

    def reload(self, config: EdgeCoreConfig) -> set[str]:
        """Take over what can change while it runs; returns the paths of those keys.

        A new join token is used when there is no certificate to connect with.

        :raises ConfigError: a server's address is none; nothing has changed.
        """
        if self._take is None:
            return set()
        self._take(config.modules)
        return set(RELOADABLE)

    async def start_children(self) -> None:
        """Start all parts. The cloud is not waited for: pods start from the store alone."""
        config, reactor = self._config, self._reactor
        modules = config.modules
        for path in config.not_in_this_version():
            self._log.warn("{path} is switched on but not in this version: ignored", path=path)

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
            state=self.state,
            remark=lambda: self._certs.problem if self._certs is not None else "",
        )
        with host.listening(where):
            await self.start_child(status)
        self._ports["metrics"] = status.port
        await self.start_child(ReactorDelay(reactor, self.metrics))
        add_process(self.metrics, VERSION)

        self._waiting_for = "the store"
        database = Database(
            reactor,
            relocate(config.database.data_source, self._data_dir),
            load_migrations("kubeedge_tx.store", "schema"),
        )
        self._stores.add(database)
        await self.start_child(Child("store", database.open, database.close))
        store = MetaStore(database)
        await store.load()
        outbox = Outbox(
            database,
            lambda: int(steady_seconds() * 1000),
            limits=outbox_limits(modules.edge_hub.outbox),
        )
        await outbox.load()

        self._waiting_for = "the container runtime"
        runtime = await self._start_runtime()

        self._waiting_for = "the modules"
        bus = MessageBus(reactor)
        messages = MessageFactory(_now_ms)
        certificates = self._certs = self._certificates()
        await self.start_child(certificates)
        hub = EdgeHub(
            reactor,
            bus,
            messages,
            outbox,
            settings=hub_settings(modules.edge_hub, self.node_name),
            credentials=certificates.credentials,
            random=_random,
            holdings=store.holdings,
            on_date=certificates.heard,
        )
        certificates.on_rotated = hub.reconnect

        def take(modules: Modules) -> None:
            hub.reconfigure(hub_settings(modules.edge_hub, self.node_name))
            certificates.use_token(modules.edge_hub.token)
            meta_manager.reconfigure(
                remote_query_timeout=float(modules.meta_manager.remote_query_timeout)
            )

        meta_manager = MetaManager(
            bus,
            messages,
            database=database,
            store=store,
            outbox=outbox,
            now_ms=_now_ms,
            remote_query_timeout=float(modules.meta_manager.remote_query_timeout),
        )
        self._take = take
        twin = DeviceTwin(
            bus,
            messages,
            reactor,
            database=database,
            objects=store,
            outbox=outbox,
            node=self.node_name,
            now_ms=_now_ms,
            new_id=_new_id,
        )
        threads = Threads(reactor, "files", 4)
        await self.start_child(threads)
        node = node_settings(
            modules.edged,
            name=self.node_name,
            data_dir=self._data_dir,
            cloud=modules.edge_hub.http_server,
        )
        edged = Edged(
            reactor,
            bus,
            messages,
            runtime,
            node=node,
            wall_clock=time.time,
            in_thread=threads.run,
            version=VERSION,
            report_events=modules.edged.report_event,
            usage=lambda: self._usage(node),
        )
        add_bus(self.metrics, bus)
        bounds = Bounds(self.metrics)
        figures.add_bounds(bounds, bus, outbox, store)
        figures.add_hub(self.metrics, hub)
        figures.add_store(self.metrics, meta_manager, outbox)
        figures.add_certificate(self.metrics, certificates)
        self._looks = {
            "registered": lambda: edged.node.is_told,
            "connection": lambda: {
                "up": hub.connected,
                "connects": hub.connects,
                "servers": hub.servers,
            },
            "certificate": certificates.state,
            "inboxes": bus.depths,
            "outbox": lambda: {
                "messages": len(outbox),
                "bytes": outbox.size_bytes,
                "oldestSeconds": outbox.oldest_seconds(),
                "lost": {why: lost[0] for why, lost in outbox.lost.items()},
            },
            "store": lambda: {kind: len(store.list(kind)) for kind in _KINDS},
            "runtime": lambda: runtime.name,
        }
        present: list[IModule] = [meta_manager]
        if modules.device_twin.enable:
            present.append(twin)
            figures.add_devices(self.metrics, twin)
        brokers = await self._brokers()
        if brokers is not None:
            events = EventBus(
                bus,
                messages,
                ports=brokers.ports,
                store=TopicStore(database),
                outbox=outbox,
                node=self.node_name,
            )
            present.append(events)
            figures.add_mqtt(self.metrics, events)
            figures.add_eventbus_bounds(bounds, events)
        present += [edged, hub]
        services = [ModuleService(module, bus, messages) for module in present]
        add_modules(self.metrics, services)
        for service in services:
            await self.start_child(service)
        if brokers is not None:
            with host.listening("modules.eventBus.mqttServerInternal"):
                for service in brokers.services:
                    await self.start_child(service)
            if brokers.own is not None:
                self._ports["mqtt"] = brokers.own.ports[0]
                brokers.own.add_metrics(self.metrics)
                brokers.own.add_bounds(bounds)
        self._waiting_for = None

    def _usage(self, node: NodeSettings) -> Usage:
        return replace(read_usage(node.root_dir), disk_problem=self._stores.problem() or "")

    async def _brokers(self) -> Brokers | None:
        config = self._config.modules.event_bus
        if not config.enable:
            return None
        store = None
        if config.mqtt_mode != EXTERNAL:
            database = Database(
                self._reactor,
                relocate(self._config.database.data_source, self._data_dir).with_name("mqtt.db"),
                load_migrations("kubeedge_tx.store", "schema_mqtt"),
            )
            self._stores.add(database)
            await self.start_child(Child("mqtt store", database.open, database.close))
            store = MqttStore(database)
        return make_brokers(
            self._reactor,
            config,
            data_dir=self._data_dir,
            store=store,
            random=_random,
            wall_clock=time.time,
        )

    async def _start_runtime(self) -> IContainerRuntime:
        edged = self._config.modules.edged
        logs = log_limits(edged.tailored_kubelet_config)
        if edged.runtime == "docker" or (
            edged.runtime == "auto" and _may_answer(edged.docker_address)
        ):
            # Imported here: an edge without Docker need not carry its SDK.
            from kubeedge_tx.runtime.docker import DockerRuntime
            from kubeedge_tx.runtime.docker_pause import PAUSE_IMAGE

            ours = edged.pod_sandbox_image == UPSTREAMS_PAUSE
            docker = DockerRuntime(
                self._reactor,
                base_url=edged.docker_address,
                sandbox_image=PAUSE_IMAGE if ours else edged.pod_sandbox_image,
                owner=self.node_name,
                logs=logs,
            )
            try:
                await docker.start()
            except ContainerError as error:
                if edged.runtime == "docker":
                    raise
                self._log.info("no Docker engine, so pods run as processes: {why}", why=error)
            else:
                await self.start_child(Child("docker", _nothing, docker.stop))
                return docker
        processes = ProcessRuntime(self._reactor, self._data_dir / "process", time.time, logs=logs)
        await self.start_child(Child("processes", processes.start, processes.stop))
        return processes

    def _certificates(self) -> CertManager:
        hub = self._config.modules.edge_hub
        return CertManager(
            self._reactor,
            self._reactor,
            https_url=hub.http_server,
            files=CertFiles(
                ca=relocate(hub.tls_ca_file, self._data_dir),
                cert=relocate(hub.tls_cert_file, self._data_dir),
                key=relocate(hub.tls_private_key_file, self._data_dir),
            ),
            token=hub.token,
            node_name=self.node_name,
            wall_clock=time.time,
            random=_random,
            on_token_used=self._forget_token,
            rotate=hub.rotate_certificates,
        )

    def _forget_token(self) -> None:
        if self._config_file is not None and blank_token(self._config_file):
            self._log.info("removed the used token from {file}", file=self._config_file)


def _nothing() -> None:
    """Do nothing: it runs already."""


def _may_answer(address: str) -> bool:
    """Whether a Docker engine could be there: its socket is, or it is not a local one."""
    local = address.removeprefix("unix://")
    return local == address or Path(local).exists()


def _now_ms() -> int:
    return int(time.time() * 1000)


def _new_id() -> str:
    return str(uuid.uuid4())
