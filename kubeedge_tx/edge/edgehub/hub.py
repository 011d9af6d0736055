"""EdgeHub: the one connection to the cloud, and who of this process gets what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api.holdings import Holding, digest
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edgehub.connector import (
    LASTED_SECONDS,
    Backoff,
    Credentials,
    Dialer,
    EdgeHubSettings,
    Randomness,
    keep_connected,
)
from kubeedge_tx.edge.edgehub.outboxpump import Pump
from kubeedge_tx.edge.edgehub.routing import destination
from kubeedge_tx.errors import StoreError
from kubeedge_tx.observe.throttle import TokenBucket
from kubeedge_tx.store.outbox import BULK, Outbox
from kubeedge_tx.viaduct.channel import FAILED, Channel
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.traffic import Traffic

EXPIRE_INTERVAL: Final = 600.0
"""Seconds between two looks for messages that have become too old."""
CLOSE_TIMEOUT: Final = 3.0
"""Seconds a peer has to answer our closing handshake when the process stops."""
STOPPING: Final = "4503 "
"""What a reason begins with when our cloud stops, and sends us to another one."""
REPLACED: Final = "4409 "
"""What a reason begins with when our cloud gave our place to a newer connection."""

_TOLD: Final = (names.GROUP_TWIN, names.GROUP_META, names.GROUP_BUS, names.GROUP_EDGED)
"""Groups that hear of the connection."""

Dial = Callable[[IChannelUser], Awaitable[Channel]]


@implementer(IModule, IChannelUser)
class EdgeHub:
    """Keep connected, send for the modules, hand out what comes.

    What a module sends here goes, by what it is: answers at once, past every queue;
    synchronous questions when the channel has room, or back as an error without a
    connection; anything else into the outbox.

    ``connects`` counts connections, ``dropped`` messages nobody here could take.

    :param credentials: awaited before each dial, with the host name to be called.
    :param random: for the pauses between dials.
    :param dial: opens a channel for this hub; by default a :class:`Dialer`.
    :param holdings: what the edge has, so that the cloud can find out what it has lost.
    :param on_date: told what time it is at the cloud, as text, on each connection that says it.
    """

    name = names.EDGEHUB
    group = names.GROUP_HUB
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        bus: IMessageBus,
        messages: MessageFactory,
        outbox: Outbox,
        *,
        settings: EdgeHubSettings,
        credentials: Credentials,
        random: Randomness,
        dial: Dial | None = None,
        holdings: Callable[[], Iterable[Holding]] | None = None,
        on_date: Callable[[str], object] = lambda _date: None,
    ) -> None:
        self._reactor = reactor
        self._bus = bus
        self._messages = messages
        self._outbox = outbox
        self._settings = settings
        self._random = random
        self._holdings = holdings
        self._on_date = on_date
        self.traffic = Traffic()
        self._wait: Callable[[], float] = lambda: 0.0
        self._dialer: Dialer | None = None
        if dial is None:
            self._dialer = Dialer(reactor, messages, settings, credentials, self.traffic, random)
            dial, self._wait = self._dialer.dial, self._dialer.wait
        self._dial = dial
        self._backoff = Backoff(
            random,
            first=settings.first_delay,
            limit=settings.longest_delay,
            unreachable_limit=settings.unreachable_delay,
        )
        self._bucket = TokenBucket(
            rate=settings.message_qps, burst=settings.message_burst, now=reactor.seconds()
        )
        self._loop = TaskSet()
        self._connection = TaskSet()
        self._channel: Channel | None = None
        self._pump: Pump | None = None
        self._over: Deferred[bool] = Deferred()
        self._gone: Deferred[None] | None = None
        self._asked: dict[str, Message] = {}
        self._on_purpose = False
        self._earlier_resends = 0
        self._connected_at = 0.0
        self.connects = 0
        self.dropped = 0

    def reconfigure(self, settings: EdgeHubSettings) -> None:
        """Take over servers, pauses and rates; a connection that is open stays.

        :raises ConfigError: a server's address is none; nothing has changed.
        """
        if self._dialer is not None and settings != self._settings:
            self._dialer.reconfigure(settings)
        self._settings = settings
        self._backoff.limit = settings.longest_delay
        self._bucket.limit(
            rate=settings.message_qps, burst=settings.message_burst, now=self._reactor.seconds()
        )

    @property
    def servers(self) -> tuple[str, ...]:
        """Whom it dials, in turn."""
        return self._settings.servers

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._channel is not None

    @property
    def resends(self) -> int:
        """Messages sent again because the cloud did not answer them."""
        return self._earlier_resends + (self._pump.resends if self._pump is not None else 0)

    async def started(self) -> None:
        """Begin to dial; a cloud that is away keeps nobody from starting."""
        self._outbox.on_change(self._wake)
        self._outbox.on_declined(self._declined)
        self._loop.spawn(
            "connection to the cloud",
            keep_connected(self._connect, self._backoff, self._reactor, self._wait),
        )
        self._loop.spawn("age of the outbox", self._expire())

    async def stopped(self) -> None:
        """Stop dialling, say goodbye to the cloud."""
        await self._loop.cancel_all()
        if self._channel is not None:
            gone = self._gone = Deferred()
            gone.addTimeout(CLOSE_TIMEOUT, self._reactor, onTimeoutCancel=lambda *_: None)
            self._channel.close(1000, "the edge is stopping")
            await gone
        await self._connection.cancel_all()
        await self._loop.cancel_all()

    def reconnect(self) -> None:
        """Close the connection and dial again at once: there is a new certificate."""
        if self._channel is not None:
            self._on_purpose = True
            self._channel.close(1000, "reconnecting with a new certificate")

    async def handle(self, message: Message) -> None:
        """Send one message of a module.

        :raises StoreError: it cannot be kept until the cloud takes it.
        """
        if message.header.parent_id:
            # An acknowledgement. Without a connection the cloud asks again by itself.
            if self._channel is not None and not _is_superfluous(message, self._channel):
                self._channel.send(_unsynced(message))
        elif message.header.sync:
            self._ask(message)
        else:
            await self._outbox.put(message, key=None, priority=BULK, confirm=False)

    # IChannelUser

    def opened(self, channel: Channel) -> None:
        self._channel = channel
        self.connects += 1
        self._connected_at = self._reactor.seconds()
        self._log.info("connected to the cloud at {peer}", peer=channel.peer)
        if channel.date:
            self._on_date(channel.date)
        self._pump = Pump(self._reactor, channel, self._outbox, self._bucket, self._random)
        self._connection.spawn("keepalive", self._keep_alive(channel))
        self._connection.spawn("sending to the cloud", self._send(self._pump, channel))
        if channel.takes_digest:
            self._compare(channel, full=False)
        self._tell(names.CONNECTED)

    def received(self, message: Message) -> Deferred[None]:
        if message.route.operation == names.DIGEST and self._channel is not None:
            self._compare(self._channel, full=True)
            return succeed(None)
        where = destination(message)
        if where is None:
            return self._drop(message, "from a group or source that nobody here knows")
        if where.answer and not self._outbox.has(message.header.parent_id):
            self._asked.pop(message.header.parent_id, None)
            if self._bus.respond(message):
                return succeed(None)
        if not where.module:
            return self._drop(message, "answers nothing that was asked")
        if not self._bus.has(where.module):
            return self._drop(message, f"is for {where.module}, which this edge does not have")
        return self._bus.send(where.module, message)

    def writable(self) -> None:
        self._wake()

    def closed(self, reason: str) -> None:
        if self._channel is None:
            return  # it never opened; whoever dialled hears why
        self._log.warn("the connection to the cloud is gone: {why}", why=reason)
        if reason.startswith(REPLACED):
            self._log.warn(
                "another edge has connected as {node}: if two machines use this name, stop one "
                "of them and give it another (modules.edged.hostnameOverride)",
                node=self._settings.node_name,
            )
            self._backoff.displaced()
        self._earlier_resends = self.resends
        self._channel = self._pump = None
        on_purpose, self._on_purpose = self._on_purpose, False
        if reason.startswith(STOPPING) and len(self._settings.servers) > 1:
            # It lets its edges go one after another: no need to spread them once more. Only
            # who has been there a while is believed, or two clouds could toss us to and fro.
            on_purpose = self._reactor.seconds() - self._connected_at >= LASTED_SECONDS
        ending = Deferred.fromCoroutine(self._connection.cancel_all())
        ending.addErrback(lambda failure: self._log.failure("a task did not end", failure))
        asked, self._asked = self._asked, {}
        for message in asked.values():
            self._refuse(message)
        self._tell(names.DISCONNECTED)
        self._over.callback(on_purpose)
        if self._gone is not None:
            self._gone.callback(None)

    def _compare(self, channel: Channel, *, full: bool) -> None:
        """Tell the cloud what we have: in a hash, or, when it asks, all of it."""
        if self._holdings is None:
            return
        channel.send(
            self._messages.new(
                source=names.EDGEHUB,
                group=names.GROUP_RESOURCE,
                operation=names.DIGEST,
                resource=names.DIGEST_RESOURCE,
                content=digest(self._holdings(), full=full),
            )
        )

    async def _send(self, pump: Pump, channel: Channel) -> None:
        try:
            await pump.run()
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - deaf and dumb is worse than a new connection
            self._log.failure("sending to the cloud broke; connecting anew")
            channel.close(FAILED, "internal error")

    async def _connect(self) -> Deferred[bool]:
        over = self._over = Deferred()
        await self._dial(self)
        return over

    def _ask(self, message: Message) -> None:
        if self._pump is None:
            self._refuse(message)
            return
        self._asked[message.header.msg_id] = message
        self._pump.ask(_unsynced(message))

    def _refuse(self, message: Message) -> None:
        self._bus.respond(self._messages.error(message, names.EDGEHUB, "not connected"))

    def _drop(self, message: Message, why: str) -> Deferred[None]:
        self.dropped += 1
        self._log.warn(
            "{operation} {resource} ({msg_id}) of group {group} from {source} {why}",
            operation=message.route.operation,
            resource=message.route.resource,
            msg_id=message.header.msg_id,
            group=message.route.group,
            source=message.route.source,
            why=why,
        )
        return succeed(None)

    def _tell(self, content: str) -> None:
        for group in _TOLD:
            event = self._messages.new(
                source=names.EDGEHUB_SOURCE,
                group=group,
                operation=names.CONNECT,
                resource=names.CONNECTION_RESOURCE,
                content=content,
            )
            # In the order of the calls, also when an inbox is full.
            self._loop.spawn(f"{content} for {group}", _wait(self._bus.send_to_group(group, event)))

    def _declined(self, message_id: str) -> None:
        if self._pump is not None:
            self._pump.declined(message_id)

    def _wake(self) -> None:
        if self._pump is not None:
            self._pump.wake()

    async def _keep_alive(self, channel: Channel) -> None:
        while True:
            channel.send(
                self._messages.new(
                    source=names.EDGEHUB,
                    group=names.GROUP_RESOURCE,
                    operation=names.KEEPALIVE,
                    resource="node",
                    content="ping",
                )
            )
            await deferLater(self._reactor, self._settings.heartbeat)

    async def _expire(self) -> None:
        while True:
            await deferLater(self._reactor, EXPIRE_INTERVAL)
            try:
                await self._outbox.expire()
            except StoreError as error:
                self._log.warn("the outbox cannot be cleaned: {why}", why=str(error))


async def _wait(done: Deferred[None]) -> None:
    await done


def _is_superfluous(message: Message, channel: Channel) -> bool:
    """Whether an acknowledgement is one that our cloud would throw away.

    A Go cloud would, too; but what its own edge sends, it gets.
    """
    if not channel.is_ours or message.route.source != names.EDGECONTROLLER:
        return False
    parts = message.route.resource.split("/")
    return len(parts) > 1 and parts[1] in names.UNACKED_TYPES


def _unsynced(message: Message) -> Message:
    """Clear the mark of ``send_sync``, which means this process; Go's edge sends none."""
    if not message.header.sync:
        return message
    return msgspec.structs.replace(
        message, header=msgspec.structs.replace(message.header, sync=False)
    )
