"""EventBus: MQTT messages become messages of this process, and the other way round.

Source: KubeEdge ``edge/pkg/eventbus``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.eventbus import topics
from kubeedge_tx.edge.eventbus.outgoing import BusPort, Outgoing
from kubeedge_tx.errors import KubeEdgeError, StoreError
from kubeedge_tx.store.outbox import BULK, Outbox
from kubeedge_tx.store.topics import TopicStore

TWIN_TIMEOUT: Final = 60.0
"""Seconds DeviceTwin has to store what a message causes; then it is not acknowledged."""

SOURCE: Final = "bus"


@implementer(IModule)
class EventBus:
    """Subscribe for the modules and for rules, pass on, publish.

    A client's message is acknowledged to it when what it caused is on disk: DeviceTwin has
    answered, or the outbox has it.

    ``received`` counts messages of clients, ``refused`` those whose consequences could not
    be stored and bus messages that made no sense.

    :param ports: one broker or two; what is published goes to each.
    :param store: the topics of rules.
    :param outbox: for what is for the cloud.
    :param node: this node's name.
    """

    name = names.EVENTBUS
    group = names.GROUP_BUS
    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        *,
        ports: Sequence[BusPort],
        store: TopicStore,
        outbox: Outbox,
        node: str,
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._store = store
        self._outbox = outbox
        self._node = node
        self._ports = [(port, Outgoing(port)) for port in ports]
        self._tasks = TaskSet()
        self.received = 0
        self.refused = 0

    def connected(self) -> dict[str, bool]:
        """Which brokers there are now, by name."""
        return {port.name: outgoing.connected for port, outgoing in self._ports}

    def published(self) -> dict[str, int]:
        """Messages published since the start, by broker."""
        return {port.name: outgoing.published for port, outgoing in self._ports}

    def dropped(self) -> dict[str, int]:
        """Messages given up since the start, by broker."""
        return {port.name: outgoing.dropped for port, outgoing in self._ports}

    def waiting(self) -> dict[str, int]:
        """Messages that are not published yet, by broker."""
        return {port.name: len(outgoing) for port, outgoing in self._ports}

    async def started(self) -> None:
        """Read the topics of rules, and listen."""
        await self._store.load()
        for port, outgoing in self._ports:
            port.port.on_message(self.arrived)
            port.port.on_state(self._state_of(port, outgoing))

    async def stopped(self) -> None:
        """Let go of what is under way: it was not acknowledged."""
        await self._tasks.cancel_all()

    # From clients

    def arrived(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        """Pass on a client's message; fires when what it causes is on disk.

        :raises KubeEdgeError: from the Deferred: it is not.
        """
        self.received += 1
        # Upstream, too, has texts only: what is no UTF-8 arrives with marks of replacement.
        text = payload.decode("utf-8", "replace")
        if topics.for_twin(topic):
            return Deferred.fromCoroutine(self._to_twin(topic, text))
        message = self._messages.new(
            source=SOURCE,
            group=names.GROUP_USER,
            operation=names.UPLOAD,
            resource=topic,
            content=text,
        )
        return self._to_cloud(message)

    def _to_cloud(self, message: Message) -> Deferred[None]:
        return Deferred.fromCoroutine(self._keep(message))

    async def _keep(self, message: Message) -> None:
        try:
            await self._outbox.put(message, key=None, priority=BULK, confirm=False)
        except StoreError:
            self.refused += 1
            raise

    async def _to_twin(self, topic: str, text: str) -> None:
        if not self._bus.has(names.TWIN):
            return
        question = self._messages.new(
            source=SOURCE,
            group=names.GROUP_USER,
            operation=names.RESPONSE,
            resource=base64.urlsafe_b64encode(topic.encode()).decode(),
            content=text,
        )
        try:
            answer = await self._bus.send_sync(names.TWIN, question, TWIN_TIMEOUT)
        except KubeEdgeError:
            self.refused += 1
            raise
        if answer.route.operation == names.ERROR:
            self.refused += 1
            raise StoreError(f"{topic}: {answer.read()}")

    # From modules and the cloud

    async def handle(self, message: Message) -> None:
        """Take one message of a module, or of a rule in the cloud."""
        route = message.route
        match route.operation:
            case "publish":
                content = message.read()
                if isinstance(content, str):
                    await self._publish(message, route.resource, content.encode("utf-8", "replace"))
                else:
                    self._refuse(message, "its content is not a text")
            case "message":
                await self._message(message)
            case "get_result":
                if route.resource == "auth_info":
                    topic = f"$hw/events/node/{self._node}/authInfo/get/result"
                    content = message.read()
                    text = content.encode() if isinstance(content, str) else bytes(message.content)
                    await self._publish(message, topic, text)
                else:
                    self._refuse(message, "only the result of auth_info is known")
            case "subscribe":
                await self._subscribe(message)
            case "unsubscribe":
                await self._unsubscribe(message)
            case names.CONNECT:
                pass  # the cloud came or went; the outbox takes care of that
            case _:
                self._refuse(message, "eventbus has no such operation")

    async def _publish(self, message: Message, topic: str, payload: bytes) -> None:
        wrong = topics.check_name(topic)
        if wrong:
            self._refuse(message, wrong)
            return
        await gatherResults(
            [outgoing.put(topic, payload) for _, outgoing in self._ports], consumeErrors=True
        )

    async def _message(self, message: Message) -> None:
        content = message.read()
        inner: Any = content.get("message") if isinstance(content, dict) else None
        topic = inner.get("topic") if isinstance(inner, dict) else None
        if isinstance(topic, str):
            await self._publish(message, topic, msgspec.json.encode(inner))
        else:
            self._refuse(message, "its content has no message.topic")

    async def _subscribe(self, message: Message) -> None:
        topic = message.route.resource
        wrong = topics.check_filter(topic)
        if wrong:
            self._refuse(message, wrong)
            return
        await self._store.add(topic)
        for port, outgoing in self._ports:
            if outgoing.connected:
                self._tasks.spawn(
                    f"subscription to {topic} on {port.name}", self._ask(port, (topic,))
                )

    async def _unsubscribe(self, message: Message) -> None:
        topic = message.route.resource
        await self._store.remove(topic)
        if topic in topics.FIXED:
            return
        for port, outgoing in self._ports:
            if outgoing.connected:
                self._tasks.spawn(
                    f"end of subscription to {topic} on {port.name}",
                    _wait(port.port.unsubscribe((topic,))),
                )

    # Brokers

    def _state_of(self, port: BusPort, outgoing: Outgoing) -> Callable[[bool], None]:
        def changed(connected: bool) -> None:
            self._log.info(
                "{broker} broker: {state}",
                broker=port.name,
                state="connected" if connected else "away",
            )
            if connected:
                self._tasks.spawn(f"subscriptions on {port.name}", self._subscribe_all(port))
            outgoing.state(connected)

        return changed

    async def _subscribe_all(self, port: BusPort) -> None:
        asked = [(topic,) for topic in self._store.all()]
        await gatherResults(
            [
                Deferred.fromCoroutine(self._ask(port, filters))
                for filters in (topics.FIXED, *asked)  # one refusal must not undo the others
            ],
            consumeErrors=True,
        )

    async def _ask(self, port: BusPort, filters: Sequence[str]) -> None:
        try:
            await port.port.subscribe(filters)
        except CancelledError:
            raise
        except KubeEdgeError as error:
            # A broker that went away is asked again when it is back.
            self._log.warn(
                "{broker} broker does not let us subscribe to {filters}: {why}",
                broker=port.name,
                filters=", ".join(filters),
                why=str(error),
            )

    def _refuse(self, message: Message, why: str) -> None:
        self.refused += 1
        self._log.warn(
            "{operation} {resource} ({msg_id}) from {source}: {why}",
            operation=message.route.operation,
            resource=message.route.resource[:256],
            msg_id=message.header.msg_id,
            source=message.route.source,
            why=why,
        )


async def _wait(done: Deferred[None]) -> None:
    await done
