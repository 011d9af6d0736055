from __future__ import annotations

import random
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults, succeed

from kubeedge_tx.config.mqtt import MqttCommon, MqttConfig, MqttListener
from kubeedge_tx.config.types import MonitorServer
from kubeedge_tx.errors import ConfigError, StoreError
from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.packets import (
    V4,
    V5,
    Connack,
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
)
from kubeedge_tx.mqtt.passwords import entry
from kubeedge_tx.mqtt.ports import BrokerPort
from kubeedge_tx.mqtt.properties import Properties
from kubeedge_tx.mqtt.server import ServerLimits
from kubeedge_tx.tap.mqtt import MqttCore
from tests.mqtt.brokers import BrokerCase
from tests.mqtt.peer import Peer, client, persistent, reactor
from tests.system.roles import pause, until


class DeliveryTests(BrokerCase):
    """Messages through real sockets."""

    async def test_each_qos(self) -> None:
        """QoS 0, 1 and 2 arrive, in order, at subscribers of both protocol versions."""
        service = await self.start()
        sender = await self.client(service, "sender")
        for version in (V4, V5):
            receiver = await self.client(service, f"receiver-{version}", version)
            self.assertEqual(await receiver.subscribe("a/#", qos=2), (2,))
            await sender.publish("a/0", b"zero")
            answer = await sender.publish("a/1", b"one", qos=1)
            assert isinstance(answer, Puback)
            answer = await sender.publish("a/2", b"two", qos=2, packet_id=7)
            assert isinstance(answer, Pubrec)
            sender.send(Pubrel(7))
            await sender.expect(Pubcomp)
            found = [await receiver.expect(Publish) for _ in range(3)]
            self.assertEqual([each.payload for each in found], [b"zero", b"one", b"two"])
            self.assertEqual([each.qos for each in found], [0, 1, 2])
            await receiver.drop()

    async def test_ten_thousand_subscriptions(self) -> None:
        """One session may hold 10,000 subscriptions, each of which works."""
        service = await self.start()
        peer = await self.client(service, "many")
        filters = [f"room/{number}/+" for number in range(10_000)]
        for at in range(0, len(filters), 500):
            reasons_given = await peer.subscribe(*filters[at : at + 500])
            self.assertEqual(set(reasons_given), {0})
        for number in (0, 4_999, 9_999):
            await peer.publish(f"room/{number}/light", b"on")
            self.assertEqual((await peer.expect(Publish)).topic, f"room/{number}/light")
        self.assertEqual(await peer.subscribe("one/more"), (reasons.QUOTA_EXCEEDED,))

    async def test_big_packets_in_pieces(self) -> None:
        """A packet of megabytes arrives whole; one above the limit ends the connection."""
        service = await self.start(limits=Limits(max_packet_bytes=1_500_000))
        sender = await self.client(service, "sender")
        receiver = await self.client(service, "receiver")
        await receiver.subscribe("big")
        payload = random.Random(1).randbytes(1_400_000)
        await sender.publish("big", payload)
        self.assertEqual((await receiver.expect(Publish)).payload, payload)
        sender.send(Publish("big", b"x" * 1_600_000))
        last = (await sender.ended())[-1]
        assert isinstance(last, Disconnect)
        self.assertEqual(last.reason, reasons.PACKET_TOO_LARGE)

    async def test_takeover(self) -> None:
        """A client id that comes again takes the session over, and the first one is told."""
        service = await self.start()
        first = await self.client(service, "same")
        second = await self.client(service, "same", clean_start=False)
        (last,) = await first.ended()
        assert isinstance(last, Disconnect)
        self.assertEqual(last.reason, reasons.SESSION_TAKEN_OVER)
        self.assertEqual(await second.quiet(), [])

    async def test_stop_tells_clients(self) -> None:
        """A broker that stops says so to MQTT 5 clients, and closes all connections."""
        service = await self.start()
        peers = [await self.client(service, f"c{version}", version) for version in (V4, V5)]
        await self.stop(service)
        self.assertEqual(await peers[0].ended(), [])
        (last,) = await peers[1].ended()
        assert isinstance(last, Disconnect)
        self.assertEqual(last.reason, reasons.SERVER_SHUTTING_DOWN)


