"""Messages from edges to calls of the API server, and the answers back.

Serial for each object, parallel across objects. Source of the table: KubeEdge
``cloud/pkg/edgecontroller/controller/upstream.go``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.route import build
from kubeedge_tx.beehive.workers import KeyedWorkers
from kubeedge_tx.cloud.edgecontroller.answers import (
    Answer,
    Denied,
    Request,
    Shape,
    failure,
    parse,
    refusal,
    success,
)
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.events import EventReports
from kubeedge_tx.cloud.edgecontroller.nodes import NodeReports
from kubeedge_tx.cloud.edgecontroller.pods import PodReports
from kubeedge_tx.cloud.edgecontroller.queries import KINDS, Queries
from kubeedge_tx.errors import Displaced, KubeError, RouteError
from kubeedge_tx.observe.denials import API_SERVER, Denials

WORKERS: Final = 64
"""Requests under way at once; the API client queues what exceeds its threads."""

Work = Callable[[Request], Awaitable[Mapping[str, Any] | None]]

_SAME_OBJECT: Final = {
    "nodestatus": "node",
    "nodepatch": "node",
    "podstatus": "pod",
    "podpatch": "pod",
}
"""Types that are views of one object, which must stay in order."""
_ANSWERED_AS: Final = {"nodestatus": "node"}


class Upstream:
    """Answer edges.

    :param denials: where it is written down what nodes may not have.
    :param impersonate: whether the API server judges what a node may do.
    :param workers: requests under way at once.
    """

    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        *,
        nodes: NodeReports,
        pods: PodReports,
        queries: Queries,
        events: EventReports,
        denials: Denials,
        claims: Claims,
        impersonate: bool,
        workers: int = WORKERS,
    ) -> None:
        self._bus = bus
        self._claims = claims
        self._impersonate = impersonate
        self._messages = messages
        self._denials = denials
        self.workers = KeyedWorkers(workers)
        self._table: dict[tuple[str, str], tuple[Shape, Work]] = {
            ("node", names.INSERT): (Shape.OBJECT, nodes.insert),
            ("node", names.UPDATE): (Shape.DONE, nodes.update),
            ("node", names.QUERY): (Shape.QUERY, nodes.query),
            ("nodepatch", names.PATCH): (Shape.VERSIONED, nodes.patch),
            ("nodestatus", names.INSERT): (Shape.DONE, nodes.insert_status),
            ("nodestatus", names.UPDATE): (Shape.DONE, nodes.update_status),
            ("pod", names.INSERT): (Shape.OBJECT, pods.insert),
            ("pod", names.DELETE): (Shape.DONE, pods.delete),
            ("podpatch", names.PATCH): (Shape.VERSIONED, pods.patch),
            ("podstatus", names.UPDATE): (Shape.DONE, pods.status),
            ("serviceaccounttoken", names.QUERY): (Shape.TOKEN, queries.token),
            ("certificatesigningrequest", names.INSERT): (Shape.OBJECT, queries.insert_csr),
            ("certificatesigningrequest", names.QUERY): (Shape.QUERY, queries.query_csr),
        }
        for operation in (names.INSERT, names.UPDATE, names.QUERY):
            self._table["lease", operation] = (Shape.OBJECT, nodes.lease)
        for operation in (names.INSERT, names.UPDATE, names.PATCH):
            self._table["event", operation] = (Shape.SILENT, events.write)
        for kind in KINDS:
            self._table[kind, names.QUERY] = (Shape.QUERY, queries.query)

    def submit(self, message: Message) -> Deferred[None]:
        """Take a message; fires when there is room for the next.

        :raises RouteError: its resource cannot be understood.
        """
        request = parse(message, self._claims.of, impersonate=self._impersonate)
        kind = _SAME_OBJECT.get(request.type, request.type)
        return self.workers.submit(
            (kind, request.namespace, request.name),
            lambda: self._work(request),
            f"{request.operation} {message.route.resource}",
        )

    async def _work(self, request: Request) -> None:
        shape, work = self._table.get((request.type, request.operation), (Shape.QUERY, _unknown))
        if not request.name and request.type != "podstatus":
            work = _nameless
        try:
            answer = success(shape, await work(request))
        except Displaced as error:
            # No answer: the edge asks again where it is now, by the same id, and would take a
            # refusal from here for the last word.
            self._note(request, error)
            return
        except KubeError as error:
            self._note(request, error)
            answer = failure(shape, error)
        except (msgspec.DecodeError, RouteError, RecursionError) as error:
            text = f"unusable content: {type(error).__name__}"
            answer = failure(shape, refusal(400, "BadRequest", text))
        if answer is not None:
            await self._bus.send(names.CLOUDHUB, self._reply(request, answer))

    def _note(self, request: Request, error: KubeError) -> None:
        if error.code == 403:
            why = error.why if isinstance(error, Denied) else API_SERVER
            self._denials.deny(request.node, request.type, request.operation, why, str(error))
        else:
            self._log.info(
                "{operation} {resource} failed: {error}",
                operation=request.operation,
                resource=request.message.route.resource,
                error=error,
            )

    def _reply(self, request: Request, answer: Answer) -> Message:
        resource = request.message.route.resource
        if kind := _ANSWERED_AS.get(request.type):
            resource = build(request.node, request.namespace, kind, request.name)
        return self._messages.new(
            source=names.EDGECONTROLLER,
            group=names.GROUP_RESOURCE,
            operation=answer.operation,
            resource=resource,
            content=answer.content,
            resource_version=answer.resource_version,
            parent_id=request.message.header.msg_id,
        )


async def _unknown(request: Request) -> None:
    raise refusal(
        405,
        "MethodNotAllowed",
        f"EdgeController does not know {request.operation} of {request.type}",
    )


async def _nameless(request: Request) -> None:
    raise refusal(400, "BadRequest", f"{request.operation} of {request.type} needs a name")
