"""What edged asks for and reports."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import OK, Message, MessageFactory, raw
from kubeedge_tx.beehive.route import Resource
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.metamanager.remote import OBJECTS, TOKEN, Outcome, Remote
from kubeedge_tx.edge.metamanager.tokens import is_fresh, is_valid, token_key
from kubeedge_tx.errors import KubeEdgeError, StoreError
from kubeedge_tx.store.database import Change, Database
from kubeedge_tx.store.meta import Meta, MetaStore
from kubeedge_tx.store.outbox import BULK, CONTROL, STATE, Outbox

_ASKED_OF_THE_CLOUD: Final = frozenset(
    {
        (names.INSERT, "node"),
        (names.INSERT, "pod"),
        (names.INSERT, "lease"),
        (names.UPDATE, "lease"),
        (names.QUERY, "lease"),
        (names.INSERT, "certificatesigningrequest"),
        (names.QUERY, "certificatesigningrequest"),
    }
)
_PATCHES: Final = {"podpatch": STATE, "nodepatch": CONTROL}


class Requests:
    """Serve edged: from the store where possible, from the cloud where needed.

    :param now_seconds: wall clock.
    """

    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        *,
        database: Database,
        store: MetaStore,
        outbox: Outbox,
        remote: Remote,
        tasks: TaskSet,
        now_seconds: Callable[[], float],
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._database = database
        self._store = store
        self._outbox = outbox
        self._remote = remote
        self._tasks = tasks
        self._now_seconds = now_seconds
        self._waiting: dict[tuple[str, str], list[Message]] = {}

    async def handle(self, message: Message, resource: Resource) -> None:
        """Answer one message of edged, now or later.

        :raises StoreError: what it reports is not on disk.
        """
        operation, kind = message.route.operation, resource.kind
        if kind == "event" and operation in (names.INSERT, names.UPDATE, names.PATCH):
            await self._report(message, key=None, priority=BULK, confirm=False)
        elif operation == names.PATCH and kind in _PATCHES:
            key = message.route.resource
            row = self._store.putting(key, kind, message.content)
            try:
                await self._report(message, row, key=key, priority=_PATCHES[kind], confirm=True)
            except StoreError:
                if kind == "nodepatch" and self._remote.connected:
                    # It says that the disk is full, so it must not wait until it is not.
                    self._spawn(message, self._outcome(message))
                raise
        elif operation == names.DELETE and kind == "pod":
            key = f"delete/{resource}/{_precondition(message)}"
            await self._report(message, key=key, priority=STATE, confirm=True)
        elif operation == names.UPDATE and kind == "node":
            key = f"update/{resource}"
            await self._report(message, key=key, priority=CONTROL, confirm=True)
        elif (operation, kind) in _ASKED_OF_THE_CLOUD:
            self._spawn(message, self._ask(message))
        elif operation == names.QUERY:
            self._query(message, resource)
        else:
            self._refuse(message, f"metamanager has no {operation} for {resource}")

    async def _report(
        self, message: Message, *rows: Change, key: str | None, priority: int, confirm: bool
    ) -> None:
        route = message.route
        upward = self._messages.new(
            source=route.source,
            group=route.group,
            operation=route.operation,
            resource=route.resource,
            content=message.content,
        )
        entry = self._outbox.putting(upward, key=key, priority=priority, confirm=confirm)
        await self._database.commit(*rows, entry)
        self._answer(message, OK)

    def _query(self, message: Message, resource: Resource) -> None:
        if resource.kind == TOKEN:
            self._query_token(message, resource)
        elif not resource.name:
            rows = self._store.list(resource.kind)
            if resource.kind != "pod":
                rows = [row for row in rows if row.key.startswith(f"{resource.namespace}/")]
            self._answer(message, _array(rows))
        elif row := self._store.get(str(resource)):
            self._answer(message, msgspec.Raw(row.value))
        elif resource.kind in OBJECTS:
            self._ask_once(message)
        else:
            self._refuse(message, f"{resource} not found in the edge's store")

    def _query_token(self, message: Message, resource: Resource) -> None:
        try:
            request = message.read()
        except (msgspec.DecodeError, RecursionError):
            request = None
        if not isinstance(request, dict) or not resource.name:
            self._refuse(message, f"{resource} needs a TokenRequest and the account's name")
            return
        key = token_key(resource.name, resource.namespace, request)
        row, now = self._store.get(key), self._now_seconds()
        token = row.read() if row is not None else {}
        if row is not None and is_fresh(token, now):
            self._answer(message, msgspec.Raw(row.value))
            return
        spare = Outcome(msgspec.Raw(row.value)) if row is not None else None
        self._spawn(message, self._ask_for_token(message, spare, is_valid(token, now)))

    def _ask_once(self, message: Message) -> None:
        """Ask the cloud, once for all who want the same object at the moment."""
        key = (message.route.operation, message.route.resource)
        waiting = self._waiting.setdefault(key, [])
        waiting.append(message)
        if len(waiting) == 1:
            self._spawn(message, self._ask_for_all(key, message))

    async def _ask_for_all(self, key: tuple[str, str], message: Message) -> None:
        try:
            outcome = await self._outcome(message)
        finally:
            waiting = self._waiting.pop(key)
        for each in waiting:
            self._tell(each, outcome)

    async def _ask(self, message: Message) -> None:
        self._tell(message, await self._outcome(message))

    async def _ask_for_token(self, message: Message, spare: Outcome | None, is_valid: bool) -> None:
        """Ask for a token; if the cloud is away, the last one must do.

        Even if it has ended: without one the pod would not start after a reboot, and with this
        one it can do everything that does not need the API server, which is away as well.
        """
        outcome = await self._outcome(message)
        if spare is not None and (outcome.is_away or (outcome.error and is_valid)):
            outcome = spare
        self._tell(message, outcome)

    async def _outcome(self, message: Message) -> Outcome:
        try:
            return await self._remote.ask(message)
        except CancelledError:
            raise
        except KubeEdgeError as error:
            if isinstance(error, StoreError):
                self._log.warn(
                    "the answer to {operation} {resource} is not stored: {why}",
                    operation=message.route.operation,
                    resource=message.route.resource,
                    why=str(error),
                )
            return Outcome(error=str(error), is_away=not isinstance(error, StoreError))

    def _spawn(self, message: Message, work: Coroutine[Any, Any, object]) -> None:
        self._tasks.spawn(f"{message.route.operation} {message.route.resource}", work)

    def _tell(self, message: Message, outcome: Outcome) -> None:
        if outcome.error:
            self._refuse(message, outcome.error)
        else:
            self._answer(message, outcome.content)

    def _answer(self, message: Message, content: msgspec.Raw) -> None:
        if message.header.sync:
            self._bus.respond(self._messages.reply(message, content))

    def _refuse(self, message: Message, text: str) -> None:
        if message.header.sync:
            self._bus.respond(self._messages.error(message, names.METAMANAGER, text))
        else:
            self._log.warn(
                "{operation} {resource} ({msg_id}) from edged: {why}",
                operation=message.route.operation,
                resource=message.route.resource,
                msg_id=message.header.msg_id,
                why=text,
            )


class _Precondition(msgspec.Struct, frozen=True):
    uid: str | None = None


class _DeleteOptions(msgspec.Struct, frozen=True):
    preconditions: _Precondition | None = None


def _precondition(message: Message) -> str:
    """The uid that DeleteOptions insist on; empty if they do not, or are none."""
    try:
        options = msgspec.json.decode(message.content, type=_DeleteOptions | None)
    except (msgspec.DecodeError, RecursionError):
        return ""
    found = options.preconditions if options is not None else None
    return (found.uid or "") if found is not None else ""


def _array(rows: list[Meta]) -> msgspec.Raw:
    return raw([msgspec.Raw(row.value) for row in rows])
