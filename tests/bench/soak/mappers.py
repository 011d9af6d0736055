"""Mappers: what devices say to the MQTT brokers of their edges, and what was taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from kubeedge_tx.faultkit.history import Event
from tests.bench.soak.objects import Thing
from tests.bench.soak.site import Site
from tests.system.roles import pause

_DEVICE: Final = "$hw/events/device/"
_RESULT: Final = "/twin/update/result"


class Mappers:
    """One MQTT client for each edge that has a device which reports a number, higher each time.

    :param note: takes ``taken`` events: an edge has answered a report, so it is on its disk.
    """

    def __init__(
        self,
        reactor: Any,
        site: Site,
        things: Sequence[Thing],
        chance: Random,
        note: Callable[[Event], None],
    ) -> None:
        self._reactor = reactor
        self._site = site
        self._chance = chance
        self._note = note
        self._devices = {thing.key: thing for thing in things if thing.steady}
        self._clients: dict[int, mqtt.Client] = {}
        self._number = 0
        self._running = False
        self.said = 0
        self.taken: dict[str, int] = {}
        """The newest report of each device that its edge has answered."""

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost."""
        for node in {thing.nodes[0] for thing in self._devices.values()}:
            client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"mapper-{node}")
            client.on_connect = self._connected
            client.on_message = self._answered
            client.reconnect_delay_set(1, 2)
            client.connect_async("127.0.0.1", self._site.mqtt_ports[node], keepalive=20)
            client.loop_start()
            self._clients[node] = client

    def close(self) -> None:
        """Disconnect; their threads have ended when this returns."""
        for client in self._clients.values():
            client.disconnect()
            client.loop_stop()

    async def run(self, rate: float) -> None:
        """Report until :meth:`stop`, so many times a second altogether."""
        self._running = True
        while self._running:
            if self._devices:
                self.report(self._chance.choice(list(self._devices)))
            await pause(self._chance.expovariate(rate))

    def stop(self) -> None:
        """Report no more."""
        self._running = False

    def report(self, key: str) -> None:
        """Let one device say a new number, if it is connected."""
        thing = self._devices[key]
        client = self._clients[thing.nodes[0]]
        if not client.is_connected():
            return
        self._number += 1
        self.said += 1
        number = str(self._number)
        twin = {"count": {"actual": {"value": number}, "metadata": {"type": "int"}}}
        report = {"event_id": number, "timestamp": int(time.time() * 1000), "twin": twin}
        topic = f"{_DEVICE}default/{thing.name}/twin/update"
        client.publish(topic, msgspec.json.encode(report), qos=1)

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(f"{_DEVICE}+/+{_RESULT}", qos=1)

    def _answered(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        name = message.topic.removeprefix(f"{_DEVICE}default/").removesuffix(_RESULT)
        answer = msgspec.json.decode(message.payload)
        if answer.get("code"):
            return
        number = int(answer["event_id"])
        self._reactor.callFromThread(self._was_taken, f"default/device/{name}", number)

    def _was_taken(self, key: str, number: int) -> None:
        node = self._site.nodes[self._devices[key].nodes[0]]
        self.taken[key] = max(number, self.taken.get(key, 0))
        self._note(Event(where="taken", node=node, key=key, version=number))
