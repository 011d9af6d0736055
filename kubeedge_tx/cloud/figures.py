"""What a cloud counts, for ``/metrics``; CloudHub and DeviceController add their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from kubeedge_tx.beehive.bus import INBOX_SIZE, MessageBus
from kubeedge_tx.beehive.workers import BACKLOG
from kubeedge_tx.cloud.cloudhub.dispatcher import MAX_QUESTIONS
from kubeedge_tx.cloud.cloudhub.hub import CloudHub, Settings
from kubeedge_tx.cloud.cloudhub.keystore import Keys
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.controller import EdgeController
from kubeedge_tx.cloud.synccontroller.controller import SyncController
from kubeedge_tx.kube.client import KubeClient
from kubeedge_tx.kube.informer import Informer
from kubeedge_tx.observe.bounds import Bounds
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.security.authority import load_certificate

DAY: Final = 86_400.0


def add_bounds(
    bounds: Bounds, settings: Settings, bus: MessageBus, hub: CloudHub, controller: EdgeController
) -> None:
    """What the modules hold, and how much they would."""
    queues = hub.dispatcher.queues
    bounds.add("inbox", INBOX_SIZE, lambda: max(bus.depths().values(), default=0))
    bounds.add("sessions", settings.node_limit, lambda: len(hub.sessions))
    bounds.add(
        "node-queue-objects",
        settings.queue_objects,
        lambda: max((queue.window.keys for queue in queues.values()), default=0),
    )
    bounds.add(
        "node-queue-messages",
        settings.queue_messages,
        lambda: max((queue.fullest_lane for queue in queues.values()), default=0),
    )
    bounds.add("questions", MAX_QUESTIONS, lambda: hub.dispatcher.questions)
    bounds.add("edge-requests", BACKLOG, lambda: controller.requests)


def add_certificates(metrics: Metrics, keys: Keys, wall_clock: Callable[[], float]) -> None:
    """How long the CA and the certificate of the cloud's ports are good.

    :param wall_clock: seconds since 1970.
    """
    ends = {
        (name,): load_certificate(der, name).not_valid_after_utc.timestamp()
        for name, der in (("ca", keys.authority.cert_der), ("server", keys.server.cert_der))
    }
    metrics.gauge(
        "kubeedge_certificate_days_left",
        "Days until a certificate ends.",
        ("certificate",),
        lambda: {name: (end - wall_clock()) / DAY for name, end in ends.items()},
    )


def add_sync(metrics: Metrics, syncpoint: SyncPoint) -> None:
    """What edges have confirmed, on its way into the cluster."""
    metrics.gauge(
        "kubeedge_cloudhub_sync_pending",
        "Confirmed versions that the cluster does not know yet.",
        read=lambda: float(len(syncpoint)),
    )
    metrics.counter(
        "kubeedge_cloudhub_sync_writes_total",
        "Calls to the API server that recorded confirmed versions.",
        read=lambda: float(syncpoint.writes),
    )
    metrics.counter(
        "kubeedge_cloudhub_sync_failures_total",
        "Records of confirmed versions that were refused or not answered; they are tried again.",
        read=lambda: float(syncpoint.failures),
    )


def add_claims(metrics: Metrics, claims: Claims) -> None:
    """Which of several cloud processes speaks for a node, and what it costs to know."""
    metrics.counter(
        "kubeedge_session_marks_total",
        "Patches of Nodes that said whose session speaks for them, one for each connection.",
        read=lambda: float(claims.writes),
    )
    metrics.counter(
        "kubeedge_session_looks_total",
        "Nodes read to see whose they are, before something that another wrote is replaced.",
        read=lambda: float(claims.looks),
    )
    metrics.counter(
        "kubeedge_session_displaced_total",
        "Times a node turned out to be connected to another cloud process.",
        read=lambda: float(claims.losses),
    )


def add_repairs(metrics: Metrics, controller: SyncController) -> None:
    """What SyncController found to be different between cluster and edges."""
    metrics.counter(
        "kubeedge_synccontroller_actions_total",
        "Differences that SyncController saw to: repair (sent again), removal (delete sent), "
        "collected (a record of what is gone), lost (an edge had not what it had confirmed).",
        ("action",),
        lambda: {
            ("repair",): float(controller.objects.repairs),
            ("removal",): float(controller.objects.removals),
            ("collected",): float(controller.collected),
            ("lost",): float(controller.inventory.lost),
        },
    )


def add_api(metrics: Metrics, client: KubeClient, informers: Iterable[Informer]) -> None:
    """What is asked of the API server, and what is known of the cluster."""
    watched = tuple(informers)
    metrics.counter(
        "kubeedge_kube_calls_total",
        "Calls to the API server, by method and status (0: no answer); watches aside.",
        ("method", "status"),
        lambda: {
            (method, str(status)): float(count)
            for (method, status), count in client.outcomes.items()
        },
    )
    metrics.gauge(
        "kubeedge_informer_objects",
        "Objects in the cache, by kind.",
        ("kind",),
        lambda: {(each.kind.plural,): float(len(each)) for each in watched},
    )
    metrics.counter(
        "kubeedge_informer_watches_total",
        "Watches begun, by kind; each ends after some minutes and is begun anew.",
        ("kind",),
        lambda: {(each.kind.plural,): float(each.restarts) for each in watched},
    )
