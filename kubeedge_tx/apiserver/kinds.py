"""What is special about single kinds when they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.registry import KindInfo

VERSION_REQUIRED: Final = ("leases", "customresourcedefinitions")
"""Built-in kinds that cannot be replaced without naming the version that is replaced."""

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
CRD_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
_APPROVALS: Final = ("Approved", "Denied")
_DEFAULT_TOLERATED: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATION_SECONDS: Final = 300


class Author(Protocol):
    """Who writes, as far as objects record it."""

    @property
    def name(self) -> str: ...

    @property
    def uid(self) -> str: ...

    @property
    def groups(self) -> Sequence[str]: ...


def label(info: KindInfo, metadata: Object) -> None:
    """Give a namespace the label that names it."""
    if info.resource == "namespaces":
        labels = metadata.get("labels") or {}
        metadata["labels"] = {**labels, NAMESPACE_LABEL: metadata["name"]}


def before_create(info: KindInfo, obj: Object, user: Author | None, now: float) -> Object:
    """Set what the server sets in a new object of this kind."""
    if info.resource == "customresourcedefinitions.apiextensions.k8s.io":
        metadata = obj["metadata"]
        finalizers = list(metadata.get("finalizers") or [])
        if CRD_FINALIZER not in finalizers:
            metadata["finalizers"] = [*finalizers, CRD_FINALIZER]
        return {**obj, "status": crd_status(obj, None, now)}
    if info.resource == "namespaces":
        spec = obj.get("spec") or {}
        finalizers = list(spec.get("finalizers") or [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        return {**obj, "spec": {**spec, "finalizers": finalizers}, "status": {"phase": "Active"}}
    if info.resource == "pods":
        return _tolerating(obj)
    if info.resource == "certificatesigningrequests.certificates.k8s.io" and user is not None:
        spec = dict(obj.get("spec") or {})
        for key in ("username", "uid", "groups", "extra"):
            spec.pop(key, None)
        spec["username"] = user.name
        if user.uid:
            spec["uid"] = user.uid
        spec["groups"] = list(user.groups)
        return {**obj, "spec": spec, "status": {}}
    return obj


def before_update(info: KindInfo, subresource: str, obj: Object, old: Object, now: float) -> Object:
    """Set what the server sets in a changed object of this kind."""
    if info.resource == "customresourcedefinitions.apiextensions.k8s.io" and not subresource:
        return {**obj, "status": crd_status(obj, old.get("status"), now)}
    if info.resource == "pods" and not subresource:
        return _tolerating(obj)
    if subresource == "approval":
        conditions = [
            {
                "lastUpdateTime": rfc3339(now),
                **_without_nulls(c),
                "lastTransitionTime": _since(c, now),
            }
            for c in (obj.get("status") or {}).get("conditions") or []
        ]
        return {**obj, "status": {**(obj.get("status") or {}), "conditions": conditions}}
    return obj


def merge_subresource(info: KindInfo, subresource: str, new: Object, old: Object) -> Object:
    """Take from a request what its path may change, and the rest from the object.

    Spec and status never change by one request if the kind has a status subresource.
    """
    if not subresource:
        if not info.has_status:
            return new
        return _with(new, "status", old.get("status"))
    if subresource == "status":
        if info.crd is not None:
            return _with(old, "status", new.get("status"))
        merged = {**old, "metadata": _status_metadata(new["metadata"], old["metadata"])}
        if info.resource == "certificatesigningrequests.certificates.k8s.io":
            given = new.get("status") or {}
            kept = [c for c in _conditions(old) if c.get("type") in _APPROVALS]
            others = [c for c in _conditions(new) if c.get("type") not in _APPROVALS]
            given = {**given, "conditions": kept + others} if kept or others else given
            return _with(merged, "status", given)
        return _with(merged, "status", new.get("status"))
    if subresource == "approval":
        others = [c for c in _conditions(old) if c.get("type") not in _APPROVALS]
        chosen = [c for c in _conditions(new) if c.get("type") in _APPROVALS]
        return {**old, "status": {**(old.get("status") or {}), "conditions": others + chosen}}
    if subresource == "finalize":
        finalizers = (new.get("spec") or {}).get("finalizers") or []
        return {**old, "spec": {**(old.get("spec") or {}), "finalizers": finalizers}}
    return new


def spec_changed(info: KindInfo, new: Object, old: Object) -> bool:
    """Tell whether a change counts for ``metadata.generation``."""
    if info.crd is None:
        return bool(new.get("spec") != old.get("spec"))
    ignored = {"metadata", "status"} if info.has_status else {"metadata"}
    return {k: v for k, v in new.items() if k not in ignored} != {
        k: v for k, v in old.items() if k not in ignored
    }


def is_released(info: KindInfo, obj: Object) -> bool:
    """Tell whether an object waits for nothing any more and can go."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    return info.resource != "namespaces" or not (obj.get("spec") or {}).get("finalizers")


def crd_status(crd: Object, old: Object | None, now: float) -> Object:
    """The status of a definition that is accepted, as all valid ones are."""
    names = crd["spec"].get("names") or {}
    kind = names.get("kind", "")
    accepted = {
        "plural": names.get("plural", ""),
        "singular": names.get("singular") or kind.lower(),
        **({"shortNames": names["shortNames"]} if names.get("shortNames") else {}),
        "kind": kind,
        "listKind": names.get("listKind") or f"{kind}List",
        **({"categories": names["categories"]} if names.get("categories") else {}),
    }
    stored = list((old or {}).get("storedVersions") or [])
    for version in crd["spec"].get("versions") or []:
        if version.get("storage") and version["name"] not in stored:
            stored.append(version["name"])
    conditions = (old or {}).get("conditions") or [
        _condition("NamesAccepted", "NoConflicts", "no conflicts found", now),
        _condition(
            "Established", "InitialNamesAccepted", "the initial names have been accepted", now
        ),
    ]
    return {"conditions": conditions, "acceptedNames": accepted, "storedVersions": stored}


def _tolerating(pod: Object) -> Object:
    """Let a pod stay for five minutes on a node that is lost.

    Source: Kubernetes' admission plugin DefaultTolerationSeconds.
    """
    spec = dict(pod.get("spec") or {})
    tolerations = list(spec.pop("tolerations", None) or [])
    for key in _DEFAULT_TOLERATED:
        if not any(
            t.get("key", key) in ("", key) and t.get("effect", "") in ("", "NoExecute")
            for t in tolerations
        ):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATION_SECONDS,
                }
            )
    made: Object = {}
    for name, value in spec.items():
        made[name] = value
        if name == "schedulerName":  # Go's order of fields
            made["tolerations"] = tolerations
    made["tolerations"] = tolerations
    return {**pod, "spec": made}


def _condition(kind: str, reason: str, message: str, now: float) -> Object:
    return {
        "type": kind,
        "status": "True",
        "lastTransitionTime": rfc3339(now),
        "reason": reason,
        "message": message,
    }


def _status_metadata(new: Object, old: Object) -> Object:
    merged = dict(new)
    for key in ("ownerReferences", "finalizers"):
        merged.pop(key, None)
        if key in old:
            merged[key] = old[key]
    return merged


def _conditions(obj: Object) -> list[Any]:
    found = (obj.get("status") or {}).get("conditions")
    return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []


def _with(obj: Object, key: str, value: Any) -> Object:
    merged = {k: v for k, v in obj.items() if k != key}
    if value is not None:
        merged[key] = value
    return merged


def _without_nulls(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if v is not None}


def _since(condition: Object, now: float) -> str:
    return condition.get("lastTransitionTime") or rfc3339(now)
