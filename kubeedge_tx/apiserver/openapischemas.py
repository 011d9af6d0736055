"""Schemas for OpenAPI, out of the field table and of CustomResourceDefinitions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Protocol

from kubeedge_tx.apiserver.interfaces import IKind
from kubeedge_tx.apiserver.types import KINDS, Field, builtin_types, descriptions

_EXTENSIONS_GROUP: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_PREFIXES: Final = (
    ("meta.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1."),
    ("apiextensions.v1.", _EXTENSIONS_GROUP),
)
_SPECIAL: Final[Mapping[str, str]] = {
    "time": "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "microtime": "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "quantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "intorstring": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "raw": "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "fields": "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "json": _EXTENSIONS_GROUP + "JSON",
    "schemaorbool": _EXTENSIONS_GROUP + "JSONSchemaPropsOrBool",
    "schemaorarray": _EXTENSIONS_GROUP + "JSONSchemaPropsOrArray",
    "schemaorstrings": _EXTENSIONS_GROUP + "JSONSchemaPropsOrStringArray",
}
_SCALARS: Final[Mapping[str, Mapping[str, str]]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "bytes": {"type": "string", "format": "byte"},
}
_PATCH: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_GVK: Final = "x-kubernetes-group-version-kind"
_KEEP: Final = "x-kubernetes-preserve-unknown-fields"
_KIND_TEXT: Final = "The kind of the object."
_VERSION_TEXT: Final = "The group and version that the object is written in."
_V2_KEYS: Final = (
    "description",
    "type",
    "format",
    "title",
    "required",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "multipleOf",
)
_EXTENSIONS: Final = (
    _KEEP,
    "x-kubernetes-int-or-string",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)


class Dialect(Enum):
    """Which OpenAPI."""

    V2 = "#/definitions/"
    V3 = "#/components/schemas/"


class _Listed(IKind, Protocol):
    @property
    def list_kind(self) -> str: ...


def definition_name(message: str) -> str:
    """The name that Kubernetes gives to a message's schema: ``io.k8s.api.core.v1.Pod``."""
    for short, long in _PREFIXES:
        if message.startswith(short):
            return long + message.removeprefix(short)
    return f"io.k8s.api.{message}"


