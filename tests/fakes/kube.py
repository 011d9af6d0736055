"""A Kubernetes API server in dicts, and informers that follow it.

It refuses what the real one refuses, with the real codes, reasons and texts: 404, 409 for
names taken and versions outdated, preconditions, missing namespaces, finalizers, graceful
deletion of pods, status as its own subresource.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from zope.interface import implementer

from kubeedge_tx.api.resources import NAMESPACES, PODS, ResourceType
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    IInformer,
    IKubeClient,
)
from tests.fakes.kube_patch import json_patch, merge_patch, strategic_patch

T = TypeVar("T")

WITH_STATUS = {
    "namespaces",
    "nodes",
    "pods",
    "services",
    "persistentvolumes",
    "persistentvolumeclaims",
    "objectsyncs",
    "clusterobjectsyncs",
    "rules",
}
"""Kinds whose status is written through the subresource only."""

Event = tuple[str, dict[str, Any], dict[str, Any]]
"""``ADDED``, ``MODIFIED`` or ``DELETED``; the object before; the object after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that was made."""

    verb: str
    kind: ResourceType
    namespace: str
    name: str
    subresource: str = ""
    as_node: str = ""
    body: Any = None


@dataclass(slots=True)
class _Failing:
    verb: str
    kind: ResourceType | None
    error: KubeError
    times: int


@implementer(IKubeClient)
class FakeKube:
    """IKubeClient over dicts. Answers are ready at once, unless :meth:`hold` was called.

    ``calls`` lists every call. ``before`` is called with each of them before it is looked
    at: change the objects there and you are the other client that was faster.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.before: Callable[[Call], None] | None = None
        self.version = 100
        self._objects: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
        self._watchers: list[tuple[ResourceType, Callable[[Event], None]]] = []
        self._failing: list[_Failing] = []
        self._held: list[Callable[[], None]] | None = None
        self._uids = 0
        for namespace in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.put(NAMESPACES, {"metadata": {"name": namespace}})

    # For tests

    def put(self, kind: ResourceType, obj: dict[str, Any]) -> dict[str, Any]:
        """Create or replace an object, status and all, as if somebody else had done it."""
        obj = _copy(obj)
        meta = obj.setdefault("metadata", {})
        old = self._table(kind).get((meta.get("namespace", ""), meta["name"]))
        return _copy(self._store(kind, obj, old))

    def peek(self, kind: ResourceType, namespace: str, name: str) -> dict[str, Any] | None:
        """Look at an object without it counting as a call."""
        found = self._table(kind).get((namespace, name))
        return None if found is None else _copy(found)

    def drop(self, kind: ResourceType, namespace: str, name: str) -> None:
        """Make an object disappear at once, finalizers or not."""
        obj = self._table(kind).pop((namespace, name))
        self._bump(obj)
        self._tell(kind, ("DELETED", obj, obj))

    def all(self, kind: ResourceType) -> list[dict[str, Any]]:
        """Every object of a kind, without it counting as a call."""
        return [_copy(obj) for _key, obj in sorted(self._table(kind).items())]

    def fail_next(
        self, verb: str, error: KubeError, *, kind: ResourceType | None = None, times: int = 1
    ) -> None:
        """Refuse the next calls of ``verb`` (of one kind, if given) with ``error``."""
        self._failing.append(_Failing(verb, kind, error, times))

    def hold(self) -> None:
        """Keep the answers of later calls back, until :meth:`release`."""
        self._held = []

    def release(self) -> None:
        """Let the answers held back go, in order, and later ones at once."""
        held, self._held = self._held or [], None
        for answer in held:
            answer()

    def made(self, verb: str, kind: ResourceType | None = None) -> list[Call]:
        """The calls of one verb, and kind if given."""
        return [c for c in self.calls if c.verb == verb and kind in (None, c.kind)]

    def informer(self, kind: ResourceType, *, synced: bool = True) -> FakeInformer:
        """Follow one kind; ``synced=False`` leaves the first list to ``informer.sync()``."""
        informer = FakeInformer(kind, self)
        self._watchers.append((kind, informer.event))
        if synced:
            informer.sync()
        return informer

    # IKubeClient

    def get(
        self, kind: ResourceType, namespace: str, name: str, *, as_node: str = ""
    ) -> Deferred[dict[str, Any]]:
        call = Call(verb="get", kind=kind, namespace=namespace, name=name, as_node=as_node)
        return self._answer(call, lambda: self._find(kind, namespace, name))

    def list(
        self,
        kind: ResourceType,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Deferred[dict[str, Any]]:
        call = Call(verb="list", kind=kind, namespace=namespace, name="")

        def answer() -> dict[str, Any]:
            items = [
                obj
                for (where, _name), obj in sorted(self._table(kind).items())
                if namespace in ("", where)
                and _selected(label_selector, obj["metadata"].get("labels") or {})
                and _fields_match(field_selector, obj)
            ]
            return {
                "apiVersion": kind.api_version,
                "kind": f"{kind.kind}List",
                "metadata": {"resourceVersion": str(self.version)},
                "items": items,
            }

        return self._answer(call, answer)

    def create(
        self,
        kind: ResourceType,
        namespace: str,
        body: Any,
        *,
        name: str = "",
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        body = _value(body)
        call = Call(
            verb="create",
            kind=kind,
            namespace=namespace,
            name=name or body.get("metadata", {}).get("name", ""),
            subresource=subresource,
            as_node=as_node,
            body=body,
        )
        if subresource:
            return self._answer(call, lambda: self._create_sub(call))
        return self._answer(call, lambda: self._create(kind, namespace, _copy(body)))

    def update(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        *,
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        body = _value(body)
        call = Call(
            verb="update",
            kind=kind,
            namespace=namespace,
            name=name,
            subresource=subresource,
            as_node=as_node,
            body=body,
        )

        def answer() -> dict[str, Any]:
            old = self._find(kind, namespace, name)
            return self._replace(kind, old, _copy(body), subresource)

        return self._answer(call, answer)

    def patch(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        body = _value(body)
        call = Call(
            verb="patch",
            kind=kind,
            namespace=namespace,
            name=name,
            subresource=subresource,
            as_node=as_node,
            body=body,
        )

        def answer() -> dict[str, Any]:
            old = self._find(kind, namespace, name)
            base = _copy(old)
            if content_type == JSON_PATCH:
                try:
                    new = json_patch(base, body)
                except ValueError as error:
                    raise kube_error(422, "Invalid", str(error)) from None
            elif content_type == MERGE_PATCH or (
                content_type == STRATEGIC_PATCH and "." not in kind.group.removesuffix(".k8s.io")
            ):
                new = (merge_patch if content_type == MERGE_PATCH else strategic_patch)(base, body)
            else:
                raise kube_error(
                    415,
                    "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types "
                    "include: application/json-patch+json, application/merge-patch+json",
                )
            return self._replace(kind, old, new, subresource)

        return self._answer(call, answer)

    def delete(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        *,
        options: Any = None,
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        options = _value(options) or {}
        call = Call(
            verb="delete", kind=kind, namespace=namespace, name=name, as_node=as_node, body=options
        )
        return self._answer(call, lambda: self._delete(kind, namespace, name, options))

    # Inside

    def _answer(self, call: Call, work: Callable[[], dict[str, Any]]) -> Deferred[dict[str, Any]]:
        self.calls.append(call)
        if self.before is not None:
            self.before(call)
        try:
            self._fail_if_told(call)
            result = succeed(_copy(work()))
        except KubeError as error:
            result = fail(error)
        if self._held is None:
            return result
        later: Deferred[dict[str, Any]] = Deferred()

        def answer() -> None:
            if later.called:  # cancelled meanwhile
                result.addErrback(lambda _failure: None)
            else:
                result.chainDeferred(later)

        self._held.append(answer)
        return later

    def _fail_if_told(self, call: Call) -> None:
        for failing in self._failing:
            if failing.verb == call.verb and failing.kind in (None, call.kind):
                failing.times -= 1
                if failing.times == 0:
                    self._failing.remove(failing)
                raise failing.error

    def _table(self, kind: ResourceType) -> dict[tuple[str, str], dict[str, Any]]:
        return self._objects.setdefault((kind.group, kind.plural), {})

    def _find(self, kind: ResourceType, namespace: str, name: str) -> dict[str, Any]:
        obj = self._table(kind).get((namespace, name))
        if obj is None:
            raise not_found(kind, name)
        return obj

    def _create(self, kind: ResourceType, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        meta = obj.setdefault("metadata", {})
        if meta.get("resourceVersion"):
            raise kube_error(
                400, "BadRequest", "resourceVersion should not be set on objects to be created"
            )
        if kind.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise kube_error(
                    400,
                    "BadRequest",
                    "the namespace of the provided object does not match the namespace sent on "
                    "the request",
                )
            if ("", namespace) not in self._table(NAMESPACES):
                raise not_found(NAMESPACES, namespace)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName']}{self.version:05x}"
        if not meta.get("name"):
            raise kube_error(
                422, "Invalid", f"{kind.kind} is invalid: metadata.name: Required value"
            )
        if (meta.get("namespace", ""), meta["name"]) in self._table(kind):
            raise kube_error(
                409, "AlreadyExists", f'{_qualified(kind)} "{meta["name"]}" already exists'
            )
        for field_name in ("uid", "creationTimestamp", "deletionTimestamp", "generation"):
            meta.pop(field_name, None)
        if kind.plural in WITH_STATUS and kind is not PODS and kind.plural != "nodes":
            obj.pop("status", None)
        return self._store(kind, obj, None)

    def _create_sub(self, call: Call) -> dict[str, Any]:
        target = self._find(call.kind, call.namespace, call.name)
        body: dict[str, Any] = _copy(call.body)
        if call.subresource == "binding":
            new = _copy(target)
            new["spec"]["nodeName"] = body["target"]["name"]
            self._store(call.kind, new, target)
            return {"apiVersion": "v1", "kind": "Status", "status": "Success", "code": 201}
        if call.subresource == "token":
            body["status"] = {
                "token": f"token-of-{call.name}",
                "expirationTimestamp": "2030-01-01T00:00:00Z",
            }
            return body
        raise kube_error(404, "NotFound", "the server could not find the requested resource")

    def _replace(
        self, kind: ResourceType, old: dict[str, Any], new: dict[str, Any], subresource: str
    ) -> dict[str, Any]:
        meta, before = new.setdefault("metadata", {}), old["metadata"]
        wanted = meta.get("resourceVersion")
        if wanted and wanted != before["resourceVersion"]:
            raise conflict(kind, before["name"])
        if meta.get("uid") and meta["uid"] != before["uid"]:
            raise kube_error(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {_qualified(kind)} "{before["name"]}": '
                f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
                f"{before['uid']}",
            )
        if subresource == "status":
            new = {**_copy(old), "status": new.get("status") or {}}
        elif kind.plural in WITH_STATUS:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        meta = new["metadata"]
        for key in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp"):
            meta.pop(key, None)
            if key in before:
                meta[key] = before[key]
        new = self._store(kind, new, old)
        if "deletionTimestamp" in meta and not meta.get("finalizers") and kind is not PODS:
            self.drop(kind, meta.get("namespace", ""), meta["name"])
        return new

    def _delete(
        self, kind: ResourceType, namespace: str, name: str, options: dict[str, Any]
    ) -> dict[str, Any]:
        obj = self._find(kind, namespace, name)
        for key, value in (options.get("preconditions") or {}).items():
            if value and obj["metadata"].get(key) != value:
                raise kube_error(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {_qualified(kind)} "{name}": Precondition '
                    f"failed: {key} in precondition: {value}, {key} in object meta: "
                    f"{obj['metadata'].get(key)}",
                )
        grace = options.get("gracePeriodSeconds")
        spec = obj.get("spec") or {}
        graceful = kind is PODS and bool(spec.get("nodeName"))
        if grace is None:
            grace = spec.get("terminationGracePeriodSeconds", 30) if graceful else 0
        if (graceful and grace > 0) or obj["metadata"].get("finalizers"):
            new = _copy(obj)
            new["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:30Z")
            new["metadata"]["deletionGracePeriodSeconds"] = grace
            return self._store(kind, new, obj)
        self.drop(kind, namespace, name)
        return {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Success",
            "details": {"name": name, "kind": kind.plural, "uid": obj["metadata"]["uid"]},
        }

    def _store(
        self, kind: ResourceType, obj: dict[str, Any], old: dict[str, Any] | None
    ) -> dict[str, Any]:
        obj.setdefault("apiVersion", kind.api_version)
        obj.setdefault("kind", kind.kind)
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if old is None:
            self._uids += 1
            meta.setdefault("uid", f"00000000-0000-4000-8000-{self._uids:012x}")
            meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            if "spec" in obj:
                meta["generation"] = 1
        else:
            for name in ("uid", "creationTimestamp", "resourceVersion"):
                meta[name] = old["metadata"][name]
            if "generation" in old["metadata"]:
                meta["generation"] = old["metadata"]["generation"]
            if obj == old:
                return old  # the real one keeps the version of an object that is the same
            if "spec" in obj and obj["spec"] != old.get("spec"):
                meta["generation"] = old["metadata"].get("generation", 0) + 1
        self._bump(obj)
        self._table(kind)[key] = obj
        self._tell(kind, ("ADDED" if old is None else "MODIFIED", old or obj, obj))
        return obj

    def _bump(self, obj: dict[str, Any]) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)

    def _tell(self, kind: ResourceType, event: Event) -> None:
        what, old, new = event
        for watched, watcher in list(self._watchers):
            if watched == kind:
                watcher((what, _copy(old), _copy(new)))


@implementer(IInformer)
class FakeInformer:
    """An informer fed by a FakeKube; hands on one event at a time, as the real one does."""

    def __init__(self, kind: ResourceType, kube: FakeKube) -> None:
        self.kind = kind
        self.synced = False
        self._kube = kube
        self._cache: dict[tuple[str, str], dict[str, Any]] = {}
        self._listeners: list[Any] = []
        self._waiting: list[Deferred[None]] = []
        self._queue: deque[tuple[Any, Event]] = deque()
        self._busy = False

    def sync(self) -> None:
        """The first list comes in."""
        for obj in self._kube.all(self.kind):
            self._cache[_key(obj)] = obj
            for listener in self._listeners:
                self._queue.append((listener, ("ADDED", obj, obj)))
        self.synced = True
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)
        self._pump()

    def event(self, event: Event) -> None:
        """Take one watch event."""
        if not self.synced:
            return
        what, _old, new = event
        if what == "DELETED":
            self._cache.pop(_key(new), None)
        else:
            self._cache[_key(new)] = new
        self._queue.extend((listener, event) for listener in self._listeners)
        self._pump()

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._cache.get((namespace, name))

    def items(self) -> Iterable[dict[str, Any]]:
        return list(self._cache.values())

    def add_listener(self, listener: Any) -> None:
        self._listeners.append(listener)
        if self.synced:
            self._queue.extend(
                (listener, ("ADDED", obj, obj)) for obj in list(self._cache.values())
            )
            self._pump()

    def when_synced(self) -> Deferred[None]:
        if self.synced:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def _pump(self) -> None:
        while self._queue and not self._busy:
            listener, (what, old, new) = self._queue.popleft()
            self._busy = True
            if what == "ADDED":
                told = maybeDeferred(listener.added, new)
            elif what == "MODIFIED":
                told = maybeDeferred(listener.modified, old, new)
            else:
                told = maybeDeferred(listener.deleted, new)
            told.addBoth(self._told)

    def _told(self, result: Any) -> Any:
        self._busy = False
        self._pump()
        return result


def kube_error(code: int, reason: str, message: str) -> KubeError:
    """An error as the API server's answer would have made it."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return KubeError(message, code=code, reason=reason, status=status)


def not_found(kind: ResourceType, name: str) -> KubeError:
    """404."""
    return kube_error(404, "NotFound", f'{_qualified(kind)} "{name}" not found')


def conflict(kind: ResourceType, name: str) -> KubeError:
    """409 for an outdated resourceVersion."""
    return kube_error(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(kind)} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again",
    )


def unreachable() -> KubeError:
    """No answer at all."""
    return KubeError("cannot reach the API server: connection refused", code=0)


def _qualified(kind: ResourceType) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def _key(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _copy(value: T) -> T:
    """What JSON leaves of a value; refuses what is no JSON, as the wire would."""
    copied: T = json.loads(json.dumps(value))
    return copied


def _value(body: Any) -> Any:
    return json.loads(body) if isinstance(body, bytes | str) else body


def _selected(selector: str, labels: dict[str, str]) -> bool:
    for term in filter(None, selector.split(",")):
        if "!=" in term:
            name, _, value = term.partition("!=")
            if labels.get(name) == value:
                return False
        elif "=" in term:
            name, _, value = term.replace("==", "=").partition("=")
            if labels.get(name) != value:
                return False
        elif term.startswith("!"):
            if term[1:] in labels:
                return False
        elif term not in labels:
            return False
    return True


def _fields_match(selector: str, obj: dict[str, Any]) -> bool:
    for term in filter(None, selector.split(",")):
        unequal = "!=" in term
        path, _, wanted = term.replace("!=", "=").replace("==", "=").partition("=")
        value: Any = obj
        for part in path.split("."):
            value = (value or {}).get(part, "")
        if (value == wanted) == unequal:
            return False
    return True
