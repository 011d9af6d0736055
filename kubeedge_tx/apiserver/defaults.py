"""What the API server fills in, and what it takes away, before it looks whether an object is valid.

Objects come decoded (``types``); the functions change the copy they are given. Source:
Kubernetes ``pkg/apis/core/v1/defaults.go`` and the registries' strategies, 1.36. What admission
adds (default tolerations, the service account and its token volume) is not here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from kubeedge_tx.api.quantity import parse

Object = dict[str, Any]

_MODE: Final = 0o644


def carry_over(meta: Object, old: Mapping[str, Any]) -> Object:
    """Complete the metadata of an update with what a client may leave out."""
    fields = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
    filled = dict(meta)
    for field in fields:
        if not filled.get(field) and old.get(field) is not None:
            filled[field] = old[field]
    return filled


def prepare(kind: str, obj: Object, *, new: bool) -> None:
    """Do what the registry's strategy does before validation."""
    if kind == "Pod" and new:
        obj["status"] = {"phase": "Pending"}
    elif kind == "Namespace" and new:
        obj["status"] = {"phase": "Active"}
        finalizers = (obj.setdefault("spec", {})).setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
    elif kind == "Service" and new:
        obj["status"] = {"loadBalancer": {}}
    elif kind in ("CertificateSigningRequest", "CustomResourceDefinition") and new:
        obj["status"] = {}
    elif kind == "Secret" and obj.get("stringData"):
        data = obj.setdefault("data", {})
        for key, text in obj.pop("stringData").items():
            data[key] = base64.b64encode(text.encode()).decode()


def fill(kind: str, obj: Object) -> None:
    """Fill in the defaults of a kind; kinds without defaults stay as they are."""
    if kind in _DEFAULTS:
        _DEFAULTS[kind](obj)


def qos_class(spec: Mapping[str, Any]) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort``, from requests and limits."""
    requests: dict[str, Fraction] = {}
    limits: dict[str, Fraction] = {}
    guaranteed = True
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        resources = container.get("resources") or {}
        for amounts, totals in (("requests", requests), ("limits", limits)):
            for name, text in (resources.get(amounts) or {}).items():
                if name in ("cpu", "memory") and parse(text) > 0:
                    totals[name] = totals.get(name, Fraction(0)) + parse(text)
        given = resources.get("limits") or {}
        guaranteed &= all(name in given and parse(given[name]) > 0 for name in ("cpu", "memory"))
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


# --- pods -------------------------------------------------------------------------------


def pod_spec(spec: Object) -> None:
    """Fill in a pod's ``spec``."""
    for field, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("enableServiceLinks", True),
        ("priority", 0),
        ("preemptionPolicy", "PreemptLowerPriority"),
    ):
        if spec.get(field) is None:
            spec[field] = value
    spec.setdefault("securityContext", {})
    _same(spec, "serviceAccountName", "serviceAccount")
    for name in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(name) or []:
            _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or []:
        _volume(volume)


def _same(spec: Object, name: str, deprecated: str) -> None:
    value = spec.get(name) or spec.get(deprecated)
    if value:
        spec[name] = spec[deprecated] = value


def _container(container: Object, *, host_network: bool) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image", ""))
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    for name, limit in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, limit)
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if host_network:
            port.setdefault("hostPort", port.get("containerPort", 0))
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
        resource = (variable.get("valueFrom") or {}).get("resourceFieldRef")
        if resource is not None:
            resource.setdefault("divisor", "0")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            _probe(container[name])
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _http_get(handler)


def pull_policy(image: str) -> str:
    """``Always`` for the tag ``latest`` or none, else ``IfNotPresent``."""
    name, _, digest = image.partition("@")
    _, _, tag = name.rpartition("/")[2].partition(":")
    return "Always" if tag == "latest" or not (tag or digest) else "IfNotPresent"


def _probe(probe: Object) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(field):
            probe[field] = value
    _http_get(probe)
    if probe.get("grpc") is not None and probe["grpc"].get("service") is None:
        probe["grpc"]["service"] = ""


def _http_get(handler: Object) -> None:
    action = handler.get("httpGet")
    if action is not None:
        if not action.get("path"):
            action["path"] = "/"
        if not action.get("scheme"):
            action["scheme"] = "HTTP"


def _volume(volume: Object) -> None:
    if not any(value is not None for key, value in volume.items() if key != "name"):
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        source = volume.get(kind)
        if source is not None:
            if source.get("defaultMode") is None:
                source["defaultMode"] = _MODE
            for item in source.get("items") or []:
                _field_ref(item)
            for projection in source.get("sources") or []:
                _projection(projection)
    if volume.get("hostPath") is not None and volume["hostPath"].get("type") is None:
        volume["hostPath"]["type"] = ""


def _projection(projection: Object) -> None:
    token = projection.get("serviceAccountToken")
    if token is not None and token.get("expirationSeconds") is None:
        token["expirationSeconds"] = 3600
    for item in (projection.get("downwardAPI") or {}).get("items") or []:
        _field_ref(item)


def _field_ref(item: Object) -> None:
    if item.get("fieldRef") is not None:
        item["fieldRef"].setdefault("apiVersion", "v1")
    if item.get("resourceFieldRef") is not None:
        item["resourceFieldRef"].setdefault("divisor", "0")


def _pod(obj: Object) -> None:
    pod_spec(obj.setdefault("spec", {}))
    # Only now: a limit without a request is also the request.
    status = obj.setdefault("status", {})
    if not status.get("qosClass"):
        status["qosClass"] = qos_class(obj["spec"])


# --- other kinds ------------------------------------------------------------------------


def _node(obj: Object) -> None:
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        config.setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if kind != "ExternalName":
        if spec.get("internalTrafficPolicy") is None:
            spec["internalTrafficPolicy"] = "Cluster"
        if spec.get("ipFamilyPolicy") is None:
            spec["ipFamilyPolicy"] = "SingleStack"
        if not spec.get("ipFamilies"):
            address = spec.get("clusterIP", "")
            spec["ipFamilies"] = ["IPv6" if ":" in address else "IPv4"]
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")


def _endpoints(obj: Object) -> None:
    for subset in obj.get("subsets") or []:
        for port in subset.get("ports") or []:
            port.setdefault("protocol", "TCP")


def _namespace(obj: Object) -> None:
    labels = obj.setdefault("metadata", {}).get("labels") or {}
    name = obj["metadata"].get("name")
    if name:
        obj["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": name}


def _crd(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if not names.get("singular"):
        names["singular"] = names.get("kind", "").lower()
    if not names.get("listKind") and names.get("kind"):
        names["listKind"] = names["kind"] + "List"
    if spec.get("conversion") is None:
        spec["conversion"] = {"strategy": "None"}


_DEFAULTS: Final[Mapping[str, Callable[[Object], None]]] = {
    "Pod": _pod,
    "Node": _node,
    "Service": _service,
    "Secret": _secret,
    "Endpoints": _endpoints,
    "Namespace": _namespace,
    "CustomResourceDefinition": _crd,
}
