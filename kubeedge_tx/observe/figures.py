"""What both roles count: modules, the channel between them, the process itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kubeedge_tx.observe.metrics import Metrics, Values


class Bus(Protocol):
    """What is read of a bus."""

    late_responses: int

    def depths(self) -> Mapping[str, int]:
        """How many messages wait for each module."""


class Runner(Protocol):
    """What is read of the service that feeds a module."""

    name: str | None
    handled: int
    failures: int


class Tally(Protocol):
    """Messages of one class."""

    messages: int
    bytes: int


class Traffic(Protocol):
    """What is read of a channel's totals."""

    bad_frames: int
    dead_links: int
    stuck_links: int

    @property
    def sent(self) -> Mapping[str, Tally]:
        """By class."""

    @property
    def received(self) -> Mapping[str, Tally]:
        """By class."""


def add_bus(metrics: Metrics, bus: Bus) -> None:
    """What waits for the modules, and what nobody waited for."""
    metrics.gauge(
        "kubeedge_inbox_depth",
        "Messages that wait for a module.",
        ("module",),
        lambda: {(module,): float(depth) for module, depth in bus.depths().items()},
    )
    metrics.counter(
        "kubeedge_late_responses_total",
        "Answers that nobody waited for any more.",
        read=lambda: float(bus.late_responses),
    )


def add_modules(metrics: Metrics, runners: Sequence[Runner]) -> None:
    """What modules have done, and what they could not."""
    metrics.counter(
        "kubeedge_module_messages_total",
        "Messages that a module was given.",
        ("module",),
        lambda: {(str(each.name),): float(each.handled) for each in runners},
    )
    metrics.counter(
        "kubeedge_module_failures_total",
        "Messages that a module could not handle: faults of ours, the log has each.",
        ("module",),
        lambda: {(str(each.name),): float(each.failures) for each in runners},
    )


def add_traffic(metrics: Metrics, traffic: Traffic, *, sent: str, received: str) -> None:
    """What goes over the WebSockets.

    :param sent: the direction of what this process sends: ``up`` is from the edge.
    :param received: the other one.
    """
    ways = ((sent, traffic.sent), (received, traffic.received))

    def messages() -> Values:
        return {(way, name): float(each.messages) for way, by in ways for name, each in by.items()}

    def size() -> Values:
        return {(way, name): float(each.bytes) for way, by in ways for name, each in by.items()}

    metrics.counter(
        "kubeedge_channel_messages_total",
        "Messages between cloud and edge, by direction (up is from the edge) and class: lease, "
        "status, event, object, response …",
        ("direction", "class"),
        messages,
    )
    metrics.counter(
        "kubeedge_channel_bytes_total",
        "Bytes of messages between cloud and edge, before TLS, by direction and class.",
        ("direction", "class"),
        size,
    )
    metrics.counter(
        "kubeedge_channel_broken_total",
        "Connections that this process gave up: silent, stuck (the peer read nothing), or a "
        "bad frame came.",
        ("why",),
        lambda: {
            ("silent",): float(traffic.dead_links),
            ("stuck",): float(traffic.stuck_links),
            ("bad_frame",): float(traffic.bad_frames),
        },
    )
