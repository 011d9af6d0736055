from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.mqtt import effects as e
from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt.encoding import encode
from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.packets import (
    NEVER,
    V4,
    V5,
    Auth,
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    Subscription,
    Will,
)
from kubeedge_tx.mqtt.properties import Properties
from tests.mqtt.harness import VERSIONS, Bench

METHOD = Properties(authentication_method="SCRAM")


class ConnectTests(SynchronousTestCase):
    """How a connection begins."""

    def test_accepted(self) -> None:
        """A CONNECT is answered by one CONNACK that says yes, before anything else."""
        for version in VERSIONS:
            bench = Bench()
            client = bench.client("c", version)
            self.assertEqual(client.connack.reason, 0)
            self.assertFalse(client.connack.session_present)
            client.send(Pingreq())
            self.assertEqual([type(each) for each in client.take()], [Connack, Pingresp])
        self.assertEqual(bench.client("d", V4).bytes.hex(), "20020000")

    def test_resent_after_connack(self) -> None:
        """What waits for a session comes after the CONNACK."""
        bench = Bench()
        bench.client("c", V4, clean=False).subscribe("a", qos=1)
        bench.client("c", V4, clean=False).lose()
        bench.client("p").publish("a", qos=1)
        client = bench.client("c", V4, clean=False)
        self.assertEqual([type(each) for each in client.take()], [Connack, Publish])

    def test_first_packet(self) -> None:
        """Anything but CONNECT closes without an answer."""
        bench = Bench()
        client = bench.raw()
        client.send(Pingreq())
        self.assertEqual(client.bytes, b"")
        self.assertIsNone(client.goodbye)

    def test_second_connect(self) -> None:
        """A second CONNECT is a protocol error."""
        for version, said in ((V4, None), (V5, reasons.PROTOCOL_ERROR)):
            client = Bench().client("c", version)
            client.send(Connect(client_id="c", version=version))
            self.assertEqual(client.goodbye, said)
            self.assertEqual(sum(isinstance(each, Connack) for each in client.got), 1)

    def test_wrong_name(self) -> None:
        """Another protocol's name closes without an answer."""
        client = Bench().raw()
        client.write(bytes.fromhex("100d00044d515458 04 02 0000 0001 61"))
        self.assertEqual((client.bytes, client.goodbye), (b"", None))

    def test_wrong_level(self) -> None:
        """Another level is told that we do not speak it, in a form it may read."""
        for level, said in (("03", "20020001"), ("06", "84")):
            client = Bench().raw(V4 if level == "03" else V5)
            client.write(bytes.fromhex(f"100d00044d515454 {level} 02 0000 0001 61"))
            self.assertIn(said, client.bytes.hex())
            self.assertIsNotNone(client.closed)
        client = Bench().raw(V4)
        client.write(bytes.fromhex("100f 0006 4d5149736470 03 02 0000 0001 61"))
        self.assertEqual(client.bytes.hex(), "20020001")

    def test_malformed(self) -> None:
        """A CONNECT that breaks the rules: 3.1.1 is closed without a word, 5 with CONNACK 0x81."""
        client = Bench().raw(V4)
        client.write(bytes.fromhex("100d00044d515454 04 03 0000 0001 61"))
        self.assertEqual((client.bytes, client.goodbye), (b"", None))
        client = Bench().raw(V5)
        client.write(bytes.fromhex("100e00044d515454 05 03 0000 00 0001 61"))
        self.assertEqual(client.connack.reason, reasons.MALFORMED_PACKET)
        self.assertIsNotNone(client.closed)

    def test_made_up_id(self) -> None:
        """A client without a name gets one; MQTT 5 is told, 3.1.1 must ask for a clean session."""
        bench = Bench()
        for _ in range(2):
            bench.client("")
        names = set(bench.broker.sessions)
        self.assertEqual(len(names), 2)
        told = bench.client("", properties=Properties(session_expiry=9)).connack
        self.assertNotIn(told.properties.assigned_client_id, names)
        self.assertIn(told.properties.assigned_client_id, bench.broker.sessions)
        self.assertEqual(bench.client("", V4).connack.reason, 0)
        refused = bench.client("", V4, clean=False)
        self.assertEqual(refused.bytes.hex(), "20020002")
        self.assertIsNotNone(refused.closed)
        self.assertIsNone(bench.client("c").connack.properties.assigned_client_id)

    def test_empty_id_not_allowed(self) -> None:
        """A site may insist on names."""
        client = Bench(Limits(allow_empty_client_id=False)).client("")
        self.assertEqual(client.connack.reason, reasons.CLIENT_ID_NOT_VALID)
        self.assertFalse(client.connack.session_present)
        self.assertIsNotNone(client.closed)

    def test_ids_allowed(self) -> None:
        """Letters and digits up to 23, and what is longer or not ASCII."""
        for name in ("0", "aZ9" * 7 + "xy", "x" * 500, "Gerät-7 漢"):
            self.assertEqual(Bench().client(name, V4).connack.reason, 0)

    def test_enhanced_authentication(self) -> None:
        """No method is known: 0x8C, and nothing of what follows is done."""
        bench = Bench()
        client = bench.raw()
        sub = Subscribe(packet_id=1, subscriptions=(Subscription("a"),))
        client.send(Connect(client_id="c", properties=METHOD), sub)
        self.assertEqual(client.connack.reason, reasons.BAD_AUTHENTICATION_METHOD)
        self.assertEqual(len(client.got), 1)
        self.assertEqual(len(bench.broker.sessions), 0)

    def test_auth_without_method(self) -> None:
        """AUTH on a connection that named no method is a protocol error."""
        client = Bench().client("c")
        client.send(Auth(reason=0x19, properties=METHOD))
        self.assertEqual(client.goodbye, reasons.PROTOCOL_ERROR)

    def test_no_method_in_connack(self) -> None:
        """A client that named no method is not told one."""
        self.assertIsNone(Bench().client("c").connack.properties.authentication_method)

    def test_limits_are_told(self) -> None:
        """CONNACK says what we allow, and what we changed."""
        limits = Limits(
            max_packet_bytes=5000,
            receive_maximum=7,
            topic_alias_maximum=3,
            max_keepalive=30,
            max_session_expiry=100,
            response_information="resp/",
        )
        asked = Properties(session_expiry=1000, request_response_information=1)
        found = Bench(limits).client("c", keep_alive=60, properties=asked).connack.properties
        self.assertEqual(
            found,
            Properties(
                receive_maximum=7,
                maximum_packet_size=5000,
                topic_alias_maximum=3,
                server_keep_alive=30,
                session_expiry=100,
                response_information="resp/",
            ),
        )
        found = Bench(limits).client("c", keep_alive=30, expiry=100).connack.properties
        self.assertEqual(
            (found.server_keep_alive, found.session_expiry, found.response_information),
            (None, None, None),
        )

    def test_too_many(self) -> None:
        """Connections and sessions have limits."""
        bench = Bench(Limits(max_connections=1))
        bench.client("a")
        self.assertEqual(bench.client("b").connack.reason, reasons.SERVER_BUSY)
        self.assertEqual(bench.client("b", V4).bytes.hex(), "20020003")
        bench = Bench(Limits(max_sessions=1))
        bench.client("a", expiry=5)
        self.assertEqual(bench.client("b").connack.reason, reasons.QUOTA_EXCEEDED)
        self.assertEqual(bench.client("a").connack.reason, 0)

    def test_silence(self) -> None:
        """A connection that never says CONNECT is dropped."""
        bench = Bench(Limits(connect_timeout=10))
        client = bench.raw()
        bench.advance(10)
        self.assertIsNone(client.closed)
        bench.advance(1)
        assert client.closed is not None
        self.assertTrue(client.closed.abort)

    def test_ping(self) -> None:
        """PINGREQ is answered."""
        client = Bench().client("c", V4)
        client.take()
        client.send(Pingreq())
        client.one(Pingresp)


