"""Binds pods without a node to Ready edge nodes."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.apiserver import placement, pods
from kubeedge_tx.apiserver.eventlog import EventRecorder
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.podindex import PodIndex
from kubeedge_tx.apiserver.shelf import DELETED, Event, Item
from kubeedge_tx.apiserver.status import ApiError
from kubeedge_tx.apiserver.verbs import Verbs

NAME: Final = "default-scheduler"


class Scheduler:
    """Looks for a place whenever pods or nodes change.

    :param index: which pods are on which node.
    """

    _log = Logger()

    def __init__(self, verbs: Verbs, index: PodIndex, clock: IReactorTime) -> None:
        self._verbs = verbs
        self._store = verbs.store
        self._index = index
        self._clock = clock
        self._events = EventRecorder(verbs, NAME)
        self._waiting: dict[tuple[str, str], None] = {}
        self._binding: dict[tuple[str, str], str] = {}
        """Pods whose binding is on its way to the disk, and to which node."""
        self._timer: Any = None
        self._unlisten: list[Any] = []

    def start(self) -> None:
        """Schedule what waits, and follow changes."""
        for item in self._store.shelf("pods").all():
            if _wants_node(item.obj):
                self._waiting[item.key] = None
        self._unlisten = [
            self._store.shelf("pods").listen(self._pods_changed),
            self._store.shelf("nodes").listen(self._nodes_changed),
        ]
        self._soon()

    def stop(self) -> None:
        """Schedule no more."""
        for unlisten in self._unlisten:
            unlisten()
        self._unlisten = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pods_changed(self, events: list[Event]) -> None:
        for event in events:
            key = event.item.key
            if event.type == DELETED or not _wants_node(event.item.obj):
                self._waiting.pop(key, None)
            elif event.old is None or event.old.obj.get("spec") != event.item.obj.get("spec"):
                self._waiting[key] = None
                self._soon()
            if event.type == DELETED and self._waiting:
                self._soon()  # its node may have room now

    def _nodes_changed(self, events: list[Event]) -> None:
        if self._waiting and any(_matters(event) for event in events):
            self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(0, self._run)

    def _run(self) -> None:
        self._timer = None
        nodes = [item.obj for item in self._store.shelf("nodes").all()]
        extra: dict[str, int] = {}
        for node in self._binding.values():
            extra[node] = extra.get(node, 0) + 1

        def count(node: str) -> int:
            return self._index.count(node) + extra.get(node, 0)

        for key in tuple(self._waiting):
            if key in self._binding:
                continue
            item = self._store.head("pods", *key)
            if item is None or not _wants_node(item.obj):
                self._waiting.pop(key, None)
                continue
            node, why = placement.choose(item.obj, nodes, count)
            if node:
                extra[node] = extra.get(node, 0) + 1
                self._bind(item, node)
            else:
                self._no_place(item, why)

    def _bind(self, item: Item, node: str) -> None:
        try:
            done = pods.bind(self._verbs, self._info(), item.namespace, item.name, node)
        except ApiError as error:  # changed between our look and the write
            self._log.info("{pod} is not bound: {why}", pod=item.name, why=error)
            return
        assert done is not None
        self._binding[item.key] = node
        done.addCallbacks(
            self._bound, self._not_bound, callbackArgs=(node,), errbackArgs=(item.key,)
        )

    def _bound(self, item: Item, node: str) -> None:
        self._binding.pop(item.key, None)
        self._events.record(
            item,
            "Pod",
            "Scheduled",
            f"Successfully assigned {item.namespace}/{item.name} to {node}",
            warning=False,
        )

    def _not_bound(self, failure: Failure, key: tuple[str, str]) -> None:
        self._binding.pop(key, None)
        self._log.warn("a pod is not bound: {why}", why=failure.value)

    def _no_place(self, item: Item, why: str) -> None:
        condition: Object = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": rfc3339(self._verbs.now()),
            "reason": "Unschedulable",
            "message": why,
        }
        for old in (item.obj.get("status") or {}).get("conditions") or []:
            if old.get("type") == "PodScheduled" and old.get("message") == why:
                return

        def apply(pod: Object) -> Object:
            return {**pod, "status": pods.with_condition(pod.get("status") or {}, condition)}

        try:
            done = self._verbs.patch(
                self._info(), item.namespace, item.name, apply, subresource="status"
            )
        except ApiError as error:
            self._log.info("{pod} keeps its condition: {why}", pod=item.name, why=error)
            return
        done.addErrback(self._not_bound, item.key)
        self._events.record(item, "Pod", "FailedScheduling", why, warning=True)

    def _info(self) -> Any:
        return self._verbs.registry.find("", "v1", "pods")


def _wants_node(pod: Object) -> bool:
    spec = pod.get("spec") or {}
    phase = (pod.get("status") or {}).get("phase")
    return (
        not spec.get("nodeName")
        and spec.get("schedulerName", NAME) == NAME
        and not spec.get("schedulingGates")
        and "deletionTimestamp" not in pod["metadata"]
        and phase not in ("Succeeded", "Failed")
    )


def _matters(event: Event) -> bool:
    """Whether a node's change can change where pods fit; heartbeats cannot."""
    if event.old is None or event.type == DELETED:
        return True
    return _shape(event.old.obj) != _shape(event.item.obj)


def _shape(node: Object) -> tuple[Any, ...]:
    status = node.get("status") or {}
    ready = [c.get("status") for c in status.get("conditions") or [] if c.get("type") == "Ready"]
    return (
        node["metadata"].get("labels"),
        node.get("spec"),
        ready,
        (status.get("allocatable") or {}).get("pods"),
    )
