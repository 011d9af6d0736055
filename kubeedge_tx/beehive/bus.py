"""The bus: bounded inboxes, and answers that find whoever waits for them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.errors import NoSuchModule, SendTimeout

INBOX_SIZE: Final = 1024
"""Messages one module may have waiting before its senders wait too.

Source: KubeEdge ``staging/.../beehive/pkg/core/channel/context_channel.go``.
"""


class Inbox:
    """A bounded queue with one reader.

    What is put in is taken out in a later reactor turn, so nobody runs on the sender's
    stack and a loop that only ever meets full inboxes cannot starve the sockets.

    :param size: messages it holds before senders wait.
    """

    def __init__(self, clock: IReactorTime, size: int = INBOX_SIZE) -> None:
        self._clock = clock
        self._size = size
        self._messages: deque[Message] = deque()
        self._senders: deque[tuple[Message, Deferred[None]]] = deque()
        self._reader: Deferred[list[Message]] | None = None
        self._most = 0
        self._wake: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._messages) + len(self._senders)

    def put(self, message: Message) -> Deferred[None]:
        """Accept a message; fires when there was room for it. Cancelling withdraws it."""
        accepted: Deferred[None] = Deferred(self._withdraw)
        if len(self._messages) < self._size and not self._senders:
            self._messages.append(message)
            accepted.callback(None)
        else:
            self._senders.append((message, accepted))
        self._wake_reader()
        return accepted

    def take(self, most: int) -> Deferred[list[Message]]:
        """Wait for messages; fires, in a later turn, with one to ``most`` of them."""
        assert self._reader is None, "an inbox has one reader"
        self._reader = Deferred(self._reader_left)
        self._most = most
        self._wake_reader()
        return self._reader

    def _wake_reader(self) -> None:
        if self._reader is not None and self._wake is None and self._messages:
            self._wake = self._clock.callLater(0, self._hand_out)

    def _hand_out(self) -> None:
        self._wake = None
        reader, self._reader = self._reader, None
        if reader is None:
            return
        count = min(self._most, len(self._messages))
        batch = [self._messages.popleft() for _ in range(count)]
        admitted = []
        while self._senders and len(self._messages) < self._size:
            message, accepted = self._senders.popleft()
            self._messages.append(message)
            admitted.append(accepted)
        reader.callback(batch)
        for accepted in admitted:
            accepted.callback(None)

    def _reader_left(self, _: Deferred[list[Message]]) -> None:
        self._reader = None
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _withdraw(self, accepted: Deferred[None]) -> None:
        self._senders = deque(pair for pair in self._senders if pair[1] is not accepted)


@dataclass(slots=True)
class _Question:
    answer: Deferred[Message]
    deadline: IDelayedCall


@implementer(IMessageBus)
class MessageBus:
    """One process' bus.

    ``late_responses`` counts answers that nobody waited for.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._inboxes: dict[str, Inbox] = {}
        self._groups: dict[str, list[str]] = {}
        self._questions: dict[str, _Question] = {}
        self.late_responses = 0

    def register(self, module: str, group: str, size: int = INBOX_SIZE) -> Inbox:
        """Add a module; its runner reads the inbox this returns."""
        assert module not in self._inboxes, f"two modules named {module}"
        inbox = self._inboxes[module] = Inbox(self._clock, size)
        self._groups.setdefault(group, []).append(module)
        return inbox

    def has(self, module: str) -> bool:
        return module in self._inboxes

    def depths(self) -> dict[str, int]:
        """How many messages wait for each module."""
        return {module: len(inbox) for module, inbox in self._inboxes.items()}

    def send(self, module: str, message: Message) -> Deferred[None]:
        try:
            inbox = self._inboxes[module]
        except KeyError:
            raise NoSuchModule(f"there is no module named {module!r}") from None
        return inbox.put(message)

    def send_to_group(self, group: str, message: Message) -> Deferred[None]:
        sends = [self.send(module, message) for module in self._groups.get(group, ())]
        done: Deferred[list[None]] = gatherResults(sends, consumeErrors=True)
        return done.addCallback(lambda _: None)

    def send_sync(self, module: str, message: Message, timeout: float) -> Deferred[Message]:
        message_id = message.header.msg_id
        message = msgspec.structs.replace(
            message, header=msgspec.structs.replace(message.header, sync=True)
        )
        sending = self.send(module, message)
        answer: Deferred[Message] = Deferred()
        deadline = self._clock.callLater(
            timeout, self._too_late, message_id, module, message.route.resource, timeout
        )
        self._questions[message_id] = _Question(answer, deadline)

        def over(result: object) -> object:
            self._questions.pop(message_id, None)
            if deadline.active():
                deadline.cancel()
            sending.cancel()  # withdraws a question that the inbox never had room for
            return result

        return answer.addBoth(over)  # type: ignore[return-value]

    def respond(self, message: Message) -> bool:
        question = self._questions.pop(message.header.parent_id, None)
        if question is None:
            self.late_responses += 1
            return False
        question.answer.callback(message)
        return True

    def _too_late(self, message_id: str, module: str, resource: str, seconds: float) -> None:
        question = self._questions.pop(message_id)
        question.answer.errback(SendTimeout(module, resource, seconds))
