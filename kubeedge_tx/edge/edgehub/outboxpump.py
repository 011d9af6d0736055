"""Send what the outbox holds, and the modules' questions, at the channel's pace."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.edge.edgehub.connector import Randomness
from kubeedge_tx.errors import StoreError
from kubeedge_tx.observe.throttle import TokenBucket
from kubeedge_tx.store.outbox import Entry, Outbox
from kubeedge_tx.viaduct.channel import Channel

BATCH: Final = 32
"""Messages read from the disk at once."""

RESEND_AFTER: Final = 60.0
"""Seconds after which an unanswered message is sent again; doubled each time."""
RESEND_LIMIT: Final = 300.0
"""Seconds between two sends of one message, at most."""

DECLINED_AFTER: Final = 2.0
"""Seconds after which a message is sent again that the cloud could not take just now; doubled
each time, and up to a quarter more, since what failed for one edge failed for all of them."""
DECLINED_LIMIT: Final = 15.0
"""Seconds until the next try, at most: so long it takes to notice that the cloud can again."""


@dataclass(slots=True)
class _Sent:
    """What became of one message on this connection."""

    due: float
    times: int = 0
    declined: int = 0
    """So many of its sends were answered: not now."""


class SendSchedule:
    """When to send a message again that the cloud has not answered.

    Lives as long as one connection: on the next, everything is sent again.
    """

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}

    def sent(self, message_id: str, now: float) -> int:
        """Note a send of a message that the cloud answers; returns which time it was."""
        known = self._sent.setdefault(message_id, _Sent(now))
        unanswered = known.times - known.declined
        known.times += 1
        known.due = now + min(RESEND_AFTER * 2.0**unanswered, RESEND_LIMIT)
        return known.times

    def sent_once(self, message_id: str) -> None:
        """Note a send of a message that nobody answers."""
        self._sent[message_id] = _Sent(math.inf, 1)

    def declined(self, message_id: str, now: float, jitter: float) -> None:
        """Note that the cloud could not take a message just now.

        :param jitter: in [0, 1].
        """
        known = self._sent.get(message_id)
        if known is None or known.declined >= known.times:  # of an earlier connection, or twice
            return
        pause = min(DECLINED_AFTER * 2.0**known.declined, DECLINED_LIMIT)
        known.declined += 1
        known.due = now + pause * (1 + jitter / 4)

    def resting(self, now: float, outbox: Outbox) -> set[str]:
        """Ids of messages that are not to be sent now; forgets those that are gone."""
        gone = [message_id for message_id in self._sent if not outbox.has(message_id)]
        for message_id in gone:
            del self._sent[message_id]
        return {message_id for message_id, sent in self._sent.items() if sent.due > now}

    def next_due(self) -> float:
        """When the next message is to be sent again; infinity if none is."""
        return min((sent.due for sent in self._sent.values()), default=math.inf)


class Pump:
    """One connection's sender of everything that may wait.

    Questions go before the outbox, and both draw on the same bucket. Runs until cancelled;
    :meth:`wake` it whenever there may be something to do.

    ``resends`` counts messages sent again on the same connection.

    :param random: for the pause after a message that the cloud could not take.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        channel: Channel,
        outbox: Outbox,
        bucket: TokenBucket,
        random: Randomness,
    ) -> None:
        self._clock = clock
        self._channel = channel
        self._outbox = outbox
        self._bucket = bucket
        self._random = random
        self._questions: deque[Message] = deque()
        self._ready: deque[Entry] = deque()
        self._schedule = SendSchedule()
        self._waiting: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._awake = False
        self.resends = 0

    def declined(self, message_id: str) -> None:
        """Send a message again soon: the cloud could not take it just now."""
        self._schedule.declined(message_id, self._clock.seconds(), self._random.uniform(0, 1))
        self.wake()

    def ask(self, message: Message) -> None:
        """Send a question as soon as possible."""
        self._questions.append(message)
        self.wake()

    def wake(self) -> None:
        """Look again: a message came, or the channel became writable."""
        self._awake = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def run(self) -> None:
        """Send for ever."""
        while True:
            self._awake = False
            await self._step()

    async def _step(self) -> None:
        now = self._clock.seconds()
        if not self._channel.is_writable:
            await self._wait(None)
        elif not self._questions and not self._ready:
            if not await self._fetch(now):
                await self._wait(self._schedule.next_due() - now)
        elif not self._bucket.take(now):
            await self._wait(self._bucket.delay(now))
        elif self._questions:
            self._channel.send(self._questions.popleft())
        else:
            await self._send(self._ready.popleft(), now)

    async def _send(self, entry: Entry, now: float) -> None:
        message_id = entry.message.header.msg_id
        if not self._outbox.has(message_id):
            return  # replaced or answered while we waited
        self._channel.send(entry.message)
        if not self._channel.is_open:
            return  # it was not sent, and waits for the next connection
        if entry.confirm:
            if self._schedule.sent(message_id, now) > 1:
                self.resends += 1
            return
        self._schedule.sent_once(message_id)
        try:
            await self._outbox.confirm(message_id)
        except StoreError as error:  # it is sent once more on the next connection
            self._log.warn("a sent message stays in the outbox: {why}", why=str(error))

    async def _fetch(self, now: float) -> bool:
        """Look for messages to send; ``False`` if there are none now."""
        resting = self._schedule.resting(now, self._outbox)
        ids = self._outbox.next_ids(BATCH, resting)
        if not ids:
            return False
        try:
            self._ready.extend(await self._outbox.read(ids))
        except StoreError as error:
            self._log.warn("the outbox cannot be read: {why}", why=str(error))
            await self._wait(1.0)
        return True  # perhaps with nothing: newer messages may have replaced them all meanwhile

    async def _wait(self, seconds: float | None) -> None:
        """Sleep until woken, or for so long."""
        if self._awake:
            return
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        if seconds is not None and math.isfinite(seconds):
            self._timer = self._clock.callLater(max(0.0, seconds), self.wake)
        try:
            await waiting
        finally:
            self._waiting = None
            timer, self._timer = self._timer, None
            if timer is not None and timer.active():
                timer.cancel()
