"""What waits to be published on one broker, in order, across its absences."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from kubeedge_tx.errors import NotConnected
from kubeedge_tx.mqtt.interfaces import IMqttPort

MOST_WAITING: Final = 1000
"""Messages that wait for a broker; of more, the oldest are given up."""
MOST_UNANSWERED: Final = 100
"""Messages that a broker has not answered before the next one waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusPort:
    """A broker, and how EventBus publishes on it."""

    name: str
    """``internal`` or ``external``, for logs and metrics."""
    port: IMqttPort
    qos: int = 1
    retain: bool = False


@dataclass(order=True, slots=True)
class _Paper:
    number: int
    topic: str = field(compare=False)
    payload: bytes = field(compare=False)
    connection: int = field(default=0, compare=False)
    """On which connection it was published last."""


class Outgoing:
    """Publish on one port.

    What a broker did not answer before it went away is published again when it is back,
    before anything newer.

    ``published`` counts messages that the broker took, ``dropped`` those given up.
    """

    _log = Logger()

    def __init__(self, port: BusPort) -> None:
        self._port = port
        self._waiting: list[_Paper] = []
        self._unanswered = 0
        self._senders: deque[Deferred[None]] = deque()
        self._number = 0
        self._connection = 0
        self._publishing = False
        self.connected = False
        self.published = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Messages that are not published yet."""
        return len(self._waiting) + self._unanswered

    def put(self, topic: str, payload: bytes) -> Deferred[None]:
        """Publish a message when its turn comes; fires when there is room for the next.

        Without a broker there always is: then the oldest message is given up.
        """
        self._number += 1
        heapq.heappush(self._waiting, _Paper(self._number, topic, payload))
        self._publish()
        if len(self._waiting) <= MOST_WAITING:
            return succeed(None)
        if not self.connected:
            self._give_up()
            return succeed(None)
        room: Deferred[None] = Deferred(self._senders.remove)
        self._senders.append(room)
        return room

    def state(self, connected: bool) -> None:
        """The broker came or went."""
        self.connected = connected
        if connected:
            self._connection += 1
            self._publish()
        else:
            self._make_room()

    def _publish(self) -> None:
        if self._publishing:
            return  # a broker that answers at once must not build up a stack
        self._publishing = True
        while self.connected and self._waiting and self._unanswered < MOST_UNANSWERED:
            paper = heapq.heappop(self._waiting)
            paper.connection = self._connection
            self._unanswered += 1
            answer = maybeDeferred(
                self._port.port.publish,
                paper.topic,
                paper.payload,
                self._port.qos,
                self._port.retain,
            )
            answer.addCallbacks(
                self._taken, self._not_taken, callbackArgs=(paper,), errbackArgs=(paper,)
            )
        self._publishing = False
        if len(self._waiting) <= MOST_WAITING:
            self._admit(1)

    def _taken(self, _: object, paper: _Paper) -> None:
        self._unanswered -= 1
        self.published += 1
        self._publish()

    def _not_taken(self, failure: Failure, paper: _Paper) -> None:
        self._unanswered -= 1
        if failure.check(NotConnected):
            heapq.heappush(self._waiting, paper)
            if paper.connection == self._connection:
                self.connected = False  # we hear so before the port says it
            if not self.connected:
                self._make_room()
        else:
            self.dropped += 1
            self._log.warn(
                "{broker} broker does not take a message on {topic}: {why}",
                broker=self._port.name,
                topic=paper.topic,
                why=failure.getErrorMessage(),
            )
        self._publish()

    def _make_room(self) -> None:
        while len(self._waiting) > MOST_WAITING:
            self._give_up()
        self._admit(len(self._senders))

    def _give_up(self) -> None:
        paper = heapq.heappop(self._waiting)
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8 …: an absence may be long
            self._log.warn(
                "no {broker} broker and {count} messages wait: one on {topic} is given up, "
                "{dropped} in all",
                broker=self._port.name,
                count=len(self._waiting),
                topic=paper.topic,
                dropped=self.dropped,
            )

    def _admit(self, most: int) -> None:
        while self._senders and most:
            most -= 1
            self._senders.popleft().callback(None)
