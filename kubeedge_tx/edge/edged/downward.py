"""What a pod may learn about itself: fields and resources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kubeedge_tx.api import quantity
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.podspec import Json

_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a pod runs, as far as it may be told."""

    node: str
    host_ip: str
    pod_ip: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)
    """The node's quantities: limits of a container that has none."""


def field_value(pod: Json, path: str, place: Place) -> str:
    """Give the value of a ``fieldRef``.

    :raises ValueError: there is no such field; the text names it.
    """
    meta = podspec.metadata(pod)
    if match := _SUBSCRIPT.fullmatch(path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    values = {
        "metadata.name": lambda: podspec.name(pod),
        "metadata.namespace": lambda: podspec.namespace(pod),
        "metadata.uid": lambda: podspec.uid(pod),
        "metadata.labels": lambda: _lines(meta.get("labels") or {}),
        "metadata.annotations": lambda: _lines(meta.get("annotations") or {}),
        "spec.nodeName": lambda: podspec.spec(pod).get("nodeName") or place.node,
        "spec.serviceAccountName": lambda: podspec.spec(pod).get("serviceAccountName", ""),
        "status.hostIP": lambda: place.host_ip,
        "status.hostIPs": lambda: place.host_ip,
        "status.podIP": lambda: place.pod_ip,
        "status.podIPs": lambda: place.pod_ip,
    }
    if path not in values:
        raise ValueError(f"unsupported fieldPath: {path}")
    return str(values[path]())


def resource_value(pod: Json, ref: Json, container: Json | None, place: Place) -> str:
    """Give the value of a ``resourceFieldRef``.

    :param container: the one that asks; ``containerName`` goes before it.
    :raises ValueError: no such container or resource, or the quantity is unreadable.
    """
    if wanted := ref.get("containerName"):
        container = podspec.find_container(pod, wanted)
    if container is None:
        raise ValueError(f"container {wanted or ''} not found")
    kind, _, resource = str(ref.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise ValueError(f"unsupported container resource: {ref.get('resource')}")
    given = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    if given is None and kind == "limits" and resource in ("cpu", "memory", "ephemeral-storage"):
        given = place.allocatable.get(resource)
    return str(quantity.divided(given or 0, ref.get("divisor") or 1))


def _lines(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"{name}={_quoted(value)}" for name, value in sorted(pairs.items()))


def _quoted(text: str) -> str:
    """Quote as Go's ``%q`` does."""
    escapes = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(char, _printable(char)) for char in text) + '"'


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 0x80 else f"\\u{ord(char):04x}"
