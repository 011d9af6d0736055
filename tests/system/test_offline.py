from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.requirements import requires
from tests.runtime.docker_image import BUSYBOX
from tests.system.engine import DockerPods, attempt_of, pod_of
from tests.system.roles import (
    Api,
    Role,
    SystemCase,
    collection,
    condition,
    config_map,
    container_state,
    pod,
    pod_path,
    unique,
    until,
)

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")


class OfflineTests(SystemCase):
    """An edge whose cloud is away lives on, and both agree when it is back."""

    runtime = "process"
    image = "busybox"

    def setUp(self) -> None:
        super().setUp()
        self.node = unique("edge")

    def pod(self, name: str, **spec: Any) -> Any:
        """A pod that runs until it is told to end."""
        return pod(
            name, *SLEEP, container={"image": self.image, **spec.pop("container", {})}, **spec
        )

    async def life(self, api: Api, name: str) -> tuple[Any, ...]:
        """What would be different, had the container been started anew."""
        status = container_state(await api.get(pod_path(name)))
        return (
            status["containerID"],
            status["restartCount"],
            status["state"]["running"]["startedAt"],
        )

    def volume_file(self, edge: Role, uid: str, volume: str, key: str) -> Path:
        """Where the edge shows a key of a ConfigMap."""
        (folder,) = edge.data_dir.glob(f"**/pods/{uid}/volumes/*/{volume}")
        return folder / key

    async def test_offline_life(self) -> None:
        """Restarted without a cloud, an edge has its pods; then both sides converge."""
        cloud, edge, api = await self.pair(node=self.node, runtime=self.runtime)
        roles = (cloud, edge)
        await api.create(config_map("settings", text="one"))
        mounted: Any = {
            "container": {"volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}]},
            "volumes": [{"name": "conf", "configMap": {"name": "settings"}}],
        }
        for name in ("kept", "deleted", "forced"):
            await api.create(self.pod(name, **(mounted if name == "kept" else {})))
        for name in ("kept", "deleted", "forced"):
            await self.pod_ready(api, name, *roles)
        kept = await self.life(api, "kept")
        uid = (await api.get(pod_path("kept")))["metadata"]["uid"]
        self.assertEqual(self.volume_file(edge, uid, "conf", "text").read_text(), "one")

        # The cloud goes; the edge is killed, and started anew without it.
        await cloud.process.kill()
        await edge.process.kill()
        await edge.run()
        await until(
            "the edge to see to its pods",
            lambda: self.has_pods(edge, "kept", "deleted", "forced"),
            edge,
        )
        await edge.process.stop()

        # The cloud is back while the edge is away, and the world changes.
        await cloud.run()
        self.assertEqual(await self.life(api, "kept"), kept)
        await api.delete(pod_path("deleted"))
        await api.delete(pod_path("forced"), grace=0)
        self.assertIsNone(await api.get(pod_path("forced")))
        await api.patch(f"{collection('ConfigMap')}/settings", {"data": {"text": "two"}})
        await api.create(self.pod("added"))

        await edge.run()
        await self.pod_gone(api, "deleted", *roles)
        await self.pod_ready(api, "added", *roles)
        await until(
            "the edge to have what the cluster has",
            lambda: self.has_pods(edge, "kept", "added"),
            edge,
        )
        file = self.volume_file(edge, uid, "conf", "text")
        await until("the file to change", lambda: file.read_text() == "two", *roles)
        await self.pod_ready(api, "kept", *roles)
        self.assertEqual(await self.life(api, "kept"), kept)
        await self.node_ready(api, self.node, *roles)
        self.assertEqual(await self.restarts(edge), 0)

    async def test_end_while_away(self) -> None:
        """What happens to a container while the cloud is away is in its status afterwards."""
        cloud, edge, api = await self.pair(node=self.node, runtime=self.runtime)
        folder = self.work / "shared"
        folder.mkdir()
        command = "until [ -e /shared/go ]; do sleep 0.2; done; exit 7"
        await api.create(
            pod(
                "ends",
                *("sh", "-c", command),
                container={
                    "image": self.image,
                    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
                },
                volumes=[{"name": "shared", "hostPath": {"path": str(folder)}}],
                restartPolicy="Never",
            )
        )
        await self.pod_ready(api, "ends", cloud, edge)
        await cloud.process.stop()
        (folder / "go").touch()
        await cloud.run()
        ended = await self.pod_is(
            api, "ends", lambda it: it["status"]["phase"] == "Failed", "Failed", cloud, edge
        )
        self.assertEqual(container_state(ended)["state"]["terminated"]["exitCode"], 7)
        self.assertEqual(condition(ended, "Ready"), "False")

    async def has_pods(self, edge: Role, *names: str) -> bool:
        """Whether just these run on the machine."""
        return await self.pods_on_edge(edge) == set(names)

    async def pods_on_edge(self, edge: Role) -> set[str]:
        """Names of the pods that have a running container now."""
        found = set()
        for sandbox in (edge.data_dir / "process" / "pods").glob("*/sandbox.json"):
            for file in sandbox.parent.glob("main/*/running.json"):
                if not (file.parent / "exit.json").exists():
                    os.kill(json.loads(file.read_text())["pid"], 0)
                    found.add(json.loads(sandbox.read_text())["pod"])
        return found

    async def restarts(self, edge: Role) -> int:
        """How many containers are not the first of their name."""
        folders = (edge.data_dir / "process" / "pods").glob("*/main/*")
        return sum(folder.name != "0" for folder in folders)


@requires("docker")
class DockerOfflineTests(DockerPods, OfflineTests):
    """The same on a Docker engine."""

    runtime = "docker"
    image = BUSYBOX

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        super().setUp()
        await self.use_engine()

    async def pods_on_edge(self, edge: Role) -> set[str]:
        return {pod_of(container) for container in await self.containers()}

    async def restarts(self, edge: Role) -> int:
        return sum(attempt_of(container) > 0 for container in await self.containers())
