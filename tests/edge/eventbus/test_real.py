"""A whole edge with real brokers and clients, on a file that is really synced."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.edge.core import EdgeCore
from kubeedge_tx.mqtt.packets import Puback, Publish
from kubeedge_tx.security.authority import Authority
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.migrate import load_migrations
from tests.edge.devicetwin.twincase import DEVICE, device_object, model_object
from tests.mqtt.peer import Peer

reactor: Any = _reactor
PATIENCE = 30.0


async def until(what: Any) -> None:
    """Wait until something is so."""
    deadline = reactor.seconds() + PATIENCE
    while not what():
        assert reactor.seconds() < deadline, "it does not happen"
        await deferLater(reactor, 0.02)


class RealCase(TestCase):
    """Starts edges whose store has a device, as the cloud left it."""

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    async def seed(self) -> None:
        """A device that a cloud has sent, desired threshold 30."""
        database = Database(
            reactor, self.folder / "edgecore.db", load_migrations("kubeedge_tx.store", "schema")
        )
        await database.open()
        store = MetaStore(database)
        await store.load()
        model = msgspec.json.encode(model_object())
        await store.put("default/devicemodel/m", "devicemodel", model)
        device = msgspec.json.encode(device_object({"threshold": "30"}))
        await store.put("default/device/thermo", "device", device)
        await database.close()

    def config(self, event_bus: dict[str, Any]) -> EdgeCoreConfig:
        return msgspec.convert(
            {
                "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
                "database": {"dataSource": str(self.folder / "edgecore.db")},
                "modules": {
                    "edgeHub": {
                        "httpServer": "https://127.0.0.1:9",
                        "websocket": {"server": "127.0.0.1:9"},
                    },
                    "edged": {"hostnameOverride": "edge-1", "runtime": "process"},
                    "eventBus": event_bus,
                },
            },
            EdgeCoreConfig,
        )

    async def start(self, **event_bus: Any) -> EdgeCore:
        core = EdgeCore(reactor, self.config(event_bus), self.folder, None)
        await core.startService()
        self.addCleanup(self.stop, core)
        return core

    async def stop(self, core: EdgeCore) -> None:
        if core.running:
            await core.stopService()

    async def app(self, port: int, *filters: str) -> Peer:
        """An app that listens."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        peer: Peer = await connectProtocol(endpoint, Peer(4))
        self.addCleanup(peer.transport.abortConnection)  # type: ignore[union-attr]
        await peer.connect(f"app-{id(peer)}")
        await peer.subscribe(*filters, qos=1)
        return peer

    async def hear(self, app: Peer) -> tuple[str, Any]:
        """The next message that an app gets."""
        message = await app.expect(Publish)
        if message.qos:
            app.send(Puback(message.packet_id))
        return message.topic, json.loads(message.payload)


class OwnBrokerTests(RealCase):
    """Mode 0."""

    async def test_device(self) -> None:
        """A mapper asks, reports, is acknowledged and answered; a restart keeps all of it."""
        await self.seed()
        core = await self.start(mqttMode=0, mqttServerInternal="tcp://127.0.0.1:0")
        port = core.ports()["mqtt"]
        app = await self.app(port, f"{DEVICE}/#")
        mapper = await self.app(port, "nothing")
        await mapper.publish(f"{DEVICE}/twin/get", b'{"event_id":"g"}')
        topic, twins = await self.hear(app)
        topic, twins = await self.hear(app)
        self.assertEqual(topic, f"{DEVICE}/twin/get/result")
        self.assertEqual(twins["twin"]["threshold"]["expected"]["value"], "30")
        body = {"event_id": "u", "twin": {"temperature": {"actual": {"value": "23"}}}}
        answer = await mapper.publish(f"{DEVICE}/twin/update", json.dumps(body).encode(), qos=1)
        self.assertIsInstance(answer, Puback)
        heard = [await self.hear(app) for _ in range(4)]
        self.assertEqual(
            [topic.removeprefix(f"{DEVICE}/twin/") for topic, _ in heard],
            ["update", "update/result", "update/document", "update/delta"],
        )
        await core.stopService()
        core = await self.start(mqttMode=0, mqttServerInternal="tcp://127.0.0.1:0")
        app = await self.app(core.ports()["mqtt"], f"{DEVICE}/twin/get/result")
        await app.publish(f"{DEVICE}/twin/get", b"{}")
        _, twins = await self.hear(app)
        self.assertEqual(twins["twin"]["temperature"]["actual"]["value"], "23")


