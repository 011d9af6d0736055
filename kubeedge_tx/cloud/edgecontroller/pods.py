"""What an edge says about the pods that are bound to it.

Source: KubeEdge ``cloud/pkg/edgecontroller/controller/upstream.go``. Beyond it, a node that
speaks for another node's pod is refused, and a mirror pod may be one only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.logger import Logger

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import PODS
from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.beehive import names
from kubeedge_tx.cloud.edgecontroller.answers import Denied, Request, refusal
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.conflicts import on_top
from kubeedge_tx.cloud.edgecontroller.downstream import Pusher
from kubeedge_tx.cloud.edgecontroller.locations import MIRROR, references
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import STRATEGIC_PATCH, IInformer, IKubeClient
from kubeedge_tx.observe.denials import MALFORMED, NOT_FOR_NODES, NOT_ITS_OWN, TOO_MANY
from kubeedge_tx.security.identity import is_node_name

_FRACTION: Final = re.compile(r"(\d\d:\d\d:\d\d)\.\d+")
_STEADY: Final = frozenset({"Ready", "Initialized"})
"""Conditions whose transition the cloud dates."""
_ENDED: Final = frozenset({"Succeeded", "Failed"})
MAX_PODS: Final = 1000
"""Pods of a node beyond which it may make no more mirrors; a kubelet runs 110 by default."""

_OF_OTHERS: Final = ("persistentVolumeClaim", "ephemeral")
"""Volumes that a mirror pod may not have, beside ConfigMaps and Secrets."""


class PodReports:
    """Statuses, mirror pods and deletions.

    :param claims: which nodes are connected to this process, and to no other.
    :param pods: informer of all pods.
    :param count: how many pods are on a node.
    :param now_ms: wall clock in milliseconds.
    """

    _log = Logger()

    def __init__(
        self,
        client: IKubeClient,
        pusher: Pusher,
        *,
        claims: Claims,
        pods: IInformer,
        count: Callable[[str], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._client = client
        self._count = count
        self._pusher = pusher
        self._claims = claims
        self._pods = pods
        self._now_ms = now_ms

    async def _own(self, request: Request, name: str, uid: str) -> dict[str, Any]:
        """Find a pod of the node that asks.

        The cache says at once that all is well; that it is not is said by the API server, as
        the cache may be behind. Who does not name a pod's uid does not learn whether there is
        such a pod.

        :param uid: empty if the edge did not say.
        :raises KubeError: 404, there is none, or under that name another; 403, it is not its.
        """
        if not is_node_name(name):
            raise Denied(MALFORMED, f"{name[:100]!r} is not the name of a pod")
        pod = self._pods.get(request.namespace, name)
        if pod is None or _why_not(pod, request.node, uid) is not None:
            try:
                pod = await self._client.get(PODS, request.namespace, name)
            except KubeError as error:
                if error.code == 404 and not uid:
                    raise _not_bound(name, request.node) from None
                raise
        why = _why_not(pod, request.node, uid)
        if why is not None:
            raise why
        return pod

    async def _remove_orphan(self, request: Request, name: str, uid: str) -> None:
        """Take from the node a pod that was deleted while the node was away."""
        about = {"name": name, "namespace": request.namespace}
        if uid:
            about["uid"] = uid
        self._log.info(
            "{node} runs pod {namespace}/{name}, which is gone: telling it",
            node=request.node,
            namespace=request.namespace,
            name=name,
        )
        await self._pusher.push([request.node], names.DELETE, "pod", {"metadata": about})

    async def patch(self, request: Request) -> dict[str, Any]:
        """Patch a pod's status, and nothing else: the API server takes labels with it, too."""
        body = request.body_object()
        uid = meta.uid(body)
        try:
            pod = await self._own(request, request.name, uid)
            return await self._patch_status(request, pod, body)
        except KubeError as error:
            if error.code == 404 or (
                (error.reason == "Conflict" or error.code == 422)
                and await self._is_gone(request, uid)
            ):
                await self._remove_orphan(request, request.name, uid)
            raise

    async def _patch_status(
        self, request: Request, pod: dict[str, Any], body: Mapping[str, Any]
    ) -> dict[str, Any]:
        about: dict[str, Any] = {"uid": meta.uid(pod)}
        patch: dict[str, Any] = {"metadata": about}
        if "status" in body:
            patch["status"] = body["status"]
        claim = request.claim

        async def write(again: bool) -> dict[str, Any]:
            base = await self._live(request, pod) if again else pod
            if claim is not None:
                about["resourceVersion"] = await self._claims.base(claim, base)
            return await self._client.patch(
                PODS,
                request.namespace,
                request.name,
                patch,
                content_type=STRATEGIC_PATCH,
                subresource="status",
                as_node=request.as_node,
            )

        if claim is None:  # a conflict can only be about the uid
            return await write(False)
        patched = await on_top(write)
        claim.wrote(patched)
        return patched

    async def _live(self, request: Request, pod: Mapping[str, Any]) -> dict[str, Any]:
        """Read a pod anew, from the API server.

        :raises KubeError: 404, it is gone or another one; 403, it is not this node's any more.
        """
        found = await self._client.get(PODS, request.namespace, meta.name(pod))
        if (why := _why_not(found, request.node, meta.uid(pod))) is not None:
            raise why
        return found

    async def _is_gone(self, request: Request, uid: str) -> bool:
        """Ask whether a refusal is due to the uid, of a pod that went while we looked."""
        try:
            pod = await self._client.get(PODS, request.namespace, request.name)
        except KubeError as error:
            return error.code == 404
        return bool(uid) and meta.uid(pod) != uid

    async def insert(self, request: Request) -> dict[str, Any]:
        """Make the mirror of a static pod.

        It may refer to nothing: a node that wrote into a pod of its own that it needs a Secret
        would be given it. Source: Kubernetes' admission plugin NodeRestriction.
        """
        pod = request.body_object()
        if meta.mapping(pod, "spec").get("nodeName") != request.node:
            raise Denied(NOT_ITS_OWN, f"node {request.node} may only make pods of its own")
        if not meta.annotation(pod, MIRROR):
            raise Denied(
                NOT_FOR_NODES, f"without annotation {MIRROR} a pod is not for nodes to make"
            )
        if self._count(request.node) >= MAX_PODS:
            raise Denied(TOO_MANY, f"node {request.node} has {MAX_PODS} pods")
        if wrong := _needs(pod, request):
            raise Denied(NOT_FOR_NODES, f"a mirror pod may not use {wrong}")
        about = {**meta.metadata(pod), "name": request.name, "namespace": request.namespace}
        pod = {**pod, "kind": PODS.kind, "apiVersion": PODS.api_version, "metadata": about}
        return await self._client.create(PODS, request.namespace, pod, as_node=request.as_node)

    async def delete(self, request: Request) -> None:
        """Remove a pod whose containers have ended; that it is gone already is success."""
        content = request.message.read()
        if isinstance(content, str) and not content.lstrip().startswith("{"):
            uid = content
        else:
            given = meta.mapping(request.body_object(), "preconditions").get("uid")
            uid = given if isinstance(given, str) else ""
        try:
            pod = await self._own(request, request.name, uid)
            await self._delete(request, pod)
        except KubeError as error:
            if error.code not in (404, 409):  # 409: replaced by another of the same name
                raise
            await self._remove_orphan(request, request.name, uid)

    async def _delete(self, request: Request, pod: Mapping[str, Any]) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta.uid(pod)}}
        await self._client.delete(
            PODS, request.namespace, meta.name(pod), options=options, as_node=request.as_node
        )

    # The old form

    async def status(self, request: Request) -> None:
        """Replace the status of one pod, or of each in a list.

        :raises KubeError: the first that failed; the others are written all the same.
        """
        try:
            body = request.body()
        except (msgspec.DecodeError, RecursionError):
            body = None
        reports = [body] if isinstance(body, dict) else body
        if not isinstance(reports, list) or not all(isinstance(each, dict) for each in reports):
            raise refusal(400, "BadRequest", "the content for podstatus must be an object or list")
        failed: KubeError | None = None
        for report in reports:
            try:
                await self._status(request, report)
            except KubeError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _status(self, request: Request, report: Mapping[str, Any]) -> None:
        name = request.name or str(report.get("Name") or "")
        uid = str(report.get("UID") or "")
        given = meta.mapping(report, "Status")
        try:
            pod = await self._own(request, name, uid)
            pod = await self._write_status(request, pod, given)
            if meta.deleting(pod) and _has_ended(given):
                await self._delete(request, pod)
        except KubeError as error:
            if error.code != 404:
                raise
            await self._remove_orphan(request, name, uid)

    async def _write_status(
        self, request: Request, pod: dict[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        async def write(again: bool) -> dict[str, Any]:
            base = await self._live(request, pod) if again else pod
            status = merged_status(base, given, rfc3339(self._now_ms() / 1000))
            if request.claim is not None:
                await self._claims.base(request.claim, base)
            return await self._client.update(
                PODS,
                request.namespace,
                meta.name(base),
                {**base, "status": status},
                subresource="status",
                as_node=request.as_node,
            )

        written = await on_top(write)
        if request.claim is not None:
            request.claim.wrote(written)
        return written


def _why_not(pod: Mapping[str, Any], node: str, uid: str) -> KubeError | None:
    name = meta.name(pod)
    if uid and meta.uid(pod) != uid:
        return refusal(404, "NotFound", f'pods "{name}" not found')
    if meta.mapping(pod, "spec").get("nodeName") != node:
        return _not_bound(name, node)
    return None


def _not_bound(name: str, node: str) -> Denied:
    return Denied(NOT_ITS_OWN, f'pods "{name}" is not bound to node {node}')


def _needs(pod: Mapping[str, Any], request: Request) -> str:
    """Name something that a mirror pod would get hold of; empty if there is nothing."""
    placed = {**pod, "metadata": {**meta.metadata(pod), "namespace": request.namespace}}
    if refs := sorted(references(placed)):
        return f"{refs[0].type} {refs[0].name}"
    spec = meta.mapping(pod, "spec")
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        return "a service account"
    if spec.get("resourceClaims"):
        return "resource claims"
    for volume in meta.sequence(spec, "volumes"):
        if any(volume.get(kind) for kind in _OF_OTHERS) or any(
            source.get("serviceAccountToken")
            for source in meta.sequence(volume, "projected", "sources")
        ):
            return "a claim or a token"
    owners = meta.sequence(pod, "metadata", "ownerReferences")
    if any((o.get("kind"), o.get("name")) != ("Node", request.node) for o in owners):
        return "an owner other than its node"
    return ""


def _has_ended(status: Mapping[str, Any]) -> bool:
    return status.get("phase") in _ENDED and not any(
        meta.mapping(container, "state").get("running")
        for container in meta.sequence(status, "containerStatuses")
    )


def merged_status(pod: Mapping[str, Any], given: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Complete a status as old edges send it.

    Transitions and the start keep the time they had; times are whole seconds; containers are
    in order of name, init containers in that of the spec.
    """
    live = meta.mapping(pod, "status")
    status: dict[str, Any] = _whole_seconds(dict(given))
    before = {str(each.get("type")): each for each in meta.sequence(live, "conditions")}
    status["conditions"] = [
        _dated(condition, before.get(str(condition.get("type"))), now)
        for condition in meta.sequence(status, "conditions")
    ]
    status["startTime"] = live.get("startTime") or status.get("startTime") or now
    if "containerStatuses" in status:
        found = meta.sequence(status, "containerStatuses")
        status["containerStatuses"] = sorted(found, key=lambda each: str(each.get("name")))
    if "initContainerStatuses" in status:
        spec = meta.sequence(pod, "spec", "initContainers")
        order = {str(each.get("name")): place for place, each in enumerate(spec)}
        found = meta.sequence(status, "initContainerStatuses")
        status["initContainerStatuses"] = sorted(
            found, key=lambda each: order.get(str(each.get("name")), len(order))
        )
    return status


def _dated(
    condition: Mapping[str, Any], before: Mapping[str, Any] | None, now: str
) -> dict[str, Any]:
    if condition.get("type") not in _STEADY:
        return dict(condition)
    if before is not None and before.get("status") == condition.get("status"):
        return {**condition, "lastTransitionTime": before.get("lastTransitionTime") or now}
    return {**condition, "lastTransitionTime": now}


def _whole_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _FRACTION.sub(r"\1", item)
            if isinstance(item, str) and key.endswith(("Time", "At"))
            else _whole_seconds(item)
            for key, item in value.items()
        }
    return [_whole_seconds(item) for item in value] if isinstance(value, list) else value
