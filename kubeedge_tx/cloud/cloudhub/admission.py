"""Which node may say what. Pure.

An edge speaks for itself only: where a resource names a node, it must be its own.
Whether a pod or a configmap is its business is known to EdgeController, which asks the
API server as that node. Source: KubeEdge ``cloud/pkg/cloudhub/authorization``, which has
this table and leaves it off by default.
"""

from __future__ import annotations

import re
from typing import Final

from kubeedge_tx.api.resources import NODE_LEASE_NAMESPACE
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Message

CSI: Final = re.compile(r"\w[-\w.+]*/volume/\w[-\w.+]*", re.ASCII)
"""A resource of the volume driver. Source: KubeEdge ``common/constants``."""

CA_RESOURCE: Final = "k8s/ca.crt"

_FREE_OPERATIONS: Final = frozenset(
    {
        names.RESPONSE,
        names.ERROR,
        names.UPLOAD,
        names.KEEPALIVE,
        names.DIGEST,
        "prepull",
        "upgrade",
        "UpdateNodeActionStatus",
    }
)
_FREE_SOURCES: Final = frozenset({"metaserver", names.TWIN})

_READ: Final = frozenset({names.QUERY})
_WRITE: Final = frozenset({names.INSERT, names.UPDATE, names.PATCH})
_ALL: Final = _READ | _WRITE | {names.DELETE}

_OPERATIONS: Final = {
    "node": _READ | _WRITE,
    "nodestatus": _WRITE,
    "nodepatch": _WRITE,
    "pod": _ALL,
    "podstatus": _WRITE,
    "podpatch": _WRITE,
    "configmap": _READ,
    "secret": _READ,
    "serviceaccounttoken": _READ,
    "persistentvolume": _READ,
    "persistentvolumeclaim": _READ,
    "volumeattachment": _READ,
    "lease": _ALL,
    "certificatesigningrequest": _READ | {names.INSERT},
    "event": _WRITE,
    "rulestatus": _WRITE,
    "service": _READ,
    "endpoints": _READ,
}
"""Types an edge's modules speak about, and the verbs they use."""

_NAMES_THE_NODE: Final = frozenset({"node", "nodestatus", "nodepatch", "lease"})


def refusal(node: str, message: Message) -> str | None:
    """Say why a node may not send this message; ``None`` if it may.

    :param node: the name that its certificate proves.
    :param message: as it came, resource without ``node/<node>/``.
    """
    route = message.route
    resource, operation = route.resource, route.operation
    if (
        operation in _FREE_OPERATIONS
        or route.source in _FREE_SOURCES
        or resource == CA_RESOURCE
        or CSI.match(resource)
    ):
        return None
    parts = resource.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        return f"resource {resource[:100]!r} is not <namespace>/<type>/<name>"
    allowed = _OPERATIONS.get(parts[1])
    if allowed is None:
        return f"nodes have nothing to say about resources of type {parts[1][:50]!r}"
    if operation not in allowed:
        return f"nodes may not {operation[:50]!r} resources of type {parts[1]!r}"
    if parts[1] in _NAMES_THE_NODE:
        if len(parts) < 3 or parts[2] != node:
            return f"{resource[:100]!r} is not about node {node}"
        if parts[1] == "lease" and parts[0] != NODE_LEASE_NAMESPACE:
            return f"a node's lease is in {NODE_LEASE_NAMESPACE}, not in {parts[0][:100]!r}"
    return None
