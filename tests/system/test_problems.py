from __future__ import annotations

from functools import partial
from typing import Any

from tests.requirements import requires
from tests.runtime.docker_image import BUSYBOX
from tests.system.engine import DockerPods
from tests.system.roles import (
    Api,
    SystemCase,
    collection,
    condition,
    config_map,
    container_state,
    pod,
    pod_path,
    unique,
    until,
    waiting_reason,
)

CONF: Any = {"volumeMounts": [{"name": "conf", "mountPath": "/conf"}]}
LATE = [{"name": "conf", "configMap": {"name": "late"}}]


class ProblemTests(SystemCase):
    """Pods that cannot run as they are say why, and hold nobody up."""

    runtime = "process"
    image = "busybox"

    def setUp(self) -> None:
        super().setUp()
        self.node = unique("edge")

    def pod(self, name: str, *command: str, **spec: Any) -> Any:
        """A pod of this runtime's image."""
        container = {"image": self.image, **spec.pop("container", {})}
        return pod(name, *command, container=container, **spec)

    async def events(self, api: Api, name: str) -> list[tuple[str, str]]:
        """Reasons and texts of what was told about a pod."""
        return [
            (event["reason"], event["message"])
            for event in await api.items(collection("Event"))
            if event["involvedObject"]["name"] == name
        ]

    async def test_problems(self) -> None:
        """A command that is not there, a volume whose ConfigMap comes later."""
        cloud, edge, api = await self.pair(node=self.node, runtime=self.runtime)
        await api.create(self.pod("typo", "/no/such/program"))
        await api.create(self.pod("waits", "sleep", "1000", container=CONF, volumes=LATE))
        await api.create(self.pod("calm", "sleep", "1000"))
        await self.pod_ready(api, "calm", cloud, edge)

        def said(it: Any) -> bool:
            return "/no/such/program" in str(container_state(it))

        seen = await self.pod_is(api, "typo", said, "refused", cloud, edge)
        told = str(container_state(seen))
        self.assertTrue("StartError" in told or "RunContainerError" in told, told)
        self.assertFalse(container_state(seen)["ready"])

        waits = await self.pod_is(
            api,
            "waits",
            lambda it: waiting_reason(it) == "ContainerCreating",
            "ContainerCreating",
            cloud,
            edge,
        )
        self.assertEqual(waits["status"]["phase"], "Pending")

        async def mount_failed() -> bool:
            return any(
                reason == "FailedMount" and '"late" not found' in text
                for reason, text in await self.events(api, "waits")
            )

        await until("FailedMount", mount_failed, cloud, edge)
        await api.create(config_map("late", text="at last"))
        await self.pod_ready(api, "waits", cloud, edge)
        self.assertEqual(condition(await api.get(pod_path("calm")), "Ready"), "True")


@requires("docker")
class DockerProblemTests(DockerPods, ProblemTests):
    """The same on a Docker engine, where images matter too."""

    runtime = "docker"
    image = BUSYBOX

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        super().setUp()
        await self.use_engine()

    async def test_image(self) -> None:
        """An image that is not there: never pulled, or pulled later and later."""
        cloud, edge, api = await self.pair(node=self.node, runtime="docker")
        absent = "127.0.0.1:9/kubeedge-tx-test/absent:1"
        for name, policy in (("never", "Never"), ("pulled", "IfNotPresent")):
            image = {"image": absent, "imagePullPolicy": policy}
            await api.create(pod(name, "sleep", "1000", container=image))
        await api.create(self.pod("calm", "sleep", "1000"))
        await self.pod_ready(api, "calm", cloud, edge)
        for name, reasons in (
            ("never", ("ErrImageNeverPull",)),
            ("pulled", ("ErrImagePull", "ImagePullBackOff")),
        ):
            for reason in reasons:
                waits = partial(waits_for, reason)
                seen = await self.pod_is(api, name, waits, reason, cloud, edge)
                self.assertEqual(seen["status"]["phase"], "Pending")


def waits_for(reason: str, found: Any) -> bool:
    """Whether a pod's container waits for this reason."""
    return waiting_reason(found) == reason


class SchedulingTests(SystemCase):
    """Which pod goes to which node, and what a silent node means."""

    async def test_placement(self) -> None:
        """nodeSelector and taints are honoured; what nobody may have waits."""
        cloud = self.make_cloud()
        await cloud.run()
        api = self.client(cloud)
        token = await self.token(api)
        plain = self.make_edge(token, node="plain")
        special: Any = {
            "modules": {
                "edged": {
                    "nodeLabels": {"zone": "north"},
                    "tailoredKubeletConfig": {
                        "registerWithTaints": [
                            {"key": "only", "value": "special", "effect": "NoSchedule"}
                        ]
                    },
                }
            }
        }
        tainted = self.make_edge(token, special, node="tainted")
        for edge in (plain, tainted):
            await edge.run()
        for edge in (plain, tainted):
            await self.node_ready(api, edge.data_dir.name, cloud, edge)
        tolerate = [{"key": "only", "operator": "Exists"}]
        north = {"zone": "north"}
        await api.create(pod("nowhere", "sleep", "1000", nodeSelector={"zone": "south"}))
        await api.create(pod("intolerant", "sleep", "1000", nodeSelector=north))
        await api.create(pod("tolerant", "sleep", "1000", nodeSelector=north, tolerations=tolerate))
        await api.create(pod("any", "sleep", "1000"))
        for name, node in (("tolerant", "tainted"), ("any", "plain")):
            found = await self.pod_ready(api, name, cloud, plain, tainted)
            self.assertEqual(found["spec"]["nodeName"], node)
        for name in ("nowhere", "intolerant"):
            waits = await self.pod_is(
                api,
                name,
                lambda it: condition(it, "PodScheduled") == "False",
                "unschedulable",
                cloud,
            )
            self.assertNotIn("nodeName", waits["spec"])

    async def test_silent_node(self) -> None:
        """When its lease ends a node is NotReady; its pods stay, and it is Ready when back."""
        short: Any = {
            "modules": {"edged": {"tailoredKubeletConfig": {"nodeLeaseDurationSeconds": 3}}}
        }
        cloud, edge, api = await self.pair(short)
        await api.create(pod("stays", "sleep", "1000"))
        before = await self.pod_ready(api, "stays", cloud, edge)
        await edge.process.kill()
        await self.node_ready(api, "edge", cloud, ready="Unknown")

        async def taints(*wanted: str) -> bool:
            node = await api.get("/api/v1/nodes/edge")
            return {taint["key"] for taint in node["spec"].get("taints") or ()} == set(wanted)

        unreachable = "node.kubernetes.io/unreachable"
        await until("the node to be tainted", lambda: taints(unreachable), cloud)
        there = await api.get(pod_path("stays"))
        self.assertEqual(there["metadata"]["uid"], before["metadata"]["uid"])
        self.assertNotIn("deletionTimestamp", there["metadata"])
        await edge.run()
        await self.node_ready(api, "edge", cloud, edge)
        await until("the taints to go", taints, cloud, edge)
        after = await self.pod_ready(api, "stays", cloud, edge)
        self.assertEqual(
            container_state(after)["containerID"], container_state(before)["containerID"]
        )
