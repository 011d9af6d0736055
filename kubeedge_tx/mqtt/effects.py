"""What the broker wants done, and how it is told that it was.

Effects are carried out in order, at once; see :class:`.broker.Broker`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from kubeedge_tx.mqtt.journal import Journal
from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.records import Operation
from kubeedge_tx.mqtt.sink import Sink

if TYPE_CHECKING:
    from kubeedge_tx.mqtt.connection import Connection
    from kubeedge_tx.mqtt.session import Local


class Ticket:
    """Something that is done once all it waits for is: pass it to ``settle`` or ``fail``."""

    __slots__ = ("failed", "remaining")

    def __init__(self) -> None:
        self.remaining = 0
        self.failed = False


class Send(msgspec.Struct, frozen=True):
    """Write to a connection."""

    connection: Connection
    data: list[bytes]


class Close(msgspec.Struct, frozen=True):
    """End a connection, after what was sent to it before.

    ``abort``: without waiting; the client does not read, or is not there.
    """

    connection: Connection
    reason: int
    text: str
    """For the log."""
    abort: bool = False


class Authenticate(msgspec.Struct, frozen=True):
    """Check who this is; answer with ``admit`` or ``refuse``, any time later."""

    connection: Connection
    client_id: str
    username: str | None
    password: bytes | None

    def __repr__(self) -> str:
        return f"Authenticate(client_id={self.client_id!r}, username={self.username!r})"


class Connected(msgspec.Struct, frozen=True):
    """A client was let in; for the log."""

    connection: Connection
    session_present: bool


class Deliver(msgspec.Struct, frozen=True):
    """Hand a message to a subscriber in this process.

    With a ticket: ``settle`` it when all that the message causes is on disk, or ``fail`` it.
    """

    local: Local
    message: Message
    qos: int
    retain: bool
    ticket: Ticket | None


class Persist(msgspec.Struct, frozen=True):
    """Write to the store, in order and in one transaction; then settle or fail the tickets."""

    operations: list[Operation]
    tickets: list[Ticket]


class Pause(msgspec.Struct, frozen=True):
    """Read no more from a connection for now."""

    connection: Connection


class Resume(msgspec.Struct, frozen=True):
    """Read again."""

    connection: Connection


class Continue(msgspec.Struct, frozen=True):
    """There is more to write.

    Call ``writable(connection, True)`` in a later turn, unless the transport has called
    ``pauseProducing`` meanwhile: then its ``resumeProducing`` will.
    """

    connection: Connection


class Settled(msgspec.Struct, frozen=True):
    """What the broker's own ``publish`` returned this ticket for is done, or failed."""

    ticket: Ticket
    ok: bool


Effect: TypeAlias = (
    Send
    | Close
    | Authenticate
    | Connected
    | Deliver
    | Persist
    | Pause
    | Resume
    | Continue
    | Settled
)


class Turn:
    """Collects what one call of the broker causes."""

    __slots__ = ("_effects", "dirty", "journal", "tickets")

    def __init__(self, epoch: float) -> None:
        self.dirty: list[Sink] = []
        """Connections with something to write."""
        self.journal = Journal(epoch)
        self.tickets: list[Ticket] = []
        """Those that wait for the journal."""
        self._effects: list[Effect] = []

    def add(self, effect: Effect) -> None:
        """Cause something other than writing."""
        self._effects.append(effect)

    def finish(self) -> list[Effect]:
        """All effects: the journal, what is to be written, then the others in their order."""
        out: list[Effect] = []
        operations = self.journal.operations
        if operations:
            out.append(Persist(operations.copy(), self.tickets.copy()))
            operations.clear()
            self.tickets.clear()
        for sink in self.dirty:
            out.append(Send(sink, sink.out))  # type: ignore[arg-type]
            sink.out = []
        self.dirty.clear()
        if self._effects:
            out += self._effects
            self._effects.clear()
        return out
