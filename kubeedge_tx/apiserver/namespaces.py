"""Namespaces: the ones there always are, what each one holds from the start, and their end."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kubeedge_tx.apiserver.deletion import DeleteOptions, Deletion
from kubeedge_tx.apiserver.meta import Object, replaced
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.services import KUBERNETES_IP
from kubeedge_tx.apiserver.shelf import DELETED, Event, Item
from kubeedge_tx.apiserver.status import ApiError
from kubeedge_tx.apiserver.verbs import Verbs
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.errors import StoreError

ALWAYS: Final = ("default", "kube-node-lease", "kube-public", "kube-system")
RETRY_SECONDS: Final = 1.0
"""How long to wait for objects that have a grace period or finalizers."""
_ROOT_CA: Final = "kube-root-ca.crt"


class NamespaceKeeper:
    """Fills new namespaces and empties those that are being deleted.

    :param ca_pem: the certificate authority that pods are told about.
    """

    _log = Logger()

    def __init__(self, verbs: Verbs, ca_pem: str, clock: IReactorTime) -> None:
        self._verbs = verbs
        self._store = verbs.store
        self._deletion = Deletion(verbs)
        self._ca_pem = ca_pem
        self._clock = clock
        self._tasks = TaskSet()
        self._emptying: set[str] = set()
        self._timers: dict[str, Any] = {}
        self._unlisten: list[Any] = []

    async def start(self) -> None:
        """Make what must be there; fires when it is on disk."""
        for name in ALWAYS:
            if self._store.get("namespaces", "", name) is None:
                await self._create("namespaces", "", {"metadata": {"name": name}})
        for item in list(self._store.shelf("namespaces").all()):
            if "deletionTimestamp" in item.obj["metadata"]:
                self._empty_soon(item.name)
            else:
                await self._fill(item.name)
        if self._store.get("services", "default", "kubernetes") is None:
            await self._create("services", "default", _KUBERNETES)
        for resource, listener in (
            ("namespaces", self._changed),
            ("serviceaccounts", self._removed),
            ("configmaps", self._removed),
        ):
            self._unlisten.append(self._store.shelf(resource).listen(listener))

    async def stop(self) -> None:
        """Stop looking after them."""
        for unlisten in self._unlisten:
            unlisten()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await self._tasks.cancel_all()

    def _changed(self, events: list[Event]) -> None:
        for event in events:
            name = event.item.name
            if event.type == DELETED:
                continue
            if "deletionTimestamp" in event.item.obj["metadata"]:
                self._empty_soon(name)
            elif event.old is None:
                self._tasks.spawn(f"fill namespace {name}", self._fill(name))

    def _removed(self, events: list[Event]) -> None:
        for event in events:
            if event.type == DELETED and event.item.name in ("default", _ROOT_CA):
                namespace = event.item.namespace
                self._tasks.spawn(f"fill namespace {namespace}", self._fill(namespace))

    async def _fill(self, namespace: str) -> None:
        for resource, obj in (
            ("serviceaccounts", {"metadata": {"name": "default"}}),
            (
                "configmaps",
                {
                    "metadata": {
                        "name": _ROOT_CA,
                        "annotations": {
                            "kubernetes.io/description": (
                                "Contains a CA bundle that can be used to verify the "
                                "kube-apiserver when using internal endpoints such as the "
                                "internal service IP or kubernetes.default.svc. No other usage "
                                "is guaranteed across distributions of Kubernetes clusters."
                            )
                        },
                    },
                    "data": {"ca.crt": self._ca_pem},
                },
            ),
        ):
            there = self._store.head(resource, namespace, obj["metadata"]["name"])  # type: ignore[index]
            if there is None:
                await self._create(resource, namespace, obj)
            elif resource == "configmaps" and there.obj.get("data") != obj["data"]:
                new = {**replaced(there.obj), "data": obj["data"]}
                await self._verbs.update(self._info("configmaps"), namespace, _ROOT_CA, new)

    async def _create(self, resource: str, namespace: str, obj: Object) -> None:
        try:
            await self._verbs.create(self._info(resource), namespace, obj)
        except ApiError as error:
            # Somebody was faster, or the namespace is already going.
            if error.code not in (403, 404, 409):
                raise

    def _info(self, resource: str) -> KindInfo:
        info = self._verbs.registry.find("", "v1", resource)
        assert info is not None
        return info

    def _empty_soon(self, name: str, delay: float = 0.0) -> None:
        if name not in self._timers and name not in self._emptying:
            self._timers[name] = self._clock.callLater(delay, self._empty_now, name)

    def _empty_now(self, name: str) -> None:
        del self._timers[name]
        self._emptying.add(name)
        self._tasks.spawn(f"empty namespace {name}", self._empty(name))

    async def _empty(self, name: str) -> None:
        try:
            done = await self._empty_once(name)
        except (ApiError, StoreError) as error:
            self._log.warn("namespace {name} is not empty yet: {why}", name=name, why=error)
            done = False
        finally:
            self._emptying.discard(name)
        if not done:
            self._empty_soon(name, RETRY_SECONDS)

    async def _empty_once(self, name: str) -> bool:
        """Delete what is inside; True when the namespace itself is gone too."""
        namespace = self._store.head("namespaces", "", name)
        if namespace is None:
            return True
        left = 0
        kinds = [info for info in self._verbs.registry.stored() if info.namespaced]
        kinds.sort(key=lambda info: info.resource == "events")  # they tell about the others
        for info in kinds:
            items = [i for i in self._store.shelf(info.resource).all(name) if _is_new(i)]
            await self._deletion.delete_collection(info, items, DeleteOptions())
            left += len(list(self._store.shelf(info.resource).all(name)))
        if left:
            return False
        namespace = self._store.head("namespaces", "", name)
        if namespace is None:
            return True
        finalized = replaced(namespace.obj)
        finalized["spec"] = {
            **(finalized.get("spec") or {}),
            "finalizers": [
                f
                for f in (finalized.get("spec") or {}).get("finalizers") or []
                if f != "kubernetes"
            ],
        }
        if not finalized["spec"]["finalizers"]:
            del finalized["spec"]["finalizers"]
        if finalized["metadata"].get("finalizers") or finalized["spec"].get("finalizers"):
            if finalized != namespace.obj:
                await self._store.put("namespaces", "", name, finalized)
            return False
        await self._store.remove("namespaces", "", name, finalized)
        return True


def _is_new(item: Item) -> bool:
    """Whether an object has not been told to go yet."""
    return "deletionTimestamp" not in item.obj["metadata"]


_KUBERNETES: Final[Object] = {
    "metadata": {
        "name": "kubernetes",
        "labels": {"component": "apiserver", "provider": "kubernetes"},
    },
    "spec": {
        "clusterIP": KUBERNETES_IP,
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
    },
}
