"""The module: compare records with objects whenever something happens.

An ObjectSync (ClusterObjectSync for cluster scope) says which version of an object a node has
confirmed. Where the object is gone, or belongs to another node now, the node is told to delete
it; where it is newer, it is sent again; where the node is gone, the record is deleted.

Source: KubeEdge ``cloud/pkg/synccontroller``, which compares every record every five seconds.
Here records are looked at when something happens: at the start, when a node connects, when a
record or its object changes; and all of them once an hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import CLUSTEROBJECTSYNCS, NODES, OBJECTSYNCS
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.beehive.workers import KeyedWorkers
from kubeedge_tx.cloud.synccontroller.inventory import Inventory
from kubeedge_tx.cloud.synccontroller.objects import Objects, Wanted
from kubeedge_tx.cloud.synccontroller.records import Confirmations, Key, Records, confirmation
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient, IListener

SWEEP_SECONDS: Final = 3600.0
"""Between two looks at every record."""
PARALLEL: Final = 16
"""Records looked at at once."""


@implementer(IModule)
class SyncController:
    """The module.

    :param object_syncs: informer of objectsyncs; likewise ``cluster_object_syncs``.
    :param nodes: informer of edge nodes.
    :param objects: informers of the kinds that are compared; records of others are left alone.
    :param clock: for the sweeps.
    :param confirmations: the writer of the records.
    :param wanted: tells whether a node should have an object that it has a record of; all of
        them if absent.

    ``collected`` counts the records deleted.
    """

    _log = Logger()
    name = names.SYNCCONTROLLER
    group = names.SYNCCONTROLLER

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        client: IKubeClient,
        clock: IReactorTime,
        *,
        object_syncs: IInformer,
        cluster_object_syncs: IInformer,
        nodes: IInformer,
        objects: Iterable[IInformer],
        confirmations: Confirmations,
        wanted: Wanted | None = None,
        sweep_seconds: float = SWEEP_SECONDS,
        parallel: int = PARALLEL,
    ) -> None:
        self._client = client
        self._clock = clock
        self._nodes = nodes
        self._sweep_seconds = sweep_seconds
        self._workers = KeyedWorkers(parallel)
        self._tasks = TaskSet()
        self._pending: set[Key] = set()
        self._records = Records(object_syncs, cluster_object_syncs, confirmations)
        self.objects = Objects(bus, messages, client, objects, wanted or (lambda _node, _obj: True))
        self.inventory = Inventory(
            bus,
            messages,
            clock,
            records=self._records,
            objects=self.objects,
            workers=self._workers,
            tasks=self._tasks,
        )
        self.collected = 0

    async def started(self) -> None:
        """Begin once the informers are synced."""
        self._tasks.spawn("start of SyncController", self._begin())

    async def stopped(self) -> None:
        """Leave off; the next start compares everything."""
        await self._tasks.cancel_all()
        await self._workers.cancel_all()

    async def handle(self, message: Message) -> None:
        """Compare a node's records when it connects, and when it says what it has."""
        route = message.route
        if route.operation == names.DIGEST:
            await self.inventory.said(route.resource.split("/")[1], message)
        elif route.source == names.CLOUDHUB:
            node = route.resource.removeprefix("node/")
            if meta.mapping({"content": message.read()}, "content").get("window"):
                self.inventory.connected(node)
            else:
                self.inventory.forget(node)
            if route.operation == "connected":
                await self._check(self._records.of_node(node))

    async def _begin(self) -> None:
        objects, records = self.objects.informers, self._records.informers
        for informer in (*records, self._nodes, *objects):
            await informer.when_synced()
        self.objects.listen()
        for informer in (*objects, self._nodes):
            informer.add_listener(_Gone(self))
        for informer in records:
            informer.add_listener(_Records(self))  # tells of every record there is
        while True:
            await deferLater(self._clock, self._sweep_seconds)
            everything = self._records.all()
            self._log.info("comparing all {count} records", count=len(everything))
            await self._check(everything)
            self.inventory.ask_all()

    # What happened

    def record_changed(self, record: dict[str, Any]) -> Deferred[None] | None:
        """Know a record, and compare it."""
        key = Key(*meta.key(record))
        if not key.node:
            return None
        self._records.add(key)
        if self._is_in_order(key, record):
            return None
        return Deferred.fromCoroutine(self._check([key]))

    def record_deleted(self, record: dict[str, Any]) -> None:
        """Forget a record."""
        self._records.discard(Key(*meta.key(record)))

    async def object_deleted(self, obj: dict[str, Any]) -> None:
        """Compare the records about an object, and, if it is a node, those of the node."""
        keys = self._records.of_object(meta.uid(obj))
        if meta.kind(obj) == NODES.kind:
            keys += self._records.of_node(meta.name(obj))
        await self._check(keys)

    async def _check(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key not in self._pending:  # what is read is read when its turn comes
                self._pending.add(key)
                await self._workers.submit(
                    key, partial(self._compare, key), f"comparing {key.name}"
                )

    # Comparing

    def _is_in_order(self, key: Key, record: dict[str, Any]) -> bool:
        """Whether the caches alone show that there is nothing to do: nearly always."""
        if self._nodes.get("", key.node) is None:
            return False
        confirmed = confirmation(key, record)
        informer = self.objects.informer(confirmed.kind)
        if informer is None:
            return False
        obj = informer.get(key.namespace, confirmed.name)
        if obj is None or meta.uid(obj) != key.uid or not self.objects.is_wanted(key.node, obj):
            return False
        return not self.objects.is_newer(obj, confirmed.version or "")

    async def _compare(self, key: Key) -> None:
        self._pending.discard(key)
        confirmed = self._records.read(key)
        if confirmed is None:
            return
        try:
            if not await self._node_exists(key.node):
                await self._collect(key)
                return
        except KubeError as error:
            self._log.warn("cannot compare {record}: {error}", record=key.name, error=error)
            return
        seen = await self.objects.look(key, confirmed.kind, confirmed.name)
        if seen is None:
            return
        if seen.obj is None:
            await self.objects.remove(seen)
        elif self.objects.is_newer(seen.obj, confirmed.version or ""):
            await self.objects.repair(seen)

    async def _node_exists(self, node: str) -> bool:
        if self._nodes.get("", node) is not None:
            return True
        # The informer may be behind, and has nodes with the edge role only.
        try:
            await self._client.get(NODES, "", node)
        except KubeError as error:
            if error.code == 404:
                return False
            raise
        return True

    async def _collect(self, key: Key) -> None:
        kind = OBJECTSYNCS if key.namespace else CLUSTEROBJECTSYNCS
        try:
            await self._client.delete(
                kind, key.namespace, key.name, options={"gracePeriodSeconds": 0}
            )
        except KubeError as error:
            if error.code != 404:
                raise
        self.collected += 1


@implementer(IListener)
class _Records:
    def __init__(self, controller: SyncController) -> None:
        self._controller = controller

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self._controller.record_changed(obj)

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        return self._controller.record_changed(new)

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        self._controller.record_deleted(obj)
        return None


@implementer(IListener)
class _Gone:
    def __init__(self, controller: SyncController) -> None:
        self._controller = controller

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return None

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        return None

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return Deferred.fromCoroutine(self._controller.object_deleted(obj))
