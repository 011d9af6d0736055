"""Objects an edge asks for, and the small things it makes: tokens, signing requests, events.

Source: KubeEdge ``cloud/pkg/edgecontroller/controller/upstream.go``.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.logger import Logger

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import (
    CONFIGMAPS,
    CSRS,
    ENDPOINTS,
    EVENTS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    VOLUMEATTACHMENTS,
)
from kubeedge_tx.beehive import names
from kubeedge_tx.cloud.edgecontroller.answers import Request, refusal
from kubeedge_tx.cloud.edgecontroller.locations import CONFIGMAP, SECRET, Locations, Ref
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import STRATEGIC_PATCH, IInformer, IKubeClient

KINDS: Final = {
    CONFIGMAP: CONFIGMAPS,
    SECRET: SECRETS,
    "persistentvolume": PERSISTENTVOLUMES,
    "persistentvolumeclaim": PERSISTENTVOLUMECLAIMS,
    "volumeattachment": VOLUMEATTACHMENTS,
    "service": SERVICES,
    "endpoints": ENDPOINTS,
}
"""Types that can be asked for; the last two by edges of v1.6."""


class Queries:
    """Read and make what belongs to no report.

    :param locations: what the pods of each node refer to.
    :param pods: informer of all pods.
    :param impersonate: whether the API server judges what a node may do.
    """

    _log = Logger()

    def __init__(
        self,
        client: IKubeClient,
        locations: Locations,
        *,
        pods: IInformer,
        configmaps: IInformer,
        secrets: IInformer,
        impersonate: bool,
    ) -> None:
        self._client = client
        self._locations = locations
        self._pods = pods
        self._caches = {CONFIGMAP: configmaps, SECRET: secrets}
        self._impersonate = impersonate

    def _as(self, request: Request) -> str:
        return request.node if self._impersonate else ""

    async def query(self, request: Request) -> dict[str, Any]:
        """Read one object.

        A ConfigMap or Secret that no pod of the node refers to is read in the node's name, so
        that the API server says whether it may have it.
        """
        kind = KINDS[request.type]
        as_node = self._as(request)
        if request.type in self._caches:
            if self._locations.needs(
                request.node, Ref(request.type, request.namespace, request.name)
            ):
                found = self._caches[request.type].get(request.namespace, request.name)
                if found is not None:
                    return found
            else:
                as_node = request.node
        namespace = request.namespace if kind.namespaced else ""
        found = await self._client.get(kind, namespace, request.name, as_node=as_node)
        return {"kind": kind.kind, "apiVersion": kind.api_version, **found}

    async def token(self, request: Request) -> dict[str, Any]:
        """Make a token of a service account that a pod of the node uses."""
        if not any(
            namespace == request.namespace and self._uses(namespace, pod, request.name)
            for namespace, pod in self._locations.pods(request.node)
        ):
            self._log.warn(
                "{node} asks for a token of {namespace}/{name}, which no pod of it uses: refused",
                node=request.node,
                namespace=request.namespace,
                name=request.name,
            )
            raise refusal(403, "Forbidden", f"no pod of node {request.node} uses {request.name}")
        body = {
            **request.body_object(),
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
        }
        return await self._client.create(
            SERVICEACCOUNTS,
            request.namespace,
            body,
            name=request.name,
            subresource="token",
            as_node=self._as(request),
        )

    def _uses(self, namespace: str, name: str, account: str) -> bool:
        spec = meta.mapping(self._pods.get(namespace, name) or {}, "spec")
        used = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        return used == account

    async def insert_csr(self, request: Request) -> dict[str, Any]:
        """Hand in a certificate signing request."""
        body = {**request.body_object(), "kind": CSRS.kind, "apiVersion": CSRS.api_version}
        return await self._client.create(CSRS, "", body, as_node=self._as(request))

    async def query_csr(self, request: Request) -> dict[str, Any]:
        """Read a certificate signing request, to see whether it is signed."""
        found = await self._client.get(CSRS, "", request.name, as_node=self._as(request))
        return {"kind": CSRS.kind, "apiVersion": CSRS.api_version, **found}

    async def event(self, request: Request) -> None:
        """Write down an event; one that is lost is lost."""
        body = request.body_object()
        try:
            await self._event(request, body)
        except KubeError as error:
            self._log.info(
                "event {namespace}/{name} from {node} not written: {error}",
                namespace=request.namespace,
                name=request.name,
                node=request.node,
                error=error,
            )

    async def _event(self, request: Request, body: dict[str, Any]) -> None:
        as_node = self._as(request)
        place = (EVENTS, request.namespace)
        if request.operation == names.INSERT:
            await self._client.create(*place, _event(body), as_node=as_node)
        elif request.operation == names.UPDATE:
            await self._client.update(*place, request.name, _event(body), as_node=as_node)
        else:
            patch = body.get("patchData")
            if not isinstance(patch, str):
                raise refusal(400, "BadRequest", "patchData of an event must be a string")
            try:
                await self._client.patch(
                    *place,
                    request.name,
                    patch.encode(),
                    content_type=STRATEGIC_PATCH,
                    as_node=as_node,
                )
            except KubeError as error:
                if error.code != 404:
                    raise
                # The event it counts on has expired, so this is a first one again.
                event = dict(meta.mapping(body, "event"))
                about = dict(meta.metadata(event))
                about.pop("resourceVersion", None)
                await self._client.create(
                    *place, _event({**event, "metadata": about}), as_node=as_node
                )


def _event(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "kind": EVENTS.kind, "apiVersion": EVENTS.api_version}
