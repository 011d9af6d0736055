"""What an edge counts, for ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.edge.devicetwin.manager import DeviceTwin
from kubeedge_tx.edge.edgehub.certificates import CertManager
from kubeedge_tx.edge.edgehub.hub import EdgeHub
from kubeedge_tx.edge.eventbus.bus import EventBus
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.store.outbox import Outbox


def add_messages(metrics: Metrics, bus: MessageBus, outbox: Outbox, hub: EdgeHub) -> None:
    """What waits, what goes over the WebSocket, and what was given up."""
    gauge = metrics.gauge
    gauge(
        "kubeedge_inbox_depth",
        "Messages that wait for a module.",
        ("module",),
        lambda: {(module,): float(depth) for module, depth in bus.depths().items()},
    )
    gauge(
        "kubeedge_edgehub_connected",
        "Whether there is a connection to the cloud.",
        read=lambda: float(hub.connected),
    )
    gauge(
        "kubeedge_edgehub_connects",
        "Connections since the start.",
        read=lambda: float(hub.connects),
    )
    traffic = hub.traffic
    gauge(
        "kubeedge_edgehub_bytes",
        "Bytes of messages on the WebSocket since the start.",
        ("direction",),
        lambda: {("up",): traffic.bytes_sent, ("down",): traffic.bytes_received},
    )
    gauge(
        "kubeedge_edgehub_frames",
        "Messages on the WebSocket since the start.",
        ("direction",),
        lambda: {("up",): traffic.frames_sent, ("down",): traffic.frames_received},
    )
    gauge(
        "kubeedge_outbox_messages",
        "Messages that the cloud has not confirmed.",
        read=lambda: float(len(outbox)),
    )
    gauge("kubeedge_outbox_bytes", "Their size.", read=lambda: float(outbox.size_bytes))
    gauge(
        "kubeedge_outbox_oldest_seconds",
        "The age of the oldest of them.",
        read=outbox.oldest_seconds,
    )
    gauge(
        "kubeedge_outbox_lost_messages",
        "Messages given up since the store was made.",
        ("reason",),
        lambda: {(reason,): float(lost[0]) for reason, lost in outbox.lost.items()},
    )


def add_certificate(metrics: Metrics, certificates: CertManager) -> None:
    """How long this edge's certificate is good; nothing while it has none."""

    def left() -> dict[tuple[str, ...], float]:
        days = certificates.days_left()
        return {} if days is None else {("edge",): days}

    metrics.gauge(
        "kubeedge_certificate_days_left", "Days until a certificate ends.", ("certificate",), left
    )


def add_devices(metrics: Metrics, twin: DeviceTwin) -> None:
    """DeviceTwin: how many there are."""
    metrics.gauge("kubeedge_devices", "Devices on this node.", read=lambda: float(twin.devices))


def add_mqtt(metrics: Metrics, events: EventBus) -> None:
    """EventBus: its connections, and what went through them."""
    for name, what, read in (
        ("connected", "Whether there is a connection to the broker.", events.connected),
        ("published", "Messages published since the start.", events.published),
        ("dropped", "Messages that no broker took, since the start.", events.dropped),
        ("waiting", "Messages that wait for the broker.", events.waiting),
    ):
        metrics.gauge(f"kubeedge_eventbus_{name}", what, ("broker",), partial(_by_name, read))
    for name, what in (
        ("received", "Messages of MQTT clients since the start."),
        ("refused", "Messages that could not be stored or made no sense."),
    ):
        metrics.gauge(f"kubeedge_eventbus_{name}", what, read=partial(_number, events, name))


def _by_name(read: Callable[[], Mapping[str, float]]) -> dict[tuple[str, ...], float]:
    return {(name,): float(value) for name, value in read().items()}


def _number(owner: object, name: str) -> float:
    return float(getattr(owner, name))
