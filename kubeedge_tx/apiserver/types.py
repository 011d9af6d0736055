"""The built-in kinds as Go sees them: fields, types, what is left out when empty.

The table is ``data/types.json``: message -> field -> [protobuf number, type, flags, merge key].
Types are ``string bool int32 int64 double bytes time microtime quantity intorstring raw
json fields``, a message name, ``[]T`` or ``map:T``; CRD schemas also have ``schemaorbool``,
``schemaorarray`` and ``schemaorstrings``. Flags: ``*`` pointer, ``o`` omitempty, ``z`` omitzero,
``r`` required, ``^`` its fields belong to the parent in JSON, ``m`` merge, ``k`` retainKeys.

Source: the Go types of Kubernetes 1.36 (names, tags and numbers only).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

KINDS: Final[Mapping[tuple[str, str], str]] = {
    ("v1", "Namespace"): "core.v1.Namespace",
    ("v1", "Node"): "core.v1.Node",
    ("v1", "Pod"): "core.v1.Pod",
    ("v1", "ConfigMap"): "core.v1.ConfigMap",
    ("v1", "Secret"): "core.v1.Secret",
    ("v1", "Service"): "core.v1.Service",
    ("v1", "Endpoints"): "core.v1.Endpoints",
    ("v1", "Event"): "core.v1.Event",
    ("v1", "ServiceAccount"): "core.v1.ServiceAccount",
    ("v1", "Binding"): "core.v1.Binding",
    ("coordination.k8s.io/v1", "Lease"): "coordination.v1.Lease",
    ("certificates.k8s.io/v1", "CertificateSigningRequest"): (
        "certificates.v1.CertificateSigningRequest"
    ),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): (
        "apiextensions.v1.CustomResourceDefinition"
    ),
    ("authentication.k8s.io/v1", "TokenRequest"): "authentication.v1.TokenRequest",
    ("authentication.k8s.io/v1", "TokenReview"): "authentication.v1.TokenReview",
    ("authentication.k8s.io/v1", "SelfSubjectReview"): "authentication.v1.SelfSubjectReview",
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): (
        "authorization.v1.SelfSubjectAccessReview"
    ),
    ("authorization.k8s.io/v1", "SubjectAccessReview"): "authorization.v1.SubjectAccessReview",
    ("authorization.k8s.io/v1", "LocalSubjectAccessReview"): (
        "authorization.v1.LocalSubjectAccessReview"
    ),
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): (
        "authorization.v1.SelfSubjectRulesReview"
    ),
    ("policy/v1", "Eviction"): "policy.v1.Eviction",
    ("v1", "DeleteOptions"): "meta.v1.DeleteOptions",
    ("meta.k8s.io/v1", "DeleteOptions"): "meta.v1.DeleteOptions",
}
"""apiVersion and kind to message."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    number: int
    type: str
    pointer: bool
    omit_empty: bool
    omit_zero: bool
    required: bool
    inline: bool
    merge: bool
    retain_keys: bool
    merge_key: str


@dataclass(frozen=True, slots=True)
class TypeTable:
    """Every message, by its short name (``core.v1.Pod``)."""

    messages: Mapping[str, Mapping[str, Field]]
    """With inlined messages as fields of their own, named ``^<message>``."""
    flat: Mapping[str, Mapping[str, Field]]
    """As JSON has them: inlined fields in their parent."""


@cache
def builtin_types() -> TypeTable:
    """Load the table that ships with this package."""
    raw = _data("types.json")
    messages = {
        message: {name: _field(name, entry) for name, entry in fields.items()}
        for message, fields in raw.items()
    }
    flat = {message: dict(_flatten(messages, message)) for message in messages}
    return TypeTable(messages, flat)


@cache
def descriptions() -> Mapping[str, str]:
    """What messages (``core.v1.Pod``) and fields (``core.v1.Pod.spec``) are, for ``explain``."""
    found: dict[str, str] = _data("descriptions.json")
    return found


def _data(name: str) -> Any:
    return json.loads(files("kubeedge_tx.apiserver").joinpath(f"data/{name}").read_text("utf-8"))


def _field(name: str, entry: list[Any]) -> Field:
    number, kind, flags, *rest = entry
    return Field(
        name=name,
        number=number,
        type=kind,
        pointer="*" in flags,
        omit_empty="o" in flags,
        omit_zero="z" in flags,
        required="r" in flags,
        inline="^" in flags,
        merge="m" in flags,
        retain_keys="k" in flags,
        merge_key=rest[0] if rest else "",
    )


def _flatten(
    messages: Mapping[str, Mapping[str, Field]], message: str
) -> Iterator[tuple[str, Field]]:
    for name, field in messages[message].items():
        if field.inline:
            yield from _flatten(messages, field.type)
        else:
            yield name, field
