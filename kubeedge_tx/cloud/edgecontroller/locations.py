"""Which nodes need which ConfigMap and Secret: what their pods refer to, counted.

Pure. KubeEdge only ever adds nodes (``cloud/pkg/edgecontroller/manager/locationcache.go``)
and looks into fewer places; here an entry goes with the last pod that needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from kubeedge_tx.api import meta

CONFIGMAP: Final = "configmap"
SECRET: Final = "secret"  # noqa: S105 - the name of a type

MIRROR: Final = "kubernetes.io/config.mirror"
"""Annotation of a pod that mirrors what a node runs from a file; nodes make such pods."""

PodKey = tuple[str, str]
"""Namespace and name."""

_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")
_SECRET_REFS: Final = ("secretRef", "nodePublishSecretRef")
"""How volume drivers name their secret: cephfs, rbd, iscsi, flexVolume…, csi."""


class Ref(NamedTuple):
    """A ConfigMap or a Secret."""

    type: str
    namespace: str
    name: str


def references(pod: Mapping[str, Any]) -> frozenset[Ref]:
    """List the ConfigMaps and Secrets that a node needs to run a pod."""
    namespace = meta.namespace(pod)
    found = set(_named(SECRET, meta.sequence(pod, "spec", "imagePullSecrets")))
    for volume in meta.sequence(pod, "spec", "volumes"):
        found |= _of_volume(volume)
    for group in _CONTAINERS:
        for container in meta.sequence(pod, "spec", group):
            found |= _of_container(container)
    return frozenset(Ref(kind, namespace, name) for kind, name in found)


def _of_volume(volume: Mapping[str, Any]) -> set[tuple[str, str]]:
    found = {
        (CONFIGMAP, meta.mapping(volume, "configMap").get("name")),
        (SECRET, meta.mapping(volume, "secret").get("secretName")),
        (SECRET, meta.mapping(volume, "azureFile").get("secretName")),
    }
    for source in meta.sequence(volume, "projected", "sources"):
        found.add((CONFIGMAP, meta.mapping(source, "configMap").get("name")))
        found.add((SECRET, meta.mapping(source, "secret").get("name")))
    for driver in volume.values():
        if isinstance(driver, Mapping):
            found |= {(SECRET, meta.mapping(driver, ref).get("name")) for ref in _SECRET_REFS}
    return _texts(found)


def _of_container(container: Mapping[str, Any]) -> set[tuple[str, str]]:
    found: set[tuple[str, Any]] = set()
    for source in meta.sequence(container, "envFrom"):
        found.add((CONFIGMAP, meta.mapping(source, "configMapRef").get("name")))
        found.add((SECRET, meta.mapping(source, "secretRef").get("name")))
    for variable in meta.sequence(container, "env"):
        found.add((CONFIGMAP, meta.mapping(variable, "valueFrom", "configMapKeyRef").get("name")))
        found.add((SECRET, meta.mapping(variable, "valueFrom", "secretKeyRef").get("name")))
    return _texts(found)


def _named(kind: str, items: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    return _texts((kind, item.get("name")) for item in items)


def _texts(found: Iterable[tuple[str, Any]]) -> set[tuple[str, str]]:
    return {(kind, name) for kind, name in found if isinstance(name, str) and name}


class Locations:
    """Pods by node, and nodes by what those pods refer to."""

    def __init__(self) -> None:
        self._pods: dict[PodKey, tuple[str, frozenset[Ref]]] = {}
        self._on: dict[str, dict[PodKey, None]] = {}
        self._counts: dict[Ref, dict[str, int]] = {}

    def place(self, pod: PodKey, node: str, refs: Collection[Ref]) -> list[Ref]:
        """Note where a pod is and what it refers to, instead of what was known of it.

        :param node: empty for a pod that is on no node yet.
        :returns: what no pod of that node referred to before, in a stable order.
        """
        new = {ref for ref in refs if not self.needs(node, ref)}
        self.remove(pod)
        if not node:
            return []
        self._pods[pod] = (node, frozenset(refs))
        self._on.setdefault(node, {})[pod] = None
        for ref in refs:
            counts = self._counts.setdefault(ref, {})
            counts[node] = counts.get(node, 0) + 1
        return sorted(new)

    def remove(self, pod: PodKey) -> None:
        """Forget a pod, and what only it referred to."""
        node, refs = self._pods.pop(pod, ("", frozenset()))
        for ref in refs:
            counts = self._counts[ref]
            counts[node] -= 1
            if not counts[node]:
                del counts[node]
            if not counts:
                del self._counts[ref]
        pods = self._on.get(node)
        if pods is not None:
            pods.pop(pod, None)
            if not pods:
                del self._on[node]

    def nodes(self, ref: Ref) -> list[str]:
        """List the nodes whose pods refer to something."""
        return list(self._counts.get(ref, ()))

    def pods(self, node: str) -> list[PodKey]:
        """List the pods on a node."""
        return list(self._on.get(node, ()))

    def needs(self, node: str, ref: Ref) -> bool:
        """Tell whether a pod on a node refers to something."""
        return node in self._counts.get(ref, ())
