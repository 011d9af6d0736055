"""What goes over channels, by what it is. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Route

RESPONSE: Final = "response"
"""An acknowledgement, a confirmation, or the answer to a question."""
QUESTION: Final = "question"
LEASE: Final = "lease"
KEEPALIVE: Final = "keepalive"
STATUS: Final = "status"
"""What a pod or the node is like."""
EVENT: Final = "event"
OBJECT: Final = "object"
"""Objects for an edge, and their deletes."""
DEVICE: Final = "device"
UPLOAD: Final = "upload"
"""What apps on the node and rules in the cloud say to each other: bulk."""
CONTROL: Final = "control"
"""What the two ends say about themselves."""

CLASSES: Final = (
    RESPONSE,
    QUESTION,
    LEASE,
    KEEPALIVE,
    STATUS,
    EVENT,
    OBJECT,
    DEVICE,
    UPLOAD,
    CONTROL,
)
"""All there are, so that no peer can make more of them."""

_BY_OPERATION: Final = {
    names.RESPONSE: RESPONSE,
    names.ERROR: RESPONSE,
    names.QUERY: QUESTION,
    names.KEEPALIVE: KEEPALIVE,
    names.UPLOAD: UPLOAD,
    names.DIGEST: CONTROL,
    "ping": KEEPALIVE,
    "pong": KEEPALIVE,
    "config": CONTROL,
}
_BY_TYPE: Final = {
    "lease": LEASE,
    "event": EVENT,
    "nodestatus": STATUS,
    "nodepatch": STATUS,
    "podstatus": STATUS,
    "podpatch": STATUS,
    "device": DEVICE,
    "devicemodel": DEVICE,
    "deviceowner": DEVICE,
}
_BY_SOURCE: Final = {names.TWIN: DEVICE, names.DEVICECONTROLLER: DEVICE}


def class_of(route: Route) -> str:
    """Say what a message on the wire is: one of :data:`CLASSES`."""
    kind = _BY_OPERATION.get(route.operation)
    if kind is not None:
        return kind
    parts = route.resource.split("/", 2)
    kind = _BY_TYPE.get(parts[1]) if len(parts) > 1 else None
    if kind is not None:
        return kind
    if route.group == names.GROUP_USER:
        return UPLOAD
    return _BY_SOURCE.get(route.source, OBJECT)


@dataclass(slots=True)
class Tally:
    """How many messages of one class, and how large they were together."""

    messages: int = 0
    bytes: int = 0


def _tallies() -> dict[str, Tally]:
    return {name: Tally() for name in CLASSES}


@dataclass(slots=True)
class Traffic:
    """Running totals of all channels that share it.

    :ivar sent: by class; ``received`` likewise, bad frames aside.
    :ivar bad_frames: what was no message, and ended its channel.
    :ivar dead_links: channels given up since nothing was heard.
    :ivar stuck_links: channels given up since the peer did not read.
    """

    sent: dict[str, Tally] = field(default_factory=_tallies)
    received: dict[str, Tally] = field(default_factory=_tallies)
    bad_frames: int = 0
    dead_links: int = 0
    stuck_links: int = 0

    def count_sent(self, route: Route, size: int) -> None:
        """Note a message of so many bytes that was written."""
        tally = self.sent[class_of(route)]
        tally.messages += 1
        tally.bytes += size

    def count_received(self, route: Route, size: int) -> None:
        """Note a message of so many bytes that came."""
        tally = self.received[class_of(route)]
        tally.messages += 1
        tally.bytes += size
