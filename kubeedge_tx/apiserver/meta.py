"""Metadata of objects: its order, times, and what clients may not change."""

from __future__ import annotations

from typing import Any, Final

from kubeedge_tx.apiserver.registry import KindInfo

Object = dict[str, Any]

_ORDER: Final = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
)
"""As Go writes ``ObjectMeta``. Left out on purpose: selfLink and managedFields."""

SYSTEM: Final = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
"""What the server alone sets."""


def arrange(info: KindInfo, metadata: Object, rest: Object) -> Object:
    """Build the object that is stored: kind, apiVersion, ordered metadata, then the rest.

    The outer dict and the metadata are new; everything else is shared.
    """
    version = info.storage_version or info.version
    meta = {key: metadata[key] for key in _ORDER if metadata.get(key) not in (None, "", {}, [])}
    obj: Object = {
        "kind": info.kind,
        "apiVersion": f"{info.group}/{version}" if info.group else version,
        "metadata": meta,
    }
    for key, value in rest.items():
        if key not in ("kind", "apiVersion", "metadata"):
            obj[key] = value
    return obj


def replaced(obj: Object, **metadata: Any) -> Object:
    """A copy with some metadata changed; ``None`` removes."""
    meta = {**obj["metadata"], **metadata}
    new_meta = {key: meta[key] for key in _ORDER if meta.get(key) is not None}
    return {**obj, "metadata": new_meta}
