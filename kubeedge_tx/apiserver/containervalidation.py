"""What a container may and may not be, in the API server's words.

Source: Kubernetes ``pkg/apis/core/validation`` 1.36, for the fields that KubeEdge's edges use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubeedge_tx.api.quantity import parse
from kubeedge_tx.apiserver import names
from kubeedge_tx.apiserver.fielderrors import (
    NOT_FOUND,
    FieldError,
    distinct,
    forbidden,
    invalid,
    invalid_each,
    not_supported,
    one_of,
    required,
)

Errors = Iterator[FieldError]

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


def validate_containers(
    containers: list[Any], path: str, volumes: list[str], seen: set[str], *, init: bool = False
) -> Errors:
    """Check the containers of a pod.

    :param volumes: names of the pod's volumes.
    :param seen: names of containers so far; it grows.
    """
    for index, container in enumerate(containers):
        where = f"{path}[{index}]"
        name = container.get("name", "")
        yield from distinct(name, f"{where}.name", names.dns_label, seen)
        image = container.get("image", "")
        if not image:
            yield required(f"{where}.image")
        elif image != image.strip():
            yield invalid(f"{where}.image", image, "must not have leading or trailing whitespace")
        policies = ("FallbackToLogsOnError", "File")
        yield from one_of(
            container, "terminationMessagePolicy", policies, f"{where}.terminationMessagePolicy"
        )
        yield from _ports(container.get("ports") or [], f"{where}.ports")
        yield from _env(container.get("env") or [], f"{where}.env")
        yield from _env_from(container.get("envFrom") or [], f"{where}.envFrom")
        yield from _mounts(container.get("volumeMounts") or [], f"{where}.volumeMounts", volumes)
        yield from one_of(container, "imagePullPolicy", _PULL_POLICIES, f"{where}.imagePullPolicy")
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
            yield from distinct(name, f"{where}.name", names.port_name, seen)
        number = port.get("containerPort", 0)
        if not number:
            yield required(f"{where}.containerPort")
        else:
            yield from invalid_each(names.port_number(number), f"{where}.containerPort", number)
        if port.get("hostPort"):
            host = port["hostPort"]
            yield from invalid_each(names.port_number(host), f"{where}.hostPort", host)
        yield from one_of(port, "protocol", _PROTOCOLS, f"{where}.protocol")


def _env(env: list[Any], path: str) -> Errors:
    for index, variable in enumerate(env):
        where = f"{path}[{index}]"
        name = variable.get("name", "")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from invalid_each(names.env_name(name), f"{where}.name", name)
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
            yield from validate_field_ref(source["fieldRef"], f"{where}.fieldRef")


def _key_ref(reference: Mapping[str, Any], path: str) -> Errors:
    if not reference.get("name"):
        yield required(f"{path}.name")
    if not reference.get("key"):
        yield required(f"{path}.key")
    else:
        yield from invalid_each(names.config_key(reference["key"]), f"{path}.key", reference["key"])


def validate_field_ref(reference: Mapping[str, Any], path: str) -> Errors:
    """Check a reference to a field of the pod."""
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
            yield from invalid_each(names.env_name(prefix), f"{where}.prefix", prefix)
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
                yield from invalid_each(
                    names.relative_path(mount[field]), f"{where}.{field}", mount[field]
                )


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
                yield from invalid_each(names.label_key(name), where, name)
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
            yield from one_of(action, "scheme", ("HTTP", "HTTPS"), f"{where}.scheme")
            for index, header in enumerate(action.get("httpHeaders") or []):
                name = header.get("name", "")
                texts = names.http_header(name)
                yield from invalid_each(texts, f"{where}.httpHeaders[{index}].name", name)
        case "tcpSocket" | "grpc":
            yield from _target_port(action.get("port", 0), f"{where}.port")


def _target_port(port: Any, path: str) -> Errors:
    texts = names.port_number(port) if isinstance(port, int) else names.port_name(port)
    yield from invalid_each(texts, path, port)
