"""A cloud that a test plays by hand, at the far end of a channel."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from kubeedge_tx.beehive.message import Message


class FakeChannel:
    """What EdgeHub sees of a channel."""

    peer = "tcp4:192.0.2.1:10000"
    is_ours = False
    takes_digest = False
    date = ""

    def __init__(self, user: Any) -> None:
        self.user = user
        self.sent: list[Message] = []
        self.is_open = True
        self.is_writable = True
        self.closing: tuple[int, str] | None = None

    def send(self, message: Message) -> None:
        if self.is_open:
            self.sent.append(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closing = (code, reason)
        self.lose(reason)

    def lose(self, reason: str = "connection lost") -> None:
        """The link breaks."""
        if self.is_open:
            self.is_open = self.is_writable = False
            self.user.closed(reason)

    def block(self) -> None:
        """The transport's buffer is full."""
        self.is_writable = False

    def drain(self) -> None:
        """The transport's buffer is empty again."""
        self.is_writable = True
        self.user.writable()

    def take(self, *operations: str) -> list[Message]:
        """What was sent since, less keepalives."""
        taken = [each for each in self.sent if each.route.operation != "keepalive"]
        self.sent.clear()
        return [each for each in taken if not operations or each.route.operation in operations]


class FakeCloud:
    """Accepts every connection, or fails as told."""

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.errors: list[Exception] = []
        self.hanging: Deferred[None] | None = None
        self.takes_digest = False

    @property
    def channel(self) -> FakeChannel:
        return self.channels[-1]

    async def dial(self, user: Any) -> Any:
        if self.hanging is not None:
            await self.hanging
        if self.errors:
            raise self.errors.pop(0)
        channel = FakeChannel(user)
        channel.takes_digest = self.takes_digest
        self.channels.append(channel)
        user.opened(channel)
        return channel
