"""What a pod may and may not be, in the API server's words.

Source: Kubernetes ``pkg/apis/core/validation`` 1.36, for the fields that KubeEdge's edges use.
Objects come decoded and with their defaults filled in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver import names
from kubeedge_tx.apiserver.fielderrors import (
    NOT_FOUND,
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)
from kubeedge_tx.apiserver.quantity import parse

Errors = Iterator[FieldError]

UPDATE_FORBIDDEN: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only"
    " additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set"
    " to 1 if it was previously negative)"
)
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_FIELD_PATHS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_RESOURCES: Final = ("cpu", "ephemeral-storage", "memory", "storage")
_NON_NEGATIVE: Final = "must be greater than or equal to 0"


def validate_pod_spec(spec: Mapping[str, Any], path: str) -> Errors:
    """Check ``spec`` of a pod or of a template."""
    volumes = [volume.get("name", "") for volume in spec.get("volumes") or []]
    yield from _volumes(spec.get("volumes") or [], f"{path}.volumes")
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{path}.containers")
    seen: set[str] = set()
    yield from _containers(containers, f"{path}.containers", volumes, seen)
    yield from _containers(
        spec.get("initContainers") or [], f"{path}.initContainers", volumes, seen, init=True
    )
    yield from _one_of(
        spec, "restartPolicy", ("Always", "OnFailure", "Never"), f"{path}.restartPolicy"
    )
    dns = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    yield from _one_of(spec, "dnsPolicy", dns, f"{path}.dnsPolicy")
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        yield required(
            f"{path}.dnsConfig",
            "must provide `dnsConfig` when `dnsPolicy` is None"
            if not spec.get("dnsConfig")
            else "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )
    for key, value in (spec.get("nodeSelector") or {}).items():
        yield from _texts(names.label_key(key), f"{path}.nodeSelector", key)
        yield from _texts(names.label_value(value), f"{path}.nodeSelector", value)
    yield from _texts_if(spec, "serviceAccountName", names.dns_subdomain, path)
    yield from _texts_if(spec, "nodeName", names.dns_subdomain, path)
    yield from _texts_if(spec, "hostname", names.dns_label, path)
    yield from _texts_if(spec, "subdomain", names.dns_label, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        text = "must be between 1 and 2147483647, inclusive"
        yield invalid(f"{path}.activeDeadlineSeconds", deadline, text)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, _NON_NEGATIVE)
    for index, alias in enumerate(spec.get("hostAliases") or []):
        where = f"{path}.hostAliases[{index}]"
        yield from _texts(names.ip_address(alias.get("ip", "")), f"{where}.ip", alias.get("ip", ""))
        for number, host in enumerate(alias.get("hostnames") or []):
            yield from _texts(names.dns_subdomain(host), f"{where}.hostnames[{number}]", host)
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
            yield from _texts(names.label_key(key), f"{where}.key", key)
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


# --- containers -------------------------------------------------------------------------


def _containers(
    containers: list[Any], path: str, volumes: list[str], seen: set[str], *, init: bool = False
) -> Errors:
    for index, container in enumerate(containers):
        where = f"{path}[{index}]"
        name = container.get("name", "")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from _texts(names.dns_label(name), f"{where}.name", name)
            if name in seen:
                yield duplicate(f"{where}.name", name)
            seen.add(name)
        image = container.get("image", "")
        if not image:
            yield required(f"{where}.image")
        elif image != image.strip():
            yield invalid(f"{where}.image", image, "must not have leading or trailing whitespace")
        policies = ("FallbackToLogsOnError", "File")
        yield from _one_of(
            container, "terminationMessagePolicy", policies, f"{where}.terminationMessagePolicy"
        )
        yield from _ports(container.get("ports") or [], f"{where}.ports")
        yield from _env(container.get("env") or [], f"{where}.env")
        yield from _env_from(container.get("envFrom") or [], f"{where}.envFrom")
        yield from _mounts(container.get("volumeMounts") or [], f"{where}.volumeMounts", volumes)
        yield from _one_of(container, "imagePullPolicy", _PULL_POLICIES, f"{where}.imagePullPolicy")
        yield from _resources(container.get("resources") or {}, f"{where}.resources")
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(probe) is None:
                continue
            if init and container.get("restartPolicy") != "Always":
                yield forbidden(
                    f"{where}.{probe}",
                    "may not be set for init containers without restartPolicy=Always",
                )
                continue
            single = probe != "readinessProbe"
            yield from _probe(container[probe], f"{where}.{probe}", once=single)
        for hook, handler in (container.get("lifecycle") or {}).items():
            if isinstance(handler, dict):
                yield from _handler(handler, f"{where}.lifecycle.{hook}")


def _ports(ports: list[Any], path: str) -> Errors:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        name = port.get("name", "")
        if name:
            yield from _texts(names.port_name(name), f"{where}.name", name)
            if name in seen:
                yield duplicate(f"{where}.name", name)
            seen.add(name)
        number = port.get("containerPort", 0)
        if not number:
            yield required(f"{where}.containerPort")
        else:
            yield from _texts(names.port_number(number), f"{where}.containerPort", number)
        if port.get("hostPort"):
            host = port["hostPort"]
            yield from _texts(names.port_number(host), f"{where}.hostPort", host)
        yield from _one_of(port, "protocol", _PROTOCOLS, f"{where}.protocol")


def _env(env: list[Any], path: str) -> Errors:
    for index, variable in enumerate(env):
        where = f"{path}[{index}]"
        name = variable.get("name", "")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from _texts(names.env_name(name), f"{where}.name", name)
        source = variable.get("valueFrom")
        if source is None:
            continue
        where += ".valueFrom"
        kinds = [kind for kind, value in source.items() if value is not None]
        if variable.get("value"):
            yield invalid(where, "", "may not be specified when `value` is not empty")
        elif not kinds:
            yield invalid(
                where,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`,"
                " `secretKeyRef` or `fileKeyRef`",
            )
        elif len(kinds) > 1:
            yield invalid(where, "", "may not have more than one field specified at a time")
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if source.get(kind) is not None:
                yield from _key_ref(source[kind], f"{where}.{kind}")
        if source.get("fieldRef") is not None:
            yield from _field_ref(source["fieldRef"], f"{where}.fieldRef")


def _key_ref(reference: Mapping[str, Any], path: str) -> Errors:
    if not reference.get("name"):
        yield required(f"{path}.name")
    if not reference.get("key"):
        yield required(f"{path}.key")
    else:
        yield from _texts(names.config_key(reference["key"]), f"{path}.key", reference["key"])


def _field_ref(reference: Mapping[str, Any], path: str) -> Errors:
    if not reference.get("fieldPath"):
        yield required(f"{path}.fieldPath")
        return
    field = reference["fieldPath"]
    if field.partition("[")[0] not in _FIELD_PATHS:
        yield not_supported(f"{path}.fieldPath", field, _FIELD_PATHS)


def _env_from(sources: list[Any], path: str) -> Errors:
    for index, source in enumerate(sources):
        where = f"{path}[{index}]"
        if source.get("prefix"):
            prefix = source["prefix"]
            yield from _texts(names.env_name(prefix), f"{where}.prefix", prefix)
        kinds = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in kinds:
            if not source[kind].get("name"):
                yield required(f"{where}.{kind}.name")
        if not kinds:
            yield invalid(where, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(kinds) > 1:
            yield invalid(where, "", "may not have more than one field specified at a time")


def _mounts(mounts: list[Any], path: str, volumes: list[str]) -> Errors:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        name, target = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield required(f"{where}.name")
        if name not in volumes:
            yield FieldError(f"{where}.name", NOT_FOUND, name)
        if not target:
            yield required(f"{where}.mountPath")
        if target in seen:
            yield invalid(f"{where}.mountPath", target, "must be unique")
        seen.add(target)
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                yield from _relative_path(mount[field], f"{where}.{field}")


def _relative_path(value: str, path: str) -> Errors:
    if value.startswith("/"):
        yield invalid(path, value, "must be a relative path")
    if ".." in value.split("/"):
        yield invalid(path, value, "must not contain '..'")


def _resources(resources: Mapping[str, Any], path: str) -> Errors:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            where = f"{path}.{kind}[{name}]"
            standard = name in _RESOURCES or name.startswith("hugepages-")
            if "/" not in name and not standard:
                text_ = "must be a standard resource type or fully qualified"
                yield invalid(where, name, text_)
                yield invalid(where, name, "must be a standard resource for containers")
            else:
                yield from _texts(names.label_key(name), where, name)
            if parse(text) < 0:
                yield invalid(where, text, _NON_NEGATIVE)
    for name, text in requests.items():
        limit = limits.get(name)
        if limit is not None and parse(text) > parse(limit):
            detail = f"must be less than or equal to {name} limit of {limit}"
            yield invalid(f"{path}.requests", text, detail)


def _probe(probe: Mapping[str, Any], path: str, *, once: bool) -> Errors:
    handler = {k: v for k, v in probe.items() if k in ("exec", "httpGet", "tcpSocket", "grpc")}
    yield from _handler(handler, path)
    for field in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        if probe.get(field, 0) < 0:
            yield invalid(f"{path}.{field}", probe[field], _NON_NEGATIVE)
    if once and probe.get("successThreshold", 1) != 1:
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(handler: Mapping[str, Any], path: str) -> Errors:
    kinds = [kind for kind, value in handler.items() if value is not None]
    if not kinds:
        yield required(path, "must specify a handler type")
    for kind in kinds[1:]:
        yield forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")
    action = handler.get(kinds[0]) if kinds else None
    if not isinstance(action, Mapping):
        return
    where = f"{path}.{kinds[0]}"
    match kinds[0]:
        case "exec":
            if not action.get("command"):
                yield required(f"{where}.command")
        case "httpGet":
            if not action.get("path"):
                yield required(f"{where}.path")
            yield from _target_port(action.get("port", 0), f"{where}.port")
            yield from _one_of(action, "scheme", ("HTTP", "HTTPS"), f"{where}.scheme")
            for index, header in enumerate(action.get("httpHeaders") or []):
                name = header.get("name", "")
                texts = names.http_header(name)
                yield from _texts(texts, f"{where}.httpHeaders[{index}].name", name)
        case "tcpSocket" | "grpc":
            yield from _target_port(action.get("port", 0), f"{where}.port")


def _target_port(port: Any, path: str) -> Errors:
    texts = names.port_number(port) if isinstance(port, int) else names.port_name(port)
    yield from _texts(texts, path, port)


# --- volumes ----------------------------------------------------------------------------


def _volumes(volumes: list[Any], path: str) -> Errors:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        name = volume.get("name", "")
        kinds = [kind for kind, value in volume.items() if kind != "name" and value is not None]
        for kind in kinds[1:]:
            yield forbidden(f"{where}.{kind}", "may not specify more than 1 volume type")
        if not kinds:
            yield required(where, "must specify a volume type")
        else:
            yield from _volume_source(kinds[0], volume[kinds[0]], f"{where}.{kinds[0]}")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from _texts(names.dns_label(name), f"{where}.name", name)
            if name in seen:
                yield duplicate(f"{where}.name", name)
            seen.add(name)


def _volume_source(kind: str, source: Mapping[str, Any], path: str) -> Errors:
    needed = {
        "configMap": "name",
        "secret": "secretName",
        "hostPath": "path",
        "persistentVolumeClaim": "claimName",
        "nfs": "server",
    }
    if kind in needed and not source.get(needed[kind]):
        yield required(f"{path}.{needed[kind]}")
    if kind == "hostPath":
        if ".." in source.get("path", "").split("/"):
            yield invalid(f"{path}.path", source["path"], "must not contain '..'")
        kinds = (
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        )
        if source.get("type") and source["type"] not in kinds:
            yield not_supported(f"{path}.type", source["type"], kinds)
    if kind in ("configMap", "secret", "downwardAPI", "projected"):
        yield from _mode(source.get("defaultMode"), f"{path}.defaultMode")
    yield from _items(source, path, key=kind != "downwardAPI")
    for index, projection in enumerate(source.get("sources") or []):
        for inner, content in projection.items():
            where = f"{path}.sources[{index}].{inner}"
            if inner in ("configMap", "secret") and not content.get("name"):
                yield required(f"{where}.name")
            if inner == "serviceAccountToken":
                if not content.get("path"):
                    yield required(f"{where}.path")
                if content.get("expirationSeconds", 3600) < 600:
                    text = "may not specify a duration less than 10 minutes"
                    yield invalid(f"{where}.expirationSeconds", content["expirationSeconds"], text)
            yield from _items(content, where, key=inner != "downwardAPI")


def _items(source: Mapping[str, Any], path: str, *, key: bool) -> Errors:
    for index, item in enumerate(source.get("items") or []):
        where = f"{path}.items[{index}]"
        if key and not item.get("key"):
            yield required(f"{where}.key")
        if not item.get("path"):
            yield required(f"{where}.path")
        else:
            yield from _relative_path(item["path"], f"{where}.path")
        if not key and item.get("fieldRef") is not None:
            yield from _field_ref(item["fieldRef"], f"{where}.fieldRef")
        yield from _mode(item.get("mode"), f"{where}.mode")


def _mode(value: int | None, path: str) -> Errors:
    if value is not None and not 0 <= value <= 0o777:
        text = "must be a number between 0 and 0777 (octal), both inclusive"
        yield invalid(path, value, text)


# --- small helps ------------------------------------------------------------------------


def _texts(texts: list[str], path: str, value: Any) -> Errors:
    return (invalid(path, value, text) for text in texts)


def _texts_if(
    obj: Mapping[str, Any], field: str, check: Callable[[str], list[str]], path: str
) -> Errors:
    if obj.get(field):
        yield from _texts(check(obj[field]), f"{path}.{field}", obj[field])


def _one_of(obj: Mapping[str, Any], field: str, allowed: tuple[str, ...], path: str) -> Errors:
    value = obj.get(field, "")
    if not value:
        yield required(path)
    elif value not in allowed:
        yield not_supported(path, value, allowed)
