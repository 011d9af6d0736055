"""What is on its way to one peer: packet identifiers, what is in flight, what waits.

Used by the broker for each session and by the client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from kubeedge_tx.mqtt.encoding import ack, short_ack
from kubeedge_tx.mqtt.journal import HELD, RELEASED, RELEASING, SENT, Item, Journal
from kubeedge_tx.mqtt.limits import Counters
from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.reasons import PACKET_ID_NOT_FOUND, ProtocolError
from kubeedge_tx.mqtt.records import QueueDrop, QueueReleased, QueueSent
from kubeedge_tx.mqtt.sink import EXPIRED, WRITTEN, Sink

_BATCH_BYTES: Final = 64 * 1024
"""Bytes taken from a queue in one go."""


class Outflow:
    """The sending half of a session.

    Messages of QoS 1 and 2 are kept until acknowledged; each is sent once on a connection
    and again, in the same order and with the same identifier, on the next
    [MQTT-4.4.0-1] [MQTT-4.6.0-1].

    :param journal: of a session that survives a restart; else ``None``.
    :param hold: called with this and an item that waits for the journal; give it to
        :meth:`committed` then.
    :param done: called with an item that needs no more sending and the reason it ended with;
        ``None`` for an item that was dropped.
    """

    __slots__ = (
        "_done",
        "_hold",
        "_last_id",
        "_purge_at",
        "_resend",
        "client_id",
        "counters",
        "inflight",
        "journal",
        "keep_qos0",
        "max_bytes",
        "max_messages",
        "queue",
        "queued_bytes",
        "queued_qos0",
        "reserved",
        "sink",
        "window",
    )

    def __init__(
        self,
        client_id: str,
        counters: Counters,
        *,
        max_messages: int,
        max_bytes: int,
        keep_qos0: bool,
        hold: Callable[[Outflow, Item], None] | None = None,
        done: Callable[[Item, int | None], None] | None = None,
    ) -> None:
        self.client_id = client_id
        self.counters = counters
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.keep_qos0 = keep_qos0
        self.journal: Journal | None = None
        self.sink: Sink | None = None
        self.window = 1
        """Messages in flight at once."""
        self.inflight: dict[int, Item] = {}
        """By packet identifier, in the order they were first sent."""
        self.queue: deque[Item] | None = None
        self.queued_bytes = 0
        self.queued_qos0 = 0
        self.reserved: set[int] | None = None
        """Packet identifiers in use by other packets."""
        self._last_id = 0
        self._resend: deque[Item] | None = None
        self._purge_at = 0.0
        self._hold = hold
        self._done = done

    def __len__(self) -> int:
        """Messages that wait or are in flight."""
        return len(self.inflight) + (len(self.queue) if self.queue else 0)

    def __iter__(self) -> Iterator[Item]:
        yield from self.inflight.values()
        yield from self.queue or ()

    @property
    def has_room(self) -> bool:
        """A QoS 1 message would be sent at once."""
        sink = self.sink
        return (
            sink is not None
            and sink.is_writable
            and not self.queue
            and len(self.inflight) < self.window
        )

    def take_id(self) -> int:
        """A packet identifier nobody uses [MQTT-2.2.1-4]; there are more than may be in flight."""
        number = self._last_id
        while True:
            number = number % 0xFFFF + 1
            if number not in self.inflight and (
                self.reserved is None or number not in self.reserved
            ):
                self._last_id = number
                return number

    def offer(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        now: float,
        spare: int = 0,
    ) -> Item | None:
        """Send a message, now or later.

        :param spare: how many more than the limit may wait.
        :returns: what became of it; ``None`` if it was sent with QoS 0 or is not sent at all.
        """
        sink = self.sink
        item = Item(message, qos, retain, identifiers)
        if not qos:
            if sink is None:
                if not self.keep_qos0:
                    self.counters.dropped_offline += 1
                    return None
            elif sink.is_writable and not self.queued_qos0:
                self._transmit(item, False, now)
                return None
            return self._enqueue(item, now, spare)
        if (
            sink is not None
            and sink.is_writable
            and not self.queue
            and len(self.inflight) < self.window
        ):
            item.packet_id = self.take_id()
            if self.journal is not None:
                self.journal.put(self.client_id, item)
            self._start(item, now)
            return item
        if self._enqueue(item, now, spare) is None:
            return None
        if self.journal is not None:
            self.journal.put(self.client_id, item)
        return item

    def _enqueue(self, item: Item, now: float, spare: int) -> Item | None:
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        size = item.message.size
        if len(queue) >= self.max_messages + spare or (
            self.queued_bytes + size > self.max_bytes and not spare
        ):
            self._make_room(size, now, spare)
            if len(queue) >= self.max_messages + spare or (
                self.queued_bytes + size > self.max_bytes and not spare
            ):
                self.counters.dropped_queue_full += 1
                self.queue = queue or None
                return None
        queue.append(item)
        self.queued_bytes += size
        self.queued_qos0 += not item.qos
        return item

    def _make_room(self, size: int, now: float, spare: int) -> None:
        """Drop what has expired, then the oldest of QoS 0."""
        assert self.queue is not None
        if now >= self._purge_at:
            self._purge_at = now + 1.0
            self.purge(now)
        while self.queued_qos0 and (
            len(self.queue) >= self.max_messages + spare
            or self.queued_bytes + size > self.max_bytes
        ):
            at = next(at for at, item in enumerate(self.queue) if not item.qos)
            victim = self.queue[at]
            del self.queue[at]
            self._unqueued(victim)
            self.counters.dropped_queue_full += 1
            if self._done is not None:
                self._done(victim, None)

    def purge(self, now: float) -> None:
        """Drop what waits and has expired [MQTT-3.3.2-5]."""
        if not self.queue:
            return
        kept: deque[Item] = deque()
        for item in self.queue:
            if item.message.expires is not None and item.message.expires <= now:
                self._unqueued(item)
                self._dropped(item)
                self.counters.dropped_expired += 1
            else:
                kept.append(item)
        self.queue.clear()
        self.queue.extend(kept)

    def _unqueued(self, item: Item) -> None:
        self.queued_bytes -= item.message.size
        self.queued_qos0 -= not item.qos

    def _dropped(self, item: Item) -> None:
        if item.number and self.journal is not None:
            self.journal.operations.append(QueueDrop(self.client_id, item.number))
        if self._done is not None:
            self._done(item, None)

    def _start(self, item: Item, now: float) -> None:
        """Send a message of QoS 1 or 2 for the first time; it has its packet identifier."""
        self.inflight[item.packet_id] = item
        if item.qos == 2 and self.journal is not None and self._hold is not None:
            item.state = HELD
            self._hold(self, item)
        else:
            item.state = SENT
            self._transmit(item, False, now)

    def _transmit(self, item: Item, dup: bool, now: float) -> None:
        """Write a PUBLISH; what may not be sent is done with [MQTT-3.1.2-25]."""
        assert self.sink is not None
        first = 0x30 | item.flags | dup << 3
        done = self.sink.publish(item.message, first, item.packet_id, item.identifiers, now)
        if done == WRITTEN:
            self.counters.sent += 1
            return
        if done == EXPIRED:
            self.counters.dropped_expired += 1
        else:
            self.counters.dropped_too_large += 1
        if item.packet_id:
            self.inflight.pop(item.packet_id, None)
        self._dropped(item)

    def acknowledged(self, packet_id: int, reason: int, now: float) -> None:
        """PUBACK came; an unknown identifier is ignored.

        :raises ProtocolError: it is that of a QoS 2 message.
        """
        item = self.inflight.get(packet_id)
        if item is None:
            return
        if item.qos != 1:
            raise ProtocolError("PUBACK for a message of QoS 2")
        self._finish(item, reason, now)

    def received(self, packet_id: int, reason: int, now: float) -> None:
        """PUBREC came; answers PUBREL, also to an unknown identifier [MQTT-4.3.3-4].

        :raises ProtocolError: it is that of a QoS 1 message.
        """
        item = self.inflight.get(packet_id)
        sink = self.sink
        assert sink is not None
        if item is None:
            if reason < 0x80:
                sink.write(ack(0x62, packet_id, sink.version, PACKET_ID_NOT_FOUND))
            return
        if item.qos != 2:
            raise ProtocolError("PUBREC for a message of QoS 1")
        if reason >= 0x80:
            self._finish(item, reason, now)
        elif item.state == RELEASED:
            sink.write(short_ack(0x62, packet_id))
        elif item.state == SENT:
            if self.journal is not None and self._hold is not None:
                item.state = RELEASING
                self.journal.operations.append(QueueReleased(self.client_id, item.number))
                self._hold(self, item)
            else:
                item.state = RELEASED
                sink.write(short_ack(0x62, packet_id))

    def completed(self, packet_id: int, reason: int, now: float) -> None:
        """PUBCOMP came; an unknown identifier is ignored.

        :raises ProtocolError: that message was not released.
        """
        item = self.inflight.get(packet_id)
        if item is None:
            return
        if item.qos != 2 or item.state < RELEASING:
            raise ProtocolError("PUBCOMP for a message that was not released")
        self._finish(item, reason, now)

    def _finish(self, item: Item, reason: int, now: float) -> None:
        del self.inflight[item.packet_id]
        if self.journal is not None and item.number:
            self.journal.operations.append(QueueDrop(self.client_id, item.number))
        if self._done is not None:
            self._done(item, reason)
        if self._resend:
            self._repeat(now)
        if self.queue:
            self.pump(now)

    def committed(self, item: Item, now: float) -> None:
        """What an item was held for is on disk."""
        if self.inflight.get(item.packet_id) is not item:
            return
        if item.state == HELD:
            item.state = SENT
            if self.sink is not None:
                self._transmit(item, False, now)
        elif item.state == RELEASING:
            item.state = RELEASED
            if self.sink is not None:
                self.sink.write(short_ack(0x62, item.packet_id))

    def pump(self, now: float) -> bool:
        """Send what waits, as far as the peer's window and the transport allow.

        :returns: there is more that could be sent: call again in a later turn.
        """
        queue, sink = self.queue, self.sink
        if not queue or sink is None or not sink.is_writable:
            return False
        budget = _BATCH_BYTES
        while queue:
            item = queue[0]
            if item.qos and (len(self.inflight) >= self.window or self._resend):
                return False
            if budget <= 0:
                return True
            queue.popleft()
            self._unqueued(item)
            expires = item.message.expires
            if expires is not None and expires <= now:
                self.counters.dropped_expired += 1
                self._dropped(item)
                continue
            budget -= item.message.size
            if item.qos:
                item.packet_id = self.take_id()
                if self.journal is not None and item.number:
                    self.journal.operations.append(
                        QueueSent(self.client_id, item.number, item.packet_id)
                    )
                self._start(item, now)
            else:
                self._transmit(item, False, now)
        self.queue = None
        return False

    def attach(self, sink: Sink, window: int, now: float) -> bool:
        """Go on with a new connection: repeat what is in flight, then what waits.

        :param window: messages the peer takes unacknowledged.
        :returns: as :meth:`pump`.
        """
        self.sink = sink
        self.window = window
        self._resend = deque(item for item in self.inflight.values() if item.state == SENT)
        for item in self.inflight.values():
            if item.state == RELEASED:
                sink.write(short_ack(0x62, item.packet_id))
        self._repeat(now)
        return self.pump(now)

    def _repeat(self, now: float) -> None:
        """Send again what was sent on an earlier connection, within the window."""
        again = self._resend
        while again and len(self.inflight) - len(again) < self.window:
            item = again.popleft()
            if self.inflight.get(item.packet_id) is item:
                self._transmit(item, True, now)
        if not again:
            self._resend = None

    def detach(self) -> None:
        """The connection is gone; without ``keep_qos0`` so is what waits with QoS 0."""
        self.sink = None
        self._resend = None
        if self.queued_qos0 and not self.keep_qos0:
            assert self.queue is not None
            kept = deque(item for item in self.queue if item.qos)
            for item in self.queue:
                if not item.qos:
                    self._unqueued(item)
                    self.counters.dropped_offline += 1
                    if self._done is not None:
                        self._done(item, None)
            self.queue = kept or None

    def requeue(self, items: list[Item]) -> None:
        """Put messages before all that wait, to be sent as if for the first time."""
        if items:
            self.queue = deque((*items, *(self.queue or ())))
            for item in items:
                self.queued_bytes += item.message.size
                self.queued_qos0 += not item.qos

    def restore(self, item: Item) -> None:
        """Put back what a store kept, in the order of their numbers."""
        if item.packet_id:
            self.inflight[item.packet_id] = item
            self._last_id = item.packet_id
            return
        if self.queue is None:
            self.queue = deque()
        self.queue.append(item)
        self.queued_bytes += item.message.size
        self.queued_qos0 += not item.qos
