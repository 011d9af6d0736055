"""What a cloud counts, for ``/metrics``; CloudHub and DeviceController add their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.cloud.cloudhub.keystore import Keys
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.security.authority import load_certificate

DAY: Final = 86_400.0


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


def add_bus(metrics: Metrics, bus: MessageBus) -> None:
    """What waits for the modules, and what nobody waited for."""
    metrics.gauge(
        "kubeedge_inbox_depth",
        "Messages that wait for a module.",
        ("module",),
        lambda: {(module,): float(depth) for module, depth in bus.depths().items()},
    )
    metrics.gauge(
        "kubeedge_late_responses",
        "Answers that nobody waited for any more.",
        read=lambda: float(bus.late_responses),
    )


def add_sync(metrics: Metrics, syncpoint: SyncPoint) -> None:
    """What edges have confirmed, on its way into the cluster."""
    metrics.gauge(
        "kubeedge_cloudhub_sync_pending",
        "Confirmed versions that the cluster does not know yet.",
        read=lambda: float(len(syncpoint)),
    )
    metrics.gauge(
        "kubeedge_cloudhub_sync_writes",
        "Calls to the API server that recorded confirmed versions, since the start.",
        read=lambda: float(syncpoint.writes),
    )
