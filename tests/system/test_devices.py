"""A device's whole way: kubectl's side, both roles, the built-in broker, and a mapper's process."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import yaml
from twisted.logger import Logger

from tests.system.roles import Process, SystemCase, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "thermometer"
API = "/apis/devices.kubeedge.io/v1beta1/namespaces/default"
THRESHOLD = 1
"""Where it is among the Device's properties."""


class DeviceTests(SystemCase):
    """The thermometer that people copy, through cuts and crashes."""

    timeout = 240
    _log = Logger()

    async def test_thermometer(self) -> None:
        """Wanted values reach it, reported ones the cluster, whoever was killed meanwhile."""
        self.mqtt_port = self.ports.take()
        server = f"tcp://127.0.0.1:{self.mqtt_port}"
        events = {"mqttMode": 0, "mqttServerInternal": server}
        self.cloud, self.edge, self.api = await self.pair({"modules": {"eventBus": events}})
        model, device = (
            yaml.safe_load((EXAMPLE / f"{name}.yaml").read_text()) for name in ("model", "device")
        )
        device["spec"]["nodeName"] = "edge"
        self.properties = device["spec"]["properties"]
        # The device first, as `kubectl apply -f .` would.
        await self.api.call("POST", f"{API}/devices", device)
        await self.api.call("POST", f"{API}/devicemodels", model)
        self.thermometer = self.start_thermometer()

        await self.shows(threshold="25")
        found = await self.status()
        self.assertEqual(found["state"], "online")
        self.assertIn("threshold=25", found["extensions"]["reported"])
        began = time.monotonic()
        await self.want("19")
        await self.says("19")
        self._log.info("a wanted value took {s:.3f} s to the mapper", s=time.monotonic() - began)
        await self.shows(threshold="19")

        await self.edge.process.kill()
        await self.want("31")
        await self.edge.run()
        await self.says("31")
        await self.shows(threshold="31")

        await self.cloud.process.kill()
        self.thermometer.signal(15)
        await self.thermometer.ended()
        self.thermometer = self.start_thermometer()  # what it says now, the cloud hears later
        await until("the thermometer to be told", lambda: self.heard("31"))
        await self.cloud.run()
        await self.want("17")
        await self.says("17")
        await self.shows(threshold="17")

        await self.want("900")
        await until("the reason in the status", self.problem, self.cloud, self.edge)
        events_ = await until("the Event", self.events, self.cloud, self.edge)
        self.assertEqual(events_[0]["reason"], "OutOfRange")
        self.assertFalse(self.heard("900"))

        await self.thermometer.kill()
        await until("the will", lambda: self.state_is("offline"), self.cloud, self.edge)
        await self.api.delete(f"{API}/devices/thermometer")
        await until("its status to be gone", self.gone, self.cloud)

    def start_thermometer(self) -> Process:
        script = str(EXAMPLE / "thermometer.py")
        options = ("--port", str(self.mqtt_port), "--interval", "0.2")
        process = Process([sys.executable, "-u", script, *options])
        process.start()
        self.addCleanup(process.kill)
        return process

    async def want(self, value: str) -> None:
        """Set the threshold, as kubectl does."""
        properties = [dict(each) for each in self.properties]
        properties[THRESHOLD]["desired"] = {"value": value}
        await self.api.patch(f"{API}/devices/thermometer", {"spec": {"properties": properties}})

    def heard(self, value: str) -> bool:
        return bool(self.thermometer.lines(f"threshold is {value} now"))

    async def says(self, value: str) -> None:
        """Wait until the mapper has heard of a threshold."""
        what = f"the threshold {value} at the thermometer"
        await until(what, lambda: self.heard(value), self.cloud, self.edge)

    async def status(self) -> Any:
        found = await self.api.get(f"{API}/devicestatuses/thermometer")
        return (found or {}).get("status") or {}

    async def shows(self, threshold: str) -> None:
        """Wait until the cluster shows a threshold, on both sides, and a temperature."""

        async def look() -> bool:
            twins = {each["propertyName"]: each for each in (await self.status()).get("twins", ())}
            found = twins.get("threshold", {})
            return (
                "temperature" in twins
                and found.get("reported", {}).get("value") == threshold
                and found.get("observedDesired", {}).get("value") == threshold
            )

        await until(f"the threshold {threshold} in the cluster", look, self.cloud, self.edge)

    async def state_is(self, state: str) -> bool:
        return bool((await self.status()).get("state") == state)

    async def problem(self) -> bool:
        problems = (await self.status()).get("extensions", {}).get("problems", [])
        return any(each["reason"] == "OutOfRange" for each in problems)

    async def events(self) -> list[Any]:
        found = await self.api.items("/api/v1/namespaces/default/events")
        return [each for each in found if each["involvedObject"]["kind"] == "Device"]

    async def gone(self) -> bool:
        return await self.api.get(f"{API}/devicestatuses/thermometer") is None
