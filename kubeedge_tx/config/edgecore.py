"""The edge's configuration: ``edgecore.yaml`` with upstream's keys and defaults.

Source: KubeEdge ``staging/src/github.com/kubeedge/api/apis/componentconfig/edgecore/v1alpha2``.
Keys that upstream does not have are marked *ours*.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType, field

from kubeedge_tx.config.mqtt import MqttLimits
from kubeedge_tx.config.types import Block, Count, Duration, Logging, MonitorServer, Port, Positive


class DataBase(Block, frozen=True, kw_only=True):
    """The edge's store."""

    driver_name: Literal["sqlite3"] = "sqlite3"
    """Only SQLite."""
    alias_name: str = "default"
    """Kept for upstream's files."""
    data_source: str = "/var/lib/kubeedge/edgecore.db"
    """The file."""


class Transport(Block, frozen=True, kw_only=True):
    """A way to the cloud."""

    enable: bool = True
    handshake_timeout: Positive = 30
    """Seconds."""
    read_deadline: Positive = 15
    """Seconds. Kept for upstream's files; a silent link is found by pings in under 30 s."""
    server: str = "127.0.0.1:10000"
    """``HOST:PORT``; *ours*: several, separated by commas, are tried in turn."""
    write_deadline: Positive = 15
    """Seconds that the cloud may take nothing before the link is cut."""


class Outbox(Block, frozen=True, kw_only=True):
    """*Ours.* What waits for the cloud, on disk, while it is away; what goes for lack of room is
    counted."""

    max_messages: Positive = 20_000
    max_bytes: Annotated[int, Meta(ge=1024 * 1024)] = 64 * 1024 * 1024
    max_age_hours: Positive = 7 * 24
    """Hours in which the edge ran: while it is off, nothing grows older."""


class EdgeHub(Block, frozen=True, kw_only=True):
    """The connection to the cloud."""

    enable: bool = True
    """Kept for upstream's files (its ``--minconfig`` prints ``false``); always on."""
    heartbeat: Positive = 15
    """Seconds between keepalive messages."""
    message_qps: Positive = field(default=30, name="messageQPS")
    """Messages a second that are sent to the cloud, over a longer time."""
    message_burst: Positive = 60
    """Messages that may be sent at once after a pause."""
    project_id: str = field(default="e632aba927ea4ac2b575ec1603d56f10", name="projectID")
    """Part of the WebSocket's path; any will do."""
    quic: Transport = field(
        default_factory=lambda: Transport(enable=False, server="127.0.0.1:10001")
    )
    rotate_certificates: bool = True
    """Whether the certificate is renewed in time."""
    tls_ca_file: str = "/etc/kubeedge/ca/rootCA.crt"
    """PEM; the cloud's authority, kept at the first join."""
    tls_cert_file: str = "/etc/kubeedge/certs/server.crt"
    """PEM; this edge's certificate."""
    tls_private_key_file: str = "/etc/kubeedge/certs/server.key"
    """PEM; its key."""
    token: str = ""
    """The join token; removed from the file once it was used."""
    websocket: Transport = field(default_factory=Transport)
    http_server: str = "https://127.0.0.1:10002"
    """``https://HOST:PORT`` of the cloud's certificate service."""
    ack_window: Positive = 32
    """*Ours.* Objects in flight that we offer a cloud of our own kind."""
    outbox: Outbox = field(default_factory=Outbox)
    longest_reconnect_delay: Positive = 60
    """*Ours.* Seconds; the longest pause before a cloud that threw us out is dialled again."""


class EventBusTLS(Block, frozen=True, kw_only=True):
    """TLS of the MQTT client."""

    enable: bool = False
    tls_mqtt_ca_file: str = field(default="/etc/kubeedge/ca/rootCA.crt", name="tlsMqttCAFile")
    """PEM; the authority of your broker."""
    tls_mqtt_cert_file: str = "/etc/kubeedge/certs/server.crt"
    """PEM; the certificate shown to it."""
    tls_mqtt_private_key_file: str = "/etc/kubeedge/certs/server.key"
    """PEM; its key."""