class AuthenticationTests(SynchronousTestCase):
    """Somebody else checks who it is."""

    def setUp(self) -> None:
        self.bench = Bench(authenticate=True)

    def test_admitted(self) -> None:
        """What the client sent meanwhile is done once it is let in."""
        client = self.bench.raw()
        sub = Subscribe(packet_id=1, subscriptions=(Subscription("a"),))
        client.send(Connect(client_id="c", username="u", password=b"p"), sub)
        client.send(Publish("a", b"1"))
        self.assertEqual(client.bytes, b"")
        (asked,) = self.bench.authentications
        self.assertEqual((asked.client_id, asked.username, asked.password), ("c", "u", b"p"))
        self.assertNotIn("b'p'", repr(asked))
        self.bench.run(self.bench.broker.admit(client.connection, "u", self.bench.now))
        self.assertEqual(client.connack.reason, 0)
        self.assertEqual(client.payloads(), [b"1"])
        self.assertEqual(client.connection.user, "u")
        kinds = [type(each) for each in self.bench.log]
        self.assertLess(kinds.index(e.Pause), kinds.index(e.Resume))

    def test_refused(self) -> None:
        """A client that is refused is told why; nothing else it sent is done."""
        for version, said in ((V5, "20030086"), (V4, "20020004")):
            client = self.bench.raw(version)
            client.send(
                Connect(client_id="c", version=version),
                Subscribe(packet_id=1, subscriptions=(Subscription("a"),)),
            )
            reason = reasons.BAD_USER_NAME_OR_PASSWORD
            self.bench.run(self.bench.broker.refuse(client.connection, reason, self.bench.now))
            self.assertTrue(client.bytes.hex().startswith(said))
            self.assertIsNotNone(client.closed)
            self.assertEqual(len(self.bench.broker.sessions), 0)

    def test_gone_meanwhile(self) -> None:
        """An answer about a client that left changes nothing."""
        client = self.bench.client("c")
        client.lose()
        self.bench.run(self.bench.broker.admit(client.connection, "u", self.bench.now))
        self.assertEqual(client.bytes, b"")
        self.assertEqual(len(self.bench.broker.sessions), 0)

    def test_never_answered(self) -> None:
        """A client nobody answers for is dropped."""
        client = self.bench.client("c")
        self.bench.advance(11)
        self.assertIsNotNone(client.closed)

    def test_session_of_another_user(self) -> None:
        """A client id does not open another user's session."""
        for user, present in (("u", False), ("u", True), ("v", False)):
            client = self.bench.client("c", V4, clean=False)
            self.bench.run(self.bench.broker.admit(client.connection, user, self.bench.now))
            self.assertEqual(client.connack.session_present, present)
            client.lose()


