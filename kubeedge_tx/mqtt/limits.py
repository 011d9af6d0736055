"""What the broker allows."""

from __future__ import annotations

from dataclasses import dataclass

from kubeedge_tx.mqtt.packets import NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Numbers a site may change; the defaults suit an edge node."""

    max_packet_bytes: int = 2 * 1024 * 1024
    """Largest packet accepted, fixed header included; told to MQTT 5 clients."""
    max_connections: int = 10_000
    """Connections at once; further ones are told to come back later."""
    connect_timeout: float = 10.0
    """Seconds a connection has to bring its CONNECT, and to be admitted."""
    write_deadline: float = 15.0
    """Seconds a client may take nothing of what waits for it before it is cut off."""
    max_keepalive: int = 0
    """Longest keep alive, seconds, told to MQTT 5 clients that ask for more; 0 for any."""
    max_session_expiry: int = NEVER
    """Longest a session outlives its connection, seconds; 2**32 - 1 is for ever."""
    receive_maximum: int = 256
    """QoS 1 and 2 messages a client may have unacknowledged; also when reading pauses."""
    max_inflight: int = 64
    """The same towards a client, if it does not ask for less."""
    queue_messages: int = 1000
    """Messages that wait for one client."""
    queue_bytes: int = 8 * 1024 * 1024
    """Bytes of topics and payloads that wait for one client."""
    queue_qos0_offline: bool = False
    """Keep QoS 0 messages, too, for a client that is away."""
    max_subscriptions: int = 10_000
    """Filters of one session."""
    max_sessions: int = 100_000
    """Sessions, connected or not."""
    max_retained_messages: int = 100_000
    """Topics with a retained message."""
    max_retained_bytes: int = 64 * 1024 * 1024
    """Bytes of their topics and payloads."""
    topic_alias_maximum: int = 32
    """Topic aliases a client may set; 0 for none."""
    topic_alias_maximum_out: int = 32
    """Topic aliases we set towards a client that allows some."""
    response_information: str = ""
    """What MQTT 5 clients are told when they ask for response information."""
    allow_empty_client_id: bool = True
    """Make up a name for a client that brings none."""
    sys_prefix: str = "$SYS"
    """Topics at and below this one are ours: clients may not publish there."""


@dataclass(slots=True)
class Counters:
    """What happened since the start. They only grow."""

    connections: int = 0
    """Accepted CONNECTs."""
    refused: int = 0
    """CONNECTs that were refused."""
    broken: int = 0
    """Connections ended because the client broke the protocol."""
    taken_over: int = 0
    """Connections ended because the client came again."""
    keepalive_timeouts: int = 0
    slow_clients: int = 0
    """Connections cut because the client did not read."""
    received: int = 0
    """PUBLISH packets from clients."""
    sent: int = 0
    """PUBLISH packets to clients."""
    delivered_local: int = 0
    """Messages to subscribers in this process."""
    dropped_queue_full: int = 0
    dropped_offline: int = 0
    """QoS 0 messages for clients that were away."""
    dropped_expired: int = 0
    dropped_too_large: int = 0
    """Messages larger than the client's maximum packet size."""
    denied_publish: int = 0
    denied_read: int = 0
    retained_refused: int = 0
    """Retained messages for which there was no room."""
