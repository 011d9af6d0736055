"""keadm and a real Docker engine: what it runs, its logs, commands in it, and its end."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import Any, Final

import yaml

from kubeedge_tx.runtime.docker_specs import OWNER
from tests.generated import ROOT
from tests.keadm.machine import KEADM, MachineCase, until
from tests.requirements import requires
from tests.runtime.docker_image import BUSYBOX, engine, ensure_busybox

EXAMPLE: Final = ROOT / "examples" / "thermometer"

LOOP = """
trap 'exit 0' TERM
n=0
while true; do n=$((n+1)); echo line $n; echo err $n >&2; sleep 1; done
"""


@requires("docker")
class DockerTests(MachineCase):
    def setUp(self) -> None:
        super().setUp()
        self.node = f"edge-{os.getpid()}"
        self.docker = engine()
        self.addCleanup(self.docker.close)
        ensure_busybox(self.docker)

    def containers(self) -> list[Any]:
        listed: list[Any] = self.docker.containers(
            all=True, filters={"label": [f"{OWNER}={self.node}"]}
        )
        return listed

    def pod(self) -> dict[str, Any]:
        container = {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", LOOP]}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "nodeName": self.node,
                "terminationGracePeriodSeconds": 5,
                "containers": [container],
            },
        }

    def restarts(self) -> int:
        (pod,) = self.api("/api/v1/namespaces/default/pods")["items"]
        (status,) = pod.get("status", {}).get("containerStatuses") or [{}]
        return int(status["restartCount"]) if status.get("ready") else -1

    def test_life(self) -> None:
        """join finds the engine; logs, exec and restart work; reset leaves no container."""
        token = self.start_cloud()
        address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        driver = self.docker.info()["CgroupDriver"]
        words = self.join_command(token, name=self.node)
        words[words.index("process")] = "docker"
        done = self.keadm(*words, "-p", address, "--cgroupdriver", driver)
        self.assertEqual(done.status, 0, done.output)
        self.assertIn(f"at {address}", done.line("runtime"))
        self.api("/api/v1/namespaces/default/pods", self.pod())
        until("the pod", lambda: self.restarts() == 0)

        where = ("--data-dir", str(self.edge_dir))
        said = self.keadm("ctl", "logs", *where, "web").output
        self.assertIn("line 1\n", said)
        self.assertIn("err 1\n", said)
        last = self.keadm("ctl", "logs", *where, "web", "--tail", "1").output
        self.assertEqual(len(last.splitlines()), 1)
        self._run_commands(where)
        self.assertIn("docker://", self.keadm("ctl", "describe", *where, "pod", "web").output)

        restarted = self.keadm("ctl", "restart", "pod", *where, "web")
        self.assertEqual(restarted.status, 0, restarted.output)
        until("the restart", lambda: self.restarts() == 1)
        before = self.keadm("ctl", "logs", *where, "web", "--previous")
        self.assertIn("line 1\n", before.output)

        self._describe_device(where)
        self.assertEqual(len(self.containers()), 3)
        gone = self.keadm("reset", "edge", *where, "--force")
        self.assertEqual(gone.status, 0, gone.output)
        self.assertEqual(self.containers(), [])
        self.assertFalse(self.edge_dir.exists())

    def _describe_device(self, where: tuple[str, ...]) -> None:
        for kind, folder in (("DeviceModel", "model"), ("Device", "device")):
            obj = yaml.safe_load((EXAMPLE / f"{folder}.yaml").read_text())
            if kind == "Device":
                obj["spec"]["nodeName"] = self.node
            path = f"/apis/{obj['apiVersion']}/namespaces/default/{kind.lower()}s"
            self.api(path, obj)
        name = obj["metadata"]["name"]
        words = ("ctl", "describe", *where, "device", name)
        until("the device", lambda: self.keadm(*words).status == 0)
        described = self.keadm(*words)
        self.assertEqual(described.line("Model:").split()[1], obj["spec"]["deviceModelRef"]["name"])
        for each in obj["spec"]["properties"]:
            self.assertIn(each["name"], described.output)

    def _run_commands(self, where: tuple[str, ...]) -> None:
        script = 'read line; echo "$line, $(cat)"; echo oops >&2; exit 7'
        ran = self.keadm(
            *("ctl", "exec", *where, "-i", "web", "--", "sh", "-c", script), given="hello\nworld\n"
        )
        self.assertEqual((ran.status, ran.output), (7, "hello, world\noops\n"))
        missing = self.keadm("ctl", "exec", *where, "web", "--", "no-such-program")
        self.assertNotEqual(missing.status, 0)
        self.assertIn("no-such-program", missing.output)
        # With a terminal, as a person has one.
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*KEADM, "ctl", "exec", *where, "-it", "web", "--", "sh"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.addCleanup(process.kill)
        self.addCleanup(os.close, ours)
        os.write(ours, b"tty; echo $((6*7)); exit 3\n")
        self.assertEqual(process.wait(60), 3)
        shown = os.read(ours, 4096)
        self.assertIn(b"42", shown)
        self.assertIn(b"/dev/pts/", shown)
