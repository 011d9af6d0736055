"""What an edge counts, for ``/metrics``."""

from __future__ import annotations

from collections.abc import Mapping

from kubeedge_tx.beehive.bus import INBOX_SIZE, MessageBus
from kubeedge_tx.edge.devicetwin.manager import DeviceTwin
from kubeedge_tx.edge.edgehub.certificates import CertManager
from kubeedge_tx.edge.edgehub.hub import EdgeHub
from kubeedge_tx.edge.eventbus.bus import EventBus
from kubeedge_tx.edge.eventbus.outgoing import MOST_WAITING
from kubeedge_tx.edge.metamanager.manager import MetaManager
from kubeedge_tx.observe.bounds import Bounds
from kubeedge_tx.observe.figures import add_traffic
from kubeedge_tx.observe.metrics import LAGS, Metrics, Values
from kubeedge_tx.store.meta import MAX_GONE, MetaStore
from kubeedge_tx.store.outbox import FULL, OLD, Outbox


def add_bounds(bounds: Bounds, bus: MessageBus, outbox: Outbox, meta: MetaStore) -> None:
    """What an edge holds, and how much it would."""
    limits = outbox.limits
    bounds.add("inbox", INBOX_SIZE, lambda: max(bus.depths().values(), default=0))
    bounds.add("outbox-messages", limits.max_messages, lambda: len(outbox))
    bounds.add("outbox-bytes", limits.max_bytes, lambda: outbox.size_bytes)
    bounds.add("outbox-seconds", limits.max_age_seconds, outbox.oldest_seconds)
    bounds.add("gone-keys", MAX_GONE, lambda: meta.graves)


def add_eventbus_bounds(bounds: Bounds, events: EventBus) -> None:
    """What waits for the brokers."""
    bounds.add("eventbus", MOST_WAITING, lambda: max(events.waiting().values(), default=0))


def add_hub(metrics: Metrics, hub: EdgeHub) -> None:
    """EdgeHub: the connection, and what did not arrive at once."""
    metrics.gauge(
        "kubeedge_edgehub_connected",
        "Whether there is a connection to the cloud.",
        read=lambda: float(hub.connected),
    )
    metrics.counter(
        "kubeedge_edgehub_connects_total",
        "Connections to the cloud.",
        read=lambda: float(hub.connects),
    )
    metrics.counter(
        "kubeedge_edgehub_resends_total",
        "Messages sent once more: no answer came, or that the cloud could not take them now.",
        read=lambda: float(hub.resends),
    )
    metrics.counter(
        "kubeedge_edgehub_dropped_messages_total",
        "Messages of the cloud that nobody here could take; the log has each.",
        read=lambda: float(hub.dropped),
    )
    add_traffic(metrics, hub.traffic, sent="up", received="down")


def add_store(metrics: Metrics, meta: MetaManager, outbox: Outbox) -> None:
    """What is kept: of the cloud's objects, and for the cloud."""
    metrics.counter(
        "kubeedge_metamanager_repeats_total",
        "Messages that came again, were acknowledged again and not applied again.",
        read=lambda: float(meta.repeats),
    )
    metrics.counter(
        "kubeedge_metamanager_refused_total",
        "Messages of the cloud that could not be stored for what they say.",
        read=lambda: float(meta.refused),
    )
    metrics.gauge(
        "kubeedge_outbox_messages",
        "Messages that the cloud has not confirmed, by lane: control goes first, then state, "
        "then bulk.",
        ("lane",),
        lambda: {(lane,): float(count) for lane, count in outbox.depths().items()},
    )
    metrics.gauge(
        "kubeedge_outbox_bytes",
        "Size of the messages that the cloud has not confirmed.",
        read=lambda: float(outbox.size_bytes),
    )
    metrics.gauge(
        "kubeedge_outbox_oldest_seconds",
        "Age of the oldest message that the cloud has not confirmed.",
        read=outbox.oldest_seconds,
    )
    outbox.on_confirmed(
        metrics.histogram(
            "kubeedge_outbox_confirm_seconds",
            "From a message's coming to the cloud's answer, or, of what is never answered, to its "
            "being written to the connection.",
            buckets=LAGS,
        ).observe
    )
    metrics.counter(
        "kubeedge_outbox_lost_messages_total",
        "Messages to the cloud given up since the store was made: full, or too old.",
        ("reason",),
        lambda: _lost(outbox, 0),
    )
    metrics.counter(
        "kubeedge_outbox_lost_bytes_total",
        "Size of the messages to the cloud given up since the store was made.",
        ("reason",),
        lambda: _lost(outbox, 1),
    )


def _lost(outbox: Outbox, which: int) -> Values:
    return {(why,): float(outbox.lost.get(why, (0, 0))[which]) for why in (FULL, OLD)}


def add_certificate(metrics: Metrics, certificates: CertManager) -> None:
    """How long this edge's certificate is good; nothing while it has none."""

    def left() -> dict[tuple[str, ...], float]:
        days = certificates.days_left()
        return {} if days is None else {("edge",): days}

    metrics.gauge(
        "kubeedge_certificate_days_left", "Days until a certificate ends.", ("certificate",), left
    )

    def ahead() -> dict[tuple[str, ...], float]:
        off = certificates.time.off
        return {} if off is None else {(): off}

    metrics.gauge(
        "kubeedge_clock_ahead_seconds",
        "How far this machine's clock is ahead of the cloud's, where that is known.",
        read=ahead,
    )


def add_devices(metrics: Metrics, twin: DeviceTwin) -> None:
    """DeviceTwin: how many there are."""
    metrics.gauge("kubeedge_devices", "Devices on this node.", read=lambda: float(twin.devices))


def add_mqtt(metrics: Metrics, events: EventBus) -> None:
    """EventBus: its connections, and what went through them."""
    metrics.gauge(
        "kubeedge_eventbus_connected",
        "Whether there is a connection to the broker.",
        ("broker",),
        lambda: _by_name(events.connected()),
    )
    metrics.gauge(
        "kubeedge_eventbus_waiting",
        "Messages that wait for the broker.",
        ("broker",),
        lambda: _by_name(events.waiting()),
    )
    metrics.counter(
        "kubeedge_eventbus_published_messages_total",
        "Messages that the broker took.",
        ("broker",),
        lambda: _by_name(events.published()),
    )
    metrics.counter(
        "kubeedge_eventbus_dropped_messages_total",
        "Messages that no broker took, and that were given up.",
        ("broker",),
        lambda: _by_name(events.dropped()),
    )
    metrics.counter(
        "kubeedge_eventbus_received_messages_total",
        "Messages of MQTT clients that came to EventBus.",
        read=lambda: float(events.received),
    )
    metrics.counter(
        "kubeedge_eventbus_refused_messages_total",
        "Messages of MQTT clients that could not be stored or made no sense.",
        read=lambda: float(events.refused),
    )


def _by_name(values: Mapping[str, float]) -> Values:
    return {(name,): float(value) for name, value in values.items()}
