"""Lists as tables, the form that ``kubectl get`` asks for.

Columns and cells are those of kube-apiserver 1.36 (``pkg/printers/internalversion`` and
``apiextensions-apiserver/pkg/registry/customresource/tableconvertor``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kubeedge_tx.apiserver import jsonpath, podtable
from kubeedge_tx.apiserver.durations import human, since
from kubeedge_tx.apiserver.interfaces import IKind

Object = Mapping[str, Any]
Cells = list[Any]

_NONE: Final = "<none>"
_UNKNOWN: Final = "<unknown>"
_MAX_ENDPOINTS: Final = 3
_ROLE_PREFIX: Final = "node-role.kubernetes.io/"


def to_table(
    kind_info: IKind,
    objs: Sequence[Object],
    list_meta: Object,
    now: float,
    *,
    include_object: str = "Metadata",
    columns: bool = True,
) -> dict[str, Any]:
    """Write objects of one kind as a ``meta.k8s.io/v1`` Table.

    :param list_meta: the list's metadata.
    :param now: seconds since 1970, for ages.
    :param include_object: ``None``, ``Metadata`` or ``Object``: what a row carries.
    :param columns: whether to define the columns; later events of a watch leave it out.
    """
    if kind_info.crd is not None:
        definitions, cells = _custom(kind_info)
    else:
        definitions, cells = _BUILT_IN.get(kind_info.kind, (_DEFAULT_COLUMNS, _default_cells))
    rows = []
    for obj in objs:
        row: dict[str, Any] = {"cells": cells(obj, now)}
        if kind_info.crd is None and kind_info.kind == "Pod":
            conditions = podtable.row_conditions(obj)
            if conditions:
                row["conditions"] = conditions
        row["object"] = _carried(obj, include_object)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(list_meta),
        "columnDefinitions": [dict(d) for d in definitions] if columns else None,
        "rows": rows,
    }


def _carried(obj: Object, include: str) -> Any:
    if include == "Object":
        return obj
    if include == "None":
        return None
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj.get("metadata") or {},
    }


def _column(
    name: str, text: str, *, kind: str = "string", format_: str = "", wide: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "format": format_,
        "description": text,
        "priority": int(wide),
    }


def _meta(obj: Object) -> Object:
    found: Object = obj.get("metadata") or {}
    return found


def _name(obj: Object) -> str:
    return str(_meta(obj).get("name", ""))


def _age(obj: Object, now: float) -> str:
    return since(_meta(obj).get("creationTimestamp"), now)


_NAME: Final = _column("Name", "The object's name.", format_="name")
_AGE: Final = _column("Age", "Time since the object was created.")
_DEFAULT_COLUMNS: Final = (_NAME, _AGE)


def _default_cells(obj: Object, now: float) -> Cells:
    return [_name(obj), _age(obj, now)]


# --- custom resources -------------------------------------------------------------------


def _custom(info: IKind) -> tuple[Sequence[dict[str, Any]], Callable[[Object, float], Cells]]:
    chosen: list[dict[str, Any]] = []
    for version in ((info.crd or {}).get("spec") or {}).get("versions") or []:
        if version.get("name") == info.version:
            chosen = version.get("additionalPrinterColumns") or []
    chosen = chosen or [
        {
            "name": "Age",
            "type": "date",
            "description": _AGE["description"],
            "jsonPath": ".metadata.creationTimestamp",
        }
    ]
    definitions = [_NAME] + [
        {
            "name": column["name"],
            "type": column.get("type", "string"),
            "format": column.get("format", ""),
            "description": column.get("description")
            or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}",
            "priority": column.get("priority", 0),
        }
        for column in chosen
    ]

    def cells(obj: Object, now: float) -> Cells:
        return [_name(obj)] + [_custom_cell(column, obj, now) for column in chosen]

    return definitions, cells


def _custom_cell(column: Object, obj: Object, now: float) -> Any:
    results = jsonpath.find(column.get("jsonPath", ""), obj)
    if not results:
        return None
    value = results[0]
    match column.get("type"):
        case "string":
            return " ".join(_printed(result) for result in results)
        case "date":
            return since(value, now, missing="<invalid>") if isinstance(value, str) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer" | "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return int(value) if column.get("type") == "integer" else value
    return None


def _printed(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- built-in kinds ---------------------------------------------------------------------


def _node_cells(obj: Object, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    ready = next(
        (c.get("status") for c in status.get("conditions") or [] if c.get("type") == "Ready"), None
    )
    state = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if spec.get("unschedulable"):
        state.append("SchedulingDisabled")
    roles = set()
    for key, value in (_meta(obj).get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    kernel = info.get("kernelVersion") or _UNKNOWN
    if kernel != _UNKNOWN and info.get("architecture"):
        kernel = f"{kernel} ({info['architecture']})"
    return [
        _name(obj),
        ",".join(state),
        ",".join(sorted(roles)) or _NONE,
        _age(obj, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or _UNKNOWN,
        kernel,
        info.get("containerRuntimeVersion") or _UNKNOWN,
    ]


def _address(status: Object, kind: str) -> str:
    for address in status.get("addresses") or []:
        if address.get("type") == kind:
            return str(address.get("address", ""))
    return _NONE


def _namespace_cells(obj: Object, now: float) -> Cells:
    return [_name(obj), (obj.get("status") or {}).get("phase", ""), _age(obj, now)]


def _configmap_cells(obj: Object, now: float) -> Cells:
    count = len(obj.get("data") or {}) + len(obj.get("binaryData") or {})
    return [_name(obj), count, _age(obj, now)]


def _secret_cells(obj: Object, now: float) -> Cells:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now)]


def _serviceaccount_cells(obj: Object, now: float) -> Cells:
    return [_name(obj), len(obj.get("secrets") or []), _age(obj, now)]


def _lease_cells(obj: Object, now: float) -> Cells:
    return [_name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", _age(obj, now)]


def _service_cells(obj: Object, now: float) -> Cells:
    spec = obj.get("spec") or {}
    selector = spec.get("selector") or {}
    return [
        _name(obj),
        spec.get("type", ""),
        spec.get("clusterIP") or _NONE,
        _external_ip(obj),
        ",".join(_service_port(port) for port in spec.get("ports") or []) or _NONE,
        _age(obj, now),
        ",".join(f"{key}={selector[key]}" for key in sorted(selector)) or _NONE,
    ]


def _external_ip(obj: Object) -> str:
    spec = obj.get("spec") or {}
    external = list(spec.get("externalIPs") or [])
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName", ""))
        case "LoadBalancer":
            balancer = (obj.get("status") or {}).get("loadBalancer") or {}
            found = [
                entry.get("ip") or entry.get("hostname", "")
                for entry in balancer.get("ingress") or []
            ]
            return ",".join(found + external) or "<pending>"
    return ",".join(external) or _NONE


def _service_port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node}/{port.get('protocol', 'TCP')}"


def _endpoints_cells(obj: Object, now: float) -> Cells:
    found = []
    for subset in obj.get("subsets") or []:
        hosts = [address.get("ip", "") for address in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        if not ports:
            found += hosts
        found += [
            f"[{host}]:{port.get('port', 0)}" if ":" in host else f"{host}:{port.get('port', 0)}"
            for port in ports
            for host in hosts
        ]
    text = ",".join(found[:_MAX_ENDPOINTS])
    if len(found) > _MAX_ENDPOINTS:
        text += f" + {len(found) - _MAX_ENDPOINTS} more..."
    return [_name(obj), text if obj.get("subsets") else _NONE, _age(obj, now)]


def _event_cells(obj: Object, now: float) -> Cells:
    about, source = obj.get("involvedObject") or {}, obj.get("source") or {}
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj.get("lastTimestamp"), now) if obj.get("lastTimestamp") else first
    count = obj.get("count", 0)
    series = obj.get("series")
    if series:
        last = since(series.get("lastObservedTime"), now)
        count = series.get("count", 0)
    target = str(about.get("kind", "")).lower()
    if about.get("name"):
        target += f"/{about['name']}"
    component = source.get("component") or obj.get("reportingComponent", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    return [
        last,
        obj.get("type", ""),
        obj.get("reason", ""),
        target,
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        str(obj.get("message", "")).strip(),
        first,
        count or 1,
        _name(obj),
    ]


def _csr_cells(obj: Object, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    kinds = {condition.get("type") for condition in status.get("conditions") or []}
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    if "Failed" in kinds:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    wanted = spec.get("expirationSeconds")
    return [
        _name(obj),
        _age(obj, now),
        spec.get("signerName") or _NONE,
        spec.get("username", ""),
        human(wanted) if wanted is not None else _NONE,
        state,
    ]


def _crd_cells(obj: Object, now: float) -> Cells:
    return [_name(obj), _meta(obj).get("creationTimestamp") or ""]


_BUILT_IN: Final[
    Mapping[str, tuple[Sequence[dict[str, Any]], Callable[[Object, float], Cells]]]
] = {
    "Pod": (
        (
            _NAME,
            _column("Ready", "How many of the pod's containers are ready."),
            _column("Status", "What the pod is doing, or why it is not."),
            _column("Restarts", "How often containers restarted, and when last."),
            _AGE,
            _column("IP", "The pod's address.", wide=True),
            _column("Node", "The node that the pod is bound to.", wide=True),
            _column("Nominated Node", "The node that is being cleared for it.", wide=True),
            _column("Readiness Gates", "How many extra conditions are met.", wide=True),
        ),
        podtable.cells,
    ),
    "Node": (
        (
            _NAME,
            _column("Status", "Whether the node is ready, and may be given pods."),
            _column("Roles", "The node's roles, from its labels."),
            _AGE,
            _column("Version", "The agent's version."),
            _column("Internal-IP", "The node's address in the cluster.", wide=True),
            _column("External-IP", "The node's address outside.", wide=True),
            _column("OS-Image", "The node's operating system.", wide=True),
            _column("Kernel-Version", "The node's kernel.", wide=True),
            _column("Container-Runtime", "What runs containers there.", wide=True),
        ),
        _node_cells,
    ),
    "Namespace": (
        (_NAME, _column("Status", "Whether the namespace is going away."), _AGE),
        _namespace_cells,
    ),
    "ConfigMap": ((_NAME, _column("Data", "How many keys it has."), _AGE), _configmap_cells),
    "Secret": (
        (_NAME, _column("Type", "What it is for."), _column("Data", "How many keys."), _AGE),
        _secret_cells,
    ),
    "ServiceAccount": (
        (_NAME, _column("Secrets", "How many secrets it may use."), _AGE),
        _serviceaccount_cells,
    ),
    "Lease": ((_NAME, _column("Holder", "Who holds it."), _AGE), _lease_cells),
    "Service": (
        (
            _NAME,
            _column("Type", "How it is reached."),
            _column("Cluster-IP", "Its address in the cluster."),
            _column("External-IP", "Its addresses outside."),
            _column("Port(s)", "The ports it offers."),
            _AGE,
            _column("Selector", "Which pods serve it.", wide=True),
        ),
        _service_cells,
    ),
    "Endpoints": (
        (_NAME, _column("Endpoints", "Where the service is served."), _AGE),
        _endpoints_cells,
    ),
    "Event": (
        (
            _column("Last Seen", "Time since it last happened."),
            _column("Type", "Normal or Warning."),
            _column("Reason", "Why, in one word."),
            _column("Object", "What it is about."),
            _column("Subobject", "Which part of the object.", wide=True),
            _column("Source", "Who reported it.", wide=True),
            _column("Message", "What happened."),
            _column("First Seen", "Time since it first happened.", wide=True),
            _column("Count", "How often it happened.", wide=True),
            {**_NAME, "priority": 1},
        ),
        _event_cells,
    ),
    "CertificateSigningRequest": (
        (
            _NAME,
            _AGE,
            _column("SignerName", "Who is asked to sign."),
            _column("Requestor", "Who asked."),
            _column("RequestedDuration", "How long it should be valid."),
            _column("Condition", "Whether it is approved and issued."),
        ),
        _csr_cells,
    ),
    "CustomResourceDefinition": (
        (_NAME, _column("Created At", "When it was created.", kind="date")),
        _crd_cells,
    ),
}
