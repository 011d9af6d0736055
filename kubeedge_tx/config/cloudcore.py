"""The cloud's configuration: ``cloudcore.yaml`` with upstream's keys and defaults.

Source: KubeEdge ``staging/src/github.com/kubeedge/api/apis/componentconfig/cloudcore/v1alpha1``.
Keys that upstream does not have are marked *ours*.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from kubeedge_tx.config.types import (
    Block,
    Count,
    HttpLimits,
    ListenerLimits,
    Logging,
    MonitorServer,
    NotNegative,
    Port,
    Positive,
)


class KubeAPIConfig(Block, frozen=True, kw_only=True):
    """How to reach the Kubernetes API; without ``kubeConfig`` the embedded one is used."""

    master: str = ""
    """URL that overrides the one in the kubeconfig. Not in this version."""
    content_type: str = "application/vnd.kubernetes.protobuf"
    """Kept for upstream's files; we speak JSON."""
    qps: Count = 0
    """Kept for upstream's files; eight connections are the limit, not a rate."""
    burst: Count = 0
    """Kept for upstream's files."""
    kube_config: str = ""
    """Path of a kubeconfig, or ``in-cluster``."""


class CommonConfig(Block, frozen=True, kw_only=True):
    """What belongs to the process."""

    tunnel_port: Port = 10350
    """Kept for upstream's files."""
    monitor_server: MonitorServer = field(default_factory=MonitorServer)
    logging: Logging = field(default_factory=Logging)


class Listener(Block, frozen=True, kw_only=True):
    """A port that is listened on."""

    enable: bool = True
    address: str = "0.0.0.0"  # noqa: S104 - edges come from anywhere; upstream's default
    port: Port = 10000


class Quic(Block, frozen=True, kw_only=True):
    """Kept for upstream's files: Google QUIC is not spoken here."""

    enable: bool = False
    address: str = "0.0.0.0"  # noqa: S104 - upstream's default
    port: Port = 10001
    max_incoming_streams: Positive = 10000


class UnixSocket(Block, frozen=True, kw_only=True):
    """Kept for upstream's files: the CSI driver's socket is not served."""

    enable: bool = True
    address: str = "unix:///var/lib/kubeedge/kubeedge.sock"


class AuthorizationMode(Block, frozen=True, kw_only=True):
    """One way to authorize."""

    class Node(Block, frozen=True, kw_only=True):
        """The Kubernetes node authorizer."""

        enable: bool = True

    node: Node | None = None


class Authorization(Block, frozen=True, kw_only=True):
    """Let the API server judge what a node asks for, beside our own rules, which always hold."""

    enable: bool = False
    debug: bool = True
    """While true, ``enable`` does nothing; otherwise calls for a node impersonate it."""
    modes: tuple[AuthorizationMode, ...] = (AuthorizationMode(node=AuthorizationMode.Node()),)
    """Which authorizers are asked; only ``node`` exists."""


