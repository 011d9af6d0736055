from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.retained import RetainedMessages
from kubeedge_tx.mqtt.subscriptions import Options, SubscriptionTree
from kubeedge_tx.mqtt.topics import matches
from tests.mqtt.strategies import FILTERS, NAMES


def oracle(topic_filter: str, name: str) -> bool:
    """The rules of section 4.7, word by word and slowly."""
    if name.startswith("$") and topic_filter[0] in "+#":
        return False

    def step(wanted: list[str], levels: list[str]) -> bool:
        if not wanted:
            return not levels
        if wanted[0] == "#":
            return True
        if not levels:
            return False
        return wanted[0] in ("+", levels[0]) and step(wanted[1:], levels[1:])

    return step(topic_filter.split("/"), name.split("/"))


class MatchTests(SynchronousTestCase):
    """Which filters match which names."""

    @given(FILTERS, NAMES)
    def test_oracle(self, topic_filter: str, name: str) -> None:
        """As the naive reading of the specification says."""
        self.assertEqual(matches(topic_filter, name), oracle(topic_filter, name))

    def test_examples(self) -> None:
        """The specification's own examples."""
        for topic_filter, name, wanted in (
            ("sport/tennis/player1/#", "sport/tennis/player1", True),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
            ("sport/#", "sport", True),
            ("sport/tennis/+", "sport/tennis/player1", True),
            ("sport/tennis/+", "sport/tennis/player1/ranking", False),
            ("sport/+", "sport", False),
            ("sport/+", "sport/", True),
            ("+/+", "/finance", True),
            ("/+", "/finance", True),
            ("+", "/finance", False),
            ("#", "$SYS/a", False),
            ("+/monitor/Clients", "$SYS/monitor/Clients", False),
            ("$SYS/#", "$SYS/a", True),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
            ("$SYS/#", "$SYS", True),
            ("ACCOUNTS", "Accounts", False),
            ("\u00c5", "A\u030a", False),
            ("a/", "a", False),
            ("+/#", "a", True),
        ):
            with self.subTest(f"{topic_filter} {name}"):
                self.assertEqual(matches(topic_filter, name), wanted)
                tree: SubscriptionTree[str] = SubscriptionTree()
                tree.add("", "me", Options(topic_filter))
                self.assertEqual(bool(tree.plan(name).deliveries), wanted)
                kept = RetainedMessages(10, 10_000)
                kept.put(Message(name, b"x"))
                self.assertEqual(bool(kept.matching(topic_filter, 0)), wanted)


