from __future__ import annotations

import os
import time
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.web.client import Agent, readBody

from kubeedge_tx.faultkit.clocks import Clocks, environment, find_library
from tests.requirements import requires
from tests.system.roles import (
    Api,
    Role,
    SystemCase,
    collection,
    condition,
    config_map,
    container_state,
    end_pods,
    pod,
    pod_path,
    running,
    until,
)

reactor: Any = _reactor

HOUR: Final = 3600.0
YEAR: Final = 365 * 24 * HOUR
SLEEP: Final = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")
LEASE: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge"
SHORT: Final = {"modules": {"edged": {"tailoredKubeletConfig": {"nodeLeaseDurationSeconds": 8}}}}
"""A node that is silent for eight seconds is lost, so that it would show soon."""


class ClockCase(SystemCase):
    """Roles with clocks of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.clocks = Clocks(reactor)
        self.addCleanup(self.clocks.all_right)

    def give_clock(self, role: Role) -> str:
        """Let its processes go by a clock of their own; returns what to shift it by."""
        file = self.work / f"{role.data_dir.name}.clock"
        file.write_text("+0\n")
        wanted = environment(find_library(), file, {})
        role.env = {name: text for name, text in wanted.items() if name not in os.environ}
        return str(file)

    async def confirmed(self, api: Api, uid: str) -> str:
        """Which version of an object the cluster says that the edge has."""
        path = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"
        found = await api.get(f"{path}/edge.{uid}")
        return str(((found or {}).get("status") or {}).get("objectResourceVersion") or "")

    async def remarks(self, edge: Role, *words: str, page: str = "readyz") -> None:
        """Wait until its page says so, and that it is ready all the same."""
        port = (await edge.ready())["metrics"]
        url = f"http://127.0.0.1:{port}/{page}".encode()

        async def look() -> bool:
            response = await Agent(reactor).request(b"GET", url)
            text = bytes(await readBody(response)).decode()
            return response.code == 200 and all(word in text for word in words)

        await until(f"/{page} of the edge to say {words}", look, edge)


@requires("libfaketime")
class JumpTests(ClockCase):
    """A machine's clock is set while everything runs."""

    timeout = 240

    async def test_jumps(self) -> None:
        """An hour ahead or back, at either end: nobody is lost, nothing is late or renewed."""
        cloud = self.make_cloud()
        clocks = [self.give_clock(cloud)]
        await cloud.run()
        api = self.client(cloud)
        edge = self.make_edge(await self.token(api), SHORT)
        clocks.append(self.give_clock(edge))
        await edge.run()
        await self.node_ready(api, "edge", cloud, edge)
        made = await api.create(config_map("settings", text="0"))
        mounted: Any = {
            "container": {"volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}]},
            "volumes": [{"name": "conf", "configMap": {"name": "settings"}}],
        }
        await api.create(pod("web", *SLEEP, **mounted))
        await self.pod_ready(api, "web", cloud, edge)
        uid = made["metadata"]["uid"]

        for number, seconds in enumerate((HOUR, -HOUR)):  # the first jump is one, the other two
            await self.clocks.shift(clocks[0], seconds)
            await self.clocks.shift(clocks[1], -seconds)
            for _ in range(2):  # the first may have been under way
                await self.renewed(api, cloud, edge)
            changed = await api.patch(
                f"{collection('ConfigMap')}/settings", {"data": {"text": f"{number + 1}"}}
            )
            version = changed["metadata"]["resourceVersion"]

            async def look(version: str = version) -> bool:
                return await self.confirmed(api, uid) == version

            await until(f"version {version} to be confirmed", look, cloud, edge)
            node = await api.get("/api/v1/nodes/edge")
            self.assertEqual(condition(node, "Ready"), "True")
        self.assertEqual(cloud.process.lines("node edge is silent"), [])
        self.assertEqual(edge.process.lines("the connection to the cloud is gone"), [])
        self.assertEqual(len(cloud.process.lines("certificate ", " for edge at ")), 1)
        self.assertEqual(edge.process.lines("given up"), [])
        web = container_state(await api.get(pod_path("web")))
        self.assertEqual(web["restartCount"], 0)

    async def renewed(self, api: Api, *roles: Role) -> None:
        """Wait until the node's lease is renewed once more."""
        before = (await api.get(LEASE))["metadata"]["resourceVersion"]

        async def look() -> bool:
            return bool((await api.get(LEASE))["metadata"]["resourceVersion"] != before)

        await until("the lease to be renewed", look, *roles, patience=15)


@requires("libfaketime")
class WrongAtBootTests(ClockCase):
    """A machine that wakes up in another year."""

    timeout = 240

    async def test_wrong_at_boot(self) -> None:
        """The pods run, both sides keep what they have, and all is well once the clock is set."""
        cloud, edge, api = await self.pair()
        clock = self.give_clock(edge)
        await api.create(pod("web", *SLEEP))
        await self.pod_ready(api, "web", cloud, edge)
        await edge.process.stop()
        await end_pods(edge.data_dir)  # as a reboot does

        await self.clocks.shift(clock, -time.time() + HOUR)
        await edge.run()
        await until("the pod to run", lambda: running(edge.data_dir), edge)
        await self.remarks(edge, "days behind the cloud's; set the one that is wrong")
        await until("the edge to say why", lambda: self.said(edge), edge)
        self.assertEqual(edge.process.lines("connected to the cloud"), [])
        await self.clocks.right(clock)
        began = time.monotonic()
        await until(
            "the edge to connect", lambda: edge.process.lines("connected to the cloud"), edge
        )
        self.assertLess(time.monotonic() - began, 15)
        await self.pod_ready(api, "web", cloud, edge)
        await self.remarks(edge, "ok\n")
        await edge.process.stop()

        await self.clocks.shift(clock, 5 * YEAR)
        await edge.run()
        await until(
            "the edge to connect", lambda: edge.process.lines("connected to the cloud"), edge
        )
        await self.remarks(edge, "1825 days ahead of the cloud's")
        await self.pod_ready(api, "web", cloud, edge)
        await self.node_ready(api, "edge", cloud, edge)
        self.assertEqual(len(cloud.process.lines("certificate ", " for edge at ")), 1)
        self.assertEqual(edge.output.count("given up"), 0)

    def said(self, edge: Role) -> list[str]:
        return edge.process.lines("cannot reach the cloud", "days behind the cloud's", "TLS fails")
