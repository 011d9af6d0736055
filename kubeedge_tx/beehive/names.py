"""Names that appear on the wire: modules, groups and operations.

Source: KubeEdge ``pkg/common/modules`` and ``staging/.../beehive/pkg/core/model``.
"""

from __future__ import annotations

from typing import Final

# Operations
INSERT: Final = "insert"
UPDATE: Final = "update"
PATCH: Final = "patch"
DELETE: Final = "delete"
QUERY: Final = "query"
RESPONSE: Final = "response"
ERROR: Final = "error"
KEEPALIVE: Final = "keepalive"
UPLOAD: Final = "upload"
CONNECT: Final = "connect"
DIGEST: Final = "digest"
"""Ours alone: what an edge has, for a cloud of ours that said it knows the word."""
DIGEST_RESOURCE: Final = "digest"

# Cloud modules; each is also its own group
CLOUDHUB: Final = "cloudhub"
EDGECONTROLLER: Final = "edgecontroller"
DEVICECONTROLLER: Final = "devicecontroller"
SYNCCONTROLLER: Final = "synccontroller"
DYNAMICCONTROLLER: Final = "dynamiccontroller"
POLICYCONTROLLER: Final = "policycontroller"
ROUTER: Final = "router"
TASKMANAGER: Final = "taskmanager"
CLOUDSTREAM: Final = "cloudStream"

UNACKED_TYPES: Final = frozenset(
    {"lease", "nodepatch", "podpatch", "podstatus", "certificatesigningrequest"}
)
"""Types whose answers the cloud sends once, waiting for no acknowledgement.
Source: KubeEdge ``cloud/pkg/cloudhub/common/util``."""

# Edge modules, and the groups they are in
EDGEHUB: Final = "websocket"
METAMANAGER: Final = "metamanager"
EDGED: Final = "edged"
TWIN: Final = "twin"
EVENTBUS: Final = "eventbus"
SERVICEBUS: Final = "servicebus"

GROUP_RESOURCE: Final = "resource"
GROUP_META: Final = "meta"
GROUP_HUB: Final = "hub"
GROUP_EDGED: Final = "edged"
GROUP_TWIN: Final = "twin"
GROUP_USER: Final = "user"
GROUP_BUS: Final = "bus"

CONNECTED: Final = "cloud_connected"
DISCONNECTED: Final = "cloud_disconnected"
"""Content of the ``connect`` message that EdgeHub sends to the edge's own groups."""
CONNECTION_RESOURCE: Final = "node/connection"
EDGEHUB_SOURCE: Final = "edgehub"
"""``source`` of those messages."""
