"""Binding and evicting pods."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.apiserver import status
from kubeedge_tx.apiserver.meta import Object, replaced
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.shelf import Item
from kubeedge_tx.apiserver.verbs import Verbs


def bind(
    verbs: Verbs, info: KindInfo, namespace: str, name: str, node: str, *, dry_run: bool = False
) -> Deferred[Item] | None:
    """Assign a pod to a node; fires when that is on disk.

    :returns: ``None`` for a dry run.
    :raises ApiError: 400, 404, or 409 if it is assigned or being deleted.
    """
    if not node:
        raise status.bad_request("target.name: Required value")
    item = verbs.find(info, namespace, name)
    spec = item.obj.get("spec") or {}
    why = ""
    if "deletionTimestamp" in item.obj["metadata"]:
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    if why:
        raise status.conflict(info, name, why, kind="pods/binding")
    if dry_run:
        return None
    pod = replaced(item.obj)
    pod["spec"] = {**spec, "nodeName": node}
    scheduled: Object = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(verbs.now()),
    }
    pod["status"] = with_condition(pod.get("status") or {}, scheduled)
    return verbs.store.put(info.resource, namespace, name, pod)


def with_condition(pod_status: Object, condition: Object) -> Object:
    """A status with one condition set; the time of an unchanged one stays."""
    conditions = []
    found = False
    for old in pod_status.get("conditions") or []:
        if old.get("type") != condition["type"]:
            conditions.append(old)
            continue
        found = True
        if old.get("status") == condition["status"] and old.get("lastTransitionTime"):
            condition = {**condition, "lastTransitionTime": old["lastTransitionTime"]}
        conditions.append(condition)
    if not found:
        conditions.append(condition)
    return {**pod_status, "conditions": conditions}
