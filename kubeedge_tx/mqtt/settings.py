"""From the configuration's block of limits to what the broker and its transports are told."""

from __future__ import annotations

from kubeedge_tx.config.mqtt import MqttLimits
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.server import ServerLimits


def broker_limits(limits: MqttLimits, *, queue_messages: int = 0) -> Limits:
    """What the broker allows.

    :param queue_messages: instead of the block's own, if more than 0.
    """
    return Limits(
        max_packet_bytes=limits.max_packet_bytes,
        max_connections=limits.max_connections,
        connect_timeout=limits.connect_timeout,
        write_deadline=limits.write_deadline,
        max_keepalive=limits.max_keepalive,
        max_session_expiry=limits.max_session_expiry,
        receive_maximum=limits.receive_maximum,
        max_inflight=limits.max_inflight,
        queue_messages=queue_messages or limits.queue_messages,
        queue_bytes=limits.queue_bytes,
        queue_qos0_offline=limits.queue_qos0_offline,
        max_subscriptions=limits.max_subscriptions,
        max_sessions=limits.max_sessions,
        max_retained_messages=limits.max_retained_messages,
        max_retained_bytes=limits.max_retained_bytes,
        topic_alias_maximum=limits.topic_alias_maximum,
    )


def server_limits(limits: MqttLimits) -> ServerLimits:
    """What its transports bear."""
    return ServerLimits(
        max_unknown=limits.max_unauthenticated,
        max_unknown_per_peer=limits.max_unauthenticated_per_peer,
        admission=limits.connect_timeout,
    )
