"""Cluster objects to messages: what changes is sent to the nodes that need it.

Source: KubeEdge ``cloud/pkg/edgecontroller/controller/downstream.go``. Beyond it, a ConfigMap
or Secret that a pod is the first of its node to refer to is sent before the pod: the node
then starts the pod without a question, and again when the cloud is away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import MessageFactory, raw
from kubeedge_tx.beehive.route import build
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.cloud.edgecontroller.locations import (
    CONFIGMAP,
    SECRET,
    Locations,
    Ref,
    references,
)
from kubeedge_tx.kube.interfaces import IInformer, IListener

_ADDED_AS: Final = {CONFIGMAP: names.INSERT, SECRET: names.UPDATE}
"""A new Secret is deliberately an update. Source: ``downstream.go``."""


class Pusher:
    """Send objects to nodes, each encoded once however many nodes get it."""

    def __init__(self, bus: IMessageBus, messages: MessageFactory) -> None:
        self._bus = bus
        self._messages = messages

    async def push(
        self, nodes: Iterable[str], operation: str, kind: str, obj: Mapping[str, Any] | None
    ) -> None:
        """Send one object.

        :param kind: as in resources: ``pod``.
        :param obj: ``None`` only for the delete of a node, which CloudHub takes as the end of
            its session.
        """
        content = raw(obj)
        about = {} if obj is None else obj
        for node in nodes:
            namespace, name = meta.key(about) if obj is not None else ("", node)
            message = self._messages.new(
                source=names.EDGECONTROLLER,
                group=names.GROUP_RESOURCE,
                operation=operation,
                resource=build(node, namespace, kind, name),
                content=content,
                resource_version=meta.resource_version(about),
            )
            await self._bus.send(names.CLOUDHUB, message)


class Downstream:
    """Follow nodes, pods, ConfigMaps and Secrets, and push what concerns an edge node.

    :param nodes: informer of the edge nodes only: it decides who is one.
    """

    def __init__(
        self,
        pusher: Pusher,
        *,
        nodes: IInformer,
        pods: IInformer,
        configmaps: IInformer,
        secrets: IInformer,
    ) -> None:
        self.locations = Locations()
        self._push = pusher.push
        self._nodes = nodes
        self._pods = pods
        self._objects = {CONFIGMAP: configmaps, SECRET: secrets}
        self._waiting: dict[tuple[Ref, str], tuple[str, dict[str, Any]]] = {}
        """The newest state of objects that are to be sent, by name and uid; oldest first."""
        self._sending = False
        self._tasks = TaskSet()

    def start(self) -> None:
        """Send what there is and, from now on, what changes; the informers are synced."""
        self._nodes.add_listener(_Nodes(self))
        self._pods.add_listener(_Pods(self))
        for kind, informer in self._objects.items():
            informer.add_listener(_Objects(self, kind))

    def is_edge(self, node: str) -> bool:
        """Tell whether a node is an edge node."""
        return bool(node) and self._nodes.get("", node) is not None

    # Nodes

    async def node_changed(self, node: dict[str, Any]) -> None:
        """Send a Node to itself."""
        await self._push([meta.name(node)], names.UPDATE, "node", node)

    async def node_added(self, node: dict[str, Any]) -> None:
        """Send a Node, and the pods that were bound to it before we knew it."""
        await self.node_changed(node)
        for key in self.locations.pods(meta.name(node)):
            pod = self._pods.get(*key)
            if pod is not None:
                await self.pod_changed(pod, names.INSERT)

    async def node_deleted(self, node: dict[str, Any]) -> None:
        """End the node's session, and send it nothing more."""
        name = meta.name(node)
        for key in self.locations.pods(name):
            self.locations.place(key, name, ())
        await self._push([name], names.DELETE, "node", None)

    # Pods

    async def pod_changed(self, pod: dict[str, Any], operation: str) -> None:
        """Send a pod to its node, and before it what it is the first there to need."""
        node = str(meta.mapping(pod, "spec").get("nodeName") or "")
        if not self.is_edge(node):
            self.locations.place(meta.key(pod), node, ())
            return
        for ref in self.locations.place(meta.key(pod), node, references(pod)):
            found = self._objects[ref.type].get(ref.namespace, ref.name)
            if found is not None:
                await self._push([node], _ADDED_AS[ref.type], ref.type, found)
        await self._push([node], operation, "pod", pod)

    async def pod_deleted(self, pod: dict[str, Any]) -> None:
        """Take a pod from its node."""
        self.locations.remove(meta.key(pod))
        node = str(meta.mapping(pod, "spec").get("nodeName") or "")
        if self.is_edge(node):
            await self._push([node], names.DELETE, "pod", pod)

    # ConfigMaps and Secrets

    def object_changed(self, kind: str, obj: dict[str, Any], operation: str) -> None:
        """Send an object to the nodes that need it, as soon as the objects before it are sent.

        Of an object that changes meanwhile only the newest state is sent: while one version
        goes to a thousand nodes, ten others can come.
        """
        ref = Ref(kind, *meta.key(obj))
        if not self.locations.nodes(ref):
            return
        key = ref, meta.uid(obj)
        earlier = self._waiting.get(key)
        if earlier is not None and earlier[0] == names.INSERT and operation == names.UPDATE:
            operation = names.INSERT
        self._waiting[key] = operation, obj
        if not self._sending:
            self._sending = True
            self._tasks.spawn("objects to their nodes", self._send_waiting())

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                key = next(iter(self._waiting))
                operation, obj = self._waiting.pop(key)
                ref = key[0]
                await self._push(self.locations.nodes(ref), operation, ref.type, obj)
        finally:
            self._sending = False

    async def stop(self) -> None:
        """Send nothing more."""
        await self._tasks.cancel_all()


@implementer(IListener)
class _Nodes:
    def __init__(self, downstream: Downstream) -> None:
        self._down = downstream

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return Deferred.fromCoroutine(self._down.node_added(obj))

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        if meta.same_for_edge(old, new):
            return None
        return Deferred.fromCoroutine(self._down.node_changed(new))

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return Deferred.fromCoroutine(self._down.node_deleted(obj))


@implementer(IListener)
class _Pods:
    def __init__(self, downstream: Downstream) -> None:
        self._down = downstream

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        operation = names.UPDATE if meta.deleting(obj) else names.INSERT
        return Deferred.fromCoroutine(self._down.pod_changed(obj, operation))

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        if meta.same_for_edge(old, new):
            return None
        return Deferred.fromCoroutine(self._down.pod_changed(new, names.UPDATE))

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return Deferred.fromCoroutine(self._down.pod_deleted(obj))


@implementer(IListener)
class _Objects:
    def __init__(self, downstream: Downstream, kind: str) -> None:
        self._down = downstream
        self._kind = kind

    def added(self, obj: dict[str, Any]) -> None:
        self._down.object_changed(self._kind, obj, _ADDED_AS[self._kind])

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        if not meta.same_for_edge(old, new):
            self._down.object_changed(self._kind, new, names.UPDATE)

    def deleted(self, obj: dict[str, Any]) -> None:
        self._down.object_changed(self._kind, obj, names.DELETE)
