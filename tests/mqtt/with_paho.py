"""paho-mqtt as a program, for the tests: see ``test_interop``.

python with_paho.py ACTION PORT VERSION NAME COUNT
"""

from __future__ import annotations

import json
import sys
import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def main() -> None:
    action, port, version, name, count = sys.argv[1:]
    is_v5 = version == "5"
    protocol = paho.MQTTv5 if is_v5 else paho.MQTTv311
    found: list[tuple[str, str, int]] = []
    present: list[bool] = []
    up, subscribed, all_here, done = (threading.Event() for _ in range(4))
    clean = None if is_v5 else False
    client = paho.Client(CallbackAPIVersion.VERSION2, name, clean, protocol=protocol)

    def on_connect(_c: object, _u: object, flags: object, *_: object) -> None:
        present.append(flags.session_present)  # type: ignore[attr-defined]
        up.set()

    def on_message(_c: object, _u: object, message: paho.MQTTMessage) -> None:
        found.append((message.topic, message.payload.decode(), message.qos))
        if len(found) >= int(count):
            all_here.set()

    client.on_connect = on_connect
    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_disconnect = lambda *_: done.set()
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", int(port), clean_start=False, properties=properties)
    else:
        client.connect("127.0.0.1", int(port))
    client.loop_start()
    assert up.wait(20)
    if action in ("subscribe", "listen"):
        client.subscribe("q/#", qos=2)
        assert subscribed.wait(20)
    if action == "listen":
        print("ready", flush=True)  # noqa: T201 - its output
    if action == "publish":
        for qos in range(3):
            client.publish(f"q/{qos}", f"from {name}", qos=qos).wait_for_publish(20)
    if action in ("listen", "resume"):
        assert all_here.wait(20), found
    client.disconnect()
    done.wait(20)
    client.loop_stop()
    print(json.dumps({"present": present[0], "messages": found}))  # noqa: T201 - its output


main()
