from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.system.roles import (
    Api,
    Role,
    SystemCase,
    pod,
    pod_path,
    unique,
    until,
)

ESTABLISHED, CLOSE_WAIT = "01", "08"
"""States of a socket. Source: Linux ``include/net/tcp_states.h``."""

MOVED = 10.0
"""Seconds from the death of a cloud until its edges are at another one."""

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")


class SeveralCloudsTests(SystemCase):
    """Clouds on one API; edges hold a list of them."""

    def another_cloud(self, first: Role, name: str) -> tuple[Role, int]:
        """A cloud that works for the first one's API; and the port it takes edges on."""
        websocket, https = self.ports.take(), self.ports.take()
        made = self.make_cloud(
            {
                "kubeAPIConfig": {"kubeConfig": str(first.data_dir / "admin.kubeconfig")},
                "modules": {
                    "cloudHub": {"websocket": {"port": websocket}, "https": {"port": https}}
                },
            },
            name=name,
        )
        return made, websocket

    async def start(self, websocket: Any = None) -> tuple[Api, Role, dict[str, Role]]:
        """An API, two more clouds, and an edge that knows the two."""
        first = self.make_cloud()
        await first.run()
        api = self.client(first)
        self.first = first
        clouds = {}
        for name in ("second", "third"):
            cloud, port = self.another_cloud(first, name)
            await cloud.run()
            clouds[f"127.0.0.1:{port}"] = cloud
        node = unique("edge")
        links = {"server": ",".join(clouds), **(websocket or {})}
        edge = self.make_edge(
            await self.token(api), {"modules": {"edgeHub": {"websocket": links}}}, node=node
        )
        await edge.run()
        await self.node_ready(api, node, *clouds.values(), edge)
        return api, edge, clouds

    def holder(self, edge: Role, clouds: dict[str, Role]) -> Role:
        """The cloud that the edge has connected to last."""
        line = edge.process.lines("connected to the cloud at")[-1]
        return next(cloud for place, cloud in clouds.items() if place.split(":")[1] in line)

    def has_moved(self, edge: Role, connects: int) -> bool:
        """Whether the edge has connected more often than that."""
        return len(edge.process.lines("connected to the cloud at")) > connects

    async def test_move(self) -> None:
        """Killed or stopped, a cloud is left for another, and nothing is lost on the way."""
        api, edge, clouds = await self.start()
        await api.create(pod("one", *SLEEP))
        await self.pod_ready(api, "one", edge)
        for number, how in ((1, signal.SIGKILL), (2, signal.SIGTERM)):
            cloud = self.holder(edge, clouds)
            connects = len(edge.process.lines("connected to the cloud at"))
            cloud.process.signal(how)
            started = time.monotonic()
            await api.create(pod(f"two-{number}", *SLEEP))
            await api.delete(f"/api/v1/namespaces/default/pods/{'one' if number == 1 else 'two-1'}")
            await until(
                "the edge to move",
                partial(self.has_moved, edge, connects),
                edge,
                *clouds.values(),
            )
            self.assertLess(time.monotonic() - started, MOVED)
            self.assertIsNot(self.holder(edge, clouds), cloud)
            await self.pod_ready(api, f"two-{number}", edge, *clouds.values())
            await self.pod_gone(api, "one" if number == 1 else "two-1", edge, *clouds.values())
            await cloud.process.ended()
            await cloud.run()
        found: Any = await api.items("/api/v1/namespaces/default/pods")
        self.assertEqual([each["metadata"]["name"] for each in found], ["two-2"])

    async def test_a_cloud_that_wakes(self) -> None:
        """A cloud hangs with a report in its hands; what came later through another one stays."""
        api, edge, clouds = await self.start({"handshakeTimeout": 1})
        signs = [self.work / f"end-{number}" for number in (1, 2)]
        waits = [f"while [ ! -e {sign} ]; do sleep 0.05; done" for sign in signs]
        ending = pod("ending", "sh", "-c", waits[0], restartPolicy="Never")
        second = {**ending["spec"]["containers"][0], "name": "second"}
        ending["spec"]["containers"].append({**second, "command": ["sh", "-c", waits[1]]})
        await api.create(ending)
        await self.pod_ready(api, "ending", edge)
        hung = self.holder(edge, clouds)
        port = next(int(place.split(":")[1]) for place, cloud in clouds.items() if cloud is hung)
        self.addCleanup(hung.process.signal, signal.SIGCONT)
        hung.process.signal(signal.SIGSTOP)
        before = unread(port)
        signs[0].touch()  # the report of this end stays in the socket of who hangs
        await until("the report to be sent", lambda: unread(port) > before + 800, edge)
        await edge.process.kill()
        edge.start()
        signs[1].touch()
        await self.pod_is(
            api, "ending", lambda pod: pod["status"]["phase"] == "Succeeded", "at its end", edge
        )
        self.assertIsNot(self.holder(edge, clouds), hung)
        hung.process.signal(signal.SIGCONT)
        await until(
            "the cloud to learn that the edge has gone",
            lambda: hung.process.lines(" disconnected: "),
            hung,
        )
        await api.create(pod("later", *SLEEP))
        await self.pod_ready(api, "later", edge, hung)
        now: Any = await api.get(pod_path("ending"))
        self.assertEqual(now["status"]["phase"], "Succeeded")
        states = [each["state"] for each in now["status"]["containerStatuses"]]
        self.assertEqual([list(state) for state in states], [["terminated"]] * 2)


def unread(port: int) -> int:
    """The bytes in the sockets of a port of this machine that its owner has not read."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state in (ESTABLISHED, CLOSE_WAIT) and int(local.partition(":")[2], 16) == port:
            total += int(queues.partition(":")[2], 16)
    return total
