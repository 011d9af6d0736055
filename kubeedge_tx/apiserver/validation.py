"""Whether an object may be stored, and what is wrong with it if not.

A built-in object goes through prepare, default and validate, in this order. Source: Kubernetes
``pkg/apis/core/validation`` and ``apimachinery/pkg/api/validation`` 1.36.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver import defaults, names
from kubeedge_tx.apiserver.crdvalidation import validate_crd, validate_crd_update
from kubeedge_tx.apiserver.fielderrors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from kubeedge_tx.apiserver.podvalidation import validate_pod_spec, validate_pod_update
from kubeedge_tx.apiserver.types import KINDS, DecodeError, builtin_types

Errors = Iterator[FieldError]
Object = Mapping[str, Any]

MAX_DATA_BYTES: Final = 1024 * 1024
"""What a ConfigMap or a Secret may hold. Source: Kubernetes ``core.MaxSecretSize``."""
_MAX_ANNOTATION_BYTES: Final = 256 * 1024
_IMMUTABLE: Final = "field is immutable"
_IMMUTABLE_DATA: Final = "field is immutable when `immutable` is set"
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_CLUSTER_KINDS: Final = frozenset(
    {"Namespace", "Node", "CertificateSigningRequest", "CustomResourceDefinition"}
)

_NAMES: Final[Mapping[str, Callable[[str], list[str]]]] = {
    "Namespace": names.dns_label,
    "Service": names.dns1035_label,
    "CertificateSigningRequest": lambda name: [],
    **dict.fromkeys(
        (
            "Node",
            "Pod",
            "ConfigMap",
            "Secret",
            "Endpoints",
            "Event",
            "ServiceAccount",
            "Lease",
            "CustomResourceDefinition",
        ),
        names.dns_subdomain,
    ),
}


def decode(kind: str, obj: Object) -> dict[str, Any]:
    """Read an object of a built-in kind as Go would; unknown fields are gone.

    :raises ValueError: a value has the wrong type; the text is Kubernetes'.
    """
    message = _message(kind)
    if message is None:
        return dict(obj)
    try:
        return builtin_types().decode(message, obj)[0]
    except DecodeError as error:
        raise ValueError(str(error)) from None


def unknown_fields(kind: str, obj: Object) -> list[str]:
    """Paths of fields that the kind does not have: ``spec.containers[0].imagee``."""
    message = _message(kind)
    if message is None:
        return []
    try:
        return builtin_types().decode(message, obj)[1]
    except DecodeError:
        # decode() says what is wrong; this is about names only.
        return []


def prepare(kind: str, obj: Object, old: Object | None) -> dict[str, Any]:
    """Decode an object, drop what clients may not set, convert Secrets' ``stringData``.

    :raises ValueError: a value has the wrong type; the text is Kubernetes'.
    """
    decoded = decode(kind, obj)
    if old is not None:
        decoded["metadata"] = defaults.carry_over(decoded["metadata"], old.get("metadata") or {})
    defaults.prepare(kind, decoded, new=old is None)
    return decoded


def default(kind: str, obj: Object) -> dict[str, Any]:
    """Fill in what the API server fills in; the object is decoded."""
    filled = copy.deepcopy(dict(obj))
    defaults.fill(kind, filled)
    # Once more through the table: fields in Go's order, as the real server writes them.
    return decode(kind, filled)


def validate(kind: str, obj: Object, old: Object | None) -> list[FieldError]:
    """Check an object of a built-in kind that has its defaults."""
    meta = obj.get("metadata") or {}
    if old is None:
        errors = list(validate_meta(kind, meta, namespaced=kind not in _CLUSTER_KINDS))
        return errors + (list(_CHECKS[kind](obj)) if kind in _CHECKS else [])
    errors = _metadata_update(meta, old.get("metadata") or {})
    if kind == "Pod":
        return errors + list(validate_pod_update(obj.get("spec") or {}, old.get("spec") or {}))
    if kind in _CHECKS:
        errors += _CHECKS[kind](obj)
    if kind in _UPDATES:
        errors += _UPDATES[kind](obj, old)
    return errors


def validate_status(kind: str, obj: Object, old: Object) -> list[FieldError]:
    """Check a change made through ``…/status``."""
    return _metadata_update(obj.get("metadata") or {}, old.get("metadata") or {})


def validate_metadata(
    metadata: Object, namespaced: bool, old: Object | None = None
) -> list[FieldError]:
    """Check the metadata of a custom resource.

    :param old: the metadata before, for an update.
    """
    if old is None:
        return list(validate_meta("", metadata, namespaced=namespaced))
    return _metadata_update(metadata, old)


def _metadata_update(meta: Object, old: Object) -> list[FieldError]:
    # The real server runs two generations of its checks; each reports these fields.
    return [*_meta_update(meta, old), *_system_fields(meta, old), *_meta_common(meta)]


def _message(kind: str) -> str | None:
    return next((message for (_, name), message in KINDS.items() if name == kind), None)


def validate_meta(kind: str, meta: Object, *, namespaced: bool) -> Errors:
    """Check ``metadata`` of a new object."""
    check = _NAMES.get(kind, names.path_segment)
    prefix = meta.get("generateName", "")
    if prefix:
        masked = prefix[:-2] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix
        yield from _texts(check(masked), "metadata.generateName", prefix)
    name = meta.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from _texts(check(name), "metadata.name", name)
    namespace = meta.get("namespace", "")
    if namespaced and not namespace:
        yield required("metadata.namespace")
    elif namespaced:
        yield from _texts(names.dns_label(namespace), "metadata.namespace", namespace)
    elif namespace:
        yield forbidden("metadata.namespace", "not allowed on this type")
    yield from _meta_common(meta)


def _meta_common(meta: Object) -> Errors:
    for key, value in (meta.get("labels") or {}).items():
        yield from _texts(names.label_key(key), "metadata.labels", key)
        yield from _texts(names.label_value(value), "metadata.labels", value)
    annotations = meta.get("annotations") or {}
    for key in annotations:
        yield from _texts(names.label_key(key.lower()), "metadata.annotations", key)
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > (
        _MAX_ANNOTATION_BYTES
    ):
        yield too_long("metadata.annotations", _MAX_ANNOTATION_BYTES)
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield required(f"metadata.ownerReferences[{index}].{field}", "must not be empty")
    for finalizer in meta.get("finalizers") or []:
        yield from _texts(names.label_key(finalizer), "metadata.finalizers", finalizer)


def _meta_update(meta: Object, old: Object) -> Errors:
    if old.get("deletionTimestamp"):
        added = set(meta.get("finalizers") or []) - set(old.get("finalizers") or [])
        if added:
            listed = ", ".join(json.dumps(name) for name in sorted(added))
            text = (
                "no new finalizers can be added if the object is being deleted, found new"
                f" finalizers []string{{{listed}}}"
            )
            yield forbidden("metadata.finalizers", text)
    for field in ("name", "namespace"):
        if meta.get(field, "") != old.get(field, ""):
            yield invalid(f"metadata.{field}", meta.get(field, ""), _IMMUTABLE)
    yield from _system_fields(meta, old)


def _system_fields(meta: Object, old: Object) -> Errors:
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if meta.get(field) != old.get(field):
            yield invalid(f"metadata.{field}", meta.get(field), _IMMUTABLE)


# --- kinds ------------------------------------------------------------------------------


def _pod(obj: Object) -> Errors:
    yield from validate_pod_spec(obj.get("spec") or {}, "spec")


def _node(obj: Object) -> Errors:
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate((obj.get("spec") or {}).get("taints") or []):
        where = f"spec.taints[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        yield from _texts(names.label_key(key), f"{where}.key", key)
        value = taint.get("value", "")
        yield from _texts(names.label_value(value), f"{where}.value", value)
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
            yield from _texts(names.config_key(key), f"{field}[{key}]", key)
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


def _decoded_length(text: str) -> int:
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
        yield from _texts(names.config_key(key), f"data[{key}]", key)
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


def _is_json_object(encoded: str) -> bool:
    try:
        return isinstance(json.loads(base64.b64decode(encoded)), dict)
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
            yield from _texts(names.dns_subdomain(external), "spec.externalName", external)
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
        yield from _texts(names.label_key(key), "spec.selector", key)
        yield from _texts(names.label_value(value), "spec.selector", value)
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if kind not in kinds:
        yield not_supported("spec.type", kind, kinds)
    if spec.get("sessionAffinity", "None") not in ("ClientIP", "None"):
        yield not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    for index, address in enumerate(spec.get("clusterIPs") or []):
        if address != "None":
            yield from _texts(names.ip_address(address), f"spec.clusterIPs[{index}]", address)
    for index, address in enumerate(spec.get("externalIPs") or []):
        yield from _texts(names.ip_address(address), f"spec.externalIPs[{index}]", address)


def _service_port(port: Object, path: str, seen: set[str], *, needs_name: bool) -> Errors:
    name = port.get("name", "")
    if not name and needs_name:
        yield required(f"{path}.name")
    elif name:
        yield from _texts(names.dns_label(name), f"{path}.name", name)
        if name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
    yield from _texts(names.port_number(port.get("port", 0)), f"{path}.port", port.get("port", 0))
    if port.get("protocol") not in _PROTOCOLS:
        yield not_supported(f"{path}.protocol", port.get("protocol", ""), _PROTOCOLS)
    target = port.get("targetPort", 0)
    texts = names.port_number(target) if isinstance(target, int) else names.port_name(target)
    yield from _texts(texts, f"{path}.targetPort", target)


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
                yield from _texts(names.ip_address(item.get("ip", "")), where, item.get("ip", ""))
        ports = subset.get("ports") or []
        for number, port in enumerate(ports):
            where = f"{path}.ports[{number}]"
            if not port.get("name") and len(ports) > 1:
                yield required(f"{where}.name")
            elif port.get("name"):
                yield from _texts(names.dns_label(port["name"]), f"{where}.name", port["name"])
            value = port.get("port", 0)
            yield from _texts(names.port_number(value), f"{where}.port", value)
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
        yield from _texts(names.label_key(finalizer), "spec.finalizers", finalizer)


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


def _texts(texts: list[str], path: str, value: Any) -> Errors:
    return (invalid(path, value, text) for text in texts)


_CHECKS: Final[Mapping[str, Callable[[Object], Errors]]] = {
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
_UPDATES: Final[Mapping[str, Callable[[Object, Object], Errors]]] = {
    "Node": _node_update,
    "ConfigMap": _configmap_update,
    "Secret": _secret_update,
    "Service": _service_update,
    "CertificateSigningRequest": _csr_update,
    "CustomResourceDefinition": validate_crd_update,
}
