"""gmqtt as a program, for the tests: see ``test_interop``.

python with_gmqtt.py ACTION PORT VERSION NAME COUNT
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311


async def main() -> None:
    action, port, version, name, count = sys.argv[1:]
    found: list[tuple[str, str, int]] = []
    present: list[bool] = []
    subscribed, all_here = asyncio.Event(), asyncio.Event()
    options = {"session_expiry_interval": 3600} if version == "5" else {}
    client: Any = gmqtt.Client(name, clean_session=False, **options)

    def on_message(_client: Any, topic: str, payload: bytes, qos: int, _more: Any) -> int:
        found.append((topic, payload.decode(), qos))
        if len(found) >= int(count):
            all_here.set()
        return 0

    client.on_connect = lambda _client, flags, _code, _properties: present.append(bool(flags & 1))
    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    await client.connect("127.0.0.1", int(port), version=MQTTv50 if version == "5" else MQTTv311)
    async with asyncio.timeout(20):
        if action in ("subscribe", "listen"):
            client.subscribe("q/#", qos=2)
            await subscribed.wait()
        if action == "listen":
            print("ready", flush=True)  # noqa: T201 - its output
        if action == "publish":
            for qos in range(3):
                client.publish(f"q/{qos}", f"from {name}", qos=qos)
            while not _is_empty(client):
                await asyncio.sleep(0.02)
        if action in ("listen", "resume"):
            await all_here.wait()
            await asyncio.sleep(0.1)  # its acknowledgements are written by a task
    await client.disconnect()
    print(json.dumps({"present": present[0], "messages": found}))  # noqa: T201 - its output


def _is_empty(client: Any) -> bool:
    """Whether everything was acknowledged."""
    return bool(client._persistent_storage.is_empty)


asyncio.run(main())
