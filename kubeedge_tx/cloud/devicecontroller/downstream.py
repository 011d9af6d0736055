"""Devices and models to the nodes that have them.

A node hears of a device in this order: that it is its (membership), the model unless another
device there uses it already, the device. Source: KubeEdge
``cloud/pkg/devicecontroller/controller/downstream.go`` and recorded sessions. Beyond it: a
device whose model does not exist yet is sent when it does; a changed model is sent to the
nodes that use it; a node that joins gets the devices that waited for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.devices import Key, model_key, node_name
from kubeedge_tx.api.resources import DEVICEMODELS, DEVICES
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.beehive.route import build
from kubeedge_tx.cloud.devicecontroller.placements import Placements
from kubeedge_tx.kube.interfaces import IInformer, IListener
from kubeedge_tx.observe.metrics import Metrics

DEVICE = "device"
DEVICE_MODEL = "devicemodel"
MEMBERSHIP = "membership"
DETAIL = "membership/detail"


@dataclass(slots=True)
class _Told:
    """What a node has been told of a device."""

    node: str
    sent: bool = False
    """The object too, not only the membership."""


class Downstream:
    """Follow nodes, models and devices, and push.

    :param nodes: informer of the edge nodes only: it decides who is one.
    :param now_ms: wall clock in milliseconds.
    :param new_id: a fresh UUID v4 text.
    """

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        *,
        nodes: IInformer,
        models: IInformer,
        devices: IInformer,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
        metrics: Metrics,
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._nodes = nodes
        self._models = models
        self._devices = devices
        self._now_ms = now_ms
        self._new_id = new_id
        self._placements = Placements()
        self._told: dict[Key, _Told] = {}
        self._from_before: set[Key] = set()
        """Devices that were there at the start: their nodes may have been told already."""
        self._models_sent: set[tuple[str, Key]] = set()
        self._order = DeferredLock()  # three informers speak; what they cause stays in order
        self._started = False
        self._pushes = metrics.counter(
            "kubeedge_devicecontroller_pushes_total",
            "Messages about devices towards nodes.",
            ("type", "operation"),
        )

    def start(self) -> None:
        """Send what there is and, from now on, what changes; the informers are synced."""
        for device in self._devices.items():
            self._placements.put(device)
            self._from_before.add(meta.key(device))
        self._started = True
        self._devices.add_listener(_Devices(self))
        self._models.add_listener(_Models(self))
        self._nodes.add_listener(_Nodes(self))

    def wanted(self, node: str, obj: Mapping[str, Any]) -> bool:
        """Tell whether a node should have a Device or DeviceModel; of other kinds it may.

        A record of one that it should not have is of a time when it had: the device has moved
        since, and the node was away.
        """
        kind = meta.kind(obj)
        if kind == DEVICES.kind:
            return node_name(obj) == node
        if kind == DEVICEMODELS.kind and self._started:
            return self._placements.uses(node, meta.key(obj))
        return True

    def in_order(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        """Do something after what is under way."""
        return self._order.run(lambda: Deferred.fromCoroutine(work()))

    async def detail(self, node: str, event_id: str) -> None:
        """Tell a node all its devices; it drops those that it has beyond them."""
        devices = [_entry(key, known=True) for key in self._placements.of_node(node)]
        await self._tell(node, DETAIL, {"devices": devices}, event_id)

    async def disown(self, node: str, device: Key) -> None:
        """Tell a node that a device is not its, or not any more."""
        told = self._told.get(device)
        if told is None or told.node != node:
            about = {"metadata": {"namespace": device[0], "name": device[1]}}
            await self._membership(node, "removed_devices", about)

    def devices_of(self, model: Key) -> list[dict[str, Any]]:
        """List the devices that are of a model."""
        keys = [
            key
            for node in self._placements.nodes_using(model)
            for key in self._placements.users(node, model)
        ]
        return [device for key in keys if (device := self._devices.get(*key)) is not None]

    # Devices

    async def device_added(self, device: dict[str, Any]) -> None:
        """Tell its node of a device."""
        self._placements.put(device)
        await self._enter(device)

    async def device_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Send a device's new spec, or move it to its new node."""
        if old.get("spec") == new.get("spec"):
            return
        if node_name(old) != node_name(new):
            await self.device_deleted(old)
            await self.device_added(new)
            return
        self._placements.put(new)
        key = meta.key(new)
        told = self._told.get(key)
        if told is None:
            return
        await self._send(new, told, names.UPDATE if told.sent else names.INSERT)
        former = model_key(old)
        if former is not None and former != model_key(new):
            await self._withdraw_model(told.node, former)

    async def device_deleted(self, device: dict[str, Any]) -> None:
        """Take a device from its node."""
        key = meta.key(device)
        self._placements.drop(key)
        told = self._told.pop(key, None)
        if told is None:
            return
        await self._membership(told.node, "removed_devices", device)
        model = model_key(device)
        if model is not None:
            await self._withdraw_model(told.node, model)
        await self._push(told.node, names.DELETE, DEVICE, device)

    async def _enter(self, device: dict[str, Any]) -> None:
        node = node_name(device)
        key = meta.key(device)
        if key in self._told or not node or self._nodes.get("", node) is None:
            return
        told = self._told[key] = _Told(node)
        await self._membership(node, "added_devices", device)
        await self._send(device, told, names.INSERT)

    async def _send(self, device: dict[str, Any], told: _Told, operation: str) -> None:
        key = model_key(device)
        if key is not None:
            model = self._models.get(*key)
            if model is None:  # model_added comes back to it
                told.sent = False
                return
            await self._send_model(told.node, model)
        told.sent = True
        await self._push(told.node, operation, DEVICE, device)

    # Models

    async def model_added(self, model: dict[str, Any]) -> None:
        """Send a model that devices have been waiting for, and then them."""
        key = meta.key(model)
        for node in self._placements.nodes_using(key):
            for user in self._placements.users(node, key):
                told, device = self._told.get(user), self._devices.get(*user)
                if told is None or told.node != node or device is None:
                    continue
                await self._send_model(node, model)
                if not told.sent:
                    await self._send(device, told, names.INSERT)

    async def model_changed(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Send a model's new spec to the nodes that have it."""
        if old.get("spec") == new.get("spec"):
            return
        for node in self._nodes_with(meta.key(new)):
            await self._push(node, names.UPDATE, DEVICE_MODEL, new)

    async def model_deleted(self, model: dict[str, Any]) -> None:
        """Take a model from the nodes that have it; their devices stay."""
        key = meta.key(model)
        for node in self._nodes_with(key):
            self._models_sent.discard((node, key))
            await self._push(node, names.DELETE, DEVICE_MODEL, model)

    def _nodes_with(self, model: Key) -> list[str]:
        using = self._placements.nodes_using(model)
        return [node for node in using if (node, model) in self._models_sent]

    async def _send_model(self, node: str, model: dict[str, Any]) -> None:
        mark = node, meta.key(model)
        if mark not in self._models_sent:
            self._models_sent.add(mark)
            await self._push(node, names.INSERT, DEVICE_MODEL, model)

    async def _withdraw_model(self, node: str, key: Key) -> None:
        if self._placements.uses(node, key) or (node, key) not in self._models_sent:
            return
        self._models_sent.discard((node, key))
        model = self._models.get(*key)
        if model is not None:
            await self._push(node, names.DELETE, DEVICE_MODEL, model)

    # Nodes

    async def node_added(self, node: dict[str, Any]) -> None:
        """Tell a node of the devices that were attached to it before we knew it."""
        for key in self._placements.of_node(meta.name(node)):
            device = self._devices.get(*key)
            if device is not None:
                await self._enter(device)

    async def node_deleted(self, node: dict[str, Any]) -> None:
        """Forget what a node was told; CloudHub drops what waits for it."""
        name = meta.name(node)
        for key, told in list(self._told.items()):
            if told.node == name:
                del self._told[key]
        self._models_sent = {mark for mark in self._models_sent if mark[0] != name}

    # Messages

    async def _membership(self, node: str, which: str, device: Mapping[str, Any]) -> None:
        key = meta.key(device)
        entry = _entry(key, known=key in self._from_before)
        self._from_before.discard(key)
        content: dict[str, Any] = {"added_devices": None, "removed_devices": None, which: [entry]}
        await self._tell(node, MEMBERSHIP, content, self._new_id())

    async def _tell(self, node: str, resource: str, content: dict[str, Any], event_id: str) -> None:
        self._pushes.inc(resource, names.UPDATE)
        await self._bus.send(
            names.CLOUDHUB,
            self._messages.new(
                source=names.DEVICECONTROLLER,
                group=names.GROUP_TWIN,
                operation=names.UPDATE,
                resource=f"node/{node}/{resource}",
                content={"event_id": event_id, "timestamp": self._now_ms(), **content},
            ),
        )

    async def _push(self, node: str, operation: str, kind: str, obj: dict[str, Any]) -> None:
        self._pushes.inc(kind, operation)
        namespace, name = meta.key(obj)
        await self._bus.send(
            names.CLOUDHUB,
            self._messages.new(
                source=names.DEVICECONTROLLER,
                group=names.GROUP_RESOURCE,
                operation=operation,
                resource=build(node, namespace, kind, name),
                content=obj,
                resource_version=meta.resource_version(obj),
            ),
        )


def _entry(key: Key, *, known: bool) -> dict[str, Any]:
    """Write a device as a member of a node.

    :param known: the node may have it already. Without twins a Go edge would publish an error
        about it then; with none it does nothing. Source: KubeEdge
        ``edge/pkg/devicetwin/dtmanager/membership.go``.
    """
    entry: dict[str, Any] = {"id": "/".join(key), "name": key[1]}
    return entry | {"twin": {}} if known else entry


@implementer(IListener)
class _Devices:
    def __init__(self, downstream: Downstream) -> None:
        self._down = downstream

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.device_added(obj))

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.device_changed(old, new))

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.device_deleted(obj))


@implementer(IListener)
class _Models:
    def __init__(self, downstream: Downstream) -> None:
        self._down = downstream

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.model_added(obj))

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.model_changed(old, new))

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.model_deleted(obj))


@implementer(IListener)
class _Nodes:
    def __init__(self, downstream: Downstream) -> None:
        self._down = downstream

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.node_added(obj))

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        return None

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self._down.in_order(lambda: self._down.node_deleted(obj))
