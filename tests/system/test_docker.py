from __future__ import annotations

from typing import Any

from tests.requirements import requires
from tests.runtime.docker_image import BUSYBOX
from tests.system.engine import DockerPods, pod_of
from tests.system.roles import (
    SystemCase,
    collection,
    config_map,
    container_state,
    pod,
    pod_path,
    secret,
    unique,
    until,
    waiting_reason,
)

WEB = """
echo "$PASSWORD" > /www/password
cp /etc/site/index.html /www/first.html
trap 'echo told > /shared/goodbye; sleep 1; echo done >> /shared/goodbye; exit 0' TERM
httpd -f -p 8080 -h /etc/site &
wait
"""


@requires("docker")
class DockerEndToEndTests(DockerPods, SystemCase):
    """A pod on a real Docker engine, from the API to the last breath."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        super().setUp()
        self.node = unique("edge")
        await self.use_engine()

    async def test_pod(self) -> None:
        """A ConfigMap as files, a Secret as environment, an HTTP probe, and a calm end."""
        cloud, edge, api = await self.pair(node=self.node, runtime="docker")
        roles = (cloud, edge)
        shared, www = self.work / "shared", self.work / "www"
        for folder in (shared, www):
            folder.mkdir()
        await api.create(config_map("site", **{"index.html": "one"}))
        await api.create(secret("login", password="s3same-planted"))
        await api.create(
            pod(
                "web",
                *("sh", "-c", WEB),
                container={
                    "image": BUSYBOX,
                    "env": [
                        {
                            "name": "PASSWORD",
                            "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}},
                        }
                    ],
                    "readinessProbe": {
                        "httpGet": {"path": "/index.html", "port": 8080},
                        "periodSeconds": 1,
                    },
                    "volumeMounts": [
                        {"name": "site", "mountPath": "/etc/site"},
                        {"name": "shared", "mountPath": "/shared"},
                        {"name": "www", "mountPath": "/www"},
                    ],
                },
                volumes=[
                    {"name": "site", "configMap": {"name": "site"}},
                    {"name": "shared", "hostPath": {"path": str(shared)}},
                    {"name": "www", "hostPath": {"path": str(www)}},
                ],
                terminationGracePeriodSeconds=20,
            )
        )
        found = await self.pod_ready(api, "web", *roles)
        self.assertTrue(container_state(found)["ready"])
        self.assertTrue(container_state(found)["containerID"].startswith("docker://"))
        self.assertEqual((www / "password").read_text(), "s3same-planted\n")
        self.assertEqual((www / "first.html").read_text(), "one")

        await api.patch(f"{collection('ConfigMap')}/site", {"data": {"index.html": "two"}})
        uid = found["metadata"]["uid"]
        (folder,) = edge.data_dir.glob(f"**/pods/{uid}/volumes/*/site")
        await until(
            "the file to change", lambda: (folder / "index.html").read_text() == "two", *roles
        )
        now = container_state(await api.get(pod_path("web")))
        self.assertEqual(now["restartCount"], 0)

        self.assertFalse((shared / "goodbye").exists())
        await api.delete(pod_path("web"))
        deleting = await api.get(pod_path("web"))
        self.assertIn("deletionTimestamp", deleting["metadata"])
        await self.pod_gone(api, "web", *roles)
        self.assertEqual((shared / "goodbye").read_text(), "told\ndone\n")
        self.assertEqual([pod_of(each) for each in await self.containers()], [])
        for role in roles:
            self.assertNotIn("s3same-planted", role.output)

    async def test_crash(self) -> None:
        """A container that crashes is started again, later each time, and says so."""
        cloud, edge, api = await self.pair(node=self.node, runtime="docker")
        roles = (cloud, edge)
        await api.create(
            pod("crasher", "sh", "-c", "echo last words; exit 3", container={"image": BUSYBOX})
        )
        await api.create(pod("calm", "sleep", "1000", container={"image": BUSYBOX}))
        waits = await self.pod_is(
            api,
            "crasher",
            lambda it: (
                waiting_reason(it) == "CrashLoopBackOff"
                and container_state(it)["restartCount"] == 1
            ),
            "in CrashLoopBackOff after one restart",
            *roles,
        )
        ended: Any = container_state(waits)["lastState"]["terminated"]
        self.assertEqual((ended["exitCode"], ended["reason"]), (3, "Error"))
        again = await self.pod_is(
            api,
            "crasher",
            lambda it: container_state(it).get("restartCount", 0) >= 2,
            "started a third time",
            *roles,
        )
        self.assertEqual(again["status"]["phase"], "Running")
        await self.pod_ready(api, "calm", *roles)
