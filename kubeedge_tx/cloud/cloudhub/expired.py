"""Edges whose certificate ran out too long ago: told to whoever looks at the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kubeedge_tx.api.resources import EVENTS
from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IKubeClient
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.rarely import Rarely

EVENT_PERIOD: Final = 1800.0
"""Seconds between two events about one node: half of what a cluster keeps them for."""

REASON: Final = "CertificateExpired"
REMEDY: Final = (
    "set modules.edgeHub.token on the edge to what `keadm gettoken` prints, or run keadm join again"
)


class ExpiredNodes:
    """Count refused certificates, and write an Event about each node.

    :param wall_clock: seconds since 1970.
    :param uid: of a Node by its name; empty if the cluster has none of that name.
    """

    name = "expired nodes"
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: IKubeClient,
        metrics: Metrics,
        wall_clock: Callable[[], float],
        uid: Callable[[str], str],
        new_id: Callable[[], str] = lambda: uuid4().hex[:16],
    ) -> None:
        self._clock = clock
        self._client = client
        self._wall_clock = wall_clock
        self._uid = uid
        self._new_id = new_id
        self._rarely = Rarely(EVENT_PERIOD)
        self._tasks = TaskSet()
        self._counter = metrics.counter(
            "kubeedge_cloudhub_expired_certificates_total",
            "Renewals refused since the edge's certificate ended too long ago.",
        )

    def startService(self) -> None:
        """Nothing to begin."""

    def stopService(self) -> Deferred[None]:
        """End what is being written."""
        return Deferred.fromCoroutine(self._tasks.cancel_all())

    def seen(self, node: str, why: str) -> None:
        """Take note of one refusal; the node's key has been proven."""
        self._counter.inc()
        if self._rarely.due(node, self._clock.seconds()) is not None:
            self._tasks.spawn(f"event about {node}", self._tell(node, f"{why}; {REMEDY}"))

    async def _tell(self, node: str, message: str) -> None:
        now = rfc3339(self._wall_clock())
        body: dict[str, Any] = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{node}.{self._new_id()}", "namespace": "default"},
            "involvedObject": {
                "kind": "Node",
                "name": node,
                "uid": self._uid(node) or node,
                "apiVersion": "v1",
            },
            "reason": REASON,
            "message": message,
            "type": "Warning",
            "source": {"component": "cloudhub"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._client.create(EVENTS, "default", body)
        except CancelledError:
            raise
        except KubeError as error:
            self._log.warn("no event about {node}: {why}", node=node, why=error)
