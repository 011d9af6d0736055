"""DeviceTwin: what a device should be and what it is, on this node and towards the cloud.

Source: KubeEdge ``edge/pkg/devicetwin``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.devicetwin import topics
from kubeedge_tx.edge.devicetwin.cloud import DEVICE_TYPE, MODEL_TYPE, CloudWishes
from kubeedge_tx.edge.devicetwin.keeper import Keeper
from kubeedge_tx.edge.devicetwin.payloads import (
    BadPayload,
    read_attributes,
    read_detail,
    read_membership,
    read_twins,
)
from kubeedge_tx.edge.devicetwin.reports import Reports
from kubeedge_tx.edge.devicetwin.requests import Requests
from kubeedge_tx.errors import StoreError
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.outbox import Outbox

BUS_SOURCE: Final = "bus"
CLOUD_SOURCES: Final = frozenset({names.DEVICECONTROLLER, "edgemgr"})
META_SOURCES: Final = frozenset({names.GROUP_META, names.METAMANAGER})
"""Who may say what. Source: KubeEdge ``edge/pkg/devicetwin/process.go``."""
_MAKE_LATE: Final = META_SOURCES | {names.EDGEHUB_SOURCE}
"""Whose messages are followed by a look at all objects if the disk was full."""

MOST_AT_ONCE: Final = 1024
"""Messages whose commits may be under way before the next has to wait."""

CATCH_UP_SECONDS: Final = 5.0
"""Until objects that could not be taken in, as the disk was full, are looked at again."""


@implementer(IModule)
class DeviceTwin:
    """Take messages of EventBus, of the cloud and of MetaManager; answer on MQTT topics.

    Messages are taken in in their order and share commits: what follows from one is told as
    soon as it is on disk, while later ones are worked on.

    ``refused`` counts messages of the cloud that made no sense.

    :param clock: for another try when the disk was full.
    :param objects: MetaManager's store, loaded.
    :param outbox: loaded.
    :param node: this node's name.
    :param now_ms: wall clock in milliseconds.
    :param new_id: a fresh id for an event.
    """

    name = names.TWIN
    group = names.GROUP_TWIN
    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        clock: IReactorTime,
        *,
        database: Database,
        objects: MetaStore,
        outbox: Outbox,
        node: str,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._clock = clock
        self._objects = objects
        self._reports = Reports(messages, outbox)
        self._keeper = Keeper(
            bus,
            messages,
            database=database,
            reports=self._reports,
            node=node,
            now_ms=now_ms,
            new_id=new_id,
        )
        self._requests = Requests(self._keeper)
        self._cloud = CloudWishes(self._keeper, objects)
        self._tasks = TaskSet()
        self._room = DeferredSemaphore(MOST_AT_ONCE)
        self._is_late = False
        self._is_catching_up = False
        self.refused = 0

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self._keeper.devices)

    async def started(self) -> None:
        """Read the store, and catch up with objects stored since."""
        await self._keeper.load()
        # In the background: what it publishes waits for EventBus, which starts after us.
        self._tasks.spawn("catching up with device objects", self._catch_up())

    async def stopped(self) -> None:
        """Let go of what is under way: who was not answered will ask again."""
        await self._tasks.cancel_all()

    async def handle(self, message: Message) -> None:
        """Take one message; its consequences are told later."""
        route = message.route
        if route.source == BUS_SOURCE:
            await self._spawn(message, self._asked(message))
        elif message.header.parent_id:
            if route.operation == names.RESPONSE:
                await self._spawn(message, self._keeper.confirmed(message.header.parent_id))
        elif route.source == names.EDGEHUB_SOURCE:
            if route.operation == names.CONNECT and message.read() == names.CONNECTED:
                await self._spawn(message, self._connected())
        elif route.source in META_SOURCES:
            await self._object(message)
        elif route.source in CLOUD_SOURCES:
            await self._told(message)
        else:
            self._refuse(message, f"nothing is taken from {route.source!r}")

    async def _connected(self) -> None:
        keeper = self._keeper
        await self._reports.ask_for_members(keeper.node, keeper.new_id(), keeper.now_ms())
        await self._cloud.catch_up()

    def _catch_up_later(self) -> None:
        """MetaManager has the objects, and acknowledged them: nobody sends them again."""
        self._is_late = True
        if not self._is_catching_up:
            self._tasks.spawn("catching up with device objects", self._catch_up(CATCH_UP_SECONDS))

    async def _catch_up(self, pause: float = 0.0) -> None:
        """Take in what is in the store, however long the disk is full."""
        self._is_catching_up = True
        try:
            while True:
                if pause:
                    await deferLater(self._clock, pause)
                self._is_late = False  # what fails from now on is for another turn
                try:
                    await self._cloud.catch_up()
                except StoreError as error:
                    self._is_late = True
                    if not pause:
                        self._log.error("device objects are not taken in: {why}", why=str(error))
                if not self._is_late:
                    return
                pause = CATCH_UP_SECONDS
        finally:
            self._is_catching_up = False

    async def _spawn(self, message: Message, work: Coroutine[Deferred[Any], Any, object]) -> None:
        try:
            await self._room.acquire()
        except BaseException:
            work.close()
            raise
        what = f"{message.route.operation} {message.route.resource}"
        self._tasks.spawn(what, self._run(message, work))

    async def _run(self, message: Message, work: Coroutine[Deferred[Any], Any, object]) -> None:
        try:
            await work
        except StoreError as error:
            self._log.error(
                "{operation} {resource} is not stored: {why}",
                operation=message.route.operation,
                resource=message.route.resource,
                why=str(error),
            )
            self._answer_error(message, str(error))
            if message.route.source in _MAKE_LATE:
                self._catch_up_later()
        except Exception as error:
            if not isinstance(error, CancelledError):
                self._answer_error(message, f"{type(error).__name__} in twin")
            raise
        else:
            if message.header.sync:
                self._bus.respond(self._messages.reply(message))
        finally:
            self._room.release()

    def _answer_error(self, message: Message, text: str) -> None:
        if message.header.sync:
            self._bus.respond(self._messages.error(message, names.TWIN, text))

    # From apps

    async def _asked(self, message: Message) -> None:
        try:
            topic = base64.urlsafe_b64decode(message.route.resource).decode()
            payload = message.read()
        except (binascii.Error, ValueError, msgspec.DecodeError):
            self._refuse(message, "its resource is no topic")
            return
        request = topics.read(topic)
        if request is not None and isinstance(payload, str):
            await self._requests.handle(request, payload)

    # From clouds

    async def _told(self, message: Message) -> None:
        resource, operation = message.route.resource, message.route.operation
        try:
            content = message.read()
            if "membership/detail" in resource:
                listed = read_detail(content)
                for info in listed:
                    await self._spawn(message, self._cloud.added(info))
                for info in self._cloud.missing(listed):
                    await self._spawn(message, self._cloud.removed(info))
            elif "membership" in resource:
                changes = read_membership(content)
                for info in changes.added:
                    await self._spawn(message, self._cloud.added(info))
                for info in changes.removed:
                    if self._cloud.has_object(info.id):
                        continue  # its own delete follows, unless this cloud is behind
                    await self._spawn(message, self._cloud.removed(info))
            elif resource.startswith("device/") and resource.endswith("/twin/cloud_updated"):
                device_id = resource.removeprefix("device/").removesuffix("/twin/cloud_updated")
                text = content if isinstance(content, str) else bytes(message.content).decode()
                request = read_twins(text, strict=False)
                await self._spawn(message, self._cloud.twins_changed(device_id, request))
            elif resource.startswith("device/") and "updated" in operation:
                device_id = resource.removeprefix("device/")
                event_id, asked = read_attributes(content)
                await self._spawn(
                    message, self._cloud.attributes_changed(device_id, event_id, asked)
                )
            else:
                self._refuse(message, "twin does not know what it is about")
        except BadPayload as error:
            self._refuse(message, error.reason)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._refuse(message, "its content is not JSON")

    async def _object(self, message: Message) -> None:
        levels = message.route.resource.split("/")
        if len(levels) != 3:
            self._refuse(message, "its resource is not <namespace>/<type>/<name>")
            return
        namespace, kind, name = levels
        identity = f"{namespace}/{name}"
        if kind == MODEL_TYPE:
            await self._spawn(message, self._cloud.model_changed(identity))
        elif kind != DEVICE_TYPE:
            self._refuse(message, "it is about neither a device nor a device model")
        elif message.route.operation == names.DELETE:
            await self._spawn(message, self._cloud.object_deleted(identity))
        else:
            await self._spawn(message, self._take_object(identity, message.read()))

    async def _take_object(self, identity: str, content: object) -> None:
        if isinstance(content, dict):
            await self._cloud.object_changed(identity, content)

    def _refuse(self, message: Message, why: str) -> None:
        self.refused += 1
        self._log.warn(
            "{operation} {resource} ({msg_id}) from {source}: {why}",
            operation=message.route.operation,
            resource=message.route.resource,
            msg_id=message.header.msg_id,
            source=message.route.source,
            why=why,
        )
