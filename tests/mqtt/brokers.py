"""Our broker on a free port of this process, with or without a store."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from kubeedge_tx.mqtt.limits import Limits
from kubeedge_tx.mqtt.server import ServerLimits
from kubeedge_tx.mqtt.service import Doorkeeper, Listener, MqttService
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.migrate import load_migrations
from kubeedge_tx.store.mqtt import MqttStore
from tests.mqtt.peer import Peer, client, dial, reactor

LOCAL = Listener(address="127.0.0.1", port=0)


class BrokerCase(TestCase):
    """Starts brokers, and ends them and their clients with the test."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self._peers: list[Peer] = []
        self._services: list[tuple[MqttService, Database | None]] = []

    async def tearDown(self) -> None:  # type: ignore[override]
        for peer in self._peers:
            await peer.drop()
        for service in tuple(self._services):
            await self.stop(service[0])

    async def start(
        self,
        *listeners: Listener,
        limits: Limits | None = None,
        server_limits: ServerLimits | None = None,
        is_durable: bool = False,
        **doorkeeper: Any,
    ) -> MqttService:
        """Start a broker; ``doorkeeper`` are the arguments of :class:`Doorkeeper`."""
        numbers = itertools.count(1)
        database = None
        if is_durable:
            database = Database(
                reactor,
                self.folder / "mqtt.db",
                load_migrations("kubeedge_tx.store", "schema_mqtt"),
            )
            await database.open()
        service = MqttService(
            reactor,
            listeners or [LOCAL],
            limits=limits or Limits(),
            ids=lambda: f"auto-{next(numbers)}",
            wall_clock=time.time,
            store=MqttStore(database) if database is not None else None,
            doorkeeper=Doorkeeper(deferToThread, **doorkeeper) if doorkeeper else None,
            server_limits=server_limits,
        )
        self._services.append((service, database))
        await service.startService()
        return service

    async def stop(self, service: MqttService) -> None:
        """Stop a broker in order."""
        for pair in tuple(self._services):
            if pair[0] is service:
                self._services.remove(pair)
                await service.stopService()
                if pair[1] is not None:
                    await pair[1].close()

    async def dial(self, service: MqttService, version: int = 5, at: int = 0) -> Peer:
        """Open a connection to a listener."""
        peer = await dial(service.ports[at], version)
        self._peers.append(peer)
        return peer

    async def client(
        self, service: MqttService, client_id: str, version: int = 5, **fields: Any
    ) -> Peer:
        """Open a connection and a session."""
        peer = await client(service.ports[0], client_id, version, **fields)
        self._peers.append(peer)
        return peer
