"""What a request's method and path address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from kubeedge_tx.apiserver import status
from kubeedge_tx.apiserver.registry import KindInfo, Registry

_OBJECT_VERBS = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_INTO_EDGES = frozenset({"log", "exec", "attach", "portforward", "proxy"})
"""Subresources of pods that a kubelet would answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A resource request."""

    verb: str
    """As in authorization: ``get``, ``list``, ``watch``, ``deletecollection``…"""
    info: KindInfo
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def resolve(
    registry: Registry, method: str, path: str, query: Mapping[bytes, list[bytes]]
) -> Target | None:
    """Find the resource that a request is about.

    :returns: ``None`` if the path names no resource: discovery, health and the like.
    :raises ApiError: 404 for a resource nobody serves, 405 for a method it has not.
    """
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (group == "" and len(rest) == 3 and rest[2] in ("status", "finalize"))
    ):
        namespace, rest = rest[1], rest[2:]
        if not namespace:
            raise status.no_such_resource()
    plural, name, subresource = [*rest, "", ""][:3]
    info = registry.find(group, version, plural)
    if info is None or len(rest) > 3 or (namespace and not info.namespaced):
        raise status.no_such_resource()
    if subresource and info.subresource(subresource) is None:
        if plural == "pods" and subresource in _INTO_EDGES:
            raise status.out_of_reach(subresource, namespace, name)
        raise status.no_such_resource()
    if name and info.namespaced and not namespace:
        raise status.no_such_resource()
    verb = _verb(info, method, name, subresource, namespace, query)
    return Target(verb=verb, info=info, namespace=namespace, name=name, subresource=subresource)


def _verb(
    info: KindInfo,
    method: str,
    name: str,
    subresource: str,
    namespace: str,
    query: Mapping[bytes, list[bytes]],
) -> str:
    if subresource:
        verb = "create" if method == "POST" else _OBJECT_VERBS.get(method, "")
        found = info.subresource(subresource)
        allowed = found.verbs if found is not None else ()
    else:
        allowed = info.verbs
        if name:
            verb = _OBJECT_VERBS.get(method, "")
        elif method == "POST" and (namespace or not info.namespaced):
            verb = "create"
        elif method in ("GET", "HEAD"):
            watch = query.get(b"watch", [b""])[-1].lower()
            verb = "watch" if watch in (b"true", b"1") else "list"
        else:
            verb = "deletecollection" if method == "DELETE" else ""
    if verb not in allowed:
        raise status.method_not_allowed()
    return verb
