from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import yaml
from twisted.internet.defer import Deferred

from tests.requirements import requires
from tests.system.roles import TWISTD, Process, Role, SystemCase, pod, unique, until

NOTICED = 30.0
BACK = 5.0
"""Seconds in which both ends notice a dead link, and in which they are together again."""

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")


def ip(*words: str) -> None:
    """Run ``ip``; its error is the test's."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Elsewhere(Role):
    """A role in a network namespace of its own."""

    space = ""

    def start(self, *arguments: str) -> Process:
        self.config_file.write_text(yaml.safe_dump(self.config))
        self.config_file.chmod(0o600)
        process = Process(
            [
                *("ip", "netns", "exec", self.space),
                *(TWISTD, "-n", "--pidfile=", self.kind, "--config", str(self.config_file)),
                *("--data-dir", str(self.data_dir), *arguments),
            ]
        )
        self.processes.append(process)
        process.start()
        return process


@requires("nft")
@requires("ip")
class CutTests(SystemCase):
    """A link that drops every packet, and tells nobody."""

    if os.geteuid() != 0:
        skip = "network namespaces need root"

    def make_link(self) -> str:
        """A namespace with one cable to us; returns the address at our end."""
        self.space = unique("ktx")[-12:]
        ours, theirs = f"{self.space}a"[-15:], f"{self.space}b"[-15:]
        third = os.getpid() % 250
        ip("netns", "add", self.space)
        self.addCleanup(ip, "netns", "del", self.space)
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.space)
        ip("addr", "add", f"10.213.{third}.1/24", "dev", ours)
        ip("link", "set", ours, "up")
        for words in (
            ("addr", "add", f"10.213.{third}.2/24", "dev", theirs),
            ("link", "set", theirs, "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", self.space, *words)
        return f"10.213.{third}.1"

    def nft(self, text: str) -> None:
        """Change the packet filter of the namespace."""
        subprocess.run(
            ["ip", "netns", "exec", self.space, "nft", "-f", "-"],
            input=text.encode(),
            check=True,
            capture_output=True,
        )

    async def test_dropped_packets(self) -> None:
        """Both sides notice within 30 s, and are together within 5 s after the link is back."""
        address = self.make_link()
        cloud = self.make_cloud(
            {
                "modules": {
                    "cloudHub": {
                        "advertiseAddress": [address, "127.0.0.1"],
                        "websocket": {"address": address},
                        "https": {"address": address},
                    }
                }
            }
        )
        await cloud.run()
        api = self.client(cloud)
        plain = self.make_edge(await self.token(api))
        hub: Any = plain.config["modules"]["edgeHub"]
        hub["httpServer"] = f"https://{address}:{self.https_port}"
        hub["websocket"]["server"] = f"{address}:{self.websocket_port}"
        hub["longestReconnectDelay"] = 60
        edge = Elsewhere(plain.kind, self.work / "elsewhere", plain.config, [])
        edge.space = self.space
        self.addCleanup(lambda: Deferred.fromCoroutine(edge.end()))
        await edge.run()
        await self.node_ready(api, "edge", cloud, edge)
        await api.create(pod("web", *SLEEP))
        await self.pod_ready(api, "web", cloud, edge)

        self.nft(
            "table inet cut {\n"
            " chain input { type filter hook input priority 0; policy drop;"
            ' iifname "lo" accept; }\n'
            " chain output { type filter hook output priority 0; policy drop;"
            ' oifname "lo" accept; }\n'
            "}\n"
        )
        cut = time.monotonic()
        await api.create(pod("later", *SLEEP))
        noticed = {}

        def look() -> bool:
            for name, role, words in (
                ("edge", edge, "the connection to the cloud is gone"),
                ("cloud", cloud, "edge disconnected"),
            ):
                if name not in noticed and role.process.lines(words):
                    noticed[name] = time.monotonic() - cut
            return len(noticed) == 2

        await until("both sides to notice", look, cloud, edge)
        self.assertLess(max(noticed.values()), NOTICED, noticed)

        self.nft("delete table inet cut\n")
        healed = time.monotonic()
        await until(
            "the edge to be connected again",
            lambda: len(edge.process.lines("connected to the cloud at")) > 1,
            cloud,
            edge,
        )
        self.assertLess(time.monotonic() - healed, BACK)
        await self.pod_ready(api, "later", cloud, edge)
