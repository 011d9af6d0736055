from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.mqtt import effects as e
from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt import records as r
from kubeedge_tx.mqtt.broker import Broker
from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Will,
)
from kubeedge_tx.mqtt.properties import Properties
from tests.mqtt.harness import EPOCH, VERSIONS, Bench, Peer


def keeper(bench: Bench, name: str = "r", version: int = V5) -> Peer:
    """A client whose session outlives its connection."""
    if version == V4:
        return bench.client(name, version, clean=False)
    return bench.client(name, version, clean=False, expiry=1000)


class RestartTests(SynchronousTestCase):
    """``kill -9`` and a new broker with what the store has."""

    def test_sessions(self) -> None:
        """Subscriptions with all options, and what waited, in order."""
        for version in VERSIONS:
            bench = Bench()
            reader = keeper(bench, version=version)
            reader.subscribe("a/#", qos=2, identifier=3 * (version == V5))
            reader.subscribe("$share/g/b", qos=1)
            reader.subscribe("gone")
            reader.unsubscribe("gone")
            reader.lose()
            for n in range(5):
                bench.client("s").publish("a/x", b"%d" % n, 1 + n % 2)
            bench = bench.restart()
            for n in range(5, 8):
                bench.client("s").publish("a/x", b"%d" % n, 1)
            bench.client("s").publish("b", b"shared", 1)
            bench.client("s").publish("gone", b"no", 1)
            reader = keeper(bench, version=version)
            self.assertTrue(reader.connack.session_present)
            wanted = (3,) if version == V5 else ()
            self.assertEqual(reader.published[0].properties.subscription_ids, wanted)
            got = reader.payloads()
            self.assertEqual(sorted(got), [*(b"%d" % n for n in range(8)), b"shared"])
            twos = [each for each in got if each in (b"1", b"3")]
            ones = [each for each in got if each not in twos]
            self.assertEqual((twos, ones), (sorted(twos), sorted(ones)))
            reader.lose()
            self.assertEqual(keeper(bench.restart(), version=version).payloads(), [])

    def test_connected_when_it_died(self) -> None:
        """A session that was connected goes on; what it had not acknowledged comes again."""
        bench = Bench()
        reader = keeper(bench)
        reader.subscribe("a", qos=2)
        bench.client("s").publish("a", b"1", 1)
        bench.client("s").publish("a", b"2", 2)
        first = {each.payload: each.packet_id for each in reader.published}
        reader = keeper(bench.restart())
        again = reader.published
        self.assertEqual({each.payload: each.packet_id for each in again}, first)
        self.assertTrue(all(each.dup for each in again))

    def test_released(self) -> None:
        """A QoS 2 message the client has is not sent again, only released."""
        bench = Bench()
        reader = keeper(bench)
        reader.subscribe("a", qos=2)
        bench.client("s").publish("a", b"1", 2)
        number = reader.last(Publish).packet_id
        reader.send(Pubrec(number))
        reader.one(Pubrel)
        reader = keeper(bench.restart())
        self.assertEqual(reader.take()[1:], [Pubrel(number)])
        reader.send(Pubcomp(number))
        reader.lose()
        self.assertEqual(len(keeper(reader.bench.restart()).got), 1)

    def test_incoming(self) -> None:
        """A QoS 2 message that was passed on is not passed on again."""
        bench = Bench()
        sender = keeper(bench, "s")
        reader = keeper(bench)
        reader.subscribe("a", qos=1)
        sender.publish("a", b"1", 2, packet_id=5)
        sender.publish("a", b"2", 2, packet_id=6)
        sender.send(Pubrel(6))
        self.assertEqual(reader.payloads(), [b"1", b"2"])
        bench = bench.restart()
        reader = keeper(bench)
        sender = keeper(bench, "s")
        for number in (5, 6):
            sender.publish("a", b"%d" % number, 2, packet_id=number, dup=True)
        self.assertEqual(reader.payloads(), [b"6"])

    def test_retained(self) -> None:
        """Retained messages stay, with properties and the time they have left."""
        bench = Bench()
        sender = bench.client("s")
        found = Properties(message_expiry=100, content_type="t", user=(("a", "b"),))
        sender.publish("a", b"1", 1, retain=True, properties=found)
        sender.publish("b", b"1", 1, retain=True)
        sender.publish("b", b"", 1, retain=True)
        bench.now += 40
        reader = bench.restart().client("r")
        reader.subscribe("#", qos=2)
        (packet,) = reader.published
        self.assertEqual((packet.topic, packet.payload, packet.qos), ("a", b"1", 1))
        self.assertEqual(packet.properties, msgspec.structs.replace(found, message_expiry=60))

    def test_expiry(self) -> None:
        """Sessions end in time though the process was away."""
        bench = Bench()
        bench.client("short", expiry=10).lose()
        bench.client("long", expiry=100).lose()
        bench.client("here", expiry=10)
        bench.client("clean")
        bench.now += 20
        bench = bench.restart()
        self.assertEqual(set(bench.broker.sessions), {"short", "long", "here"})
        bench.advance(0)
        self.assertEqual(set(bench.broker.sessions), {"long", "here"})
        bench.advance(10)
        self.assertEqual(set(bench.broker.sessions), {"long"})
        self.assertEqual(set(bench.restart().broker.sessions), {"long"})

    def test_wills(self) -> None:
        """The wills of clients that lost their broker, and of those who wait, are published."""
        bench = Bench()
        reader = keeper(bench)
        reader.subscribe("w", qos=1)
        for name, delay in (("now", 0), ("later", 50)):
            will = Will(
                topic="w", payload=name.encode(), qos=1, properties=Properties(will_delay=delay)
            )
            bench.client(name, expiry=500, will=will)
        bench.client(
            "waits",
            expiry=500,
            will=Will(topic="w", payload=b"waits", qos=1, properties=Properties(will_delay=30)),
        ).lose()
        bench.client("left", expiry=500, will=Will(topic="w", payload=b"no")).disconnect()
        bench = bench.restart()
        bench.advance(1)
        reader = keeper(bench)
        self.assertEqual(reader.payloads(), [b"now"])
        bench = bench.restart()
        reader = keeper(bench)
        bench.advance(30)
        self.assertEqual(reader.payloads(), [b"waits"])
        bench.advance(30)
        self.assertEqual(reader.payloads(), [b"later"])

    def test_dropped(self) -> None:
        """A session that ended leaves nothing in the store's account."""
        bench = Bench()
        reader = keeper(bench)
        reader.subscribe("a", qos=1)
        reader.lose()
        bench.client("s").publish("a", qos=1)
        bench.client("r").lose()
        bench = bench.restart()
        self.assertEqual(len(bench.broker.sessions), 0)
        bench.client("s").publish("a", qos=1)
        self.assertFalse(keeper(bench).connack.session_present)

    def test_expiry_taken_back(self) -> None:
        """A session that will not outlive its connection does not outlive the process."""
        bench = Bench()
        keeper(bench).lose()
        bench.client("r", clean=False)
        bench = bench.restart()
        self.assertEqual(len(bench.broker.sessions), 0)
        self.assertIsInstance(bench.store.operations[-1], r.SessionDrop)

    def test_numbers_go_on(self) -> None:
        """Numbers after a restart are higher than those before."""
        bench = Bench()
        reader = keeper(bench)
        reader.subscribe("a", qos=1)
        reader.lose()
        bench.client("s").publish("a", qos=1)
        before = [each.number for each in bench.store.operations if isinstance(each, r.QueuePut)]
        bench = bench.restart()
        at = len(bench.store.operations)
        bench.client("s").publish("a", qos=1)
        after = bench.store.operations[at:]
        (put,) = [each for each in after if isinstance(each, r.QueuePut)]
        self.assertGreater(put.number, max(before))
        self.assertGreater(put.message.number, max(before))

    def test_one_message_for_many(self) -> None:
        """All who wait for a message share it in memory after a restart, too."""
        bench = Bench()
        for n in range(3):
            reader = keeper(bench, f"r{n}")
            reader.subscribe("a", qos=1)
            reader.lose()
        bench.client("s").publish("a", b"x" * 1000, 1)
        puts = [each for each in bench.store.operations if isinstance(each, r.QueuePut)]
        self.assertEqual(len({each.message.number for each in puts}), 1)
        sessions = bench.restart().broker.sessions.values()
        self.assertEqual(len({id(next(iter(each.flow)).message) for each in sessions}), 1)

    def test_records_are_plain(self) -> None:
        """Every operation goes through msgspec and back; none shows a payload."""
        bench = Bench()
        will = Will(topic="w", payload=b"hunter2")
        reader = bench.client("r", expiry=100, will=will)
        reader.subscribe("a", qos=2)
        sender = keeper(bench, "s")
        sender.publish("a", b"hunter2", 2, retain=True)
        number = reader.last(Publish).packet_id
        reader.send(Pubrec(number), Pubcomp(number))
        reader.block()
        sender.send(Pubrel(1))
        sender.publish("a", b"hunter2", 1)
        reader.block(True)
        reader.unsubscribe("a")
        sender.publish("a", b"", retain=True)
        bench.client("r").lose()
        kinds = {type(each) for each in bench.store.operations}
        self.assertEqual(len(kinds), 12, kinds)
        for each in bench.store.operations:
            data = msgspec.msgpack.encode(each)
            self.assertEqual(msgspec.msgpack.decode(data, type=r.Operation), each)
            self.assertNotIn("hunter2", repr(each))

    def test_wall_clock(self) -> None:
        """Times in records are wall clock."""
        bench = Bench()
        bench.client("r", expiry=50).lose()
        put = bench.store.operations[-1]
        assert isinstance(put, r.SessionPut)
        self.assertEqual(put.expires_at, EPOCH + bench.now + 50)

    def test_without_a_store(self) -> None:
        """A broker that is told there is no store never asks for one."""
        broker = Broker(Limits(), ids=lambda: "x", is_durable=False)
        one = broker.open("p", 0)
        data = encode(Connect(client_id="c", version=V4, clean_start=False), V4)
        data += encode(Subscribe(packet_id=1, subscriptions=(Subscription("a", 2),)), V4)
        data += encode(Publish("a", b"", 2, True, False, 5), V4)
        kinds = [type(each) for each in broker.receive(one, data, 0)]
        self.assertEqual(kinds, [e.Send, e.Connected])


