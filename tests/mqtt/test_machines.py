"""Two clients, a broker and a store, and everything that can happen to them."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.mqtt import clienteffects as c
from kubeedge_tx.mqtt import effects as e
from kubeedge_tx.mqtt.broker import Broker
from kubeedge_tx.mqtt.clientstate import ClientState
from kubeedge_tx.mqtt.connection import Connection
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.packets import V4, V5, Subscription
from kubeedge_tx.mqtt.records import Operation


class _Link:
    """One client and its connection: bytes wait in both directions."""

    def __init__(self, world: World, name: str, version: int) -> None:
        self.world = world
        self.client = ClientState(
            c.ClientOptions(
                client_id=name,
                version=version,
                clean_start=False,
                session_expiry=10_000,
                receive_maximum=4,
                max_inflight=4,
                keep_alive=0,
            )
        )
        self.connection: Connection | None = None
        self.up = bytearray()
        self.down = bytearray()

    def connect(self) -> None:
        if self.connection is None:
            self.up.clear()
            self.down.clear()
            self.connection = self.world.broker.open("x", self.world.now)
            self.world.links[self.connection] = self
            self.do(self.client.opened(self.world.now))

    def cut(self) -> None:
        if self.connection is not None:
            connection, self.connection = self.connection, None
            self.do(self.client.lost(self.world.now))
            self.world.do(self.world.broker.lost(connection, self.world.now))

    def do(self, effects: list[c.ClientEffect]) -> None:
        for each in effects:
            match each:
                case c.Write():
                    if self.connection is not None:
                        self.up += b"".join(each.data)
                case c.Received():
                    self.world.got.append(each.message.payload)
                    if each.qos:
                        self.do(self.client.acknowledge(each, self.world.now))
                case c.Completed():
                    if each.token in self.world.tokens:
                        self.world.completed.add(self.world.tokens[each.token])
                case c.Shut() | c.Ended() | c.Refused() | c.Failed():
                    raise AssertionError(each)

    def flow_up(self, size: int) -> None:
        data = bytes(self.up[:size])
        del self.up[:size]
        if data and self.connection is not None:
            self.world.do(self.world.broker.receive(self.connection, data, self.world.now))

    def flow_down(self, size: int) -> None:
        data = bytes(self.down[:size])
        del self.down[:size]
        if data and self.connection is not None:
            self.do(self.client.receive(data, self.world.now))


class World:
    """A publisher, a subscriber, a broker whose store is slow."""

    def __init__(self, versions: tuple[int, int]) -> None:
        self.now = 1000.0
        self.kept: list[Operation] = []
        self.uncommitted: deque[e.Persist] = deque()
        self.links: dict[Connection, _Link] = {}
        self.got: list[bytes] = []
        self.tokens: dict[c.Token, bytes] = {}
        self.completed: set[bytes] = set()
        self.serial = 0
        self.broker = self.new_broker()
        self.sender = _Link(self, "sender", versions[0])
        self.reader = _Link(self, "reader", versions[1])
        self.settle()
        _, effects = self.reader.client.subscribe([Subscription("#", 2)], now=self.now)
        self.reader.do(effects)
        self.settle()

    def new_broker(self) -> Broker:
        return Broker(Limits(max_inflight=3, receive_maximum=4), ids=lambda: "x")

    def do(self, effects: list[e.Effect]) -> None:
        for each in effects:
            match each:
                case e.Send():
                    self.links[each.connection].down += b"".join(each.data)
                case e.Persist():
                    self.uncommitted.append(each)
                case e.Close():
                    # The broker may end a former connection; no other has a reason to end.
                    assert each.connection is not self.links[each.connection].connection, each

    def commit(self) -> None:
        if self.uncommitted:
            persist = self.uncommitted.popleft()
            self.kept += persist.operations
            self.do(self.broker.settle(persist.tickets, self.now))

    def crash(self) -> None:
        """``kill -9``: what is not committed never was."""
        for link in (self.sender, self.reader):
            if link.connection is not None:
                link.connection = None
                link.do(link.client.lost(self.now))
        self.uncommitted.clear()
        self.links.clear()
        self.broker = self.new_broker()
        self.do(self.broker.restore(self.kept, self.now))

    def publish(self, qos: int) -> None:
        self.serial += 1
        payload = b"%d:%d" % (qos, self.serial)
        token, effects = self.sender.client.publish("a", payload, qos=qos, now=self.now)
        self.tokens[token] = payload
        self.sender.do(effects)

    def settle(self) -> None:
        """Let everything come to rest, with all connected."""
        for _ in range(2000):
            for link in (self.sender, self.reader):
                link.connect()
                link.flow_up(1 << 20)
                link.flow_down(1 << 20)
            while self.uncommitted:
                self.commit()
            if not any(len(each.up) + len(each.down) for each in (self.sender, self.reader)):
                return
        raise AssertionError("it never comes to rest")

    def step(self, verb: str, number: int) -> None:
        link = (self.sender, self.reader)[number % 2]
        self.now += 0.1
        match verb:
            case "publish":
                self.publish(1 + number % 2)
            case "up":
                link.flow_up(1 + number)
            case "down":
                link.flow_down(1 + number)
            case "commit":
                self.commit()
            case "cut":
                link.cut()
            case "connect":
                link.connect()
            case "tick":
                self.do(self.broker.tick(self.now))
            case "crash":
                self.crash()


VERBS = ["publish"] * 4 + ["up", "down"] * 5 + ["commit"] * 3 + ["connect"] * 2 + ["cut", "tick"]
NUMBERS = st.integers(0, 60)
CALM = st.lists(st.tuples(st.sampled_from(VERBS), NUMBERS), min_size=60, max_size=160)
WILD = st.lists(st.tuples(st.sampled_from([*VERBS, "crash"]), NUMBERS), min_size=60, max_size=160)
BOTH = st.sampled_from([(V4, V4), (V5, V5), (V4, V5)])


class ExactlyOnceTests(SynchronousTestCase):
    """Cut at any byte, killed at any commit: QoS 1 arrives, QoS 2 arrives once."""

    def check(self, steps: list[tuple[str, int]], versions: tuple[int, int]) -> None:
        world = World(versions)
        for verb, number in steps:
            world.step(verb, number)
        world.settle()
        sent = set(world.tokens.values())
        self.assertEqual(world.completed, sent)
        counts = Counter(world.got)
        self.assertEqual(set(counts), sent)
        for payload, count in counts.items():
            if payload.startswith(b"2:"):
                self.assertEqual(count, 1, payload)
        for mark in (b"1:", b"2:"):
            first: list[bytes] = []
            for payload in world.got:
                if payload.startswith(mark) and payload not in first:
                    first.append(payload)
            numbers = [int(each[2:]) for each in first]
            self.assertEqual(numbers, sorted(numbers), "order")
        for link in (world.sender, world.reader):
            self.assertEqual(len(link.client), 0)
        for session in world.broker.sessions.values():
            self.assertEqual(len(session.flow), 0)
            self.assertFalse(session.incoming)

    @settings(max_examples=120)
    @given(CALM, BOTH)
    def test_cut(self, steps: list[tuple[str, int]], versions: tuple[int, int]) -> None:
        """Connections break at any byte."""
        self.check(steps, versions)

    @settings(max_examples=120)
    @given(WILD, BOTH)
    def test_killed(self, steps: list[tuple[str, int]], versions: tuple[int, int]) -> None:
        """The broker dies, too, with what its store had not committed."""
        self.check(steps, versions)
