"""From a message to all who get it."""

from __future__ import annotations

from typing import TypeAlias

from kubeedge_tx.mqtt.acl import Access
from kubeedge_tx.mqtt.effects import Deliver, Ticket, Turn
from kubeedge_tx.mqtt.limits import Counters, Limits
from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.records import RetainedDrop, RetainedPut
from kubeedge_tx.mqtt.retained import RetainedMessages
from kubeedge_tx.mqtt.session import Local, Session
from kubeedge_tx.mqtt.subscriptions import Delivery, Options, SubscriptionTree

Subscriber: TypeAlias = Session | Local


class Router:
    """Subscriptions and retained messages of all.

    :param access: ``None``: everyone may get everything.
    :param is_durable: retained messages go to the journal.
    """

    __slots__ = ("_access", "_counters", "_is_durable", "_turn", "locals", "retained", "tree")

    def __init__(
        self,
        limits: Limits,
        turn: Turn,
        counters: Counters,
        access: Access | None,
        *,
        is_durable: bool,
    ) -> None:
        self.tree: SubscriptionTree[Subscriber] = SubscriptionTree()
        self.retained = RetainedMessages(limits.max_retained_messages, limits.max_retained_bytes)
        self.locals = 0
        """Subscribers in this process."""
        self._turn = turn
        self._counters = counters
        self._access = access
        self._is_durable = is_durable

    def route(
        self, message: Message, origin: Subscriber | None, now: float, ticket: Ticket | None
    ) -> bool:
        """Pass a message on to all who subscribed; tells whether anybody did.

        :param origin: who published it.
        :param ticket: what waits for subscribers in this process.
        """
        plan = self.tree.plan(message.topic)
        qos = message.qos
        is_plain = message.expires is None
        for delivery in plan.deliveries:
            subscriber = delivery.subscriber
            if subscriber is origin and delivery.has_no_local:
                rest = delivery.to_publisher()
                if rest is None:
                    continue
                delivery = rest
            if isinstance(subscriber, Local):
                self._hand_over(subscriber, message, delivery, ticket)
                continue
            if self._access is not None and not self.may_read(subscriber, message.topic):
                continue
            granted = delivery.qos
            if granted > qos:
                granted = qos
            flow = subscriber.flow
            if not granted and is_plain and not delivery.identifiers:
                # QoS 0 to a client that can take it: the same bytes for all of them.
                sink = flow.sink
                if sink is not None and sink.is_plain and sink.is_writable and not flow.queued_qos0:
                    head, tail = message.wire(
                        sink.version, 0x31 if message.retain and delivery.keeps_retain else 0x30
                    )
                    self._counters.sent += 1
                    sink.put(head, tail)
                    continue
            flow.offer(
                message,
                granted,
                message.retain and delivery.keeps_retain,
                delivery.identifiers,
                now,
            )
        is_matched = bool(plan.deliveries)
        for group in plan.groups:
            chosen = group.pick(
                *(
                    (self._has_room, self._is_connected, self._is_there)
                    if self._access is None
                    else (
                        lambda each: self._has_room(each) and self.may_read(each, message.topic),
                        lambda each: self.may_read(each, message.topic),
                    )
                )
            )
            if chosen is None:
                continue
            is_matched = True
            subscriber = chosen.subscriber
            if isinstance(subscriber, Local):
                self._hand_over(subscriber, message, chosen, ticket)
            else:
                subscriber.flow.offer(
                    message,
                    min(qos, chosen.qos),
                    message.retain and chosen.keeps_retain,
                    chosen.identifiers,
                    now,
                )
        return is_matched

    def _hand_over(
        self,
        local: Local,
        message: Message,
        delivery: Delivery[Subscriber],
        ticket: Ticket | None,
    ) -> None:
        self._counters.delivered_local += 1
        if ticket is not None:
            ticket.remaining += 1
        self._turn.add(
            Deliver(
                local,
                message,
                min(message.qos, delivery.qos),
                message.retain and delivery.keeps_retain,
                ticket,
            )
        )

    @staticmethod
    def _has_room(subscriber: Subscriber) -> bool:
        return isinstance(subscriber, Local) or subscriber.flow.has_room

    @staticmethod
    def _is_connected(subscriber: Subscriber) -> bool:
        return isinstance(subscriber, Local) or subscriber.flow.sink is not None

    @staticmethod
    def _is_there(subscriber: Subscriber) -> bool:
        return True

    def may_read(self, subscriber: Subscriber, topic: str) -> bool:
        """Ask the access list whether a client gets messages on a topic."""
        if self._access is None or isinstance(subscriber, Local):
            return True
        known = subscriber.reads.get(topic) if subscriber.reads is not None else None
        if known is None:
            known = self._access.allows(subscriber.user, subscriber.client_id, topic, False)
            subscriber.remember_read(topic, known)
        if not known:
            self._counters.denied_read += 1
        return known

    def publish(
        self, message: Message, origin: Subscriber | None, now: float, ticket: Ticket | None
    ) -> bool:
        """Keep a message if it is retained, and pass it on; see :meth:`route`."""
        if message.retain:
            if not message.payload or self.retained.has_room(message):
                self.keep(message)
            else:
                self._counters.retained_refused += 1
        return self.route(message, origin, now, ticket)

    def keep(self, message: Message) -> None:
        """Keep a retained message, or forget the topic's if it is empty [MQTT-3.3.1-6]."""
        journal = self._turn.journal
        if not message.payload:
            if self.retained.drop(message.topic) and self._is_durable:
                journal.operations.append(RetainedDrop(message.topic))
            return
        self.retained.put(message)
        if self._is_durable:
            if not message.number:
                message.number = next(journal.numbers)
            journal.operations.append(RetainedPut(message.topic, message.to_record(journal.epoch)))

    def expire(self, now: float) -> None:
        """Forget retained messages whose time is over."""
        for topic in self.retained.expired(now):
            self.retained.drop(topic)
            self._counters.dropped_expired += 1
            if self._is_durable:
                self._turn.journal.operations.append(RetainedDrop(topic))

    def greet(self, subscriber: Subscriber, options: Options, now: float) -> None:
        """Give a new subscription the retained messages it matches."""
        spare = len(self.retained)
        for message in self.retained.matching(options.filter, now):
            granted = min(message.qos, options.qos)
            if isinstance(subscriber, Local):
                self._counters.delivered_local += 1
                self._turn.add(Deliver(subscriber, message, granted, True, None))
            elif self.may_read(subscriber, message.topic):
                identifiers = (options.identifier,) if options.identifier else ()
                subscriber.flow.offer(message, granted, True, identifiers, now, spare)
