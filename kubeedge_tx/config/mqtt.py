"""``mqtt.yaml``: the broker alone. All of it is ours; upstream has no such file."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from kubeedge_tx.config.types import Block, Count, Logging, MonitorServer, Port, Positive

Seconds = Annotated[float, Meta(gt=0)]
PacketIds = Annotated[int, Meta(ge=1, le=65535)]
UInt32 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]


class ListenerTLS(Block, frozen=True, kw_only=True):
    """TLS of a listener."""

    cert_file: str
    """PEM; intermediate certificates after our own."""
    key_file: str
    """PEM."""
    ca_file: str = ""
    """PEM; clients that show a certificate need one of these authorities."""
    require_certificate: bool = False
    """Clients without a certificate of ``caFile`` are refused."""
    use_identity_as_username: bool = False
    """The certificate's common name is the user name; no password is asked for."""


class MqttListener(Block, frozen=True, kw_only=True):
    """One port."""

    address: str = "127.0.0.1"
    port: Port = 1883
    protocol: Literal["mqtt", "websockets"] = "mqtt"
    tls: ListenerTLS | None = None


class MqttLimits(Block, frozen=True, kw_only=True):
    """Limits; more than these is refused, dropped or cut off, as MQTT has it."""

    max_packet_bytes: Annotated[int, Meta(ge=64, le=268_435_460)] = 2 * 1024 * 1024
    max_connections: Positive = 10_000
    max_unauthenticated: Positive = 1_000
    """Connections that have not been admitted yet."""
    max_unauthenticated_per_peer: Positive = 500
    """The same from one address; the one that has waited longest makes room."""
    connect_timeout: Seconds = 10.0
    """Seconds a connection has until it is admitted."""
    write_deadline: Seconds = 15.0
    """Seconds a client may read nothing of what waits for it."""
    max_keepalive: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Seconds; 0 lets clients choose."""
    max_session_expiry: UInt32 = 0xFFFF_FFFF
    """Seconds a session outlives its connection; 4294967295 is for ever."""
    receive_maximum: PacketIds = 256
    max_inflight: PacketIds = 64
    queue_messages: Positive = 1_000
    queue_bytes: Positive = 8 * 1024 * 1024
    queue_qos0_offline: bool = field(default=False, name="queueQOS0Offline")
    max_subscriptions: Positive = 10_000
    max_sessions: Positive = 100_000
    max_retained_messages: Count = 100_000
    max_retained_bytes: Count = 64 * 1024 * 1024
    topic_alias_maximum: Annotated[int, Meta(ge=0, le=65535)] = 32


class MqttCommon(Block, frozen=True, kw_only=True):
    """What belongs to the process."""

    monitor_server: MonitorServer = field(
        default_factory=lambda: MonitorServer(bind_address="127.0.0.1:9093")
    )
    logging: Logging = field(default_factory=Logging)


class MqttConfig(Block, frozen=True, kw_only=True):
    """``mqtt.yaml``."""

    api_version: Literal["mqtt.kubeedge-tx.io/v1alpha1"] = "mqtt.kubeedge-tx.io/v1alpha1"
    kind: Literal["MqttBroker"] = "MqttBroker"
    common_config: MqttCommon = field(default_factory=MqttCommon)
    listeners: Annotated[tuple[MqttListener, ...], Meta(min_length=1)] = (MqttListener(),)
    allow_anonymous: bool | None = None
    """Clients without a user name are let in; by default if all listeners are on this
    machine's own addresses (127.0.0.0/8, ::1) and there is no ``passwordFile``."""
    password_file: str = ""
    """As ``mosquitto_passwd`` writes it; read again when it changes."""
    acl_file: str = ""
    """Access rules in mosquitto's format; read again when it changes."""
    persistence: bool = True
    """Sessions and retained messages survive a restart, in ``<data-dir>/mqtt.db``."""
    limits: MqttLimits = field(default_factory=MqttLimits)
