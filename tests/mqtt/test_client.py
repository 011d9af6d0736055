from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from kubeedge_tx.errors import NotConnected
from kubeedge_tx.mqtt.client import ClientSettings, MqttClient, Unacknowledged
from kubeedge_tx.mqtt.clienteffects import ClientOptions, Received
from kubeedge_tx.mqtt.packets import V4, V5, Subscription, Will
from kubeedge_tx.mqtt.passwords import entry
from kubeedge_tx.mqtt.ports import ClientPort
from kubeedge_tx.security import foreign
from kubeedge_tx.security.authority import Authority
from tests.fakes.certificates import real_now
from tests.mqtt.mosquitto import Mosquitto
from tests.mqtt.peer import reactor
from tests.requirements import requires
from tests.system.roles import Ports, until

QUICK = ClientSettings(first_delay=0.05, longest_delay=0.2)


class _Old(Factory):
    """Brokers that know 3.1.1 only; ``answer`` is what they say to others before they close."""

    noisy = False

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.levels: list[int] = []

    def buildProtocol(self, addr: Any) -> Protocol:
        outer = self

        class Connection(Protocol):
            def dataReceived(self, data: bytes) -> None:
                transport: Any = self.transport
                if data[0] == 0x10:
                    outer.levels.append(data[8])
                    transport.write(b"\x20\x02\0\0" if data[8] == V4 else outer.answer)
                if data[0] != 0x10 or data[8] != V4:
                    transport.loseConnection()

        return Connection()


@implementer(IStreamClientEndpoint)
class _Nowhere:
    """An endpoint that never connects; cancelled, it fails as Twisted's do."""

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred(lambda done: done.errback(ConnectingCancelledError(None)))


class StopTests(TestCase):
    """A client that is stopped."""

    async def test_while_connecting(self) -> None:
        """A client that is still connecting stops, and does not try again."""
        client = MqttClient(
            reactor,
            _Nowhere,
            lambda version: ClientOptions(client_id="x", version=version),
            random=Random(1),
            name="nowhere",
            settings=QUICK,
        )
        client.startService()
        waiting = client.publish("a", b"", qos=1)
        await client.stopService().addTimeout(10, reactor)
        await self.assertFailure(waiting, NotConnected)


