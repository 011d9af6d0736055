"""Events that an edge reports: about itself and its own pods.

Source: KubeEdge ``cloud/pkg/edgecontroller/controller/upstream.go``. Beyond it, an event about
another node or another node's pod is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import EVENTS
from kubeedge_tx.beehive import names
from kubeedge_tx.cloud.edgecontroller.answers import Denied, Request, refusal
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import STRATEGIC_PATCH, IInformer, IKubeClient
from kubeedge_tx.observe.denials import NOT_ITS_OWN, TOO_LARGE

MAX_BYTES: Final = 8 * 1024
"""Of an Event, as an edge sends it; its text has 1024 characters at most."""

_PATCHED: Final = ("count", "lastTimestamp", "message", "series", "eventTime")
"""What changes when an event happens again. Source: client-go ``tools/record``."""


class EventReports:
    """Write down what happens on the nodes; what is lost is lost.

    :param pods: informer of all pods.
    """

    def __init__(self, client: IKubeClient, *, pods: IInformer) -> None:
        self._client = client
        self._pods = pods

    async def write(self, request: Request) -> None:
        """Write down an event, or that one has happened again.

        :raises Denied: it is not the node's to tell.
        :raises KubeError: it is not written.
        """
        if len(request.message.content) > MAX_BYTES:
            raise Denied(TOO_LARGE, f"an event has {MAX_BYTES} bytes at most")
        body = request.body_object()
        if request.operation == names.INSERT:
            await self._create(request, body)
        elif request.operation == names.UPDATE:
            await self._find(request)
            await self._client.update(
                EVENTS,
                request.namespace,
                request.name,
                self._event(request, body),
                as_node=request.as_node,
            )
        else:
            await self._patch(request, body)

    async def _patch(self, request: Request, body: dict[str, Any]) -> None:
        patch = _changes(body.get("patchData"))
        try:
            await self._find(request)
            await self._client.patch(
                EVENTS,
                request.namespace,
                request.name,
                patch,
                content_type=STRATEGIC_PATCH,
                as_node=request.as_node,
            )
        except KubeError as error:
            if error.code != 404:
                raise
            # The event it counts on has expired, so this is a first one again.
            event = dict(meta.mapping(body, "event"))
            about = dict(meta.metadata(event))
            about.pop("resourceVersion", None)
            await self._create(request, {**event, "metadata": about})

    async def _create(self, request: Request, event: Mapping[str, Any]) -> None:
        body = self._event(request, event)
        await self._client.create(EVENTS, request.namespace, body, as_node=request.as_node)

    async def _find(self, request: Request) -> None:
        """See that the event that is to be changed is the node's.

        In our own name: to a node the API server gives no event to read.
        """
        self._check(request, await self._client.get(EVENTS, request.namespace, request.name))

    def _event(self, request: Request, event: Mapping[str, Any]) -> dict[str, Any]:
        """Complete an event: who tells it is not for the edge to say."""
        self._check(request, event)
        made = {**event, "kind": EVENTS.kind, "apiVersion": EVENTS.api_version}
        made["metadata"] = {
            **meta.metadata(event),
            "name": request.name,
            "namespace": request.namespace,
        }
        made["source"] = {**meta.mapping(event, "source"), "host": request.node}
        if event.get("reportingInstance"):
            made["reportingInstance"] = request.node
        return made

    def _check(self, request: Request, event: Mapping[str, Any]) -> None:
        about = meta.mapping(event, "involvedObject")
        name = about.get("name")
        if about.get("kind") == "Node":
            its_own = name == request.node
        elif about.get("kind") == "Pod" and about.get("namespace") == request.namespace:
            # A pod that is gone was its own, for all we know.
            pod = self._pods.get(request.namespace, str(name)) or {"spec": {"nodeName": ""}}
            its_own = meta.mapping(pod, "spec").get("nodeName") in ("", request.node)
        else:
            its_own = False
        if not its_own:
            raise Denied(
                NOT_ITS_OWN, f"an event of node {request.node} is about itself or a pod of its own"
            )


def _changes(patch: object) -> dict[str, Any]:
    """Read what a patch changes of an event, less what it has no business to change."""
    try:
        found = msgspec.json.decode(patch) if isinstance(patch, str) else None
    except (msgspec.DecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refusal(400, "BadRequest", "patchData of an event must be a string with an object")
    return {field: found[field] for field in _PATCHED if field in found}
