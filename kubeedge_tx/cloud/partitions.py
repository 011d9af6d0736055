"""Delete pods that their nodes, out of reach, must have ended by now, so that they are replaced.

A node that says so ends a pod with ``replace-after=D`` once the last renewal of its lease that was
answered is D old. So while the lease does not change, that time runs at both ends, here later than
there: a pod is deleted when the lease has been seen to stay the same for D, the pod's grace and a
margin. Any number of clouds may do this; the uid makes a second delete harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.partition import (
    MARGIN_SECONDS,
    Policy,
    PolicyError,
    agreed_policy,
    grace,
    is_evicted_early,
)
from kubeedge_tx.api.resources import LEASES, NODE_LEASE_NAMESPACE, PODS
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient, IListener
from kubeedge_tx.observe.metrics import Metrics

LOOK_SECONDS: Final = 10.0
"""How often the leases of silent nodes that have such pods are read."""

FORCE: Final = {"gracePeriodSeconds": 0}


@dataclass(slots=True)
class _Node:
    """A node that has pods which may be replaced."""

    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By uid."""
    lease: str | None = None
    """The lease's version, once it was read in this silence."""
    since: float = 0.0
    """When that version was first seen."""


@implementer(IListener)
class Partitions(Service):
    """Watch over pods that may be replaced; listens to pods.

    :param nodes: informer of edge nodes; ``pods`` of all pods.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: IKubeClient,
        *,
        nodes: IInformer,
        pods: IInformer,
        metrics: Metrics,
    ) -> None:
        self.setName("partitions")
        self._clock = clock
        self._client = client
        self._informer = nodes
        self._nodes: dict[str, _Node] = {}
        self._tasks = TaskSet()
        self._replaced = metrics.counter(
            "kubeedge_partition_replaced_pods_total",
            "Pods deleted because their node was out of reach for longer than they allow.",
        )
        metrics.gauge(
            "kubeedge_partition_silent_nodes",
            "Nodes out of reach that have pods which may be replaced.",
            read=lambda: float(sum(node.lease is not None for node in self._nodes.values())),
        )
        pods.add_listener(self)

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._tasks.spawn("nodes out of reach", self._watch())

    def stopService(self) -> Deferred[None]:
        """Look no more."""
        super().stopService()
        return Deferred.fromCoroutine(self._tasks.cancel_all())

    # IListener

    def added(self, obj: dict[str, Any]) -> None:
        policy = self._policy(obj, self._log.info)
        node = str(meta.mapping(obj, "spec").get("nodeName") or "")
        if policy is None or not node:
            self.deleted(obj)
            return
        known = self._nodes.setdefault(node, _Node()).pods
        if meta.uid(obj) not in known and is_evicted_early(obj, policy):
            self._log.warn(
                "{pod} tolerates an unreachable node for less than its node takes to end it: "
                "Kubernetes will replace it while it may still run. Give it a toleration of "
                "node.kubernetes.io/unreachable without tolerationSeconds",
                pod="/".join(meta.key(obj)),
            )
        known[meta.uid(obj)] = obj

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.added(new)

    def deleted(self, obj: dict[str, Any]) -> None:
        name = str(meta.mapping(obj, "spec").get("nodeName") or "")
        node = self._nodes.get(name)
        if node is not None and node.pods.pop(meta.uid(obj), None) is not None and not node.pods:
            del self._nodes[name]

    def _policy(self, pod: dict[str, Any], complain: Callable[..., None]) -> Policy | None:
        try:
            policy = agreed_policy(pod)
        except PolicyError as error:
            complain("{pod}: {why}", pod="/".join(meta.key(pod)), why=error)
            return None
        return policy if policy is not None and policy.replace else None

    # Looking

    async def _watch(self) -> None:
        while True:
            for name in list(self._nodes):
                try:
                    await self._look(name)
                except CancelledError:
                    raise
                except KubeError as error:
                    self._log.warn(
                        "cannot see whether {node} is still silent: {error}", node=name, error=error
                    )
            await deferLater(self._clock, LOOK_SECONDS)

    async def _look(self, name: str) -> None:
        node = self._nodes.get(name)
        found = self._informer.get("", name)
        if node is None:
            return
        if found is None or not _is_silent(found):
            node.lease = None
            return
        asked = self._clock.seconds()
        version = await self._version(name)
        if version != node.lease:
            node.lease, node.since = version, self._clock.seconds()
            return
        for pod in list(node.pods.values()):
            policy = self._policy(pod, self._log.debug)
            if policy is None:
                continue
            if asked - node.since >= policy.seconds + grace(pod) + MARGIN_SECONDS:
                await self._replace(name, pod)

    async def _version(self, node: str) -> str:
        try:
            return meta.resource_version(await self._client.get(LEASES, NODE_LEASE_NAMESPACE, node))
        except KubeError as error:
            if error.code != 404:
                raise
            return ""

    async def _replace(self, node: str, pod: dict[str, Any]) -> None:
        options = {**FORCE, "preconditions": {"uid": meta.uid(pod)}}
        try:
            await self._client.delete(PODS, *meta.key(pod), options=options)
        except KubeError as error:
            if error.code not in (404, 409):  # gone, or another one of that name
                raise
        else:
            self._replaced.inc()
            self._log.warn(
                "{pod} is deleted: {node} is out of reach, and must have ended it by now",
                pod="/".join(meta.key(pod)),
                node=node,
            )
        self.deleted(pod)


def _is_silent(node: dict[str, Any]) -> bool:
    """Whether the cluster has given up waiting for a node's word."""
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "Unknown"
        for condition in meta.sequence(node, "status", "conditions")
    )