class FlowTests(BrokerCase):
    """Clients that are slow, many, or silent."""

    async def test_slow_subscriber(self) -> None:
        """A subscriber that stops reading is cut off; others get everything meanwhile."""
        limits = Limits(write_deadline=1.0, queue_messages=50, queue_bytes=1_000_000)
        service = await self.start(limits=limits)
        slow = await self.client(service, "slow")
        await slow.subscribe("news", qos=0)
        good = await self.client(service, "good")
        await good.subscribe("news", qos=0)
        sender = await self.client(service, "sender")
        slow.reading(False)
        payload = b"x" * 20_000
        for number in range(600):
            await sender.publish("news", number.to_bytes(2, "big") + payload)
            found = await good.expect(Publish)
            self.assertEqual(found.payload[:2], number.to_bytes(2, "big"))
        counters = service.server.broker.counters
        await until("the slow client to be cut", lambda: counters.slow_clients == 1)
        self.assertGreater(counters.dropped_queue_full, 0)
        slow.reading(True)
        await slow.ended()
        self.assertEqual(await good.quiet(), [])

    async def test_slow_subscriber_gets_all_it_was_promised(self) -> None:
        """What fits the queue of a subscriber that pauses arrives once it reads again."""
        service = await self.start(limits=Limits(queue_messages=2_000, queue_bytes=1 << 26))
        slow = await self.client(service, "slow")
        await slow.subscribe("news", qos=1)
        sender = await self.client(service, "sender")
        slow.reading(False)
        payload = b"y" * 20_000
        for number in range(400):
            await sender.publish("news", number.to_bytes(2, "big") + payload, qos=1)
        slow.reading(True)
        for number in range(400):
            found = await slow.expect(Publish)
            self.assertEqual(int.from_bytes(found.payload[:2], "big"), number)
            slow.send(Puback(found.packet_id))
        self.assertEqual(await slow.quiet(), [])

    async def test_silent_connections_do_not_keep_others_out(self) -> None:
        """With too many connections that say nothing, those are hurried and the next get in."""
        limits = ServerLimits(max_unknown=5, hurry=0.1)
        service = await self.start(server_limits=limits)
        silent = [await self.dial(service) for _ in range(8)]
        peer = await self.dial(service)
        peer.send(Connect(client_id="late"))
        self.assertFalse((await peer.expect(Connack)).reason)
        self.assertTrue(any(not each.is_open for each in silent))

    async def test_silent_connections_of_one_address(self) -> None:
        """Too many from one address cost that address its own: the oldest makes room."""
        limits = ServerLimits(max_unknown=100, max_unknown_per_peer=5, hurry=0.0)
        service = await self.start(server_limits=limits)
        silent = [await self.dial(service) for _ in range(8)]
        peer = await self.dial(service)
        peer.send(Connect(client_id="late"))
        self.assertFalse((await peer.expect(Connack)).reason)
        for each in silent[:3]:
            self.assertEqual(await each.ended(), [])
        self.assertTrue(silent[-1].is_open)
        self.assertGreaterEqual(service.server.crowded_out, 4)
        self.assertEqual(sum(service.server._unknown_of.values()), len(service.server._unknown))

    async def test_silence_is_ended(self) -> None:
        """A connection without a CONNECT is closed in time."""
        service = await self.start(limits=Limits(connect_timeout=0.5))
        peer = await self.dial(service)
        self.assertEqual(await peer.ended(), [])

    async def test_reconnect_storm(self) -> None:
        """Three hundred clients that all come back at once all get in, with their sessions."""
        service = await self.start()

        async def come(number: int) -> bool:
            peer = await self.dial(service)
            answer = await peer.connect(f"c{number}", **persistent(V5))
            if not answer.session_present:
                await peer.subscribe(f"to/{number}", qos=1)
            return answer.session_present

        def all_of_them() -> Any:
            return gatherResults([Deferred.fromCoroutine(come(each)) for each in range(300)])

        self.assertEqual(set(await all_of_them()), {False})
        peers, self._peers = self._peers, []
        for peer in peers:
            await peer.drop()
        self.assertEqual(set(await all_of_them()), {True})
        self.assertEqual(len(service.server.broker.sessions), 300)

    async def test_publisher_is_slowed_down(self) -> None:
        """A publisher is not read from while its messages cannot be settled; then all are."""
        service = await self.start(limits=Limits(receive_maximum=10))
        port = BrokerPort(service.server, "bus")
        handling: list[Deferred[None]] = []

        def handle(topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
            handling.append(Deferred())
            return handling[-1]

        port.on_message(handle)
        await port.subscribe(["up"])
        sender = await self.client(service, "sender", V4)
        sender.send(*(Publish("up", b"x" * 1000, 1, packet_id=1 + at) for at in range(500)))
        await until("messages to arrive", lambda: handling)
        await pause(0.1)
        self.assertLess(len(handling), 500)
        self.assertEqual(sender.packets, [])
        answered = 0
        while answered < 500:
            waiting = handling.copy()
            handling.clear()
            for each in waiting:
                each.callback(None)
            for _ in waiting:
                answered += 1
                self.assertEqual((await sender.expect(Puback)).packet_id, answered)
            if answered < 500:
                await until("more messages", lambda: handling)


class BadBytesTests(BrokerCase):
    """What is no MQTT, over a socket."""

    async def test_fuzz(self) -> None:
        """Whatever bytes come, the broker lives, and other clients notice nothing."""
        service = await self.start(limits=Limits(connect_timeout=0.5))
        chance = random.Random(20_261_124)
        witness = await self.client(service, "witness")
        await witness.subscribe("still/there")
        good = _conversation()
        for number in range(150):
            peer = await self.dial(service)
            data = bytearray(good)
            for _ in range(chance.randrange(1, 6)):
                at = chance.randrange(len(data))
                match chance.randrange(4):
                    case 0:
                        data[at] = chance.randrange(256)
                    case 1:
                        del data[at : at + chance.randrange(1, 8)]
                    case 2:
                        data[at:at] = chance.randbytes(chance.randrange(1, 8))
                    case _:
                        data = data[: at + 1]
            peer._parser = cast(Any, _Deaf())
            while data:
                size = chance.choice((1, 7, 60, 4000))
                peer.write(bytes(data[:size]))
                del data[:size]
            if number % 10 == 9:
                await witness.publish("still/there", b"%d" % number)
                self.assertEqual((await witness.expect(Publish)).payload, b"%d" % number)
        await witness.drop()

    async def test_noise(self) -> None:
        """Random bytes, HTTP and TLS are closed without an answer."""
        service = await self.start()
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\x01", b"\xff" * 9):
            peer = await self.dial(service)
            peer.write(data)
            self.assertEqual(await peer.ended(), [])

    async def test_reason_is_told(self) -> None:
        """An MQTT 5 client learns why it is cut off; a 3.1.1 client is just cut off."""
        service = await self.start()
        for version, count in ((V4, 0), (V5, 1)):
            peer = await self.client(service, "bad", version)
            peer.write(b"\x36\x05\0\x01aXX")  # QoS 3
            found = await peer.ended()
            self.assertEqual(len(found), count)
            for packet in found:
                assert isinstance(packet, Disconnect)
                self.assertEqual(packet.reason, reasons.MALFORMED_PACKET)


class _Deaf:
    """A parser that takes anything."""

    error = None

    def feed(self, data: bytes) -> list[Any]:
        return []


def _conversation() -> bytes:
    """A session with every kind of packet that a client may send."""
    from kubeedge_tx.mqtt import packets as p
    from kubeedge_tx.mqtt.encoding import encode

    properties = Properties(message_expiry=60, content_type="text", user=(("a", "b"),))
    will = p.Will(topic="will", payload=b"gone", qos=1)
    return b"".join(
        encode(packet, V5)
        for packet in (
            Connect(client_id="fuzz", will=will, username="u", password=b"p"),
            Subscribe(
                packet_id=1, subscriptions=(Subscription("f/#", 2), Subscription("$share/g/f"))
            ),
            Publish("f/0", b"zero", properties=properties),
            Publish("f/1", b"one", 1, packet_id=2),
            Publish("f/2", b"two", 2, True, packet_id=3),
            Pubrel(3),
            Puback(1),
            Pubrec(2),
            Pubcomp(2),
            p.Unsubscribe(packet_id=4, filters=("f/#",)),
            p.Pingreq(),
            Disconnect(reason=4),
        )
    )


class DoorTests(BrokerCase):
    """Users, passwords, access rules."""

    def _files(self, users: dict[str, bytes], acl: str = "") -> dict[str, Any]:
        passwords, rules = self.folder / "passwords", self.folder / "acl"
        passwords.write_text(
            "".join(f"{entry(user, word, b'salt' * 3)}\n" for user, word in users.items())
        )
        rules.write_text(acl)
        return {
            "allow_anonymous": False,
            "password_file": passwords,
            "acl_file": rules if acl else None,
        }

    async def _try(self, service: Any, version: int, **fields: Any) -> int:
        peer = await self.dial(service, version)
        answer = await peer.connect("someone", **fields)
        if answer.reason:
            self.assertEqual(await peer.ended(), [])
        await peer.drop()
        return answer.reason

    async def test_passwords(self) -> None:
        """The right password gets in, a wrong one, an unknown user and no user do not."""
        service = await self.start(**self._files({"ann": b"secret"}))
        for version in (V4, V5):
            good = await self._try(service, version, username="ann", password=b"secret")
            wrong = await self._try(service, version, username="ann", password=b"Secret")
            nobody = await self._try(service, version, username="bob", password=b"secret")
            nameless = await self._try(service, version)
            self.assertEqual(good, 0)
            self.assertEqual(wrong, reasons.BAD_USER_NAME_OR_PASSWORD)
            self.assertEqual(nobody, reasons.BAD_USER_NAME_OR_PASSWORD)
            self.assertEqual(nameless, reasons.NOT_AUTHORIZED)

    async def test_early_packets(self) -> None:
        """What a client sends before its password was checked is done after, or never."""
        service = await self.start(**self._files({"ann": b"secret"}))
        subscribe = Subscribe(packet_id=9, subscriptions=(Subscription("x"),))
        for word, is_good in ((b"secret", True), (b"wrong", False)):
            peer = await self.dial(service)
            peer.send(Connect(client_id="eager", username="ann", password=word), subscribe)
            answer = await peer.expect(Connack)
            self.assertEqual(not answer.reason, is_good)
            if is_good:
                self.assertEqual((await peer.expect(Suback)).packet_id, 9)
            else:
                self.assertEqual(await peer.ended(), [])

    async def test_acl(self) -> None:
        """Access rules hold for publishing, subscribing and reading."""
        rules = "user ann\ntopic read news/#\ntopic write box/%\n\npattern readwrite own/%u/#\n"
        service = await self.start(**self._files({"ann": b"a", "bob": b"b"}, rules))
        ann = await self.client(service, "ann-1", username="ann", password=b"a")
        bob = await self.client(service, "bob-1", username="bob", password=b"b")
        await ann.subscribe("#", qos=0)
        await bob.publish("own/ann/x", b"not his")
        await bob.publish("own/bob/x", b"his, but not hers")
        answer = await bob.publish("news/1", b"no", qos=1)
        assert isinstance(answer, Puback)
        self.assertEqual(answer.reason, reasons.NOT_AUTHORIZED)
        await ann.publish("own/ann/y", b"hers")
        self.assertEqual((await ann.expect(Publish)).payload, b"hers")
        self.assertEqual(await ann.quiet(), [])

    async def test_files_are_read_again(self) -> None:
        """A changed password file counts for the next client; a broken one changes nothing."""
        files = self._files({"ann": b"old"})
        service = await self.start(**files)
        keeper: Any = service._doorkeeper
        self._files({"ann": b"the new one"})
        keeper.look()
        ok = await self._try(service, V5, username="ann", password=b"the new one")
        self.assertEqual(ok, 0)
        files["password_file"].write_text("no colon here\n")
        keeper.look()
        ok = await self._try(service, V5, username="ann", password=b"the new one")
        self.assertEqual(ok, 0)

    async def test_rules_are_read_again(self) -> None:
        """Changed access rules count for clients that are there."""
        files = self._files({"ann": b"a"}, "user ann\ntopic write one\n")
        service = await self.start(**files)
        ann = await self.client(service, "ann-1", username="ann", password=b"a")
        refused = reasons.NOT_AUTHORIZED
        for rules, wanted in (("one", refused), ("two", 0), ("none", refused)):
            files["acl_file"].write_text(f"user ann\ntopic readwrite {rules}\n")
            service.look()
            self.assertEqual(await self._write(ann, "two"), wanted)

    async def test_one_of_the_files_is_broken(self) -> None:
        """A file that is broken, until it is repaired, does not keep the other from counting."""
        files = self._files({"ann": b"old"}, "user ann\ntopic write one\n")
        service = await self.start(**files)
        ann = await self.client(service, "ann-1", username="ann", password=b"old")
        self._files({"ann": b"the new one"}, "no rule\n")
        service.look()
        for word, reason in ((b"the new one", 0), (b"old", reasons.BAD_USER_NAME_OR_PASSWORD)):
            got = await self._try(service, V5, username="ann", password=word)
            self.assertEqual(got, reason)
        self.assertEqual(await self._write(ann, "one"), 0)
        files["acl_file"].write_text("user ann\ntopic write another\n")
        service.look()
        self.assertEqual(await self._write(ann, "one"), reasons.NOT_AUTHORIZED)
        self.assertEqual(await self._write(ann, "another"), 0)
        files["password_file"].write_text("no colon here\n")
        files["acl_file"].write_text("user ann\ntopic write one\n")
        service.look()
        self.assertEqual(await self._write(ann, "one"), 0)
        got = await self._try(service, V5, username="ann", password=b"the new one")
        self.assertEqual(got, 0)

    async def test_reload(self) -> None:
        """SIGHUP takes rights at once from a client that is there: to read, and to write."""
        monitor = MonitorServer(bind_address="127.0.0.1:0")
        config = MqttConfig(
            common_config=MqttCommon(monitor_server=monitor),
            listeners=(MqttListener(port=0),),
            password_file="passwords",
            acl_file="acl",
            persistence=False,
        )
        files = self._files({"ann": b"a"}, "user ann\ntopic readwrite one\n")
        core = MqttCore(reactor, config, self.folder.absolute())
        self.addCleanup(core.stopService)
        await core.startService()
        port = core.ports()["mqtt"]
        ann = await client(port, "ann-1", username="ann", password=b"a")
        self._peers.append(ann)
        await ann.subscribe("one")
        await ann.publish("one", b"for her")
        self.assertEqual((await ann.expect(Publish)).payload, b"for her")
        for rights, wanted in (("write", 0), ("read", reasons.NOT_AUTHORIZED)):
            files["acl_file"].write_text(f"user ann\ntopic {rights} one\n")
            core.reload(config)
            self.assertEqual(await self._write(ann, "one"), wanted)
            self.assertEqual(await ann.quiet(), [])

    @staticmethod
    async def _write(peer: Peer, topic: str) -> int:
        """Publish; returns why that is refused, or 0."""
        answer = await peer.publish(topic, b"", qos=1)
        assert isinstance(answer, Puback)
        return answer.reason if answer.reason >= 0x80 else 0

    async def test_missing_file(self) -> None:
        """A file that is not there is named at the start."""
        error = await self.assertFailure(
            Deferred.fromCoroutine(
                self.start(allow_anonymous=False, password_file=self.folder / "nowhere")
            ),
            ConfigError,
        )
        self.assertIn("nowhere", str(error))


class DurableTests(BrokerCase):
    """Sessions over a restart, with a real database."""

    async def test_restart(self) -> None:
        """Sessions, queues, QoS 2 states and retained messages are there after a restart."""
        for version in (V4, V5):
            service = await self.start(is_durable=True)
            receiver = await self.client(service, "r", version, **persistent(version))
            await receiver.subscribe("q/#", qos=2)
            await receiver.drop()
            sender = await self.client(service, "s", version, **persistent(version))
            await sender.publish("q/keep", b"kept", retain=True)
            await sender.publish("q/1", b"one", qos=1)
            answer = await sender.publish("q/2", b"two", qos=2, packet_id=5)
            assert isinstance(answer, Pubrec)
            await self.stop(service)

            service = await self.start(is_durable=True)
            sender = await self.dial(service, version)
            self.assertTrue((await sender.connect("s", **persistent(version))).session_present)
            sender.send(Publish("q/2", b"two", 2, dup=True, packet_id=5))  # as if no PUBREC came
            await sender.expect(Pubrec)
            sender.send(Pubrel(5))
            await sender.expect(Pubcomp)
            receiver = await self.dial(service, version)
            answer = await receiver.connect("r", **persistent(version))
            assert isinstance(answer, Connack)
            self.assertTrue(answer.session_present)
            chosen = (Subscription("q/keep", 0),)
            receiver.send(Subscribe(packet_id=9, subscriptions=chosen))
            found = await receiver.collect(3)
            self.assertEqual(
                sorted((each.topic, each.payload) for each in found),
                [("q/1", b"one"), ("q/2", b"two"), ("q/keep", b"kept")],
            )
            await sender.publish("q/keep", b"", retain=True)
            for name in ("r", "s"):
                await (await self.client(service, name, version, clean_start=True)).drop()
            await self.stop(service)

    async def test_acknowledged_once_on_disk(self) -> None:
        """A message for a sleeping session is acknowledged after it is on disk, not before."""
        service = await self.start(is_durable=True)
        store: Any = _Gate(service.server._store)
        sleeper = await self.client(service, "sleeper", **persistent(V5))
        await sleeper.subscribe("q", qos=1)
        await sleeper.drop()
        sender = await self.client(service, "sender")
        service.server._store = store
        sender.send(Publish("q", b"x", 1, packet_id=1))
        await until("a write", lambda: store.held)
        self.assertEqual(await sender.quiet(), [])
        store.held.pop().callback(None)
        self.assertFalse((await sender.expect(Puback)).reason)

        sender.send(Publish("q", b"x", 1, packet_id=2))
        await until("a write", lambda: store.held)
        store.held.pop().errback(StoreError("the disk is full"))
        self.assertEqual((await sender.expect(Puback)).reason, reasons.UNSPECIFIED_ERROR)
        service.server._store = store.inner

    async def test_refused_disk_cuts_old_clients_off(self) -> None:
        """A 3.1.1 publisher, which cannot be told, is cut off when the disk refuses."""
        service = await self.start(is_durable=True)
        store: Any = _Gate(service.server._store)
        sleeper = await self.client(service, "sleeper", **persistent(V5))
        await sleeper.subscribe("q", qos=1)
        await sleeper.drop()
        sender = await self.client(service, "sender", V4)
        service.server._store = store
        sender.send(Publish("q", b"x", 1, packet_id=2))
        await until("a write", lambda: store.held)
        store.held.pop().errback(StoreError("the disk is full"))
        self.assertEqual(await sender.ended(), [])
        service.server._store = store.inner


class _Gate:
    """A store whose writes wait for the test."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.held: list[Deferred[None]] = []

    def write(self, operations: Any) -> Deferred[None]:
        self.held.append(Deferred())
        return self.held[-1]


class PortTests(BrokerCase):
    """A subscriber and publisher in the broker's own process."""

    async def test_acknowledged_when_handled(self) -> None:
        """A device's QoS 1 message is acknowledged once it was handled, and not if it failed."""
        service = await self.start()
        port = BrokerPort(service.server, "bus")
        handling: list[Deferred[None]] = []
        heard: list[tuple[str, bytes, int, bool]] = []

        def handle(*message: Any) -> Deferred[None]:
            heard.append(message)
            handling.append(Deferred())
            return handling[-1]

        port.on_message(handle)
        states: list[bool] = []
        port.on_state(states.append)
        self.assertEqual(states, [True])
        await port.subscribe(["$hw/events/device/+/twin/+", "+/user/#"])
        device = await self.client(service, "device")
        device.send(Publish("$hw/events/device/d/twin/get", b"{}", 1, packet_id=3))
        await until("the message", lambda: heard)
        self.assertEqual(heard, [("$hw/events/device/d/twin/get", b"{}", 1, False)])
        self.assertEqual(await device.quiet(), [])
        handling.pop().callback(None)
        self.assertFalse((await device.expect(Puback)).reason)

        device.send(Publish("a/user/x", b"{}", 1, packet_id=4))
        await until("the message", lambda: handling)
        handling.pop().errback(StoreError("full"))
        self.assertEqual((await device.expect(Puback)).reason, reasons.UNSPECIFIED_ERROR)

    async def test_answers_within_the_callback(self) -> None:
        """The callback may publish at once; its own messages do not come back to it."""
        service = await self.start()
        port = BrokerPort(service.server, "bus")
        heard: list[bytes] = []

        def handle(topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
            heard.append(payload)
            return port.publish("d/result", payload.upper(), 1, False)

        port.on_message(handle)
        await port.subscribe(["d/#"])
        device = await self.client(service, "device")
        await device.subscribe("d/result", qos=1)
        device.send(Publish("d/get", b"one", 0), Publish("d/get", b"two", 1, packet_id=2))
        found = {type(packet): packet for packet in [await device.next() for _ in range(3)]}
        self.assertIn(Puback, found)
        self.assertEqual(heard, [b"one", b"two"])
        await port.unsubscribe(["d/#"])
        await device.quiet()
        await device.publish("d/get", b"three")
        await device.quiet()
        self.assertEqual(heard, [b"one", b"two"])

    async def test_publish_waits_for_the_disk(self) -> None:
        """A publish of this process fires once it is kept for those who sleep."""
        service = await self.start(is_durable=True)
        sleeper = await self.client(service, "sleeper", **persistent(V5))
        await sleeper.subscribe("q", qos=1)
        await sleeper.drop()
        port = BrokerPort(service.server, "bus")
        await port.publish("q", b"kept", 1, False)
        await self.stop(service)
        service = await self.start(is_durable=True)
        sleeper = await self.client(service, "sleeper", **persistent(V5))
        self.assertEqual((await sleeper.expect(Publish)).payload, b"kept")

    async def test_bad_filter(self) -> None:
        """A filter that is none fails from the Deferred."""
        service = await self.start()
        port = BrokerPort(service.server, "bus")
        await self.assertFailure(port.subscribe(["a/#/b"]), reasons.MqttError)
        await self.assertFailure(port.publish("a/#", b"", 0, False), reasons.MqttError)

    async def test_callback_that_raises(self) -> None:
        """A callback that raises is as one that fails: logged, and not acknowledged."""
        service = await self.start()
        port = BrokerPort(service.server, "bus")

        def handle(topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
            if qos:
                raise ZeroDivisionError
            return succeed(None)

        port.on_message(handle)
        await port.subscribe(["x"])
        device = await self.client(service, "device")
        answer = await device.publish("x", b"", 1)
        assert isinstance(answer, Puback)
        self.assertEqual(answer.reason, reasons.UNSPECIFIED_ERROR)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
