"""Clients that people use, each as a process of its own, against our broker as one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import TestCase

from tests.mqtt.mosquitto import program
from tests.requirements import requires
from tests.system.roles import Process, Role, until

HERE = Path(__file__).parent
PAYLOADS = [("q/0", 0), ("q/1", 1), ("q/2", 2)]


class ClientCase(TestCase):
    """What each client must be able to do."""

    versions: ClassVar[tuple[str, ...]] = ("4", "5")
    is_websocket = False

    def command(self, action: str, port: int, version: str, name: str, count: int) -> list[str]:
        """The command line for an action."""
        raise NotImplementedError

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        protocol = "websockets" if self.is_websocket else "mqtt"
        config = {
            "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
            "listeners": [{"port": 0, "protocol": protocol}],
        }
        self.role = Role("kubeedge-mqtt", folder / "broker", config, [])
        self.processes: list[Process] = []

    async def tearDown(self) -> None:  # type: ignore[override]
        for process in self.processes:
            await process.kill()
        await self.role.end()

    def spawn(self, action: str, port: int, version: str, name: str, count: int = 0) -> Process:
        """Start the client."""
        environment = {"MQTT_SCHEME": "ws" if self.is_websocket else "mqtt"}
        if modules := os.environ.get("KUBEEDGE_TX_MQTTJS"):
            environment["NODE_PATH"] = str(Path(modules) / "node_modules")
        process = Process(self.command(action, port, version, name, count), environment)
        self.processes.append(process)
        process.start()
        return process

    async def run_client(
        self, action: str, port: int, version: str, name: str, count: int = 0
    ) -> Any:
        """Run the client to its end; returns what it printed last."""
        return await self.result(self.spawn(action, port, version, name, count))

    async def result(self, process: Process) -> Any:
        """What it printed last; it must have ended well."""
        status = await process.ended()
        self.assertEqual(status, 0, process.output)
        lines = process.output.strip().splitlines()
        return self.read(lines)

    def read(self, lines: list[str]) -> Any:
        """What the client has to say."""
        return json.loads(lines[-1])

    def is_ready(self, process: Process) -> bool:
        """Whether a listening client has subscribed."""
        assert process.status is None, process.output
        return "ready" in process.output

    async def do_live(self) -> None:
        port = (await self.role.run())["mqtt"]
        for version in self.versions:
            listener = self.spawn("listen", port, version, f"listener-{version}", 3)
            await until("the subscription", lambda: self.is_ready(listener), self.role)  # noqa: B023
            await self.run_client("publish", port, version, f"sender-{version}")
            found = await self.result(listener)
            self.assertEqual(
                sorted(map(tuple, found["messages"])),
                [(topic, f"from sender-{version}", qos) for topic, qos in PAYLOADS],
            )

    async def do_resume(self) -> None:
        port = (await self.role.run())["mqtt"]
        for version in self.versions:
            await self.run_client("subscribe", port, version, f"sleeper-{version}")
            await self.run_client("publish", port, version, f"sender-{version}")
        await self.role.process.kill()
        port = (await self.role.run())["mqtt"]
        for at, version in enumerate(self.versions):
            # The first one slept while both senders published.
            expected = [
                (topic, f"from sender-{sender}", qos)
                for sender in self.versions[at:]
                for topic, qos in PAYLOADS[1:]
            ]
            name, count = f"sleeper-{version}", len(expected)
            found = await self.run_client("resume", port, version, name, count)
            self.assertTrue(found["present"])
            self.assertEqual(sorted(map(tuple, found["messages"])), sorted(expected))


@requires("mosquitto_sub")
class MosquittoClientsTests(ClientCase):
    """mosquitto_pub and mosquitto_sub."""

    def command(self, action: str, port: int, version: str, name: str, count: int) -> list[str]:
        names = {"4": "311", "5": "5"}
        common = ["-p", str(port), "-V", names[version], "-i", name]
        session = ["-c", *(("-x", "3600") if version == "5" else ())]
        if action == "publish":
            start = " ".join([program("mosquitto_pub"), *common])
            text = " && ".join(
                f"{start} -t {topic} -q {qos} -m 'from {name}'" for topic, qos in PAYLOADS
            )
            return ["/bin/sh", "-c", text]
        how = ["-E"] if action == "subscribe" else ["-C", str(count), "-F", "%q %t %p", "-W", "20"]
        how += ["-d"] if action == "listen" else []
        at_once = ["/usr/bin/env", "stdbuf", "-oL"]  # or its output comes when it ends
        return [*at_once, program("mosquitto_sub"), *common, *session, "-t", "q/#", "-q", "2", *how]

    def is_ready(self, process: Process) -> bool:
        return "Subscribed (mid" in process.output

    def read(self, lines: list[str]) -> Any:
        words = [line.split(" ", 2) for line in lines if line[:2] in ("0 ", "1 ", "2 ")]
        return {"present": True, "messages": [(each[1], each[2], int(each[0])) for each in words]}

    async def test_live(self) -> None:
        """They publish and subscribe with each QoS."""
        await self.do_live()

    async def test_resume(self) -> None:
        """They find their sessions and messages after a kill -9 of the broker."""
        await self.do_resume()


class PahoTests(ClientCase):
    """paho-mqtt."""

    def command(self, action: str, port: int, version: str, name: str, count: int) -> list[str]:
        script = str(HERE / "with_paho.py")
        return [sys.executable, script, action, str(port), version, name, str(count)]

    async def test_live(self) -> None:
        """It publishes and subscribes with each QoS."""
        await self.do_live()

    async def test_resume(self) -> None:
        """It finds its session and messages after a kill -9 of the broker."""
        await self.do_resume()


class GmqttTests(ClientCase):
    """gmqtt, on asyncio."""

    def command(self, action: str, port: int, version: str, name: str, count: int) -> list[str]:
        script = str(HERE / "with_gmqtt.py")
        return [sys.executable, script, action, str(port), version, name, str(count)]

    async def test_live(self) -> None:
        """It publishes and subscribes with each QoS."""
        await self.do_live()

    async def test_resume(self) -> None:
        """It finds its session and messages after a kill -9 of the broker."""
        await self.do_resume()


@requires("mqttjs")
class MqttJsTests(ClientCase):
    """MQTT.js."""

    def command(self, action: str, port: int, version: str, name: str, count: int) -> list[str]:
        node = shutil.which("node")
        assert node is not None
        return [node, str(HERE / "with_mqttjs.cjs"), action, str(port), version, name, str(count)]

    async def test_live(self) -> None:
        """It publishes and subscribes with each QoS."""
        await self.do_live()

    async def test_resume(self) -> None:
        """It finds its session and messages after a kill -9 of the broker."""
        await self.do_resume()


@requires("mqttjs")
class MqttJsWebSocketTests(MqttJsTests):
    """MQTT.js in a WebSocket, as a browser does it."""

    is_websocket = True
