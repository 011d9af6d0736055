"""Whether a CustomResourceDefinition can be served.

Source: Kubernetes ``apiextensions-apiserver/pkg/apis/apiextensions/validation``: names, scope,
versions, and what makes a schema structural.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver import names
from kubeedge_tx.apiserver.fielderrors import (
    FieldError,
    forbidden,
    invalid,
    not_supported,
    required,
)

Errors = Iterator[FieldError]
_MAX_DEPTH: Final = 100
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_SCHEMA_KEYS: Final = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"


def validate_crd(obj: Mapping[str, Any]) -> Errors:
    """Check a definition, decoded and with its defaults."""
    spec = obj.get("spec") or {}
    group, kinds = spec.get("group", ""), spec.get("names") or {}
    plural = kinds.get("plural", "")
    wanted = f"{plural}.{group}"
    name = (obj.get("metadata") or {}).get("name", "")
    if name != wanted:
        text = 'must be spec.names.plural+"."+spec.group'
        yield invalid("metadata.name", name, text)
    if not group:
        yield required("spec.group")
    else:
        for text in names.dns_subdomain(group):
            yield invalid("spec.group", group, text)
        if "." not in group:
            yield invalid("spec.group", group, "should be a domain with at least one dot")
    if not spec.get("scope"):
        yield required("spec.scope")
    elif spec["scope"] not in ("Cluster", "Namespaced"):
        yield not_supported("spec.scope", spec["scope"], ("Cluster", "Namespaced"))
    yield from _names(kinds, "spec.names")
    yield from _versions(spec.get("versions") or [], "spec.versions")


def validate_crd_update(obj: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """Check what may not change once objects exist: group, scope, kind and plural."""
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    for field in ("group", "scope"):
        if spec.get(field) != before.get(field):
            yield invalid(f"spec.{field}", spec.get(field, ""), "field is immutable")
    for field in ("kind", "plural"):
        now, then = (part.get("names", {}).get(field) for part in (spec, before))
        if now != then:
            yield invalid(f"spec.names.{field}", now or "", "field is immutable")
    served = [version.get("name") for version in spec.get("versions") or []]
    for stored in (old.get("status") or {}).get("storedVersions") or []:
        if stored not in served:
            index = (old["status"]["storedVersions"]).index(stored)
            text = (
                f"missing from spec.versions; {stored} was previously a storage version, and must"
                " remain in spec.versions until a storage migration ensures no data remains"
                f" persisted in {stored} and removes {stored} from status.storedVersions"
            )
            yield invalid(f"status.storedVersions[{index}]", stored, text)


def _names(kinds: Mapping[str, Any], path: str) -> Errors:
    for field in ("plural", "singular", "kind", "listKind"):
        value = kinds.get(field, "")
        if not value:
            if field != "singular":
                yield required(f"{path}.{field}")
            continue
        for text in names.dns1035_label(value.lower()):
            yield invalid(f"{path}.{field}", value, text)
    for index, short in enumerate(kinds.get("shortNames") or []):
        for text in names.dns1035_label(short):
            yield invalid(f"{path}.shortNames[{index}]", short, text)
    if kinds.get("kind") and kinds["kind"] == kinds.get("listKind"):
        text = "kind and listKind may not be the same"
        yield invalid(f"{path}.listKind", kinds["listKind"], text)


def _versions(versions: list[Any], path: str) -> Errors:
    seen: set[str] = set()
    for index, version in enumerate(versions):
        where = f"{path}[{index}]"
        name = version.get("name", "")
        for text in names.dns1035_label(name):
            yield invalid(f"{where}.name", name, text)
        if name in seen:
            listed = [v.get("name", "") for v in versions]
            yield invalid(path, listed, "must contain unique version names")
        seen.add(name)
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            yield required(f"{where}.schema.openAPIV3Schema", "schemas are required")
        else:
            yield from _root_schema(schema, f"{where}.schema.openAPIV3Schema")
        for number, column in enumerate(version.get("additionalPrinterColumns") or []):
            yield from _column(column, f"{where}.additionalPrinterColumns[{number}]")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        yield invalid(path, [version.get("name", "") for version in versions], text)


def _root_schema(schema: Mapping[str, Any], path: str) -> Errors:
    if schema.get("type") != "object":
        value = schema.get("type", "")
        if not value:
            yield required(f"{path}.type", "must not be empty at the root")
        else:
            yield invalid(f"{path}.type", value, "must be object at the root")
        return
    yield from _structural(schema, path, 0)


def _structural(schema: Any, path: str, depth: int) -> Errors:
    if not isinstance(schema, Mapping):
        return
    if depth > _MAX_DEPTH:
        yield forbidden(path, f"a schema may not be nested more than {_MAX_DEPTH} levels deep")
        return
    kind = schema.get("type", "")
    if not kind and not any(schema.get(key) for key in _SCHEMA_KEYS):
        suffix = "for specified array items" if path.endswith(".items") else ""
        text = f"must not be empty {suffix or 'for specified object fields'}"
        yield required(f"{path}.type", text)
    elif kind and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if schema.get("x-kubernetes-int-or-string") and kind:
        text = "must be empty if x-kubernetes-int-or-string is true"
        yield invalid(f"{path}.type", kind, text)
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    if properties and extra is not None:
        text = "additionalProperties and properties are mutual exclusive"
        yield forbidden(f"{path}.additionalProperties", text)
    for name, inner in properties.items():
        yield from _structural(inner, f"{path}.properties[{name}]", depth + 1)
    if isinstance(extra, Mapping):
        yield from _structural(extra, f"{path}.additionalProperties", depth + 1)
    if kind == "array":
        if schema.get("items") is None:
            yield required(f"{path}.items", "must be specified")
        else:
            yield from _structural(schema["items"], f"{path}.items", depth + 1)
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield forbidden(f"{path}.uniqueItems", text)
    for field in ("$ref", "patternProperties", "definitions", "dependencies", "id"):
        if schema.get(field):
            yield forbidden(f"{path}.{field}", f"{field} is not supported")


def _column(column: Mapping[str, Any], path: str) -> Errors:
    if not column.get("name"):
        yield required(f"{path}.name")
    kind = column.get("type", "")
    if not kind:
        yield required(f"{path}.type")
    elif kind not in ("integer", "number", "string", "boolean", "date"):
        allowed = "must be one of boolean,date,integer,number,string"
        yield invalid(f"{path}.type", kind, allowed)
    if not column.get("jsonPath"):
        yield required(f"{path}.jsonPath")
