"""A simulated thermometer: says over MQTT how warm it is, and hears from which point to warn."""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


class Thermometer:
    def __init__(self, client: mqtt.Client, device: str) -> None:
        self.client, self.topic = client, f"$hw/events/device/{device}"
        self.temperature, self.threshold = 20.0, 0.0
        client.on_connect, client.on_message = self.connected, self.heard
        client.will_set(*self.state("offline"), qos=1)  # the broker says it if we cannot

    def state(self, state: str) -> tuple[str, str]:
        return f"{self.topic}/state/update", json.dumps({"event_id": "", "state": state})

    def connected(self, client, userdata, flags, reason, properties) -> None:  # type: ignore[no-untyped-def]
        client.subscribe(
            [(f"{self.topic}/twin/update/delta", 1), (f"{self.topic}/twin/get/result", 1)]
        )
        client.publish(*self.state("online"), qos=1)
        client.publish(f"{self.topic}/twin/get", "{}", qos=1)  # what is wanted of us now?

    def heard(self, client, userdata, message: mqtt.MQTTMessage) -> None:  # type: ignore[no-untyped-def]
        wanted = json.loads(message.payload).get("twin", {}).get("threshold") or {}
        value = wanted.get("expected", {}).get("value")
        if value and float(value) != self.threshold:  # the edge hands on numbers only
            self.threshold = float(value)
            print(f"threshold is {self.threshold:g} now", flush=True)
            self.report()

    def report(self) -> None:
        values = {
            "temperature": (f"{self.temperature:.1f}", "float"),
            "threshold": (f"{self.threshold:g}", "float"),
            "alarm": (str(self.temperature > self.threshold).lower(), "boolean"),
        }
        twin = {
            k: {"actual": {"value": v}, "metadata": {"type": t}} for k, (v, t) in values.items()
        }
        report = {"event_id": "", "timestamp": int(time.time() * 1000), "twin": twin}
        self.client.publish(f"{self.topic}/twin/update", json.dumps(report), qos=1)

    def measure(self) -> None:
        self.temperature += random.uniform(-0.5, 0.5) + (22.0 - self.temperature) * 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="of the edge's MQTT broker")
    parser.add_argument("--port", type=int, default=1884, help="of the edge's MQTT broker")
    parser.add_argument("--device", default="default/thermometer", help="NAMESPACE/NAME")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between reports")
    options = parser.parse_args()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    thermometer, stop = Thermometer(client, options.device), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    client.reconnect_delay_set(1, 5)
    client.connect_async(options.host, options.port, keepalive=20)
    client.loop_start()  # connects, and connects again after a loss
    while not stop.wait(options.interval):
        thermometer.measure()
        if client.is_connected():
            thermometer.report()
    client.publish(*thermometer.state("offline"), qos=1).wait_for_publish(2)
    client.disconnect()


if __name__ == "__main__":
    main()