class SessionTests(SynchronousTestCase):
    """What stays when a connection ends."""

    def test_resumed(self) -> None:
        """A kept session has its subscriptions and what came meanwhile, in order."""
        for version in VERSIONS:
            bench = Bench()
            made = {"clean": False} if version == V4 else {"clean": False, "expiry": 100}
            client = bench.client("c", version, **made)  # type: ignore[arg-type]
            self.assertFalse(client.connack.session_present)
            client.subscribe("a", qos=2)
            client.lose()
            sender = bench.client("p")
            for qos in (0, 1, 2):
                sender.publish("a", str(qos).encode(), qos)
            client = bench.client("c", version, **made)  # type: ignore[arg-type]
            self.assertTrue(client.connack.session_present)
            self.assertEqual(client.payloads(), [b"1", b"2"])

    def test_clean(self) -> None:
        """A clean start ends the old session, queue and all; it begins without one."""
        for version in VERSIONS:
            bench = Bench()
            made = {"clean": False} if version == V4 else {"clean": False, "expiry": 100}
            bench.client("c", version, **made).subscribe("a", qos=2)  # type: ignore[arg-type]
            bench.client("c", version, **made).lose()  # type: ignore[arg-type]
            bench.client("p").publish("a", b"old", 1)
            client = bench.client("c", version)
            self.assertFalse(client.connack.session_present)
            bench.client("p").publish("a", b"new", 1)
            self.assertEqual(client.payloads(), [])

    def test_not_kept(self) -> None:
        """A clean session of 3.1.1, or one without expiry, ends with its connection."""
        for version in VERSIONS:
            bench = Bench()
            client = bench.client("c", version)
            client.subscribe("a")
            client.lose()
            self.assertEqual(len(bench.broker.sessions), 0)
            bench.client("p").publish("a", qos=1)
            self.assertFalse(bench.client("c", version, clean=False).connack.session_present)

    def test_retained_outlive_sessions(self) -> None:
        """Retained messages are nobody's session state."""
        bench = Bench()
        client = bench.client("c", V4)
        client.publish("a", b"r", retain=True)
        client.lose()
        bench.client("c", V4).lose()
        other = bench.client("d")
        other.subscribe("a")
        self.assertEqual(other.payloads(), [b"r"])

    def test_expiry(self) -> None:
        """A session ends its expiry interval after the connection did, not before."""
        bench = Bench()
        client = bench.client("c", expiry=10)
        bench.advance(1000)
        self.assertIn("c", bench.broker.sessions)
        client.lose()
        bench.advance(9)
        self.assertIn("c", bench.broker.sessions)
        bench.advance(1)
        self.assertNotIn("c", bench.broker.sessions)
        bench.client("d", expiry=NEVER).lose()
        bench.advance(10.0**9)
        self.assertIn("d", bench.broker.sessions)

    def test_expiry_of_a_session_that_came_back(self) -> None:
        """A deadline of an earlier absence does not end it."""
        bench = Bench()
        bench.client("c", expiry=10).lose()
        bench.advance(5)
        client = bench.client("c", clean=False, expiry=10)
        bench.advance(6)
        self.assertIn("c", bench.broker.sessions)
        client.lose()
        bench.advance(9)
        self.assertIn("c", bench.broker.sessions)

    def test_coming_and_going(self) -> None:
        """Clients that come and go all day leave nothing behind but their last session."""
        bench = Bench()
        deadlines = bench.broker._sessions._deadlines
        for n in range(2000):
            bench.client("same", clean=False, expiry=100_000).lose()
            bench.client("new", clean=True, expiry=100_000 - n).lose()
            bench.advance(1)
        self.assertLess(len(deadlines), 600)
        bench.advance(100_000)
        self.assertEqual(len(bench.broker.sessions), 0)

    def test_limit_of_expiry(self) -> None:
        """A site's limit holds for 3.1.1, too."""
        bench = Bench(Limits(max_session_expiry=20))
        bench.client("c", V4, clean=False).lose()
        bench.advance(21)
        self.assertEqual(len(bench.broker.sessions), 0)

    def test_expiry_changed_at_the_end(self) -> None:
        """DISCONNECT may change the expiry, but not begin one."""
        bench = Bench()
        client = bench.client("c", expiry=10)
        client.disconnect(properties=Properties(session_expiry=50))
        bench.advance(40)
        self.assertIn("c", bench.broker.sessions)
        bench.client("c", expiry=10).disconnect(properties=Properties(session_expiry=0))
        self.assertNotIn("c", bench.broker.sessions)
        client = bench.client("c")
        client.disconnect(properties=Properties(session_expiry=50))
        self.assertEqual(client.goodbye, reasons.PROTOCOL_ERROR)

    def test_takeover(self) -> None:
        """The newer connection wins; the older is told and closed, and may not end the session."""
        for version, said in ((V4, None), (V5, reasons.SESSION_TAKEN_OVER)):
            bench = Bench()
            made = {"clean": False} if version == V4 else {"clean": False, "expiry": 100}
            old = bench.client("c", version, **made)  # type: ignore[arg-type]
            old.subscribe("a", qos=1)
            new = bench.client("c", version, **made)  # type: ignore[arg-type]
            self.assertEqual(old.goodbye, said)
            self.assertTrue(new.connack.session_present)
            old.lose()
            bench.client("p").publish("a", qos=1)
            self.assertEqual(new.payloads(), [b"payload"])

    def test_takeover_in_flight(self) -> None:
        """What the old connection did not acknowledge the new one gets again."""
        bench = Bench()
        old = bench.client("c", expiry=100)
        old.subscribe("a", qos=2)
        bench.client("p").publish("a", qos=2)
        first = old.last(Publish)
        new = bench.client("c", clean=False, expiry=100)
        again = new.last(Publish)
        self.assertEqual((again.packet_id, again.dup), (first.packet_id, True))

    def test_goodbye(self) -> None:
        """After DISCONNECT the connection is closed and nothing more is taken."""
        bench = Bench()
        client = bench.client("c", V4)
        local = bench.local("#")
        client.write(encode_all(V4, b"\xe0\x00", Publish("a", b"late")))
        self.assertIsNotNone(client.closed)
        self.assertEqual((bench.topics, local.client_id), ([], "bus"))
        client.write(b"\xc0\x00")
        self.assertEqual(len(client.take()), 1)

    def test_lost_twice(self) -> None:
        """The end of a connection may be told more than once."""
        bench = Bench()
        client = bench.client("c", V4, clean=False)
        client.lose()
        client.lose()
        self.assertEqual(bench.broker.connections, 0)

    def test_shutdown(self) -> None:
        """A server's goodbye has its reason; sessions stay."""
        bench = Bench()
        client, raw = bench.client("c", expiry=5), bench.raw()
        bench.run(bench.broker.shutdown(bench.now))
        self.assertEqual(client.goodbye, reasons.SERVER_SHUTTING_DOWN)
        self.assertEqual(raw.bytes, b"")
        self.assertIsNotNone(raw.closed)
        self.assertIn("c", bench.broker.sessions)


