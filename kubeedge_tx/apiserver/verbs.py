"""Create, update, patch: the rules every write goes through, whoever asks for it.

HTTP requests, the scheduler and the controllers all come through here. Each verb checks
against the newest state and either raises :class:`ApiError` at once or returns a Deferred
that fires when the change is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.apiserver import fielderrors, kinds, status
from kubeedge_tx.apiserver.content import Content
from kubeedge_tx.apiserver.meta import SYSTEM, Object, arrange
from kubeedge_tx.apiserver.registry import KindInfo, Registry
from kubeedge_tx.apiserver.services import ServiceAddresses
from kubeedge_tx.apiserver.shelf import Item
from kubeedge_tx.apiserver.store import ObjectStore

NAMESPACES: Final = "namespaces"
_GENERATED_TRIES: Final = 8
_MAX_GENERATED: Final = 58
"""Longest prefix of a generated name. Source: apiserver ``storage/names``."""


class Verbs:
    """The writes.

    :param wall_clock: seconds since 1970.
    :param new_uid: makes a UUID as text.
    :param new_suffix: makes the random end of a generated name.
    """

    def __init__(
        self,
        store: ObjectStore,
        registry: Registry,
        content: Content,
        *,
        wall_clock: Callable[[], float],
        new_uid: Callable[[], str],
        new_suffix: Callable[[], str],
    ) -> None:
        self.store = store
        self.registry = registry
        self.content = content
        self._wall_clock = wall_clock
        self._new_uid = new_uid
        self._new_suffix = new_suffix
        self._addresses = ServiceAddresses(store)

    def now(self) -> float:
        """Seconds since 1970."""
        return self._wall_clock()

    def find(self, info: KindInfo, namespace: str, name: str) -> Item:
        """The newest state of an object.

        :raises ApiError: 404.
        """
        item = self.store.head(info.resource, namespace, name)
        if item is None:
            raise status.not_found(info, name)
        return item

    def create(
        self,
        info: KindInfo,
        namespace: str,
        obj: Object,
        *,
        user: kinds.Author | None = None,
        dry_run: bool = False,
    ) -> Deferred[Item]:
        """Store a new object.

        :param obj: as decoded from the request; not changed.
        :param user: who asks; recorded in certificate requests.
        :raises ApiError: 400, 403, 404, 409 or 422.
        """
        metadata = dict(_metadata(obj))
        if info.namespaced:
            own = metadata.get("namespace") or namespace
            if own != namespace:
                raise status.bad_request(
                    f"the namespace of the provided object does not match the namespace sent on "
                    f"the request: {own} vs. {namespace}"
                )
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        name = metadata.get("name") or ""
        if not name:
            name = self._generated_name(info, namespace, metadata)
            metadata["name"] = name
        if info.namespaced:
            self._check_namespace(info, namespace, name)
        now = self.now()
        for key in SYSTEM:
            metadata.pop(key, None)
        metadata["uid"] = self._new_uid()
        metadata["resourceVersion"] = "0"
        metadata["creationTimestamp"] = rfc3339(now)
        if info.generation:
            metadata["generation"] = 1
        kinds.label(info, metadata)
        new = arrange(info, metadata, obj)
        if info.crd is not None and info.has_status:
            new.pop("status", None)
        new = arrange(info, metadata, self.content.created(info, new))
        new = kinds.before_create(info, new, user, now)
        if info.resource == "services":
            new = self._addresses.assign(info, new)
        self.content.validate(info, new, None)
        if self.store.head(info.resource, namespace, name) is not None:
            raise status.already_exists(info, name)
        if dry_run:
            del new["metadata"]["resourceVersion"]
            return succeed(Item(info.resource, namespace, name, 0, new, b""))
        return self.store.put(info.resource, namespace, name, new)

    def update(
        self,
        info: KindInfo,
        namespace: str,
        name: str,
        obj: Object,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Deferred[Item]:
        """Replace an object, or one part of it.

        :param obj: as decoded from the request; not changed.
        :raises ApiError: 400, 404, 409 or 422.
        """
        old = self.find(info, namespace, name)
        metadata = _metadata(obj)
        self._check_names(info, old, metadata)
        version = metadata.get("resourceVersion") or ""
        if version in ("", "0"):
            if info.crd is not None or info.plural in kinds.VERSION_REQUIRED:
                raise status.invalid(
                    info,
                    name,
                    [
                        fielderrors.invalid(
                            "metadata.resourceVersion", 0, "must be specified for an update"
                        )
                    ],
                )
        elif version != str(old.version):
            raise status.conflict(info, name, status.MODIFIED)
        uid = metadata.get("uid")
        if uid and uid != old.obj["metadata"]["uid"]:
            raise status.conflict(
                info,
                name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
                f"{old.obj['metadata']['uid']}",
            )
        return self._replace(info, old, obj, subresource, dry_run=dry_run)

    def patch(
        self,
        info: KindInfo,
        namespace: str,
        name: str,
        apply: Callable[[Object], Object],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Deferred[Item]:
        """Replace an object by what ``apply`` makes of its newest state.

        :param apply: returns a new object and leaves its argument alone.
        :raises ApiError: 400, 404, 409 or 422, and what ``apply`` raises.
        """
        old = self.find(info, namespace, name)
        new = apply(served(info, old.obj))
        metadata = _metadata(new)
        self._check_names(info, old, metadata)
        if metadata.get("resourceVersion") not in (None, "", str(old.version)):
            raise status.conflict(info, name, status.MODIFIED)
        uid = metadata.get("uid")
        if uid and uid != old.obj["metadata"]["uid"]:
            # Twice, as kube-apiserver says it, whose old and new checks both run.
            error = fielderrors.invalid("metadata.uid", uid, "field is immutable")
            raise status.invalid(info, name, [error, error])
        return self._replace(info, old, new, subresource, dry_run=dry_run)

    def _replace(
        self, info: KindInfo, old: Item, obj: Object, subresource: str, *, dry_run: bool
    ) -> Deferred[Item]:
        given = dict(_metadata(obj))
        was: Object = old.obj["metadata"]
        for key in (*SYSTEM, "name", "namespace"):
            given.pop(key, None)
            if key in was:
                given[key] = was[key]
        given["resourceVersion"] = was["resourceVersion"]
        kinds.label(info, given)
        merged = kinds.merge_subresource(info, subresource, arrange(info, given, obj), old.obj)
        if subresource and info.crd is not None:
            given = was
        new = arrange(
            info, merged["metadata"], self.content.updated(info, merged, old.obj, subresource)
        )
        if info.resource == "services":
            new = self._addresses.keep(info, new, old.obj)
        new = kinds.before_update(info, subresource, new, old.obj, self.now())
        if info.generation and not subresource and kinds.spec_changed(info, new, old.obj):
            new["metadata"]["generation"] = was.get("generation", 0) + 1
            new = arrange(info, new["metadata"], new)
        self._check_finalizers(info, new, old)
        self.content.validate(info, new, old.obj, subresource)
        if new == old.obj:
            return succeed(old)
        if dry_run:
            return succeed(Item(old.resource, old.namespace, old.name, old.version, new, b""))
        if kinds.is_released(info, new):
            return self.store.remove(old.resource, old.namespace, old.name, new)
        return self.store.put(old.resource, old.namespace, old.name, new)

    def _check_names(self, info: KindInfo, old: Item, metadata: Object) -> None:
        name = metadata.get("name") or ""
        if name != old.name:
            raise status.bad_request(
                f"the name of the object ({name}) does not match the name on the URL ({old.name})"
            )
        namespace = metadata.get("namespace") or old.namespace
        if info.namespaced and namespace != old.namespace:
            raise status.bad_request(
                f"the namespace of the object ({namespace}) does not match the namespace on the "
                f"URL ({old.namespace})"
            )

    def _check_finalizers(self, info: KindInfo, new: Object, old: Item) -> None:
        if "deletionTimestamp" not in old.obj["metadata"]:
            return
        had = old.obj["metadata"].get("finalizers") or []
        added = [f for f in new["metadata"].get("finalizers") or [] if f not in had]
        if added:
            quoted = ", ".join(f'"{f}"' for f in added)
            why = (
                "no new finalizers can be added if the object is being deleted, found new "
                f"finalizers []string{{{quoted}}}"
            )
            raise status.invalid(
                info, old.name, [fielderrors.forbidden("metadata.finalizers", why)]
            )

    def _check_namespace(self, info: KindInfo, namespace: str, name: str) -> None:
        found = self.store.head(NAMESPACES, "", namespace)
        if found is None:
            where = self.registry.find("", "v1", NAMESPACES)
            assert where is not None
            raise status.not_found(where, namespace)
        if "deletionTimestamp" in found.obj["metadata"]:
            raise status.forbidden(
                info,
                name,
                f"unable to create new content in namespace {namespace} because it is being "
                "terminated",
                [
                    {
                        "reason": "NamespaceTerminating",
                        "message": f"namespace {namespace} is being terminated",
                        "field": "metadata.namespace",
                    }
                ],
            )

    def _generated_name(self, info: KindInfo, namespace: str, metadata: Object) -> str:
        prefix = metadata.get("generateName") or ""
        if not isinstance(prefix, str) or not prefix:
            error = fielderrors.required("metadata.name", "name or generateName is required")
            raise status.invalid(info, "", [error])
        for _ in range(_GENERATED_TRIES):
            name = prefix[:_MAX_GENERATED] + self._new_suffix()
            if self.store.head(info.resource, namespace, name) is None:
                return name
        raise status.already_exists(info, name)


def served(info: KindInfo, obj: Object) -> Object:
    """An object as the requested version shows it (conversion strategy None)."""
    if obj.get("apiVersion") == info.api_version:
        return obj
    return {**obj, "apiVersion": info.api_version}


def _metadata(obj: Object) -> dict[str, Any]:
    metadata = obj.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise status.bad_request("metadata must be an object")
    for key in ("name", "namespace", "generateName", "uid", "resourceVersion"):
        if not isinstance(metadata.get(key, ""), str | None):
            raise status.bad_request(f"metadata.{key} must be a string")
    return metadata
