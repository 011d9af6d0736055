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
from kubeedge_tx.cloud.edgecontroller.answers import Denied, Request, refusal
from kubeedge_tx.cloud.edgecontroller.claims import SESSION, Claim, Claims
from kubeedge_tx.cloud.edgecontroller.conflicts import on_top
from kubeedge_tx.cloud.edgecontroller.downstream import Pusher
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import MERGE_PATCH, STRATEGIC_PATCH, IKubeClient
from kubeedge_tx.observe.denials import NOT_ITS_OWN

REGISTERED: Final = "kubeedge-tx.io/registered"
"""Annotation of a Node: when, in milliseconds, it last registered though it existed."""
_GPU: Final = "nvidia.com/gpu"
_GPU_STATUS: Final = "huawei.com/gpu-status"


_FAMILIES: Final = ("kubernetes.io", "k8s.io")
_FAMILIES_OF_NODES: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
_LABELS_OF_NODES: Final = frozenset(
    {
        EDGE_ROLE_LABEL,
        "node-role.kubernetes.io/agent",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
"""Source: Kubernetes ``kubelet/pkg/apis/well_known_labels.go``, and KubeEdge's two roles."""


def _is_of(prefix: str, families: tuple[str, ...]) -> bool:
    return any(prefix == family or prefix.endswith(f".{family}") for family in families)


def is_kubernetes_label(label: str) -> bool:
    """Tell whether a label is of the families that are Kubernetes' own."""
    prefix, slash, _ = label.rpartition("/")
    return bool(slash) and _is_of(prefix, _FAMILIES)


def may_set(label: str) -> bool:
    """Tell whether a node may say this of itself.

    What Kubernetes keeps for itself is not for nodes, but for a list: by any other such label,
    ``node-role.kubernetes.io/control-plane`` say, a node would draw pods, and their Secrets,
    that are meant for other machines. Source: Kubernetes' admission plugin NodeRestriction.
    """
    prefix = label.rpartition("/")[0]
    return (
        not is_kubernetes_label(label)
        or label in _LABELS_OF_NODES
        or _is_of(prefix, _FAMILIES_OF_NODES)
    )


class NodeReports:
    """Registration, status and heartbeat of edge nodes.

    :param claims: which nodes are connected to this process, and to no other.
    :param now_ms: wall clock in milliseconds.
    :param heartbeat: seconds; conditions with an older heartbeat get the present time.
    """

    _log = Logger()

    def __init__(
        self,
        client: IKubeClient,
        pusher: Pusher,
        *,
        claims: Claims,
        now_ms: Callable[[], int],
        heartbeat: float = 10.0,
    ) -> None:
        self._client = client
        self._pusher = pusher
        self._claims = claims
        self._now_ms = now_ms
        self._heartbeat = heartbeat
        self.terse: set[str] = set()
        """Connected edges of our own kind: a renewed lease is answered in few words, which
        halves the traffic of a node that has nothing else to say."""

    def _own(self, request: Request) -> None:
        if request.name != request.node:
            raise Denied(
                NOT_ITS_OWN, f"node {request.node} may not touch {request.type} {request.name}"
            )

    def _labels(self, request: Request, about: Mapping[str, Any]) -> dict[str, str]:
        """Read the labels that a node gives itself, but for those it may not."""
        labels = meta.labels({"metadata": about})
        if wrong := sorted(label for label in labels if not may_set(label)):
            self._log.warn(
                "{node} may not label itself {labels}: left out",
                node=request.node,
                labels=", ".join(label[:100] for label in wrong[:5]),
            )
        return {label: value for label, value in labels.items() if label not in wrong}

    # The Node

    async def insert(self, request: Request) -> dict[str, Any]:
        """Register; labels of Kubernetes' own are added by us, as nodes may not."""
        self._own(request)
        node = request.body_object()
        labels = self._labels(request, meta.metadata(node))
        reserved = {key: value for key, value in labels.items() if is_kubernetes_label(key)}
        annotations = {
            **_without_session(meta.mapping(node, "metadata", "annotations")),
            **self._claims.annotations(request.claim),
        }
        about = {
            "name": request.name,
            "labels": {key: value for key, value in labels.items() if key not in reserved},
            "annotations": annotations,
        }
        body = {**node, "kind": NODES.kind, "apiVersion": NODES.api_version, "metadata": about}
        try:
            created = await self._client.create(NODES, "", body, as_node=request.as_node)
        except KubeError as error:
            if error.reason == "AlreadyExists":
                await self._reregister(request, reserved)
            raise
        self._claims.registered(request.claim, created)
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
        if request.claim is not None:
            await self._claims.verify(request.claim)
        node = await self._client.get(NODES, "", request.name)
        about: dict[str, Any] = {"annotations": {REGISTERED: str(self._now_ms())}}
        labels = meta.labels(node)
        if EDGE_ROLE_LABEL not in labels:  # a registration that stopped half-way
            about["labels"] = {k: v for k, v in reserved.items() if k not in labels}
        node = await self._client.patch(NODES, "", request.name, {"metadata": about})
        await self._pusher.push([request.node], names.UPDATE, "node", _slim(node))

    async def update(self, request: Request) -> dict[str, Any]:
        """Merge labels and annotations into the Node."""
        self._own(request)
        body = request.body_object()
        about: dict[str, Any] = {"labels": self._labels(request, meta.metadata(body))}
        about["annotations"] = _without_session(meta.mapping(body, "metadata", "annotations"))
        return await self._client.patch(
            NODES,
            "",
            request.name,
            {"metadata": about},
            content_type=STRATEGIC_PATCH,
            as_node=request.as_node,
        )

    async def patch(self, request: Request) -> dict[str, Any]:
        """Patch the Node's status, and of the rest only what a node says about itself.

        The API server takes labels through the status, too.
        """
        self._own(request)
        patch = dict(request.body_object())
        given = meta.mapping(patch, "metadata")
        about = {field: given[field] for field in ("uid", "annotations") if field in given}
        if "annotations" in about:
            about["annotations"] = _without_session(meta.mapping(given, "annotations"))
        if labels := self._labels(request, given):
            about["labels"] = labels
        patch = {"status": patch["status"]} if "status" in patch else {}
        claim = request.claim

        async def write(again: bool) -> dict[str, Any]:
            if claim is not None:
                if again:
                    await self._see(request, meta.uid({"metadata": about}))
                if again or not claim.version:
                    await self._claims.verify(claim)
                about["resourceVersion"] = claim.version
            return await self._client.patch(
                NODES,
                "",
                request.name,
                {**patch, "metadata": about} if about else patch,
                content_type=STRATEGIC_PATCH,
                subresource="status",
                as_node=request.as_node,
            )

        if claim is None:  # a conflict can only be about the uid
            return await write(False)
        patched = await on_top(write)
        self._claims.registered(claim, patched)
        return patched

    async def _see(self, request: Request, uid: str) -> None:
        """See that the Node is the one that its edge speaks of.

        :param uid: empty if the edge did not say.
        :raises KubeError: 404, it was deleted, and perhaps made anew.
        """
        node = await self._client.get(NODES, "", request.name)
        if uid and meta.uid(node) != uid:
            raise refusal(404, "NotFound", f'nodes "{request.name}" not found: it has another uid')

    async def query(self, request: Request) -> dict[str, Any]:
        """Read the Node."""
        self._own(request)
        return await self._client.get(NODES, "", request.name, as_node=request.as_node)

    async def connected(self, node: dict[str, Any], claim: Claim) -> None:
        """Send its Node to an edge that has connected, and write down where it is."""
        name = meta.name(node)
        try:
            node = _slim(await self._claims.establish(claim, node))
        except KubeError as error:
            self._log.warn(
                "cannot write down that {node} is connected here: {error}", node=name, error=error
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
            written = _without_session(_extended_annotations(extended))
            patch = {"metadata": {"annotations": written}}
            await self._client.patch(NODES, "", request.name, patch)
        claim = request.claim

        async def write(_again: bool) -> dict[str, Any]:
            live = await self._client.get(NODES, "", request.name)
            if claim is not None and meta.annotation(live, SESSION) != claim.mark:
                await self._claims.verify(claim)
                live = await self._client.get(NODES, "", request.name)
            status = self._status(meta.mapping(body, "Status"), meta.mapping(live, "status"))
            return await self._client.update(
                NODES,
                "",
                request.name,
                {**live, "status": status},
                subresource="status",
                as_node=request.as_node,
            )

        return await on_top(write)

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
            raise Denied(NOT_ITS_OWN, f"a node's lease is in {NODE_LEASE_NAMESPACE}")
        place = (LEASES, NODE_LEASE_NAMESPACE)
        as_node = request.as_node
        if request.operation == names.QUERY:
            return await self._client.get(*place, request.name, as_node=as_node)
        body = request.body_object()
        about = {**meta.metadata(body), "name": request.name, "namespace": NODE_LEASE_NAMESPACE}
        body |= {"kind": LEASES.kind, "apiVersion": LEASES.api_version, "metadata": about}
        if request.operation == names.INSERT:
            return await self._client.create(*place, body, as_node=as_node)
        renewed = await self._client.update(*place, request.name, body, as_node=as_node)
        if request.node not in self.terse:
            return renewed
        known = meta.metadata(renewed)
        return {"metadata": {field: known[field] for field in _TERSE if field in known}}


_TERSE: Final = ("name", "namespace", "uid", "resourceVersion")
"""What an edge needs of its lease to renew it once more: the rest is its own."""


def _slim(node: dict[str, Any]) -> dict[str, Any]:
    return {"kind": NODES.kind, "apiVersion": NODES.api_version} | meta.without_managed_fields(node)


def _without_session(annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not an edge's to say."""
    return {key: value for key, value in annotations.items() if key != SESSION}


def _extended_annotations(extended: Mapping[str, Any]) -> dict[str, str]:
    """Write devices that are no resources of Kubernetes' own into annotations."""
    found = {}
    for resource, items in extended.items():
        found[resource] = msgspec.json.encode(items).decode()
        if resource == _GPU and isinstance(items, list):
            health = [{"ID": item.get("name"), "Healthy": True} for item in items]
            found[_GPU_STATUS] = msgspec.json.encode(health).decode()
    return found
