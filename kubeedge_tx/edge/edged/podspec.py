"""Reading a Pod: its containers, identity, policies and what it refers to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from kubeedge_tx.api import quantity

Json = dict[str, Any]
"""A decoded JSON object: a Pod, a container, a status."""

DEFAULT_GRACE: Final = 30.0
"""``terminationGracePeriodSeconds`` of a pod that does not say. Source: Kubernetes API."""

_HASHED: Final = ("name", "image", "command", "args", "workingDir", "env", "envFrom")


def metadata(pod: Json) -> Json:
    """Give the metadata; empty if there are none."""
    return pod.get("metadata") or {}


def spec(pod: Json) -> Json:
    """Give the spec; empty if there is none."""
    return pod.get("spec") or {}


def uid(pod: Json) -> str:
    """Give the pod's uid; empty if it has none."""
    return str(metadata(pod).get("uid") or "")


def name(pod: Json) -> str:
    """Give the pod's name."""
    return str(metadata(pod).get("name") or "")


def namespace(pod: Json) -> str:
    """Give the pod's namespace."""
    return str(metadata(pod).get("namespace") or "default")


def key(pod: Json) -> str:
    """Give ``<namespace>/<name>``."""
    return f"{namespace(pod)}/{name(pod)}"


def full_name(pod: Json) -> str:
    """Give ``<name>_<namespace>(<uid>)``, as kubelet's messages have it."""
    return f"{name(pod)}_{namespace(pod)}({uid(pod)})"


def containers(pod: Json) -> list[Json]:
    """Give the main containers, in order."""
    return list(spec(pod).get("containers") or ())


def init_containers(pod: Json) -> list[Json]:
    """Give the init containers, sidecars among them, in order."""
    return list(spec(pod).get("initContainers") or ())


def all_containers(pod: Json) -> Iterator[tuple[Json, bool]]:
    """Give every container and whether it is an init container."""
    for container in init_containers(pod):
        yield container, True
    for container in containers(pod):
        yield container, False


def find_container(pod: Json, wanted: str) -> Json | None:
    """Give the container of that name, if the pod has one."""
    return next((c for c, _ in all_containers(pod) if c.get("name") == wanted), None)


def is_sidecar(container: Json) -> bool:
    """Tell whether an init container keeps running beside the main ones."""
    return container.get("restartPolicy") == "Always"


def restart_policy(pod: Json) -> str:
    """Give ``Always``, ``OnFailure`` or ``Never``."""
    return str(spec(pod).get("restartPolicy") or "Always")


def should_restart(pod: Json, exit_code: int, *, init: bool = False, sidecar: bool = False) -> bool:
    """Tell whether an ended container is to be started again."""
    policy = restart_policy(pod)
    if sidecar:
        return True
    if init:
        return exit_code != 0 and policy != "Never"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def is_host_network(pod: Json) -> bool:
    """Tell whether the pod shares the node's network."""
    return bool(spec(pod).get("hostNetwork"))


def grace_seconds(pod: Json) -> float:
    """Give how long the pod's containers have to end."""
    meta = metadata(pod)
    asked = meta.get("deletionGracePeriodSeconds") if meta.get("deletionTimestamp") else None
    if asked is None:
        asked = spec(pod).get("terminationGracePeriodSeconds")
    return float(asked) if asked is not None else DEFAULT_GRACE


def is_deleted(pod: Json) -> bool:
    """Tell whether a graceful deletion has begun."""
    return bool(metadata(pod).get("deletionTimestamp"))


def spec_hash(container: Json) -> str:
    """Give a text that changes when the container has to be replaced."""
    picked = {field: container[field] for field in _HASHED if container.get(field)}
    return hashlib.sha256(json.dumps(picked, sort_keys=True).encode()).hexdigest()[:16]


def qos_class(pod: Json) -> str:
    """Give ``Guaranteed``, ``Burstable`` or ``BestEffort``.

    Source: ``k8s.io/kubernetes/pkg/apis/core/v1/helper/qos``.
    """
    requests: dict[str, Fraction] = {}
    limits: dict[str, Fraction] = {}
    guaranteed = True
    for container, _ in all_containers(pod):
        resources = container.get("resources") or {}
        limited = set()
        for total, given in ((requests, "requests"), (limits, "limits")):
            for resource in ("cpu", "memory"):
                amount = _amount((resources.get(given) or {}).get(resource))
                if amount:
                    total[resource] = total.get(resource, Fraction(0)) + amount
                    if given == "limits":
                        limited.add(resource)
        guaranteed = guaranteed and limited == {"cpu", "memory"}
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests in ({}, limits) else "Burstable"


def _amount(given: Any) -> Fraction:
    try:
        return quantity.parse(given) if given is not None else Fraction(0)
    except ValueError:
        return Fraction(0)  # where it is needed, the reader is told; here it decides nothing


def mounted_objects(pod: Json) -> frozenset[tuple[str, str]]:
    """Give the ``(configmap|secret, name)`` pairs that the pod's volumes show as files."""
    found: set[tuple[str, str]] = set()
    for volume in spec(pod).get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if config := source.get("configMap"):
                found.add(("configmap", str(config.get("name"))))
            if secret := source.get("secret"):
                found.add(("secret", str(secret.get("secretName") or secret.get("name"))))
    return frozenset(found)
