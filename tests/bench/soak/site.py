"""An API, clouds and edges as processes, and a bad link wherever two of them meet."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.clocks import environment, find_library
from kubeedge_tx.faultkit.proxy import Proxy
from tests.bench import apiserver
from tests.bench.soak.programs import Program
from tests.bench.soak.settings import Settings
from tests.system.roles import TWISTD, Api, Ports, collection, condition, end_pods, until

LONG = 300.0
"""Seconds until a step of the start is given up."""

CLOCKS = 3
"""One of so many edges, and of so many clouds, has a clock that can be set wrong."""


class Site:
    """Everything that runs.

    :ivar edge_links: a proxy before each cloud, for each edge: (edge, cloud) by number.
    :ivar api_links: a proxy before the API, for each cloud.
    """

    def __init__(self, reactor: Any, settings: Settings, chance: Random, work: Path) -> None:
        self._reactor = reactor
        self._settings = settings
        self._chance = chance
        self.work = work
        self._ports = Ports()
        self.edge_links: dict[tuple[int, int], Proxy] = {}
        self.api_links: list[Proxy] = []
        self.clouds: list[Program] = []
        self.edges: list[Program] = []
        self.mqtt_ports: list[int] = []
        self.clocks: dict[str, Path] = {}
        """The files by which clocks of programs can be set wrong, by the program's name."""
        self._clock_library = _clock_library()
        self.nodes = [f"soak-{number:02}" for number in range(settings.edges)]
        port = self._ports.take()
        # By path: where this runs, a package of others may be the one named ``tests``.
        command = [sys.executable, apiserver.__file__, str(work / "api"), str(port)]
        self.api_program = self._program("the API", "api", command)
        self.api: Api
        """The API as an administrator has it, without a proxy between."""
        self._api_port = port

    def programs(self) -> Iterator[Program]:
        """All of them."""
        yield self.api_program
        yield from self.clouds
        yield from self.edges

    def proxies(self) -> Iterator[Proxy]:
        """All links."""
        yield from self.api_links
        yield from self.edge_links.values()

    async def start(self) -> None:
        """Start it all, and wait until every node is Ready."""
        self.api_program.start()
        await self.api_program.ready()
        self.api = Api(self.work / "api" / "admin.kubeconfig")
        doors = [await self._make_cloud(number) for number in range(self._settings.clouds)]
        for cloud in self.clouds:
            cloud.start()
            await cloud.ready()
        secret = await until(
            "the join token",
            lambda: self.api.get(f"{collection('Secret', 'kubeedge')}/tokensecret"),
            patience=LONG,
        )
        token = base64.b64decode(secret["data"]["tokendata"]).decode()
        for number in range(self._settings.edges):
            await self._make_edge(number, doors, token)
        await gatherResults(
            [
                Deferred.fromCoroutine(self._start_edges(first))
                for first in range(self._settings.starting)
            ],
            consumeErrors=True,
        )
        await until("every node to be Ready", self.all_ready, patience=LONG)

    async def stop(self) -> None:
        """End everything that runs, pods' processes too."""
        for program in self.edges:
            program.go_on()
        await DeferredList([program.stop() for program in self.edges])
        await DeferredList([program.stop() for program in self.clouds])
        await self.api_program.stop()
        for proxy in self.proxies():
            await proxy.close()
        if hasattr(self, "api"):
            await self.api.close()
        for program in self.edges:
            await end_pods(program.data_dir)
        self._ports.close()

    async def all_ready(self) -> bool:
        """Whether every node is Ready."""
        return not await self.not_ready()

    async def not_ready(self) -> list[str]:
        """The nodes that the cluster believes not to be Ready, a sentence about each."""
        found = await self.api.items("/api/v1/nodes")
        ready = {each["metadata"]["name"] for each in found if condition(each, "Ready") == "True"}
        return [f"node {node} is not Ready" for node in self.nodes if node not in ready]

    async def _start_edges(self, first: int) -> None:
        for program in self.edges[first :: self._settings.starting]:
            program.start()
            await program.ready()

    async def _make_cloud(self, number: int) -> tuple[int, int]:
        """Make one cloud; returns the ports of its two listeners."""
        link = Proxy(self._reactor, self._chance, "127.0.0.1", self._api_port)
        self.api_links.append(link)
        name = f"cloud-{number}"
        kubeconfig = yaml.safe_load((self.work / "api" / "admin.kubeconfig").read_text())
        kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{await link.listen()}"
        file = self.work / f"{name}.kubeconfig"
        file.write_text(yaml.safe_dump(kubeconfig))
        websocket, https = self._ports.take(), self._ports.take()
        config = {
            "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
            "kubeAPIConfig": {"kubeConfig": str(file)},
            "modules": {
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1"],
                    "websocket": {"address": "127.0.0.1", "port": websocket},
                    "https": {"address": "127.0.0.1", "port": https},
                }
            },
        }
        self.clouds.append(self._role("kubeedge-cloud", name, config))
        return websocket, https

    async def _make_edge(self, number: int, doors: list[tuple[int, int]], token: str) -> None:
        servers = []
        for cloud, (websocket, _) in enumerate(doors):
            link = Proxy(self._reactor, self._chance, "127.0.0.1", websocket)
            self.edge_links[number, cloud] = link
            servers.append(f"127.0.0.1:{await link.listen()}")
        first = number % len(servers)
        self.mqtt_ports.append(self._ports.take())
        config = {
            "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
            "modules": {
                "eventBus": {"mqttServerInternal": f"tcp://127.0.0.1:{self.mqtt_ports[-1]}"},
                "edgeHub": {
                    "httpServer": f"https://127.0.0.1:{doors[first][1]}",
                    "websocket": {"server": ",".join(servers[first:] + servers[:first])},
                    "token": token,
                    "longestReconnectDelay": 2,
                },
                "edged": {
                    "hostnameOverride": self.nodes[number],
                    "runtime": "process",
                    "reportEvent": True,
                },
            },
        }
        self.edges.append(self._role("kubeedge-edge", self.nodes[number], config))

    def _role(self, kind: str, name: str, config: Any) -> Program:
        file = self.work / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        file.chmod(0o600)
        data = str(self.work / name)
        command = [TWISTD, "-n", "--pidfile=", kind, "--config", str(file), "--data-dir", data]
        library, env = self._clock_library, dict(os.environ)
        if library is not None and int(name.rpartition("-")[2]) % CLOCKS == CLOCKS - 1:
            clock = self.clocks[name] = self.work / f"{name}.clock"
            clock.write_text("+0\n")
            env = environment(library, clock, env)  # as `faultkit run` does, and starts faster
        return self._program(name, name, command, env)

    def _program(
        self, name: str, folder: str, command: list[str], env: dict[str, str] | None = None
    ) -> Program:
        if self._settings.nice:
            command = ["/usr/bin/nice", "-n", str(self._settings.nice), *command]
        return Program(self._reactor, name, command, self.work / folder, env or dict(os.environ))


def _clock_library() -> Path | None:
    try:
        return find_library()
    except ConfigError:
        return None
