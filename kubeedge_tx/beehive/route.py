"""Resource strings: ``node/<node>/<namespace>/<type>[/<name>]``.

Source: KubeEdge ``cloud/pkg/common/messagelayer/util.go`` and
``cloud/pkg/cloudhub/common/util``. Cluster-scoped objects carry the namespace ``null``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubeedge_tx.errors import RouteError

CLUSTER: Final = "null"
"""What stands in the place of the namespace for cluster-scoped objects."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as the edge sees it, in parts; ``name`` may be empty."""

    namespace: str
    kind: str
    name: str = ""

    def __str__(self) -> str:
        parts = (self.namespace, self.kind, self.name) if self.name else (self.namespace, self.kind)
        return "/".join(parts)


def parse(resource: str) -> Resource:
    """Read the edge's form, ``<namespace>/<type>[/<name>]``.

    :raises RouteError: another number of parts, or an empty one.
    """
    parts = resource.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise RouteError(f"{resource!r} is not <namespace>/<type>/<name>")
    return Resource(*parts)


def build(node: str, namespace: str, kind: str, name: str = "") -> str:
    """Write the cloud's form.

    :param namespace: empty for cluster-scoped objects.
    :raises RouteError: the node or the type is empty.
    """
    if not node or not kind:
        raise RouteError(f"no node or no type: {node!r}, {kind!r}")
    tail = f"/{name}" if name else ""
    return f"node/{node}/{namespace or CLUSTER}/{kind}{tail}"


def kind_of(resource: str) -> str:
    """Read the type out of ``<namespace>/<type>[/<name>]``; empty if there is none."""
    return "".join(resource.split("/")[1:2])


def with_node(node: str, resource: str) -> str:
    """Put ``node/<node>/`` in front: what CloudHub does to messages from an edge."""
    return f"node/{node}/{resource}"


def split_node(resource: str) -> tuple[str, str]:
    """Split the cloud's form into the node and the edge's form.

    :raises RouteError: it does not start with ``node/<node>/``.
    """
    parts = resource.split("/", 2)
    if len(parts) != 3 or parts[0] != "node" or not parts[1]:
        raise RouteError(f"{resource!r} does not start with node/<node>/")
    return parts[1], parts[2]
