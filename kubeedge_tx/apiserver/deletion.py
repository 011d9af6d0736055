"""Delete: at once, after a grace period, or when the last finalizer is gone.

Source: apiserver ``registry/rest/delete.go`` and the strategies of pods and namespaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.python.failure import Failure

from kubeedge_tx.api.timestamps import rfc3339, seconds_since_1970
from kubeedge_tx.apiserver import status
from kubeedge_tx.apiserver.kinds import is_released
from kubeedge_tx.apiserver.meta import Object, replaced
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.shelf import Item
from kubeedge_tx.apiserver.verbs import Verbs

_PROTECTED: Final = ("default", "kube-system", "kube-public")
_PROPAGATION: Final = ("Orphan", "Background", "Foreground")
_DEFAULT_GRACE: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """What a DELETE may ask for."""

    grace_period: int | None = None
    """Seconds; ``None`` for the object's own."""
    uid: str = ""
    """The only uid that may be deleted; empty for any."""
    resource_version: str = ""
    """The only version that may be deleted; empty for any."""
    dry_run: bool = False

    @classmethod
    def parse(cls, body: Object, *, dry_run: bool = False) -> DeleteOptions:
        """Read a DeleteOptions object.

        :raises ApiError: 400, or 422 for an unknown propagation policy.
        """
        grace = body.get("gracePeriodSeconds")
        if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
            raise status.bad_request("gracePeriodSeconds must be a number of seconds")
        if grace is not None and grace < 0:
            grace = 1
        policy = body.get("propagationPolicy")
        if policy is not None and policy not in _PROPAGATION:
            supported = ", ".join(f'"{p}"' for p in (*_PROPAGATION, "nil"))
            raise status.ApiError(
                422,
                "Invalid",
                'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: '
                f'"{policy}": supported values: {supported}',
                {"group": "meta.k8s.io", "kind": "DeleteOptions"},
            )
        wanted = body.get("preconditions") or {}
        return cls(
            grace_period=grace,
            uid=wanted.get("uid") or "",
            resource_version=wanted.get("resourceVersion") or "",
            dry_run=dry_run or body.get("dryRun") == ["All"],
        )


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of an object that was to be deleted."""

    obj: Object
    gone: bool
    """False while it waits for a grace period or finalizers."""


class Deletion:
    """The verbs delete and deletecollection."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._store = verbs.store

    def delete(
        self, info: KindInfo, namespace: str, name: str, options: DeleteOptions
    ) -> Deferred[Deleted]:
        """Delete one object, or mark it for deletion.

        :raises ApiError: 403, 404 or 409, at once.
        """
        item = self._verbs.find(info, namespace, name)
        self._check(info, item, options)
        if info.resource == "pods":
            return self._delete_pod(info, item, options)
        if "deletionTimestamp" in item.obj["metadata"] and not is_released(info, item.obj):
            if info.resource == "namespaces":
                raise status.conflict(
                    info,
                    name,
                    "The system is ensuring all content is removed from this namespace.  Upon "
                    "completion, this namespace will automatically be purged by the system.",
                )
            return succeed(Deleted(item.obj, gone=False))
        waits = bool(item.obj["metadata"].get("finalizers")) or info.resource == "namespaces"
        if not waits:
            return self._remove(item, item.obj, options)
        return self._mark(item, self._marked(item, 0), options)

    async def delete_collection(
        self, info: KindInfo, items: Iterable[Item], options: DeleteOptions
    ) -> None:
        """Delete these objects; ones that are gone meanwhile are left out.

        :raises ApiError: one of them may not be deleted.
        :raises StoreError: not everything is on disk.
        """
        going = [
            self.delete(info, item.namespace, item.name, options)
            for item in items
            if self._store.head(info.resource, item.namespace, item.name) is not None
        ]
        # Not gatherResults, which would wrap what went wrong, our own end included.
        for succeeded, result in await DeferredList(going, consumeErrors=True):
            if not succeeded:
                cast(Failure, result).raiseException()

    def _check(self, info: KindInfo, item: Item, options: DeleteOptions) -> None:
        if info.resource == "namespaces" and item.name in _PROTECTED:
            raise status.forbidden(info, item.name, "this namespace may not be deleted")
        uid = item.obj["metadata"]["uid"]
        what = f"{info.kind}.{info.group}" if info.group else info.kind
        why = ""
        if options.uid and options.uid != uid:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record "
                f"({uid}). The object might have been deleted and then recreated"
            )
        elif options.resource_version and options.resource_version != str(item.version):
            why = (
                f"the ResourceVersion in the precondition ({options.resource_version}) does not "
                f"match the ResourceVersion in record ({item.version}). The object might have "
                "been modified"
            )
        if why:
            error = status.conflict(info, item.name, why, kind=what)
            error.details = {**(error.details or {}), "kind": info.kind}
            raise error

    def _delete_pod(self, info: KindInfo, item: Item, options: DeleteOptions) -> Deferred[Deleted]:
        pod = item.obj
        metadata = pod["metadata"]
        spec = pod.get("spec") or {}
        period = options.grace_period
        had = metadata.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in metadata and had is not None:
            # A second request may only shorten the first.
            if period is None or (period >= had and had > 0):
                return succeed(Deleted(pod, gone=False))
        elif period is None:
            period = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
        phase = (pod.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            period = 0
        if period > 0:
            return self._mark(item, self._marked(item, period), options)
        marked = self._marked(item, 0)
        if metadata.get("finalizers"):
            if had == 0:
                return succeed(Deleted(pod, gone=False))
            return self._mark(item, marked, options)
        return self._remove(item, marked, options)

    def _marked(self, item: Item, period: int) -> Object:
        metadata = item.obj["metadata"]
        now = self._verbs.now()
        started = seconds_since_1970(metadata.get("deletionTimestamp"))
        if started is None:
            due = now + period
        else:
            due = started - metadata.get("deletionGracePeriodSeconds", 0) + period
            if period == 0:
                due = min(due, now)
        changes: dict[str, Any] = {
            "deletionTimestamp": rfc3339(due),
            "deletionGracePeriodSeconds": period,
        }
        if item.resource == "namespaces":
            del changes["deletionGracePeriodSeconds"]
        if started is None and metadata.get("generation"):
            changes["generation"] = metadata["generation"] + 1
        marked = replaced(item.obj, **changes)
        if item.resource == "namespaces":
            was = {k: v for k, v in (marked.get("status") or {}).items() if k != "phase"}
            marked["status"] = {"phase": "Terminating", **was}
        return marked

    def _mark(self, item: Item, obj: Object, options: DeleteOptions) -> Deferred[Deleted]:
        if options.dry_run:
            return succeed(Deleted(obj, gone=False))
        return self._store.put(item.resource, item.namespace, item.name, obj).addCallback(
            _deleted(gone=False)
        )

    def _remove(self, item: Item, obj: Object, options: DeleteOptions) -> Deferred[Deleted]:
        if options.dry_run:
            return succeed(Deleted(obj, gone=True))
        copy = replaced(obj)  # the version it gets is not to appear in the committed object
        return self._store.remove(item.resource, item.namespace, item.name, copy).addCallback(
            _deleted(gone=True)
        )


def _deleted(*, gone: bool) -> Callable[[Item], Deleted]:
    return lambda item: Deleted(item.obj, gone)
