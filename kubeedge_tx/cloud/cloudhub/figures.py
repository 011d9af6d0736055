"""What CloudHub shows of its queues: sums over all nodes, and the few that are worst.

A series for each node would be a hundred thousand of them in a large fleet; the state of
one node is in ``/debug?node=NAME``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from kubeedge_tx.cloud.cloudhub.dispatcher import MessageDispatcher
from kubeedge_tx.cloud.cloudhub.queue import NodeMessageQueue, Order
from kubeedge_tx.cloud.cloudhub.sessions import SessionTable
from kubeedge_tx.observe.metrics import LAGS, Histogram, Metrics, Values

WORST: Final = 20
"""Nodes that have series of their own."""

CONNECTED: Final = "connected"
AWAY: Final = "away"

_LOOK_LIFE: Final = 0.5
"""Seconds that one look at all queues serves for: the gauges of one scrape share it."""

_KINDS: Final = frozenset(
    {"pod", "configmap", "secret", "node", "device", "devicemodel", "deviceowner"}
)


def kind_of(order: Order) -> str:
    """The kind of an object, as a label: those that edges get, and ``other``."""
    kind = order.key.split("/", 2)[1]
    return kind if kind in _KINDS else "other"


def sync_seconds(metrics: Metrics) -> Histogram:
    """How long it takes until edges have confirmed what is new."""
    return metrics.histogram(
        "kubeedge_sync_seconds",
        "From the coming of an object's version to the edge's acknowledgement, by kind.",
        ("kind",),
        LAGS,
    )


@dataclass(slots=True)
class _Look:
    """What one look at all queues found."""

    at: float
    unconfirmed: dict[str, int] = field(default_factory=lambda: {CONNECTED: 0, AWAY: 0})
    lag: dict[str, float] = field(default_factory=lambda: {CONNECTED: 0.0, AWAY: 0.0})
    plain: int = 0
    in_flight: int = 0
    lags: dict[str, float] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)


class _Survey:
    """Looks at all queues, but not for each gauge anew."""

    def __init__(
        self, sessions: SessionTable, queues: Mapping[str, NodeMessageQueue], clock: IReactorTime
    ) -> None:
        self._sessions = sessions
        self._queues = queues
        self._clock = clock
        self._last: _Look | None = None

    def look(self) -> _Look:
        """The newest look, made if the last one is old."""
        now = self._clock.seconds()
        if self._last is None or not 0 <= now - self._last.at < _LOOK_LIFE:
            self._last = self._survey(now)
        return self._last

    def _survey(self, now: float) -> _Look:
        found = _Look(now)
        for node, queue in self._queues.items():
            where = AWAY if self._sessions.get(node) is None else CONNECTED
            found.plain += queue.plain_depth
            since = queue.behind_since()
            if since is None:
                continue
            found.unconfirmed[where] += queue.window.keys
            found.in_flight += queue.window.in_flight
            lag = now - since
            found.lag[where] = max(found.lag[where], lag)
            if where == CONNECTED:
                found.lags[node] = lag
                found.depths[node] = queue.window.keys
        return found


def _labelled(values: Mapping[str, float]) -> Values:
    return {(name,): float(value) for name, value in values.items()}


def _worst(values: Mapping[str, float]) -> Values:
    return _labelled(dict(heapq.nlargest(WORST, values.items(), key=lambda pair: pair[1])))


def add(
    metrics: Metrics, sessions: SessionTable, dispatcher: MessageDispatcher, clock: IReactorTime
) -> None:
    """Show sessions and queues."""
    look = _Survey(sessions, dispatcher.queues, clock).look
    metrics.gauge(
        "KubeEdge_CloudHub_connected_nodes",
        "Nodes connected to this process.",
        read=lambda: float(len(sessions)),
    )
    metrics.gauge(
        "kubeedge_sync_unconfirmed_objects",
        "Objects of which edges have not confirmed the newest version; away is not connected "
        "to this process.",
        ("nodes",),
        lambda: _labelled(look().unconfirmed),
    )
    metrics.gauge(
        "kubeedge_sync_lag_seconds",
        "How long the edge that is most behind has lacked something; away is not connected to "
        "this process.",
        ("nodes",),
        lambda: _labelled(look().lag),
    )
    metrics.gauge(
        "kubeedge_sync_worst_lag_seconds",
        "How long each of the 20 connected nodes that are most behind has lacked something.",
        ("node",),
        lambda: _worst(look().lags),
    )
    metrics.gauge(
        "kubeedge_sync_worst_unconfirmed_objects",
        "Unconfirmed objects of the 20 connected nodes that have most of them.",
        ("node",),
        lambda: _worst(look().depths),
    )
    metrics.gauge(
        "kubeedge_cloudhub_plain_messages",
        "Messages without acknowledgement that wait for nodes.",
        read=lambda: float(look().plain),
    )
    metrics.gauge(
        "kubeedge_cloudhub_in_flight",
        "Messages sent and not yet acknowledged.",
        read=lambda: float(look().in_flight),
    )
    metrics.counter(
        "kubeedge_cloudhub_resends_total",
        "Messages sent once more since no acknowledgement came.",
        read=lambda: float(dispatcher.resends),
    )
    metrics.counter(
        "kubeedge_cloudhub_dropped_messages_total",
        "Messages without acknowledgement that were given up for lack of room.",
        read=lambda: float(dispatcher.drops),
    )


def state(
    sessions: SessionTable, dispatcher: MessageDispatcher, clock: IReactorTime
) -> Callable[[Iterable[str]], dict[str, Any]]:
    """For ``/debug``: what waits for nodes; for the worst of them, or for those named."""
    survey = _Survey(sessions, dispatcher.queues, clock)

    def nodes(named: Iterable[str]) -> dict[str, Any]:
        now = clock.seconds()
        chosen = list(named) or [name for (name,) in _worst(survey.look().lags)]
        return {node: one(node, now) for node in chosen}

    def one(node: str, now: float) -> dict[str, Any] | None:
        session, queue = sessions.get(node), dispatcher.queues.get(node)
        if session is None and queue is None:
            return None
        known: dict[str, Any] = {"peer": None if session is None else session.peer}
        if session is not None:
            known["window"] = session.window
        if queue is not None:
            since = queue.behind_since()
            known |= {
                "unconfirmedObjects": queue.window.keys,
                "inFlight": queue.window.in_flight,
                "plainMessages": queue.plain_depth,
                "lagSeconds": 0.0 if since is None else round(now - since, 3),
                "resends": queue.window.resends,
                "dropped": queue.dropped,
                "oldest": [order.key for order in list(queue.window)[:10]],
            }
        return known

    return nodes
