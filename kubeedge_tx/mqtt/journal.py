"""One message for one peer, and where durable sessions write down what becomes of it."""

from __future__ import annotations

from itertools import count
from typing import Final

from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.records import Operation, QueuePut

QUEUED: Final = 0
HELD: Final = 1
"""Has its packet identifier, and is sent once that is on disk."""
SENT: Final = 2
RELEASING: Final = 3
"""PUBREC came, and PUBREL is sent once that is on disk."""
RELEASED: Final = 4


class Item:
    """One message for one peer."""

    __slots__ = ("flags", "identifiers", "message", "number", "packet_id", "qos", "state")

    def __init__(
        self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]
    ) -> None:
        self.message = message
        self.qos = qos
        self.flags = qos << 1 | retain
        self.identifiers = identifiers
        self.number = 0
        self.packet_id = 0
        self.state = QUEUED


class Journal:
    """Where durable sessions write down what changes.

    :param numbers: for :attr:`.Message.number` and the order of queues.
    :param epoch: wall clock minus ``now``.
    """

    __slots__ = ("epoch", "numbers", "operations")

    def __init__(self, epoch: float) -> None:
        self.operations: list[Operation] = []
        self.numbers = count(1)
        self.epoch = epoch

    def put(self, client_id: str, item: Item) -> None:
        """Write down a message that waits."""
        message = item.message
        if not message.number:
            message.number = next(self.numbers)
        item.number = next(self.numbers)
        self.operations.append(
            QueuePut(
                client_id,
                number=item.number,
                packet_id=item.packet_id,
                qos=item.qos,
                retain=bool(item.flags & 1),
                identifiers=item.identifiers,
                message=message.to_record(self.epoch),
            )
        )
