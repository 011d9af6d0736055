from __future__ import annotations

import signal
import time
from itertools import count
from typing import Any, Final

import yaml

from kubeedge_tx.api.timestamps import seconds_since_1970
from tests.requirements import requires
from tests.system.roles import Role, config_map, pod, until
from tests.system.test_clock import SLEEP, ClockCase

DAY: Final = 86_400.0
LIFE: Final = 365
"""Days, of an edge's certificate."""


@requires("libfaketime")
class ExpiredTests(ClockCase):
    """An edge that was away until its certificate ended."""

    timeout = 240

    async def test_expired(self) -> None:
        """Two weeks late it renews itself; months late both sides say so, and a token helps."""
        cloud = self.make_cloud()
        clocks = [self.give_clock(cloud)]
        await cloud.run()
        api = self.client(cloud)
        edge = self.make_edge(await self.token(api))
        clocks.append(self.give_clock(edge))
        await edge.run()
        await self.node_ready(api, "edge", cloud, edge)
        await api.create(pod("web", *SLEEP))
        await self.pod_ready(api, "web", cloud, edge)

        await self.away(edge, cloud, clocks, LIFE + 14)
        await self.connected(edge)
        renewals = cloud.process.lines("certificate ", "for edge at", "by expired certificate")
        self.assertEqual(len(renewals), 1)
        await self.node_ready(api, "edge", cloud, edge)

        await self.away(edge, cloud, clocks, 2 * LIFE + 14 + 45)
        await self.remarks(edge, "server.crt expired at", "cannot renew itself", "edgeHub.token")
        self.assertEqual(edge.process.lines("connected to the cloud at"), [])
        await self.remarks(
            edge, 'kubeedge_certificate_days_left{certificate="edge"} -4', page="metrics"
        )
        await until(
            "the cloud to say whose",
            lambda: cloud.process.lines("no certificate for edge at", "more than 30 days ago"),
            cloud,
        )

        async def event() -> Any:
            found = await api.items("/api/v1/namespaces/default/events")
            return [each for each in found if each["reason"] == "CertificateExpired"]

        (told,) = await until("an Event", event, cloud)
        node = await api.get("/api/v1/nodes/edge")
        self.assertEqual(told["involvedObject"]["uid"], node["metadata"]["uid"])
        self.assertIn("keadm gettoken", told["message"])

        edge.config["modules"]["edgeHub"]["token"] = await self.fresh_token(cloud, api)
        edge.config_file.write_text(yaml.safe_dump(edge.config))
        edge.process.signal(signal.SIGHUP)
        await self.connected(edge)
        await self.pod_ready(api, "web", cloud, edge)
        await self.remarks(edge, "ok\n")

    async def away(self, edge: Role, cloud: Role, clocks: list[str], days: int) -> None:
        """Let so many days pass from the beginning while the edge is off, and start it."""
        await edge.process.stop()
        edge.config["modules"]["edgeHub"]["token"] = ""  # it was used, and removed
        for clock in clocks:
            await self.clocks.shift(clock, days * DAY)
        late = time.time() + (days - 1) * DAY
        tries = count()

        async def look() -> bool:
            """Whether it has looked at its clock since; libfaketime does so once a second."""
            made = await self.client(cloud).create(config_map(f"day-{days}-{next(tries)}"))
            now = seconds_since_1970(made["metadata"]["creationTimestamp"])
            return now is not None and now > late

        await until("the cloud's clock to be set", look, cloud)
        await edge.run()

    async def connected(self, edge: Role) -> None:
        await until(
            "the edge to connect", lambda: edge.process.lines("connected to the cloud at"), edge
        )

    async def fresh_token(self, cloud: Role, api: Any) -> str:
        """Have the cloud look at its join token, which is of another year."""
        old = await self.token(api)
        cloud.process.signal(signal.SIGHUP)

        async def look() -> str:
            found = await self.token(api)
            return found if found != old else ""

        return str(await until("a new token", look, cloud))
