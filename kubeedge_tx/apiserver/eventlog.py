"""Event objects: made by the scheduler and by node life, and forgotten after an hour."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kubeedge_tx.api.timestamps import rfc3339, seconds_since_1970
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.shelf import Item
from kubeedge_tx.apiserver.status import ApiError
from kubeedge_tx.apiserver.verbs import Verbs
from kubeedge_tx.errors import StoreError

_SWEEP_SECONDS: Final = 60.0
_PER_SWEEP: Final = 1000


class EventRecorder:
    """Writes events about objects.

    :param component: who tells: ``default-scheduler``.
    """

    _log = Logger()

    def __init__(self, verbs: Verbs, component: str) -> None:
        self._verbs = verbs
        self._component = component

    def record(self, item: Item, kind: str, reason: str, message: str, *, warning: bool) -> None:
        """Tell something about an object; nobody waits for it."""
        info = self._verbs.registry.find("", "v1", "events")
        assert info is not None
        now = self._verbs.now()
        namespace = item.namespace or "default"
        involved: Object = {"kind": kind, "apiVersion": item.obj["apiVersion"]}
        if item.namespace:
            involved["namespace"] = item.namespace
        involved |= {
            "name": item.name,
            "uid": item.obj["metadata"]["uid"],
            "resourceVersion": str(item.version),
        }
        event = {
            "metadata": {"name": f"{item.name}.{int(now * 1e9):x}", "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "firstTimestamp": rfc3339(now),
            "lastTimestamp": rfc3339(now),
            "count": 1,
            "type": "Warning" if warning else "Normal",
            "reportingComponent": self._component,
        }
        try:
            self._verbs.create(info, namespace, event).addErrback(self._failed)
        except ApiError as error:  # the namespace is going, or the name is taken
            self._log.debug("no event {reason}: {why}", reason=reason, why=error)

    def _failed(self, failure: Failure) -> None:
        self._log.debug("no event: {why}", why=failure.value)


class EventExpiry:
    """Removes events that are old.

    :param lifetime: seconds that one is kept.
    """

    _log = Logger()

    def __init__(self, verbs: Verbs, clock: IReactorTime, lifetime: float) -> None:
        self._verbs = verbs
        self._lifetime = lifetime
        self._loop = LoopingCall(self.sweep)
        self._loop.clock = clock

    def start(self) -> None:
        """Sweep every minute."""
        self._loop.start(_SWEEP_SECONDS, now=False).addErrback(self._stopped)

    def stop(self) -> None:
        """Sweep no more."""
        if self._loop.running:
            self._loop.stop()

    def sweep(self) -> None:
        """Remove what is too old now."""
        store = self._verbs.store
        limit = self._verbs.now() - self._lifetime
        old = [item for item in store.shelf("events").all() if _last(item.obj) < limit]
        for item in old[:_PER_SWEEP]:
            if store.head("events", item.namespace, item.name) is item:
                copy = {**item.obj, "metadata": dict(item.obj["metadata"])}
                removed = store.remove("events", item.namespace, item.name, copy)
                removed.addErrback(self._not_removed)

    def _not_removed(self, failure: Failure) -> None:
        failure.trap(StoreError)

    def _stopped(self, failure: Failure) -> None:
        self._log.failure("old events are no longer removed", failure)


def _last(event: Object) -> float:
    series = event.get("series") or {}
    times = (
        event["metadata"].get("creationTimestamp"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        series.get("lastObservedTime"),
    )
    return max((t for t in map(seconds_since_1970, times) if t is not None), default=0.0)