class Schemas:
    """Collects the schemas that a document refers to."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.definitions: dict[str, dict[str, Any]] = {}

    def add_kind(self, kind: _Listed) -> None:
        """Define a kind and its list."""
        if kind.crd is not None:
            self._custom(kind)
        else:
            self.reference(kind, _about(kind), listing=False)

    def reference(
        self, kind: _Listed, about: Mapping[str, str], *, listing: bool
    ) -> dict[str, Any]:
        """Refer to what an operation is about, and define it if need be.

        :param about: group, version and kind; another than the kind's own for subresources.
        """
        if kind.crd is not None:
            name = _custom_name(kind)
            return self._ref(self._list(kind, name) if listing else name)
        api_version = _api_version(about["group"], about["version"])
        message = KINDS.get((api_version, about["kind"]))
        if message is None:
            return {"type": "object"}
        name = self._message(message)
        definition = self.definitions[name]
        if _GVK not in definition:
            definition["properties"] = {**_type_meta(), **definition.get("properties", {})}
            definition[_GVK] = [dict(about)]
        return self._ref(self._list(kind, name) if listing else name)

    def patch(self) -> dict[str, Any]:
        """Refer to the body of a patch."""
        self.definitions.setdefault(
            _PATCH, {"description": "A patch, in one of the patch types.", "type": "object"}
        )
        return self._ref(_PATCH)

    def delete_options(self) -> dict[str, Any]:
        """Refer to the body of a delete."""
        name = self._message("meta.v1.DeleteOptions")
        properties = self.definitions[name].setdefault("properties", {})
        self.definitions[name]["properties"] = {**_type_meta(), **properties}
        return self._ref(name)

    def _ref(self, name: str) -> dict[str, Any]:
        return {"$ref": self.dialect.value + name}

    def _list(self, kind: _Listed, item: str) -> str:
        name = item.removesuffix(kind.kind) + kind.list_kind
        if name not in self.definitions:
            meta = self._message("meta.v1.ListMeta")
            self.definitions[name] = {
                "description": f"A list of {kind.kind} objects.",
                "type": "object",
                "required": ["items"],
                "properties": {
                    **_type_meta(),
                    "items": {"type": "array", "items": self._use(item)},
                    "metadata": self._use(meta),
                },
                _GVK: [{"group": kind.group, "kind": kind.list_kind, "version": kind.version}],
            }
        return name

    def _use(self, name: str) -> dict[str, Any]:
        """Refer from a property: in v3 as kube-apiserver does, with ``allOf``."""
        if self.dialect is Dialect.V3:
            return {"allOf": [self._ref(name)], "default": {}}
        return self._ref(name)

    # --- built-in kinds -----------------------------------------------------------------

    def _message(self, message: str) -> str:
        name = definition_name(message)
        if name in self.definitions:
            return name
        made: dict[str, Any] = {"type": "object"}
        texts = descriptions()
        if message in texts:
            made["description"] = texts[message]
        self.definitions[name] = made
        fields = builtin_types().flat[message]
        if fields:
            made["properties"] = {
                field: self._property(fields[field], texts.get(f"{message}.{field}", ""))
                for field in sorted(fields)
            }
        needed = sorted(field.name for field in fields.values() if field.required)
        if needed:
            made["required"] = needed
        return name

    def _property(self, field: Field, text: str) -> dict[str, Any]:
        made = self._type(field.type)
        if text:
            made["description"] = text
        if field.merge or field.retain_keys:
            strategies = ["merge"] * field.merge + ["retainKeys"] * field.retain_keys
            if field.merge_key:
                made["x-kubernetes-patch-merge-key"] = field.merge_key
            made["x-kubernetes-patch-strategy"] = ",".join(strategies)
        return made

    def _type(self, kind: str) -> dict[str, Any]:
        if kind.startswith("[]"):
            return {"type": "array", "items": self._type(kind[2:])}
        if kind.startswith("map:"):
            return {"type": "object", "additionalProperties": self._type(kind[4:])}
        if kind in _SCALARS:
            return dict(_SCALARS[kind])
        if kind in _SPECIAL:
            return self._special(kind)
        return self._use(self._message(kind))

    def _special(self, kind: str) -> dict[str, Any]:
        name = _SPECIAL[kind]
        if name not in self.definitions:
            self.definitions[name] = self._special_schema(kind)
        if self.dialect is Dialect.V3:
            return {"allOf": [self._ref(name)]}
        return self._ref(name)

    def _special_schema(self, kind: str) -> dict[str, Any]:
        match kind:
            case "time" | "microtime":
                return {"type": "string", "format": "date-time"}
            case "quantity":
                text = "An amount with an optional unit, such as 100m or 64Mi."
                if self.dialect is Dialect.V3:
                    return {"description": text, "oneOf": [{"type": "string"}, {"type": "number"}]}
                return {"description": text, "type": "string"}
            case "intorstring":
                text = "A number or a name."
                if self.dialect is Dialect.V3:
                    return {
                        "description": text,
                        "format": "int-or-string",
                        "oneOf": [{"type": "integer"}, {"type": "string"}],
                    }
                return {"description": text, "type": "string", "format": "int-or-string"}
            case "raw" | "fields":
                return {"type": "object"}
            case "json":
                return {"description": "Any value."}
        return {"description": "A schema, or what may stand in its place."}

    # --- custom resources ---------------------------------------------------------------

    def _custom(self, kind: _Listed) -> None:
        name = _custom_name(kind)
        if name in self.definitions:
            return
        schema: dict[str, Any] = {}
        for version in ((kind.crd or {}).get("spec") or {}).get("versions") or []:
            if version.get("name") == kind.version:
                schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        made = _for_v2(schema) if self.dialect is Dialect.V2 else dict(schema)
        made.setdefault("type", "object")
        if made["type"] == "object" and (made.get("properties") or not schema.get(_KEEP)):
            meta = self._use(self._message("meta.v1.ObjectMeta"))
            properties = {**(made.get("properties") or {}), **_type_meta(), "metadata": meta}
            made["properties"] = dict(sorted(properties.items()))
        made[_GVK] = [_about(kind)]
        self.definitions[name] = made
        self._list(kind, name)


def _type_meta() -> dict[str, Any]:
    return {
        "apiVersion": {"type": "string", "description": _VERSION_TEXT},
        "kind": {"type": "string", "description": _KIND_TEXT},
    }


def _about(kind: IKind) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _api_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


def _custom_name(kind: IKind) -> str:
    reverse = ".".join(reversed(kind.group.split(".")))
    return f"{reverse}.{kind.version}.{kind.kind}"


def _for_v2(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Write a structural schema as v2 knows it: clients of v2 refuse what they do not know.

    What may hold unknown fields loses its known ones, and what may be null or one of two types
    loses its type, as in kube-apiserver.
    """
    made = {key: schema[key] for key in _V2_KEYS if key in schema}
    made.update({key: schema[key] for key in _EXTENSIONS if schema.get(key)})
    if schema.get("nullable") or schema.get("x-kubernetes-int-or-string"):
        for key in ("type", "format", "enum"):
            made.pop(key, None)
        return made
    if schema.get(_KEEP):
        made.pop("required", None)
        return made
    if schema.get("properties"):
        made["properties"] = {name: _for_v2(inner) for name, inner in schema["properties"].items()}
    if isinstance(schema.get("items"), Mapping):
        made["items"] = _for_v2(schema["items"])
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        made["additionalProperties"] = _for_v2(extra)
    return made
