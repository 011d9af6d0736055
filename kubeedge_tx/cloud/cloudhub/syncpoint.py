"""Which version of each object a node has confirmed, kept in the cluster.

One ObjectSync (ClusterObjectSync for cluster scope) for each node and object, named
``<node>.<uid>``. Created after the first acknowledgement, written at most once a second.
Source: KubeEdge ``cloud/pkg/cloudhub/session`` and ``pkg/apis/reliablesyncs/v1alpha1``.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import Interface, implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.holdings import Confirmation
from kubeedge_tx.api.meta import is_newer
from kubeedge_tx.api.resources import CLUSTEROBJECTSYNCS, OBJECTSYNCS, ResourceType
from kubeedge_tx.beehive.route import CLUSTER
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.cloud.cloudhub.queue import Order
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient, IListener

INTERVAL: Final = 1.0
"""Seconds between two writes for one object and node."""

LINGER: Final = 0.5
"""Seconds from an acknowledgement to its record: what is still to be sent goes first, and a
record that is missing after a crash costs one repeated message."""

PARALLEL: Final = 64
"""Writes under way at once."""

FIRST_BACKOFF: Final = 1.0
LONGEST_BACKOFF: Final = 15.0
"""Seconds after a failed write, doubling."""

STOP_TIMEOUT: Final = 5.0
"""Seconds that the last writes have when the process stops."""

_HOPELESS: Final = frozenset({400, 403, 404, 422})
"""Answers to a create that stay the same: the namespace is gone or going, for one."""

Key = tuple[str, str]
"""Namespace (empty for cluster scope) and name of the sync object."""


class ISyncPoint(Interface):
    """The memory of what each node has confirmed."""

    def recorded(node: str, namespace: str, uid: str) -> str | None:
        """Read the confirmed version; ``None`` if there is no record.

        :param namespace: as in the resource: ``null`` for cluster scope.
        """

    def acked(node: str, order: Order) -> None:
        """Note an acknowledgement: record its version, or remove the record of a delete."""

    def reported(node: str, namespace: str, uid: str, version: str) -> None:
        """Note which version a node says to have, if its record says an older one."""

    def removed(node: str, namespace: str, uid: str) -> None:
        """Remove a record: the object is no longer on the node."""

    def unwritten(node: str) -> list[Confirmation]:
        """All that a node has confirmed and the informers may not yet tell."""

    def forget(node: str) -> None:
        """Write nothing more for a node: it is deleted."""

    def flush() -> Deferred[None]:
        """Write what is due or waiting, now; fires when that was tried."""

    def stop() -> Deferred[None]:
        """Flush, and write nothing after; fires within seconds in any case."""


class _Record:
    """What we want in one sync object, and what we know is in it."""

    __slots__ = (
        "api_version",
        "backoff",
        "exists",
        "kind",
        "name",
        "object_name",
        "revision",
        "state",
        "version",
        "written",
        "written_at",
    )

    def __init__(self, key: Key) -> None:
        self.name = key[1]
        self.api_version = self.kind = self.object_name = ""
        self.version: str | None = None
        """Wanted; ``None`` to have no record."""
        self.written: str | None = ""
        """What the last successful write left; an empty text for not yet known."""
        self.written_at = float("-inf")
        self.revision = ""
        """The sync object's own resourceVersion that this write led to."""
        self.exists = False
        """Whether we made it, or saw it; the informer may not have it yet."""
        self.state = _IDLE
        self.backoff = 0.0

    @property
    def node(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def dirty(self) -> bool:
        return self.version != self.written


_IDLE: Final = 0
_WAITING: Final = 1
"""In the heap: its second is not over, or its last write failed."""
_READY: Final = 2
_WRITING: Final = 3


@implementer(ISyncPoint, IListener)
class SyncPoint:
    """Write acknowledged versions to the API server, coalesced.

    :param object_syncs: informer of objectsyncs.
    :param cluster_object_syncs: informer of clusterobjectsyncs.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        kube: IKubeClient,
        object_syncs: IInformer,
        cluster_object_syncs: IInformer,
        *,
        interval: float = INTERVAL,
        linger: float = LINGER,
        parallel: int = PARALLEL,
    ) -> None:
        self._clock = clock
        self._kube = kube
        self._informers = {OBJECTSYNCS: object_syncs, CLUSTEROBJECTSYNCS: cluster_object_syncs}
        self._interval = interval
        self._linger = linger
        self._parallel = parallel
        self._records: dict[Key, _Record] = {}
        self._of_node: dict[str, set[Key]] = {}
        self._waiting: list[tuple[float, Key]] = []
        self._ready: deque[Key] = deque()
        self._active = 0
        self._wake: IDelayedCall | None = None
        self._tasks = TaskSet()
        self._flushing: list[Deferred[None]] = []
        self._starting = False
        self._stopped = False
        self.writes = 0
        """Calls made to the API server."""
        self.failures = 0
        for informer in self._informers.values():
            informer.add_listener(self)

    def __len__(self) -> int:
        """How many sync objects differ from what they should be."""
        return sum(record.dirty for record in self._records.values())

    # ISyncPoint

    def recorded(self, node: str, namespace: str, uid: str) -> str | None:
        kind, key = _place(node, namespace, uid)
        found = self._informers[kind].get(*key)
        seen = None if found is None else _version(found)
        record = self._records.get(key)
        if record is None:
            return seen
        if seen is None or record.version is None:
            return record.version
        return seen if is_newer(seen, record.version) else record.version

    def acked(self, node: str, order: Order) -> None:
        if not order.uid:
            return
        if order.is_delete:
            self.removed(node, order.namespace, order.uid)
            return
        if not order.version or not order.kind:
            return
        known = self.recorded(node, order.namespace, order.uid)
        if known and not is_newer(order.version, known):
            return
        _, key = _place(node, order.namespace, order.uid)
        record = self._record(key)
        record.version = order.version
        record.api_version, record.kind = order.api_version, order.kind
        record.object_name = order.name
        self._schedule(key, record)

    def reported(self, node: str, namespace: str, uid: str, version: str) -> None:
        kind, key = _place(node, namespace, uid)
        found = self._informers[kind].get(*key)
        known = self.recorded(node, namespace, uid)
        if found is None or known is None or not is_newer(version, known):
            return  # without a record, or with one that is being deleted, it is another story
        record = self._record(key)
        record.version = version
        spec = found.get("spec") or {}
        record.api_version = spec.get("objectAPIVersion", "")
        record.kind, record.object_name = spec.get("objectKind", ""), spec.get("objectName", "")
        self._schedule(key, record)

    def removed(self, node: str, namespace: str, uid: str) -> None:
        kind, key = _place(node, namespace, uid)
        if key not in self._records and self._informers[kind].get(*key) is None:
            return
        record = self._record(key)
        record.version = None
        self._schedule(key, record)

    def unwritten(self, node: str) -> list[Confirmation]:
        found = ((key, self._records[key]) for key in self._of_node.get(node, ()))
        return [
            Confirmation(
                key[0] or CLUSTER,
                record.name.rpartition(".")[2],
                record.kind,
                record.object_name,
                record.version,
            )
            for key, record in found
        ]

    def forget(self, node: str) -> None:
        for key in tuple(self._of_node.get(node, ())):
            if self._records[key].state != _WRITING:
                self._drop(key)

    def flush(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._flushing.append(done)
        waiting, self._waiting = self._waiting, []
        for _, key in waiting:
            self._rouse(key)
        self._start_more()
        self._tell_flushed()
        return done

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            await self.flush().addTimeout(STOP_TIMEOUT, self._clock)
        except TimeoutError:
            self._log.warn(
                "{count} confirmed versions are not recorded: the API server does not answer. "
                "SyncController sends these objects again after the next start",
                count=len(self),
            )
        self._stopped = True
        await self._tasks.cancel_all()
        if self._wake is not None and self._wake.active():
            self._wake.cancel()

    # IListener: our memory is needed until the informer has caught up

    def added(self, obj: dict[str, Any]) -> None:
        self._seen(obj)

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._seen(new)

    def deleted(self, obj: dict[str, Any]) -> None:
        key = _key(obj)
        record = self._records.get(key)
        if record is not None:
            record.exists = False
            if record.state == _IDLE:
                self._drop(key)

    def _seen(self, obj: dict[str, Any]) -> None:
        key = _key(obj)
        record = self._records.get(key)
        if record is not None and record.state == _IDLE and not record.dirty:
            self._compare(key, record, obj)

    def _compare(self, key: Key, record: _Record, obj: dict[str, Any] | None) -> None:
        """Forget a record that is written, once the informer tells the same or something newer.

        A write of another process may have been on its way longer than ours, and have undone
        it: then ours is made again.
        """
        seen = None if obj is None else _version(obj)
        if seen == record.version:
            self._drop(key)
        elif (
            obj is not None
            and record.version is not None
            and is_newer(meta.resource_version(obj), record.revision)
        ):
            if is_newer(seen or "", record.version):
                self._drop(key)
            else:
                record.written = seen
                self._schedule(key, record)

    def _record(self, key: Key) -> _Record:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record(key)
            self._of_node.setdefault(record.node, set()).add(key)
        return record

    def _drop(self, key: Key) -> None:
        record = self._records.pop(key, None)
        if record is None:
            return
        keys = self._of_node[record.node]
        keys.discard(key)
        if not keys:
            del self._of_node[record.node]

    def _schedule(self, key: Key, record: _Record) -> None:
        if record.state != _IDLE:
            return
        now = self._clock.seconds()
        due = max(record.written_at + self._interval, now + self._linger)
        if self._flushing or due <= now:
            record.state = _READY
            self._ready.append(key)
            self._start_more()
        else:
            self._wait(key, record, due)

    def _wait(self, key: Key, record: _Record, due: float) -> None:
        record.state = _WAITING
        heapq.heappush(self._waiting, (due, key))
        self._set_wake()

    def _set_wake(self) -> None:
        if not self._waiting or self._stopped:
            return
        due = self._waiting[0][0]
        if self._wake is not None and self._wake.active():
            if self._wake.getTime() <= due:
                return
            self._wake.cancel()
        self._wake = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._woken)

    def _woken(self) -> None:
        self._wake = None
        now = self._clock.seconds()
        while self._waiting and self._waiting[0][0] <= now:
            _, key = heapq.heappop(self._waiting)
            self._rouse(key)
        self._start_more()
        self._set_wake()

    def _rouse(self, key: Key) -> None:
        record = self._records.get(key)
        if record is None or record.state != _WAITING:
            return
        if record.dirty:
            record.state = _READY
            self._ready.append(key)
        else:
            self._settle(key, record)

    def _settle(self, key: Key, record: _Record) -> None:
        """Rest, now that all is written and the interval over."""
        record.state = _IDLE
        kind = OBJECTSYNCS if key[0] else CLUSTEROBJECTSYNCS
        self._compare(key, record, self._informers[kind].get(*key))

    def _start_more(self) -> None:
        if self._starting:
            return  # a write that ended at once: the loop below goes on
        self._starting = True
        while self._ready and self._active < self._parallel and not self._stopped:
            key = self._ready.popleft()
            record = self._records.get(key)
            if record is None or record.state != _READY:
                continue
            record.state = _WRITING
            self._active += 1
            self._tasks.spawn(f"record {record.name}", self._write(key, record))
        self._starting = False

    async def _write(self, key: Key, record: _Record) -> None:
        version = record.version
        started = self._clock.seconds()
        try:
            if version is None:
                await self._delete(key)
            else:
                await self._put(key, record, version)
        except KubeError as error:
            self.failures += 1
            if not record.exists and error.code in _HOPELESS:
                self._log.warn(
                    "nothing records that the node confirmed {name} ({kind} {object}): {error}",
                    name=record.name,
                    kind=record.kind,
                    object=record.object_name,
                    error=str(error),
                )
                self._drop(key)
                return
            record.backoff = min(max(FIRST_BACKOFF, record.backoff * 2), LONGEST_BACKOFF)
            self._log.warn(
                "could not record that the node confirmed {name} ({kind} {object}): {error}; "
                "again in {seconds:g} s",
                name=record.name,
                kind=record.kind,
                object=record.object_name,
                error=str(error),
                seconds=record.backoff,
            )
            self._wait(key, record, self._clock.seconds() + record.backoff)
        else:
            record.backoff = 0.0
            record.written, record.written_at = version, started
            # Also when all is written: the interval must pass before the next write.
            self._wait(key, record, started + self._interval)
        finally:
            self._active -= 1
            self._start_more()
            self._tell_flushed()

    async def _put(self, key: Key, record: _Record, version: str) -> None:
        kind = OBJECTSYNCS if key[0] else CLUSTEROBJECTSYNCS
        if not record.exists and self._informers[kind].get(*key) is None:
            await self._create(kind, key, record)
        status = {"status": {"objectResourceVersion": version}}
        try:
            self.writes += 1
            made = await self._kube.patch(kind, *key, status, subresource="status")
        except KubeError as error:
            if error.code != 404:
                raise
            # It is gone, and the informer may not know that yet.
            record.exists = False
            await self._create(kind, key, record)
            self.writes += 1
            made = await self._kube.patch(kind, *key, status, subresource="status")
        record.exists = True
        record.revision = meta.resource_version(made)

    async def _create(self, kind: ResourceType, key: Key, record: _Record) -> None:
        metadata = {"name": key[1], "namespace": key[0]} if key[0] else {"name": key[1]}
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": metadata,
            "spec": {
                "objectAPIVersion": record.api_version,
                "objectKind": record.kind,
                "objectName": record.object_name,
            },
        }
        try:
            self.writes += 1
            await self._kube.create(kind, key[0], body)
        except KubeError as error:
            if error.code != 409:
                raise
        record.exists = True

    async def _delete(self, key: Key) -> None:
        kind = OBJECTSYNCS if key[0] else CLUSTEROBJECTSYNCS
        try:
            self.writes += 1
            await self._kube.delete(kind, *key, options={"gracePeriodSeconds": 0})
        except KubeError as error:
            if error.code != 404:
                raise

    def _tell_flushed(self) -> None:
        if not self._active and not self._ready:
            flushing, self._flushing = self._flushing, []
            for done in flushing:
                done.callback(None)


def _place(node: str, namespace: str, uid: str) -> tuple[ResourceType, Key]:
    name = f"{node}.{uid}"
    if namespace == CLUSTER:
        return CLUSTEROBJECTSYNCS, ("", name)
    return OBJECTSYNCS, (namespace, name)


def _key(obj: dict[str, Any]) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _version(obj: dict[str, Any]) -> str:
    status = obj.get("status")
    return str(status.get("objectResourceVersion") or "") if isinstance(status, dict) else ""
