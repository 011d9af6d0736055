"""CloudCore: builds every part of the cloud, in the order of their start."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kubeedge_tx import VERSION
from kubeedge_tx.api import resources
from kubeedge_tx.api.meta import uid as uid_of
from kubeedge_tx.apiserver.service import ApiServerService
from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.beehive.service import ModuleService, OrderedService
from kubeedge_tx.cloud import crds, figures
from kubeedge_tx.cloud.cloudhub.certserver import CertServer
from kubeedge_tx.cloud.cloudhub.expired import ExpiredNodes
from kubeedge_tx.cloud.cloudhub.hub import CloudHub
from kubeedge_tx.cloud.cloudhub.jointoken import JoinTokens
from kubeedge_tx.cloud.cloudhub.keystore import KeyStore, LocalFiles
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.cloud.devicecontroller.controller import DeviceController
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.controller import EdgeController
from kubeedge_tx.cloud.partitions import Partitions
from kubeedge_tx.cloud.patience import patiently
from kubeedge_tx.cloud.settings import check
from kubeedge_tx.cloud.synccontroller.controller import SyncController
from kubeedge_tx.cloud.synccontroller.objects import Wanted
from kubeedge_tx.config import host
from kubeedge_tx.config.cloudcore import RELOADABLE, CloudCoreConfig, Modules
from kubeedge_tx.config.types import relocate, split_address
from kubeedge_tx.kube.client import KubeClient
from kubeedge_tx.kube.informer import Informer, Informers
from kubeedge_tx.observe.bounds import Bounds
from kubeedge_tx.observe.delay import ReactorDelay
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.doors import Doors
from kubeedge_tx.observe.figures import add_bus, add_modules
from kubeedge_tx.observe.httpd import StatusServer
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.process import add_process
from kubeedge_tx.security import contexts
from kubeedge_tx.security.token import TOKENS_SECRET, is_revoked
from kubeedge_tx.store.health import StoreHealth

STOP_TIMEOUT: Final = 30.0
"""Seconds each part has to stop; sending many edges to other clouds takes a while."""

_DELIVERED: Final = (resources.NODES, resources.PODS, resources.CONFIGMAPS, resources.SECRETS)
"""What edges get, and confirm."""
_DEVICES: Final = (resources.DEVICES, resources.DEVICEMODELS)
"""The same, where there is a DeviceController."""


class CloudCore(OrderedService):
    """The cloud: everything between the Kubernetes API and the edges' sockets.

    :param data_dir: holds the embedded API's database, keys and ``admin.kubeconfig``.
    :raises ConfigError: an address is none.
    """

    _log = Logger()

    def __init__(self, reactor: Any, config: CloudCoreConfig, data_dir: Path) -> None:
        super().__init__(reactor, stop_timeout=STOP_TIMEOUT)
        self.setName("cloudcore")
        self._reactor = reactor
        self._config = config
        self._data_dir = data_dir
        self._ports: dict[str, int] = {}
        self._waiting_for: str | None = "the start"
        self._takers: dict[str, Callable[[Modules], None]] = {}
        """By block of the configuration: how a part that has started takes a new one over."""
        self._looks: dict[str, Callable[[], Any]] = {}
        self._nodes: Callable[[tuple[str, ...]], dict[str, Any]] = lambda nodes: {}
        for error in check(config):
            raise error
        self.metrics = Metrics()
        self._bounds = Bounds(self.metrics)
        self._stores = StoreHealth(self.metrics)

    def ports(self) -> dict[str, int]:
        """The ports it listens on, by name; complete once started."""
        return dict(self._ports)

    def stopService(self) -> Deferred[None]:
        """Stop; not ready from the first moment, so that nobody is sent here any more."""
        self._waiting_for = "nothing any more: it is stopping"
        return super().stopService()

    def state(self, nodes: tuple[str, ...] = ()) -> dict[str, Any]:
        """What this cloud is in the middle of, for ``/debug``; no secrets.

        :param nodes: whose particulars are wanted; without, those that are most behind.
        """
        return {
            "role": "cloud",
            "version": VERSION,
            "waitingFor": self._waiting_for,
            "ports": self.ports(),
            **{name: look() for name, look in self._looks.items()},
            "nodes": self._nodes(nodes),
        }

    def reload(self, config: CloudCoreConfig) -> set[str]:
        """Take over what can change while it runs; returns the paths of those keys.

        The join token is looked at again, too: one that was deleted is made anew.
        """
        for take in self._takers.values():
            take(config.modules)
        return {key for key in RELOADABLE if key.rpartition(".")[0] in self._takers}

    async def start_children(self) -> None:
        """Start all parts; each is built from what the ones before it found out."""
        config, reactor, metrics = self._config, self._reactor, self.metrics
        for path in config.not_in_this_version():
            self._log.warn("{path} is switched on but not in this version: ignored", path=path)

        where = "commonConfig.monitorServer.bindAddress"
        monitor = config.common_config.monitor_server
        interface, port = split_address(monitor.bind_address, where)
        doors = Doors(reactor, metrics)
        status = StatusServer(
            reactor,
            metrics,
            lambda: self._waiting_for or self._stores.problem(),
            interface=interface,
            port=port,
            door=doors.door("metrics", monitor.limits),
            limits=monitor.limits,
            state=self.state,
        )
        with host.listening(where):
            await self.start_child(status)
        self._ports["metrics"] = status.port
        await self.start_child(ReactorDelay(reactor, metrics))
        add_process(metrics, VERSION)

        self._waiting_for = "the Kubernetes API"
        client = KubeClient(reactor, kubeconfig=await self._find_api(doors), random=random.random)
        await self.start_child(client)
        await patiently(reactor, lambda: crds.ensure(client, reactor))
        device_settings = config.modules.device_controller
        delivered = (*_DELIVERED, *(_DEVICES if device_settings.enable else ()))
        informers = {
            kind: Informer(
                client,
                kind,
                clock=reactor,
                random=random.random,
                label_selector=f"{resources.EDGE_ROLE_LABEL}=" if kind is resources.NODES else "",
            )
            for kind in (
                *delivered,
                *((resources.DEVICESTATUSES,) if device_settings.enable else ()),
                resources.OBJECTSYNCS,
                resources.CLUSTEROBJECTSYNCS,
            )
        }
        await self.start_child(Informers(list(informers.values())))
        figures.add_api(metrics, client, informers.values())

        self._waiting_for = "keys and certificates"
        hub_config = config.modules.cloud_hub
        addresses = _given(hub_config.advertise_address) or (host.own_address(), "127.0.0.1")
        keystore = KeyStore(
            client,
            files=LocalFiles(
                ca_cert=relocate(hub_config.tls_ca_file, self._data_dir),
                ca_key=relocate(hub_config.tls_ca_key_file, self._data_dir),
                server_cert=relocate(hub_config.tls_cert_file, self._data_dir),
                server_key=relocate(hub_config.tls_private_key_file, self._data_dir),
            ),
            dns_names=_given(hub_config.dns_names) or (host.host_name(), "localhost"),
            addresses=addresses,
            wall_clock=time.time,
        )
        keys = await patiently(reactor, keystore.open)
        figures.add_certificates(metrics, keys, time.time)

        self._waiting_for = "CloudHub"
        bus = MessageBus(reactor)
        messages = MessageFactory(_now_ms)
        add_bus(metrics, bus)
        syncpoint = SyncPoint(
            reactor,
            client,
            informers[resources.OBJECTSYNCS],
            informers[resources.CLUSTEROBJECTSYNCS],
        )
        figures.add_sync(metrics, syncpoint)
        self._looks = {
            "inboxes": bus.depths,
            "syncPending": lambda: len(syncpoint),
            "syncWrites": lambda: syncpoint.writes,
            "caches": lambda: {kind.plural: len(each) for kind, each in informers.items()},
        }
        denials = Denials(reactor, metrics)
        hub = CloudHub(
            reactor,
            bus,
            messages,
            settings=hub_config,
            context_factory=contexts.hub_server(
                keys.authority.cert_pem, keys.server.cert_pem, keys.server.key_pem
            ),
            syncpoint=syncpoint,
            kube_ca=await client.ca_pem(),
            denials=denials,
            door=doors.door("websocket", hub_config.websocket_limits),
            metrics=metrics,
        )
        self._looks["sessions"] = lambda: len(hub.sessions)
        self._nodes = hub.nodes_state
        claims = Claims(
            reactor,
            client,
            hub,
            identity=f"{host.host_name()}-{uuid4().hex[:8]}",
            cloud_ip=addresses[0],
        )
        figures.add_claims(metrics, claims)
        edge_controller = EdgeController(
            bus,
            messages,
            client,
            nodes=informers[resources.NODES],
            pods=informers[resources.PODS],
            configmaps=informers[resources.CONFIGMAPS],
            secrets=informers[resources.SECRETS],
            claims=claims,
            now_ms=_now_ms,
            denials=denials,
            impersonate=hub_config.authorization.enable and not hub_config.authorization.debug,
            heartbeat=float(config.modules.edge_controller.node_update_frequency),
        )
        modules: list[Any] = [hub, edge_controller]
        wanted: Wanted | None = None
        if device_settings.enable:
            device_controller = DeviceController(
                reactor,
                bus,
                messages,
                client,
                nodes=informers[resources.NODES],
                devices=informers[resources.DEVICES],
                models=informers[resources.DEVICEMODELS],
                statuses=informers[resources.DEVICESTATUSES],
                sessions=claims,
                now_ms=_now_ms,
                denials=denials,
                metrics=metrics,
                report_window=device_settings.report_window,
                deadband=device_settings.deadband,
            )
            modules.append(device_controller)
            wanted = device_controller.downstream.wanted
            self._takers["modules.deviceController"] = lambda modules: (
                device_controller.reconfigure(
                    report_window=modules.device_controller.report_window,
                    deadband=modules.device_controller.deadband,
                )
            )
        if config.modules.sync_controller.enable:
            sync_controller = SyncController(
                bus,
                messages,
                client,
                reactor,
                object_syncs=informers[resources.OBJECTSYNCS],
                cluster_object_syncs=informers[resources.CLUSTEROBJECTSYNCS],
                nodes=informers[resources.NODES],
                objects=[informers[kind] for kind in delivered],
                wanted=wanted,
                confirmations=syncpoint,
            )
            modules.append(sync_controller)
            figures.add_repairs(metrics, sync_controller)
        partitions = Partitions(
            reactor,
            client,
            nodes=informers[resources.NODES],
            pods=informers[resources.PODS],
            metrics=metrics,
        )
        await self.start_child(partitions)
        figures.add_bounds(self._bounds, hub_config, bus, hub, edge_controller)
        services = [ModuleService(module, bus, messages) for module in modules]
        add_modules(metrics, services)
        for service in services:
            await self.start_child(service)

        tokens = JoinTokens(
            reactor,
            keystore,
            keys.authority,
            refresh_hours=hub_config.token_refresh_duration,
            wall_clock=time.time,
        )
        await self.start_child(tokens)
        expired = ExpiredNodes(
            reactor,
            client,
            metrics,
            wall_clock=time.time,
            uid=lambda name: uid_of(informers[resources.NODES].get("", name) or {}),
        )
        await self.start_child(expired)
        certificates = CertServer(
            reactor,
            authority=keys.authority,
            server_pair=keys.server,
            node_exists=lambda name: informers[resources.NODES].get("", name) is not None,
            wall_clock=time.time,
            signing_days=hub_config.edge_cert_signing_duration,
            interface=hub_config.https.address,
            port=hub_config.https.port,
            door=doors.door("https", hub_config.https_limits),
            limits=hub_config.https_limits,
            legacy=hub_config.legacy_certificates,
            revoked=lambda identity: _is_revoked(informers[resources.SECRETS], identity),
            on_expired=expired.seen,
        )
        with host.listening("modules.cloudHub.https.port"):
            await self.start_child(certificates)
        self._ports["https"] = certificates.port
        with host.listening("modules.cloudHub.websocket.port"):
            await self.start_child(hub)
        self._ports["websocket"] = hub.port

        def take(modules: Modules) -> None:
            news = modules.cloud_hub
            hub.reconfigure(news)
            certificates.reconfigure(
                signing_days=news.edge_cert_signing_duration, legacy=news.legacy_certificates
            )
            tokens.refresh(news.token_refresh_duration)

        self._takers["modules.cloudHub"] = take
        self._waiting_for = None

    async def _find_api(self, doors: Doors) -> Path | None:
        """Start the embedded API, unless there is a cluster; returns the kubeconfig."""
        kube_config = self._config.kube_api_config.kube_config
        if kube_config == "in-cluster":
            return None
        if kube_config:
            return Path(kube_config)
        settings = self._config.modules.api_server
        server = ApiServerService(
            self._reactor,
            data_dir=self._data_dir,
            interface=settings.address,
            port=settings.port,
            wall_clock=time.time,
            doors=doors,
            settings=settings,
        )
        self._bounds.add("api-write-backlog", settings.write_backlog, lambda: server.backlog)
        self._bounds.add("api-watch-history", settings.watch_history, lambda: server.history)
        self._stores.add(server.database)
        await self.start_child(server)
        self._ports["api"] = server.port
        return server.kubeconfig


def _is_revoked(secrets: Informer, identity: str) -> bool:
    """Whether somebody has revoked a join token, by `keadm gettoken revoke`."""
    notes = ((secrets.get("kubeedge", TOKENS_SECRET) or {}).get("data")) or {}
    try:
        return is_revoked(base64.b64decode(notes.get(identity, "")))
    except (ValueError, TypeError):
        return False


def _given(names: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out empty texts: upstream's default for ``dnsNames`` is one."""
    return tuple(filter(None, names))


def _now_ms() -> int:
    return int(time.time() * 1000)
