"""Which kinds the embedded API serves, under which paths, with which subresources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CUSTOM_VERBS: Final = (
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
)
"""The order in which kube-apiserver lists the verbs of a custom resource."""

_CHANGE: Final = ("get", "patch", "update")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subresource:
    """``pods/status`` and its like."""

    name: str
    kind: str
    verbs: tuple[str, ...] = _CHANGE
    group: str = ""
    """Group of ``kind`` if it is not the parent's."""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindInfo:
    """One served version of one kind of object."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    singular: str
    kind: str
    list_kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    subresources: tuple[Subresource, ...] = ()
    generation: bool = False
    """Whether ``metadata.generation`` counts changes of the spec."""
    returns_deleted: bool = False
    """Whether DELETE answers with the object rather than with a Status."""
    stored: bool = True
    """Whether objects are kept; reviews are answered and forgotten."""
    crd: dict[str, Any] | None = None
    """The CustomResourceDefinition object, for a custom resource."""
    storage_version: str = ""
    """The version objects are kept in; empty for ``version`` itself."""

    @property
    def api_version(self) -> str:
        """What stands in the object's ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The key of the kind in the store, one for all versions: ``pods``, ``rules.x.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        """Whether the status is written through ``…/status`` only."""
        return any(sub.name == "status" for sub in self.subresources)

    def subresource(self, name: str) -> Subresource | None:
        """Look one up by name."""
        return next((sub for sub in self.subresources if sub.name == name), None)


def _core(plural: str, kind: str, **more: Any) -> KindInfo:
    singular = more.pop("singular", kind.lower())
    return KindInfo(
        group=more.pop("group", ""),
        version="v1",
        plural=plural,
        singular=singular,
        kind=kind,
        list_kind=f"{kind}List",
        **more,
    )


def _status(kind: str) -> Subresource:
    return Subresource(name="status", kind=kind)


BUILT_IN: Final = (
    _core("configmaps", "ConfigMap", short_names=("cm",)),
    _core("endpoints", "Endpoints", short_names=("ep",)),
    _core("events", "Event", short_names=("ev",)),
    _core(
        "namespaces",
        "Namespace",
        namespaced=False,
        short_names=("ns",),
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        subresources=(
            Subresource(name="finalize", kind="Namespace", verbs=("update",)),
            _status("Namespace"),
        ),
        returns_deleted=True,
    ),
    _core(
        "nodes",
        "Node",
        namespaced=False,
        short_names=("no",),
        subresources=(_status("Node"),),
    ),
    _core(
        "pods",
        "Pod",
        short_names=("po",),
        categories=("all",),
        subresources=(
            Subresource(name="binding", kind="Binding", verbs=("create",)),
            Subresource(
                name="eviction", kind="Eviction", verbs=("create",), group="policy", version="v1"
            ),
            _status("Pod"),
        ),
        generation=True,
        returns_deleted=True,
    ),
    _core("secrets", "Secret"),
    _core(
        "serviceaccounts",
        "ServiceAccount",
        short_names=("sa",),
        subresources=(
            Subresource(
                name="token",
                kind="TokenRequest",
                verbs=("create",),
                group="authentication.k8s.io",
                version="v1",
            ),
        ),
        returns_deleted=True,
    ),
    _core(
        "services",
        "Service",
        short_names=("svc",),
        categories=("all",),
        subresources=(_status("Service"),),
        returns_deleted=True,
    ),
    _core(
        "customresourcedefinitions",
        "CustomResourceDefinition",
        group="apiextensions.k8s.io",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=(_status("CustomResourceDefinition"),),
        generation=True,
    ),
    _core(
        "selfsubjectreviews",
        "SelfSubjectReview",
        group="authentication.k8s.io",
        namespaced=False,
        verbs=("create",),
        stored=False,
    ),
    _core(
        "tokenreviews",
        "TokenReview",
        group="authentication.k8s.io",
        namespaced=False,
        verbs=("create",),
        stored=False,
    ),
    _core(
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        group="authorization.k8s.io",
        namespaced=False,
        verbs=("create",),
        stored=False,
    ),
    _core(
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        group="authorization.k8s.io",
        namespaced=False,
        verbs=("create",),
        stored=False,
    ),
    _core(
        "certificatesigningrequests",
        "CertificateSigningRequest",
        group="certificates.k8s.io",
        namespaced=False,
        short_names=("csr",),
        subresources=(
            Subresource(name="approval", kind="CertificateSigningRequest"),
            _status("CertificateSigningRequest"),
        ),
    ),
    _core("leases", "Lease", group="coordination.k8s.io"),
)


