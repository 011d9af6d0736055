"""The broker as a process, killed in the middle of its work."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.trial.unittest import TestCase

from kubeedge_tx.mqtt.packets import V4, V5, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.mqtt.peer import Gone, Peer, client, dial, persistent
from tests.system.roles import Role

ROUNDS = 4


class KillTests(TestCase):
    """``kill -9`` at any moment."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        config = {
            "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
            "limits": {"queueMessages": 1_000_000, "queueBytes": 1 << 30},
        }
        self.role = Role("kubeedge-mqtt", folder / "broker", config, ["--port", "0"])
        self.peers: list[Peer] = []

    async def tearDown(self) -> None:  # type: ignore[override]
        for peer in self.peers:
            await peer.drop()
        await self.role.end()

    async def client(self, port: int, name: str, version: int, *, lasting: bool) -> Peer:
        fields = persistent(version) if lasting else {}
        peer = await client(port, name, version, **fields)
        self.peers.append(peer)
        return peer

    async def test_nothing_acknowledged_is_lost(self) -> None:
        """What was acknowledged before a kill arrives, and what was retained is there."""
        chance = Random(7)
        port = (await self.role.run())["mqtt"]
        sleeper = await self.client(port, "sleeper", V5, lasting=True)
        await sleeper.subscribe("q/#", qos=2)
        await sleeper.drop()
        acknowledged: list[int] = []
        retained = -1
        number = 0
        for _ in range(ROUNDS):
            sender = await self.client(port, "sender", V4, lasting=False)
            sent: dict[int, int] = {}
            until_kill = chance.randrange(100, 600)
            try:
                while True:
                    while len(sent) < 50:
                        number += 1
                        packet_id = number % 60_000 + 1
                        sent[packet_id] = number
                        payload = b"%d" % number
                        topic = "q/kept" if number % 10 == 0 else "q/plain"
                        sender.send(Publish(topic, payload, 1, number % 10 == 0, False, packet_id))
                    answer = await sender.expect(Puback)
                    one = sent.pop(answer.packet_id)
                    acknowledged.append(one)
                    if one % 10 == 0:
                        retained = one
                    until_kill -= 1
                    if not until_kill:
                        await self.role.process.kill()
            except Gone:
                pass
            port = (await self.role.run())["mqtt"]
            reader = await self.client(port, "reader", V5, lasting=False)
            if retained >= 0:
                await reader.subscribe("q/kept")
                kept = await reader.expect(Publish)
                self.assertGreaterEqual(int(kept.payload), retained)
            await reader.drop()
        self.assertGreater(len(acknowledged), 300)
        sleeper = await dial(port, V5)
        self.peers.append(sleeper)
        came = await sleeper.connect("sleeper", **persistent(V5))
        self.assertTrue(came.session_present)
        missing = set(acknowledged)
        order: list[int] = []
        while missing:
            (message,) = await sleeper.collect(1)
            order.append(int(message.payload))
            missing.discard(order[-1])
        once = list(dict.fromkeys(order))
        self.assertEqual(once, sorted(once))

    async def test_qos2_arrives_once(self) -> None:
        """QoS 2 from a sender that repeats after each kill what was not finished arrives once."""
        chance = Random(8)
        port = (await self.role.run())["mqtt"]
        sleeper = await self.client(port, "sleeper", V5, lasting=True)
        await sleeper.subscribe("q", qos=2)
        await sleeper.drop()
        # Not more than the broker's receive maximum.
        waiting = {packet_id: b"%d" % packet_id for packet_id in range(1, 201)}
        kills = 0
        released: set[int] = set()
        first = True
        while waiting or released:
            sender = await self.client(port, "sender", V4, lasting=True)
            for packet_id, payload in waiting.items():
                sender.send(Publish("q", payload, 2, False, not first, packet_id))
            sender.send(*(Pubrel(packet_id) for packet_id in released))
            first = False
            until_kill = chance.randrange(30, 120)
            try:
                while waiting or released:
                    packet = await sender.next()
                    if isinstance(packet, Pubrec):
                        if waiting.pop(packet.packet_id, None) is not None:
                            released.add(packet.packet_id)
                        sender.send(Pubrel(packet.packet_id))
                    elif isinstance(packet, Pubcomp):
                        released.discard(packet.packet_id)
                    until_kill -= 1
                    if not until_kill:
                        await self.role.process.kill()
                        kills += 1
                        raise Gone
            except Gone:
                port = (await self.role.run())["mqtt"]
            await sender.drop()
        self.assertGreater(kills, 1)
        await self.role.process.kill()
        port = (await self.role.run())["mqtt"]
        sleeper = await self.client(port, "sleeper", V5, lasting=True)
        found = [int(each.payload) for each in await sleeper.collect(200)]
        self.assertEqual(sorted(found), list(range(1, 201)))
        self.assertEqual([p for p in await sleeper.quiet() if isinstance(p, Publish)], [])
