"""What a field selector may name, per kind, and the values of those fields.

Source: Kubernetes ``pkg/registry/core/*/strategy.go`` and ``pkg/apis/*/v1/conversion.go`` 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubeedge_tx.apiserver.interfaces import IKind
from kubeedge_tx.kube.selectors import field_text

_META: Final = ("metadata.name", "metadata.namespace")
_FIELDS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (
        *_META,
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    ("", "Node"): ("metadata.name", "spec.unschedulable"),
    ("", "Event"): (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
        *_META,
    ),
    ("", "Secret"): ("type", *_META),
    ("", "Namespace"): ("status.phase", "metadata.name"),
    ("", "Service"): (*_META, "spec.clusterIP", "spec.type"),
    ("certificates.k8s.io", "CertificateSigningRequest"): ("metadata.name", "spec.signerName"),
}
_FALSE_WHEN_ABSENT: Final = ("spec.hostNetwork", "spec.unschedulable")


def supported(info: IKind) -> tuple[str, ...]:
    """The fields that may be named."""
    if info.crd is not None:
        return (*_META, *_custom(info))
    return _FIELDS.get((info.group, info.kind), _META)


def unknown_text(info: IKind, field: str) -> str:
    """What the real server says of a field that may not be named."""
    if info.crd is None and (info.group, info.kind) in _FIELDS:
        return f"field label not supported: {field}"
    known = ", ".join(f'"{name}"' for name in supported(info))
    return f'"{field}" is not a known field selector: only {known}'


def fields(info: IKind, obj: Mapping[str, Any]) -> dict[str, str]:
    """The values of the fields that may be named, as a selector writes them."""
    return {name: _value(info, obj, name) for name in supported(info)}


def _custom(info: IKind) -> tuple[str, ...]:
    for version in ((info.crd or {}).get("spec") or {}).get("versions") or []:
        if version.get("name") == info.version:
            chosen = version.get("selectableFields") or []
            return tuple(item.get("jsonPath", "").removeprefix(".") for item in chosen)
    return ()


def _value(info: IKind, obj: Mapping[str, Any], name: str) -> str:
    if name == "status.podIPs":
        return ",".join(entry.get("ip", "") for entry in _walk(obj, name) or [])
    if info.kind == "Event" and name == "source":
        return _event_source(obj)
    value = _walk(obj, name)
    if value is None and name in _FALSE_WHEN_ABSENT:
        return "false"
    return field_text(value)


def _event_source(obj: Mapping[str, Any]) -> str:
    source = obj.get("source") or {}
    return field_text(source.get("component") or obj.get("reportingComponent"))


def _walk(obj: Mapping[str, Any], path: str) -> Any:
    found: Any = obj
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
