"""What nodes were denied: counted each time, logged once in a while, without content."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.rarely import Rarely, and_more

OTHER: Final = "other"
"""Kind of what is none of :data:`KINDS`: a peer's words do not become label values."""

KINDS: Final = frozenset(
    {
        "node",
        "nodestatus",
        "nodepatch",
        "pod",
        "podstatus",
        "podpatch",
        "configmap",
        "secret",
        "serviceaccounttoken",
        "persistentvolume",
        "persistentvolumeclaim",
        "volumeattachment",
        "lease",
        "certificatesigningrequest",
        "event",
        "service",
        "endpoints",
        "device",
        "digest",
        "response",
    }
)

# Reasons
NOT_ITS_OWN: Final = "not-its-own"
"""It belongs to another node, or to none."""
NOT_USED: Final = "not-used"
"""No pod of the node uses it."""
NOT_FOR_NODES: Final = "not-for-nodes"
"""No node may do this, to anything."""
MALFORMED: Final = "malformed"
"""Not a name, or not the form that such a request has."""
TOO_LARGE: Final = "too-large"
RATE: Final = "rate"
"""Too often."""
TOO_MANY: Final = "too-many"
API_SERVER: Final = "api-server"
"""The Kubernetes API, asked in the node's name, said no."""


class Denials:
    """Count and log."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self._clock = clock
        self._rarely = Rarely()
        self._counter = metrics.counter(
            "kubeedge_denied_requests_total",
            "What nodes asked for and may not have, by kind and reason.",
            ("kind", "reason"),
        )

    def deny(self, node: str, kind: str, operation: str, reason: str, why: str) -> None:
        """Write down one denial.

        :param node: the name that its certificate proves.
        :param kind: the type of what it asked for, in its own words.
        :param operation: likewise; it is cut and quoted.
        :param reason: one of this module's.
        :param why: what the node is told. Names, never content.
        """
        kind = kind if kind in KINDS else OTHER
        self._counter.inc(kind, reason)
        silent = self._rarely.due((node, kind, reason), self._clock.seconds())
        if silent is not None:
            self._log.warn(
                "{node} was denied {operation!r} of {kind} ({reason}): {why}{more}",
                node=node,
                operation=operation[:50],
                kind=kind,
                reason=reason,
                why=why,
                more=and_more(silent),
            )