class EventBus(Block, frozen=True, kw_only=True):
    """MQTT on the edge."""

    enable: bool = True
    mqtt_qos: Literal[0, 1, 2] = field(default=0, name="mqttQOS")
    """Quality of service of what is published."""
    mqtt_retain: bool = False
    """Whether what is published is retained."""
    mqtt_server_external: str = "tcp://127.0.0.1:1883"
    """``tcp://HOST:PORT`` of a broker of yours, for modes 1 and 2."""
    mqtt_server_internal: str = "tcp://127.0.0.1:1884"
    """``tcp://HOST:PORT`` that the built-in broker listens on, in modes 0 and 1."""
    mqtt_session_queue_size: Positive = 100
    """Messages kept for a client of the built-in broker that is away."""
    mqtt_mode: Literal[0, 1, 2] = 0
    """0: the edge is the broker; 1: both; 2: a broker of yours, which is upstream's default."""
    mqtt_limits: MqttLimits = field(default_factory=MqttLimits)
    """*Ours.* Limits of the built-in broker; ``queueMessages`` is ``mqttSessionQueueSize``."""
    mqtt_sub_client_id: str = field(default="", name="mqttSubClientID")
    """Client id for subscriptions at your broker; empty: made up."""
    mqtt_pub_client_id: str = field(default="", name="mqttPubClientID")
    """Client id for publishing at your broker; empty: made up."""
    mqtt_username: str = ""
    """User name at your broker."""
    mqtt_password: str = ""
    """Its password."""
    event_bus_tls: EventBusTLS = field(default_factory=EventBusTLS, name="eventBusTLS")


class MetaServer(Block, frozen=True, kw_only=True):
    """The local Kubernetes API for pods. Not in this version."""

    enable: bool = False
    server: str = "127.0.0.1:10550"
    tls_ca_file: str = "/etc/kubeedge/ca/rootCA.crt"
    tls_cert_file: str = "/etc/kubeedge/certs/server.crt"
    tls_private_key_file: str = "/etc/kubeedge/certs/server.key"
    service_account_issuers: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)
    api_audiences: tuple[str, ...] | None = None
    service_account_key_files: tuple[str, ...] | None = None
    dummy_server: str = "169.254.30.10:10550"


class MetaManager(Block, frozen=True, kw_only=True):
    """The edge's copy of its objects."""

    enable: bool = True
    context_send_group: str = "hub"
    """Kept for upstream's files."""
    context_send_module: str = "websocket"
    """Kept for upstream's files."""
    remote_query_timeout: Positive = 60
    """Seconds."""
    meta_server: MetaServer = field(default_factory=MetaServer)


class ServiceBus(Block, frozen=True, kw_only=True):
    """HTTP between cloud and edge. Not in this version."""

    enable: bool = False
    server: str = "127.0.0.1"
    port: Port = 9060
    timeout: Positive = 60
    tls_cert_file: str = ""
    tls_private_key_file: str = ""


class DeviceTwin(Block, frozen=True, kw_only=True):
    """Device twins."""

    enable: bool = True
    dmi_sock_path: str = "/etc/kubeedge/"
    """Kept for upstream's files: mappers are not spoken to yet."""


class DBTest(Block, frozen=True, kw_only=True):
    """Kept for upstream's files."""

    enable: bool = False


class EdgeStream(Block, frozen=True, kw_only=True):
    """The far end of the tunnel. Not in this version."""

    enable: bool = False
    tls_tunnel_ca_file: str = field(default="/etc/kubeedge/ca/rootCA.crt", name="tlsTunnelCAFile")
    tls_tunnel_cert_file: str = "/etc/kubeedge/certs/server.crt"
    tls_tunnel_private_key_file: str = "/etc/kubeedge/certs/server.key"
    handshake_timeout: Positive = 30
    read_deadline: Positive = 15
    server: str = "127.0.0.1:10004"
    write_deadline: Positive = 15


class TaskManager(Block, frozen=True, kw_only=True):
    """Upgrade and image jobs. Not in this version."""

    enable: bool = False


