"""Who gets a message: the tree of subscriptions, and a memory of what it answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import msgspec

S = TypeVar("S")
"""A subscriber; told apart by identity."""

_REMEMBERED: Final = 100_000
"""Topics and their subscribers that are remembered, all together."""


class Options(msgspec.Struct, frozen=True, gc=False):
    """How one subscriber has one filter."""

    filter: str
    """Without ``$share`` and the share's name."""
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int = 0
    """0 for none."""


class Delivery(Generic[S]):
    """One subscriber of a topic; its overlapping filters are one delivery.

    The QoS is the highest of all filters [MQTT-3.3.4-2] (3.1.1: [MQTT-3.3.5-1]); the
    identifiers are those of all [MQTT-3.3.4-4].
    """

    __slots__ = ("has_no_local", "identifiers", "keeps_retain", "options", "qos", "subscriber")

    def __init__(self, subscriber: S, options: tuple[Options, ...]) -> None:
        self.subscriber = subscriber
        self.options = options
        self.qos = max(each.qos for each in options)
        self.keeps_retain = any(each.retain_as_published for each in options)
        self.has_no_local = any(each.no_local for each in options)
        self.identifiers = tuple(each.identifier for each in options if each.identifier)

    def to_publisher(self) -> Delivery[S] | None:
        """What is left if the subscriber is the publisher [MQTT-3.8.3-3]."""
        rest = tuple(each for each in self.options if not each.no_local)
        return Delivery(self.subscriber, rest) if rest else None


class Group(Generic[S]):
    """The subscribers of one shared subscription; each message goes to one of them."""

    __slots__ = ("_next", "members")

    def __init__(self) -> None:
        self.members: dict[S, Delivery[S]] = {}
        self._next = 0

    def pick(self, *tests: Callable[[S], bool]) -> Delivery[S] | None:
        """The next member in turn that passes the first test; else the second; and so on."""
        members = tuple(self.members.values())
        count = len(members)
        for test in tests:
            for step in range(count):
                at = (self._next + step) % count
                if test(members[at].subscriber):
                    self._next = at + 1
                    return members[at]
        return None


class Plan(Generic[S]):
    """All who get a message."""

    __slots__ = ("deliveries", "groups")

    def __init__(self, deliveries: tuple[Delivery[S], ...], groups: tuple[Group[S], ...]) -> None:
        self.deliveries = deliveries
        self.groups = groups


class _Node(Generic[S]):
    __slots__ = ("children", "groups", "own")

    def __init__(self) -> None:
        self.children: dict[str, _Node[S]] | None = None
        self.own: dict[S, Delivery[S]] | None = None
        self.groups: dict[str, Group[S]] | None = None

    @property
    def is_empty(self) -> bool:
        return not self.children and not self.own and not self.groups


class SubscriptionTree(Generic[S]):
    """Filters, level by level."""

    __slots__ = ("_plans", "_remembered", "_root")

    def __init__(self) -> None:
        self._root: _Node[S] = _Node()
        self._plans: dict[str, Plan[S]] = {}
        self._remembered = 0

    def add(self, share: str, subscriber: S, options: Options) -> None:
        """Add a subscription, or replace the subscriber's one with the same filter.

        :param share: name of a shared subscription, else empty.
        """
        node = self._root
        for level in options.filter.split("/"):
            if node.children is None:
                node.children = {}
            found = node.children.get(level)
            if found is None:
                found = node.children[level] = _Node()
            node = found
        if share:
            if node.groups is None:
                node.groups = {}
            group = node.groups.get(share)
            if group is None:
                group = node.groups[share] = Group()
            group.members[subscriber] = Delivery(subscriber, (options,))
        else:
            if node.own is None:
                node.own = {}
            node.own[subscriber] = Delivery(subscriber, (options,))
        self._forget(options.filter)

    def remove(self, share: str, subscriber: S, topic_filter: str) -> None:
        """Take a subscription out; one that is not there is ignored."""
        path: list[tuple[_Node[S], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            found = node.children.get(level) if node.children else None
            if found is None:
                return
            path.append((node, level))
            node = found
        if not share:
            if node.own:
                node.own.pop(subscriber, None)
        elif node.groups and share in node.groups:
            node.groups[share].members.pop(subscriber, None)
            if not node.groups[share].members:
                del node.groups[share]
        for parent, level in reversed(path):
            assert parent.children is not None
            if not parent.children[level].is_empty:
                break
            del parent.children[level]
        self._forget(topic_filter)

    def _forget(self, topic_filter: str) -> None:
        if "+" in topic_filter or "#" in topic_filter:
            self._plans.clear()
            self._remembered = 0
        else:
            self._plans.pop(topic_filter, None)

    def plan(self, topic: str) -> Plan[S]:
        """Who gets a message on a topic; the same object until that changes."""
        plan = self._plans.get(topic)
        if plan is None:
            plan = self._match(topic)
            self._remembered += 1 + len(plan.deliveries)
            if self._remembered > _REMEMBERED:
                self._plans.clear()
                self._remembered = 1 + len(plan.deliveries)
            self._plans[topic] = plan
        return plan

    def _match(self, topic: str) -> Plan[S]:
        found: dict[S, Delivery[S]] = {}
        groups: list[Group[S]] = []
        for node in self._nodes(topic):
            if node.own:
                if not found:
                    found = dict(node.own)
                else:
                    for subscriber, delivery in node.own.items():
                        known = found.get(subscriber)
                        if known is not None:
                            delivery = Delivery(subscriber, known.options + delivery.options)
                        found[subscriber] = delivery
            if node.groups:
                groups.extend(node.groups.values())
        return Plan(tuple(found.values()), tuple(groups))

    def _nodes(self, topic: str) -> Iterator[_Node[S]]:
        """Nodes of all filters that match; wildcards at the top not for ``$`` [MQTT-4.7.2-1]."""
        levels = topic.split("/")
        front = [self._root]
        is_first, wild = True, not topic.startswith("$")
        for level in levels:
            after: list[_Node[S]] = []
            for node in front:
                children = node.children
                if children is None:
                    continue
                if wild or not is_first:
                    if (rest := children.get("#")) is not None:
                        yield rest
                    if (any_level := children.get("+")) is not None:
                        after.append(any_level)
                if (same := children.get(level)) is not None:
                    after.append(same)
            front, is_first = after, False
            if not front:
                return
        for node in front:
            yield node
            if node.children is not None and (rest := node.children.get("#")) is not None:
                yield rest  # "a/#" matches "a", too [MQTT-4.7.1-2]
