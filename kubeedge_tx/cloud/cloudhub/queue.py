"""What waits for one node: the lane that needs acknowledgements, and the one that does not.

Pure: told the time, no I/O. Rules and their source: KubeEdge
``cloud/pkg/cloudhub/common/util``, ``…/dispatcher`` and ``…/session``.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kubeedge_tx.api.meta import is_newer
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Message, Route
from kubeedge_tx.viaduct.window import AckWindow

RESEND_AFTER: Final = 5.0
"""Seconds between two sends of an unacknowledged message. Source: KubeEdge node session."""

GO_MAX_SENDS: Final = 5
"""Sends of one message to a Go edge before the next object has its turn. Source: same."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait for one node; the same for all."""

    objects: int = 16384
    """What comes beyond is for SyncController to repair."""
    messages: int = 1024
    """Messages without acknowledgement, answers and others apart; the oldest goes first."""


MAX_PARTS: Final = 64
"""Answers about, and generations of, one object that may wait for one node."""

SETTLED: Final = 600.0
"""Seconds that a delete waits for a node which no record says to have the object: what was
delivered is recorded within seconds, and its record is deleted when the delete is confirmed."""

ANSWER_LIFE: Final = 60.0
"""Seconds after which nobody waits for an answer any more; an edge drops it then, and
never acknowledges it. Source: KubeEdge ``remoteQueryTimeout``.

So long what needs no acknowledgement waits for a node that is away, too: it asks for its devices
whenever it connects, and what it was told of them before would gather at clouds it never comes to.
"""

_UNACKED_RESOURCES: Final = (
    "podlist",
    "membership",
    "twin/cloud_updated",
    "serviceaccounttoken",
    "k8s/ca.crt",
)
_UNACKED_OPERATIONS: Final = frozenset(
    {
        "createvolume",
        "deletevolume",
        "controllerpublishvolume",
        "controllerunpublishvolume",
        "applicationResponse",
        names.DIGEST,
        names.ERROR,
    }
)
_UNACKED_SOURCES: Final = frozenset({names.TASKMANAGER, "nodeupgradejobcontroller"})


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    uid: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    deleted_at: str | None = msgspec.field(default=None, name="deletionTimestamp")


class ObjectHead(msgspec.Struct, frozen=True, gc=False):
    """The part of a Kubernetes object that delivery looks at."""

    metadata: _Metadata
    api_version: str = msgspec.field(default="", name="apiVersion")
    kind: str = ""


_heads: Final = msgspec.json.Decoder(ObjectHead)


def read_head(content: msgspec.Raw) -> ObjectHead | None:
    """Read who the object in a message is; ``None`` if it holds no Kubernetes object."""
    try:
        return _heads.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return None


class HeadReader:
    """Read heads, and remember the last: a fan-out brings the same content for each node."""

    def __init__(self) -> None:
        self._content: object = None
        self._head: ObjectHead | None = None

    def read(self, content: msgspec.Raw) -> ObjectHead | None:
        """Like :func:`read_head`."""
        if content is not self._content:
            self._content, self._head = content, read_head(content)
        return self._head


def needs_ack(route: Route, content: msgspec.Raw) -> bool:
    """Tell whether a message down to an edge is repeated until it is acknowledged.

    :param route: its resource in the edge's form, ``<namespace>/<type>[/<name>]``.
    """
    resource, operation = route.resource, route.operation
    if (
        operation in _UNACKED_OPERATIONS
        or route.group == names.GROUP_USER
        or route.source in _UNACKED_SOURCES
        or any(part in resource for part in _UNACKED_RESOURCES)
    ):
        return False
    if operation == names.RESPONSE and not _is_object(content):
        return False
    if route.source == names.EDGECONTROLLER:
        parts = resource.split("/")
        kind = parts[1] if len(parts) > 1 else ""
        if (
            kind in names.UNACKED_TYPES
            or (kind == "node" and operation != names.UPDATE)
            or (kind == "pod" and operation == names.RESPONSE)
        ):
            return False
    return True


def _is_object(content: msgspec.Raw) -> bool:
    """Tell a Kubernetes object from ``OK``, an error text, and an error value."""
    head = read_head(content)
    return head is not None and bool(head.metadata.uid or head.metadata.name)


class Outcome(enum.Enum):
    """What became of a message given to the queue."""

    QUEUED = "queued"
    STALE = "stale"
    """The edge has this version, or has it under way, or its object is being deleted."""
    REPLACED = "replaced"
    """The delete of an object whose place on the edge another one has taken: not sent."""
    INVALID = "invalid"
    """It can never be acknowledged: no version, not group ``resource``, or no object."""
    FULL = "full"


