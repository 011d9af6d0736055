"""The node's lease: how the cloud knows that the node lives.

Source: ``k8s.io/component-helpers/apimachinery/lease/controller.go``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from kubeedge_tx.api.resources import NODE_LEASE_NAMESPACE
from kubeedge_tx.api.timestamps import rfc3339_micro
from kubeedge_tx.beehive import names
from kubeedge_tx.edge.edged.objects import Objects
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.errors import KubeError

RENEWALS: Final = 4
"""Renewals in the time a lease lasts. Source: kubelet renews after a quarter of it."""


class NodeLease:
    """Take and renew the lease of one node.

    :param seconds: how long it lasts without renewal.
    """

    _log = Logger()

    def __init__(
        self, objects: Objects, node: str, seconds: int, wall_clock: Callable[[], float]
    ) -> None:
        self._objects = objects
        self._node = node
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._lease: Json | None = None

    @property
    def interval(self) -> float:
        """Seconds between two renewals."""
        return self._seconds / RENEWALS

    def forget(self) -> None:
        """Ask anew before the next renewal: others may have changed it meanwhile."""
        self._lease = None

    async def renew(self, node_uid: str) -> None:
        """Take the lease, or say that the node still lives.

        :raises KubeError: the cluster refused.
        :raises KubeEdgeError: the cloud is away, or did not answer.
        """
        if self._lease is None:
            try:
                self._lease = await self._objects.lease(names.QUERY, self._node)
            except KubeError as error:
                if error.reason != "NotFound":
                    raise
        operation = names.UPDATE if self._lease else names.INSERT
        wanted = self._wanted(self._lease or self._new(node_uid), node_uid)
        try:
            self._lease = await self._objects.lease(operation, self._node, wanted) or None
        except KubeError:
            self.forget()  # a conflict, or it was deleted: look before the next try
            raise

    def _new(self, node_uid: str) -> Json:
        metadata: Json = {
            "name": self._node,
            "namespace": NODE_LEASE_NAMESPACE,
            "creationTimestamp": None,
        }
        return {"metadata": metadata}

    def _wanted(self, lease: Json, node_uid: str) -> Json:
        metadata = dict(lease.get("metadata") or {})
        if node_uid:
            metadata["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node_uid}
            ]
        return {
            **lease,
            "metadata": metadata,
            "spec": {
                **(lease.get("spec") or {}),
                "holderIdentity": self._node,
                "leaseDurationSeconds": self._seconds,
                "renewTime": rfc3339_micro(self._wall_clock()),
            },
        }
