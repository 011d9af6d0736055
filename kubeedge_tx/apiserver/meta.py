"""Metadata of objects: its order, times, and what clients may not change."""

from __future__ import annotations

from datetime import UTC, datetime
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


def rfc3339(now: float) -> str:
    """A time in seconds since 1970 as ``2026-11-24T08:03:59Z``."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(now: float) -> str:
    """A time as ``2026-11-24T08:03:59.000000Z``, the form of Lease times."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: object) -> float | None:
    """Read a time back; ``None`` if it is none."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


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
