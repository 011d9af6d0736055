"""Deadlines that tell a dead link from a quiet one. No clock here: it is told the time."""

from __future__ import annotations

import enum
from typing import Final

PING_INTERVAL: Final = 10.0
"""Seconds of silence after which a ping asks whether the peer is there."""

SILENCE_LIMIT: Final = 25.0
"""Seconds of silence after which the link is dead. KubeEdge-TX promises less than 30."""


class Verdict(enum.Enum):
    """What to do about a link."""

    FINE = "fine"
    PING = "ping"
    DEAD = "dead"


class Liveness:
    """Decide from what was heard, and when, whether a peer still lives.

    Anything heard counts: a data frame, a pong, half a frame. While we have paused the
    peer ourselves it cannot be heard, so the deadlines rest.

    :param ping_interval: seconds; a ping is due when nothing was heard for so long, and
        again after each further interval.
    :param silence_limit: seconds, more than ``ping_interval``.
    :param now: the time it starts from, in seconds.
    """

    __slots__ = ("_heard", "_paused", "_ping_interval", "_pinged", "_silence_limit")

    def __init__(self, *, ping_interval: float, silence_limit: float, now: float) -> None:
        self._ping_interval = ping_interval
        self._silence_limit = silence_limit
        self._heard = self._pinged = now
        self._paused = False

    def heard(self, now: float) -> None:
        """Note that the peer sent something."""
        self._heard = self._pinged = now

    def pause(self) -> None:
        """Rest: we have stopped reading."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Start over: we read again."""
        self._paused = False
        self.heard(now)

    def check(self, now: float) -> Verdict:
        """Judge the link; ``PING`` is returned once per interval and expects a ping sent."""
        if self._paused:
            return Verdict.FINE
        if now - self._heard >= self._silence_limit:
            return Verdict.DEAD
        if now - self._pinged >= self._ping_interval:
            self._pinged = now
            return Verdict.PING
        return Verdict.FINE


class KeepaliveWindow:
    """The cloud's rule for an edge: a ``keepalive`` message at least every so often.

    Only that message counts, whatever else was heard. While we have paused the edge
    ourselves none can arrive: feed it then.
    Source: KubeEdge ``cloud/pkg/cloudhub/session``, ``cloudHub.keepaliveInterval``.

    :param limit: seconds between two, 30 by default upstream.
    :param now: when the session began.
    """

    __slots__ = ("_fed", "limit")

    def __init__(self, *, limit: float, now: float) -> None:
        self.limit = limit
        self._fed = now

    def feed(self, now: float) -> None:
        """Note a keepalive message."""
        self._fed = now

    def expired(self, now: float) -> bool:
        """Tell whether the last one is too long ago."""
        return now - self._fed >= self.limit
