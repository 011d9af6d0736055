"""SyncController: what each node has confirmed against what the cluster has.

An ObjectSync (ClusterObjectSync for cluster scope) says which version of an object a node has
confirmed. Where the object is gone, or belongs to another node now, the node is told to delete
it; where it is newer, it is sent again; where the node is gone, the record is deleted.

Source: KubeEdge ``cloud/pkg/synccontroller``, which compares every record every five seconds.
Here records are looked at when something happens: at the start, when a node connects, when a
record or its object changes; and all of them once an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.holdings import UNCOUNTED, Confirmation, Digest, Holding, fingerprint
from kubeedge_tx.api.resources import CLUSTEROBJECTSYNCS, NODES, OBJECTSYNCS
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.route import CLUSTER, build
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.beehive.workers import KeyedWorkers
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient, IListener

SWEEP_SECONDS: Final = 3600.0
"""Between two looks at every record."""
PARALLEL: Final = 16
"""Records looked at at once."""

ASKS: Final = 3
ASK_AGAIN: Final = 30.0
"""How often a node is asked what it has, and seconds between."""

_SOURCES: Final = {
    "device": names.DEVICECONTROLLER,
    "devicemodel": names.DEVICECONTROLLER,
    "serviceaccountaccess": names.POLICYCONTROLLER,
}
"""Whose messages lead to the right module on the edge; EdgeController's for all others.

KubeEdge sends all as EdgeController, and its DeviceTwin never hears of a repaired device.
"""


Wanted = Callable[[str, Mapping[str, Any]], bool]


class Confirmations(Protocol):
    """Who writes the records, and has what is not written yet."""

    def removed(self, node: str, namespace: str, uid: str) -> object:
        """Take back that a node has confirmed an object; ``null`` for cluster scope."""

    def unwritten(self, node: str) -> Iterable[Confirmation]:
        """All that a node has confirmed and no informer may tell yet."""


class Key(NamedTuple):
    """Where a record is."""

    namespace: str
    """Empty for a ClusterObjectSync."""
    name: str
    """``<node>.<uid>``."""

    @property
    def node(self) -> str:
        """Whose record it is; a node's name may have dots, a uid has none."""
        return self.name.rpartition(".")[0]

    @property
    def uid(self) -> str:
        """Which object it is about."""
        return self.name.rpartition(".")[2]


@implementer(IListener)
class Relevance:
    """Remember the newest version of each object that its edge should have.

    A pod's status comes from its edge; that it was written is no reason to send the pod.
    """

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}

    def version(self, obj: Mapping[str, Any]) -> str:
        """Read the version that the edge should have, or one that looks the same to it."""
        return self._versions.get(meta.uid(obj)) or meta.resource_version(obj)

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return None

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        if meta.same_for_edge(old, new):
            self._versions.setdefault(meta.uid(new), meta.resource_version(old))
        else:
            self._versions.pop(meta.uid(new), None)
        return None

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        self._versions.pop(meta.uid(obj), None)
        return None


