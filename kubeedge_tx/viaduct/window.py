"""What may be in flight: one message for each object, resent until acknowledged."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Slot(Generic[T]):
    """What one key has under way: at most one item in flight, the others in order."""

    __slots__ = ("due", "flying", "flying_id", "flying_part", "key", "pending", "sends")

    def __init__(self, key: str) -> None:
        self.key = key
        self.pending: dict[str, tuple[str, T]] = {}
        self.flying: T | None = None
        self.flying_id = ""
        self.flying_part = ""
        self.due = 0.0
        self.sends = 0


class AckWindow(Generic[T]):
    """Coalesce, keep at most ``width`` keys in flight, resend until acknowledged.

    A *key* is what must stay in order: two items of one key are never in flight together,
    so the peer sees them one after the other however wide the window is. A *part* is what
    is coalesced: of the unsent items of one part only the newest is kept, in the place of
    the first. A Kubernetes object's key is its name, its part the uid: so the delete of an
    object and the insert of another one of the same name both arrive, in that order.

    Nothing is ever dropped: an item stays until it is acknowledged or replaced.

    :param width: keys in flight at once, >= 1; 1 is what a Go edge takes.
    :param resend_after: seconds between two sends of an item.
    :param max_sends: after so many sends of one item the turn passes to the next key, and
        this one queues again; 0 for no limit.
        Source: KubeEdge ``cloud/pkg/cloudhub/session/node_session.go`` (5 s, 4 resends).
    """

    __slots__ = (
        "_by_id",
        "_flying",
        "_max_sends",
        "_ready",
        "_resend_after",
        "_slots",
        "resends",
        "width",
    )

    def __init__(self, *, width: int, resend_after: float, max_sends: int = 0) -> None:
        self.width = width
        self._resend_after = resend_after
        self._max_sends = max_sends
        self._slots: dict[str, _Slot[T]] = {}
        self._ready: OrderedDict[str, _Slot[T]] = OrderedDict()
        self._flying: OrderedDict[str, _Slot[T]] = OrderedDict()
        """By key, in the order of their due times: each wait is the same length."""
        self._by_id: dict[str, tuple[_Slot[T], str]] = {}
        """What was sent and is not yet acknowledged or replaced, by message id."""
        self.resends = 0

    def __len__(self) -> int:
        """Items not yet acknowledged."""
        return sum(len(slot.pending) + (slot.flying is not None) for slot in self._slots.values())

    def __iter__(self) -> Iterator[T]:
        """All items not yet acknowledged."""
        for slot in self._slots.values():
            if slot.flying is not None:
                yield slot.flying
            for _, item in slot.pending.values():
                yield item

    def __contains__(self, key: str) -> bool:
        """Whether a key has something to deliver."""
        return key in self._slots

    @property
    def keys(self) -> int:
        """How many keys have something to deliver."""
        return len(self._slots)

    @property
    def in_flight(self) -> int:
        """How many keys wait for an acknowledgement."""
        return len(self._flying)

    def configure(self, *, width: int, max_sends: int) -> None:
        """Change the limits: another peer is there now."""
        self.width = width
        self._max_sends = max_sends

    def offer(
        self, key: str, message_id: str, item: T, *, part: str = "", first: bool = False
    ) -> None:
        """Queue the newest state of a part; an unsent older one is dropped.

        :param first: put a new part before the other unsent ones of its key.
        """
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot(key)
        old = slot.pending.get(part)
        if old is not None:
            self._by_id.pop(old[0], None)
        if first and old is None and slot.pending:
            slot.pending = {part: (message_id, item), **slot.pending}
        else:
            slot.pending[part] = (message_id, item)
        if slot.flying is None:
            self._ready[key] = slot

    def pending_parts(self, key: str) -> tuple[str, ...]:
        """The parts of a key that have unsent items, in order."""
        slot = self._slots.get(key)
        return tuple(slot.pending) if slot is not None else ()

    def flying(self, key: str) -> T | None:
        """The item of a key that is in flight."""
        slot = self._slots.get(key)
        return slot.flying if slot is not None else None

    def withdraw(self, key: str, part: str) -> T | None:
        """Take back the unsent item of a part; ``None`` if there is none."""
        slot = self._slots.get(key)
        if slot is None or part not in slot.pending:
            return None
        message_id, item = slot.pending.pop(part)
        self._by_id.pop(message_id, None)
        self._settle(slot)
        return item

    def prune(self, unneeded: Callable[[T], bool]) -> list[T]:
        """Take back all unsent items that are not needed any more."""
        gone = []
        for slot in list(self._slots.values()):
            for part, (_, item) in list(slot.pending.items()):
                if unneeded(item):
                    self.withdraw(slot.key, part)
                    gone.append(item)
        return gone

    def acked(self, message_id: str) -> T | None:
        """Retire an item; ``None`` if no such one waits (a late or repeated answer)."""
        found = self._by_id.pop(message_id, None)
        if found is None:
            return None
        slot, part = found
        if slot.flying is not None and slot.flying_id == message_id:
            item = slot.flying
            slot.flying = None
            del self._flying[slot.key]
        else:  # it was given up, or sent over an earlier connection, and did arrive
            item = slot.pending.pop(part)[1]
        self._settle(slot)
        return item

    def to_send(self, now: float, most: int = 1 << 30) -> list[T]:
        """What to write at ``now``: overdue items first, then new ones.

        :param most: items returned at most; call again for the others.
        """
        out = self._overdue(now, most) if self._flying else []
        while self._ready and len(self._flying) < self.width and len(out) < most:
            key, slot = self._ready.popitem(last=False)
            part = next(iter(slot.pending))
            message_id, item = slot.pending.pop(part)
            slot.flying, slot.flying_id, slot.flying_part = item, message_id, part
            slot.sends = 1
            slot.due = now + self._resend_after
            self._flying[key] = slot
            self._by_id[message_id] = slot, part
            out.append(item)
        return out

    def next_due(self) -> float | None:
        """When :meth:`to_send` next has a resend; ``None`` if nothing is in flight."""
        for slot in self._flying.values():
            return slot.due
        return None

    def connection_lost(self) -> None:
        """Put what was in flight back at the head of the queue, oldest first."""
        for key, slot in reversed(self._flying.items()):
            self._unsend(slot)
            self._ready[key] = slot
            self._ready.move_to_end(key, last=False)
        self._flying.clear()

    def clear(self) -> None:
        """Forget everything: there is no one to deliver to any more."""
        self._slots.clear()
        self._ready.clear()
        self._flying.clear()
        self._by_id.clear()

    def _overdue(self, now: float, most: int) -> list[T]:
        out: list[T] = []
        while self._flying and len(out) < most:
            key, slot = next(iter(self._flying.items()))
            if slot.due > now:
                break
            assert slot.flying is not None
            if self._max_sends and slot.sends >= self._max_sends:
                del self._flying[key]
                self._unsend(slot)
                self._ready[key] = slot
                continue
            slot.sends += 1
            slot.due = now + self._resend_after
            self._flying.move_to_end(key)
            self.resends += 1
            out.append(slot.flying)
        return out

    def _unsend(self, slot: _Slot[T]) -> None:
        """Make the item in flight the first unsent one, unless a newer one took its place."""
        assert slot.flying is not None
        part, flown = slot.flying_part, (slot.flying_id, slot.flying)
        slot.flying = None
        if part in slot.pending:
            self._by_id.pop(flown[0], None)
            flown = slot.pending.pop(part)
        slot.pending = {part: flown, **slot.pending}

    def _settle(self, slot: _Slot[T]) -> None:
        """Make a slot ready, or forget it, after something was taken out of it."""
        if slot.flying is not None:
            return
        if slot.pending:
            self._ready[slot.key] = slot
        else:
            self._ready.pop(slot.key, None)
            del self._slots[slot.key]
