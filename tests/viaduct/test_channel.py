from __future__ import annotations

import struct
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.errors import HandshakeFailed
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.viaduct import codec
from kubeedge_tx.viaduct.client import connect
from kubeedge_tx.viaduct.handshake import DIGEST_HEADER, WINDOW_HEADER, Handshake, HandshakeRefused
from kubeedge_tx.viaduct.interfaces import IChannelUser
from kubeedge_tx.viaduct.websocket import MAX_FRAGMENTS
from tests.fakes.doors import a_door
from tests.viaduct.link import ChannelCase, Memory, User, Wire, factory


def message(number: int = 1, operation: str = "update", content: object = None) -> Message:
    return Message(
        Header(msg_id=str(number), timestamp=1),
        Route("edgecontroller", "resource", operation, "default/pod/web"),
        raw(content),
    )


class OpenTests(ChannelCase):
    """Handshakes: what is let in and what a refused peer is told."""

    def test_interfaces(self) -> None:
        """Channel and users keep to the interfaces."""
        link, user = self.open()
        self.assertTrue(verifyObject(IPushProducer, link.channel))
        self.assertTrue(verifyObject(IChannelUser, user))

    def test_any_path_and_headers(self) -> None:
        """Any path is taken, header names come in lower case, no subprotocol is chosen."""
        link, _ = self.open(headers={"Node_id": "edge-1", "X": "y"})
        shake = self.handshakes[0]
        self.assertEqual(shake.path, "/e632/edge-1/events")
        self.assertEqual(shake.headers["node_id"], "edge-1")
        self.assertIsNone(link.websocket.websocket_protocol_in_use)
        self.assertEqual(link.websocket.websocket_extensions_in_use, [])

    def test_our_own_kind(self) -> None:
        """Each end knows whether the other is ours; to a Go edge nothing is said of it."""
        link, user = self.open(headers={WINDOW_HEADER: "32"})
        assert user.channel is not None and link.channel is not None
        self.assertTrue(user.channel.is_ours)
        self.assertTrue(link.channel.is_ours)
        link, user = self.open()
        assert user.channel is not None and link.channel is not None
        self.assertFalse(user.channel.is_ours)
        self.assertFalse(link.channel.is_ours)
        self.assertFalse(user.channel.takes_digest)

    def test_who_takes_digests(self) -> None:
        """Each end knows it of the other, from the handshake and its answer."""
        link, user = self.open(headers={WINDOW_HEADER: "32", DIGEST_HEADER: "1"})
        assert user.channel is not None and link.channel is not None
        self.assertTrue(user.channel.takes_digest)
        self.assertTrue(link.channel.takes_digest)

    def test_refused(self) -> None:
        """A refused client learns status and reason; its user hears the end exactly once."""

        def refuse(_: Handshake) -> User:
            raise HandshakeRefused(403, "the client certificate is that of node edge-2")

        self.admit = refuse
        link = self.link()
        error = self.failureResultOf(link.opening, HandshakeFailed).value
        self.assertIn("403", str(error))
        link.flush()
        self.assertEqual(len(link.user.closings), 1)
        self.assertIsNone(link.user.channel)

    def test_error_in_admit_stays_inside(self) -> None:
        """What breaks in the server's own code is logged, and the client sees 500 only."""

        def broken(_: Handshake) -> User:
            raise RuntimeError("password hunter2")

        self.admit = broken
        link = self.link()
        error = self.failureResultOf(link.opening, HandshakeFailed).value
        self.assertIn("500", str(error))
        self.assertNotIn("hunter2", str(error))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_origin(self) -> None:
        """An Origin must equal Host, as in Go; without one all is well."""
        self.open(headers={"Origin": "https://cloud.example:10000"})
        link = self.link(headers={"Origin": "https://evil.example"})
        self.assertIn("403", str(self.failureResultOf(link.opening, HandshakeFailed).value))
        self.assertEqual(len(self.handshakes), 1)

    def test_plain_http(self) -> None:
        """A browser is answered with an HTTP error, not with a status page."""
        protocol = self.server.buildProtocol(None)
        wire = Wire(protocol, True)
        protocol.makeConnection(wire)
        protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: cloud\r\n\r\n")
        self.assertIn(b" 426 ", wire.getOutBuffer())

    def test_no_tcp(self) -> None:
        """When there is no TCP connection the endpoint's own error comes out."""

        class Refusing:
            def connect(self, _: Any) -> Deferred[Any]:
                raise ConnectionRefusedError

        opening = Deferred.fromCoroutine(
            connect(
                self.clock,
                Refusing(),  # type: ignore[arg-type]
                "wss://c:1/",
                headers={},
                user=User(),
                messages=factory(self.clock, "edge"),
            )
        )
        self.failureResultOf(opening, ConnectionRefusedError)

    def test_cancelled(self) -> None:
        """A dial that is given up drops its connection."""
        waiting = Memory(self.clock, self.server, None)
        opening = Deferred.fromCoroutine(
            connect(
                self.clock,
                waiting,
                "wss://c:1/",
                headers={},
                user=User(),
                messages=factory(self.clock, "edge"),
            )
        )
        self.assertNoResult(opening)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        assert waiting.client_io is not None
        self.assertTrue(waiting.client_io.disconnecting)

    def test_never_finished(self) -> None:
        """A client that does not finish its handshake is dropped."""
        protocol = self.server.buildProtocol(None)
        wire = Wire(protocol, True)
        protocol.makeConnection(wire)
        self.clock.pump([1.0] * 29)
        self.assertFalse(wire.disconnecting)
        self.clock.pump([1.0] * 2)
        self.assertTrue(wire.disconnecting)


