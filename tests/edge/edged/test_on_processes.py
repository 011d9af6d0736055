from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.beehive.service import ModuleService
from kubeedge_tx.edge.edged.manager import Edged
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.runtime.process import ProcessRuntime
from tests.edge.edged.harness import FakeMeta, make_pod

SERVE = """
cat /etc/kubeedge-tx-app/greeting
echo password=$PW
trap 'echo bye > /dev/termination-log; exit 3' TERM
while true; do sleep 0.1; done
"""


def ready(patch: Any) -> bool:
    conditions = patch["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


class OnProcessesTests(TestCase):
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.reactor: Any = global_reactor
        self.root = Path(self.mktemp()).absolute()
        self.pool = ThreadPool(0, 2)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.messages = MessageFactory(lambda: int(time.time() * 1000))
        self.meta = FakeMeta(MessageBus(self.reactor), self.messages)
        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "hello\n"}}
        self.meta.objects["default/secret/pw"] = {"data": {"password": "c2VzYW0="}}
        await self.start_agent()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.stop_agent()

    async def start_agent(self) -> None:
        self.bus = MessageBus(self.reactor)
        self.meta._bus = self.bus
        self.runtime = ProcessRuntime(self.reactor, self.root / "runtime", time.time)
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

    async def test_a_pod_s_life(self) -> None:
        """A pod runs with its files and secrets, crashes, outlives its agent, and ends."""
        probe = {"exec": {"command": ["/bin/true"]}, "periodSeconds": 1}
        pod = make_pod(
            c_command=["/bin/sh", "-c", SERVE],
            c_env=[
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "pw", "key": "password"}}}
            ],
            c_volumeMounts=[{"name": "c", "mountPath": "/etc/kubeedge-tx-app"}],
            c_readinessProbe=probe,
            volumes=[{"name": "c", "configMap": {"name": "app"}}],
            restartPolicy="Always",
        )
        becomes_ready = self.told(ready)
        await self.apply(pod, "insert")
        patch = await becomes_ready
        (state,) = await self.runtime.pods()
        (container,) = state.containers
        log = await self.runtime.logs(container.id)
        self.assertIn(b"hello\npassword=sesam\n", log)

        file = self.root / "edged/pods/uid-1/volumes/kubernetes.io~configmap/c/greeting"
        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "good night\n"}}
        asked = self.meta.when("default/configmap/app", lambda _: True)
        await self.send("update", "configmap/app", self.meta.objects["default/configmap/app"])
        await asked
        while file.read_text() != "good night\n":
            await deferred_turn(self.reactor)
        inside = await self.runtime.exec(
            container.id, ("/bin/cat", "/etc/kubeedge-tx-app/greeting"), 10
        )
        self.assertEqual(inside.output, b"good night\n")

        restarted = self.told(
            lambda each: ready(each) and each["status"]["containerStatuses"][0]["restartCount"] == 1
        )
        await self.runtime.stop_container(container.id, 5)
        patch = await restarted
        ending = patch["status"]["containerStatuses"][0]["lastState"]["terminated"]
        self.assertEqual((ending["exitCode"], ending["message"]), (3, "bye\n"))

        (before,) = await self.runtime.pods()
        await self.stop_agent()
        pod = {**pod, "status": patch["status"]}
        self.meta.pods = [pod]
        told = self.told(ready)
        await self.start_agent()
        await told
        (after,) = await self.runtime.pods()
        self.assertEqual(
            {each.id for each in after.containers if each.state == "running"},
            {each.id for each in before.containers if each.state == "running"},
        )

        over = self.meta.when("default/pod/web", lambda _: True)
        metadata = {
            **pod["metadata"],
            "deletionTimestamp": "2026-11-24T07:00:00Z",
            "deletionGracePeriodSeconds": 10,
        }
        await self.apply({**pod, "metadata": metadata})
        await over
        self.assertEqual(await self.runtime.pods(), [])
        self.assertFalse((self.root / "edged/pods/uid-1").exists())
        last = self.meta.told("patch", "default/podpatch/web")[-1]["status"]
        self.assertEqual(last["phase"], "Failed")


def deferred_turn(reactor: Any) -> Deferred[None]:
    """Let the reactor have a turn."""
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.01, turn.callback, None)
    return turn
