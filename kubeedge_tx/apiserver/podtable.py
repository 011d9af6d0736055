"""What ``kubectl get pods`` shows of a pod.

Source: Kubernetes ``pkg/printers/internalversion/printers.go`` 1.36, ``printPod``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeedge_tx.apiserver.durations import since

Object = Mapping[str, Any]

_NONE: Final = "<none>"


def cells(pod: Object, now: float) -> list[Any]:
    """The cells of a pod's row, wide ones included.

    :param now: seconds since 1970.
    """
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    status = pod.get("status") or {}
    summary = _summary(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{summary.restarts} ({since(summary.last_restart, now)} ago)"
    addresses = [entry.get("ip", "") for entry in status.get("podIPs") or []]
    address = addresses[0] if addresses else status.get("podIP", "")
    return [
        meta.get("name", ""),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        since(meta.get("creationTimestamp"), now),
        address or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _gates(spec, status),
    ]


def row_conditions(pod: Object) -> list[dict[str, str]]:
    """Mark the row of a pod that has ended, so that watchers can tell."""
    phase = (pod.get("status") or {}).get("phase")
    texts = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}
    if phase not in texts:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": texts[phase]}]


@dataclass(slots=True)
class _Summary:
    reason: str
    total: int
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""

    def restarted(self, container: Object) -> None:
        """Count a container's restarts."""
        self.restarts += container.get("restartCount", 0)
        last = (container.get("lastState") or {}).get("terminated") or {}
        # RFC 3339 in UTC sorts as text.
        self.last_restart = max(self.last_restart, last.get("finishedAt") or "")


def _summary(pod: Object) -> _Summary:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    summary = _Summary(
        reason=status.get("reason") or status.get("phase", ""),
        total=len(spec.get("containers") or []),
    )
    if _condition(status, "PodScheduled").get("reason") == "SchedulingGated":
        summary.reason = "SchedulingGated"
    side = {
        c["name"] for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"
    }
    summary.total += len(side)
    beside = _Summary("", 0)
    initializing = _init_containers(spec, status, summary, beside, side)
    if not initializing or _condition(status, "Initialized").get("status") == "True":
        summary.restarts, summary.last_restart = beside.restarts, beside.last_restart
        _containers(status, summary)
    _deletion(pod, summary)
    return summary


def _init_containers(
    spec: Object, status: Object, summary: _Summary, beside: _Summary, side: set[str]
) -> bool:
    """Follow the init containers; returns whether one of them is still at it."""
    total = len(spec.get("initContainers") or [])
    for index, container in enumerate(status.get("initContainerStatuses") or []):
        restartable = container.get("name") in side
        summary.restarted(container)
        if restartable:
            beside.restarted(container)
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if restartable and container.get("started"):
            summary.ready += bool(container.get("ready"))
            continue
        if ended is not None:
            summary.reason = "Init:" + (ended.get("reason") or _exit(ended))
        elif waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            summary.reason = "Init:" + waiting["reason"]
        else:
            summary.reason = f"Init:{index}/{total}"
        return True
    return False


def _containers(status: Object, summary: _Summary) -> None:
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        summary.restarted(container)
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if waiting is not None and waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif ended is not None:
            summary.reason = ended.get("reason") or _exit(ended)
        elif container.get("ready") and state.get("running") is not None:
            running = True
            summary.ready += 1
    if summary.reason == "Completed" and running:
        ready = _condition(status, "Ready").get("status") == "True"
        summary.reason = "Running" if ready else "NotReady"


def _deletion(pod: Object, summary: _Summary) -> None:
    if not (pod.get("metadata") or {}).get("deletionTimestamp"):
        return
    status = pod.get("status") or {}
    if status.get("reason") == "NodeLost":
        summary.reason = "Unknown"
    elif status.get("phase") not in ("Succeeded", "Failed"):
        summary.reason = "Terminating"


def _exit(ended: Object) -> str:
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _condition(status: Object, kind: str) -> Object:
    for condition in status.get("conditions") or []:
        if condition.get("type") == kind:
            found: Object = condition
            return found
    return {}


def _gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates") or []
    if not gates:
        return _NONE
    met = sum(
        _condition(status, gate.get("conditionType", "")).get("status") == "True" for gate in gates
    )
    return f"{met}/{len(gates)}"