@implementer(IModule)
class SyncController:
    """The module.

    :param object_syncs: informer of objectsyncs; likewise ``cluster_object_syncs``.
    :param nodes: informer of edge nodes.
    :param objects: informers of the kinds that are compared; records of others are left alone.
    :param clock: for the sweeps.
    :param wanted: tells whether a node should have an object that it has a record of; all of
        them if absent.
    :param confirmations: the writer of the records.

    ``repairs`` and ``removals`` count what was sent, ``collected`` the records deleted,
    ``lost`` the objects that edges had confirmed and had no more.
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
        self._bus = bus
        self._messages = messages
        self._client = client
        self._clock = clock
        self._records = {False: object_syncs, True: cluster_object_syncs}
        self._nodes = nodes
        self._objects = list(objects)
        # Records of v1.6 have the plural in lower case.
        self._by_kind = {each.kind.kind.lower(): each for each in self._objects}
        self._by_kind |= {each.kind.plural: each for each in self._objects}
        self._wanted = wanted or (lambda _node, _obj: True)
        self._confirmations = confirmations
        self._sweep_seconds = sweep_seconds
        self._workers = KeyedWorkers(parallel)
        self._tasks = TaskSet()
        self._relevance = Relevance()
        self._pending: set[Key] = set()
        self._of_node: dict[str, set[Key]] = {}
        self._of_uid: dict[str, set[Key]] = {}
        self._talkative: set[str] = set()
        """Connected nodes that say what they have."""
        self._asked: set[str] = set()
        """Those of them that were asked for all of it, and have not answered."""
        self.repairs = 0
        self.removals = 0
        self.collected = 0
        self.lost = 0

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
            await self._digest(route.resource.split("/")[1], message)
            return
        if route.source == names.CLOUDHUB:
            node = route.resource.removeprefix("node/")
            self._talkative.discard(node)
            self._asked.discard(node)
            if route.operation == "connected":
                await self._check(self._of_node.get(node, ()))

    async def _begin(self) -> None:
        for informer in (*self._records.values(), self._nodes, *self._objects):
            await informer.when_synced()
        for informer in self._objects:
            informer.add_listener(self._relevance)
            informer.add_listener(_Gone(self))
        self._nodes.add_listener(_Gone(self))
        for records in self._records.values():
            records.add_listener(_Records(self))  # tells of every record there is
        while True:
            await deferLater(self._clock, self._sweep_seconds)
            everything = set().union(*self._of_node.values())
            self._log.info("comparing all {count} records", count=len(everything))
            await self._check(everything)
            for node in tuple(self._talkative):
                self._ask(node)

    # What happened

    def record_changed(self, record: dict[str, Any]) -> Deferred[None] | None:
        """Know a record, and compare it."""
        key = Key(*meta.key(record))
        node, _, uid = key.name.rpartition(".")
        if not node:
            return None
        self._of_node.setdefault(node, set()).add(key)
        self._of_uid.setdefault(uid, set()).add(key)
        if self._is_in_order(node, uid, record):
            return None
        return Deferred.fromCoroutine(self._check([key]))

    def record_deleted(self, record: dict[str, Any]) -> None:
        """Forget a record."""
        key = Key(*meta.key(record))
        for index, name in ((self._of_node, key.node), (self._of_uid, key.uid)):
            keys = index.get(name)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del index[name]

    async def object_deleted(self, obj: dict[str, Any]) -> None:
        """Compare the records about an object, and, if it is a node, those of the node."""
        keys = set(self._of_uid.get(meta.uid(obj), ()))
        if meta.kind(obj) == NODES.kind:
            keys |= self._of_node.get(meta.name(obj), set())
        await self._check(keys)

    async def _check(self, keys: Iterable[Key]) -> None:
        for key in tuple(keys):
            if key not in self._pending:  # what is read is read when its turn comes
                self._pending.add(key)
                await self._workers.submit(
                    key, partial(self._compare, key), f"comparing {key.name}"
                )

    # What an edge says it has

    async def _digest(self, node: str, message: Message) -> None:
        try:
            said = msgspec.json.decode(message.content, type=Digest)
        except (msgspec.DecodeError, RecursionError):
            self._log.warn("{node} sent a digest that is none", node=node)
            return
        self._talkative.add(node)
        records = self._confirmed(node)
        if said.holdings is None:
            ours = ((each.namespace, each.uid, each.version or "") for each in records.values())
            if fingerprint(ours) != said.fingerprint:
                self._ask(node)
            return
        self._asked.discard(node)
        has = {each.uid: each for each in said.holdings}
        for key, confirmed in records.items():
            found = has.get(key.uid)
            if found is None or meta.is_newer(confirmed.version or "", found.version):
                await self._workers.submit(
                    key, partial(self._restore, key, confirmed), f"restoring {key.name}"
                )
        known = {key.uid for key in records}
        for each in said.holdings:
            if each.uid not in known:
                await self._workers.submit(
                    (node, each.uid), partial(self._doubt, node, each), f"doubting {each.resource}"
                )

    def _confirmed(self, node: str) -> dict[Key, Confirmation]:
        """What a node has confirmed, as far as edges count it."""
        confirmed = {}
        for key in self._of_node.get(node, ()):
            record = self._records[not key.namespace].get(*key)
            if record is None:
                continue
            spec = meta.mapping(record, "spec")
            confirmed[key] = Confirmation(
                key.namespace or CLUSTER,
                key.uid,
                str(spec.get("objectKind") or ""),
                str(spec.get("objectName") or ""),
                str(meta.mapping(record, "status").get("objectResourceVersion") or ""),
            )
        for each in self._confirmations.unwritten(node):
            namespace = "" if each.namespace == CLUSTER else each.namespace
            key = Key(namespace, f"{node}.{each.uid}")
            if each.version is None:
                confirmed.pop(key, None)
            elif key not in confirmed or meta.is_newer(each.version, confirmed[key].version or ""):
                confirmed[key] = each
        return {
            key: each
            for key, each in confirmed.items()
            if each.version and each.kind.lower() not in UNCOUNTED
        }

    def _ask(self, node: str) -> None:
        """Ask a node for all that it has; nobody acknowledges a question, so more than once."""
        if node not in self._asked:
            self._asked.add(node)
            self._tasks.spawn(f"what {node} has", self._ask_until_told(node))

    async def _ask_until_told(self, node: str) -> None:
        for _ in range(ASKS):
            await self._bus.send(
                names.CLOUDHUB,
                self._messages.new(
                    source=names.SYNCCONTROLLER,
                    group=names.GROUP_RESOURCE,
                    operation=names.DIGEST,
                    resource=f"node/{node}/{names.DIGEST_RESOURCE}",
                    content=None,
                ),
            )
            await deferLater(self._clock, ASK_AGAIN)
            if node not in self._asked:
                return
        self._asked.discard(node)

    async def _restore(self, key: Key, confirmed: Confirmation) -> None:
        """Send an object again that the node had confirmed and has lost."""
        self.lost += 1
        self._confirmations.removed(key.node, confirmed.namespace, key.uid)
        informer = self._by_kind.get(confirmed.kind.lower())
        name = confirmed.name
        if informer is None or not name:
            return
        try:
            obj = await self._find(informer, key, name)
        except KubeError as error:
            self._log.warn("cannot restore {record}: {error}", record=key.name, error=error)
            return
        if obj is not None and self._wanted(key.node, obj):
            await self._repair(informer, key, obj)

    async def _doubt(self, node: str, holding: Holding) -> None:
        """Look at an object that the node has and nobody knows to be confirmed."""
        namespace, _, rest = holding.resource.partition("/")
        kind, _, name = rest.partition("/")
        informer = self._by_kind.get(kind)
        if informer is None or not name or "/" in name:
            return
        key = Key("" if namespace == CLUSTER else namespace, f"{node}.{holding.uid}")
        try:
            obj = await self._find(informer, key, name)
        except KubeError as error:
            self._log.warn("cannot compare {record}: {error}", record=key.name, error=error)
            return
        if obj is None or not self._wanted(node, obj):
            await self._remove(informer, key, name)
        elif meta.is_newer(self._relevance.version(obj), holding.version):
            await self._repair(informer, key, obj)

    # Comparing

    def _is_in_order(self, node: str, uid: str, record: dict[str, Any]) -> bool:
        """Whether the caches alone show that there is nothing to do: nearly always."""
        if self._nodes.get("", node) is None:
            return False
        spec = meta.mapping(record, "spec")
        informer = self._by_kind.get(str(spec.get("objectKind") or "").lower())
        if informer is None:
            return False
        obj = informer.get(meta.namespace(record), str(spec.get("objectName") or ""))
        if obj is None or meta.uid(obj) != uid or not self._wanted(node, obj):
            return False
        recorded = str(meta.mapping(record, "status").get("objectResourceVersion") or "")
        return not meta.is_newer(self._relevance.version(obj), recorded)

    async def _compare(self, key: Key) -> None:
        self._pending.discard(key)
        record = self._records[not key.namespace].get(*key)
        if record is None:
            return
        try:
            if not await self._node_exists(key.node):
                await self._collect(key)
                return
            spec = meta.mapping(record, "spec")
            informer = self._by_kind.get(str(spec.get("objectKind") or "").lower())
            name = str(spec.get("objectName") or "")
            if informer is None or not name:
                return
            obj = await self._find(informer, key, name)
        except KubeError as error:
            self._log.warn("cannot compare {record}: {error}", record=key.name, error=error)
            return
        if obj is None or not self._wanted(key.node, obj):
            await self._remove(informer, key, name)
            return
        recorded = str(meta.mapping(record, "status").get("objectResourceVersion") or "")
        if meta.is_newer(self._relevance.version(obj), recorded):
            await self._repair(informer, key, obj)

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

    async def _find(self, informer: IInformer, key: Key, name: str) -> dict[str, Any] | None:
        """Find the very object of a record; a wrong delete would be worse than a question."""
        found = informer.get(key.namespace, name)
        if found is not None and meta.uid(found) == key.uid:
            return found
        try:
            found = await self._client.get(informer.kind, key.namespace, name)
        except KubeError as error:
            if error.code == 404:
                return None
            raise
        if meta.uid(found) != key.uid:
            return None
        kind = informer.kind
        return {
            "kind": kind.kind,
            "apiVersion": kind.api_version,
            **meta.without_managed_fields(found),
        }

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

    async def _remove(self, informer: IInformer, key: Key, name: str) -> None:
        about = {"name": name, "uid": key.uid}
        if key.namespace:
            about["namespace"] = key.namespace
        self.removals += 1
        await self._send(informer, key, name, names.DELETE, {"metadata": about}, "")

    async def _repair(self, informer: IInformer, key: Key, obj: dict[str, Any]) -> None:
        self.repairs += 1
        await self._send(
            informer, key, meta.name(obj), names.UPDATE, obj, meta.resource_version(obj)
        )

    async def _send(
        self,
        informer: IInformer,
        key: Key,
        name: str,
        operation: str,
        content: dict[str, Any],
        version: str,
    ) -> None:
        kind = informer.kind.kind.lower()
        await self._bus.send(
            names.CLOUDHUB,
            self._messages.new(
                source=_SOURCES.get(kind, names.EDGECONTROLLER),
                group=names.GROUP_RESOURCE,
                operation=operation,
                resource=build(key.node, key.namespace, kind, name),
                content=content,
                resource_version=version,
            ),
        )


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
