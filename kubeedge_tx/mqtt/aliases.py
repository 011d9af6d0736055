"""Topic aliases, which live as long as a connection [MQTT-3.3.2-7]."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.mqtt.reasons import TOPIC_ALIAS_INVALID, ProtocolError

_WORTH_IT: Final = 8
"""Shorter topic names are sent as they are: an alias costs three bytes and a look-up."""


class AliasesIn:
    """What the peer's aliases stand for.

    :param maximum: the highest it may use, 0 for none.
    """

    __slots__ = ("_maximum", "_topics")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._topics: dict[int, str] = {}

    def resolve(self, topic: str, alias: int) -> str:
        """The topic that a PUBLISH means; sets the alias if it brings a topic.

        :raises ProtocolError: out of range [MQTT-3.3.2-9] [MQTT-3.3.2-11], or never set.
        """
        if not 0 < alias <= self._maximum:
            raise ProtocolError(f"topic alias {alias} of {self._maximum}", TOPIC_ALIAS_INVALID)
        if topic:
            self._topics[alias] = topic
            return topic
        known = self._topics.get(alias)
        if known is None:
            raise ProtocolError(f"topic alias {alias} was never set")
        return known


class AliasesOut:
    """Which aliases we have set; the first topics get them and keep them.

    :param maximum: how many the peer and we allow, at least 1.
    """

    __slots__ = ("_maximum", "_numbers")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._numbers: dict[str, int] = {}

    def choose(self, topic: str, may_set: bool) -> tuple[int, bool]:
        """An alias for a topic and whether the peer knows it; 0 if it has none.

        :param may_set: give it one if it has none; the packet must not be too long for that.
        """
        number = self._numbers.get(topic)
        if number is not None:
            return number, True
        if not may_set or len(self._numbers) >= self._maximum or len(topic) < _WORTH_IT:
            return 0, False
        number = self._numbers[topic] = len(self._numbers) + 1
        return number, False
