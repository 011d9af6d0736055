from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.beehive.service import ModuleService
from kubeedge_tx.edge.edged.manager import Edged
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.runtime.docker import DockerRuntime
from kubeedge_tx.runtime.process import ProcessRuntime
from tests.edge.edged.harness import FakeMeta, make_pod
from tests.requirements import requires
from tests.runtime.docker_image import BUSYBOX, engine, ensure_busybox

SERVE = """
cat /etc/kubeedge-tx-app/greeting
echo password=$PW
test -z "$SERVE" || httpd -p 8080 -h /etc/kubeedge-tx-app
trap 'echo bye > /dev/termination-log; exit 3' TERM
while true; do sleep 0.1; done
"""


class PodsLife:
    """A pod's life on something that really runs it."""

    timeout = 60
    image = "local/busybox:1"
    serve = ""

    def make_runtime(self) -> Any:
        raise NotImplementedError

    def readiness(self) -> dict[str, Any]:
        raise NotImplementedError

    async def setUp(self) -> None:
        self.reactor: Any = global_reactor
        self.root = Path(self.mktemp()).absolute()  # type: ignore[attr-defined]
        self.uid = str(uuid4())
        self.pool = ThreadPool(0, 2)
        self.pool.start()
        self.addCleanup(self.pool.stop)  # type: ignore[attr-defined]
        self.messages = MessageFactory(lambda: int(time.time() * 1000))
        self.meta = FakeMeta(MessageBus(self.reactor), self.messages)
        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "hello\n"}}
        self.meta.objects["default/secret/pw"] = {"data": {"password": "c2VzYW0="}}
        await self.start_agent()

    async def tearDown(self) -> None:
        await self.runtime.remove_pod(self.uid)
        await self.stop_agent()

    async def start_agent(self) -> None:
        self.bus = MessageBus(self.reactor)
        self.meta._bus = self.bus
        self.runtime = self.make_runtime()
        await self.runtime.start()
        edged = Edged(
            self.reactor,
            self.bus,
            self.messages,
            self.runtime,
            node=NodeSettings(name="edge-1", ip="127.0.0.1", root_dir=self.root / "edged"),
            wall_clock=time.time,
            in_thread=lambda work, *args: deferToThreadPool(self.reactor, self.pool, work, *args),
            version="0.1",
        )
        self.services = [
            ModuleService(module, self.bus, self.messages) for module in (self.meta, edged)
        ]
        for service in self.services:
            await service.startService()

    async def stop_agent(self) -> None:
        for service in reversed(self.services):
            await service.stopService()
        await self.runtime.stop()

    async def apply(self, pod: dict[str, Any], operation: str = "update") -> None:
        self.meta.pods = [pod]
        await self.send(operation, "pod/web", pod)

    async def send(self, operation: str, what: str, content: Any) -> None:
        await self.bus.send(
            "edged",
            self.messages.new(
                source="edgecontroller",
                group="resource",
                operation=operation,
                resource=f"default/{what}",
                content=content,
            ),
        )

    def told(self, holds: Any) -> Deferred[Any]:
        return self.meta.when("default/podpatch/web", holds)

    def make_pod(self) -> dict[str, Any]:
        password = {"secretKeyRef": {"name": "pw", "key": "password"}}
        return make_pod(
            uid=self.uid,
            c_image=self.image,
            c_command=["/bin/sh", "-c", SERVE],
            c_env=[
                {"name": "PW", "valueFrom": password},
                {"name": "SERVE", "value": self.serve},
            ],
            c_volumeMounts=[{"name": "c", "mountPath": "/etc/kubeedge-tx-app"}],
            c_readinessProbe={**self.readiness(), "periodSeconds": 1},
            volumes=[{"name": "c", "configMap": {"name": "app"}}],
        )

    async def running(self) -> str:
        """The id of the pod's running container."""
        (state,) = [each for each in await self.runtime.pods() if each.uid == self.uid]
        (found,) = [each.id for each in state.containers if each.state == "running"]
        return str(found)

    async def test_a_life(self) -> None:
        """A pod runs with its files and secrets, crashes, outlives its agent, and ends."""
        case: Any = self
        pod = self.make_pod()
        becomes_ready = self.told(is_ready)
        await self.apply(pod, "insert")
        await becomes_ready
        container = await self.running()
        log = await self.runtime.logs(container)
        case.assertIn(b"hello\npassword=sesam\n", log)

        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "good night\n"}}
        await self.send("update", "configmap/app", self.meta.objects["default/configmap/app"])
        reading = ("/bin/cat", "/etc/kubeedge-tx-app/greeting")
        while (await self.runtime.exec(container, reading, 10)).output != b"good night\n":
            await deferLater(self.reactor, 0.01)

        restarted = self.told(
            lambda each: (
                is_ready(each) and each["status"]["containerStatuses"][0]["restartCount"] == 1
            )
        )
        await self.runtime.stop_container(container, 5)
        patch = await restarted
        ending = patch["status"]["containerStatuses"][0]["lastState"]["terminated"]
        case.assertEqual((ending["exitCode"], ending["message"]), (3, "bye\n"))

        loops = self.told(
            lambda each: (
                (each["status"]["containerStatuses"][0]["state"].get("waiting") or {}).get("reason")
                == "CrashLoopBackOff"
            )
        )
        await self.runtime.stop_container(await self.running(), 5)
        await loops
        await self.stop_agent()  # a new agent knows no back-off, and starts it at once
        again = self.told(is_ready)
        await self.start_agent()
        patch = await again
        case.assertEqual(patch["status"]["containerStatuses"][0]["restartCount"], 2)

        before = await self.running()
        await self.stop_agent()
        pod = {**pod, "status": patch["status"]}
        self.meta.pods = [pod]
        told = self.told(is_ready)
        await self.start_agent()
        await told
        case.assertEqual(await self.running(), before)

        over = self.meta.when("default/pod/web", lambda _: True)
        metadata = {
            **pod["metadata"],
            "deletionTimestamp": "2026-11-24T07:00:00Z",
            "deletionGracePeriodSeconds": 10,
        }
        await self.apply({**pod, "metadata": metadata})
        await over
        left = [each for each in await self.runtime.pods() if each.uid == self.uid]
        case.assertEqual(left, [])
        case.assertFalse((self.root / "edged/pods" / self.uid).exists())
        last = self.meta.told("patch", "default/podpatch/web")[-1]["status"]
        case.assertEqual(last["phase"], "Failed")
        ending = last["containerStatuses"][0]["state"]["terminated"]
        case.assertEqual((ending["exitCode"], ending["message"]), (3, "bye\n"))


def is_ready(patch: Any) -> bool:
    """Tell whether a pod's patch says that it is ready."""
    conditions = patch["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


class OnProcessesTests(PodsLife, TestCase):  # type: ignore[misc]
    def make_runtime(self) -> ProcessRuntime:
        return ProcessRuntime(self.reactor, self.root / "runtime", time.time)

    def readiness(self) -> dict[str, Any]:
        return {"exec": {"command": ["/bin/true"]}}


@requires("docker")
class OnDockerTests(PodsLife, TestCase):  # type: ignore[misc]
    image = BUSYBOX
    serve = "yes"

    async def setUp(self) -> None:  # type: ignore[override]
        client = engine()
        self.addCleanup(client.close)
        ensure_busybox(client)
        self.owner = f"test-{uuid4()}"
        await super().setUp()

    def make_runtime(self) -> DockerRuntime:
        return DockerRuntime(self.reactor, base_url=os.environ.get("DOCKER_HOST"), owner=self.owner)

    def readiness(self) -> dict[str, Any]:
        return {"httpGet": {"path": "/greeting", "port": 8080}}
