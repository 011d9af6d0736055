from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kubeedge_tx.security.authority import Authority, KeyPair
from kubeedge_tx.security.token import make_token, split_token
from tests.fakes.certificates import edge_pair, real_now
from tests.system.intruder import Intruder
from tests.system.roles import (
    Api,
    SystemCase,
    collection,
    pod,
    secret,
    until,
)

MIB = 1024 * 1024


async def authority_of(api: Api) -> Authority:
    """The CA of a cloud, as its administrator can read it."""
    data = (await api.get(f"{collection('Secret', 'kubeedge')}/casecret"))["data"]
    cert, key = (base64.b64decode(data[name]) for name in ("cadata", "cakeydata"))
    return Authority.load(cert, key, now=datetime.now(UTC))


class AbuseTests(SystemCase):
    """Whatever an edge sends, the cloud goes on for the others."""

    async def enter(self, pair: KeyPair | None, node: str) -> Intruder:
        """Connect as somebody; returns after the handshake, however it ended."""
        intruder = Intruder(self.work, self.websocket_port, pair)
        await intruder.open(node)
        return intruder

    async def test_abuse(self) -> None:
        """Strangers stay outside, nonsense ends its connection, and no Secret is in a log."""
        cloud = self.make_cloud(None, "--log-level", "debug")
        await cloud.run()
        api = self.client(cloud)
        edge = self.make_edge(await self.token(api), None, "--log-level", "debug")
        await edge.run()
        await self.node_ready(api, "edge", cloud, edge)
        ours = await authority_of(api)
        own, former = edge_pair(ours, "bad"), edge_pair(ours, "other")
        stranger = edge_pair(Authority.create(now=real_now()), "bad")

        self.assertEqual((await self.enter(None, "bad")).status, 0)
        self.assertEqual((await self.enter(stranger, "bad")).status, 0)
        self.assertEqual((await self.enter(former, "edge")).status, 403)
        self.assertEqual((await self.enter(own, "Not_A_Name")).status, 400)
        self.assertEqual((await self.enter(edge_pair(ours, "x", name="root"), "x")).status, 403)

        for what, frame, code in (
            ("33 MiB", b'"' + b"x" * (33 * MIB) + b'"', (1009, 0)),
            ("garbage", b"\x7b garbage PLANTED-garbage", (4400,)),
            ("no UTF-8", b'{"header": {"msg_id": "\xff\xfe"}}', (1007, 4400)),
            ("deep", b"[" * 100_000 + b"]" * 100_000, (4400,)),
            (
                "deep content",
                b'{"header":{"msg_id":"1"},"route":{"source":"edged","group":"meta",'
                b'"operation":"update","resource":"default/podstatus/x"},"content":'
                + b"[" * 100_000
                + b"]" * 100_000
                + b"}",
                (4400,),
            ),
        ):
            intruder = await self.enter(own, "bad")
            self.assertEqual(intruder.status, 101, what)
            await intruder.send(frame)
            self.assertIn(await intruder.closed(), code, what)

        intruder = await self.enter(own, "bad")
        for strange in (
            {"source": "edged", "operation": "explode", "resource": "default/pod/x"},
            {"source": "edged", "operation": "update", "resource": "no-such/thing"},
            {"source": "edged", "operation": "update", "resource": "default/secret/x"},
            {"source": "nobody", "operation": "update", "resource": "////"},
            {"source": "edged", "operation": "response", "resource": "x", "parent": "nothing"},
            {"source": "edged", "operation": "update", "resource": "default/node/edge"},
            {"source": "edged", "operation": "update", "resource": "default/podstatus/x"},
        ):
            await intruder.message(group="meta", content={"x": "PLANTED-content"}, **strange)
            self.assertTrue(await intruder.alive(), str(strange))
        await intruder.leave()

        await api.create(secret("login", password="PLANTED-secret"))
        source = {"valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
        await api.create(
            pod("calm", "sleep", "1000", container={"env": [{"name": "PASSWORD", **source}]})
        )
        await self.pod_ready(api, "calm", cloud, edge)
        self.assertEqual(edge.output.count("connected to the cloud at"), 1, "never cut off")
        for role in (cloud, edge):
            for planted in ("PLANTED", base64.b64encode(b"PLANTED-secret").decode()):
                self.assertEqual(role.process.lines(planted), [])
            self.assertEqual(role.process.lines(" critical "), [])

    async def test_two_of_one_name(self) -> None:
        """The newest connection wins; the other edge is told, and does not come back at once."""
        patient: Any = {"modules": {"edgeHub": {"longestReconnectDelay": 60}}}
        cloud, first, api = await self.pair(patient)
        second = self.make_edge(await self.token(api), patient, name="second")
        await second.run()
        await until(
            "the first edge to be told",
            lambda: first.process.lines("another edge has connected as edge"),
            cloud,
            first,
        )
        await until("it to wait", lambda: first.process.lines("dialling the cloud again in"), first)
        (said,) = first.process.lines("dialling the cloud again in")
        self.assertGreaterEqual(float(said.split(" in ")[1].split()[0]), 30, "no quarrel")
        await api.create(pod("mine", "sleep", "1000"))
        await self.pod_ready(api, "mine", cloud, second)
        self.assertTrue(list((second.data_dir / "process" / "pods").glob("*")))
        self.assertEqual(list((first.data_dir / "process" / "pods").glob("*")), [])
        self.assertEqual(len(cloud.process.lines("edge connected anew")), 1)
        self.assertEqual(second.process.lines("connection to the cloud is gone"), [])


class TokenTests(SystemCase):
    """A token that is no use."""

    async def test_tokens(self) -> None:
        """Wrong, expired, of another cloud: the edge says so and runs on; the cloud too."""
        cloud = self.make_cloud()
        await cloud.run()
        api = self.client(cloud)
        token = await self.token(api)
        ours = await authority_of(api)
        now = int(time.time())
        other = Authority.create(now=real_now())
        head, _, signature = token.rpartition(".")
        forged = f"{head}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
        cases = {
            "forged": (forged, "signature is wrong"),
            "expired": (make_token(ours.cert_der, ours.key_der, now - 60), "expired at"),
            "foreign": (
                make_token(other.cert_der, other.key_der, now + 3600),
                "another CA than the token was made for",
            ),
            "cut": (token[:100], "parts instead of 4"),
        }
        edges = {
            name: self.make_edge(made, node=f"edge-{name}") for name, (made, _) in cases.items()
        }
        for edge in edges.values():
            await edge.run()
        for name, (made, words) in cases.items():
            edge = edges[name]
            said = partial(edge.process.lines, "cannot reach", words)
            await until(f"the {name} token to be refused", said, edge, cloud)
            self.assertNotIn(made.rpartition(".")[2], edge.output, "the token itself")
        for name, words in (("forged", "signature is wrong"), ("expired", "expired")):
            self.assertTrue(cloud.process.lines(f"edge-{name}", words), cloud.output)
        for edge in edges.values():
            self.assertIsNone(edge.process.status)
        self.assertNotIn(split_token(token)[1], cloud.output)

        # With the right one it joins, and the token leaves the file.
        edge = edges["expired"]
        await edge.process.stop()
        edge.config["modules"]["edgeHub"]["token"] = token
        await edge.run()
        await self.node_ready(api, "edge-expired", edge, cloud)
        self.assertNotIn(token, edge.config_file.read_text())