class Mosquitto:
    """A real one, on a port that stays the same."""

    def __init__(self, folder: Path, port: int, *more: str) -> None:
        self._config = folder / f"mosquitto-{port}.conf"
        settings = (f"listener {port} 127.0.0.1", *(more or ("allow_anonymous true",)), "user root")
        self._config.write_text("\n".join(settings) + "\n")
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.process = subprocess.Popen(
            [program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        for _ in range(200):
            try:
                probe: Any = await connectProtocol(endpoint, Protocol())
            except Exception:  # noqa: BLE001 - it is not there yet
                await deferLater(reactor, 0.05)
            else:
                probe.transport.abortConnection()
                return
        raise AssertionError("mosquitto does not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class MosquittoTests(RealCase):
    """Modes 1 and 2, with a real mosquitto."""

    async def mosquitto(self, *more: str) -> Mosquitto:
        if not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()):
            raise SkipTest("mosquitto is not installed")
        holder = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        port = holder.getHost().port
        await holder.stopListening()
        broker = Mosquitto(self.folder, port, *more)
        self.addCleanup(broker.kill)
        await broker.start()
        return broker

    async def ask(self, app: Peer) -> Any:
        """Ask for twins until there is an answer: the edge may not be there yet."""
        answer: Deferred[Any] = Deferred.fromCoroutine(self.hear(app))
        while not answer.called:
            await app.publish(f"{DEVICE}/twin/get", b'{"event_id":"g"}')
            await deferLater(reactor, 0.1)
        _, found = await answer
        return found

    async def test_other_broker(self) -> None:
        """Mode 2: a device on mosquitto is served, also after mosquitto was killed."""
        await self.seed()
        broker = await self.mosquitto()
        await self.start(mqttMode=2, mqttServerExternal=f"tcp://127.0.0.1:{broker.port}")
        app = await self.app(broker.port, f"{DEVICE}/twin/get/result")
        found = await self.ask(app)
        self.assertEqual(found["twin"]["threshold"]["expected"]["value"], "30")
        broker.kill()
        await broker.start()
        app = await self.app(broker.port, f"{DEVICE}/twin/get/result")
        found = await self.ask(app)
        self.assertEqual(found["twin"]["threshold"]["expected"]["value"], "30")

    async def test_both(self) -> None:
        """Mode 1: asked on one, the answer appears on both."""
        await self.seed()
        broker = await self.mosquitto()
        core = await self.start(
            mqttMode=1,
            mqttServerInternal="tcp://127.0.0.1:0",
            mqttServerExternal=f"tcp://127.0.0.1:{broker.port}",
        )
        outer = await self.app(broker.port, f"{DEVICE}/twin/get/result")
        inner = await self.app(core.ports()["mqtt"], f"{DEVICE}/twin/get/result")
        found = await self.ask(outer)
        _, seen = await self.hear(inner)
        self.assertEqual(seen, found)

    def certificates(self) -> dict[str, str]:
        """A CA, and files of a broker's and of an edge's certificate; their paths."""
        now = datetime.now(UTC)
        authority = Authority.create(now=now)
        stranger = Authority.create(now=now)
        server = authority.issue_server((), ("127.0.0.1",), now=now)
        own = authority.issue_client("edge-1", [], now=now)
        found = {}
        for name, pem in (
            ("ca", authority.cert_pem),
            ("stranger", stranger.cert_pem),
            ("server", server.cert_pem),
            ("server-key", server.key_pem),
            ("edge", own.cert_pem),
            ("edge-key", own.key_pem),
        ):
            (self.folder / f"{name}.pem").write_bytes(pem)
            found[name] = str(self.folder / f"{name}.pem")
        return found

    async def test_tls(self) -> None:
        """Over TLS both show certificates; a broker of another CA is not trusted."""
        files = self.certificates()
        broker = await self.mosquitto(
            f"cafile {files['ca']}",
            f"certfile {files['server']}",
            f"keyfile {files['server-key']}",
            "require_certificate true",
            "use_identity_as_username true",
        )
        for ca, connected in (("stranger", False), ("ca", True)):
            core = await self.start(
                mqttMode=2,
                mqttServerExternal=f"tcp://127.0.0.1:{broker.port}",
                eventBusTLS={
                    "enable": True,
                    "tlsMqttCAFile": files[ca],
                    "tlsMqttCertFile": files["edge"],
                    "tlsMqttPrivateKeyFile": files["edge-key"],
                },
            )
            if connected:
                await until(lambda core=core: self.gauge(core) == 1.0)
            else:
                await deferLater(reactor, 1.0)
                self.assertEqual(self.gauge(core), 0.0)
            await core.stopService()

    async def test_password(self) -> None:
        """User name and password of the configuration are used."""
        program = shutil.which("mosquitto_passwd")
        if program is None:
            raise SkipTest("mosquitto_passwd is not installed")
        passwords = self.folder / "passwords"
        subprocess.run([program, "-b", "-c", str(passwords), "edge", "secret"], check=True)
        broker = await self.mosquitto("allow_anonymous false", f"password_file {passwords}")
        core = await self.start(
            mqttMode=2,
            mqttServerExternal=f"tcp://127.0.0.1:{broker.port}",
            mqttUsername="edge",
            mqttPassword="secret",
        )
        await until(lambda: self.gauge(core) == 1.0)

    def gauge(self, core: EdgeCore) -> float:
        """Whether the edge says that it is connected to the other broker."""
        for line in core.metrics.text().splitlines():
            if line.startswith('kubeedge_eventbus_connected{broker="external"}'):
                return float(line.rpartition(" ")[2])
        raise AssertionError("no such figure")
