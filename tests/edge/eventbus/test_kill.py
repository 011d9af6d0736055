"""An edge's process, killed while a device reports."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from kubeedge_tx.mqtt.packets import Puback, Publish
from tests.edge.devicetwin.twincase import DEVICE
from tests.edge.eventbus.test_real import RealCase, reactor, until
from tests.mqtt.peer import Gone

ROUNDS = 3


class KillTests(RealCase):
    """``kill -9``."""

    async def run_edge(self) -> tuple[subprocess.Popen[bytes], int]:
        """Start the process; returns it and the port of its broker."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        ready = data / "ready.json"
        ready.unlink(missing_ok=True)
        config = self.folder / "edgecore.yaml"
        event_bus = {"mqttMode": 0, "mqttServerInternal": "tcp://127.0.0.1:0"}
        tree = msgspec.to_builtins(self.config(event_bus))
        config.write_text(yaml.safe_dump(tree))
        process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile="),
                *("kubeedge-edge", "--config", str(config), "--data-dir", str(data)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        await until(ready.exists)
        await until(lambda: ready.read_text().strip())
        return process, int(json.loads(ready.read_text())["ports"]["mqtt"])

    async def test_acknowledged_is_kept(self) -> None:
        """What was acknowledged is there after a kill, its report with it."""
        await self.seed()
        reported = acknowledged = 0
        for _ in range(ROUNDS):
            process, port = await self.run_edge()
            app = await self.app(port, f"{DEVICE}/twin/get/result")
            await app.publish(f"{DEVICE}/twin/get", b"{}")
            _, found = await self.hear(app)
            value = found["twin"].get("label", {}).get("actual", {}).get("value", "0")
            self.assertGreaterEqual(int(value), acknowledged)
            self.assertLessEqual(int(value), reported)
            mapper = await self.app(port, "nothing")
            killing: Deferred[None] = deferLater(reactor, 0.3, process.kill)
            try:
                while True:
                    batch = range(reported + 1, reported + 21)
                    mapper.send(*(self.update(each) for each in batch))
                    reported = batch[-1]
                    for each in batch:
                        await mapper.expect(Puback)
                        acknowledged = each
            except Gone:
                pass
            await killing
            process.wait()
        self.assertGreater(acknowledged, 0)
        process, port = await self.run_edge()
        app = await self.app(port, f"{DEVICE}/twin/get/result")
        await app.publish(f"{DEVICE}/twin/get", b"{}")
        _, found = await self.hear(app)
        value = found["twin"]["label"]["actual"]["value"]
        self.assertGreaterEqual(int(value), acknowledged)
        process.kill()
        process.wait()
        self.assertEqual(self.waiting_report()["label"]["actual"]["value"], value)

    def update(self, number: int) -> Publish:
        body = {"twin": {"label": {"actual": {"value": str(number)}}}}
        packet_id = number % 60_000 + 1
        return Publish(
            f"{DEVICE}/twin/update", json.dumps(body).encode(), 1, False, False, packet_id
        )

    def waiting_report(self) -> Any:
        """What the cloud will hear of the device."""
        connection = sqlite3.connect(self.folder / "edgecore.db")
        try:
            (row,) = connection.execute(
                "SELECT message FROM outbox WHERE key = 'twin/default/thermo/0'"
            ).fetchall()
        finally:
            connection.close()
        return json.loads(row[0])["content"]["twin"]
