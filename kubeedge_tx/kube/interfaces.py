"""What the rest of the cloud needs of the Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from kubeedge_tx.api.resources import ResourceType

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class IKubeClient(Interface):
    """Calls to the API server; every one fires with decoded JSON or fails with KubeError.

    Transport errors, 429 and 5xx are retried thrice inside; nobody else retries a call.
    ``as_node`` impersonates ``system:node:<as_node>`` in group ``system:nodes``.
    """

    def get(
        kind: ResourceType, namespace: str, name: str, *, as_node: str = ""
    ) -> Deferred[dict[str, Any]]:
        """Read one object."""

    def list(
        kind: ResourceType,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Deferred[dict[str, Any]]:
        """Read all objects, following ``continue``; fires with the whole List object."""

    def create(
        kind: ResourceType,
        namespace: str,
        body: Any,
        *,
        name: str = "",
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        """POST; ``name`` and ``subresource`` are for ``pods/<name>/binding`` and the like."""

    def update(
        kind: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        *,
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        """PUT."""

    def patch(
        kind: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        """PATCH; ``body`` may be a value or JSON text as ``bytes``."""

    def delete(
        kind: ResourceType, namespace: str, name: str, *, options: Any = None, as_node: str = ""
    ) -> Deferred[dict[str, Any]]:
        """DELETE, with DeleteOptions if given."""


class IListener(Interface):
    """Whom an informer tells. A returned Deferred makes the informer, and its watch, wait."""

    def added(obj: dict[str, Any]) -> Deferred[None] | None:
        """A new object, or one that was there when the informer started."""

    def modified(old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        """An object changed; also after a relist found another version."""

    def deleted(obj: dict[str, Any]) -> Deferred[None] | None:
        """An object is gone; ``obj`` is its last known state."""


class IInformer(Interface):
    """A cache of one kind, kept by list and watch, and its lister.

    Objects carry ``apiVersion`` and ``kind`` and are never changed by a reader.
    """

    kind: ResourceType = Attribute("What it holds.")
    synced: bool = Attribute("Whether the first list is in.")

    def get(namespace: str, name: str) -> dict[str, Any] | None:
        """Look one up; namespace empty for cluster scope."""

    def items() -> Iterable[dict[str, Any]]:
        """All of them."""

    def add_listener(listener: Any) -> None:
        """Tell an IListener about everything there is (if synced) and everything to come."""

    def when_synced() -> Deferred[None]:
        """Fires when the first list is in."""