class TicketTests(SynchronousTestCase):
    """Nobody is told yes before it is true."""

    def setUp(self) -> None:
        self.bench = Bench(holds=True)
        self.reader = keeper(self.bench)
        self.reader.subscribe("a", qos=2)
        self.bench.commit()
        self.reader.take()
        self.sender = self.bench.client("s", expiry=100)
        self.bench.commit()
        self.sender.take()

    def test_publish(self) -> None:
        """PUBACK and PUBREC wait for the store; the message itself does not."""
        self.sender.publish("a", b"1", 1)
        self.assertEqual(self.sender.got, [])
        self.assertEqual(self.reader.last(Publish).payload, b"1")
        self.bench.commit()
        self.sender.one(Puback)
        self.sender.publish("a", b"2", 2, packet_id=2)
        self.assertEqual(self.sender.got, [])
        self.bench.commit()
        self.sender.one(Pubrec)

    def test_release(self) -> None:
        """PUBCOMP waits until the identifier is forgotten on disk."""
        self.sender.publish("a", b"2", 2, packet_id=2)
        self.bench.commit()
        self.sender.one(Pubrec)
        self.sender.send(Pubrel(2))
        self.assertEqual(self.sender.got, [])
        self.bench.commit()
        self.sender.one(Pubcomp)

    def test_qos_2_to_a_client(self) -> None:
        """PUBLISH and PUBREL of QoS 2 to a kept session wait for the store."""
        self.sender.publish("a", b"2", 2)
        self.assertEqual(self.reader.got, [])
        self.bench.commit()
        number = self.reader.one(Publish).packet_id
        self.reader.send(Pubrec(number))
        self.assertEqual(self.reader.got, [])
        self.bench.commit()
        self.reader.one(Pubrel)

    def test_subscribe(self) -> None:
        """SUBACK and UNSUBACK of a kept session wait, too."""
        self.assertEqual(self.reader.subscribe("b"), ())
        self.bench.commit()
        self.reader.one(Suback)

    def test_order(self) -> None:
        """A message that need not wait is answered after one that must, not before."""
        self.sender.publish("a", b"1", 1, packet_id=1)
        self.sender.publish("nobody", b"2", 1, packet_id=2)
        self.assertEqual(self.sender.got, [])
        self.bench.commit()
        self.assertEqual([each.packet_id for each in self.sender.take()], [1, 2])  # type: ignore[union-attr]

    def test_failed(self) -> None:
        """What is not on disk is not acknowledged: 0x80, or the end of a 3.1.1 connection."""
        self.sender.publish("a", b"1", 1)
        self.bench.fail()
        self.assertEqual(self.sender.one(Puback), Puback(1, reasons.UNSPECIFIED_ERROR))
        self.sender.publish("a", b"1", 2, packet_id=2)
        self.bench.fail()
        self.assertEqual(self.sender.one(Pubrec), Pubrec(2, reasons.UNSPECIFIED_ERROR))
        session = self.bench.broker.sessions["s"]
        self.assertFalse(session.incoming)
        old = self.bench.client("old", V4)
        old.take()
        old.publish("a", b"1", 1)
        self.bench.fail()
        self.assertIsNone(old.goodbye)
        self.reader.subscribe("b")
        self.bench.fail()
        self.assertEqual(self.reader.goodbye, reasons.UNSPECIFIED_ERROR)

    def test_client_gone_meanwhile(self) -> None:
        """An answer for a client that left is not written anywhere."""
        self.sender.publish("a", b"1", 1)
        self.sender.lose()
        self.bench.commit()
        self.assertEqual(self.sender.got, [])

    def test_held_over_a_reconnect(self) -> None:
        """A held message is sent once, on the connection that is there when it may be."""
        self.sender.publish("a", b"2", 2)
        self.reader.lose()
        waiting, self.bench.uncommitted = self.bench.uncommitted, []
        self.reader = keeper(self.bench)
        self.assertEqual(self.reader.published, [])
        self.bench.uncommitted = waiting + self.bench.uncommitted
        self.bench.commit()
        (packet,) = self.reader.published
        self.assertFalse(packet.dup)

    def test_local(self) -> None:
        """The acknowledgement waits for subscribers in this process."""
        self.bench.settles = False
        self.bench.local("t")
        self.sender.publish("t", b"1", 1)
        self.assertEqual(self.sender.got, [])
        (got,) = self.bench.delivered
        assert got.ticket is not None
        self.bench.run(self.bench.broker.settle([got.ticket], self.bench.now))
        self.sender.one(Puback)

    def settle(self, ticket: e.Ticket) -> None:
        self.bench.run(self.bench.broker.settle([ticket], self.bench.now))

    def test_local_and_store(self) -> None:
        """It waits for both, whoever is first."""
        for first in range(2):
            self.bench.settles = False
            local = self.bench.local("a")
            self.sender.publish("a", b"1", 1)
            ticket = self.bench.delivered.pop().ticket
            assert ticket is not None
            steps: list[Callable[[], None]] = [
                self.bench.commit,
                partial(self.settle, ticket),
            ]
            steps[first]()
            self.assertEqual(self.sender.got, [])
            steps[1 - first]()
            self.sender.one(Puback)
            self.bench.run(self.bench.broker.detach(local, self.bench.now))
            self.reader.payloads()
            self.bench.commit()

    def test_pause(self) -> None:
        """A client with too much unanswered is not read from until half is answered."""
        bench = Bench(Limits(receive_maximum=4), settles=False)
        bench.local("t")
        sender = bench.client("s", V4, keep_alive=10)
        for n in range(1, 5):
            sender.publish("t", qos=n % 2, packet_id=n)
        self.assertEqual([type(each) for each in bench.log].count(e.Pause), 1)
        bench.advance(1000)
        self.assertIsNone(sender.closed)
        for each in bench.delivered[:2]:
            assert each.ticket is not None
            bench.run(bench.broker.settle([each.ticket], bench.now))
        self.assertEqual([type(each) for each in bench.log].count(e.Resume), 1)
        bench.advance(16)
        self.assertIsNotNone(sender.closed)

    def test_own_publish(self) -> None:
        """A publish of this process is settled when all it caused is done."""
        ticket, effects = self.bench.broker.publish("a", b"1", now=self.bench.now, qos=1)
        assert ticket is not None
        self.bench.run(effects)
        self.assertEqual(self.bench.settled, [])
        self.bench.commit()
        self.assertEqual(self.bench.settled, [e.Settled(ticket, True)])
        ticket, effects = self.bench.broker.publish("a", b"1", now=self.bench.now, qos=1)
        assert ticket is not None
        self.bench.run(effects)
        self.bench.fail()
        self.assertEqual(self.bench.settled[1:], [e.Settled(ticket, False)])
        ticket, effects = self.bench.broker.publish("nobody", b"1", now=self.bench.now, qos=1)
        self.assertIsNone(ticket)
        self.assertEqual(effects, [])

    def test_one_persist_for_each_call(self) -> None:
        """All that one call causes is one transaction."""
        self.sender.send(*(Publish("a", b"", 1, packet_id=n) for n in range(1, 20)))
        (persist,) = self.bench.uncommitted
        self.assertEqual(len(persist.tickets), 19)
        self.bench.commit()
        self.assertEqual(len(self.sender.take()), 19)