class Taint(Block, frozen=True, kw_only=True):
    """A taint that the node is registered with."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    time_added: str | None = None


class KeptKubeletConfig(Block, frozen=True, kw_only=True):
    """Keys of a kubelet's configuration that upstream's files may have and that do nothing here."""

    allowed_unsafe_sysctls: tuple[str, ...] | UnsetType = UNSET
    cgroup_root: str | UnsetType = UNSET
    container_log_max_workers: int | UnsetType = UNSET
    container_log_monitor_interval: Duration | UnsetType = UNSET
    cpu_manager_policy_options: dict[str, str] | UnsetType = UNSET
    crash_loop_back_off: dict[str, Any] | UnsetType = UNSET
    enable_contention_profiling: bool | UnsetType = UNSET
    enable_debug_flags_handler: bool | UnsetType = UNSET
    enable_profiling_handler: bool | UnsetType = UNSET
    enable_system_log_handler: bool | UnsetType = UNSET
    enable_system_log_query: bool | UnsetType = UNSET
    eviction_max_pod_grace_period: int | UnsetType = UNSET
    eviction_minimum_reclaim: dict[str, str] | UnsetType = UNSET
    eviction_soft: dict[str, str] | UnsetType = UNSET
    eviction_soft_grace_period: dict[str, str] | UnsetType = UNSET
    feature_gates: dict[str, bool] | UnsetType = UNSET
    image_maximum_gc_age: Duration | UnsetType = field(default=UNSET, name="imageMaximumGCAge")
    iptables_drop_bit: int | UnsetType = UNSET
    iptables_masquerade_bit: int | UnsetType = UNSET
    kernel_memcg_notification: bool | UnsetType = UNSET
    kube_reserved: dict[str, str] | UnsetType = UNSET
    kube_reserved_cgroup: str | UnsetType = UNSET
    kubelet_cgroups: str | UnsetType = UNSET
    logging: dict[str, Any] | UnsetType = UNSET
    max_parallel_image_pulls: int | UnsetType = UNSET
    memory_swap: dict[str, Any] | UnsetType = UNSET
    memory_throttling_factor: float | UnsetType = UNSET
    pod_cidr: str | UnsetType = field(default=UNSET, name="podCIDR")
    pods_per_core: int | UnsetType = UNSET
    protect_kernel_defaults: bool | UnsetType = UNSET
    qos_reserved: dict[str, str] | UnsetType = UNSET
    reserved_memory: tuple[Any, ...] | UnsetType = UNSET
    reserved_system_cp_us: str | UnsetType = field(default=UNSET, name="reservedSystemCPUs")
    show_hidden_metrics_for_version: str | UnsetType = UNSET
    shutdown_grace_period: Duration | UnsetType = UNSET
    shutdown_grace_period_by_pod_priority: tuple[Any, ...] | UnsetType = UNSET
    shutdown_grace_period_critical_pods: Duration | UnsetType = UNSET
    single_process_oom_kill: bool | UnsetType = field(default=UNSET, name="singleProcessOOMKill")
    system_cgroups: str | UnsetType = UNSET
    system_reserved: dict[str, str] | UnsetType = UNSET
    system_reserved_cgroup: str | UnsetType = UNSET
    topology_manager_policy_options: dict[str, str] | UnsetType = UNSET
    volume_stats_agg_period: Duration | UnsetType = UNSET


class TailoredKubeletConfig(KeptKubeletConfig, frozen=True, kw_only=True):
    """The part of a kubelet's configuration that upstream lets through.

    Only the keys with a note of their own do something here.
    """

    static_pod_path: str = "/etc/kubeedge/manifests"
    pod_logs_dir: str = "/var/log/pods"
    sync_frequency: Duration = "1m"
    file_check_frequency: Duration = "20s"
    address: str = "127.0.0.1"
    read_only_port: Port = 10350
    cluster_domain: str = "cluster.local"
    """Search domain of pods, with ``clusterDNS``."""
    cluster_dns: tuple[str, ...] | None = field(default=None, name="clusterDNS")
    """Name servers of pods with ``dnsPolicy: ClusterFirst``."""
    registry_pull_qps: Count = field(default=5, name="registryPullQPS")
    registry_burst: Count = 10
    event_record_qps: Count = field(default=50, name="eventRecordQPS")
    event_burst: Count = 100
    enable_debugging_handlers: bool = True
    oom_score_adj: int = -999
    streaming_connection_idle_timeout: Duration = "4h"
    node_status_report_frequency: Duration = "5m"
    """How often an unchanged node status is reported all the same."""
    node_status_update_frequency: Duration = "10s"
    """How often the node's status is looked at."""
    node_lease_duration_seconds: Positive = 40
    """Seconds after which the cloud calls the node NotReady."""
    image_minimum_gc_age: Duration = field(default="2m", name="imageMinimumGCAge")
    image_gc_high_threshold_percent: int = field(default=85, name="imageGCHighThresholdPercent")
    """Disk usage, per cent, that starts removing unused images."""
    image_gc_low_threshold_percent: int = field(default=80, name="imageGCLowThresholdPercent")
    """Disk usage, per cent, that ends it."""
    cpu_manager_policy: str = "none"
    cpu_manager_reconcile_period: Duration = "10s"
    memory_manager_policy: str = "None"
    topology_manager_policy: str = "none"
    topology_manager_scope: str = "container"
    runtime_request_timeout: Duration = "2m"
    hairpin_mode: str = "promiscuous-bridge"
    max_pods: Positive = 110
    """Pods the node reports room for."""
    pod_pids_limit: int = -1
    cpu_cfs_quota: bool = field(default=True, name="cpuCFSQuota")
    cpu_cfs_quota_period: Duration = field(default="100ms", name="cpuCFSQuotaPeriod")
    node_status_max_images: int = 0
    max_open_files: int = 1000000
    content_type: str = "application/json"
    serialize_image_pulls: bool = True
    eviction_hard: dict[str, str] = field(
        default_factory=lambda: {
            "imagefs.available": "15%",
            "imagefs.inodesFree": "5%",
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
        }
    )
    eviction_pressure_transition_period: Duration = "5m"
    enable_controller_attach_detach: bool = True
    make_ip_tables_util_chains: bool = field(default=True, name="makeIPTablesUtilChains")
    fail_swap_on: bool = False
    container_log_max_size: str = "10Mi"
    """When a container's log file is full and the next begins."""
    container_log_max_files: Positive = 5
    """How many of them are kept, 2 at least."""
    config_map_and_secret_change_detection_strategy: str = "Get"  # noqa: S105 - no secret
    enforce_node_allocatable: tuple[str, ...] = ("pods",)
    volume_plugin_dir: str = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/"
    register_node: bool = True
    """Whether the edge creates its Node object."""
    register_with_taints: tuple[Taint, ...] | None = None
    """Taints that the node is registered with."""
    cgroup_driver: Literal["cgroupfs", "systemd"] = "cgroupfs"
    """The container engine's; `keadm check` compares."""
    cgroups_per_qos: bool = field(default=True, name="cgroupsPerQOS")
    resolv_conf: str = field(default="/etc/resolv.conf", name="resolvConf")
    container_runtime_endpoint: str = "unix:///run/containerd/containerd.sock"
    """Kept for upstream's files: containers run in Docker, or as processes."""
    image_service_endpoint: str = "unix:///run/containerd/containerd.sock"
    local_storage_capacity_isolation: bool = True
    seccomp_default: bool = False
    fail_cgroup_v1: bool = field(default=False, name="failCgroupV1")


