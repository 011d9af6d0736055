"""What an edge says about the pods that are bound to it.

Source: KubeEdge ``cloud/pkg/edgecontroller/controller/upstream.go``. Beyond it, a node that
speaks for another node's pod is refused.
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
from kubeedge_tx.cloud.edgecontroller.answers import Request, refusal
from kubeedge_tx.cloud.edgecontroller.downstream import Pusher
from kubeedge_tx.cloud.edgecontroller.nodes import CONFLICTS
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import STRATEGIC_PATCH, IInformer, IKubeClient

_FRACTION: Final = re.compile(r"(\d\d:\d\d:\d\d)\.\d+")
_STEADY: Final = frozenset({"Ready", "Initialized"})
"""Conditions whose transition the cloud dates."""
_ENDED: Final = frozenset({"Succeeded", "Failed"})


class PodReports:
    """Statuses, mirror pods and deletions.

    :param pods: informer of all pods.
    :param now_ms: wall clock in milliseconds.
    :param impersonate: whether the API server judges what a node may do.
    """

    _log = Logger()

    def __init__(
        self,
        client: IKubeClient,
        pusher: Pusher,
        *,
        pods: IInformer,
        now_ms: Callable[[], int],
        impersonate: bool,
    ) -> None:
        self._client = client
        self._pusher = pusher
        self._pods = pods
        self._now_ms = now_ms
        self._impersonate = impersonate

    def _as(self, request: Request) -> str:
        return request.node if self._impersonate else ""

    async def _own(self, request: Request, name: str, uid: str) -> dict[str, Any]:
        """Find a pod of the node that asks.

        The cache says at once that all is well; that it is not is said by the API server, as
        the cache may be behind.

        :param uid: empty if the edge did not say.
        :raises KubeError: 404, there is none, or under that name another; 403, it is not its.
        """
        pod = self._pods.get(request.namespace, name)
        if pod is None or _why_not(pod, request.node, uid) is not None:
            pod = await self._client.get(PODS, request.namespace, name)
        why = _why_not(pod, request.node, uid)
        if why is not None:
            if why.code == 403:
                self._log.warn(
                    "{node} speaks for pod {namespace}/{name}, which is not its: refused",
                    node=request.node,
                    namespace=request.namespace,
                    name=name,
                )
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
        """Patch a pod's status."""
        body = request.body_object()
        uid = meta.uid(body)
        try:
            await self._own(request, request.name, uid)
            return await self._client.patch(
                PODS,
                request.namespace,
                request.name,
                body,
                content_type=STRATEGIC_PATCH,
                subresource="status",
                as_node=self._as(request),
            )
        except KubeError as error:
            if error.code == 404 or (
                error.code in (409, 422) and await self._is_gone(request, uid)
            ):
                await self._remove_orphan(request, request.name, uid)
            raise

    async def _is_gone(self, request: Request, uid: str) -> bool:
        """Ask whether a refusal is due to the uid, of a pod that went while we looked."""
        try:
            pod = await self._client.get(PODS, request.namespace, request.name)
        except KubeError as error:
            return error.code == 404
        return bool(uid) and meta.uid(pod) != uid

    async def insert(self, request: Request) -> dict[str, Any]:
        """Make the mirror of a static pod."""
        pod = request.body_object()
        if meta.mapping(pod, "spec").get("nodeName") != request.node:
            raise refusal(403, "Forbidden", f"node {request.node} may only make pods of its own")
        pod = {**pod, "kind": PODS.kind, "apiVersion": PODS.api_version}
        return await self._client.create(PODS, request.namespace, pod, as_node=self._as(request))

    async def delete(self, request: Request) -> None:
        """Remove a pod whose containers have ended; that it is gone already is success."""
        content = request.message.read()
        if isinstance(content, str) and not content.lstrip().startswith("{"):
            uid = content
            options: dict[str, Any] = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        else:
            options = request.body_object()
            uid = str(meta.mapping(options, "preconditions").get("uid") or "")
        try:
            await self._own(request, request.name, uid)
            await self._client.delete(
                PODS,
                request.namespace,
                request.name,
                options=options,
                as_node=self._as(request),
            )
        except KubeError as error:
            if error.code not in (404, 409):  # 409: replaced by another of the same name
                raise
            await self._remove_orphan(request, request.name, uid)

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
                gone = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta.uid(pod)}}
                await self._client.delete(
                    PODS, request.namespace, name, options=gone, as_node=self._as(request)
                )
        except KubeError as error:
            if error.code != 404:
                raise
            await self._remove_orphan(request, name, uid)

    async def _write_status(
        self, request: Request, pod: dict[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        for attempt in range(CONFLICTS):
            status = merged_status(pod, given, rfc3339(self._now_ms() / 1000))
            try:
                return await self._client.update(
                    PODS,
                    request.namespace,
                    meta.name(pod),
                    {**pod, "status": status},
                    subresource="status",
                    as_node=self._as(request),
                )
            except KubeError as error:
                if error.reason != "Conflict" or attempt == CONFLICTS - 1:
                    raise
            pod = await self._client.get(PODS, request.namespace, meta.name(pod))
        raise AssertionError("the last attempt returns or raises")


def _why_not(pod: Mapping[str, Any], node: str, uid: str) -> KubeError | None:
    name = meta.name(pod)
    if uid and meta.uid(pod) != uid:
        return refusal(404, "NotFound", f'pods "{name}" not found: its uid is no longer {uid}')
    if meta.mapping(pod, "spec").get("nodeName") != node:
        return refusal(403, "Forbidden", f'pods "{name}" is not bound to node {node}')
    return None


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
