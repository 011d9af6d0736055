"""MetaManager: the edge's copy of what the cluster wants of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.route import Resource, parse
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.beehive.workers import KeyedWorkers
from kubeedge_tx.edge.metamanager.answers import read_answer
from kubeedge_tx.edge.metamanager.remote import TOKEN, Remote
from kubeedge_tx.edge.metamanager.requests import Requests
from kubeedge_tx.edge.metamanager.tokens import bound_to
from kubeedge_tx.errors import RouteError, StoreError
from kubeedge_tx.store.database import Change, Database
from kubeedge_tx.store.meta import Identity, MetaStore, identify
from kubeedge_tx.store.outbox import Outbox

UPDATERS: Final = frozenset(
    {
        names.EDGECONTROLLER,
        names.DYNAMICCONTROLLER,
        names.DEVICECONTROLLER,
        names.POLICYCONTROLLER,
    }
)
"""Who may send updates. Source: KubeEdge ``edge/pkg/metamanager/process.go``."""

_DEVICE_TYPES: Final = frozenset({"device", "devicemodel"})
_CHANGES: Final = frozenset({names.INSERT, names.UPDATE, names.RESPONSE})
_OBJECT_OF: Final = {"podpatch": "pod", "podstatus": "pod", "nodepatch": "node"}
"""Types that are about an object of another type, in whose turn they are."""

WORKERS: Final = 64
"""Objects worked on at once: twice the window that EdgeHub announces."""


@implementer(IModule)
class MetaManager:
    """Store, acknowledge, pass on: in that order.

    Answers edged from the store, asks the cloud where the store does not know, and keeps
    in the outbox what the cloud must hear.

    ``repeats`` counts pushes that were known already, ``refused`` those that made no sense.

    :param now_ms: wall clock, for the life of tokens.
    :param remote_query_timeout: seconds to wait for an answer of the cloud.
    """

    name = names.METAMANAGER
    group = names.GROUP_META
    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        *,
        database: Database,
        store: MetaStore,
        outbox: Outbox,
        now_ms: Callable[[], int],
        remote_query_timeout: float = 60.0,
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._database = database
        self._store = store
        self._outbox = outbox
        self._tasks = TaskSet()
        self._workers = KeyedWorkers(WORKERS, backlog=256)
        self._remote = Remote(bus, messages, store, remote_query_timeout)
        self._requests = Requests(
            bus,
            messages,
            database=database,
            store=store,
            outbox=outbox,
            remote=self._remote,
            tasks=self._tasks,
            now_seconds=lambda: now_ms() / 1000,
        )
        self.repeats = 0
        self.refused = 0

    def reconfigure(self, *, remote_query_timeout: float) -> None:
        """Wait from now on so many seconds for an answer of the cloud."""
        self._remote.timeout = remote_query_timeout

    @property
    def connected(self) -> bool:
        """Whether the cloud can be asked."""
        return self._remote.connected

    async def started(self) -> None:
        """Read the store; the database is open."""
        await self._store.load()
        await self._outbox.load()

    async def stopped(self) -> None:
        """Let go of what is under way: what is not acknowledged will be sent again."""
        await self._workers.cancel_all()
        await self._tasks.cancel_all()

    async def handle(self, message: Message) -> None:
        """Take one message of the cloud, of edged, or of EdgeHub about the connection.

        Messages about one object are worked on in order, those about others meanwhile, so
        that they share commits.
        """
        route = message.route
        if route.operation == names.CONNECT and route.source == names.EDGEHUB_SOURCE:
            self._remote.connected = message.read() == names.CONNECTED
            return
        try:
            resource = parse(route.resource)
        except RouteError as error:
            await self._refuse(message, str(error))
            return
        kind = _OBJECT_OF.get(resource.kind, resource.kind)
        await self._workers.submit(
            (resource.namespace, kind, resource.name),
            lambda: self._work(message, resource),
            f"{route.operation} {route.resource}",
        )

    async def _work(self, message: Message, resource: Resource) -> None:
        """Do what the message asks for.

        A change that does not reach the disk is answered with an error instead of an
        acknowledgement, and sent again by the cloud; that is the whole of the retry.
        """
        try:
            if _is_from_edged(message):
                await self._requests.handle(message, resource)
            elif message.header.parent_id:
                await self._answered(message, resource)
            elif message.route.operation == names.DELETE:
                await self._deleted(message, resource)
            elif message.route.operation in _CHANGES:
                await self._changed(message, resource)
            else:
                await self._refuse(message, f"metamanager has no {message.route.operation!r}")
        except StoreError as error:
            await self._refuse(message, str(error))
        except Exception as error:
            if message.header.sync and not isinstance(error, CancelledError):
                text = f"{type(error).__name__} in metamanager"
                self._bus.respond(self._messages.error(message, names.METAMANAGER, text))
            raise

    async def _changed(self, message: Message, resource: Resource) -> None:
        operation, source = message.route.operation, message.route.source
        if operation == names.UPDATE and source not in UPDATERS:
            await self._refuse(message, f"no update is taken from {source!r}")
            return
        if not bytes(message.content).startswith(b"{"):
            await self._refuse(message, "the content is not an object")
            return
        new = identify(message.content)
        if self._store.is_outdated(str(resource), new):
            # A repeat, or what a cloud that is behind sends.
            self.repeats += 1
            await self._acknowledge(message)
            return
        try:
            change = self._store.putting(str(resource), resource.kind, message.content)
        except UnicodeDecodeError:
            await self._refuse(message, "the content is not UTF-8")
            return
        await self._database.commit(change)
        await self._acknowledge(message)
        if not (operation == names.UPDATE and resource.kind == "node"):
            await self._pass_on(message, resource)

    async def _deleted(self, message: Message, resource: Resource) -> None:
        wanted = identify(message.content)
        stored = self._store.get(str(resource))
        known = stored.identity if stored is not None else Identity()
        is_it = wanted.uid in ("", known.uid)
        last = wanted.state
        if is_it and not last.is_after(known.state):
            last = known.state
        changes = []
        if last.version and not self._store.is_buried(str(resource), last):
            changes.append(self._store.burying(str(resource), last))
        if known.uid and not is_it:
            # The object was deleted and made again; the new one stays.
            self.repeats += 1
            if changes:
                await self._database.commit(*changes)
            await self._acknowledge(message)
            return
        if stored is not None:
            changes += self._deleting(resource, known.uid)
        if changes:
            await self._database.commit(*changes)
        await self._acknowledge(message)
        await self._pass_on(message, resource)

    def _deleting(self, resource: Resource, uid: str) -> list[Change]:
        changes = [self._store.deleting(str(resource))]
        if resource.kind == "pod":
            patch = Resource(resource.namespace, "podpatch", resource.name)
            changes.append(self._store.deleting(str(patch)))
            if uid:
                mark = bound_to(uid)
                changes += [
                    self._store.deleting(row.key)
                    for row in self._store.list(TOKEN)
                    if mark in row.key
                ]
        return changes

    async def _acknowledge(self, message: Message) -> None:
        route = message.route
        if route.operation == names.RESPONSE:
            return  # an answer to nothing: kept, but the cloud waits for no word of ours
        if route.source == names.DEVICECONTROLLER and route.operation != names.UPDATE:
            message = _relabelled(message)
        await self._bus.send(names.EDGEHUB, self._messages.reply(message))

    async def _pass_on(self, message: Message, resource: Resource) -> None:
        if message.route.source == names.POLICYCONTROLLER:
            return
        if message.route.source == names.DEVICECONTROLLER or resource.kind in _DEVICE_TYPES:
            if self._bus.has(names.TWIN):
                await self._bus.send(names.TWIN, _relabelled(message))
        elif self._bus.has(names.EDGED):
            await self._bus.send(names.EDGED, message)

    async def _answered(self, message: Message, resource: Resource) -> None:
        """Take an answer that nobody on the bus waits for."""
        message_id = message.header.parent_id
        if not self._outbox.has(message_id):
            if not await self._remote.take_late(message):
                self._log.debug(
                    "{operation} {resource} answers nothing we know ({parent_id})",
                    operation=message.route.operation,
                    resource=message.route.resource,
                    parent_id=message_id,
                )
            return
        answer = read_answer(message)
        if answer.error and not answer.final:
            self._log.warn(
                "the cloud could not take {resource} ({parent_id}), it is sent again: {why}",
                resource=message.route.resource,
                parent_id=message_id,
                why=answer.error,
            )
            self._outbox.decline(message_id)
            return
        changes = [self._outbox.removing([message_id])]
        if answer.error:
            self._log.warn(
                "the cloud does not take {resource}, it is given up: {why}",
                resource=message.route.resource,
                why=answer.error,
            )
        elif resource.kind == "nodepatch" and answer.object is not None:
            node = self._remote.storing_node(resource.name, answer.object)
            changes += [node] if node is not None else []
        await self._database.commit(*changes)

    async def _refuse(self, message: Message, text: str) -> None:
        self.refused += 1
        self._log.warn(
            "{operation} {resource} ({msg_id}) from {source}: {why}",
            operation=message.route.operation,
            resource=message.route.resource,
            msg_id=message.header.msg_id,
            source=message.route.source,
            why=text,
        )
        error = self._messages.error(message, names.METAMANAGER, text)
        if _is_from_edged(message):
            if message.header.sync:
                self._bus.respond(error)
        elif not message.header.parent_id and message.route.operation != names.ERROR:
            # Never an error to an error: two peers would answer each other for ever.
            await self._bus.send(names.EDGEHUB, error)


def _is_from_edged(message: Message) -> bool:
    return message.route.source == names.EDGED and not message.header.parent_id


def _relabelled(message: Message) -> Message:
    """Label an object of the device controller as upstream does for its twin module."""
    route = msgspec.structs.replace(message.route, source=names.GROUP_META, group=names.GROUP_TWIN)
    return msgspec.structs.replace(message, route=route)
