"""What waits to be published on one broker, in order, across its absences."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
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


@dataclass(slots=True)
class _Paper:
    topic: str
    payload: bytes
    settled: bool = False


class Outgoing:
    """Publish on one port.

    What a broker had not answered when it went away is published again when it is back,
    before anything newer.

    ``published`` counts messages that the broker took, ``dropped`` those given up.
    """

    _log = Logger()

    def __init__(self, port: BusPort) -> None:
        self._port = port
        self._waiting: deque[_Paper] = deque()
        self._unanswered: deque[_Paper] = deque()
        self._senders: deque[Deferred[None]] = deque()
        self.connected = False
        self.published = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Messages that are not published yet."""
        return len(self._waiting) + len(self._unanswered)

    def put(self, topic: str, payload: bytes) -> Deferred[None]:
        """Publish a message when its turn comes; fires when there is room for the next.

        Without a broker there always is: then the oldest message is given up.
        """
        self._waiting.append(_Paper(topic, payload))
        self._publish()
        if len(self._waiting) <= MOST_WAITING:
            return succeed(None)
        if not self.connected:
            self._give_up()
            return succeed(None)
        room: Deferred[None] = Deferred(self._left)
        self._senders.append(room)
        return room

    def state(self, connected: bool) -> None:
        """The broker came or went."""
        self.connected = connected
        # Also when it comes twice without going: the earlier connection's answers are void.
        lost = [paper for paper in self._unanswered if not paper.settled]
        self._unanswered.clear()
        self._waiting.extendleft(_Paper(p.topic, p.payload) for p in reversed(lost))
        if connected:
            self._publish()
        else:
            while len(self._waiting) > MOST_WAITING:
                self._give_up()
            self._admit(len(self._senders))

    def _publish(self) -> None:
        while self.connected and self._waiting and len(self._unanswered) < MOST_UNANSWERED:
            paper = self._waiting.popleft()
            self._unanswered.append(paper)
            answer = self._port.port.publish(
                paper.topic, paper.payload, self._port.qos, self._port.retain
            )
            answer.addCallbacks(
                self._taken, self._refused, callbackArgs=(paper,), errbackArgs=(paper,)
            )
        if len(self._waiting) <= MOST_WAITING:
            self._admit(1)

    def _taken(self, _: object, paper: _Paper) -> None:
        self.published += 1
        self._settle(paper)

    def _refused(self, failure: Failure, paper: _Paper) -> None:
        if failure.check(NotConnected):
            return  # it waits for the broker to come back
        self.dropped += 1
        self._log.warn(
            "{broker} broker does not take a message on {topic}: {why}",
            broker=self._port.name,
            topic=paper.topic,
            why=failure.getErrorMessage(),
        )
        self._settle(paper)

    def _settle(self, paper: _Paper) -> None:
        paper.settled = True
        while self._unanswered and self._unanswered[0].settled:
            self._unanswered.popleft()
        self._publish()

    def _give_up(self) -> None:
        paper = self._waiting.popleft()
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

    def _left(self, room: Deferred[Any]) -> None:
        self._senders.remove(room)