class CloudHub(Block, frozen=True, kw_only=True):
    """The WebSocket server for edges, and the certificate service."""

    enable: bool = True
    """Kept for upstream's files (its ``--minconfig`` prints ``false``); always on."""
    keepalive_interval: Positive = 30
    """Seconds without a ``keepalive`` message after which a node is cut."""
    node_limit: Positive = 500
    """Nodes connected at once."""
    tls_ca_file: str = field(default="/etc/kubeedge/ca/rootCA.crt", name="tlsCAFile")
    """PEM; the authority that edges trust, if you bring your own; else the cluster's secret."""
    tls_ca_key_file: str = field(default="/etc/kubeedge/ca/rootCA.key", name="tlsCAKeyFile")
    """PEM; its key."""
    tls_cert_file: str = field(default="/etc/kubeedge/certs/server.crt", name="tlsCertFile")
    """PEM; the cloud's certificate, if you bring your own."""
    tls_private_key_file: str = field(
        default="/etc/kubeedge/certs/server.key", name="tlsPrivateKeyFile"
    )
    """PEM; its key."""
    write_timeout: Positive = 30
    """Kept for upstream's files; a peer that takes nothing for 15 s is cut."""
    advertise_address: tuple[str, ...] = ()
    """IP addresses that edges use; empty: this machine's own."""
    dns_names: tuple[str, ...] = ()
    """Host names that edges use."""
    edge_cert_signing_duration: Positive = 365
    """Days that an edge's certificate is valid."""
    token_refresh_duration: Positive = 12
    """Hours between new join tokens; a token lives twice as long."""
    quic: Quic = field(default_factory=Quic)
    unixsocket: UnixSocket = field(default_factory=UnixSocket)
    websocket: Listener = field(default_factory=Listener)
    https: Listener = field(default_factory=lambda: Listener(port=10002))
    authorization: Authorization = field(default_factory=Authorization)
    ack_window: Positive = 32
    """*Ours.* Objects in flight to an edge of our own kind; a Go edge gets 1."""
    connect_rate: Positive = 100
    """*Ours.* Nodes a second that may connect on average, and five times as many at once; the
    others get 503 and a time of their own to come again (``Retry-After``). A restarted cloud is
    not overrun by its edges."""
    drain_seconds: Count = 5
    """*Ours.* Seconds over which a cloud that stops sends its edges to others, at most; 100 edges
    a second (``connectRate``) if there are few."""
    queue_objects: Positive = 16_384
    """*Ours.* Objects that may wait for one node; what comes beyond is sent when it connects."""
    queue_messages: Positive = 1_024
    """*Ours.* Messages without acknowledgement that may wait for one node; the oldest goes."""
    message_rate: Positive = 1000
    """*Ours.* Messages a second that one node may send on average, and twice as many at once; it
    is read more slowly otherwise. What it acknowledges is not counted."""
    creation_rate: Positive = 30
    """*Ours.* Objects a second that one node may make on average, Events above all, and thirty
    times as many at once; what is beyond is refused, and counted. Not less than the edges'
    ``messageQPS``, or Events are lost."""
    max_message_bytes: Annotated[int, Meta(ge=1024 * 1024, le=32 * 1024 * 1024)] = 32 * 1024 * 1024
    """*Ours.* The longest message an edge may send; a Go edge sends up to 32 MiB."""
    websocket_limits: ListenerLimits = field(default_factory=ListenerLimits)
    https_limits: HttpLimits = field(default_factory=HttpLimits)
    legacy_certificates: bool = False
    """*Ours.* Accept edges whose certificate says ``KubeEdge/kubeedge.io`` and no node."""


class EdgeControllerBuffer(Block, frozen=True, kw_only=True):
    """Kept for upstream's files: our queues grow with the work and wait when full."""

    update_pod_status: Count = 1024
    update_node_status: Count = 1024
    query_config_map: Count = 1024
    query_secret: Count = 1024
    query_persistent_volume: Count = 1024
    query_persistent_volume_claim: Count = 1024
    query_volume_attachment: Count = 1024
    create_node: Count = 1024
    patch_node: Count = 1274
    query_node: Count = 1524
    update_node: Count = 1024
    create_pod: Count = 1024
    patch_pod: Count = 1024
    delete_pod: Count = 1024
    create_lease: Count = 1524
    query_lease: Count = 1024
    service_account_token: Count = 1024
    certificate_signing_request: Count = 1024
    process_event: Count = 1024
    pod_event: Count = 1
    config_map_event: Count = 1
    secret_event: Count = 1
    rules_event: Count = 1
    rule_endpoints_event: Count = 1


