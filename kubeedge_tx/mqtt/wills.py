"""What happens later: sessions that end, wills that are published."""

from __future__ import annotations

from heapq import heappop, heappush

from kubeedge_tx.mqtt.message import Message, forwarded
from kubeedge_tx.mqtt.packets import Will
from kubeedge_tx.mqtt.session import Session


class Deadlines:
    """Sessions to look at, by time. An entry whose session changed its mind is ignored there."""

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Session]] = []
        self._serial = 0

    def add(self, due: float, session: Session) -> None:
        """Have a look at a session at ``due``."""
        self._serial += 1
        heappush(self._heap, (due, self._serial, session))

    def due(self, now: float) -> list[Session]:
        """Take out the sessions whose time has come."""
        out: list[Session] = []
        while self._heap and self._heap[0][0] <= now:
            out.append(heappop(self._heap)[2])
        return out


def will_delay(will: Will) -> int:
    """Seconds between the end of the connection and the will."""
    return will.properties.will_delay or 0


def to_message(will: Will, client_id: str, now: float) -> Message:
    """The message that a will is [MQTT-3.1.2-8]."""
    expiry = will.properties.message_expiry
    return Message(
        will.topic,
        will.payload,
        will.qos,
        will.retain,
        forwarded(will.properties),
        None if expiry is None else now + expiry,
        client_id,
    )
