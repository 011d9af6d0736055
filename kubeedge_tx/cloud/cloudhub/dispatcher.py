"""Messages down to a node's queue, and up to a module.

Source: KubeEdge ``cloud/pkg/cloudhub/dispatcher/message_dispatcher.go``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import OK, Message, MessageFactory
from kubeedge_tx.beehive.route import kind_of, with_node
from kubeedge_tx.cloud.cloudhub.admission import CA_RESOURCE, CSI, Refusal, creates, refusal
from kubeedge_tx.cloud.cloudhub.queue import (
    HeadReader,
    NodeMessageQueue,
    Outcome,
    QueueLimits,
    needs_ack,
)
from kubeedge_tx.cloud.cloudhub.session import NodeSession
from kubeedge_tx.cloud.cloudhub.sessions import SessionTable
from kubeedge_tx.cloud.cloudhub.syncpoint import ISyncPoint
from kubeedge_tx.observe.denials import NOT_ITS_OWN, RATE, Denials
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.observe.rarely import Rarely, and_more

NODE_DELETED: Final = 4410
"""WebSocket close code: the node was deleted from the cluster."""

MAX_QUESTIONS: Final = 4096
"""Synchronous messages to edges that may be unanswered at the same time."""

_CLOUD_SOURCES: Final = frozenset(
    {
        names.CLOUDHUB,
        names.CLOUDSTREAM,
        names.DEVICECONTROLLER,
        names.EDGECONTROLLER,
        names.SYNCCONTROLLER,
    }
)
"""An edge that calls itself one of these is not listened to, answers aside."""

_BY_SOURCE: Final = {"metaserver": names.DYNAMICCONTROLLER, names.TWIN: names.DEVICECONTROLLER}
_TASK_OPERATIONS: Final = frozenset({"prepull", "upgrade", "UpdateNodeActionStatus"})
_MEMBERSHIP: Final = "membership/detail"


def target_node(resource: str) -> tuple[str, str] | None:
    """Read whom a message is for, and the resource as the edge sees it.

    The node is what follows the first part ``node``; ``node/<node>/`` is cut where the
    resource starts with it. ``None`` if no node is named.
    """
    parts = resource.split("/")
    try:
        at = parts.index("node")
        node = parts[at + 1]
    except (ValueError, IndexError):
        return None
    if not node:
        return None
    return node, "/".join(parts[2:]) if at == 0 and len(parts) >= 3 else resource


class MessageDispatcher:
    """Sort messages in both directions.

    :param syncpoint: knows what each node has confirmed.
    :param kube_ca: the Kubernetes CA, PEM, which edges ask for.
    :param denials: where it is written down what nodes may not have.
    :param limits: how much may wait for one node.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        bus: IMessageBus,
        messages: MessageFactory,
        sessions: SessionTable,
        *,
        syncpoint: ISyncPoint,
        kube_ca: str,
        denials: Denials,
        limits: QueueLimits,
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._messages = messages
        self._sessions = sessions
        self._syncpoint = syncpoint
        self._kube_ca = kube_ca
        self._heads = HeadReader()
        self._denials = denials
        self._limits = limits
        self._rarely = Rarely()
        self._questions: dict[str, str] = {}
        self.queues: dict[str, NodeMessageQueue] = {}
        self._gone_resends = self._gone_drops = 0
        """Of queues that are no more."""
        self._down = metrics.counter(
            "kubeedge_cloudhub_downstream_messages_total",
            "Messages towards edges, by what became of them.",
            ("outcome",),
        )
        self._up = metrics.counter(
            "kubeedge_cloudhub_upstream_messages_total",
            "Messages from edges, by the module they went to.",
            ("module",),
        )

    def queue(self, node: str) -> NodeMessageQueue:
        """The node's queue, made if there is none."""
        queue = self.queues.get(node)
        if queue is None:

            def recorded(namespace: str, uid: str) -> str | None:
                return self._syncpoint.recorded(node, namespace, uid)

            queue = self.queues[node] = NodeMessageQueue(node, recorded, self._heads, self._limits)
        return queue

    def settle(self) -> None:
        """Let the queues of nodes that are not here give up what others have delivered."""
        now = self._clock.seconds()
        for queue in self.queues.values():
            queue.settle(now)

    @property
    def resends(self) -> int:
        """Messages sent once more, to all nodes, since the start."""
        return self._gone_resends + sum(queue.window.resends for queue in self.queues.values())

    @property
    def drops(self) -> int:
        """Messages without acknowledgement given up, for all nodes, since the start."""
        return self._gone_drops + sum(queue.dropped for queue in self.queues.values())

    @property
    def questions(self) -> int:
        """Synchronous messages that no edge has answered yet."""
        return len(self._questions)

    # Down

    def downstream(self, message: Message) -> None:
        """Queue a message from a cloud module for the node it names."""
        route = message.route
        target = target_node(route.resource)
        if target is None:
            self._down.inc("no_node")
            self._log.warn(
                "{source} sent {operation} {resource}, which names no node: dropped",
                source=route.source,
                operation=route.operation,
                resource=route.resource,
            )
            return
        node, resource = target
        if self._is_node_deleted(message, resource):
            self._node_deleted(node)
            return
        header = message.header
        if header.sync:
            self._remember_question(header.msg_id, node)
            header = msgspec.structs.replace(header, sync=False)
        route = msgspec.structs.replace(route, resource=resource)
        trimmed = Message(header, route, message.content)
        queue = self.queue(node)
        if needs_ack(route, message.content):
            outcome = queue.push(trimmed, self._clock.seconds())
            self._down.inc(outcome.value)
            if outcome is not Outcome.QUEUED:
                self._not_queued(outcome, node, trimmed)
                return
        else:
            self._down.inc("plain")
            queue.push_plain(trimmed, self._clock.seconds())
        session = self._sessions.get(node)
        if session is not None:
            session.pump()

    def _not_queued(self, outcome: Outcome, node: str, message: Message) -> None:
        route = message.route
        if outcome is Outcome.REPLACED:
            head = self._heads.read(message.content)
            assert head is not None
            self._syncpoint.removed(node, route.resource.split("/")[0], head.metadata.uid)
        elif outcome in (Outcome.INVALID, Outcome.FULL):
            self._log.warn(
                "{operation} {resource} from {source} for {node} dropped: {why}",
                operation=route.operation,
                resource=route.resource,
                source=route.source,
                node=node,
                why=(
                    "too much waits for this node already"
                    if outcome is Outcome.FULL
                    else "no resourceVersion, no Kubernetes object, or not group resource"
                ),
            )

    @staticmethod
    def _is_node_deleted(message: Message, resource: str) -> bool:
        route = message.route
        return (
            route.operation == names.DELETE
            and route.source == names.EDGECONTROLLER
            and kind_of(resource) == "node"
        )

    def _node_deleted(self, node: str) -> None:
        self._log.info("{node} was deleted from the cluster", node=node)
        queue = self.queues.pop(node, None)
        session = self._sessions.get(node)
        if session is not None:
            session.close(NODE_DELETED, "the node was deleted")
        if queue is not None:
            self._gone_resends += queue.window.resends
            self._gone_drops += queue.dropped
            queue.clear()
        self._sessions.forget(node)
        self._syncpoint.forget(node)

    def _remember_question(self, message_id: str, node: str) -> None:
        if len(self._questions) >= MAX_QUESTIONS:
            del self._questions[next(iter(self._questions))]
        self._questions[message_id] = node

    # Up

    def answered(self, node: str, message: Message) -> None:
        """Give an edge's response, which acknowledged nothing, to whoever asked just it."""
        parent = message.header.parent_id
        asked = self._questions.get(parent)
        if asked == node:
            del self._questions[parent]
            self._bus.respond(message)
        elif asked is not None:
            why = "it answers a question that another node was asked"
            self._denials.deny(node, names.RESPONSE, names.RESPONSE, NOT_ITS_OWN, why)

    def upstream(self, session: NodeSession, message: Message) -> Deferred[None] | None:
        """Pass on what a node says.

        :returns: fires when the module has room; ``None`` when there is nothing to wait for.
        """
        route = message.route
        node = session.node
        refused = refusal(node, message)
        if refused is None and creates(message) and not session.may_create():
            kind = kind_of(route.resource)
            refused = Refusal(kind, RATE, "the node makes too many objects in too short a time")
        if refused is not None:
            self._refuse(session, message, refused)
            return None
        operation, resource = route.operation, route.resource
        if CSI.fullmatch(resource):
            self.answered(node, message)
        elif operation == names.ERROR:
            self._not_done(node, message)
        elif operation == names.UPLOAD and route.group == names.GROUP_USER:
            return self._to(names.ROUTER, self._prefixed(node, message))
        elif operation in _TASK_OPERATIONS:
            return self._to(names.TASKMANAGER, message)
        elif operation == names.DIGEST:
            return self._to(names.SYNCCONTROLLER, self._prefixed(node, message))
        elif resource == CA_RESOURCE:
            session.send(self._answer(message, names.RESPONSE, self._kube_ca))
        elif route.source in _CLOUD_SOURCES:
            self._up.inc("none")
        elif (
            route.source == names.TWIN
            and resource == _MEMBERSHIP
            and not self._bus.has(names.DEVICECONTROLLER)
        ):
            session.send(self._confirm(message))
        else:
            module = _BY_SOURCE.get(route.source, names.EDGECONTROLLER)
            return self._to(module, self._prefixed(node, message))
        return None

    def tell(self, node: str, operation: str, window: int = 0) -> None:
        """Tell the controllers that a node has connected or disconnected.

        :param window: that of the session; 0 for a Go edge.
        """
        for module in (names.EDGECONTROLLER, names.SYNCCONTROLLER):
            if self._bus.has(module):
                self._bus.send(
                    module,
                    self._messages.new(
                        source=names.CLOUDHUB,
                        group=names.GROUP_RESOURCE,
                        operation=operation,
                        resource=f"node/{node}",
                        content={"client_id": node, "event_type": operation, "window": window},
                    ),
                )

    def _to(self, module: str, message: Message) -> Deferred[None] | None:
        if not self._bus.has(module):
            self._up.inc("none")
            return None
        self._up.inc(module)
        return self._bus.send(module, message)

    @staticmethod
    def _prefixed(node: str, message: Message) -> Message:
        route = message.route
        return Message(
            message.header,
            msgspec.structs.replace(route, resource=with_node(node, route.resource)),
            message.content,
        )

    def _not_done(self, node: str, message: Message) -> None:
        silent = self._rarely.due(node, self._clock.seconds())
        if silent is not None:
            self._log.warn(
                "{node} could not do what it was asked: error from {source!r} for {resource!r}"
                "{more}",
                node=node,
                source=message.route.source[:100],
                resource=message.route.resource[:300],
                more=and_more(silent),
            )

    def _refuse(self, session: NodeSession, message: Message, refused: Refusal) -> None:
        kind, reason, why = refused
        self._denials.deny(session.node, kind, message.route.operation, reason, why)
        if kind != "event":  # which nobody waits for an answer to
            session.send(self._answer(message, names.ERROR, f"403 Forbidden: {why}"))

    def _answer(self, to: Message, operation: str, content: Any) -> Message:
        """Build an answer in group ``resource``: an edge gives no other to who waits for it."""
        return self._messages.new(
            source=names.CLOUDHUB,
            group=names.GROUP_RESOURCE,
            operation=operation,
            resource=to.route.resource,
            content=content,
            parent_id=to.header.msg_id,
        )

    def _confirm(self, report: Message) -> Message:
        """End DeviceTwin's question for its devices, which it repeats every 60 s otherwise."""
        return self._messages.new(
            source=names.DEVICECONTROLLER,
            group=names.GROUP_TWIN,
            operation=names.RESPONSE,
            resource="twin",
            content=OK,
            parent_id=report.header.msg_id,
        )
