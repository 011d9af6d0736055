from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, readBody

from kubeedge_tx.faultkit.disk import FullDisk
from kubeedge_tx.faultkit.inject import Injections
from tests.requirements import requires
from tests.system.roles import (
    Api,
    Refused,
    Role,
    SystemCase,
    collection,
    config_map,
    pod,
    pod_path,
    until,
)

reactor: Any = _reactor

SLEEP: Final = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")
FULL: Final = "the disk is full; free some space"
SETTINGS: Final = f"{collection('ConfigMap')}/settings"
MOUNTED: Final[Any] = {
    "container": {"volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}]},
    "volumes": [{"name": "conf", "configMap": {"name": "settings"}}],
}
SYNCS: Final = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"


class DiskCase(SystemCase):
    """A cloud and an edge, one of them with a disk of its own that is small."""

    def disk(self, folder: Path) -> FullDisk:
        """Mount a small filesystem for the length of the test, and give the means to fill it."""
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", str(folder)]
        subprocess.run(mount, check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return FullDisk(reactor, folder)

    async def fill(self, disk: FullDisk) -> None:
        """Fill it, and empty it before the roles end."""
        await disk.start()
        self.addCleanup(disk.stop)

    async def readiness(self, role: Role) -> str:
        """What ``/readyz`` says."""
        port = (await role.ready())["metrics"]
        response = await Agent(reactor).request(b"GET", b"http://127.0.0.1:%d/readyz" % port)
        return bytes(await readBody(response)).decode()

    async def says(self, role: Role, words: str) -> None:
        """Wait until ``/readyz`` says so."""

        async def look() -> bool:
            return words in await self.readiness(role)

        await until(f"/readyz of {role.kind} to say {words!r}", look, role)

    async def web(self, cloud: Role, edge: Role, api: Api) -> str:
        """Run a pod with a ConfigMap that the edge has confirmed; returns the ConfigMap's uid."""
        made = await api.create(config_map("settings", text="one"))
        await api.create(pod("web", *SLEEP, **MOUNTED))
        await self.pod_ready(api, "web", cloud, edge)
        metadata = made["metadata"]
        await self.agreed(api, metadata["uid"], metadata["resourceVersion"], cloud, edge)
        return str(metadata["uid"])

    async def confirmed(self, api: Api, uid: str) -> str:
        """Which version of it the cluster says that the edge has."""
        found = await api.get(f"{SYNCS}/edge.{uid}")
        return str(((found or {}).get("status") or {}).get("objectResourceVersion") or "")

    async def agreed(self, api: Api, uid: str, version: str, *roles: Role) -> None:
        async def look() -> bool:
            return await self.confirmed(api, uid) == version

        await until(f"version {version} to be confirmed", look, *roles)


@requires("root")
class FullDiskTests(DiskCase):
    """A disk that is full, and has space again."""

    async def test_edge(self) -> None:
        """An edge without space confirms nothing, says why on both sides, and goes on later."""
        disk = self.disk(self.work / "edge")
        cloud, edge, api = await self.pair()
        uid = await self.web(cloud, edge, api)
        before = await self.confirmed(api, uid)
        await self.fill(disk)
        changed = await api.patch(SETTINGS, {"data": {"text": "x" * 500_000}})
        version = changed["metadata"]["resourceVersion"]
        await api.create(pod("later", *SLEEP))

        await self.says(edge, f"edgecore.db: {FULL}")
        await self.disk_pressure(api, "True", FULL, cloud, edge)
        self.assertEqual(await self.confirmed(api, uid), before)
        self.assertEqual((await api.get(pod_path("later")))["status"]["phase"], "Pending")
        self.assertEqual(len(edge.processes), 1)
        self.assertIsNone(edge.process.status)

        # What it has acknowledged survives it, what it has not comes again.
        await edge.process.kill()
        await disk.stop()
        await edge.run()
        await self.pod_ready(api, "later", cloud, edge)
        await self.agreed(api, uid, version, cloud, edge)
        await self.disk_pressure(api, "False", "no disk pressure", cloud, edge)
        await self.says(edge, "ok")
        await self.pod_ready(api, "web", cloud, edge)

    async def test_edge_goes_on(self) -> None:
        """Without a restart, too: everything arrives once there is space."""
        disk = self.disk(self.work / "edge")
        cloud, edge, api = await self.pair()
        uid = await self.web(cloud, edge, api)
        await self.fill(disk)
        changed = await api.patch(SETTINGS, {"data": {"text": "x" * 500_000}})
        await self.says(edge, FULL)
        await disk.stop()
        await self.agreed(api, uid, changed["metadata"]["resourceVersion"], cloud, edge)
        await self.says(edge, "ok")

    async def test_cloud(self) -> None:
        """An API without space takes nothing and says so; the edge lives on, and both agree."""
        disk = self.disk(self.work / "c")
        cloud, edge, api = await self.pair()
        uid = await self.web(cloud, edge, api)
        await self.fill(disk)
        refused: list[Refused] = []

        async def write() -> bool:
            try:
                await api.patch(SETTINGS, {"data": {"text": f"{len(refused)}" * 100_000}})
            except Refused as error:
                refused.append(error)
            return bool(refused)

        await until("the API to refuse a write", write, cloud)
        self.assertEqual(refused[0].code, 500)
        self.assertIn(f"the change is not stored: {disk_file(cloud)}: {FULL}", str(refused[0]))
        await self.says(cloud, FULL)
        there = await api.get(SETTINGS)

        await cloud.process.kill()  # what it had taken is there afterwards
        await disk.stop()
        await cloud.run()
        self.assertEqual((await api.get(SETTINGS))["data"], there["data"])
        last = await api.patch(SETTINGS, {"data": {"text": "last"}})
        await self.agreed(api, uid, last["metadata"]["resourceVersion"], cloud, edge)
        await self.pod_ready(api, "web", cloud, edge)

    async def test_cloud_goes_on(self) -> None:
        """What happened on the edge while the cloud had no space is in the API afterwards."""
        disk = self.disk(self.work / "c")
        cloud, edge, api = await self.pair()
        go = self.work / "go"
        await api.create(
            pod("ends", "sh", "-c", f"until [ -e {go} ]; do sleep 0.1; done", restartPolicy="Never")
        )
        await self.pod_ready(api, "ends", cloud, edge)
        await self.fill(disk)
        await self.says(cloud, FULL)
        go.touch()
        await until("the edge to tell", lambda: edge.output.count("Started"), edge)
        await disk.stop()
        await self.pod_is(
            api, "ends", lambda it: it["status"]["phase"] == "Succeeded", "done", cloud, edge
        )
        await self.node_ready(api, "edge", cloud, edge)
        await self.says(cloud, "ok")

    def disk_pressure(self, api: Api, status: str, words: str, *roles: Role) -> Deferred[None]:
        """Wait for what the node's condition says."""

        async def look() -> bool:
            node = await api.get("/api/v1/nodes/edge")
            (found,) = (
                each for each in node["status"]["conditions"] if each["type"] == "DiskPressure"
            )
            return found["status"] == status and words in found["message"]

        return Deferred.fromCoroutine(until(f"DiskPressure {status}: {words}", look, *roles))


@requires("strace")
class SlowDiskTests(DiskCase):
    """A disk that takes its time."""

    async def test_slow(self) -> None:
        """With half a second for each sync on both sides, pods start and nothing is cut."""
        cloud, edge, api = await self.pair()
        await self.web(cloud, edge, api)
        faults = Injections(reactor)
        self.addCleanup(faults.end_all)
        for role in (cloud, edge):
            await faults.slow(role.process.pid, 0.5)
        await api.create(pod("slow", *SLEEP))
        await self.pod_ready(api, "slow", cloud, edge)
        changed = await api.patch(SETTINGS, {"data": {"text": "two"}})
        uid = changed["metadata"]["uid"]
        await self.agreed(api, uid, changed["metadata"]["resourceVersion"], cloud, edge)
        await self.node_ready(api, "edge", cloud, edge)
        self.assertEqual(edge.process.lines("the connection to the cloud is gone"), [])
        await faults.end_all()


def disk_file(cloud: Role) -> Path:
    """The embedded API's database."""
    return cloud.data_dir / "apiserver.db"
