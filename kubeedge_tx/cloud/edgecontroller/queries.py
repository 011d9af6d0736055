"""Objects an edge asks for, and the small things it makes: tokens and signing requests.

Source: KubeEdge ``cloud/pkg/edgecontroller/controller/upstream.go``, which looks at none of
them. Who may have what: Kubernetes' node authorizer and its admission plugin NodeRestriction.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import (
    CONFIGMAPS,
    CSRS,
    ENDPOINTS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    VOLUMEATTACHMENTS,
)
from kubeedge_tx.cloud.edgecontroller.answers import Denied, Request, refusal
from kubeedge_tx.cloud.edgecontroller.locations import CONFIGMAP, MIRROR, SECRET, Locations, Ref
from kubeedge_tx.errors import CertificateError, KubeError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient
from kubeedge_tx.observe.denials import MALFORMED, NOT_ITS_OWN, NOT_USED
from kubeedge_tx.security.requests import node_of_request

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
    """

    def __init__(
        self,
        client: IKubeClient,
        locations: Locations,
        *,
        pods: IInformer,
        configmaps: IInformer,
        secrets: IInformer,
    ) -> None:
        self._client = client
        self._locations = locations
        self._pods = pods
        self._caches = {CONFIGMAP: configmaps, SECRET: secrets}

    async def query(self, request: Request) -> dict[str, Any]:
        """Read one object.

        What is no ConfigMap or Secret that a pod of the node refers to is read in the node's
        name, so that the API server says whether it may have it.
        """
        kind = KINDS[request.type]
        as_node = request.node
        if request.type in self._caches and self._locations.needs(
            request.node, Ref(request.type, request.namespace, request.name)
        ):
            found = self._caches[request.type].get(request.namespace, request.name)
            if found is not None:
                return found
            as_node = request.as_node
        namespace = request.namespace if kind.namespaced else ""
        found = await self._client.get(kind, namespace, request.name, as_node=as_node)
        return {"kind": kind.kind, "apiVersion": kind.api_version, **found}

    async def token(self, request: Request) -> dict[str, Any]:
        """Make a token of a service account for a pod of the node that uses it.

        The token is bound to the pod, and ends with it.
        """
        given = request.body_object()
        bound = meta.mapping(given, "spec", "boundObjectRef")
        name, uid = bound.get("name"), bound.get("uid")
        if bound.get("kind") != "Pod" or not isinstance(name, str) or not isinstance(uid, str):
            raise Denied(
                MALFORMED, "a token is for a pod: boundObjectRef must have its name and uid"
            )
        if not self._uses(request, name, uid):
            raise Denied(
                NOT_USED, f"no such pod of node {request.node} uses service account {request.name}"
            )
        body = {
            **given,
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
        }
        return await self._client.create(
            SERVICEACCOUNTS,
            request.namespace,
            body,
            name=request.name,
            subresource="token",
            as_node=request.as_node,
        )

    def _uses(self, request: Request, name: str, uid: str) -> bool:
        if (request.namespace, name) not in self._locations.pods(request.node):
            return False
        pod = self._pods.get(request.namespace, name) or {}
        if meta.uid(pod) != uid or meta.annotation(pod, MIRROR):
            return False
        spec = meta.mapping(pod, "spec")
        used = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        return used == request.name

    async def insert_csr(self, request: Request) -> dict[str, Any]:
        """Hand in a certificate signing request, which must be for the node itself."""
        given = request.body_object()
        if not _is_for(given, request.node):
            raise Denied(
                NOT_ITS_OWN, f"a request for a certificate must name node {request.node} in its CN"
            )
        about = {**meta.metadata(given), "name": request.name}
        body = {**given, "kind": CSRS.kind, "apiVersion": CSRS.api_version, "metadata": about}
        return await self._client.create(CSRS, "", body, as_node=request.node)

    async def query_csr(self, request: Request) -> dict[str, Any]:
        """Read a certificate signing request of the node, to see whether it is signed."""
        try:
            found = await self._client.get(CSRS, "", request.name, as_node=request.node)
        except KubeError as error:
            if error.code != 404:
                raise
            found = {}
        if not _is_for(found, request.node):
            text = f'certificatesigningrequests "{request.name}" of node {request.node} not found'
            raise refusal(404, "NotFound", text) if not found else Denied(NOT_ITS_OWN, text)
        return {"kind": CSRS.kind, "apiVersion": CSRS.api_version, **found}


def _is_for(csr: Mapping[str, Any], node: str) -> bool:
    """Tell whether a CertificateSigningRequest asks for a certificate of a node."""
    try:
        pem = base64.b64decode(str(meta.mapping(csr, "spec").get("request") or ""), validate=True)
        return node_of_request(pem) == node
    except (ValueError, CertificateError):
        return False
