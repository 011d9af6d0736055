"""What a pod may and may not be, in the API server's words.

Source: Kubernetes ``pkg/apis/core/validation`` 1.36, for the fields that KubeEdge's edges use.
Objects come decoded and with their defaults filled in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver import names
from kubeedge_tx.apiserver.containervalidation import validate_containers
from kubeedge_tx.apiserver.fielderrors import (
    FieldError,
    forbidden,
    invalid,
    invalid_each,
    not_supported,
    one_of,
    required,
)
from kubeedge_tx.apiserver.volumevalidation import validate_volumes

Errors = Iterator[FieldError]

UPDATE_FORBIDDEN: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only"
    " additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set"
    " to 1 if it was previously negative)"
)
_NON_NEGATIVE: Final = "must be greater than or equal to 0"


def validate_pod_spec(spec: Mapping[str, Any], path: str) -> Errors:
    """Check ``spec`` of a pod or of a template."""
    volumes = [volume.get("name", "") for volume in spec.get("volumes") or []]
    yield from validate_volumes(spec.get("volumes") or [], f"{path}.volumes")
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{path}.containers")
    seen: set[str] = set()
    yield from validate_containers(containers, f"{path}.containers", volumes, seen)
    yield from validate_containers(
        spec.get("initContainers") or [], f"{path}.initContainers", volumes, seen, init=True
    )
    yield from one_of(
        spec, "restartPolicy", ("Always", "OnFailure", "Never"), f"{path}.restartPolicy"
    )
    dns = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    yield from one_of(spec, "dnsPolicy", dns, f"{path}.dnsPolicy")
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        yield required(
            f"{path}.dnsConfig",
            "must provide `dnsConfig` when `dnsPolicy` is None"
            if not spec.get("dnsConfig")
            else "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )
    for key, value in (spec.get("nodeSelector") or {}).items():
        yield from invalid_each(names.label_key(key), f"{path}.nodeSelector", key)
        yield from invalid_each(names.label_value(value), f"{path}.nodeSelector", value)
    yield from _checked(spec, "serviceAccountName", names.dns_subdomain, path)
    yield from _checked(spec, "nodeName", names.dns_subdomain, path)
    yield from _checked(spec, "hostname", names.dns_label, path)
    yield from _checked(spec, "subdomain", names.dns_label, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        text = "must be between 1 and 2147483647, inclusive"
        yield invalid(f"{path}.activeDeadlineSeconds", deadline, text)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, _NON_NEGATIVE)
    for index, alias in enumerate(spec.get("hostAliases") or []):
        where = f"{path}.hostAliases[{index}]"
        yield from invalid_each(
            names.ip_address(alias.get("ip", "")), f"{where}.ip", alias.get("ip", "")
        )
        for number, host in enumerate(alias.get("hostnames") or []):
            yield from invalid_each(names.dns_subdomain(host), f"{where}.hostnames[{number}]", host)
    yield from validate_tolerations(spec.get("tolerations") or [], f"{path}.tolerations")


def validate_pod_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """Check which fields of a pod's ``spec`` changed."""
    munged = copy.deepcopy(dict(new))
    for name in ("containers", "initContainers"):
        after, before = munged.get(name) or [], old.get(name) or []
        if len(after) != len(before):
            yield forbidden(f"spec.{name}", "pod updates may not add or remove containers")
            return
        for index, (container, previous) in enumerate(zip(after, before, strict=True)):
            if not container.get("image"):
                yield required(f"spec.{name}[{index}].image")
            container["image"] = previous.get("image")
    yield from _deadline_update(new, old)
    _put_back(munged, old, "activeDeadlineSeconds")
    grace = new.get("terminationGracePeriodSeconds")
    if grace == 1 and old.get("terminationGracePeriodSeconds", 0) < 0:
        _put_back(munged, old, "terminationGracePeriodSeconds")
    gates = [gate.get("name") for gate in old.get("schedulingGates") or []]
    if all(gate.get("name") in gates for gate in new.get("schedulingGates") or []):
        _put_back(munged, old, "schedulingGates")
    if _only_added_tolerations(new.get("tolerations") or [], old.get("tolerations") or []):
        _put_back(munged, old, "tolerations")
    if munged != dict(old):
        yield forbidden("spec", UPDATE_FORBIDDEN)


def _put_back(munged: dict[str, Any], old: Mapping[str, Any], name: str) -> None:
    if name in old:
        munged[name] = old[name]
    else:
        munged.pop(name, None)


def _deadline_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    path = "spec.activeDeadlineSeconds"
    after, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if before is not None and after is None:
        yield invalid(path, None, "must not update from a positive integer to nil value")
    elif before is not None and after is not None and after > before:
        yield invalid(path, after, f"must be less than or equal to previous value {before}")


def _only_added_tolerations(new: list[Any], old: list[Any]) -> bool:
    def bare(toleration: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    return all(any(bare(now) == bare(before) for now in new) for before in old)


def validate_tolerations(tolerations: list[Any], path: str) -> Errors:
    """Check tolerations of a pod."""
    for index, toleration in enumerate(tolerations):
        where = f"{path}[{index}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        value, effect = toleration.get("value", ""), toleration.get("effect", "")
        if key:
            yield from invalid_each(names.label_key(key), f"{where}.key", key)
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values'
            yield invalid(f"{where}.operator", operator, f'{text} and all keys"')
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            yield invalid(f"{where}.effect", effect, text)
        if operator in ("", "Equal"):
            errors = names.label_value(value)
            if errors:
                yield invalid(f"{where}.operator", value, ";".join(errors))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                yield invalid(f"{where}.operator", toleration, text)
        else:
            yield not_supported(f"{where}.operator", operator, ("Equal", "Exists"))
        if effect and effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            yield not_supported(
                f"{where}.effect", effect, ("NoExecute", "NoSchedule", "PreferNoSchedule")
            )


def _checked(
    obj: Mapping[str, Any], field: str, check: Callable[[str], list[str]], path: str
) -> Errors:
    if obj.get(field):
        yield from invalid_each(check(obj[field]), f"{path}.{field}", obj[field])
