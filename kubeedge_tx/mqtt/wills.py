"""What happens later: sessions that end, wills that are published."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from kubeedge_tx.mqtt.message import Message, forwarded
from kubeedge_tx.mqtt.packets import Will
from kubeedge_tx.mqtt.session import Session

_SWEEP: Final = 256
"""Entries before ended sessions are swept out for the first time."""


class Deadlines:
    """Sessions to look at, by time.

    A session has one entry, at or before its time: it is entered again when it was looked
    at too early. Sessions that ended are swept out now and then, so that clients that come
    and go all day cost nothing.
    """

    __slots__ = ("_heap", "_serial", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Session]] = []
        self._serial = 0
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, session: Session) -> None:
        """Look at a session when it ends or its will is due, if that is to come."""
        due = min(
            (each for each in (session.expires_at, session.will_due) if each is not None),
            default=None,
        )
        if due is None or (session.looked_at is not None and session.looked_at <= due):
            return
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        session.looked_at = due
        self._serial += 1
        heappush(self._heap, (due, self._serial, session))

    def _sweep(self) -> None:
        self._heap = [
            each for each in self._heap if each[2].is_alive and each[0] == each[2].looked_at
        ]
        heapify(self._heap)
        self._sweep_at = max(_SWEEP, 2 * len(self._heap))

    def due(self, now: float) -> list[Session]:
        """Take out the sessions whose time may have come."""
        out: list[Session] = []
        while self._heap and self._heap[0][0] <= now:
            due, _, session = heappop(self._heap)
            if session.is_alive and session.looked_at == due:
                session.looked_at = None
                out.append(session)
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
