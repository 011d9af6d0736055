"""The PodStatus that kubelet 1.32 would report.

Source: ``k8s.io/kubernetes/pkg/kubelet/kubelet_pods.go`` and ``status/generate.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kubeedge_tx.api.partition import CONDITION, ON_PARTITION, PolicyError, read_policy
from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.runtime.interfaces import ContainerState, PodState

UNKNOWN_EXIT: Final = 137
"""Exit code of a container that is gone without a trace. Source: kubelet."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container is not running yet."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ProbeFlags:
    """What probes say of a running container."""

    started: bool = True
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a pod, decided by the node."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What there is to know of a pod besides its spec."""

    state: PodState | None
    runtime: str
    """Scheme of container ids: ``docker``."""
    host_ip: str
    now: float
    """Wall clock, seconds."""
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    """By container name: why it is not started."""
    flags: Mapping[str, ProbeFlags] = field(default_factory=dict)
    """By container id; a container without probes may be left out."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """By container id: termination messages."""
    ended: bool = False
    """Nothing of the pod will run any more."""
    verdict: Verdict | None = None


def pod_status(pod: Json, previous: Json, seen: Observed) -> Json:
    """Compute the status.

    :param previous: the last one that was computed, or the stored one; times, counts and
        endings that the runtime has forgotten are taken from it.
    """
    inits = _container_statuses(pod, previous, seen, init=True, initialized=False)
    initialized = all(
        each["ready"] or podspec.is_sidecar(container)
        for container, each in zip(podspec.init_containers(pod), inits, strict=True)
    )
    mains = _container_statuses(pod, previous, seen, init=False, initialized=initialized)
    phase = _phase(pod, inits, mains, ended=seen.ended)
    if seen.verdict is not None:
        phase = "Failed"
    elif previous.get("phase") in ("Succeeded", "Failed"):
        phase = previous["phase"]
    elif seen.ended and phase not in ("Succeeded", "Failed"):
        phase = "Failed"

    status: Json = {"phase": phase, "qosClass": podspec.qos_class(pod)}
    reason = seen.verdict or (
        Verdict(previous.get("reason", ""), previous.get("message", ""))
        if phase == previous.get("phase") and phase == "Failed"
        else None
    )
    if reason and reason.reason:
        status["reason"] = reason.reason
        status["message"] = reason.message
    status["startTime"] = previous.get("startTime") or rfc3339(seen.now)
    status["hostIP"] = seen.host_ip
    status["hostIPs"] = [{"ip": seen.host_ip}]
    if ip := _pod_ip(pod, seen):
        status["podIP"] = ip
        status["podIPs"] = [{"ip": ip}]
    if inits:
        status["initContainerStatuses"] = inits
    status["containerStatuses"] = sorted(mains, key=lambda each: str(each["name"]))
    status["conditions"] = _conditions(pod, previous, seen, phase, inits, mains)
    return status


def status_patch(pod: Json, status: Json, former: Mapping[str, Iterable[str]]) -> Json:
    """Write a status as the strategic merge patch that makes it so, whatever was before.

    :param former: by field, ``podIPs`` and ``hostIPs``: addresses that once were there.
        The API server merges these lists by address, so what is gone must be named.
    """
    body = dict(status)
    for name in ("reason", "message", "podIP", "initContainerStatuses"):
        body.setdefault(name, None)
    body["conditions"] = [
        {"message": None, "reason": None, **condition} for condition in status["conditions"]
    ]
    for name, addresses in former.items():
        present = list(status.get(name) or ())
        gone = sorted(set(addresses) - {each["ip"] for each in present})
        if gone:
            body[name] = present + [{"$patch": "delete", "ip": ip} for ip in gone]
    return {"metadata": {"uid": podspec.uid(pod)}, "status": body}


def agree(ours: Json, theirs: Json) -> bool:
    """Tell whether two statuses say the same of a pod, whatever their details are."""
    return _gist(ours) == _gist(theirs)


def _gist(status: Json) -> Json:
    owned = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
    return {
        "phase": status.get("phase"),
        "podIP": status.get("podIP"),
        "conditions": {
            each.get("type"): each.get("status")
            for each in status.get("conditions") or ()
            if each.get("type") in owned
        },
        "containers": {
            each.get("name"): (each.get("restartCount"), each.get("ready"), [*each["state"]])
            for field in ("containerStatuses", "initContainerStatuses")
            for each in status.get(field) or ()
            if each.get("state")
        },
    }


def _pod_ip(pod: Json, seen: Observed) -> str:
    if seen.state is None or not seen.state.sandbox_ready:
        return ""
    return seen.host_ip if podspec.is_host_network(pod) else seen.state.ip


# Containers -------------------------------------------------------------------------------


def newest(state: PodState | None, name: str) -> list[ContainerState]:
    """Give the attempts of a container, newest first."""
    if state is None:
        return []
    found = [each for each in state.containers if each.name == name]
    return sorted(found, key=lambda each: (each.attempt, each.created_at), reverse=True)


def _container_statuses(
    pod: Json, previous: Json, seen: Observed, *, init: bool, initialized: bool
) -> list[Json]:
    field_name = "initContainerStatuses" if init else "containerStatuses"
    before = {each["name"]: each for each in previous.get(field_name) or ()}
    spec = podspec.init_containers(pod) if init else podspec.containers(pod)
    return [
        _container_status(
            pod, container, before.get(container["name"]), seen, init=init, initialized=initialized
        )
        for container in spec
    ]


def _container_status(
    pod: Json,
    container: Json,
    before: Json | None,
    seen: Observed,
    *,
    init: bool,
    initialized: bool,
) -> Json:
    name = container["name"]
    attempts = newest(seen.state, name)
    if attempts:
        current = attempts[0]
        status = _of_attempt(current, seen)
        earlier = attempts[1] if len(attempts) > 1 else None
        if earlier is not None:
            status["lastState"] = {"terminated": _terminated(earlier, seen)}
        elif before and before.get("restartCount") == current.attempt:
            status["lastState"] = before.get("lastState") or {}
    else:
        status = _without_container(pod, container, before, init=init)
    waiting = seen.waiting.get(name)
    if waiting is not None and not seen.ended and "running" not in status["state"]:
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        status["state"] = {
            "waiting": _without_empty({"reason": waiting.reason, "message": waiting.message})
        }
    if seen.ended and initialized and "terminated" not in status["state"]:
        status["state"] = {"terminated": _lost("when the pod was terminated")}
    flags = _flags(status, seen)
    status["started"] = flags.started
    status["ready"] = flags.ready
    if init and not podspec.is_sidecar(container):
        ending = status["state"].get("terminated")
        status["ready"] = ending is not None and ending["exitCode"] == 0
    if mounts := [_mount_status(mount) for mount in container.get("volumeMounts") or ()]:
        status["volumeMounts"] = mounts
    return status


def _of_attempt(attempt: ContainerState, seen: Observed) -> Json:
    if attempt.state == "running":
        state: Json = {"running": {"startedAt": rfc3339(attempt.started_at)}}
    elif attempt.state == "exited" or attempt.error:
        state = {"terminated": _terminated(attempt, seen)}
    else:
        state = {"waiting": {"reason": "ContainerCreating"}}
    return {
        "name": attempt.name,
        "image": attempt.image,
        "imageID": attempt.image_id,
        "containerID": f"{seen.runtime}://{attempt.id}",
        "restartCount": attempt.attempt,
        "state": state,
        "lastState": {},
    }


def _without_container(pod: Json, container: Json, before: Json | None, *, init: bool) -> Json:
    """Describe a container that the runtime does not have."""
    default = "PodInitializing" if podspec.init_containers(pod) else "ContainerCreating"
    status: Json = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "restartCount": 0,
        "state": {"waiting": {"reason": default}},
        "lastState": {},
    }
    if before is None:
        return status
    status["restartCount"] = before.get("restartCount", 0)
    state = before.get("state") or {}
    if "terminated" in state:
        kept = {name: value for name, value in before.items() if name != "volumeMounts"}
        return {**status, **kept}
    status["lastState"] = before.get("lastState") or {}
    if "running" in state and not (init and not podspec.is_sidecar(container)):
        lost = _lost("when the pod was deleted.  The container used to be Running")
        status["lastState"] = {"terminated": lost}
        if not podspec.is_deleted(pod):
            status["restartCount"] += 1
    return status


def _lost(when: str) -> Json:
    return {
        "exitCode": UNKNOWN_EXIT,
        "reason": "ContainerStatusUnknown",
        "message": f"The container could not be located {when}",
        "startedAt": None,
        "finishedAt": None,
    }


def _terminated(attempt: ContainerState, seen: Observed) -> Json:
    if attempt.error:
        reason = "StartError"
    elif attempt.oom_killed:
        reason = "OOMKilled"
    else:
        reason = "Error" if attempt.exit_code else "Completed"
    ending: Json = {
        "exitCode": attempt.exit_code or (128 if attempt.error else 0),
        "reason": reason,
        "message": seen.messages.get(attempt.id) or attempt.error,
        "signal": attempt.signal,
        "startedAt": rfc3339(attempt.started_at or attempt.created_at),
        "finishedAt": rfc3339(attempt.finished_at or attempt.created_at),
        "containerID": f"{seen.runtime}://{attempt.id}",
    }
    return {name: value for name, value in ending.items() if value or name == "exitCode"}


def _flags(status: Json, seen: Observed) -> ProbeFlags:
    if "running" not in status["state"]:
        return ProbeFlags(False, False)
    flags = seen.flags.get(status["containerID"].partition("://")[2], ProbeFlags())
    return flags if flags.started else ProbeFlags(False, False)


def _mount_status(mount: Json) -> Json:
    status = {"mountPath": mount.get("mountPath"), "name": mount.get("name")}
    if mount.get("readOnly"):
        status |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return status


def _without_empty(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value}


# Phase ------------------------------------------------------------------------------------


def _phase(pod: Json, inits: list[Json], mains: list[Json], *, ended: bool) -> str:
    pending, failed = _initialization(pod, inits)
    policy = podspec.restart_policy(pod)
    if failed and policy == "Never":
        return "Failed"
    waiting = running = stopped = succeeded = 0
    sidecars = {c["name"] for c in podspec.init_containers(pod) if podspec.is_sidecar(c)}
    for status in [each for each in inits if each["name"] in sidecars]:
        if "running" in status["state"]:
            running += 1
        elif "waiting" in status["state"] and "terminated" not in status["lastState"]:
            waiting += 1
    for status in mains:
        state = status["state"]
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif "terminated" in status["lastState"]:
            stopped += 1
        else:
            waiting += 1
    if mains and not running and all("terminated" in each["state"] for each in mains):
        # Nothing will start an init container now, even one of which no trace is left.
        if succeeded == stopped and policy != "Always":
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    if pending or waiting:
        return "Pending"
    if stopped and not running and (ended or policy != "Always"):
        if stopped == succeeded:
            return "Succeeded"
        if ended or policy == "Never":
            return "Failed"
    return "Running" if running or stopped else "Pending"


def _initialization(pod: Json, inits: list[Json]) -> tuple[bool, bool]:
    """Tell whether init containers are still to end, and whether one has failed."""
    pending = failed = False
    for container, status in zip(podspec.init_containers(pod), inits, strict=True):
        state = status["state"]
        if podspec.is_sidecar(container):
            pending = pending or ("running" in state and not status["started"])
            continue
        ending = state.get("terminated")
        if "waiting" in state:
            ending = status["lastState"].get("terminated")
            pending = pending or ending is None
        if "running" in state:
            pending = True
        elif ending is not None and ending["exitCode"] != 0:
            failed = True
            pending = pending or podspec.restart_policy(pod) != "Never"
    return pending, failed


# Conditions -------------------------------------------------------------------------------


def _conditions(
    pod: Json, previous: Json, seen: Observed, phase: str, inits: list[Json], mains: list[Json]
) -> list[Json]:
    sandbox = bool(
        phase not in ("Succeeded", "Failed")
        and seen.state
        and seen.state.sandbox_ready
        and (podspec.is_host_network(pod) or seen.state.ip)
    )
    containers = _containers_ready(pod, phase, inits, mains)
    wanted = [
        ("PodReadyToStartContainers", sandbox, "", ""),
        ("Initialized", *_initialized(pod, phase, inits, mains)),
        ("Ready", *_ready(pod, containers)),
        ("ContainersReady", *containers),
        ("PodScheduled", True, "", ""),
    ]
    before = {each.get("type"): each for each in previous.get("conditions") or ()}
    annotations = podspec.metadata(pod).get("annotations") or {}
    if annotations.get(ON_PARTITION) or CONDITION in before:
        wanted.append((CONDITION, *_on_partition(pod)))
    return [
        _condition(kind, holds, reason, message, before.get(kind), seen.now)
        for kind, holds, reason, message in wanted
    ]


def _on_partition(pod: Json) -> tuple[bool, str, str]:
    """Say what will become of the pod: who replaces it must know that we know it."""
    try:
        policy = read_policy(pod)
    except PolicyError as error:
        return False, "NotUnderstood", str(error)
    if policy is None:
        return False, "Keep", ""
    reason = "ReplaceAfter" if policy.replace else "StopAfter"
    return True, reason, str(podspec.metadata(pod)["annotations"][ON_PARTITION])


def _condition(
    kind: str, holds: bool, reason: str, message: str, before: Json | None, now: float
) -> Json:
    status = "True" if holds else "False"
    since = before.get("lastTransitionTime") if before and before.get("status") == status else None
    condition: Json = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since or rfc3339(now),
    }
    return condition | _without_empty({"reason": reason, "message": message})


def _containers_ready(
    pod: Json, phase: str, inits: list[Json], mains: list[Json]
) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    sidecars = {c["name"] for c in podspec.init_containers(pod) if podspec.is_sidecar(c)}
    unready = [
        each["name"]
        for each in [*(i for i in inits if i["name"] in sidecars), *mains]
        if not each["ready"]
    ]
    if unready:
        names = " ".join(unready)
        return False, "ContainersNotReady", f"containers with unready status: [{names}]"
    return True, "", ""


def _ready(pod: Json, containers: tuple[bool, str, str]) -> tuple[bool, str, str]:
    if not containers[0]:
        return containers
    given = {each.get("type"): each for each in (pod.get("status") or {}).get("conditions") or ()}
    messages = []
    for gate in podspec.spec(pod).get("readinessGates") or ():
        kind = gate.get("conditionType")
        if kind not in given:
            messages.append(
                f'corresponding condition of pod readiness gate "{kind}" does not exist.'
            )
        elif given[kind].get("status") != "True":
            messages.append(
                f'the status of pod readiness gate "{kind}" is not "True", '
                f"but {given[kind].get('status')}"
            )
    if messages:
        return False, "ReadinessGatesNotReady", ", ".join(messages)
    return True, "", ""


def _initialized(
    pod: Json, phase: str, inits: list[Json], mains: list[Json]
) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    began: list[Any] = [each for each in mains if each["started"] or "terminated" in each["state"]]
    if began:
        return True, "", ""
    incomplete = [
        status["name"]
        for container, status in zip(podspec.init_containers(pod), inits, strict=True)
        if not status["started" if podspec.is_sidecar(container) else "ready"]
    ]
    if incomplete:
        names = " ".join(incomplete)
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{names}]"
    return True, "", ""