class SlowTests(SynchronousTestCase):
    """Clients that do not read, or are away, and what they may cost."""

    def setUp(self) -> None:
        self.limits = Limits(queue_messages=5, queue_bytes=10_000, max_inflight=2)
        self.bench = Bench(self.limits)
        self.sender = self.bench.client("s")

    def test_bounded(self) -> None:
        """A client that does not read has a bounded queue; others are served."""
        slow, quick = self.bench.client("slow"), self.bench.client("quick")
        for each in (slow, quick):
            each.subscribe("a")
            each.take()
        slow.block()
        for n in range(50):
            self.sender.publish("a", b"%d" % n)
        self.assertEqual(len(quick.payloads()), 50)
        self.assertEqual(slow.got, [])
        self.assertEqual(self.bench.broker.counters.dropped_queue_full, 45)
        slow.block(True)
        self.assertEqual(slow.payloads(), [b"%d" % n for n in range(45, 50)])

    def test_cut(self) -> None:
        """Blocked too long it is cut, without waiting for it."""
        slow = self.bench.client("slow")
        slow.block()
        self.bench.advance(self.limits.write_deadline)
        self.assertIsNone(slow.closed)
        self.bench.advance(1)
        assert slow.closed is not None
        self.assertTrue(slow.closed.abort)
        self.assertEqual(self.bench.broker.counters.slow_clients, 1)
        slow = self.bench.client("slow")
        slow.block()
        self.bench.advance(10)
        slow.block(True)
        self.bench.advance(10)
        self.assertIsNone(slow.closed)

    def test_qos_0_goes_first(self) -> None:
        """Without room the oldest QoS 0 message goes; then new ones are not taken."""
        slow = self.bench.client("slow")
        slow.subscribe("a", qos=1)
        slow.take()
        slow.block()
        for n in range(10):
            self.sender.publish("a", b"%d" % n, n % 2)
        slow.block(True)
        self.assertEqual(slow.payloads(), [b"1", b"3", b"5", b"7", b"9"])
        slow.block()
        for n in range(10):
            self.sender.publish("a", b"%d" % n, 1)
        slow.block(True)
        self.assertEqual(slow.payloads(), [b"0", b"1", b"2", b"3", b"4"])

    def test_bytes(self) -> None:
        """Bytes have a limit, too."""
        slow = self.bench.client("slow")
        slow.subscribe("a", qos=1)
        slow.take()
        slow.block()
        for n in range(5):
            self.sender.publish("a", b"%d" % n * 4000, 1)
        slow.block(True)
        self.assertEqual([each[:1] for each in slow.payloads()], [b"0", b"1"])

    def test_expired_make_room(self) -> None:
        """What has expired goes before anything is refused."""
        slow = self.bench.client("slow")
        slow.subscribe("a", qos=1)
        slow.take()
        slow.block()
        for n in range(5):
            self.sender.publish(
                "a", b"%d" % n, 1, properties=Properties(message_expiry=10 + 90 * (n % 2))
            )
        self.bench.now += 12
        for n in range(5, 8):
            self.sender.publish("a", b"%d" % n, 1)
        slow.block(True)
        self.assertEqual(slow.payloads(), [b"1", b"3", b"5", b"6", b"7"])

    def test_away(self) -> None:
        """A client that is away keeps QoS 1 and 2, and QoS 0 only where a site wants it."""
        for keeps in (False, True):
            bench = Bench(Limits(queue_qos0_offline=keeps))
            reader = keeper(bench)
            reader.subscribe("a", qos=2)
            reader.take()
            reader.block()
            bench.client("s").publish("a", b"q0 blocked")
            reader.lose()
            bench.client("s").publish("a", b"q0")
            bench.client("s").publish("a", b"q1", 1)
            reader = keeper(bench)
            wanted = [b"q0 blocked", b"q0", b"q1"] if keeps else [b"q1"]
            self.assertEqual(reader.payloads(), wanted)
            self.assertEqual(bench.broker.counters.dropped_offline, 0 if keeps else 2)

    def test_dropped_are_dropped_on_disk(self) -> None:
        """What a queue drops the store drops."""
        reader = keeper(self.bench)
        reader.subscribe("a", qos=1)
        reader.lose()
        for n in range(8):
            found = Properties(message_expiry=5) if n < 3 else Properties()
            self.sender.publish("a", b"%d" % n, 1, properties=found)
        self.bench.now += 10
        for n in range(8, 12):
            self.sender.publish("a", b"%d" % n, 1)
        reader = keeper(self.bench.restart())
        self.assertEqual(reader.payloads(), [b"3", b"4", b"8", b"9", b"10"])

    def test_continue(self) -> None:
        """A long queue is written in pieces, with others in between."""
        bench = Bench(Limits(queue_bytes=10_000_000))
        reader = bench.client("r")
        reader.subscribe("a")
        reader.take()
        reader.block()
        for _ in range(100):
            bench.client("s").publish("a", b"x" * 10_000)
        effects = bench.broker.writable(reader.connection, True, bench.now)
        self.assertEqual([type(each) for each in effects], [e.Send, e.Continue])
        bench.run(effects)
        self.assertEqual(len(reader.payloads()), 100)

    def test_continue_after_an_answer(self) -> None:
        """QoS 0 behind a full window is written to its end, though nothing more comes."""
        bench = Bench(Limits(queue_bytes=10_000_000, max_inflight=1))
        reader = bench.client("r")
        reader.subscribe("a", qos=1)
        reader.take()
        bench.client("s").publish("a", b"first", 1)
        reader.block()
        bench.client("s").publish("a", b"second", 1)
        for _ in range(100):
            bench.client("s").publish("a", b"x" * 10_000)
        reader.block(True)
        self.assertEqual(len(reader.payloads()), 102)

    def test_broken_clients_end_alone(self) -> None:
        """Garbage ends the connection it came by; MQTT 5 is told."""
        for version, said in ((V4, None), (V5, reasons.MALFORMED_PACKET)):
            client = self.bench.client("c", version)
            client.write(b"\x36\x05\0\1t\0\1")
            self.assertEqual(client.goodbye, said)
            self.assertIsNone(self.sender.closed)
        bench = Bench(Limits(max_packet_bytes=50))
        client = bench.client("c")
        client.publish("a", b"x" * 50)
        self.assertEqual(client.goodbye, reasons.PACKET_TOO_LARGE)
        self.assertTrue(any(isinstance(each, Disconnect) for each in client.got))