def custom_kinds(crd: dict[str, Any]) -> list[KindInfo]:
    """The kinds a CustomResourceDefinition serves, one per served version, preferred first."""
    spec = crd["spec"]
    names = spec["names"]
    versions = spec["versions"]
    storage = next((v["name"] for v in versions if v.get("storage")), versions[0]["name"])
    found = []
    for version in sorted(versions, key=lambda v: version_rank(v["name"]), reverse=True):
        if not version.get("served"):
            continue
        subs = version.get("subresources") or {}
        found.append(
            KindInfo(
                group=spec["group"],
                version=version["name"],
                plural=names["plural"],
                singular=names.get("singular") or names["kind"].lower(),
                kind=names["kind"],
                list_kind=names.get("listKind") or names["kind"] + "List",
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                verbs=CUSTOM_VERBS,
                subresources=(
                    (Subresource(name="status", kind=names["kind"]),) if "status" in subs else ()
                ),
                generation=True,
                crd=crd,
                storage_version=storage,
            )
        )
    return found


def version_rank(version: str) -> tuple[int, int, int]:
    """Order versions as Kubernetes does: v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > other.

    Source: apimachinery ``version.CompareKubeAwareVersionStrings``.
    """
    digits = version[1:] if version.startswith("v") else ""
    for word, level in (("alpha", 1), ("beta", 2)):
        major, found, minor = digits.partition(word)
        if found and major.isdigit() and minor.isdigit():
            return level, int(major), int(minor)
    return (3, int(digits), 0) if digits.isdigit() else (0, 0, 0)


class Registry:
    """All kinds served now; custom ones come and go with their definitions."""

    def __init__(self, built_in: Iterable[KindInfo] = BUILT_IN) -> None:
        self._built_in = tuple(built_in)
        self._kinds: dict[tuple[str, str, str], KindInfo] = {}
        self._crds: dict[str, list[KindInfo]] = {}
        self.revision = 0
        """Goes up whenever the set of kinds changes; what is derived from it may be cached."""
        self._rebuild()

    def find(self, group: str, version: str, plural: str) -> KindInfo | None:
        """Look a kind up by its place in a URL."""
        return self._kinds.get((group, version, plural))

    def has_group(self, group: str, version: str = "") -> bool:
        """Tell whether anything is served under a group, or under one version of it."""
        return any(g == group and version in ("", v) for g, v, _ in self._kinds)

    def __iter__(self) -> Iterator[KindInfo]:
        """All kinds, built-in ones first."""
        return iter(self._kinds.values())

    def stored(self) -> list[KindInfo]:
        """One kind per stored resource, the preferred version of each."""
        seen: dict[str, KindInfo] = {}
        for info in self._kinds.values():
            if info.stored:
                seen.setdefault(info.resource, info)
        return list(seen.values())

    def of_crd(self, name: str) -> list[KindInfo]:
        """What a definition serves, preferred version first."""
        return self._crds.get(name, [])

    def put_crd(self, crd: dict[str, Any]) -> None:
        """Serve what a definition says, instead of what it said before."""
        self._crds[crd["metadata"]["name"]] = custom_kinds(crd)
        self._rebuild()

    def drop_crd(self, name: str) -> None:
        """Stop serving a definition's kinds."""
        if self._crds.pop(name, None) is not None:
            self._rebuild()

    def _rebuild(self) -> None:
        kinds = {(k.group, k.version, k.plural): k for k in self._built_in}
        for found in self._crds.values():
            for k in found:
                kinds.setdefault((k.group, k.version, k.plural), k)
        self._kinds = kinds
        self.revision += 1
