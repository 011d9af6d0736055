"""How fast one node is listened to: who says too much is read more slowly, and who makes too
much is refused."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kubeedge_tx.observe.throttle import TokenBucket

BREATH: Final = 0.1
"""Shortest pause, seconds: a timer for many messages, not for each."""

BURST_SECONDS: Final = 2
"""Seconds' worth of messages that a node may say at once."""

CREATION_SECONDS: Final = 30
"""Seconds' worth of objects that a node may make at once: it starts with all its pods."""

_NOW: Final[Deferred[None]] = succeed(None)


class Attention:
    """Count what a node says, and pause when it was too much.

    Nothing is lost: the node's messages wait on its own machine.

    :param rate: messages a second on average, at least 1.
    :param creations: objects a second that it may make, Events above all, at least 1.
    """

    __slots__ = ("_bucket", "_clock", "_creations", "_over", "_pause", "_rate", "_timer")

    def __init__(self, clock: IReactorTime, rate: int, creations: int) -> None:
        self._clock = clock
        self._creations = TokenBucket(
            rate=creations, burst=creations * CREATION_SECONDS, now=clock.seconds()
        )
        self._rate = rate
        self._bucket = TokenBucket(rate=rate, burst=rate * BURST_SECONDS, now=clock.seconds())
        self._over = 0
        self._pause: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def may_create(self) -> bool:
        """Count one more object that the node makes; false if that is too many."""
        return self._creations.take(self._clock.seconds())

    def heard(self) -> Deferred[None]:
        """Count one message; fires when the next may be read, normally at once."""
        if self._pause is None and self._bucket.take(self._clock.seconds()):
            return _NOW
        self._over += 1
        if self._pause is None:
            self._pause = Deferred()
            self._wait()
        return self._pause

    def stop(self) -> None:
        """End a pause: nothing more comes from there."""
        timer, self._timer = self._timer, None
        pause, self._pause = self._pause, None
        if timer is not None:
            timer.cancel()
        if pause is not None:
            pause.callback(None)

    def _wait(self) -> None:
        seconds = max(self._over / self._rate, BREATH)
        self._timer = self._clock.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._over and self._bucket.take(now):
            self._over -= 1
        if self._over:
            self._wait()
        else:
            self.stop()
