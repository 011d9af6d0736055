"""Read what every Kubernetes object has: its kind, its name, its version.

Objects are decoded JSON. A field that is absent, ``null`` or of a wrong type reads as empty,
as it does for a Go peer; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_BOOKKEEPING: Final = frozenset({"resourceVersion", "generation", "managedFields"})
"""Metadata that changes with every write and means nothing to an edge."""


def metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read ``metadata``."""
    found = obj.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _text(mapping: Mapping[str, Any], field: str) -> str:
    found = mapping.get(field)
    return found if isinstance(found, str) else ""


def kind(obj: Mapping[str, Any]) -> str:
    """Read ``kind``: ``Pod``."""
    return _text(obj, "kind")


def api_version(obj: Mapping[str, Any]) -> str:
    """Read ``apiVersion``: ``v1``, ``devices.kubeedge.io/v1beta1``."""
    return _text(obj, "apiVersion")


def namespace(obj: Mapping[str, Any]) -> str:
    """Read the namespace; empty for cluster scope."""
    return _text(metadata(obj), "namespace")


def name(obj: Mapping[str, Any]) -> str:
    """Read the name."""
    return _text(metadata(obj), "name")


def key(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Read namespace and name: what an object is found by."""
    found = metadata(obj)
    return _text(found, "namespace"), _text(found, "name")


def uid(obj: Mapping[str, Any]) -> str:
    """Read the uid: another one means another object, though the name be the same."""
    return _text(metadata(obj), "uid")


def resource_version(obj: Mapping[str, Any]) -> str:
    """Read the version of its content."""
    return _text(metadata(obj), "resourceVersion")


def deleting(obj: Mapping[str, Any]) -> bool:
    """Tell whether the object's graceful deletion has begun."""
    return bool(metadata(obj).get("deletionTimestamp"))


def labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Read the labels."""
    found = metadata(obj).get("labels")
    return found if isinstance(found, Mapping) else {}


def annotation(obj: Mapping[str, Any], which: str) -> str:
    """Read one annotation; empty if there is none of that name."""
    return _text(mapping(obj, "metadata", "annotations"), which)


def mapping(obj: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Read an object inside an object: ``mapping(pod, "spec")``."""
    found: Any = obj
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def sequence(obj: Mapping[str, Any], *path: str) -> list[Mapping[str, Any]]:
    """Read a list of objects inside an object: ``sequence(pod, "spec", "containers")``."""
    *outer, last = path
    found = mapping(obj, *outer).get(last)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def is_newer(version: str, than: str) -> bool:
    """Compare two resource versions.

    Versions are numbers in practice; the API calls them opaque. What is no number counts as
    newer when it differs, so that it is sent once too often rather than never. An empty
    version is older than any other.
    """
    if version == than or not version:
        return False
    if not than:
        return True
    if _is_number(version) and _is_number(than):
        return int(version) > int(than)
    return True


def _is_number(text: str) -> bool:
    # isdigit alone takes superscripts; the length keeps int() linear.
    return text.isascii() and text.isdigit() and len(text) <= 20


def same_for_edge(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether a change is one the edge need not hear of.

    Versions and managed fields are the API server's own; status comes from the edge. Of a Node
    the status counts, since the cloud writes conditions too, but not the time of a heartbeat.
    Of a Pod it counts that somebody else took Ready away, as the node lifecycle controller does
    when a node is silent: only its edge can say that it is Ready after all.
    Source: KubeEdge ``cloud/pkg/edgecontroller/controller/downstream.go``, which compares
    metadata and spec; managed fields and heartbeats it does not leave out.
    """
    if _outside(metadata(old), *_BOOKKEEPING) != _outside(metadata(new), *_BOOKKEEPING):
        return False
    if kind(new) == "Node" and _node_status(old) != _node_status(new):
        return False
    if kind(new) == "Pod" and _is_overruled(new) and not _is_overruled(old):
        return False
    return _outside(old, "metadata", "status") == _outside(new, "metadata", "status")


def _node_status(node: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    conditions = sequence(node, "status", "conditions")
    return _outside(mapping(node, "status"), "conditions"), [
        _outside(condition, "lastHeartbeatTime") for condition in conditions
    ]


def _is_overruled(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod is not Ready though its containers are."""
    found = {each.get("type"): each.get("status") for each in sequence(pod, "status", "conditions")}
    return found.get("Ready") == "False" and found.get("ContainersReady") == "True"


def _outside(obj: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: value for field, value in obj.items() if field not in fields}


def without_managed_fields(obj: dict[str, Any]) -> dict[str, Any]:
    """Copy an object, less ``metadata.managedFields``, which only the API server reads."""
    found = obj.get("metadata")
    if not isinstance(found, dict) or "managedFields" not in found:
        return obj
    return {**obj, "metadata": _outside(found, "managedFields")}
