"""Which changes of an object its edge should hear of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.kube.interfaces import IListener


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
