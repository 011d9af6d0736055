"""CustomResourceDefinitions: served as soon as they are stored, emptied before they go."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kubeedge_tx.apiserver.deletion import DeleteOptions, Deletion
from kubeedge_tx.apiserver.kinds import CRD_FINALIZER
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.shelf import DELETED, Event
from kubeedge_tx.apiserver.status import ApiError
from kubeedge_tx.apiserver.verbs import Verbs
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.errors import StoreError

RESOURCE: Final = "customresourcedefinitions.apiextensions.k8s.io"
RETRY_SECONDS: Final = 1.0


class DefinitionKeeper:
    """Keeps the registry like the definitions in the store."""

    _log = Logger()

    def __init__(self, verbs: Verbs, clock: IReactorTime) -> None:
        self._verbs = verbs
        self._store = verbs.store
        self._registry = verbs.registry
        self._deletion = Deletion(verbs)
        self._clock = clock
        self._tasks = TaskSet()
        self._timers: dict[str, Any] = {}
        self._unlisten: Any = None

    def start(self) -> None:
        """Serve what is defined, and follow changes."""
        for item in self._store.shelf(RESOURCE).all():
            self._registry.put_crd(item.obj)
            if "deletionTimestamp" in item.obj["metadata"]:
                self._remove_soon(item.name, 0)
        self._unlisten = self._store.shelf(RESOURCE).listen(self._changed)

    async def stop(self) -> None:
        """Follow no longer."""
        if self._unlisten is not None:
            self._unlisten()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await self._tasks.cancel_all()

    def _changed(self, events: list[Event]) -> None:
        for event in events:
            name = event.item.name
            if event.type == DELETED:
                self._registry.drop_crd(name)
                continue
            self._registry.put_crd(event.item.obj)
            if "deletionTimestamp" in event.item.obj["metadata"]:
                self._remove_soon(name, 0)

    def _remove_soon(self, name: str, delay: float) -> None:
        if name not in self._timers:
            self._timers[name] = self._clock.callLater(delay, self._remove_now, name)

    def _remove_now(self, name: str) -> None:
        del self._timers[name]
        self._tasks.spawn(f"remove definition {name}", self._remove(name))

    async def _remove(self, name: str) -> None:
        try:
            done = await self._remove_once(name)
        except (ApiError, StoreError) as error:
            self._log.warn("definition {name} cannot go yet: {why}", name=name, why=error)
            done = False
        if not done:
            self._remove_soon(name, RETRY_SECONDS)

    async def _remove_once(self, name: str) -> bool:
        """Delete the definition's objects; True once the definition may go as well."""
        for info in self._registry.of_crd(name)[:1]:
            shelf = self._store.shelf(info.resource)
            await self._deletion.delete_collection(info, list(shelf.all()), DeleteOptions())
            if shelf.count:
                return False
        crds = self._registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert crds is not None
        if self._store.head(RESOURCE, "", name) is not None:
            await self._verbs.patch(crds, "", name, _without_finalizer)
        return True


def _without_finalizer(crd: Object) -> Object:
    metadata = dict(crd["metadata"])
    metadata["finalizers"] = [f for f in metadata.get("finalizers") or [] if f != CRD_FINALIZER]
    return {**crd, "metadata": metadata}
