"""Which pods are on which node, and what they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.shelf import DELETED, Event, Item
from kubeedge_tx.apiserver.store import ObjectStore


class PodIndex:
    """Follows the pods of a store.

    Build it once the store is loaded.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._shelf = store.shelf("pods")
        self._by_node: dict[str, dict[tuple[str, str], Item]] = {}
        for item in self._shelf.all():
            self._add(item)
        self._shelf.listen(self._changed)

    def on_node(self, node: str) -> Iterable[Item]:
        """The pods bound to a node."""
        return tuple(self._by_node.get(node, {}).values())

    def count(self, node: str) -> int:
        """How many pods are bound to a node."""
        return len(self._by_node.get(node, {}))

    def node_of(self, namespace: str, name: str) -> str:
        """The node a pod is bound to; empty if to none, or if there is no such pod."""
        item = self._shelf.get(namespace, name)
        return "" if item is None else _node(item)

    def uses_account(self, node: str, namespace: str, name: str) -> bool:
        """Tell whether a pod on the node runs as that service account."""
        for item in self.on_node(node):
            spec = item.obj.get("spec") or {}
            if item.namespace == namespace and name == (
                spec.get("serviceAccountName") or "default"
            ):
                return True
        return False

    def refers(self, node: str, namespace: str, resource: str, name: str) -> bool:
        """Tell whether a pod on the node refers to that configmap or secret."""
        return any(
            item.namespace == namespace and (resource, name) in references(item.obj)
            for item in self.on_node(node)
        )

    def _changed(self, events: list[Event]) -> None:
        for event in events:
            if event.old is not None and (event.type == DELETED or _moved(event)):
                self._drop(event.old)
            if event.type != DELETED:
                self._add(event.item)

    def _add(self, item: Item) -> None:
        node = _node(item)
        if node:
            self._by_node.setdefault(node, {})[item.key] = item

    def _drop(self, item: Item) -> None:
        node = _node(item)
        found = self._by_node.get(node)
        if found is not None:
            found.pop(item.key, None)
            if not found:
                del self._by_node[node]


def references(pod: Object) -> set[tuple[str, str]]:
    """The configmaps and secrets a pod needs, as (resource, name)."""
    return set(_references(pod.get("spec") or {}))


def _references(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for secret in spec.get("imagePullSecrets") or []:
        yield "secrets", secret.get("name", "")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            for source in container.get("envFrom") or []:
                yield from _pair(source, "configMapRef", "secretRef", "name")
            for variable in container.get("env") or []:
                yield from _pair(
                    variable.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef", "name"
                )
    for volume in spec.get("volumes") or []:
        if volume.get("secret"):
            yield "secrets", volume["secret"].get("secretName", "")
        yield from _pair(volume, "configMap", "", "name")
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from _pair(source, "configMap", "secret", "name")


def _pair(holder: dict[str, Any], config: str, secret: str, key: str) -> Iterator[tuple[str, str]]:
    if holder.get(config):
        yield "configmaps", holder[config].get(key, "")
    if secret and holder.get(secret):
        yield "secrets", holder[secret].get(key, "")


def _node(item: Item) -> str:
    node: str = (item.obj.get("spec") or {}).get("nodeName") or ""
    return node


def _moved(event: Event) -> bool:
    return event.old is not None and _node(event.old) != _node(event.item)
