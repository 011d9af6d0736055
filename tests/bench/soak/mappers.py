"""Mappers: what devices say to the MQTT brokers of their edges, and what was taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from kubeedge_tx.faultkit.history import Event
from tests.bench.soak.objects import Thing
from tests.bench.soak.site import Site
from tests.system.roles import pause

_DEVICE: Final = "$hw/events/device/"
_RESULT: Final = "/twin/update/result"
_TICK: Final = 1.0
"""Seconds between two looks at keepalives, and at who must connect again."""


@implementer(IReadWriteDescriptor)
class _Socket:
    """The socket of a client, in the reactor: paho's own loop takes no descriptor over 1023."""

    def __init__(self, client: mqtt.Client, plug: Any) -> None:
        self._client = client
        self._plug = plug

    def fileno(self) -> int:
        return int(self._plug.fileno())

    def logPrefix(self) -> str:
        return "mapper"

    def doRead(self) -> None:
        self._client.loop_read()

    def doWrite(self) -> None:
        self._client.loop_write()

    def connectionLost(self, reason: object) -> None:
        self._client.loop_read()  # by which it hears of it


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
        self._plugs: dict[Any, _Socket] = {}
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor
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
            client.on_socket_open = self._opened
            client.on_socket_close = self._closed
            client.on_socket_register_write = lambda _client, _data, plug: self._reactor.addWriter(
                self._plugs[plug]
            )
            client.on_socket_unregister_write = lambda _client, _data, plug: (
                self._reactor.removeWriter(self._plugs[plug])
            )
            client.connect_async("127.0.0.1", self._site.mqtt_ports[node], keepalive=20)
            self._clients[node] = client
        self._ticks.start(_TICK)

    def close(self) -> None:
        """Disconnect."""
        if self._ticks.running:
            self._ticks.stop()
        for client in self._clients.values():
            client.disconnect()
            client.loop_write()

    def _tick(self) -> None:
        for client in self._clients.values():
            if client.socket() is not None:
                client.loop_misc()
                continue
            try:
                client.reconnect()
            except OSError:
                continue  # its edge does not run

    def _opened(self, client: mqtt.Client, _data: Any, plug: Any) -> None:
        self._plugs[plug] = _Socket(client, plug)
        self._reactor.addReader(self._plugs[plug])

    def _closed(self, _client: mqtt.Client, _data: Any, plug: Any) -> None:
        gone = self._plugs.pop(plug)
        self._reactor.removeReader(gone)
        self._reactor.removeWriter(gone)

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
        self._was_taken(f"default/device/{name}", number)

    def _was_taken(self, key: str, number: int) -> None:
        node = self._site.nodes[self._devices[key].nodes[0]]
        self.taken[key] = max(number, self.taken.get(key, 0))
        self._note(Event(where="taken", node=node, key=key, version=number))