class Edged(Block, frozen=True, kw_only=True):
    """Runs pods."""

    enable: bool = True
    hostname_override: str = ""
    """The node's name; empty: this machine's host name."""
    node_ip: str = field(default="", name="nodeIP")
    """The node's address; empty: the one that leads to the cloud."""
    custom_interface_name: str = ""
    """Take the node's address from this network interface."""
    register_node_namespace: str = "default"
    """Kept for upstream's files."""
    pod_sandbox_image: str = "kubeedge/pause:3.6"
    """Image of a pod's sandbox; the default means our own, which needs no registry."""
    root_directory: str = "/var/lib/kubelet"
    """Where pods' volumes are."""
    max_container_count: int = -1
    """Kept for upstream's files."""
    max_per_pod_container_count: int = 1
    """Ended containers kept for each container of a pod."""
    minimum_gc_age: Duration = field(default="0s", name="minimumGCAge")
    """Kept for upstream's files."""
    node_labels: dict[str, str] = field(default_factory=dict)
    """Labels that the node is registered with."""
    register_schedulable: bool = True
    """Whether pods may be scheduled to the node from the start."""
    report_event: bool = False
    """Whether pods' events are sent to the cloud."""
    tailored_kubelet_config: TailoredKubeletConfig = field(default_factory=TailoredKubeletConfig)
    runtime: Literal["auto", "docker", "process"] = "auto"
    """*Ours.* What runs containers; ``auto`` takes Docker if its engine answers."""
    docker_address: str = "unix:///var/run/docker.sock"
    """*Ours.* (Upstream's until 1.13.)"""


