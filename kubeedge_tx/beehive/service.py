"""Services: a module fed from its inbox, and children started in order."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kubeedge_tx.beehive.bus import INBOX_SIZE, MessageBus
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet

BATCH: Final = 64
"""Messages one module handles before the reactor gets a turn."""


class ModuleService(Service):
    """Feed a module from its inbox while running.

    A module may have ``async def started()``, awaited before its first message, and
    ``async def stopped()``, awaited after its last; and ``inbox_size``, how many messages may
    wait for it before their senders wait too.

    ``failures`` counts messages that the module could not handle.
    """

    _log = Logger()

    def __init__(self, module: IModule, bus: MessageBus, messages: MessageFactory) -> None:
        self._module = module
        self._bus = bus
        self._messages = messages
        size = getattr(module, "inbox_size", INBOX_SIZE)
        self._inbox = bus.register(module.name, module.group, size)
        self._tasks = TaskSet()
        self.setName(module.name)
        self._handling = False
        self._last: Deferred[None] | None = None
        self.failures = 0
        self.handled = 0

    def startService(self) -> Deferred[None]:
        super().startService()
        return Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self._hook("started")
        self._tasks.spawn(f"module {self.name}", self._run())

    async def _stop(self) -> None:
        if self._handling:
            self._last = Deferred()
            await self._last  # what is inside may finish and be written
        await self._tasks.cancel_all()
        await self._hook("stopped")

    async def _hook(self, which: str) -> None:
        hook = getattr(self._module, which, None)
        if hook is not None:
            work: Coroutine[Deferred[Any], Any, object] = hook()
            await work

    async def _run(self) -> None:
        while True:
            batch = await self._inbox.take(BATCH)
            self._handling = True
            for message in batch:
                await self._handle(message)
            self._handling = False
            if self._last is not None:
                self._last.callback(None)
                return

    async def _handle(self, message: Message) -> None:
        try:
            self.handled += 1
            await self._module.handle(message)
        except Exception as error:  # a bad message must not end the module
            if isinstance(error, CancelledError) and not self.running:
                raise  # it is we who are being stopped
            self.failures += 1
            self._log.failure(
                "{module} could not handle {operation} {resource} ({msg_id})",
                module=self.name,
                operation=message.route.operation,
                resource=message.route.resource,
                msg_id=message.header.msg_id,
            )
            if message.header.sync:
                self._bus.respond(
                    self._messages.error(
                        message, str(self.name), f"{type(error).__name__}: {error}"
                    )
                )


class OrderedService(Service):
    """Start children one after another and stop them in reverse, waiting for each.

    ``MultiService`` starts and stops its children all at once and drops the Deferreds
    that ``startService`` returns, so a failed start would go unnoticed. A subclass whose
    children are built from what earlier ones found out overrides :meth:`start_children`.

    :param stop_timeout: seconds each child has to stop before the next one is told to.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, children: Sequence[Any] = (), stop_timeout: float = 10.0
    ) -> None:
        self._clock = clock
        self._children = children
        self._stop_timeout = stop_timeout
        self._started: list[Any] = []
        self._starting: Deferred[None] | None = None
        self._also_stopping: list[Deferred[None]] | None = None

    def startService(self) -> Deferred[None]:
        """Fires when all children run; if one fails, stops the others and fails too."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting

    def stopService(self) -> Deferred[None]:
        """Fires when all children had their chance to stop; never fails."""
        super().stopService()
        if self._starting is not None and self._also_stopping is None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def start_child(self, child: Any) -> None:
        """Start one more child and wait until it runs."""
        self._started.append(child)
        await maybeDeferred(child.startService)

    async def start_children(self) -> None:
        """Start the children given, in order."""
        for child in self._children:
            await self.start_child(child)

    async def _start(self) -> None:
        try:
            await self.start_children()
        except Exception:
            await self._stop()
            raise

    async def _stop(self) -> None:
        if self._also_stopping is not None:  # a start that fails, or is cancelled, unwinds
            done: Deferred[None] = Deferred()
            self._also_stopping.append(done)
            await done
            return
        self._also_stopping = []
        await self._stop_children()
        waiting, self._also_stopping = self._also_stopping, None
        for done in waiting:
            done.callback(None)

    async def _stop_children(self) -> None:
        while self._started:
            child = self._started.pop()
            stopping = maybeDeferred(child.stopService)
            try:
                await stopping.addTimeout(self._stop_timeout, self._clock)
            except Exception:  # noqa: BLE001 - the others must still be stopped
                self._log.failure("{child} did not stop cleanly", child=_name(child))


def _name(child: Any) -> str:
    return getattr(child, "name", None) or type(child).__name__