class Order(msgspec.Struct, frozen=True, gc=False):
    """One message of the acknowledged lane, as the edge will see it."""

    message: Message
    namespace: str
    """``null`` for cluster scope."""
    uid: str
    api_version: str
    kind: str
    name: str
    version: str
    is_delete: bool
    """Operation ``delete``: its acknowledgement removes the record."""
    is_last: bool
    """A delete, or a graceful delete that has begun: nothing but a delete follows."""
    is_answer: bool
    """Operation ``response``: somebody on the edge waits for just this message."""
    since: float
    """When it was queued, seconds."""

    @property
    def key(self) -> str:
        """What must stay in order on the edge: the resource."""
        return self.message.route.resource

    @property
    def part(self) -> str:
        """What newer states replace: the object. Answers are never replaced."""
        return self.message.header.msg_id if self.is_answer else self.uid or self.key


class NodeMessageQueue:
    """All that waits for one node; it outlives the node's connections.

    :param recorded: the version that the edge has confirmed for (namespace, uid), if any.
    :param limits: how much may wait.
    """

    __slots__ = (
        "_current",
        "_heads",
        "_limits",
        "_pending",
        "_plain",
        "_recorded",
        "_responses",
        "_since",
        "dropped",
        "node",
        "owner",
        "window",
    )

    def __init__(
        self,
        node: str,
        recorded: Callable[[str, str], str | None],
        heads: HeadReader | None = None,
        limits: QueueLimits = QueueLimits(),
    ) -> None:
        self.node = node
        self._limits = limits
        self._recorded = recorded
        self._heads = heads or HeadReader()
        self.window: AckWindow[Order] = AckWindow(width=1, resend_after=RESEND_AFTER)
        self._pending: dict[str, Order] = {}
        """The newest order of each part that is queued or in flight, answers aside."""
        self._current: dict[str, str] = {}
        """Which uid the edge holds under a resource, as far as we saw it."""
        self._since: dict[str, float] = {}
        """Since when a resource has something unconfirmed, the longest first."""
        self._responses: deque[tuple[float, Message]] = deque()
        """Answers without acknowledgement, and when they came."""
        self._plain: deque[tuple[float, Message]] = deque()
        self.owner: Any = None
        """The session that delivers from it now; sessions compare identity."""
        self.dropped = 0
        """Messages without acknowledgement that were given up for lack of room."""

    def push_plain(self, message: Message, now: float) -> None:
        """Queue a message that needs no acknowledgement; answers go before the others."""
        lane = self._responses if message.header.parent_id else self._plain
        if len(lane) >= self._limits.messages:
            lane.popleft()
            self.dropped += 1
        lane.append((now, message))

    def push(self, message: Message, now: float) -> Outcome:
        """Queue a message that needs an acknowledgement.

        :param message: its resource in the edge's form.
        """
        route = message.route
        head = self._heads.read(message.content)
        parts = route.resource.split("/")
        if route.group != names.GROUP_RESOURCE or head is None or len(parts) < 2:
            return Outcome.INVALID
        is_delete = route.operation == names.DELETE
        is_last = is_delete or head.metadata.deleted_at is not None
        version = message.header.resource_version
        if not version and not is_last:
            return Outcome.INVALID
        order = Order(
            message,
            parts[0],
            head.metadata.uid,
            head.api_version,
            head.kind,
            head.metadata.name or parts[-1],
            version,
            is_delete,
            is_last,
            route.operation == names.RESPONSE,
            now,
        )
        if not order.is_answer:
            if self._is_stale(order):
                return Outcome.STALE
            if is_delete and parts[1] != "pod" and self._is_replaced(order):
                return Outcome.REPLACED
        return self._offer(order)

    def _is_stale(self, order: Order) -> bool:
        known = self._pending.get(order.part)
        if known is not None:
            if order.is_delete or known.is_delete:
                return known.is_delete
            if known.is_last and not order.is_last:
                return True
            return not is_newer(order.version, known.version)
        if order.is_last:
            return False
        recorded = self._recorded(order.namespace, order.uid) if order.uid else None
        # An empty record is what a crash between creating and filling it leaves behind.
        if recorded is not None and not is_newer(order.version, recorded):
            self._current[order.key] = order.uid
            return True
        return False

    def _is_replaced(self, order: Order) -> bool:
        """Whether the edge has, or is being sent, another object of the same name.

        An edge keeps one object per name and deletes by name (pods aside, which it
        compares by uid): a late delete of the old object would take the new one away.
        """
        flying = self.window.flying(order.key)
        if flying is not None:
            return flying.uid != order.uid and not flying.is_delete
        current = self._current.get(order.key)
        return current is not None and current != order.uid

    def _offer(self, order: Order) -> Outcome:
        window, key, part = self.window, order.key, order.part
        parts = window.pending_parts(key)
        if part not in parts and (
            len(parts) >= MAX_PARTS or (not parts and window.keys >= self._limits.objects)
        ):
            return Outcome.FULL
        # The delete of an older object goes before the newer one that waits already.
        window.offer(key, order.message.header.msg_id, order, part=part, first=order.is_delete)
        self._since.setdefault(key, order.since)
        if not order.is_answer:
            self._pending[part] = order
        return Outcome.QUEUED

    def to_send(self, now: float, most: int) -> list[Order]:
        """Up to ``most`` messages of the acknowledged lane to write now."""
        orders = self.window.to_send(now, most)
        late = [order for order in orders if _is_late_answer(order, now)]
        if not late:
            return orders
        for order in late:
            self.window.acked(order.message.header.msg_id)
            self._retire(order)
        return [order for order in orders if order not in late] + self.to_send(now, most)

    def acked(self, message_id: str) -> Order | None:
        """Retire a message; ``None`` if no such one was waiting."""
        order = self.window.acked(message_id)
        if order is None:
            return None
        self._retire(order)
        if not order.is_delete:
            self._current[order.key] = order.uid
        elif self._current.get(order.key) == order.uid:
            del self._current[order.key]
        return order

    def connected(self, owner: object, now: float, *, width: int, max_sends: int) -> list[Order]:
        """Begin to deliver to a new connection; what was in flight is sent again.

        :returns: what is given up since another cloud process delivered it meanwhile.
        """
        self.window.connection_lost()
        self.window.configure(width=width, max_sends=max_sends)
        self.owner = owner
        self._drop_late(now)
        return self._give_up_delivered() + self._give_up(self._is_late)

    def settle(self, now: float) -> list[Order]:
        """Give up what another cloud process delivers, as long as it has the node.

        Otherwise what changes would gather here for as long as the node is there.
        """
        if self.owner is not None:
            return []
        self._drop_late(now)
        settled = self._give_up(lambda order: self._is_settled(order, now))
        for order in settled:
            if self._current.get(order.key) == order.uid:
                del self._current[order.key]
        return settled + self._give_up_delivered()

    def _drop_late(self, now: float) -> None:
        for lane in (self._responses, self._plain):
            while lane and now - lane[0][0] > ANSWER_LIFE:
                lane.popleft()
        self._give_up(lambda order: _is_late_answer(order, now))

    def _give_up_delivered(self) -> list[Order]:
        again = {order.key for order in self.window if order.is_delete}
        # After the delete of an older object of its name an edge of Go needs it again.
        return self._give_up(lambda order: order.key not in again and self._was_delivered(order))

    def _give_up(self, unneeded: Callable[[Order], bool]) -> list[Order]:
        gone = self.window.prune(unneeded)
        for order in gone:
            self._retire(order)
        return gone

    def _retire(self, order: Order) -> None:
        if self._pending.get(order.part) is order:
            del self._pending[order.part]
        if order.key not in self.window:
            self._since.pop(order.key, None)

    def disconnected(self, owner: object) -> bool:
        """End delivery, if ``owner`` is still the one that delivers."""
        if self.owner is not owner:
            return False
        self.owner = None
        self.window.connection_lost()
        return True

    def _is_late(self, order: Order) -> bool:
        """Whether it deletes what the edge has not: another cloud delivered another object."""
        if not order.is_delete or order.key.split("/")[1] == "pod":
            return False
        current = self._current.get(order.key)
        return current is not None and current != order.uid

    def _is_settled(self, order: Order, now: float) -> bool:
        """Whether it deletes what nothing records that the node has, not even after a while."""
        return (
            order.is_delete
            and bool(order.uid)
            and now - order.since >= SETTLED
            and self._recorded(order.namespace, order.uid) is None
        )

    def _was_delivered(self, order: Order) -> bool:
        if order.is_last or order.is_answer or not order.uid:
            return False
        recorded = self._recorded(order.namespace, order.uid)
        return recorded is not None and not is_newer(order.version, recorded)

    def next_plain(self) -> Message | None:
        """Take the next message that needs no acknowledgement."""
        lane = self._responses or self._plain
        return lane.popleft()[1] if lane else None

    @property
    def has_plain(self) -> bool:
        """Whether :meth:`next_plain` has something."""
        return bool(self._responses or self._plain)

    @property
    def plain_depth(self) -> int:
        """How many messages without acknowledgement wait."""
        return len(self._responses) + len(self._plain)

    @property
    def fullest_lane(self) -> int:
        """How many of them wait in the fuller of their two lanes, each of which has a limit."""
        return max(len(self._responses), len(self._plain))

    def behind_since(self) -> float | None:
        """Since when the edge lacks something; ``None`` if it has confirmed everything.

        A newer state that takes the place of an unconfirmed one does not begin anew.
        """
        for since in self._since.values():
            return since
        return None

    def clear(self) -> None:
        """Forget everything: the node is gone."""
        self.window.clear()
        self._pending.clear()
        self._current.clear()
        self._since.clear()
        self._responses.clear()
        self._plain.clear()


def _is_late_answer(order: Order, now: float) -> bool:
    return order.is_answer and now - order.since > ANSWER_LIFE
