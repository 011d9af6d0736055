"""Nodes that have gone silent become NotReady; nothing on them is evicted.

A node is heard of when its lease is renewed or its status changes. The time that counts is
when we saw it, not what the edge's clock says.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kubeedge_tx.api.resources import NODE_LEASE_NAMESPACE
from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.apiserver.deletion import DeleteOptions, Deletion
from kubeedge_tx.apiserver.eventlog import EventRecorder
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.shelf import DELETED, Event, Item
from kubeedge_tx.apiserver.status import ApiError
from kubeedge_tx.apiserver.verbs import Verbs
from kubeedge_tx.errors import StoreError

GRACE_SECONDS: Final = 40.0
"""Silence after which a node counts as lost whose lease does not say, or that has none.
Source: ``node-monitor-grace-period``."""
_LOOK_SECONDS: Final = 5.0

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_EFFECTS: Final = ("NoSchedule", "NoExecute")
_LEASES: Final = "leases.coordination.k8s.io"
_CONDITIONS: Final = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")


class NodeLife:
    """Watches over nodes.

    :param clock: monotonic; measures silence.
    """

    _log = Logger()

    def __init__(self, verbs: Verbs, clock: IReactorTime) -> None:
        self._verbs = verbs
        self._store = verbs.store
        self._deletion = Deletion(verbs)
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._looked_at = 0.0
        self._events = EventRecorder(verbs, "node-controller")
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        self._unlisten: list[Any] = []

    def start(self) -> None:
        """Give every node its time from now on, and look every few seconds."""
        now = self._looked_at = self._clock.seconds()
        for item in self._store.shelf("nodes").all():
            self._heard[item.name] = now
        self._unlisten = [
            self._store.shelf("nodes").listen(self._nodes_changed),
            self._store.shelf(_LEASES).listen(self._leases_changed),
        ]
        self._loop.start(_LOOK_SECONDS, now=False).addErrback(self._stopped)

    def stop(self) -> None:
        """Look no more."""
        for unlisten in self._unlisten:
            unlisten()
        self._unlisten = []
        if self._loop.running:
            self._loop.stop()

    def _nodes_changed(self, events: list[Event]) -> None:
        for event in events:
            name = event.item.name
            if event.type == DELETED:
                self._heard.pop(name, None)
                continue
            if event.old is None or _heartbeat(event.old.obj) != _heartbeat(event.item.obj):
                self._heard[name] = self._clock.seconds()
            if _taints(event.item.obj) != (event.item.obj.get("spec") or {}).get("taints", []):
                self._taint(event.item)

    def _leases_changed(self, events: list[Event]) -> None:
        for event in events:
            if event.type == DELETED or event.item.namespace != NODE_LEASE_NAMESPACE:
                continue
            if event.item.name in self._heard:
                self._heard[event.item.name] = self._clock.seconds()

    def _look(self) -> None:
        now = self._clock.seconds()
        deaf = now - self._looked_at - _LOOK_SECONDS
        self._looked_at = now
        if deaf >= _LOOK_SECONDS:  # this process hung; what nodes said meanwhile is still unread
            self._heard = {name: min(now, heard + deaf) for name, heard in self._heard.items()}
        for item in list(self._store.shelf("nodes").all()):
            heard = self._heard.setdefault(item.name, now)
            if now - heard >= self._grace(item.name) and _ready(item.obj) != "Unknown":
                self._lost(item)
        for pod in list(self._store.shelf("pods").all()):
            node = (pod.obj.get("spec") or {}).get("nodeName")
            if (
                node
                and "deletionTimestamp" in pod.obj["metadata"]
                and self._store.head("nodes", "", node) is None
            ):
                self._forget(pod)

    def _grace(self, node: str) -> float:
        """Seconds that a node may be silent: as long as its lease lasts."""
        lease = self._store.head(_LEASES, NODE_LEASE_NAMESPACE, node)
        seconds = ((lease and lease.obj.get("spec")) or {}).get("leaseDurationSeconds")
        return float(seconds) if seconds else GRACE_SECONDS

    def _lost(self, item: Item) -> None:
        self._log.info("node {node} is silent", node=item.name)
        now = rfc3339(self._verbs.now())
        self._patch(item, lambda node: _silenced(node, now), "status")
        self._events.record(
            item,
            "Node",
            "NodeNotReady",
            f"Node {item.name} status is now: NodeNotReady",
            warning=False,
        )

    def _taint(self, item: Item) -> None:
        def apply(node: Object) -> Object:
            spec = {k: v for k, v in (node.get("spec") or {}).items() if k != "taints"}
            taints = _taints(node, rfc3339(self._verbs.now()))
            if taints:
                spec["taints"] = taints
            return {**node, "spec": spec}

        self._patch(item, apply, "")

    def _forget(self, pod: Item) -> None:
        info = self._verbs.registry.find("", "v1", "pods")
        assert info is not None
        self._log.info(
            "{namespace}/{pod} was being deleted on a node that is gone",
            namespace=pod.namespace,
            pod=pod.name,
        )
        try:
            self._deletion.delete(
                info, pod.namespace, pod.name, DeleteOptions(grace_period=0)
            ).addErrback(self._not_written)
        except ApiError as error:
            self._log.debug("already gone: {why}", why=error)

    def _patch(self, item: Item, apply: Any, subresource: str) -> None:
        info = self._verbs.registry.find("", "v1", "nodes")
        assert info is not None
        try:
            self._verbs.patch(info, "", item.name, apply, subresource=subresource).addErrback(
                self._not_written
            )
        except ApiError as error:
            self._log.warn("node {node} is not updated: {why}", node=item.name, why=error)

    def _not_written(self, failure: Failure) -> None:
        failure.trap(StoreError)  # the next look tries again
        self._log.warn("a node's state is not stored: {why}", why=failure.value)

    def _stopped(self, failure: Failure) -> None:
        self._log.failure("nodes are no longer watched over", failure)


def _ready(node: Object) -> str:
    for condition in (node.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Ready":
            return str(condition.get("status"))
    return ""


def _heartbeat(node: Object) -> Any:
    """What changes when the node itself speaks: its status, but not what we write there."""
    if _ready(node) == "Unknown":
        return None
    return node.get("status")


def _silenced(node: Object, now: str) -> Object:
    status = node.get("status") or {}
    conditions = []
    seen = set()
    for condition in status.get("conditions") or []:
        kind = condition.get("type")
        seen.add(kind)
        if kind in _CONDITIONS and condition.get("status") != "Unknown":
            condition = {
                **condition,
                "status": "Unknown",
                "lastTransitionTime": now,
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
        conditions.append(condition)
    if "Ready" not in seen:
        conditions.append(
            {
                "type": "Ready",
                "status": "Unknown",
                "lastHeartbeatTime": node["metadata"]["creationTimestamp"],
                "lastTransitionTime": now,
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
            }
        )
    return {**node, "status": {**status, "conditions": conditions}}


def _taints(node: Object, now: str = "") -> list[Object]:
    """The taints a node should have: its own, and the one for its state."""
    had = (node.get("spec") or {}).get("taints") or []
    ready = _ready(node)
    wanted = {"True": "", "Unknown": UNREACHABLE}.get(ready, NOT_READY)
    kept = [t for t in had if t.get("key") not in (NOT_READY, UNREACHABLE) or t["key"] == wanted]
    if wanted:
        effects = _EFFECTS if ready else _EFFECTS[:1]
        there = {t.get("effect") for t in kept if t.get("key") == wanted}
        for effect in effects:
            if effect not in there:
                taint = {"key": wanted, "effect": effect}
                if effect == "NoExecute" and now:
                    taint["timeAdded"] = now
                kept.append(taint)
    return kept
