"""The records of what nodes have confirmed: ObjectSync, and ClusterObjectSync without namespace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from kubeedge_tx.api import meta
from kubeedge_tx.api.holdings import UNCOUNTED, Confirmation
from kubeedge_tx.beehive.route import CLUSTER
from kubeedge_tx.kube.interfaces import IInformer


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


class Confirmations(Protocol):
    """Who writes the records, and has what is not written yet."""

    def reported(self, node: str, namespace: str, uid: str, version: str) -> object:
        """Note which version a node says to have, if its record says an older one."""

    def removed(self, node: str, namespace: str, uid: str) -> object:
        """Take back that a node has confirmed an object; ``null`` for cluster scope."""

    def unwritten(self, node: str) -> Iterable[Confirmation]:
        """All that a node has confirmed and no informer may tell yet."""


class Records:
    """All records, by node and by object.

    :param confirmations: the writer of the records.
    """

    def __init__(
        self, object_syncs: IInformer, cluster_object_syncs: IInformer, confirmations: Confirmations
    ) -> None:
        self.informers = (object_syncs, cluster_object_syncs)
        self._confirmations = confirmations
        self._of_node: dict[str, set[Key]] = {}
        self._of_uid: dict[str, set[Key]] = {}

    def add(self, key: Key) -> None:
        """Know of a record."""
        self._of_node.setdefault(key.node, set()).add(key)
        self._of_uid.setdefault(key.uid, set()).add(key)

    def discard(self, key: Key) -> None:
        """Forget a record."""
        for index, name in ((self._of_node, key.node), (self._of_uid, key.uid)):
            keys = index.get(name)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del index[name]

    def all(self) -> list[Key]:
        """Every record."""
        return [key for keys in self._of_node.values() for key in keys]

    def of_node(self, node: str) -> list[Key]:
        """The records of a node."""
        return list(self._of_node.get(node, ()))

    def of_object(self, uid: str) -> list[Key]:
        """The records about an object."""
        return list(self._of_uid.get(uid, ()))

    def read(self, key: Key) -> Confirmation | None:
        """Read a record, as the informer has it."""
        object_syncs, cluster_object_syncs = self.informers
        record = (object_syncs if key.namespace else cluster_object_syncs).get(*key)
        return None if record is None else confirmation(key, record)

    def confirmed(self, node: str) -> dict[Key, Confirmation]:
        """All that a node has confirmed, as far as edges count it, written down or not."""
        found = {key: each for key in self.of_node(node) if (each := self.read(key)) is not None}
        for each in self._confirmations.unwritten(node):
            namespace = "" if each.namespace == CLUSTER else each.namespace
            key = Key(namespace, f"{node}.{each.uid}")
            if each.version is None:
                found.pop(key, None)
            elif key not in found or meta.is_newer(each.version, found[key].version or ""):
                found[key] = each
        return {
            key: each
            for key, each in found.items()
            if each.version and each.kind.lower() not in UNCOUNTED
        }

    def catch_up(self, key: Key, version: str) -> None:
        """Let a record say what the node has by now."""
        self._confirmations.reported(key.node, key.namespace or CLUSTER, key.uid, version)

    def take_back(self, key: Key) -> None:
        """Believe no more that a node has confirmed an object."""
        self._confirmations.removed(key.node, key.namespace or CLUSTER, key.uid)


def confirmation(key: Key, record: dict[str, Any]) -> Confirmation:
    """Read a record; one that a crash has left without a version confirms nothing yet."""
    spec = meta.mapping(record, "spec")
    return Confirmation(
        key.namespace or CLUSTER,
        key.uid,
        str(spec.get("objectKind") or ""),
        str(spec.get("objectName") or ""),
        str(meta.mapping(record, "status").get("objectResourceVersion") or ""),
    )
