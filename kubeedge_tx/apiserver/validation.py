"""Whether an object may be stored, and what is wrong with it if not.

A built-in object goes through prepare, default and validate, in this order. Source: Kubernetes
``pkg/apis/core/validation`` and ``apimachinery/pkg/api/validation`` 1.36.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver import defaults, godecode, names
from kubeedge_tx.apiserver.fielderrors import (
    FieldError,
    forbidden,
    invalid,
    invalid_each,
    required,
    too_long,
)
from kubeedge_tx.apiserver.kindvalidation import CHECKS, UPDATES
from kubeedge_tx.apiserver.podvalidation import validate_pod_update
from kubeedge_tx.apiserver.types import KINDS

Errors = Iterator[FieldError]
Object = Mapping[str, Any]

_MAX_ANNOTATION_BYTES: Final = 256 * 1024
_IMMUTABLE: Final = "field is immutable"
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
        return godecode.decode(message, obj)[0]
    except godecode.DecodeError as error:
        raise ValueError(str(error)) from None


def unknown_fields(kind: str, obj: Object) -> list[str]:
    """Paths of fields that the kind does not have: ``spec.containers[0].imagee``."""
    message = _message(kind)
    if message is None:
        return []
    try:
        return godecode.decode(message, obj)[1]
    except godecode.DecodeError:
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
        return errors + (list(CHECKS[kind](obj)) if kind in CHECKS else [])
    errors = _metadata_update(meta, old.get("metadata") or {})
    if kind == "Pod":
        return errors + list(validate_pod_update(obj.get("spec") or {}, old.get("spec") or {}))
    if kind in CHECKS:
        errors += CHECKS[kind](obj)
    if kind in UPDATES:
        errors += UPDATES[kind](obj, old)
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
        yield from invalid_each(check(masked), "metadata.generateName", prefix)
    name = meta.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from invalid_each(check(name), "metadata.name", name)
    namespace = meta.get("namespace", "")
    if namespaced and not namespace:
        yield required("metadata.namespace")
    elif namespaced:
        yield from invalid_each(names.dns_label(namespace), "metadata.namespace", namespace)
    elif namespace:
        yield forbidden("metadata.namespace", "not allowed on this type")
    yield from _meta_common(meta)


def _meta_common(meta: Object) -> Errors:
    for key, value in (meta.get("labels") or {}).items():
        yield from invalid_each(names.label_key(key), "metadata.labels", key)
        yield from invalid_each(names.label_value(value), "metadata.labels", value)
    annotations = meta.get("annotations") or {}
    for key in annotations:
        yield from invalid_each(names.label_key(key.lower()), "metadata.annotations", key)
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > (
        _MAX_ANNOTATION_BYTES
    ):
        yield too_long("metadata.annotations", _MAX_ANNOTATION_BYTES)
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield required(f"metadata.ownerReferences[{index}].{field}", "must not be empty")
    for finalizer in meta.get("finalizers") or []:
        yield from invalid_each(names.label_key(finalizer), "metadata.finalizers", finalizer)


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