class _Trees(RuleBasedStateMachine):
    """The tree against a list of subscriptions."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: SubscriptionTree[str] = SubscriptionTree()
        self.subs: dict[tuple[str, str, str], Options] = {}
        self.asked: set[str] = {"a/b"}

    @rule(
        who=st.sampled_from("xyz"),
        share=st.sampled_from(("", "", "g", "h")),
        topic_filter=FILTERS,
        qos=st.integers(0, 2),
        identifier=st.integers(0, 3),
        no_local=st.booleans(),
    )
    def add(
        self, who: str, share: str, topic_filter: str, qos: int, identifier: int, no_local: bool
    ) -> None:
        options = Options(topic_filter, qos, identifier=identifier, no_local=no_local and not share)
        self.tree.add(share, who, options)
        self.subs[share, who, topic_filter] = options

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        known = st.sampled_from(sorted(self.subs)) if self.subs else st.nothing()
        key = data.draw(known | st.tuples(st.just(""), st.just("x"), FILTERS))
        self.tree.remove(*key)
        self.subs.pop(key, None)

    @rule(name=NAMES)
    def ask(self, name: str) -> None:
        self.asked.add(name)

    @invariant()
    def same(self) -> None:
        for name in self.asked:
            plan = self.tree.plan(name)
            found = {
                each.subscriber: (
                    each.qos,
                    sorted(each.identifiers),
                    sorted(option.filter for option in each.options),
                )
                for each in plan.deliveries
            }
            wanted: dict[str, tuple[int, list[int], list[str]]] = {}
            for (share, who, topic_filter), options in self.subs.items():
                if share or not oracle(topic_filter, name):
                    continue
                qos, identifiers, filters = wanted.get(who, (0, [], []))
                if options.identifier:
                    identifiers = sorted([*identifiers, options.identifier])
                wanted[who] = (
                    max(qos, options.qos),
                    identifiers,
                    sorted([*filters, topic_filter]),
                )
            assert found == wanted, (name, found, wanted)
            groups = sorted(sorted(each.members) for each in plan.groups)
            shared: dict[tuple[str, str], set[str]] = {}
            for share, who, topic_filter in self.subs:
                if share and oracle(topic_filter, name):
                    shared.setdefault((share, topic_filter), set()).add(who)
            assert groups == sorted(sorted(each) for each in shared.values())


class TreeTests(SynchronousTestCase):
    """The tree of subscriptions."""

    def test_random_changes(self) -> None:
        """Whatever was subscribed and unsubscribed, the tree and its memory are right."""
        run_state_machine_as_test(_Trees, settings=settings(max_examples=60))


class GroupTests(SynchronousTestCase):
    """Shared subscriptions."""

    def test_fair(self) -> None:
        """Members get their turns one after the other."""
        tree: SubscriptionTree[str] = SubscriptionTree()
        for who in "xyz":
            tree.add("g", who, Options("a"))
        (group,) = tree.plan("a").groups
        picked = [group.pick(lambda _: True) for _ in range(6)]
        self.assertEqual([each.subscriber for each in picked if each], list("xyzxyz"))

    def test_preference(self) -> None:
        """Those who pass an earlier test come before those who pass a later one."""
        tree: SubscriptionTree[str] = SubscriptionTree()
        for who in "xyz":
            tree.add("g", who, Options("a"))
        (group,) = tree.plan("a").groups
        chosen = group.pick(lambda who: who == "z", lambda _: True)
        assert chosen is not None
        self.assertEqual(chosen.subscriber, "z")
        self.assertIsNone(group.pick(lambda _: False))


class _Kept(RuleBasedStateMachine):
    """Retained messages against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = RetainedMessages(1000, 1_000_000)
        self.wanted: dict[str, Message] = {}

    @rule(name=NAMES, expires=st.none() | st.integers(0, 20))
    def put(self, name: str, expires: int | None) -> None:
        message = Message(name, b"x", expires=None if expires is None else float(expires))
        self.kept.put(message)
        self.wanted[name] = message

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        self.assertion(self.kept.drop(name) == (self.wanted.pop(name, None) is not None))

    @rule(topic_filter=FILTERS, now=st.integers(0, 20))
    def ask(self, topic_filter: str, now: int) -> None:
        found = sorted(each.topic for each in self.kept.matching(topic_filter, now))
        wanted = sorted(
            name
            for name, message in self.wanted.items()
            if oracle(topic_filter, name) and (message.expires is None or message.expires > now)
        )
        self.assertion(found == wanted)

    @invariant()
    def sizes(self) -> None:
        self.assertion(len(self.kept) == len(self.wanted))
        self.assertion(self.kept.size_bytes == sum(each.size for each in self.wanted.values()))

    @staticmethod
    def assertion(holds: bool) -> None:
        assert holds


class RetainedTests(SynchronousTestCase):
    """Retained messages."""

    def test_random_changes(self) -> None:
        """Whatever was kept and forgotten, filters find it or not."""
        run_state_machine_as_test(_Kept, settings=settings(max_examples=60))


class RoomTests(SynchronousTestCase):
    """Retained messages have limits."""

    @given(st.lists(st.tuples(NAMES, st.integers(0, 300)), max_size=20))
    @example([("a", 100), ("a", 300)])
    def test_limits(self, puts: list[tuple[str, int]]) -> None:
        """has_room() keeps them within both limits; a replacement counts once."""
        kept = RetainedMessages(3, 600)
        for name, size in puts:
            message = Message(name, b"x" * size)
            if kept.has_room(message):
                kept.put(message)
            self.assertLessEqual(len(kept), 3)
            self.assertLessEqual(kept.size_bytes, 600)
