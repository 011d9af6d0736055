"""The Node object and its status, as kubelet 1.32 under KubeEdge reports them.

Source: ``k8s.io/kubernetes/pkg/kubelet/nodestatus/setters.go``; KubeEdge
``edge/pkg/edged/edged.go``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.edge.edged.machine import Machine, Usage
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.settings import NodeSettings

KUBERNETES_VERSION: Final = "v1.32.10"
"""The kubelet that this agent behaves like."""
RESERVED_MEMORY_KIB: Final = 100 * 1024
"""Below this much free memory the node has pressure. Source: ``evictionHard`` default."""
RESERVED_DISK: Final = 0.1
RESERVED_INODES: Final = 0.05
"""Parts of the disk that must stay free. Source: ``evictionHard`` defaults."""
PROCESSES_FULL: Final = 0.95
"""Part of the process ids in use from which the node has pressure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The container runtime, as it answers now."""

    name: str
    version: str = ""
    problem: str = ""
    """Why it does not answer; empty if it does."""


def node_object(
    settings: NodeSettings,
    machine: Machine,
    usage: Usage,
    engine: Engine,
    version: str,
    now: float,
) -> Json:
    """Make the Node to register, without kind and apiVersion."""
    spec: Json = {}
    taints = [dict(taint) for taint in settings.taints]
    if not settings.schedulable:
        spec["unschedulable"] = True
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    if taints:
        spec["taints"] = taints
    labels = {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": settings.name,
        "kubernetes.io/os": "linux",
        "node-role.kubernetes.io/agent": "",
        "node-role.kubernetes.io/edge": "",
        **settings.labels,
    }
    annotations = {
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        **settings.annotations,
    }
    return {
        "metadata": {
            "name": settings.name,
            "creationTimestamp": None,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": spec,
        "status": node_status(settings, machine, usage, engine, version, {}, now),
    }


def node_status(
    settings: NodeSettings,
    machine: Machine,
    usage: Usage,
    engine: Engine,
    version: str,
    previous: Json,
    now: float,
) -> Json:
    """Compute the node's whole status.

    :param previous: the status reported before, for transition times.
    """
    capacity = _capacity(settings, machine, usage)
    return {
        "capacity": capacity,
        "allocatable": allocatable(settings, machine, usage),
        "conditions": _conditions(usage, engine, previous, now),
        "addresses": [
            {"type": "InternalIP", "address": settings.ip},
            {"type": "Hostname", "address": settings.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.kubelet_port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": f"{engine.name}://{engine.version or 'unknown'}",
            "kubeletVersion": f"{KUBERNETES_VERSION}-kubeedge-tx-{version}",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
    }


def allocatable(settings: NodeSettings, machine: Machine, usage: Usage) -> dict[str, str]:
    """Give what pods may have of the machine."""
    memory = max(0, machine.memory_kib - RESERVED_MEMORY_KIB)
    disk = int(usage.disk_kib * 1024 * (1 - RESERVED_DISK))
    return {
        **_capacity(settings, machine, usage),
        "ephemeral-storage": str(disk),
        "memory": f"{memory}Ki",
    }


def differs(one: Json, other: Json) -> bool:
    """Tell whether two statuses say different things, heartbeats aside."""
    return _without_heartbeats(one) != _without_heartbeats(other)


def ready(status: Json) -> str:
    """Give the status of the Ready condition; empty if there is none."""
    conditions = status.get("conditions") or ()
    return next((str(each.get("status")) for each in conditions if each.get("type") == "Ready"), "")


def _without_heartbeats(status: Json) -> Json:
    conditions = [
        {name: value for name, value in each.items() if name != "lastHeartbeatTime"}
        for each in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions}


def _capacity(settings: NodeSettings, machine: Machine, usage: Usage) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "ephemeral-storage": f"{usage.disk_kib}Ki",
        **{
            f"hugepages-{_size(int(size))}": _size(int(size) * pages) if pages else "0"
            for size, pages in sorted(machine.hugepages.items())
        },
        "memory": f"{machine.memory_kib}Ki",
        "pods": str(settings.max_pods),
    }


def _size(kib: int) -> str:
    for unit, factor in (("Gi", 1024 * 1024), ("Mi", 1024)):
        if kib % factor == 0:
            return f"{kib // factor}{unit}"
    return f"{kib}Ki"


def _conditions(usage: Usage, engine: Engine, previous: Json, now: float) -> list[Json]:
    memory = usage.memory_free_kib < RESERVED_MEMORY_KIB
    disk = (
        bool(usage.disk_problem)
        or usage.disk_free_kib < usage.disk_kib * RESERVED_DISK
        or (usage.inodes > 0 and usage.inodes_free < usage.inodes * RESERVED_INODES)
    )
    processes = bool(
        usage.processes_limit and usage.processes > usage.processes_limit * PROCESSES_FULL
    )
    wanted = [
        _pressure(
            "MemoryPressure",
            memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        _pressure(
            "DiskPressure",
            disk,
            ("KubeletHasDiskPressure", usage.disk_problem or "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        _pressure(
            "PIDPressure",
            processes,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        _pressure(
            "Ready",
            not engine.problem,
            ("EdgeReady", "edge is posting ready status"),
            ("EdgeNotReady", f"container runtime is down: {engine.problem}"),
        ),
    ]
    before = {each.get("type"): each for each in previous.get("conditions") or ()}
    conditions = []
    for condition in wanted:
        former = before.get(condition["type"])
        same = former is not None and former.get("status") == condition["status"]
        since = former.get("lastTransitionTime") if former is not None and same else None
        conditions.append(
            {
                "type": condition["type"],
                "status": condition["status"],
                "lastHeartbeatTime": rfc3339(now),
                "lastTransitionTime": since or rfc3339(now),
                "reason": condition["reason"],
                "message": condition["message"],
            }
        )
    return conditions


def _pressure(
    kind: str, holds: bool, if_true: tuple[str, str], if_false: tuple[str, str]
) -> dict[str, str]:
    reason, message = if_true if holds else if_false
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason,
        "message": message,
    }
