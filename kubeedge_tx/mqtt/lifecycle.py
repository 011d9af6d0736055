"""Sessions: how they begin, go on, wait and end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from kubeedge_tx.mqtt.connection import Connection
from kubeedge_tx.mqtt.effects import Ticket, Turn
from kubeedge_tx.mqtt.journal import RELEASED, SENT, Item
from kubeedge_tx.mqtt.limits import Counters, Limits
from kubeedge_tx.mqtt.message import Message, from_record
from kubeedge_tx.mqtt.outflow import Outflow
from kubeedge_tx.mqtt.packets import NEVER, Will
from kubeedge_tx.mqtt.records import (
    IncomingDrop,
    IncomingPut,
    Operation,
    QueueDrop,
    QueuePut,
    QueueReleased,
    QueueSent,
    RetainedDrop,
    RetainedPut,
    SessionDrop,
    SessionPut,
    SubscriptionDrop,
    SubscriptionPut,
    unpack_properties,
)
from kubeedge_tx.mqtt.routing import Router
from kubeedge_tx.mqtt.session import Session
from kubeedge_tx.mqtt.subscriptions import Options
from kubeedge_tx.mqtt.topics import split_share
from kubeedge_tx.mqtt.wills import Deadlines, to_message, will_delay


class Held(Ticket):
    """A message of QoS 2 that goes on once the journal is on disk."""

    __slots__ = ("flow", "item")

    def __init__(self, flow: Outflow, item: Item) -> None:
        super().__init__()
        self.remaining = 1
        self.flow = flow
        self.item = item


class Sessions:
    """All sessions by client id.

    :param may_publish_will: asks the access list.
    :param is_durable: sessions that outlive their connections go to the journal.
    """

    __slots__ = (
        "_counters",
        "_deadlines",
        "_is_durable",
        "_limits",
        "_may_publish_will",
        "_router",
        "_turn",
        "by_id",
    )

    def __init__(
        self,
        limits: Limits,
        router: Router,
        turn: Turn,
        counters: Counters,
        may_publish_will: Callable[[Session, str], bool],
        *,
        is_durable: bool,
    ) -> None:
        self.by_id: dict[str, Session] = {}
        self._limits = limits
        self._router = router
        self._turn = turn
        self._counters = counters
        self._may_publish_will = may_publish_will
        self._is_durable = is_durable
        self._deadlines = Deadlines()

    def _hold(self, flow: Outflow, item: Item) -> None:
        self._turn.tickets.append(Held(flow, item))

    def _make(self, client_id: str, expiry: int) -> Session:
        limits = self._limits
        flow = Outflow(
            client_id,
            self._counters,
            max_messages=limits.queue_messages,
            max_bytes=limits.queue_bytes,
            keep_qos0=limits.queue_qos0_offline,
            hold=self._hold,
        )
        if expiry and self._is_durable:
            flow.journal = self._turn.journal
        session = self.by_id[client_id] = Session(client_id, flow)
        session.expiry = expiry
        return session

    def begin(
        self,
        connection: Connection,
        client_id: str,
        *,
        clean: bool,
        expiry: int,
        will: Will | None,
        user: str,
        now: float,
    ) -> bool:
        """Give a connection its session, a former one if there is and it is wanted.

        No other connection has it any more.

        :returns: the session was there [MQTT-3.2.2-2] [MQTT-3.2.2-3].
        """
        session = self.by_id.get(client_id)
        if session is not None and (clean or session.user != user):
            self.drop(session, now)
            session = None
        is_present = session is not None
        if session is None:
            session = self._make(client_id, expiry)
        session.connection = connection
        session.user = user
        session.expiry = expiry
        session.expires_at = session.will_due = None
        session.will = will  # one that was due is no more [MQTT-3.1.3-9]
        session.reads = None
        connection.session = session
        self._note(session)
        return is_present

    def _note(self, session: Session) -> None:
        if session.is_durable:
            journal = self._turn.journal
            journal.operations.append(session.to_record(journal.epoch))

    def leave(self, session: Session, now: float) -> None:
        """Its connection is gone; its will, if it has one still, is published or waits."""
        session.connection = None
        session.flow.detach()
        if not session.expiry:
            self.drop(session, now)
            return
        session.expires_at = session.ends_after(now)
        if session.will is not None:
            delay = will_delay(session.will)
            if delay:
                session.will_due = now + delay
            else:
                self._publish_will(session, now)
        self._deadlines.add(session)
        self._note(session)

    def drop(self, session: Session, now: float) -> None:
        """End a session that has no connection; a will that waits is published now."""
        session.is_alive = False
        if self.by_id.get(session.client_id) is session:
            del self.by_id[session.client_id]
        for share, options in session.subscriptions.values():
            self._router.tree.remove(share, session, options.filter)
        session.subscriptions.clear()
        if session.is_durable:
            self._turn.journal.operations.append(SessionDrop(session.client_id))
            session.flow.journal = None
        self._publish_will(session, now)

    def _publish_will(self, session: Session, now: float) -> None:
        will, session.will, session.will_due = session.will, None, None
        if will is None:
            return
        if self._may_publish_will(session, will.topic):
            message = to_message(will, session.client_id, now)
            self._router.publish(message, session, now, None)
        else:
            self._counters.denied_publish += 1

    def tick(self, now: float) -> None:
        """Publish wills and end sessions whose time has come."""
        for session in self._deadlines.due(now):
            if session.connection is not None:
                continue
            if session.expires_at is not None and session.expires_at <= now:
                self.drop(session, now)
                continue
            if session.will_due is not None and session.will_due <= now:
                self._publish_will(session, now)
                self._note(session)
            self._deadlines.add(session)

    def restore(self, operations: Iterable[Operation], now: float) -> None:
        """Bring back what a store kept; see :mod:`.records`."""
        messages: dict[int, Message] = {}
        items: dict[tuple[str, int], Item] = {}
        highest = 0
        epoch = self._turn.journal.epoch
        for each in operations:
            if isinstance(each, QueuePut):
                message = messages.get(each.message.number)
                if message is None:
                    message = from_record(each.message, epoch)
                    messages[each.message.number] = message
                item = Item(message, each.qos, each.retain, each.identifiers)
                item.number, item.packet_id = each.number, each.packet_id
                item.state = SENT if each.packet_id else item.state
                items[each.client_id, each.number] = item
                highest = max(highest, each.number, each.message.number)
            elif isinstance(each, QueueSent):
                item = items[each.client_id, each.number]
                item.packet_id, item.state = each.packet_id, SENT
            elif isinstance(each, QueueReleased):
                items[each.client_id, each.number].state = RELEASED
            elif isinstance(each, QueueDrop):
                items.pop((each.client_id, each.number), None)
            elif isinstance(each, RetainedPut):
                self._router.retained.put(from_record(each.message, epoch))
                highest = max(highest, each.message.number)
            elif isinstance(each, RetainedDrop):
                self._router.retained.drop(each.topic)
            elif isinstance(each, SessionDrop):
                for key in [key for key in items if key[0] == each.client_id]:
                    del items[key]
                if (session := self.by_id.get(each.client_id)) is not None:
                    session.will = session.flow.journal = None
                    self.drop(session, now)
            else:
                self._restore_session(each, now)
        for (client_id, _), item in sorted(items.items(), key=lambda pair: pair[0][1]):
            session = self.by_id.get(client_id)
            if session is not None:
                session.flow.restore(item)
        self._turn.journal.numbers = count(highest + 1)
        for session in tuple(self.by_id.values()):
            self._resume_waiting(session, now)

    def _restore_session(
        self,
        each: SessionPut | SubscriptionPut | SubscriptionDrop | IncomingPut | IncomingDrop,
        now: float,
    ) -> None:
        session = self.by_id.get(each.client_id)
        if isinstance(each, SessionPut):
            if session is None:
                session = self._make(each.client_id, NEVER)  # the store has it, so it is durable
            epoch = self._turn.journal.epoch
            session.user, session.expiry = each.user, each.expiry
            session.expires_at = None if each.expires_at is None else each.expires_at - epoch
            session.will = session.will_due = None
            if (kept := each.will) is not None:
                session.will = Will(
                    topic=kept.topic,
                    payload=kept.payload,
                    qos=kept.qos,
                    retain=kept.retain,
                    properties=unpack_properties(kept.properties),
                )
                session.will_due = None if kept.due_at is None else kept.due_at - epoch
            return
        if session is None:
            return
        if isinstance(each, SubscriptionPut):
            share, topic_filter = split_share(each.filter)
            options = Options(
                topic_filter,
                each.qos,
                each.no_local,
                each.retain_as_published,
                each.retain_handling,
                each.identifier,
            )
            session.subscriptions[each.filter] = (share, options)
            self._router.tree.add(share, session, options)
        elif isinstance(each, SubscriptionDrop):
            held = session.subscriptions.pop(each.filter, None)
            if held is not None:
                self._router.tree.remove(held[0], session, held[1].filter)
        elif isinstance(each, IncomingPut):
            if session.incoming is None:
                session.incoming = set()
            session.incoming.add(each.packet_id)
        elif session.incoming is not None:
            session.incoming.discard(each.packet_id)

    def _resume_waiting(self, session: Session, now: float) -> None:
        """A session that was connected when the process died lost its connection now."""
        if not session.expiry:
            self.drop(session, now)
            return
        if session.expires_at is None and session.expiry != NEVER:
            session.expires_at = session.ends_after(now)
        if session.will is not None and session.will_due is None:
            session.will_due = now + will_delay(session.will)
        self._deadlines.add(session)
        self._note(session)
