"""Which node may say what. Pure.

An edge speaks for itself only: where a resource names a node, it must be its own.
Whether a pod or a configmap is its business is known to EdgeController, which asks the
API server as that node. What is no name of Kubernetes' goes no further: it would become part
of a path. Source: KubeEdge ``cloud/pkg/cloudhub/authorization``, which has
this table and leaves it off by default.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kubeedge_tx.api.resources import NODE_LEASE_NAMESPACE
from kubeedge_tx.beehive import names, route
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.observe import denials
from kubeedge_tx.security.identity import is_node_name

CSI: Final = re.compile(r"\w[-\w.+]*/volume/\w[-\w.+]*", re.ASCII)
"""A resource of the volume driver. Source: KubeEdge ``common/constants``."""

CA_RESOURCE: Final = "k8s/ca.crt"

MAX_CONTENT: Final = 3 * 1024 * 1024
"""Bytes of content that a node may send about one object: the API server takes no more, and
JSON of empty lists takes twenty times its size in memory. Source: apiserver
``DefaultMaxRequestBodyBytes``."""

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


def creates(message: Message) -> bool:
    """Whether a message makes an object, or an Event count on: the cluster keeps those."""
    kind = route.kind_of(message.route.resource)
    return kind == "event" or message.route.operation == names.INSERT


class Refusal(NamedTuple):
    """What a node may not do."""

    kind: str
    """Its type, in the node's own words."""
    reason: str
    """One of :mod:`kubeedge_tx.observe.denials`."""
    why: str
    """What the node is told."""


def refusal(node: str, message: Message) -> Refusal | None:
    """Say why a node may not send this message; ``None`` if it may.

    :param node: the name that its certificate proves.
    :param message: as it came, resource without ``node/<node>/``.
    """
    resource, operation = message.route.resource, message.route.operation
    if len(message.content) > MAX_CONTENT and operation != names.DIGEST:
        why = f"{len(message.content)} bytes of content, more than {MAX_CONTENT}"
        return Refusal(route.kind_of(resource), denials.TOO_LARGE, why)
    if (
        operation in _FREE_OPERATIONS
        or message.route.source in _FREE_SOURCES
        or resource == CA_RESOURCE
        or CSI.fullmatch(resource)
    ):
        return None
    parts = resource.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        why = f"resource {resource[:100]!r} is not <namespace>/<type>/<name>"
        return Refusal("", denials.MALFORMED, why)
    namespace, kind, *name = parts
    allowed = _OPERATIONS.get(kind)
    if allowed is None:
        why = f"nodes have nothing to say about resources of type {kind[:50]!r}"
        return Refusal(kind, denials.NOT_FOR_NODES, why)
    if operation not in allowed:
        why = f"nodes may not {operation[:50]!r} resources of type {kind!r}"
        return Refusal(kind, denials.NOT_FOR_NODES, why)
    if not _is_namespace(namespace) or not all(map(is_node_name, name)):
        return Refusal(kind, denials.MALFORMED, f"no such name can be: {resource[:100]!r}")
    if kind in _NAMES_THE_NODE:
        if name != [node]:
            why = f"{resource[:100]!r} is not about node {node}"
            return Refusal(kind, denials.NOT_ITS_OWN, why)
        if kind == "lease" and namespace != NODE_LEASE_NAMESPACE:
            why = f"a node's lease is in {NODE_LEASE_NAMESPACE}, not in {namespace!r}"
            return Refusal(kind, denials.NOT_ITS_OWN, why)
    return None


def _is_namespace(text: str) -> bool:
    return text == route.CLUSTER or (len(text) <= 63 and "." not in text and is_node_name(text))
