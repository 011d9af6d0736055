"""What is served, as clients ask for it: /api, /apis, aggregated discovery, /version."""

from __future__ import annotations

from typing import Any, Final

from kubeedge_tx.apiserver.negotiation import media_types
from kubeedge_tx.apiserver.registry import KindInfo, Registry, version_rank

MINOR: Final = 36
"""The Kubernetes whose behaviour the embedded API follows: 1.36."""

_GROUP_ORDER: Final = (
    "apiregistration.k8s.io",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "apiextensions.k8s.io",
    "coordination.k8s.io",
)


def version(product: str, python: str) -> dict[str, Any]:
    """The body of /version.

    :param product: our own version.
    :param python: names the interpreter, where Go names its compiler.
    """
    return {
        "major": "1",
        "minor": str(MINOR),
        "emulationMajor": "1",
        "emulationMinor": str(MINOR),
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": str(MINOR - 1),
        "gitVersion": f"v1.{MINOR}.0+kubeedge-tx.{product}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": python,
        "compiler": "cpython",
        "platform": "linux/amd64",
    }


class Discovery:
    """Answers the discovery paths from the registry; rebuilt when that changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._revision = -1
        self._cache: dict[tuple[str, ...], Any] = {}

    def api(self, address: str) -> dict[str, Any]:
        """GET /api."""
        return {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }

    def groups(self) -> dict[str, Any]:
        """GET /apis."""
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [self._group(name) for name in self._group_names() if name],
        }

    def group(self, name: str) -> dict[str, Any] | None:
        """GET /apis/<group>; ``None`` if there is no such group."""
        if not name or not self._registry.has_group(name):
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(name)}

    def resources(self, group: str, version: str) -> dict[str, Any] | None:
        """GET /api/v1 or /apis/<group>/<version>; ``None`` if it is not served."""
        found = [k for k in self._registry if (k.group, k.version) == (group, version)]
        if not found:
            return None
        resources = []
        for info in found:
            resources.append(_resource(info))
            resources.extend(_subresources(info))
        body: dict[str, Any] = {"kind": "APIResourceList"}
        if group:
            body["apiVersion"] = "v1"
        body["groupVersion"] = f"{group}/{version}" if group else version
        body["resources"] = resources
        return body

    def aggregated(self, core: bool, version: str) -> dict[str, Any]:
        """GET /api or /apis in the form that has everything at once.

        :param version: of ``apidiscovery.k8s.io``, ``v2`` or ``v2beta1``.
        """
        if self._revision != self._registry.revision:
            self._revision = self._registry.revision
            self._cache = {}
        key = ("core" if core else "groups", version)
        if key not in self._cache:
            names = [""] if core else [name for name in self._group_names() if name]
            self._cache[key] = {
                "kind": "APIGroupDiscoveryList",
                "apiVersion": f"apidiscovery.k8s.io/{version}",
                "metadata": {},
                "items": [self._aggregated_group(name) for name in names],
            }
        found: dict[str, Any] = self._cache[key]
        return found

    def _group_names(self) -> list[str]:
        names = {info.group for info in self._registry}
        return sorted(
            names,
            key=lambda n: (_GROUP_ORDER.index(n) if n in _GROUP_ORDER else len(_GROUP_ORDER), n),
        )

    def _versions(self, group: str) -> list[str]:
        found = {info.version for info in self._registry if info.group == group}
        return sorted(found, key=version_rank, reverse=True)

    def _group(self, name: str) -> dict[str, Any]:
        versions = [
            {"groupVersion": f"{name}/{version}", "version": version}
            for version in self._versions(name)
        ]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def _aggregated_group(self, group: str) -> dict[str, Any]:
        versions = []
        for version in self._versions(group):
            resources = [
                _aggregated_resource(info)
                for info in self._registry
                if (info.group, info.version) == (group, version)
            ]
            versions.append({"version": version, "resources": resources, "freshness": "Current"})
        metadata = {"name": group} if group else {}
        return {"metadata": metadata, "versions": versions}


def aggregated_version(accept: str) -> str:
    """Which version of aggregated discovery an Accept header prefers; empty for none."""
    for media, parameters in media_types(accept):
        if media != "application/json":
            continue
        if parameters.get("as") != "APIGroupDiscoveryList":
            return ""
        version = parameters.get("v", "")
        if parameters.get("g") == "apidiscovery.k8s.io" and version in ("v2", "v2beta1"):
            return version
    return ""


def _resource(info: KindInfo) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": info.plural,
        "singularName": info.singular,
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": list(info.verbs),
    }
    if info.short_names:
        found["shortNames"] = list(info.short_names)
    if info.categories:
        found["categories"] = list(info.categories)
    return found


def _subresources(info: KindInfo) -> list[dict[str, Any]]:
    found = []
    for sub in info.subresources:
        entry: dict[str, Any] = {
            "name": f"{info.plural}/{sub.name}",
            "singularName": "",
            "namespaced": info.namespaced,
        }
        if sub.group:
            entry |= {"group": sub.group, "version": sub.version}
        found.append(entry | {"kind": sub.kind, "verbs": list(sub.verbs)})
    return found


def _aggregated_resource(info: KindInfo) -> dict[str, Any]:
    custom = info.crd is not None
    kind = {
        "group": info.group if custom else "",
        "version": info.version if custom else "",
        "kind": info.kind,
    }
    found: dict[str, Any] = {
        "resource": info.plural,
        "responseKind": kind,
        "scope": "Namespaced" if info.namespaced else "Cluster",
        "singularResource": info.singular,
        "verbs": list(info.verbs),
    }
    if info.short_names:
        found["shortNames"] = list(info.short_names)
    if info.categories:
        found["categories"] = list(info.categories)
    if info.subresources:
        found["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {**kind, "kind": sub.kind}
                if not sub.group
                else {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": list(sub.verbs),
            }
            for sub in info.subresources
        ]
    return found