class MessageTests(ChannelCase):
    """Messages both ways, and frames that are none."""

    def setUp(self) -> None:
        super().setUp()
        self.wire, self.user = self.open()

    def test_both_ways(self) -> None:
        """What one end sends the other receives, in order; totals are counted."""
        assert self.user.channel is not None
        for number in range(3):
            self.wire.channel.send(message(number, content={"n": number}))
            self.user.channel.send(message(number, content="x" * 70_000 * number))
        self.wire.flush()
        self.assertEqual([m.read() for m in self.user.messages], [{"n": n} for n in range(3)])
        self.assertEqual([len(m.read()) for m in self.wire.user.messages], [0, 70_000, 140_000])
        for way in (self.traffic.sent, self.traffic.received):
            self.assertEqual(sum(tally.messages for tally in way.values()), 3)
        self.assertGreater(self.traffic.sent["object"].bytes, 210_000)

    def test_sizes_around_the_frame_header(self) -> None:
        """Frames of 125, 126, 65535 and 65536 bytes arrive whole."""
        assert self.user.channel is not None
        empty = len(codec.encode(message(1, content="")))
        for size in (125, 126, 127, 65535, 65536):
            filler = "x" * max(0, size - empty)
            self.user.channel.send(message(1, content=filler))
            self.wire.flush()
            self.assertEqual(self.wire.user.messages[-1].read(), filler)

    def test_fragments(self) -> None:
        """Go cuts messages: a long piece, then an empty last one; or binary."""
        frame = codec.encode(message(7, content="ü" * 4000))
        self.wire.websocket.sendFrame(opcode=1, payload=frame, fin=False)
        self.wire.websocket.sendFrame(opcode=0, payload=b"", fin=True)
        self.wire.websocket.sendMessage(frame, isBinary=False, fragmentSize=4095)
        self.wire.websocket.sendMessage(frame, isBinary=True)
        self.wire.websocket.sendMessage(frame + b"\n", isBinary=False)
        self.wire.flush()
        self.assertEqual([m.read() for m in self.user.messages], ["ü" * 4000] * 4)

    def test_reserved_operations(self) -> None:
        """ping, pong and config are answered by the transport and reach nobody."""
        for number, operation in enumerate(("ping", "pong", "config")):
            self.wire.channel.send(message(number, operation))
        self.wire.flush()
        self.assertEqual(self.user.messages, [])
        answers = self.wire.user.messages
        self.assertEqual([m.header.parent_id for m in answers], ["0", "1", "2"])
        self.assertEqual({(m.route.operation, m.read()) for m in answers}, {("response", "ack")})

    def test_garbage(self) -> None:
        """What is no message closes the connection with 4400 and says what is wrong."""
        deep = b'{"header":{"msg_id":"1","timestamp":1},"content":' + b"[" * 100_000
        for frame, why in (
            (b"rubbish hunter2", "not JSON"),
            (b'{"header":{"msg_id":"1","timestamp":1.5}}', "header.timestamp"),
            (b'{"header":{"msg_id":["hunter2"],"timestamp":1}}', "header.msg_id"),
            (b'{"header":{"msg_id":"1","timestamp":1},"route":[]}', "route"),
            (deep + b"]" * 100_000 + b"}", "deeply"),
        ):
            wire, user = self.open()
            wire.websocket.sendMessage(frame, isBinary=False)
            wire.flush()
            self.assertEqual(user.messages, [])
            self.assertEqual(wire.websocket.remoteCloseCode, 4400)
            self.assertIn(why, wire.websocket.remoteCloseReason)
            self.assertNotIn("hunter2", wire.websocket.remoteCloseReason)
            self.assertEqual(len(user.closings), 1)
        self.assertEqual(self.traffic.bad_frames, 5)

    def test_bad_utf8(self) -> None:
        """Text that is no UTF-8 ends the connection."""
        self.wire.websocket.sendMessage(b'{"header":{}, "content": "\xff"}', isBinary=False)
        self.wire.flush()
        self.assertEqual(self.wire.websocket.remoteCloseCode, 1007)

    def test_too_big(self) -> None:
        """A message above the limit, in one frame or in pieces, is refused with 1009."""
        self.server = self.make_server(max_message_bytes=1000)
        for options in ({}, {"fragmentSize": 300}):
            wire, user = self.open()
            wire.websocket.sendMessage(b"x" * 1001, isBinary=False, **options)
            wire.flush()
            self.assertEqual(wire.websocket.remoteCloseCode, 1009)
            self.assertEqual(user.messages, [])

    def test_many_fragments(self) -> None:
        """A message in ever more fragments of a byte or two is not collected for ever."""
        socket = self.wire.websocket
        socket.sendFrame(opcode=1, payload=b"xx", fin=False)
        for _ in range(100):
            for _ in range(MAX_FRAGMENTS // 100 + 1):
                socket.sendFrame(opcode=0, payload=b"xx", fin=False)
            self.wire.flush()
        self.assertEqual(socket.remoteCloseCode, 4413)
        self.assertEqual(self.user.messages, [])

    def test_many_pieces(self) -> None:
        """One long frame may come in as many pieces as it likes."""
        frame = codec.encode(message(1, content="x" * 200_000))
        sent = bytes((0x81, 0x80 | 127)) + struct.pack("!Q", len(frame)) + bytes(4) + frame
        for at in range(0, len(sent), 7):
            self.wire.websocket.transport.write(sent[at : at + 7])
            self.wire.flush()
        self.assertEqual(len(self.user.messages), 1)

    def test_a_head_without_end(self) -> None:
        """A request for an upgrade that goes on and on is cut, and the door is told."""
        metrics = Metrics()
        server = self.make_server(door=a_door(self.clock, metrics))
        protocol = server.buildProtocol(None)
        wire = Wire(protocol, True, peerAddress=IPv4Address("TCP", "192.0.2.1", 1))
        protocol.makeConnection(wire)
        protocol.dataReceived(b"GET /x HTTP/1.1\r\nHost: y\r\n")
        for _ in range(40):
            if not wire.disconnecting and not wire.disconnected:
                protocol.dataReceived(b"X: " + b"x" * 500 + b"\r\n")
        self.assertTrue(wire.disconnected or wire.disconnecting)
        self.assertIn('reason="too-large"} 1\n', metrics.text())
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIn('kubeedge_listener_connections{listener="port"} 0\n', metrics.text())

    def test_pings_without_end(self) -> None:
        """Who sends pings and reads no pongs is not given more to read."""
        assert self.user.channel is not None
        heard: list[bytes] = []
        self.wire.websocket.onPong = heard.append
        self.user.channel.pauseProducing()  # as the transport does when its buffer is full
        for _ in range(100):
            self.wire.websocket.sendPing(b"x" * 125)
        self.wire.channel.send(message(1, "ping"))
        self.wire.flush()
        self.assertEqual((heard, self.wire.user.messages), ([], []))
        self.user.channel.resumeProducing()
        self.wire.websocket.sendPing(b"y")
        self.wire.channel.send(message(1, "ping"))
        self.wire.flush()
        self.assertEqual((heard, len(self.wire.user.messages)), ([b"y"], 1))

    def test_33_mebibytes(self) -> None:
        """The limit is 32 MiB by default: 33 MiB end the connection, and nothing else."""
        wire, _ = self.open()
        wire.websocket.maxMessagePayloadSize = 0
        wire.websocket.sendMessage(b"x" * (33 << 20), isBinary=True)
        wire.flush()
        self.assertEqual(wire.websocket.remoteCloseCode, 1009)
        self.wire.channel.send(message())
        self.wire.flush()
        self.assertEqual(len(self.user.messages), 1)

    def test_user_breaks(self) -> None:
        """An error in the user's code is logged and ends this connection only."""

        class Broken(User):
            def received(self, message: Message) -> Deferred[None]:
                raise RuntimeError("no")

        def admit(_: Handshake) -> User:
            self.users.append(Broken())
            return self.users[-1]

        self.admit = admit
        wire, user = self.open()
        wire.channel.send(message())
        wire.flush()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(wire.websocket.remoteCloseCode, 4500)
        self.assertEqual(len(user.closings), 1)

    def test_after_the_end(self) -> None:
        """A channel that is closed sends nothing and is not writable; the end comes once."""
        self.wire.channel.close(4409, "the node has connected anew")
        self.wire.channel.send(message())
        self.wire.channel.close(1000)
        self.wire.flush()
        self.assertEqual(self.user.messages, [])
        self.assertFalse(self.wire.channel.is_writable)
        self.assertEqual(len(self.user.closings), 1)
        self.assertIn("4409", self.user.closings[0])
        self.assertEqual(self.wire.user.closings, ["the node has connected anew"])

    def test_after_the_peers_end(self) -> None:
        """Once the peer has begun to close nothing is sent, and the channel says so."""
        assert self.user.channel is not None
        self.wire.websocket.sendClose(1000)
        assert self.wire.memory.client_io is not None
        self.user.channel._websocket.dataReceived(self.wire.memory.client_io.getOutBuffer())
        self.assertEqual(self.user.closings, [])  # the transport has not ended yet
        self.user.channel.send(message())
        self.assertFalse(self.user.channel.is_open)
        self.assertFalse(self.user.channel.is_writable)
        self.assertEqual(sum(tally.messages for tally in self.traffic.sent.values()), 0)


class PressureTests(ChannelCase):
    """Waiting, in both directions."""

    def test_reading_pauses(self) -> None:
        """Nothing more is read until the user has taken all that one read brought."""
        wire, user = self.open()
        waits: list[Deferred[None]] = [Deferred() for _ in range(3)]
        for number in range(3):
            wire.channel.send(message(number))
        with_waits = self.patch(user, "received", lambda m: waits[int(m.header.msg_id)])
        wire.flush()
        assert user.channel is not None
        wire.channel.send(message(4))
        with_waits.restore()
        for wait in waits:
            self.assertTrue(user.channel.is_paused)
            wire.flush()
            self.assertEqual(user.messages, [])
            wait.callback(None)
        wire.flush()
        self.assertEqual([m.header.msg_id for m in user.messages], ["4"])

    def test_reading_resumes(self) -> None:
        """When the user is done, what waited comes."""
        wire, user = self.open()
        user.ready = Deferred()
        wire.channel.send(message(1))
        wire.flush()
        wire.channel.send(message(2))
        wire.flush()
        ready, user.ready = user.ready, None
        ready.callback(None)
        self.assertEqual([m.header.msg_id for m in user.messages], ["1", "2"])

    def test_writing(self) -> None:
        """The transport's buffer is full: not writable; drained: the user is told once."""
        _, user = self.open()
        assert user.channel is not None
        user.channel.pauseProducing()
        self.assertFalse(user.channel.is_writable)
        user.channel.resumeProducing()
        user.channel.resumeProducing()
        self.assertTrue(user.channel.is_writable)
        self.assertEqual(user.wrote, 1)

    def test_stuck_peer(self) -> None:
        """A peer that takes nothing for 15 s is cut."""
        wire, user = self.open()
        assert user.channel is not None
        user.channel.pauseProducing()
        self.pass_time(14, wire)
        self.assertEqual(user.closings, [])
        self.pass_time(2, wire)
        self.assertIn("read nothing for 15 s", user.closings[0])
        self.assertEqual(self.traffic.stuck_links, 1)


class DeadLinkTests(ChannelCase):
    """A link that swallows everything is found out by both ends in less than 30 s."""

    def test_silence(self) -> None:
        """Packets dropped both ways: both users hear the end before 30 s."""
        wire, user = self.open()
        self.pass_time(60, wire)
        self.assertEqual((user.closings, wire.user.closings), ([], []))
        wire.cut()
        self.pass_time(29)
        wire.memory.cut = False
        wire.flush()
        self.assertIn("nothing heard for 25 s", user.closings[0])
        self.assertIn("nothing heard for 25 s", wire.user.closings[0])
        self.assertEqual(self.traffic.dead_links, 1)

    def test_paused_peer_lives(self) -> None:
        """A peer that we have paused ourselves is not called dead."""
        wire, user = self.open()
        user.ready = Deferred()
        wire.channel.send(message())
        wire.flush()
        wire.cut()
        self.pass_time(120)
        self.assertEqual(user.closings, [])

    def test_proof(self) -> None:
        """Asked, a peer that is there answers; one that is gone does not."""
        wire, user = self.open()
        assert user.channel is not None
        first, cancelled, third = (user.channel.prove() for _ in range(3))
        self.assertNoResult(first)
        cancelled.cancel()
        self.failureResultOf(cancelled)
        wire.flush()
        self.assertTrue(self.successResultOf(first))
        self.assertTrue(self.successResultOf(third))
        wire.cut()
        late = user.channel.prove()
        self.pass_time(29)
        wire.memory.cut = False
        wire.flush()
        self.assertFalse(self.successResultOf(late))
        self.assertFalse(self.successResultOf(user.channel.prove()))

    def test_no_timer_is_left(self) -> None:
        """When all channels are gone nothing is left to do."""
        links = [self.open()[0] for _ in range(10)]
        self.pass_time(5)
        for link in links:
            link.channel.close()
            link.flush()
        self.pass_time(40)
        self.assertEqual(self.clock.getDelayedCalls(), [])