def encode_all(version: int, *packets: bytes | Publish) -> bytes:
    return b"".join(each if isinstance(each, bytes) else encode(each, version) for each in packets)


class KeepAliveTests(SynchronousTestCase):
    """Clients that have vanished are noticed."""

    def test_silent(self) -> None:
        """After one and a half times the keep alive the connection ends, and the will comes."""
        for version, said in ((V4, None), (V5, reasons.KEEP_ALIVE_TIMEOUT)):
            bench = Bench()
            bench.local("will")
            will = Will(topic="will", payload=b"")
            client = bench.client("c", version, keep_alive=10, will=will)
            bench.advance(15)
            self.assertIsNone(client.closed)
            bench.advance(1)
            self.assertEqual(client.goodbye, said)
            self.assertEqual(bench.topics, ["will"])

    def test_any_packet_counts(self) -> None:
        """Not only pings."""
        bench = Bench()
        client = bench.client("c", keep_alive=10)
        for _ in range(5):
            bench.advance(14)
            client.publish("a")
        self.assertIsNone(client.closed)

    def test_half_a_packet_does_not(self) -> None:
        """A packet counts when it is whole."""
        bench = Bench()
        client = bench.client("c", keep_alive=10)
        bench.advance(14)
        client.write(b"\x30")
        bench.advance(2)
        self.assertIsNotNone(client.closed)

    def test_none(self) -> None:
        """Keep alive 0 is for ever."""
        bench = Bench()
        client = bench.client("c")
        bench.advance(10**6)
        self.assertIsNone(client.closed)

    def test_ours(self) -> None:
        """The keep alive we told the client is the one that counts."""
        bench = Bench(Limits(max_keepalive=10))
        client = bench.client("c", keep_alive=0)
        self.assertEqual(client.connack.properties.server_keep_alive, 10)
        bench.advance(16)
        self.assertIsNotNone(client.closed)


