from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.logger import Logger
from twisted.web.client import ResponseFailed

from kubeedge_tx.api.meta import is_newer
from tests.system.roles import (
    Api,
    Refused,
    Role,
    SystemCase,
    collection,
    config_map,
    container_state,
    pause,
    pod,
    pod_path,
    running,
    secret,
    until,
)

KILLS: Final = 50
OBJECTS: Final = 20
SECRETS: Final = 6
SYNCS: Final = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"

Versions = dict[str, str]
"""Resource version by uid."""


class KillTests(SystemCase):
    """``kill -9`` of either side, whenever it may come, loses nothing."""

    timeout = 400
    _log = Logger()

    async def test_kill_loop(self) -> None:
        """Fifty kills while twenty objects change: the newest of each arrives and is recorded."""
        seed = int(os.environ.get("KUBEEDGE_TX_SEED") or random.SystemRandom().getrandbits(32))
        try:
            await self.run_loop(random.Random(seed))
        except Exception as error:
            raise AssertionError(f"{error!r}\nrepeat with KUBEEDGE_TX_SEED={seed}") from error

    async def run_loop(self, chance: random.Random) -> None:
        cloud, edge, api = await self.pair()
        paths = await self.make_objects(api)
        await self.pod_ready(api, "reader", cloud, edge)
        (process,) = running(edge.data_dir)
        writer = Writer(api, paths, chance)
        writing = Deferred.fromCoroutine(writer.run())
        kills: Counter[str] = Counter()
        checked = 0
        try:
            for _ in range(KILLS):
                victim = chance.choice((cloud, edge))
                if chance.random() < 0.25:  # in the middle of its start, or of the other's
                    await pause(chance.uniform(0, 0.3))
                else:
                    await cloud.ready()
                    await edge.ready()
                    await pause(chance.uniform(0, 0.6))
                await victim.process.kill()
                kills[victim.kind] += 1
                if victim is edge and await self.is_up(api):
                    checked += await self.check_nothing_lost(api, edge)
                victim.start()
            await cloud.ready()
            await edge.ready()
        finally:
            writer.stopped = True
            await writing
        for name in paths:
            self.assertGreater(writer.changes[name], 3, f"{name} hardly changed: {writer.changes}")
        self.assertGreater(min(kills.values()), 5, str(kills))
        self.assertGreater(checked, 20, "acknowledged versions that were looked for")

        self.assertEqual(len(await newest(api)), OBJECTS)
        await until("newest versions on the edge", lambda: agrees(api, edge), cloud, edge)
        await until("them in ObjectSync", lambda: recorded(api), cloud, edge)
        self.assertEqual(running(edge.data_dir), [process])
        self.assertEqual(container_state(await api.get(pod_path("reader")))["restartCount"], 0)
        self._log.info(
            "{kills}, {changes} changes, {checked} acknowledged versions looked for",
            kills=dict(kills),
            changes=sum(writer.changes.values()),
            checked=checked,
        )

    async def make_objects(self, api: Api) -> list[str]:
        """Make what will change, and a pod that has all of it in volumes; returns the paths."""
        paths, volumes, mounts = [], [], []
        for number in range(OBJECTS):
            name = f"object-{number}"
            if number < SECRETS:
                await api.create(secret(name, text="0"))
                source: Any = {"secret": {"secretName": name}}
                paths.append(f"{collection('Secret')}/{name}")
            else:
                await api.create(config_map(name, text="0"))
                source = {"configMap": {"name": name}}
                paths.append(f"{collection('ConfigMap')}/{name}")
            volumes.append({"name": name, **source})
            mounts.append({"name": name, "mountPath": f"/objects/{number}"})
        await api.create(
            pod("reader", "sleep", "100000", container={"volumeMounts": mounts}, volumes=volumes)
        )
        return paths

    async def is_up(self, api: Api) -> bool:
        """Whether the API answers: the cloud's process may be on its way."""
        try:
            await api.get("/version")
        except (ConnectError, ConnectionClosed, ResponseFailed, Refused):
            return False
        return True

    async def check_nothing_lost(self, api: Api, edge: Role) -> int:
        """What ObjectSync calls acknowledged is on the dead edge's disk, or something newer.

        :returns: how many versions there were to look for.
        """
        acknowledged = await synced(api, "edge")
        there = on_disk(edge.data_dir)
        for uid, version in acknowledged.items():
            self.assertIn(uid, there, f"acknowledged in version {version}")
            self.assertFalse(
                is_newer(version, there[uid]),
                f"{uid}: version {version} is acknowledged, {there[uid]} is on the edge",
            )
        return len(acknowledged)


class Writer:
    """Changes objects, one after another, as fast as the API takes it."""

    def __init__(self, api: Api, paths: list[str], chance: random.Random) -> None:
        self._api = api
        self._paths = paths
        self._chance = random.Random(chance.random())
        self.changes: Counter[str] = Counter()
        self.stopped = False

    async def run(self) -> None:
        """Work until ``stopped``."""
        while not self.stopped:
            path = self._chance.choice(self._paths)
            text = str(time.monotonic_ns())
            try:
                await self._api.patch(
                    path,
                    {"stringData" if "/secrets/" in path else "data": {"text": text}},
                )
            except (ConnectError, ConnectionClosed, ResponseFailed):
                await pause(0.05)
            else:
                self.changes[path] += 1
                await pause(0.01)


async def newest(api: Api) -> Versions:
    """Versions of what changes, as the API has them."""
    found = {}
    for kind in ("ConfigMap", "Secret"):
        for each in await api.items(collection(kind)):
            if each["metadata"]["name"].startswith("object-"):
                found[each["metadata"]["uid"]] = each["metadata"]["resourceVersion"]
    return found


async def synced(api: Api, node: str) -> Versions:
    """Versions of ConfigMaps and Secrets that a node has acknowledged."""
    return {
        each["metadata"]["name"].removeprefix(f"{node}."): each["status"]["objectResourceVersion"]
        for each in await api.items(SYNCS)
        if each.get("status") and each["spec"]["objectKind"] in ("ConfigMap", "Secret")
    }


def on_disk(data_dir: Path) -> Versions:
    """Versions in an edge's store, whether it runs or not."""
    with closing(sqlite3.connect(f"file:{data_dir / 'edgecore.db'}?mode=ro")) as db:
        wanted = "SELECT value FROM meta WHERE type IN ('configmap', 'secret')"
        rows = db.execute(wanted).fetchall()
    found = {}
    for (value,) in rows:
        metadata = msgspec.json.decode(value)["metadata"]
        found[metadata["uid"]] = metadata["resourceVersion"]
    return found


async def agrees(api: Api, edge: Role) -> bool:
    """Whether the edge has the newest version of everything."""
    there = on_disk(edge.data_dir)
    return all(there.get(uid) == version for uid, version in (await newest(api)).items())


async def recorded(api: Api) -> bool:
    """Whether ObjectSync has the newest version of everything."""
    acknowledged = await synced(api, "edge")
    return all(acknowledged.get(uid) == version for uid, version in (await newest(api)).items())
