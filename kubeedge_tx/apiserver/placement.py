"""Which nodes may run a pod, and why the others may not. Pure.

The reasons are kube-scheduler's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from kubeedge_tx.api.resources import EDGE_ROLE_LABEL

Object = dict[str, Any]

_REFUSING: Final = ("NoSchedule", "NoExecute")


def refusal(pod: Object, node: Object, pods_on_node: int) -> str:
    """Why a node cannot take a pod; empty if it can.

    :param pods_on_node: how many pods are bound to it.
    """
    spec, status = node.get("spec") or {}, node.get("status") or {}
    labels = node["metadata"].get("labels") or {}
    pod_spec = pod.get("spec") or {}
    tolerations = pod_spec.get("tolerations") or []
    if EDGE_ROLE_LABEL not in labels:
        return f"node(s) were no edge nodes (label {EDGE_ROLE_LABEL})"
    if spec.get("unschedulable") and not _tolerated(
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, tolerations
    ):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or []:
        if taint.get("effect") in _REFUSING and not _tolerated(taint, tolerations):
            value = taint.get("value") or ""
            return f"node(s) had untolerated taint {{{taint.get('key', '')}: {value}}}"
    if not _is_ready(status):
        return "node(s) were not ready"
    if not _selected(pod_spec, labels, node["metadata"]["name"]):
        return "node(s) didn't match Pod's node affinity/selector"
    room = (status.get("allocatable") or {}).get("pods")
    if room is not None and str(room).isdigit() and pods_on_node >= int(room):
        return "Too many pods"
    return ""


def choose(pod: Object, nodes: Iterable[Object], count: Callable[[str], int]) -> tuple[str, str]:
    """Take the node with the fewest pods.

    :param count: gives the number of pods on a node.
    :returns: the node's name and an empty text, or an empty name and the reason, as in
        ``0/3 nodes are available: 3 node(s) were unschedulable.``
    """
    reasons: dict[str, int] = {}
    best: tuple[int, str] | None = None
    total = 0
    for node in nodes:
        total += 1
        name = node["metadata"]["name"]
        there = count(name)
        why = refusal(pod, node, there)
        if why:
            reasons[why] = reasons.get(why, 0) + 1
        elif best is None or (there, name) < best:
            best = there, name
    if best is not None:
        return best[1], ""
    if not total:
        return "", "no nodes available to schedule pods"
    told = ", ".join(sorted(f"{n} {why}" for why, n in reasons.items()))
    return "", f"0/{total} nodes are available: {told}."


def _is_ready(status: Object) -> bool:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Ready":
            return bool(condition.get("status") == "True")
    return False


def _tolerated(taint: Object, tolerations: list[Object]) -> bool:
    for toleration in tolerations:
        effect = toleration.get("effect") or ""
        if effect and effect != taint.get("effect"):
            continue
        key = toleration.get("key") or ""
        exists = toleration.get("operator") == "Exists"
        if not key:
            if exists:
                return True
            continue
        if key != taint.get("key"):
            continue
        if exists or (toleration.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _selected(pod_spec: Object, labels: dict[str, str], name: str) -> bool:
    wanted = pod_spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term(term, labels, name) for term in required.get("nodeSelectorTerms") or [])


def _term(term: Object, labels: dict[str, str], name: str) -> bool:
    expressions = term.get("matchExpressions") or []
    fields = term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return all(_matches(e, labels) for e in expressions) and all(
        _matches(f, {"metadata.name": name}) for f in fields
    )


def _matches(expression: Object, labels: dict[str, str]) -> bool:
    value = labels.get(expression.get("key") or "")
    values = expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                left, right = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
    return False