class WillTests(SynchronousTestCase):
    """What a client leaves to be said."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.reader = self.bench.client("reader")
        self.reader.subscribe("w", qos=2, retain_as_published=True)
        self.will = Will(topic="w", payload=b"gone", qos=1)

    def test_published(self) -> None:
        """A connection that just ends publishes the will, once."""
        for version in VERSIONS:
            client = self.bench.client("c", version, will=self.will)
            client.lose()
            client.lose()
            self.assertEqual(self.reader.payloads(), [b"gone"])

    def test_fields(self) -> None:
        """QoS, retain flag and properties are those of the CONNECT."""
        found = Properties(
            content_type="t", user=(("b", "2"), ("a", "1"), ("b", "3")), message_expiry=50
        )
        will = Will(topic="w", payload=b"x", qos=2, retain=True, properties=found)
        self.bench.client("c", will=will).lose()
        (packet,) = self.reader.published
        self.assertEqual((packet.qos, packet.retain), (2, True))
        self.assertEqual(packet.properties, found)
        kept = self.bench.broker.retained.get("w")
        assert kept is not None
        self.assertEqual((kept.payload, kept.qos), (b"x", 2))

    def test_not_retained(self) -> None:
        """Without the flag it is not kept."""
        self.bench.client("c", will=self.will).lose()
        self.assertFalse(self.reader.published[0].retain)
        self.assertEqual(len(self.bench.broker.retained), 0)

    def test_no_will(self) -> None:
        """A client without one leaves nothing."""
        self.bench.client("c").lose()
        self.assertEqual(self.reader.payloads(), [])

    def test_goodbye(self) -> None:
        """DISCONNECT with reason 0 takes it back; 0x04 and errors do not."""
        for version in VERSIONS:
            self.bench.client("c", version, will=self.will).disconnect()
            self.assertEqual(self.reader.payloads(), [])
        for reason in (reasons.DISCONNECT_WITH_WILL, reasons.UNSPECIFIED_ERROR):
            self.bench.client("c", will=self.will).disconnect(reason)
            self.assertEqual(self.reader.payloads(), [b"gone"])

    def test_forgotten_for_the_next_connection(self) -> None:
        """A will that was taken back does not come back with the session."""
        self.bench.client("c", expiry=100, will=self.will).disconnect()
        self.bench.client("c", clean=False, expiry=100).lose()
        self.assertEqual(self.reader.payloads(), [])

    def test_protocol_error(self) -> None:
        """A client that breaks the protocol has its will published."""
        client = self.bench.client("c", will=self.will)
        client.write(b"\xff\xff\xff\xff\xff")
        self.assertEqual(self.reader.payloads(), [b"gone"])

    def delayed(self, delay: int, expiry: int) -> None:
        will = Will(topic="w", payload=b"gone", properties=Properties(will_delay=delay))
        self.bench.client("c", will=will, expiry=expiry).lose()

    def test_delay(self) -> None:
        """A delayed will waits for its time."""
        self.delayed(5, 100)
        self.bench.advance(4)
        self.assertEqual(self.reader.payloads(), [])
        self.bench.advance(1)
        self.assertEqual(self.reader.payloads(), [b"gone"])
        self.bench.advance(200)
        self.assertEqual(self.reader.payloads(), [])

    def test_delay_longer_than_the_session(self) -> None:
        """It does not outlive the session."""
        self.delayed(100, 5)
        self.bench.advance(5)
        self.assertEqual(self.reader.payloads(), [b"gone"])
        self.delayed(100, 0)
        self.assertEqual(self.reader.payloads(), [b"gone"])

    def test_back_in_time(self) -> None:
        """A client that returns before the delay is over has not gone."""
        self.delayed(5, 100)
        self.bench.advance(3)
        self.bench.client("c", clean=False, expiry=100)
        self.bench.advance(100)
        self.assertEqual(self.reader.payloads(), [])

    def test_clean_start_ends_the_session(self) -> None:
        """A clean start ends the session that the will waits with, so it is published."""
        self.delayed(5, 100)
        self.bench.client("c")
        self.assertEqual(self.reader.payloads(), [b"gone"])

    def test_takeover(self) -> None:
        """A connection taken over publishes its will, unless that is delayed and resumed."""
        self.bench.client("c", expiry=100, will=self.will)
        self.bench.client("c", clean=False, expiry=100)
        self.assertEqual(self.reader.payloads(), [b"gone"])
        will = Will(topic="w", payload=b"late", properties=Properties(will_delay=5))
        self.bench.client("c", expiry=100, will=will)
        self.bench.client("c", clean=False, expiry=100)
        self.bench.advance(10)
        self.assertEqual(self.reader.payloads(), [])

    def test_own_topics(self) -> None:
        """A will may not be published where its client may not."""
        self.reader.subscribe("$SYS/#")
        self.bench.client("c", will=Will(topic="$SYS/broker", payload=b"")).lose()
        self.assertEqual(self.reader.payloads(), [])