@requires("mosquitto")
class MosquittoTests(TestCase):
    """Our client and a real broker."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.ports = Ports()
        self.brokers: list[Mosquitto] = []
        self.clients: list[MqttClient] = []

    async def tearDown(self) -> None:  # type: ignore[override]
        for client in self.clients:
            await client.stopService()
        for broker in self.brokers:
            await broker.stop()
        self.ports.close()

    async def broker(self, *lines: str) -> Mosquitto:
        """Start mosquitto."""
        found = Mosquitto(self.folder / "mosquitto", self.ports.take(), *lines)
        self.brokers.append(found)
        await found.start()
        return found

    def client(self, port: int, name: str, *, tls: Any = None, **options: Any) -> MqttClient:
        """Make and start a client; messages it gets are in ``client.heard``."""
        versions = options.pop("versions", (V5, V4))

        def endpoint() -> Any:
            plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
            return plain if tls is None else wrapClientTLS(tls, plain)

        found: Any = MqttClient(
            reactor,
            endpoint,
            lambda version: ClientOptions(client_id=name, version=version, **options),
            random=Random(1),
            name=f"mosquitto:{port}",
            settings=QUICK,
            versions=versions,
        )
        found.heard = []

        def hear(received: Received) -> Deferred[None]:
            found.heard.append((received.message.topic, bytes(received.message.payload)))
            return succeed(None)

        found.on_received(hear)
        found.startService()
        self.clients.append(found)
        client: MqttClient = found
        return client

    async def connected(self, client: MqttClient) -> Any:
        """Wait for a connection."""
        await until("a connection", lambda: client.is_connected)
        return client

    async def test_each_qos(self) -> None:
        """QoS 0, 1 and 2 go out and come back, with both protocol versions."""
        broker = await self.broker()
        for version in (V4, V5):
            client = await self.connected(
                self.client(broker.port, f"v{version}", versions=(version,))
            )
            granted = await client.subscribe([Subscription(f"t{version}/#", qos=2)])
            self.assertEqual(granted, (2,))
            for qos in (0, 1, 2):
                await client.publish(f"t{version}/{qos}", b"%d" % qos, qos=qos)
            await until("three messages", lambda: len(client.heard) == 3)  # noqa: B023
            self.assertEqual(client.heard, [(f"t{version}/{qos}", b"%d" % qos) for qos in range(3)])
            await client.unsubscribe([f"t{version}/#"])
            await client.publish(f"t{version}/x", b"", qos=1)
            self.assertEqual(len(client.heard), 3)

    async def test_resume(self) -> None:
        """A broker that restarts gets what was published meanwhile, and gives what it kept."""
        broker = await self.broker()
        # mosquitto does not write sessions to its file that began with a clean start.
        options = {"session_expiry": 3600, "clean_start": False, "versions": (V5,)}
        receiver = await self.connected(self.client(broker.port, "receiver", **options))
        sender = await self.connected(self.client(broker.port, "sender", **options))
        await receiver.subscribe([Subscription("news", qos=1)])
        await broker.stop()
        await until("the cut", lambda: not receiver.is_connected and not sender.is_connected)
        sent = [sender.publish("news", b"%d" % number, qos=1) for number in range(20)]
        await broker.start()
        for each in sent:
            await each
        await until("all of it", lambda: len(receiver.heard) >= 20)
        self.assertEqual([payload for _, payload in receiver.heard], [b"%d" % n for n in range(20)])
        self.assertEqual(receiver.connects, 2)

    async def test_acknowledged_when_handled(self) -> None:
        """A message whose handling failed comes again; one that was handled does not."""
        broker = await self.broker()
        sender = await self.connected(self.client(broker.port, "sender"))
        receiver = self.client(
            broker.port, "receiver", session_expiry=3600, clean_start=False, versions=(V5,)
        )
        outcomes: list[Deferred[None]] = []

        def hear(received: Received) -> Deferred[None]:
            outcomes.append(Deferred())
            return outcomes[-1]

        receiver.on_received(hear)
        await self.connected(receiver)
        await receiver.subscribe([Subscription("news", qos=1)])
        await sender.publish("news", b"x", qos=1)
        await until("the message", lambda: len(outcomes) == 1)
        outcomes[0].errback(ZeroDivisionError())
        await until("the message again", lambda: len(outcomes) == 2)
        self.assertEqual(receiver.connects, 2)
        outcomes[1].callback(None)
        await receiver.publish("other", b"", qos=1)  # after our PUBACK, on the same connection
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await broker.stop()
        await broker.start()
        await until("the connection", lambda: receiver.connects == 3)
        await receiver.publish("other", b"", qos=1)
        self.assertEqual(len(outcomes), 2)

    async def test_passwords(self) -> None:
        """A password gets in; a wrong one is refused, and tried again."""
        users = self.folder / "users"
        self.folder.mkdir(parents=True)
        users.write_text(entry("ann", b"secret", b"salt" * 3) + "\n")
        broker = await self.broker("allow_anonymous false", f"password_file {users}")
        good = self.client(broker.port, "good", username="ann", password=b"secret")
        bad = self.client(broker.port, "bad", username="ann", password=b"wrong")
        await self.connected(good)
        self.assertFalse(bad.is_connected)
        self.assertFalse(bad.connects)

    async def test_tls(self) -> None:
        """With TLS the broker's certificate is checked, and ours is shown."""
        self.folder.mkdir(parents=True)
        authority = Authority.create(now=real_now())
        pair = authority.issue_server(["mosquitto.test"], ["127.0.0.1"], now=real_now())
        files = {name: self.folder / name for name in ("ca", "cert", "key")}
        files["ca"].write_bytes(authority.cert_pem)
        files["cert"].write_bytes(pair.cert_pem)
        files["key"].write_bytes(pair.key_pem)
        broker = await self.broker(
            "allow_anonymous true",
            *(f"cafile {files['ca']}", f"certfile {files['cert']}", f"keyfile {files['key']}"),
        )
        good = self.client(broker.port, "good", tls=foreign.client("mosquitto.test", files["ca"]))
        await self.connected(good)
        other = self.client(broker.port, "other", tls=foreign.client("else.test", files["ca"]))
        await until("attempts", lambda: "not valid for else.test" in other._said)
        self.assertFalse(other.connects)

    async def test_old_broker(self) -> None:
        """A broker that does not know MQTT 5 is spoken to in 3.1.1, whatever it answers."""
        for answer in (b"\x20\x02\0\x01", b""):
            old = _Old(answer)
            port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(old)
            try:
                client = await self.connected(self.client(port.getHost().port, "client"))
                self.assertEqual(client.version, V4)
                self.assertEqual(old.levels, [V5, V4])
                await client.stopService()
            finally:
                await port.stopListening()

    async def test_will(self) -> None:
        """The broker publishes our will if we vanish, and not if we say goodbye."""
        broker = await self.broker()
        witness = await self.connected(self.client(broker.port, "witness"))
        await witness.subscribe([Subscription("will/#")])
        polite, abrupt = [
            await self.connected(
                self.client(broker.port, name, will=Will(topic=f"will/{name}", payload=b""))
            )
            for name in ("polite", "abrupt")
        ]
        await polite.stopService()
        abrupt._link.abort()
        await until("the will", lambda: witness.heard)
        self.assertEqual(witness.heard, [("will/abrupt", b"")])

    async def test_port(self) -> None:
        """EventBus' port: no broker fails at once, its own messages do not come back."""
        broker = await self.broker()
        await broker.stop()
        port = ClientPort(self.client(broker.port, "edge"))
        heard: list[tuple[Any, ...]] = []
        states: list[bool] = []

        def hear(*message: Any) -> Deferred[None]:
            heard.append(message)
            return succeed(None)

        port.on_message(hear)
        port.on_state(states.append)
        await self.assertFailure(port.publish("a", b"", 1, False), NotConnected)
        await broker.start()
        await until("the connection", lambda: states == [False, True])
        await port.subscribe(["a/+", "+/user/#"])
        await port.publish("a/1", b"own", 1, False)
        other = await self.connected(self.client(broker.port, "device"))
        await other.publish("a/1", b"device's", qos=1)
        await until("the message", lambda: heard)
        self.assertEqual(heard, [("a/1", b"device's", 1, False)])
        await self.assertFailure(port.subscribe(["a/#/b"]), Exception)
        await port.unsubscribe(["a/+"])

    async def test_refused_subscription(self) -> None:
        """A subscription that the broker's rules refuse is an error."""
        self.folder.mkdir(parents=True)
        rules = self.folder / "acl"
        rules.write_text("topic deny secret/#\ntopic readwrite #\n")
        rules.chmod(0o600)
        broker = await self.broker("allow_anonymous true", f"acl_file {rules}")
        client = await self.connected(self.client(broker.port, "client"))
        error = await self.assertFailure(client.publish("secret/x", b"", qos=1), Unacknowledged)
        self.assertIn("secret/x", str(error))

    async def test_stop_fails_what_is_open(self) -> None:
        """What was not acknowledged when the client stops is told so."""
        broker = await self.broker()
        client = await self.connected(self.client(broker.port, "client"))
        await broker.stop()
        await until("the cut", lambda: not client.is_connected)
        waiting = client.publish("a", b"", qos=1)
        await client.stopService()
        await self.assertFailure(waiting, NotConnected)
