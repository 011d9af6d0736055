"""One network connection of the broker."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from kubeedge_tx.mqtt.aliases import AliasesIn
from kubeedge_tx.mqtt.effects import Ticket
from kubeedge_tx.mqtt.packets import Connect, Packet
from kubeedge_tx.mqtt.parser import Parser
from kubeedge_tx.mqtt.sink import Sink

if TYPE_CHECKING:
    from kubeedge_tx.mqtt.session import Session

NEW: Final = 0
"""Its CONNECT has not come."""
ASKING: Final = 1
"""Somebody checks who it is."""
OPEN: Final = 2
CLOSED: Final = 3


class Answer(Ticket):
    """An answer to a client that leaves in its turn, once what it promises is true.

    :param data: the packet; empty for a QoS 0 message, which is only counted.
    :param head: first byte of a PUBACK or PUBREC, 0x70 for PUBCOMP, 0 for others.
    """

    __slots__ = ("connection", "data", "head", "packet_id", "session")

    def __init__(
        self, connection: Connection, session: Session, data: bytes, head: int, packet_id: int
    ) -> None:
        super().__init__()
        self.connection = connection
        self.session = session
        self.data = data
        self.head = head
        self.packet_id = packet_id


class Connection(Sink):
    """State of a connection; nothing of it outlives it.

    :param peer: names the other end in logs.
    :param identity: name in its certificate; empty without one.
    """

    __slots__ = (
        "aliases_in",
        "answers",
        "connect",
        "credit",
        "early",
        "handle",
        "identity",
        "is_paused",
        "keep_alive",
        "last_received",
        "may_write",
        "parser",
        "peer",
        "session",
        "state",
        "unwritable_since",
        "user",
    )

    def __init__(
        self, peer: str, identity: str, parser: Parser, dirty: list[Sink], now: float
    ) -> None:
        super().__init__(dirty)
        self.peer = peer
        self.identity = identity
        self.parser = parser
        self.handle: Any = None
        """For the server: its transport or protocol."""
        self.state = NEW
        self.session: Session | None = None
        self.user = ""
        self.keep_alive = 0
        """Seconds; 0 for no limit."""
        self.last_received = now
        self.unwritable_since: float | None = None
        self.is_paused = False
        self.connect: Connect | None = None
        """What waits for the answer to Authenticate."""
        self.early: list[Packet] | None = None
        """What came after it meanwhile."""
        self.answers: deque[Answer] | None = None
        """What waits for its turn."""
        self.credit = 0
        """QoS 1 and 2 messages the client may still send unacknowledged."""
        self.aliases_in: AliasesIn | None = None
        self.may_write: dict[str, bool] | None = None
        """What the access list said, by topic."""

    def __repr__(self) -> str:
        return f"<Connection {self.peer} state={self.state}>"
