"""What an edge says about its own Node and Lease.

Source: KubeEdge ``cloud/pkg/edgecontroller/controller/upstream.go``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.logger import Logger

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import EDGE_ROLE_LABEL, LEASES, NODE_LEASE_NAMESPACE, NODES
from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.beehive import names
from kubeedge_tx.cloud.edgecontroller.answers import Request, refusal
from kubeedge_tx.cloud.edgecontroller.downstream import Pusher
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import MERGE_PATCH, STRATEGIC_PATCH, IKubeClient

CLOUDCORE: Final = "cloudcore"
"""Annotation of a Node: the address of the cloudcore it is connected to."""
REGISTERED: Final = "kubeedge-tx.io/registered"
"""Annotation of a Node: when, in milliseconds, it last registered though it existed."""
_GPU: Final = "nvidia.com/gpu"
_GPU_STATUS: Final = "huawei.com/gpu-status"
CONFLICTS: Final = 3
"""Attempts at a write that read the object first."""


def is_kubernetes_label(label: str) -> bool:
    """Tell whether a label is of the family that a node may not set on itself."""
    prefix, slash, _ = label.rpartition("/")
    return bool(slash) and (prefix == "kubernetes.io" or prefix.endswith(".kubernetes.io"))


class NodeReports:
    """Registration, status and heartbeat of edge nodes.

    :param cloud_ip: this cloudcore's address, written to the nodes connected to it.
    :param now_ms: wall clock in milliseconds.
    :param impersonate: whether the API server judges what a node may do.
    :param heartbeat: seconds; conditions with an older heartbeat get the present time.
    """

    _log = Logger()

    def __init__(
        self,
        client: IKubeClient,
        pusher: Pusher,
        *,
        cloud_ip: str,
        now_ms: Callable[[], int],
        impersonate: bool,
        heartbeat: float = 10.0,
    ) -> None:
        self._client = client
        self._pusher = pusher
        self._cloud_ip = cloud_ip
        self._now_ms = now_ms
        self._impersonate = impersonate
        self._heartbeat = heartbeat
        self.terse: set[str] = set()
        """Connected edges of our own kind: a renewed lease is answered in few words, which
        halves the traffic of a node that has nothing else to say."""

    def _as(self, request: Request) -> str:
        return request.node if self._impersonate else ""

    def _own(self, request: Request) -> None:
        if request.name != request.node:
            self._log.warn(
                "{node} speaks for {type} {name}: refused",
                node=request.node,
                type=request.type,
                name=request.name,
            )
            raise refusal(
                403, "Forbidden", f"node {request.node} may not touch {request.type} {request.name}"
            )

    # The Node

    async def insert(self, request: Request) -> dict[str, Any]:
        """Register; labels of Kubernetes' own are added by us, as nodes may not."""
        self._own(request)
        node = request.body_object()
        about = dict(meta.metadata(node))
        labels = meta.labels(node)
        reserved = {key: value for key, value in labels.items() if is_kubernetes_label(key)}
        about["labels"] = {key: value for key, value in labels.items() if key not in reserved}
        about["annotations"] = {
            **meta.mapping(about, "annotations"),
            CLOUDCORE: self._cloud_ip,
        }
        about["name"] = request.name
        body = {**node, "kind": NODES.kind, "apiVersion": NODES.api_version, "metadata": about}
        try:
            created = await self._client.create(NODES, "", body, as_node=self._as(request))
        except KubeError as error:
            if error.reason == "AlreadyExists":
                await self._reregister(request, reserved)
            raise
        if not reserved:
            return created
        return await self._client.patch(
            NODES, "", request.name, {"metadata": {"labels": reserved}}, content_type=MERGE_PATCH
        )

    async def _reregister(self, request: Request, reserved: Mapping[str, str]) -> None:
        """Send a Node that exists to its edge, which asks because it has lost it.

        The annotation makes a new version of it; the one that the edge confirmed before it
        lost it would not be sent again.
        """
        node = await self._client.get(NODES, "", request.name)
        about: dict[str, Any] = {
            "annotations": {CLOUDCORE: self._cloud_ip, REGISTERED: str(self._now_ms())}
        }
        labels = meta.labels(node)
        if EDGE_ROLE_LABEL not in labels:  # a registration that stopped half-way
            about["labels"] = {k: v for k, v in reserved.items() if k not in labels}
        node = await self._client.patch(NODES, "", request.name, {"metadata": about})
        await self._pusher.push([request.node], names.UPDATE, "node", _slim(node))

    async def update(self, request: Request) -> dict[str, Any]:
        """Merge labels and annotations into the Node."""
        self._own(request)
        body = request.body_object()
        about: dict[str, Any] = {"labels": dict(meta.labels(body))}
        about["annotations"] = dict(meta.mapping(body, "metadata", "annotations"))
        return await self._client.patch(
            NODES,
            "",
            request.name,
            {"metadata": about},
            content_type=STRATEGIC_PATCH,
            as_node=self._as(request),
        )

    async def patch(self, request: Request) -> dict[str, Any]:
        """Patch the Node's status."""
        self._own(request)
        return await self._client.patch(
            NODES,
            "",
            request.name,
            request.body_object(),
            content_type=STRATEGIC_PATCH,
            subresource="status",
            as_node=self._as(request),
        )

    async def query(self, request: Request) -> dict[str, Any]:
        """Read the Node."""
        self._own(request)
        return await self._client.get(NODES, "", request.name, as_node=self._as(request))

    async def connected(self, node: dict[str, Any]) -> None:
        """Send its Node to an edge that has connected, and write down where it is."""
        name = meta.name(node)
        if meta.annotation(node, CLOUDCORE) != self._cloud_ip:
            patch = {"metadata": {"annotations": {CLOUDCORE: self._cloud_ip}}}
            try:
                node = _slim(await self._client.patch(NODES, "", name, patch))
            except KubeError as error:
                self._log.warn(
                    "cannot write down that {node} is connected here: {error}",
                    node=name,
                    error=error,
                )
        await self._pusher.push([name], names.UPDATE, "node", node)

    # Its old form

    async def insert_status(self, request: Request) -> dict[str, Any] | None:
        """Register as edges before v1.12 do: that the Node exists is success."""
        try:
            return await self.insert(request)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            return None

    async def update_status(self, request: Request) -> dict[str, Any]:
        """Replace the Node's status: ``{"UID", "Status", "ExtendResources"}``."""
        self._own(request)
        body = request.body_object()
        extended = meta.mapping(body, "ExtendResources")
        if extended:
            patch = {"metadata": {"annotations": _extended_annotations(extended)}}
            await self._client.patch(NODES, "", request.name, patch)
        for attempt in range(CONFLICTS):
            live = await self._client.get(NODES, "", request.name)
            status = self._status(meta.mapping(body, "Status"), meta.mapping(live, "status"))
            try:
                return await self._client.update(
                    NODES,
                    "",
                    request.name,
                    {**live, "status": status},
                    subresource="status",
                    as_node=self._as(request),
                )
            except KubeError as error:
                if error.reason != "Conflict" or attempt == CONFLICTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _status(self, given: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
        status = dict(given)
        if "volumesAttached" in live:
            status["volumesAttached"] = live["volumesAttached"]
        endpoint = meta.mapping(live, "daemonEndpoints", "kubeletEndpoint")
        if endpoint.get("Port"):  # the tunnel's, which cloudstream wrote
            status["daemonEndpoints"] = {"kubeletEndpoint": dict(endpoint)}
        now = self._now_ms() / 1000
        oldest = rfc3339(now - self._heartbeat)
        status["conditions"] = [
            condition
            if str(condition.get("lastHeartbeatTime") or "") >= oldest
            else {**condition, "lastHeartbeatTime": rfc3339(now)}
            for condition in meta.sequence(given, "conditions")
        ]
        return status

    # The Lease

    async def lease(self, request: Request) -> dict[str, Any]:
        """Read, make or renew the node's Lease, by the request's operation."""
        self._own(request)
        if request.namespace != NODE_LEASE_NAMESPACE:
            raise refusal(403, "Forbidden", f"a node's lease is in {NODE_LEASE_NAMESPACE}")
        place = (LEASES, NODE_LEASE_NAMESPACE)
        as_node = self._as(request)
        if request.operation == names.QUERY:
            return await self._client.get(*place, request.name, as_node=as_node)
        body = request.body_object()
        body = {**body, "kind": LEASES.kind, "apiVersion": LEASES.api_version}
        if request.operation == names.INSERT:
            return await self._client.create(*place, body, as_node=as_node)
        renewed = await self._client.update(*place, request.name, body, as_node=as_node)
        if request.node not in self.terse:
            return renewed
        about = meta.metadata(renewed)
        return {"metadata": {field: about[field] for field in _TERSE if field in about}}


_TERSE: Final = ("name", "namespace", "uid", "resourceVersion")
"""What an edge needs of its lease to renew it once more: the rest is its own."""


def _slim(node: dict[str, Any]) -> dict[str, Any]:
    return {"kind": NODES.kind, "apiVersion": NODES.api_version} | meta.without_managed_fields(node)


def _extended_annotations(extended: Mapping[str, Any]) -> dict[str, str]:
    """Write devices that are no resources of Kubernetes' own into annotations."""
    found = {}
    for resource, items in extended.items():
        found[resource] = msgspec.json.encode(items).decode()
        if resource == _GPU and isinstance(items, list):
            health = [{"ID": item.get("name"), "Healthy": True} for item in items]
            found[_GPU_STATUS] = msgspec.json.encode(health).decode()
    return found
