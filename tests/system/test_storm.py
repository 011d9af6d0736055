from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from typing import Any, Final

from twisted.internet.defer import Deferred

from kubeedge_tx.faultkit.history import Checker, Event
from kubeedge_tx.faultkit.proxy import Proxy
from tests.system.roles import Role, SystemCase, collection, config_map, pause, pod, reactor, until

SECONDS: Final = float(os.environ.get("KUBEEDGE_TX_STORM_SECONDS", "20"))
"""How long things break; minutes by hand."""
SEED: Final = int(os.environ.get("KUBEEDGE_TX_STORM_SEED", "0")) or random.randrange(1, 1 << 30)
MAPS: Final = 12
SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")


class StormTests(SystemCase):
    """Everything breaks at random; no promise does, and both ends agree afterwards."""

    timeout = 150 + int(SECONDS)

    async def start(self) -> None:
        """Three clouds on one API, two edges, a bad link before each of two clouds."""
        self.random = random.Random(SEED)
        first = self.make_cloud()
        await first.run()
        self.api = self.client(first)
        self.clouds: list[Role] = []
        self.proxies: list[Proxy] = []
        for name in ("second", "third"):
            websocket, https = self.ports.take(), self.ports.take()
            hub = {"websocket": {"port": websocket}, "https": {"port": https}}
            api = {"kubeConfig": str(first.data_dir / "admin.kubeconfig")}
            cloud = self.make_cloud({"kubeAPIConfig": api, "modules": {"cloudHub": hub}}, name=name)
            await cloud.run()
            self.clouds.append(cloud)
            self.proxies.append(Proxy(reactor, self.random, "127.0.0.1", websocket))
        ports = [await proxy.listen() for proxy in self.proxies]
        for proxy in self.proxies:
            self.addCleanup(self.close, proxy)
        servers = ",".join(f"127.0.0.1:{port}" for port in ports)
        token = await self.token(self.api)
        self.edges: dict[str, Role] = {}
        for node in ("edge-1", "edge-2"):
            config = {"modules": {"edgeHub": {"websocket": {"server": servers}}}}
            self.edges[node] = self.make_edge(token, config, node=node)
            await self.edges[node].run()
            await self.node_ready(self.api, node, *self.clouds)
        self.checker = Checker()
        self.began = time.monotonic()
        self.number = 0
        for index in range(MAPS):
            await self.write(f"map-{index}")
        volumes = [
            {"name": f"v{n}", "configMap": {"name": f"map-{n}", "optional": True}}
            for n in range(MAPS)
        ]
        for node in self.edges:
            await self.api.create(pod(f"on-{node}", *SLEEP, nodeName=node, volumes=volumes))
            await self.pod_ready(self.api, f"on-{node}", *self.clouds)

    def close(self, proxy: Proxy) -> Deferred[None]:
        """End a bad link."""
        return Deferred.fromCoroutine(proxy.close())

    # The cluster

    def path(self, name: str) -> str:
        return f"{collection('ConfigMap')}/{name}"

    def note(self, obj: Any, *, where: Any = "cluster", node: str = "", gone: bool = False) -> None:
        """Write an object's state into the history."""
        about = obj["metadata"]
        self.checker.take(
            Event(
                where=where,
                key=f"default/configmap/{about['name']}",
                uid=about.get("uid", ""),
                version=int(about.get("resourceVersion", 0)),
                gone=gone,
                node=node,
                at=time.monotonic() - self.began,
            )
        )

    async def write(self, name: str) -> None:
        """Create or change a ConfigMap."""
        self.number += 1
        text = str(self.number)
        changed = await self.api.patch(self.path(name), {"data": {"n": text}})
        self.note(changed or await self.api.create(config_map(name, n=text)))

    async def remove(self, name: str) -> None:
        """Delete a ConfigMap."""
        found = await self.api.get(self.path(name))
        if found is not None:
            self.note(found, gone=True)
            await self.api.delete(self.path(name))

    # The edges

    def stored(self, node: str) -> dict[str, Any]:
        """The ConfigMaps in an edge's store, by name."""
        (file,) = self.edges[node].data_dir.glob("**/edgecore.db")
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT value FROM meta WHERE type = 'configmap'").fetchall()
        found = [json.loads(row[0]) for row in rows]
        return {each["metadata"]["name"]: each for each in found}

    def look(self) -> None:
        """Note what the edges have."""
        for node in self.edges:
            now = self.stored(node)
            for each in now.values():
                self.note(each, where="edge", node=node)
            for name in self.known.get(node, set()) - now.keys():
                self.note({"metadata": {"name": name}}, where="edge", node=node, gone=True)
            self.known[node] = set(now)

    # The faults

    async def break_something(self) -> None:
        """One fault of those there are."""
        chance = self.random
        proxy = chance.choice(self.proxies)
        match chance.randrange(8):
            case 0:
                proxy.set(latency=chance.uniform(0, 0.5), jitter=0.3)
            case 1:
                proxy.set(chance.choice(("up", "down")), silent=True)
            case 2:
                proxy.set(rate=chance.uniform(2_000, 50_000))
            case 3:
                proxy.set(cut_after=chance.randrange(1, 30_000))
            case 4:
                proxy.reset()
            case 5:
                proxy.refusing = True
                proxy.reset()
            case 6:
                cloud = chance.choice(self.clouds)
                await cloud.process.kill()
                await cloud.run()
            case 7:
                edge = chance.choice(list(self.edges.values()))
                await edge.process.kill()
                await edge.run()

    async def test_storm(self) -> None:
        """Clouds and edges are killed, links are bad: order holds, nothing is lost."""
        await self.start()
        self.known: dict[str, set[str]] = {}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            await self.break_something()
            for _ in range(self.random.randrange(1, 8)):
                name = f"map-{self.random.randrange(MAPS)}"
                if self.random.random() < 0.2:
                    await self.remove(name)
                else:
                    await self.write(name)
                self.look()
                await pause(self.random.uniform(0, 0.3))
            if self.random.random() < 0.4:
                for proxy in self.proxies:
                    proxy.heal()
        for proxy in self.proxies:
            proxy.heal()
        wanted = {
            each["metadata"]["name"]: each["metadata"]["resourceVersion"]
            for each in await self.api.items(collection("ConfigMap"))
            if each["metadata"]["name"].startswith("map-")
        }

        def agreed() -> bool:
            self.look()
            return all(
                {
                    name: each["metadata"]["resourceVersion"]
                    for name, each in self.stored(node).items()
                    if name.startswith("map-")
                }
                == wanted
                for node in self.edges
            )

        await until(f"both ends to agree (seed {SEED})", agreed, *self.clouds)
        self.assertEqual(self.checker.end(), [], f"seed {SEED}")