class Modules(Block, frozen=True, kw_only=True):
    """The parts of the edge."""

    db_test: DBTest = field(default_factory=DBTest)
    device_twin: DeviceTwin = field(default_factory=DeviceTwin)
    edge_hub: EdgeHub = field(default_factory=EdgeHub)
    edge_stream: EdgeStream = field(default_factory=EdgeStream)
    edged: Edged = field(default_factory=Edged)
    event_bus: EventBus = field(default_factory=EventBus)
    meta_manager: MetaManager = field(default_factory=MetaManager)
    service_bus: ServiceBus = field(default_factory=ServiceBus)
    task_manager: TaskManager = field(default_factory=TaskManager)


class CommonConfig(Block, frozen=True, kw_only=True):
    """*Ours.* What belongs to the process."""

    monitor_server: MonitorServer = field(
        default_factory=lambda: MonitorServer(bind_address="127.0.0.1:9092")
    )
    logging: Logging = field(default_factory=Logging)


class EdgeCoreConfig(Block, frozen=True, kw_only=True):
    """``edgecore.yaml``."""

    api_version: Literal["edgecore.config.kubeedge.io/v1alpha2"] = (
        "edgecore.config.kubeedge.io/v1alpha2"
    )
    kind: Literal["EdgeCore"] = "EdgeCore"
    common_config: CommonConfig = field(default_factory=CommonConfig)
    database: DataBase = field(default_factory=DataBase)
    modules: Modules = field(default_factory=Modules)
    feature_gates: dict[str, bool] = field(
        default_factory=lambda: {
            "requireAuthorization": False,
            "moduleRestart": False,
            "disableNodeTaskV1alpha2": False,
        }
    )
    edge_core_version: str | UnsetType = field(default=UNSET, name="edgecoreVersion")
    """Written by upstream's edgecore; kept."""

    def not_in_this_version(self) -> list[str]:
        """Name what the file switches on and we do not have, to be said at start."""
        modules = self.modules
        switched_on = {
            "modules.edgeHub.quic": modules.edge_hub.quic.enable,
            "modules.metaManager.metaServer": modules.meta_manager.meta_server.enable,
            "modules.serviceBus": modules.service_bus.enable,
            "modules.edgeStream": modules.edge_stream.enable,
            "modules.taskManager": modules.task_manager.enable,
        }
        return [path for path, enabled in switched_on.items() if enabled]


def seconds(duration: str) -> float:
    """Read a Go duration, already validated by the loader, as seconds."""
    units: dict[str, float] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
    total, number, unit = 0.0, "", ""
    for char in f"{duration} ":
        if char.isdigit() or char == "." or char == " ":
            if unit:
                total += float(number) * units[unit]
                number, unit = "", ""
            number += char
        else:
            unit += char
    return total


RELOADABLE: Final = frozenset(
    {
        "modules.edgeHub.ackWindow",
        "modules.edgeHub.heartbeat",
        "modules.edgeHub.longestReconnectDelay",
        "modules.edgeHub.messageBurst",
        "modules.edgeHub.messageQPS",
        "modules.edgeHub.token",
        "modules.edgeHub.websocket.handshakeTimeout",
        "modules.edgeHub.websocket.server",
        "modules.edgeHub.websocket.writeDeadline",
        "modules.metaManager.remoteQueryTimeout",
    }
)
"""Keys that an edge takes over while it runs, beside those of ``commonConfig.logging``."""
