"""A mapper for Modbus TCP: reads and writes the registers that a Device's YAML names.

Each property with ``visitors.configData.register`` is one holding register; its value is the
register times ``scale``. What is wanted of a property that the model lets be written comes from
the edge over MQTT and goes into the register.
"""

from __future__ import annotations

import argparse
import json
import queue
import signal
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient

TYPES = {"INT": "int", "FLOAT": "float", "DOUBLE": "float", "BOOLEAN": "boolean"}


class Register:
    """One property of the device."""

    def __init__(self, prop: dict[str, Any], rule: dict[str, Any]) -> None:
        config = prop["visitors"]["configData"]
        self.number, self.scale = int(config["register"]), float(config.get("scale", 1))
        self.type = TYPES.get(rule["type"], "string")
        self.writable = rule.get("accessMode") == "ReadWrite"

    def to_text(self, register: int) -> str:
        if self.type == "boolean":
            return str(bool(register)).lower()
        signed = register - 0x10000 if register >= 0x8000 else register
        return f"{signed * self.scale:.10g}"

    def to_register(self, text: str) -> int:
        if self.type == "boolean":
            return int(text == "true")
        return round(float(text) / self.scale) & 0xFFFF


class Mapper:
    """Between one device and the edge's MQTT broker."""

    def __init__(self, device: dict[str, Any], model: dict[str, Any], broker: mqtt.Client) -> None:
        rules = {each["name"]: each for each in model["spec"]["properties"]}
        properties = device["spec"]["properties"]
        self.registers = {p["name"]: Register(p, rules[p["name"]]) for p in properties}
        cycles = [each.get("collectCycle", 1000) for each in properties]
        self.cycle = min(cycles) / 1000
        config = device["spec"]["protocol"]["configData"]
        self.modbus = ModbusTcpClient(config["host"], port=int(config["port"]), timeout=2)
        self.unit = int(config.get("unit", 1))
        about = device["metadata"]
        self.topic = f"$hw/events/device/{about.get('namespace', 'default')}/{about['name']}"
        self.wanted: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self.state = ""
        self.broker = broker
        broker.on_connect, broker.on_message = self.connected, self.heard
        broker.will_set(f"{self.topic}/state/update", json.dumps({"state": "unknown"}), qos=1)

    def connected(self, client, userdata, flags, reason, properties) -> None:  # type: ignore[no-untyped-def]
        self.state = ""  # said again at the next cycle
        client.subscribe(
            [(f"{self.topic}/twin/update/delta", 1), (f"{self.topic}/twin/get/result", 1)]
        )
        self.say("twin/get", {})

    def heard(self, client, userdata, message: mqtt.MQTTMessage) -> None:  # type: ignore[no-untyped-def]
        for name, twin in json.loads(message.payload).get("twin", {}).items():
            value = ((twin or {}).get("expected") or {}).get("value")
            if value is not None and name in self.registers:
                self.wanted.put((name, value))

    def say(self, what: str, content: dict[str, Any]) -> None:
        message = {"event_id": "", "timestamp": int(time.time() * 1000), **content}
        self.broker.publish(f"{self.topic}/{what}", json.dumps(message), qos=1)

    def run_once(self) -> None:
        """Write what is wanted, read everything, report."""
        try:
            while not self.wanted.empty():
                self.write(*self.wanted.get())
            values = {name: self.read(register) for name, register in self.registers.items()}
        except ModbusException as error:
            print(f"no answer from the device: {error}", flush=True)
            self.say_state("offline")
            return
        self.say_state("online")
        twin = {
            name: {"actual": {"value": value}, "metadata": {"type": self.registers[name].type}}
            for name, value in values.items()
        }
        self.say("twin/update", {"twin": twin})

    def say_state(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.say("state/update", {"state": state})

    def read(self, register: Register) -> str:
        answer = self.modbus.read_holding_registers(register.number, device_id=self.unit)
        if answer.isError():
            raise ModbusException(f"register {register.number}: {answer}")
        return register.to_text(answer.registers[0])

    def write(self, name: str, value: str) -> None:
        register = self.registers[name]
        if not register.writable or value == self.read(register):
            return
        try:
            number = register.to_register(value)
        except ValueError:
            print(f"{name} cannot be {value!r}", flush=True)
            return
        answer = self.modbus.write_register(register.number, number, device_id=self.unit)
        print(f"{name} = {value}: {'refused' if answer.isError() else 'written'}", flush=True)


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mqtt-host", default="127.0.0.1", help="of the edge's MQTT broker")
    parser.add_argument("--mqtt-port", type=int, default=1884, help="of the edge's MQTT broker")
    parser.add_argument("--device", type=Path, default=here / "device.yaml")
    parser.add_argument("--model", type=Path, default=here / "model.yaml")
    parser.add_argument("--modbus-port", type=int, help="instead of the one in the device's YAML")
    options = parser.parse_args()
    device, model = (yaml.safe_load(path.read_text()) for path in (options.device, options.model))
    if options.modbus_port is not None:
        device["spec"]["protocol"]["configData"]["port"] = options.modbus_port
    broker = mqtt.Client(CallbackAPIVersion.VERSION2)
    mapper, stop = Mapper(device, model, broker), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    broker.reconnect_delay_set(1, 5)
    broker.connect_async(options.mqtt_host, options.mqtt_port, keepalive=20)
    broker.loop_start()
    while not stop.wait(mapper.cycle):
        if broker.is_connected():
            mapper.run_once()
    broker.disconnect()


if __name__ == "__main__":
    main()