class EdgeControllerLoad(Block, frozen=True, kw_only=True):
    """Kept for upstream's files: our workers are one pool, serial for each object."""

    update_pod_status_workers: Count = 1
    update_node_status_workers: Count = 1
    query_config_map_workers: Count = 100
    query_secret_workers: Count = 100
    query_persistent_volume_workers: Count = 4
    query_persistent_volume_claim_workers: Count = 4
    query_volume_attachment_workers: Count = 4
    create_node_workers: Count = 100
    patch_node_workers: Count = 110
    query_node_workers: Count = 500
    update_node_workers: Count = 4
    patch_pod_workers: Count = 100
    delete_pod_workers: Count = 100
    create_lease_workers: Count = 500
    query_lease_workers: Count = 100
    update_rule_status_workers: Count = field(default=4, name="UpdateRuleStatusWorkers")
    service_account_token_workers: Count = field(default=100, name="ServiceAccountTokenWorkers")
    create_pod_works: Count = field(default=4, name="CreatePodWorks")
    certificate_signing_request_workers: Count = 4
    process_event_workers: Count = 4


class EdgeController(Block, frozen=True, kw_only=True):
    """Kubernetes objects down, status up."""

    enable: bool = True
    node_update_frequency: Positive = 10
    """Seconds; a condition's heartbeat older than this is replaced by now."""
    buffer: EdgeControllerBuffer = field(default_factory=EdgeControllerBuffer)
    load: EdgeControllerLoad = field(default_factory=EdgeControllerLoad)


class DeviceControllerBuffer(Block, frozen=True, kw_only=True):
    """Kept for upstream's files."""

    update_device_twins: Count = 1024
    update_device_status: Count = 1024
    device_event: Count = 1
    device_model_event: Count = 1
    device_status_event: Count = 0


class DeviceControllerLoad(Block, frozen=True, kw_only=True):
    """Kept for upstream's files."""

    update_device_status_workers: Count = 1


class DeviceController(Block, frozen=True, kw_only=True):
    """Devices down, twins up."""

    enable: bool = True
    buffer: DeviceControllerBuffer = field(default_factory=DeviceControllerBuffer)
    load: DeviceControllerLoad = field(default_factory=DeviceControllerLoad)
    report_window: Positive = 1
    """*Ours.* Seconds between two writes to the cluster about one device."""
    deadband: NotNegative = 0.0
    """*Ours.* A reported number that differs by no more than this from the one that is in the
    cluster is not written."""


class TaskManagerBuffer(Block, frozen=True, kw_only=True):
    """Kept for upstream's files."""

    task_status: Count = 1024
    task_event: Count = 1


class TaskManagerLoad(Block, frozen=True, kw_only=True):
    """Kept for upstream's files."""

    task_workers: Count = 1


class TaskManager(Block, frozen=True, kw_only=True):
    """Upgrade and image jobs. Not in this version."""

    enable: bool = False
    buffer: TaskManagerBuffer = field(default_factory=TaskManagerBuffer)
    load: TaskManagerLoad = field(default_factory=TaskManagerLoad)


class SyncController(Block, frozen=True, kw_only=True):
    """Compares what edges confirmed with the cluster, and mends the difference."""

    enable: bool = True


class DynamicController(Block, frozen=True, kw_only=True):
    """Answers the edges' MetaServer. Not in this version."""

    enable: bool = False


class CloudStream(Block, frozen=True, kw_only=True):
    """Logs, exec and metrics through a tunnel. Not in this version."""

    enable: bool = False
    tls_tunnel_ca_file: str = field(default="/etc/kubeedge/ca/rootCA.crt", name="tlsTunnelCAFile")
    tls_tunnel_cert_file: str = "/etc/kubeedge/certs/server.crt"
    tls_tunnel_private_key_file: str = "/etc/kubeedge/certs/server.key"
    tunnel_port: Port = 10004
    tls_stream_ca_file: str = field(default="/etc/kubeedge/ca/streamCA.crt", name="tlsStreamCAFile")
    tls_stream_cert_file: str = "/etc/kubeedge/certs/stream.crt"
    tls_stream_private_key_file: str = "/etc/kubeedge/certs/stream.key"
    stream_port: Port = 10003


