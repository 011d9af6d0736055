"""The mappers that people copy, as processes, against a real mosquitto."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.api.devices import check_value, device_problems, properties
from kubeedge_tx.api.twins import read_rules
from tests.requirements import requires

reactor: Any = global_reactor
EXAMPLES = Path(__file__).parents[2] / "examples"


def load(example: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / example / f"{name}.yaml").read_text())
    return found


class YamlTests(SynchronousTestCase):
    def test_devices_fit_their_models(self) -> None:
        """Nothing in the Devices is wrong by their models."""
        for example in ("thermometer", "modbus"):
            device, model = load(example, "device"), load(example, "model")
            self.assertEqual(list(device_problems(device, model)), [])
            self.assertEqual(set(properties(device)), set(read_rules(model)))


class _Program(ProcessProtocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.said = b""

    def outReceived(self, data: bytes) -> None:
        self.said += data

    errReceived = outReceived

    def processEnded(self, reason: object) -> None:
        self.ended.callback(None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@requires("mosquitto")
class MapperTests(TestCase):
    """The test is the edge: it speaks to the mapper over the broker."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.seen: list[tuple[str, Any]] = []
        self.waiting: Deferred[None] | None = None
        self.port = free_port()
        config = Path(self.mktemp())
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.run_program(program, "-c", str(config.absolute()))
        await self.listening(self.port)
        self.edge = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.edge.on_message = lambda _client, _data, message: reactor.callFromThread(
            self.heard, message.topic, message.payload
        )
        ready: Deferred[None] = Deferred()
        self.edge.on_subscribe = lambda *_: reactor.callFromThread(ready.callback, None)
        self.edge.connect("127.0.0.1", self.port)
        self.edge.subscribe("$hw/events/device/#", 1)
        self.edge.loop_start()
        self.addCleanup(self.edge.loop_stop)
        self.addCleanup(self.edge.disconnect)
        await ready

    def run_program(self, *command: str) -> Any:
        """Start a program; it ends with the test."""
        protocol = _Program()
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        transport = reactor.spawnProcess(protocol, command[0], command, env=env)

        def end() -> Deferred[None]:
            if transport.pid is not None:
                transport.signalProcess("KILL")
            return protocol.ended

        self.addCleanup(end)
        return transport

    def run_example(self, script: str, *options: str) -> Any:
        return self.run_program(sys.executable, str(EXAMPLES / script), *options)

    async def listening(self, port: int) -> None:
        """Wait until somebody listens; the test's timeout is the limit."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        while True:
            try:
                protocol: Any = await endpoint.connect(Factory.forProtocol(Protocol))
            except ConnectError:
                await deferLater(reactor, 0.02)
            else:
                protocol.transport.abortConnection()
                return

    def heard(self, topic: str, payload: bytes) -> None:
        self.seen.append((topic.removeprefix("$hw/events/device/"), json.loads(payload)))
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)

    async def until(self, topic: str, right: Callable[[Any], bool] = lambda _: True) -> Any:
        """Wait for a message; earlier ones are dropped."""
        while True:
            while self.seen:
                found, payload = self.seen.pop(0)
                if found == topic and right(payload):
                    return payload
            self.waiting = Deferred()
            await self.waiting

    def want(self, device: str, kind: str, **values: str) -> None:
        twin = {name: {"expected": {"value": value}} for name, value in values.items()}
        payload = json.dumps({"event_id": "", "timestamp": 1, "twin": twin})
        self.edge.publish(f"$hw/events/device/{device}/{kind}", payload, qos=1)

    @staticmethod
    def actual(payload: Any) -> dict[str, str]:
        return {name: twin["actual"]["value"] for name, twin in payload["twin"].items()}

    async def test_thermometer(self) -> None:
        """It asks what is wanted, does it, reports, and says goodbye or has it said."""
        options = ("--port", str(self.port), "--interval", "0.05")
        thermometer = self.run_example("thermometer/thermometer.py", *options)
        device = "default/thermometer"
        state = await self.until(f"{device}/state/update")
        self.assertEqual(state["state"], "online")
        await self.until(f"{device}/twin/get")
        self.want(device, "twin/get/result", threshold="30")
        report = await self.until(
            f"{device}/twin/update", lambda found: self.actual(found)["threshold"] == "30"
        )
        rules = read_rules(load("thermometer", "model"))
        for name, value in self.actual(report).items():
            self.assertIsNone(check_value(rules[name], value), (name, value))
            self.assertEqual(report["twin"][name]["metadata"]["type"], rules[name].twin_type)
        self.assertEqual(self.actual(report)["alarm"], "false")
        self.want(device, "twin/update/delta", threshold="5.5")
        await self.until(
            f"{device}/twin/update",
            lambda found: (
                self.actual(found).items() >= {"threshold": "5.5", "alarm": "true"}.items()
            ),
        )
        thermometer.signalProcess(signal.SIGTERM)
        await self.until(f"{device}/state/update", lambda found: found["state"] == "offline")
        killed = self.run_example("thermometer/thermometer.py", *options)
        await self.until(f"{device}/state/update", lambda found: found["state"] == "online")
        killed.signalProcess("KILL")
        await self.until(f"{device}/state/update", lambda found: found["state"] == "offline")

    async def test_boiler(self) -> None:
        """The setpoint reaches the register, the temperature follows; a dead boiler is offline."""
        modbus = free_port()
        boiler = self.run_example("modbus/boiler.py", "--port", str(modbus))
        await self.listening(modbus)
        device = load("modbus", "device")
        for each in device["spec"]["properties"]:
            each["collectCycle"] = 20
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump(device))
        self.run_example(
            "modbus/mapper.py",
            *("--mqtt-port", str(self.port), "--modbus-port", str(modbus), "--device", str(path)),
        )
        await self.until("default/boiler/twin/get")
        await self.until("default/boiler/state/update", lambda found: found["state"] == "online")
        report = await self.until("default/boiler/twin/update")
        self.assertEqual(
            self.actual(report), {"temperature": "20", "setpoint": "20", "heating": "false"}
        )
        self.want("default/boiler", "twin/update/delta", setpoint="25.5", temperature="99")
        await self.until(
            "default/boiler/twin/update",
            lambda found: (
                self.actual(found)["setpoint"] == "25.5" and self.actual(found)["heating"] == "true"
            ),
        )
        report = await self.until(
            "default/boiler/twin/update", lambda found: self.actual(found)["temperature"] == "25.5"
        )
        rules = read_rules(load("modbus", "model"))
        for name, value in self.actual(report).items():
            self.assertIsNone(check_value(rules[name], value), (name, value))
        boiler.signalProcess("KILL")
        await self.until("default/boiler/state/update", lambda found: found["state"] == "offline")
