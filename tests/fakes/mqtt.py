"""A broker that a test plays by hand, seen through EventBus' port."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from kubeedge_tx.errors import KubeEdgeError, NotConnected
from kubeedge_tx.mqtt.interfaces import IMqttPort, OnMessage, OnState


@dataclass(frozen=True, slots=True)
class Published:
    """What EventBus published."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a subscription takes a topic (MQTT 3.1.1, 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for place, part in enumerate(wanted):
        if part == "#":
            return True
        if place >= len(levels) or part not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)


@implementer(IMqttPort)
class FakePort:
    """Connected from the start, unless told otherwise.

    With ``holding``, what is published is not answered until :meth:`answer`. Filters in
    ``forbidden`` are refused.
    """

    def __init__(self, connected: bool = True) -> None:
        self.connected = connected
        self.filters: dict[str, int] = {}
        self.forbidden: set[str] = set()
        self.published: list[Published] = []
        self.holding = False
        self.unanswered: list[Deferred[None]] = []
        self.subscribes: list[tuple[str, ...]] = []
        self._on_message: OnMessage | None = None
        self._on_state: OnState | None = None

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        if not self.connected:
            return fail(NotConnected("no broker"))
        self.published.append(Published(topic, payload, qos, retain))
        if not self.holding:
            return succeed(None)
        answer: Deferred[None] = Deferred()
        self.unanswered.append(answer)
        return answer

    def subscribe(self, filters: Sequence[str], qos: int = 1) -> Deferred[None]:
        self.subscribes.append(tuple(filters))
        if not self.connected:
            return fail(NotConnected("no broker"))
        if self.forbidden & set(filters):
            return fail(KubeEdgeError("the broker refused a filter"))
        self.filters.update(dict.fromkeys(filters, qos))
        return succeed(None)

    def unsubscribe(self, filters: Sequence[str]) -> Deferred[None]:
        if not self.connected:
            return fail(NotConnected("no broker"))
        for each in filters:
            self.filters.pop(each, None)
        return succeed(None)

    def on_message(self, callback: OnMessage) -> None:
        self._on_message = callback

    def on_state(self, callback: OnState) -> None:
        self._on_state = callback
        callback(self.connected)

    # The test's side

    def lose(self) -> None:
        """The broker goes away; its sessions are gone."""
        self.connected = False
        self.filters.clear()
        assert self._on_state is not None
        self._on_state(False)
        unanswered, self.unanswered = self.unanswered, []
        for answer in unanswered:
            answer.errback(NotConnected("the broker went away"))

    def come_back(self) -> None:
        self.connected = True
        assert self._on_state is not None
        self._on_state(True)

    def answer(self) -> None:
        """Answer the oldest message that was published."""
        self.unanswered.pop(0).callback(None)

    def arrive(
        self, topic: str, payload: object, qos: int = 1, retain: bool = False
    ) -> Deferred[None] | None:
        """A client publishes; ``None`` if EventBus is not subscribed to it.

        :param payload: bytes and texts as they are, anything else as JSON.
        """
        if not any(matches(each, topic) for each in self.filters):
            return None
        assert self._on_message is not None
        if isinstance(payload, str):
            raw = payload.encode()
        else:
            raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self._on_message(topic, raw, qos, retain)

    def take(self) -> list[Published]:
        """What was published since."""
        taken, self.published = self.published, []
        return taken
