"""What is particular to each built-in kind but the pod: its own fields' rules.

Source: Kubernetes ``pkg/apis/core/validation`` and its neighbours, 1.36.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver import names
from kubeedge_tx.apiserver.crdvalidation import validate_crd, validate_crd_update
from kubeedge_tx.apiserver.fielderrors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    invalid_each,
    not_supported,
    required,
    too_long,
)
from kubeedge_tx.apiserver.podvalidation import validate_pod_spec

Errors = Iterator[FieldError]
Object = Mapping[str, Any]

MAX_DATA_BYTES: Final = 1024 * 1024
"""What a ConfigMap or a Secret may hold. Source: Kubernetes ``core.MaxSecretSize``."""
_IMMUTABLE: Final = "field is immutable"
_IMMUTABLE_DATA: Final = "field is immutable when `immutable` is set"
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")


def _pod(obj: Object) -> Errors:
    yield from validate_pod_spec(obj.get("spec") or {}, "spec")


def _node(obj: Object) -> Errors:
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate((obj.get("spec") or {}).get("taints") or []):
        where = f"spec.taints[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        yield from invalid_each(names.label_key(key), f"{where}.key", key)
        value = taint.get("value", "")
        yield from invalid_each(names.label_value(value), f"{where}.value", value)
        if not effect:
            yield required(f"{where}.effect")
        elif effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            allowed = ("NoSchedule", "PreferNoSchedule", "NoExecute")
            yield not_supported(f"{where}.effect", effect, allowed)
        if (key, effect) in seen:
            yield duplicate(where, taint)
        seen.add((key, effect))


def _node_update(obj: Object, old: Object) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
        text = 'node updates may not change podCIDR except from "" to valid'
        yield forbidden("spec.podCIDRs", text)
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        text = 'node updates may not change providerID except from "" to valid'
        yield forbidden("spec.providerID", text)


def _configmap(obj: Object) -> Errors:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for field, entries in (("data", data), ("binaryData", binary)):
        for key in entries:
            yield from invalid_each(names.config_key(key), f"{field}[{key}]", key)
    for key in data:
        if key in binary:
            yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    size = sum(len(value.encode()) for value in data.values())
    if size + sum(_decoded_length(value) for value in binary.values()) > MAX_DATA_BYTES:
        yield too_long("", MAX_DATA_BYTES)


def _configmap_update(obj: Object, old: Object) -> Errors:
    if not old.get("immutable"):
        return
    if not obj.get("immutable"):
        yield forbidden("immutable", _IMMUTABLE_DATA)
    for field in ("data", "binaryData"):
        if (obj.get(field) or {}) != (old.get(field) or {}):
            yield forbidden(field, _IMMUTABLE_DATA)


def _decoded_length(text: str | None) -> int:
    """How many bytes base64 stands for; null stands for none."""
    text = text or ""
    return len(text) * 3 // 4 - text.count("=", -2)


_SECRET_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _secret(obj: Object) -> Errors:
    data = obj.get("data") or {}
    for key in data:
        yield from invalid_each(names.config_key(key), f"data[{key}]", key)
    if sum(_decoded_length(value) for value in data.values()) > MAX_DATA_BYTES:
        yield too_long("data", MAX_DATA_BYTES)
    kind = obj.get("type", "")
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            yield required(f"data[{key}]")
        elif key.startswith(".docker") and not _is_json_object(data[key]):
            yield invalid(f"data[{key}]", "<secret contents redacted>", "must be a JSON object")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
        yield required("data[username]")
        yield required("data[password]")
    annotation = "kubernetes.io/service-account.name"
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if kind == "kubernetes.io/service-account-token" and not annotations.get(annotation):
        yield required(f"metadata.annotations[{annotation}]")


def _is_json_object(encoded: str | None) -> bool:
    try:
        return isinstance(json.loads(base64.b64decode(encoded or "")), dict)
    except (ValueError, RecursionError):
        return False


def _secret_update(obj: Object, old: Object) -> Errors:
    if obj.get("type") != old.get("type"):
        yield invalid("type", obj.get("type", ""), _IMMUTABLE)
    if old.get("immutable"):
        if not obj.get("immutable"):
            yield forbidden("immutable", _IMMUTABLE_DATA)
        if (obj.get("data") or {}) != (old.get("data") or {}):
            yield forbidden("data", _IMMUTABLE_DATA)


def _service(obj: Object) -> Errors:
    spec = obj.get("spec") or {}
    ports = spec.get("ports") or []
    kind = spec.get("type", "ClusterIP")
    if not ports and spec.get("clusterIP") != "None" and kind != "ExternalName":
        yield required("spec.ports")
    if kind == "ExternalName":
        external = spec.get("externalName", "").rstrip(".")
        if not external:
            yield required("spec.externalName")
        else:
            yield from invalid_each(names.dns_subdomain(external), "spec.externalName", external)
    seen: set[str] = set()
    pairs: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        yield from _service_port(port, f"spec.ports[{index}]", seen, needs_name=len(ports) > 1)
        pair = (port.get("protocol"), port.get("port"))
        if pair in pairs:
            shown = {"protocol": pair[0], "port": pair[1]}
            yield duplicate(f"spec.ports[{index}]", shown)
        pairs.add(pair)
    for key, value in (spec.get("selector") or {}).items():
        yield from invalid_each(names.label_key(key), "spec.selector", key)
        yield from invalid_each(names.label_value(value), "spec.selector", value)
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if kind not in kinds:
        yield not_supported("spec.type", kind, kinds)
    if spec.get("sessionAffinity", "None") not in ("ClientIP", "None"):
        yield not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    for index, address in enumerate(spec.get("clusterIPs") or []):
        if address != "None":
            yield from invalid_each(names.ip_address(address), f"spec.clusterIPs[{index}]", address)
    for index, address in enumerate(spec.get("externalIPs") or []):
        yield from invalid_each(names.ip_address(address), f"spec.externalIPs[{index}]", address)


def _service_port(port: Object, path: str, seen: set[str], *, needs_name: bool) -> Errors:
    name = port.get("name", "")
    if not name and needs_name:
        yield required(f"{path}.name")
    elif name:
        yield from invalid_each(names.dns_label(name), f"{path}.name", name)
        if name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
    yield from invalid_each(
        names.port_number(port.get("port", 0)), f"{path}.port", port.get("port", 0)
    )
    if port.get("protocol") not in _PROTOCOLS:
        yield not_supported(f"{path}.protocol", port.get("protocol", ""), _PROTOCOLS)
    target = port.get("targetPort", 0)
    texts = names.port_number(target) if isinstance(target, int) else names.port_name(target)
    yield from invalid_each(texts, f"{path}.targetPort", target)


def _service_update(obj: Object, old: Object) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    first = (before.get("clusterIPs") or [before.get("clusterIP", "")])[0]
    now = (spec.get("clusterIPs") or [spec.get("clusterIP", "")])[0]
    stays = "ExternalName" not in (spec.get("type"), before.get("type"))
    if stays and first and now != first:
        text = "may not change once set"
        yield invalid("spec.clusterIPs[0]", spec.get("clusterIPs") or [now], text)


def _endpoints(obj: Object) -> Errors:
    for index, subset in enumerate(obj.get("subsets") or []):
        path = f"subsets[{index}]"
        addresses = subset.get("addresses") or []
        not_ready = subset.get("notReadyAddresses") or []
        if not addresses and not not_ready:
            yield required(path, "must specify `addresses` or `notReadyAddresses`")
        for field, items in (("addresses", addresses), ("notReadyAddresses", not_ready)):
            for number, item in enumerate(items):
                where = f"{path}.{field}[{number}].ip"
                yield from invalid_each(
                    names.ip_address(item.get("ip", "")), where, item.get("ip", "")
                )
        ports = subset.get("ports") or []
        for number, port in enumerate(ports):
            where = f"{path}.ports[{number}]"
            if not port.get("name") and len(ports) > 1:
                yield required(f"{where}.name")
            elif port.get("name"):
                yield from invalid_each(
                    names.dns_label(port["name"]), f"{where}.name", port["name"]
                )
            value = port.get("port", 0)
            yield from invalid_each(names.port_number(value), f"{where}.port", value)
            if port.get("protocol") not in _PROTOCOLS:
                yield not_supported(f"{where}.protocol", port.get("protocol", ""), _PROTOCOLS)


def _event(obj: Object) -> Errors:
    namespace = (obj.get("metadata") or {}).get("namespace", "")
    about = (obj.get("involvedObject") or {}).get("namespace", "")
    if namespace != (about or "default"):
        text = "does not match event.namespace"
        yield invalid("involvedObject.namespace", about, text)


def _namespace(obj: Object) -> Errors:
    for finalizer in (obj.get("spec") or {}).get("finalizers") or []:
        yield from invalid_each(names.label_key(finalizer), "spec.finalizers", finalizer)


def _lease(obj: Object) -> Errors:
    spec = obj.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        yield invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    if transitions is not None and transitions < 0:
        text = "must be greater than or equal to 0"
        yield invalid("spec.leaseTransitions", transitions, text)


def _csr(obj: Object) -> Errors:
    spec = obj.get("spec") or {}
    request = spec.get("request", "")
    pem = base64.b64decode(request) if request else b""
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        yield invalid("spec.request", request, "PEM block type must be CERTIFICATE REQUEST")
    if not spec.get("usages"):
        yield required("spec.usages")
    signer = spec.get("signerName", "")
    if not signer:
        yield required("spec.signerName")
    elif len(signer.split("/")) != 2 or not all(signer.split("/")):
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        yield invalid("spec.signerName", signer, text)
    expiration = spec.get("expirationSeconds")
    if expiration is not None and expiration < 600:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        yield invalid("spec.expirationSeconds", expiration, text)


def _csr_update(obj: Object, old: Object) -> Errors:
    if obj.get("spec") != old.get("spec"):
        yield invalid("spec", obj.get("spec"), _IMMUTABLE)


CHECKS: Final[Mapping[str, Callable[[Object], Errors]]] = {
    "Pod": _pod,
    "Node": _node,
    "ConfigMap": _configmap,
    "Secret": _secret,
    "Service": _service,
    "Endpoints": _endpoints,
    "Event": _event,
    "Namespace": _namespace,
    "ServiceAccount": lambda obj: iter(()),
    "Lease": _lease,
    "CertificateSigningRequest": _csr,
    "CustomResourceDefinition": validate_crd,
}
UPDATES: Final[Mapping[str, Callable[[Object, Object], Errors]]] = {
    "Node": _node_update,
    "ConfigMap": _configmap_update,
    "Secret": _secret_update,
    "Service": _service_update,
    "CertificateSigningRequest": _csr_update,
    "CustomResourceDefinition": validate_crd_update,
}
