"""The API described to clients: OpenAPI v2 and v3 for the kinds that are served.

kubectl needs of it the fields with their types and merge keys (apply, patch, explain, its own
validation up to 1.24), and the query parameters of PATCH (whether ``dryRun`` and
``fieldValidation`` are known). Source for the form: kube-apiserver 1.36.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from kubeedge_tx.apiserver.gnostic import v2_protobuf
from kubeedge_tx.apiserver.openapischemas import Dialect, Schemas

__all__ = ["v2_document", "v2_protobuf", "v3_document", "v3_index"]

_TITLE: Final = "KubeEdge-TX"
_VERSION: Final = "v1.36.0"
_EDITION: Final = 2
"""To be raised when the documents change without a change of the kinds: part of their hash."""

_PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_JSON: Final = "application/json"
_LIST_QUERY: Final = (
    ("labelSelector", "string", "Only objects with these labels."),
    ("fieldSelector", "string", "Only objects with these fields."),
    ("limit", "integer", "At most so many objects at once."),
    ("continue", "string", "Where to go on after a limited list."),
    ("resourceVersion", "string", "The version to read or to watch from."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant."),
    ("watch", "boolean", "Send changes instead of a list."),
    ("allowWatchBookmarks", "boolean", "Send bookmarks in a watch."),
    ("sendInitialEvents", "boolean", "Begin a watch with what there is."),
    ("timeoutSeconds", "integer", "How long to watch."),
)
_WRITE_QUERY: Final = (
    ("dryRun", "string", "All: check, but store nothing."),
    ("fieldManager", "string", "Who writes."),
    ("fieldValidation", "string", "What to do about unknown fields: Ignore, Warn or Strict."),
)
_DELETE_QUERY: Final = (
    ("dryRun", "string", "All: check, but delete nothing."),
    ("gracePeriodSeconds", "integer", "Time for the object to end."),
    ("propagationPolicy", "string", "What happens to dependents."),
)
_ACTIONS: Final = {
    "get": "get",
    "put": "update",
    "post": "create",
    "patch": "patch",
    "delete": "delete",
}


class _Sub(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def verbs(self) -> tuple[str, ...]: ...
    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...


class Kind(Protocol):
    """What is needed of a served kind."""

    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def list_kind(self) -> str: ...
    @property
    def namespaced(self) -> bool: ...
    @property
    def verbs(self) -> tuple[str, ...]: ...
    @property
    def subresources(self) -> Sequence[_Sub]: ...
    @property
    def crd(self) -> dict[str, Any] | None: ...


def v2_document(kinds: Iterable[Kind]) -> dict[str, Any]:
    """Describe all kinds as Swagger 2.0."""
    schemas = Schemas(Dialect.V2)
    paths: dict[str, Any] = {}
    for kind in kinds:
        paths.update(_paths(kind, schemas))
    return {
        "swagger": "2.0",
        "info": {"title": _TITLE, "version": _VERSION},
        "paths": dict(sorted(paths.items())),
        "definitions": dict(sorted(schemas.definitions.items())),
    }


def v3_index(kinds: Iterable[Kind]) -> dict[str, Any]:
    """List the documents of OpenAPI v3, each with a hash in its address."""
    groups = _by_path(kinds)
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(members)}"}
            for path, members in sorted(groups.items())
        }
    }


def v3_document(path: str, kinds: Iterable[Kind]) -> dict[str, Any] | None:
    """Describe one group and version as OpenAPI 3.0; None if it is not served.

    :param path: ``api/v1`` or ``apis/<group>/<version>``.
    """
    members = _by_path(kinds).get(path)
    if members is None:
        return None
    schemas = Schemas(Dialect.V3)
    paths: dict[str, Any] = {}
    for kind in members:
        paths.update(_paths(kind, schemas))
    return {
        "openapi": "3.0.0",
        "info": {"title": _TITLE, "version": _VERSION},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(schemas.definitions.items()))},
    }


def _by_path(kinds: Iterable[Kind]) -> dict[str, list[Kind]]:
    groups: dict[str, list[Kind]] = {}
    for kind in kinds:
        path = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
        groups.setdefault(path, []).append(kind)
    return groups


def _hash(kinds: list[Kind]) -> str:
    facts = [
        [_EDITION, kind.group, kind.version, kind.kind, kind.plural, (kind.crd or {}).get("spec")]
        for kind in sorted(kinds, key=lambda kind: kind.plural)
    ]
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest().upper()


# --- paths ------------------------------------------------------------------------------


def _paths(kind: Kind, schemas: Schemas) -> Iterator[tuple[str, dict[str, Any]]]:
    schemas.add_kind(kind)
    base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if kind.namespaced:
        everywhere = _Path(kind, schemas, namespaced=False, named=False)
        if "list" in kind.verbs:
            yield f"{base}/{kind.plural}", everywhere.item(("get",), "ForAllNamespaces")
        base += "/namespaces/{namespace}"
    verbs = kind.verbs
    several = _Path(kind, schemas, namespaced=kind.namespaced, named=False)
    one = _Path(kind, schemas, namespaced=kind.namespaced, named=True)
    collection = [
        method
        for method, verb in (("get", "list"), ("post", "create"), ("delete", "deletecollection"))
        if verb in verbs
    ]
    yield f"{base}/{kind.plural}", several.item(collection)
    single = [
        method
        for method, verb in (
            ("get", "get"),
            ("put", "update"),
            ("patch", "patch"),
            ("delete", "delete"),
        )
        if verb in verbs
    ]
    if single:
        yield f"{base}/{kind.plural}/{{name}}", one.item(single)
    for sub in kind.subresources:
        methods = [
            method
            for method, verb in (
                ("get", "get"),
                ("post", "create"),
                ("put", "update"),
                ("patch", "patch"),
            )
            if verb in sub.verbs
        ]
        made = one.item(methods, sub.name.capitalize(), sub=sub)
        yield f"{base}/{kind.plural}/{{name}}/{sub.name}", made


class _Path:
    """Writes the operations of one path."""

    def __init__(self, kind: Kind, schemas: Schemas, *, namespaced: bool, named: bool) -> None:
        self._kind = kind
        self._schemas = schemas
        self._namespaced = namespaced
        self._named = named

    def item(
        self, methods: Sequence[str], suffix: str = "", sub: _Sub | None = None
    ) -> dict[str, Any]:
        """The path with these HTTP methods."""
        made: dict[str, Any] = {method: self._operation(method, suffix, sub) for method in methods}
        place = []
        if self._named:
            place.append(self._parameter("name", "path", "string", "The object's name."))
        if self._namespaced:
            place.append(self._parameter("namespace", "path", "string", "Its namespace."))
        place.append(self._parameter("pretty", "query", "string", "Indent the answer."))
        made["parameters"] = place
        return made

    def _operation(self, method: str, suffix: str, sub: _Sub | None) -> dict[str, Any]:
        kind = self._kind
        listing = method == "get" and not self._named
        action = "list" if listing else _ACTIONS[method]
        if method == "delete" and not self._named:
            action = "deletecollection"
        group = "".join(part.capitalize() for part in kind.group.split(".")[:1]) or "Core"
        scope = "Namespaced" if self._namespaced else ""
        name = f"{action}{group}{kind.version.capitalize()}{scope}{kind.kind}{suffix}"
        about = {"group": kind.group, "kind": kind.kind, "version": kind.version}
        if sub is not None and (sub.kind != kind.kind or sub.group):
            about = {
                "group": sub.group or kind.group,
                "kind": sub.kind,
                "version": sub.version or kind.version,
            }
        result = self._schemas.reference(kind, about, listing=listing)
        made: dict[str, Any] = {"operationId": name, "x-kubernetes-action": action}
        made["x-kubernetes-group-version-kind"] = about
        queries = {
            "get": _LIST_QUERY if listing else (),
            "delete": _DELETE_QUERY,
        }.get(method, _WRITE_QUERY)
        made["parameters"] = [
            self._parameter(query, "query", type_, text) for query, type_, text in queries
        ]
        if method == "patch":
            made["parameters"].append(
                self._parameter("force", "query", "boolean", "Take fields over from others.")
            )
        self._body(made, method, about, result)
        answers = {"200": "OK", **({"201": "Created"} if method in ("post", "put") else {})}
        made["responses"] = {code: self._answer(text, result) for code, text in answers.items()}
        return made

    def _parameter(self, name: str, place: str, type_: str, text: str) -> dict[str, Any]:
        made: dict[str, Any] = {"name": name, "in": place, "description": text}
        if place == "path":
            made["required"] = True
        if self._schemas.dialect is Dialect.V3:
            made["schema"] = {"type": type_, "uniqueItems": True}
        else:
            made.update(type=type_, uniqueItems=True)
        return made

    def _body(
        self, made: dict[str, Any], method: str, about: Mapping[str, str], result: Any
    ) -> None:
        if method == "patch":
            types: Sequence[str] = _PATCH_TYPES if self._kind.crd is None else _PATCH_TYPES[:2]
            schema: Any = self._schemas.patch()
        elif method in ("post", "put"):
            types, schema = (_JSON, "application/yaml"), result
        elif method == "delete":
            types, schema = (_JSON,), self._schemas.delete_options()
        else:
            return
        if self._schemas.dialect is Dialect.V3:
            content = {media: {"schema": schema} for media in types}
            made["requestBody"] = {"content": content}
            if method != "delete":
                made["requestBody"]["required"] = True
            return
        made["consumes"] = list(types)
        body = {"name": "body", "in": "body", "schema": schema}
        if method != "delete":
            body["required"] = True
        made["parameters"].append(body)

    def _answer(self, text: str, schema: Any) -> dict[str, Any]:
        if self._schemas.dialect is Dialect.V3:
            return {"description": text, "content": {_JSON: {"schema": schema}}}
        return {"description": text, "schema": schema}