class Router(Block, frozen=True, kw_only=True):
    """Rules between cloud REST, MQTT and HTTP on the edge. Not in this version."""

    enable: bool = False
    address: str = "0.0.0.0"  # noqa: S104 - upstream's default
    port: Port = 9443
    rest_timeout: Positive = 60


class IptablesManager(Block, frozen=True, kw_only=True):
    """Kept for upstream's files: nothing here needs iptables."""

    enable: bool = True
    mode: Literal["internal", "external"] = "internal"


class ApiServer(Block, frozen=True, kw_only=True):
    """*Ours.* The embedded Kubernetes API, used when there is no ``kubeConfig``."""

    address: str = "127.0.0.1"
    port: Port = 6443
    watch_history: Positive = 10_000
    """Changes of one kind that a watch may lag behind; who is further behind lists anew."""
    write_backlog: Positive = 10_000
    """Writes that may wait for the disk; beyond it the answer is 429."""
    event_lifetime: Positive = 3600
    """Seconds that an Event is kept."""
    limits: HttpLimits = field(
        default_factory=lambda: HttpLimits(idle_timeout=600, write_timeout=120)
    )


class Modules(Block, frozen=True, kw_only=True):
    """The parts of the cloud."""

    api_server: ApiServer = field(default_factory=ApiServer)
    cloud_hub: CloudHub = field(default_factory=CloudHub)
    edge_controller: EdgeController = field(default_factory=EdgeController)
    device_controller: DeviceController = field(default_factory=DeviceController)
    task_manager: TaskManager = field(default_factory=TaskManager)
    sync_controller: SyncController = field(default_factory=SyncController)
    dynamic_controller: DynamicController = field(default_factory=DynamicController)
    cloud_stream: CloudStream = field(default_factory=CloudStream)
    router: Router = field(default_factory=Router)
    iptables_manager: IptablesManager = field(default_factory=IptablesManager)


class CloudCoreConfig(Block, frozen=True, kw_only=True):
    """``cloudcore.yaml``."""

    api_version: Literal["cloudcore.config.kubeedge.io/v1alpha1"] = (
        "cloudcore.config.kubeedge.io/v1alpha1"
    )
    kind: Literal["CloudCore"] = "CloudCore"
    common_config: CommonConfig = field(default_factory=CommonConfig)
    kube_api_config: KubeAPIConfig = field(default_factory=KubeAPIConfig, name="kubeAPIConfig")
    modules: Modules = field(default_factory=Modules)
    feature_gates: dict[str, bool] = field(
        default_factory=lambda: {
            "requireAuthorization": False,
            "moduleRestart": False,
            "disableNodeTaskV1alpha2": False,
        }
    )

    def not_in_this_version(self) -> list[str]:
        """Name what the file switches on and we do not have, to be said at start."""
        modules = self.modules
        switched_on = {
            "kubeAPIConfig.master": bool(self.kube_api_config.master),
            "modules.cloudHub.quic": modules.cloud_hub.quic.enable,
            "modules.taskManager": modules.task_manager.enable,
            "modules.dynamicController": modules.dynamic_controller.enable,
            "modules.cloudStream": modules.cloud_stream.enable,
            "modules.router": modules.router.enable,
        }
        return [path for path, enabled in switched_on.items() if enabled]


RELOADABLE: Final = frozenset(
    {
        "modules.cloudHub.ackWindow",
        "modules.cloudHub.connectRate",
        "modules.cloudHub.creationRate",
        "modules.cloudHub.drainSeconds",
        "modules.cloudHub.edgeCertSigningDuration",
        "modules.cloudHub.keepaliveInterval",
        "modules.cloudHub.legacyCertificates",
        "modules.cloudHub.messageRate",
        "modules.cloudHub.nodeLimit",
        "modules.cloudHub.tokenRefreshDuration",
        "modules.deviceController.deadband",
        "modules.deviceController.reportWindow",
    }
)
"""Keys that a cloud takes over while it runs, beside those of ``commonConfig.logging``."""
