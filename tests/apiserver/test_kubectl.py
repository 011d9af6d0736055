"""What people type, with the kubectl of the machine and with Debian's 1.20."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.running import ServerCase, in_thread
from tests.requirements import requires

OLD = os.environ.get("KUBEEDGE_TX_KUBECTL_120", "")

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "demo", "labels": {"app": "web"}},
    "spec": {
        "nodeName": "edge-1",
        "containers": [{"name": "web", "image": "busybox:1", "command": ["/bin/sleep", "9"]}],
    },
}
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "cfg", "namespace": "demo"},
    "data": {"level": "3"},
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "sec", "namespace": "demo"},
    "stringData": {"password": "hunter2"},
}
MODEL = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "DeviceModel",
    "metadata": {"name": "m", "namespace": "demo"},
    "spec": {"properties": [{"name": "t", "type": "INT", "accessMode": "ReadOnly"}]},
}
DEVICE = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "Device",
    "metadata": {"name": "d", "namespace": "demo"},
    "spec": {"deviceModelRef": {"name": "m"}, "nodeName": "edge-1"},
}


class Scenarios:
    """What both kubectls must be able to do."""

    program: str
    old: bool

    def environment(self: Any) -> dict[str, str]:
        """What kubectl finds its way by."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.data_dir),
            "KUBECONFIG": str(self.service.kubeconfig),
        }

    async def kubectl(self: Any, *arguments: str, ok: bool = True, **environment: str) -> str:
        """Run one command; its output, errors included."""
        done = await in_thread(
            subprocess.run,
            [self.program, *arguments],
            env={**self.environment(), **environment},
            cwd=self.data_dir,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        output: str = done.stdout + done.stderr
        self.assertEqual(done.returncode == 0, ok, f"{arguments}: {output}")
        return output.strip()

    def write(self: Any, name: str, *objects: Any) -> str:
        """A manifest."""
        (self.data_dir / name).write_text(yaml.safe_dump_all(objects))
        return name

    async def begin(self: Any) -> None:
        """A namespace and a node."""
        self.assertEqual(
            await self.kubectl("create", "namespace", "demo"), "namespace/demo created"
        )
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "edge-1", "labels": {"node-role.kubernetes.io/edge": ""}},
        }
        await self.kubectl("create", "-f", self.write("n.yaml", node))

    async def test_apply_to_delete(self: Any) -> None:
        """A pod, a configmap and a secret: applied, looked at, changed, watched, deleted."""
        await self.begin()
        run, manifest = self.kubectl, self.write("a.yaml", POD, CONFIG, SECRET)
        created = "pod/web created\nconfigmap/cfg created\nsecret/sec created"
        self.assertEqual(await run("apply", "-f", manifest), created)
        unchanged = await run("apply", "-f", manifest)
        self.assertIn("pod/web unchanged\nconfigmap/cfg unchanged", unchanged)
        self.assertEqual(await run("diff", "-f", manifest), "")

        wide = (await run("get", "pods", "-n", "demo", "-o", "wide")).splitlines()
        self.assertEqual(wide[0].split()[:6], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"])
        self.assertEqual(wide[1].split()[:4], ["web", "0/1", "Pending", "0"])
        self.assertIn("edge-1", wide[1])
        self.assertIn("web", await run("get", "po", "-A"))
        where = ("get", "pod", "web", "-n", "demo", "-o", "jsonpath={.spec.nodeName}")
        self.assertEqual(await run(*where), "edge-1")
        shown = yaml.safe_load(await run("get", "pod", "web", "-n", "demo", "-o", "yaml"))
        self.assertEqual(shown["spec"]["containers"][0]["terminationMessagePolicy"], "File")
        for selector, found in (("app=web", True), ("app!=web", False), ("app in (a,web)", True)):
            output = await run("get", "pods", "-n", "demo", "-l", selector)
            self.assertEqual("web" in output.split(), found, output)
        field = ("get", "pods", "-n", "demo", "--field-selector")
        self.assertIn("web", await run(*field, "spec.nodeName=edge-1"))
        self.assertIn("No resources", await run(*field, "status.phase=Running"))

        described = await run("describe", "pod", "web", "-n", "demo")
        self.assertIn("Node:         edge-1/", described)
        self.assertIn("QoS Class:", described)
        self.assertIn("web", await run("describe", "node", "edge-1"))

        await run("label", "pod", "web", "-n", "demo", "tier=front")
        await run("annotate", "pod", "web", "-n", "demo", "note=hello")
        for kind, patch in (
            ("merge", '{"metadata":{"labels":{"a":"1"}}}'),
            ("strategic", '{"metadata":{"labels":{"b":"2"}}}'),
            ("json", '[{"op":"add","path":"/metadata/labels/c","value":"3"}]'),
        ):
            output = await run("patch", "pod", "web", "-n", "demo", "--type", kind, "-p", patch)
            self.assertIn("pod/web patched", output)
        labels = ("get", "pod", "web", "-n", "demo", "-o", "jsonpath={.metadata.labels}")
        self.assertEqual(
            yaml.safe_load(await run(*labels)),
            {"app": "web", "tier": "front", "a": "1", "b": "2", "c": "3"},
        )
        edited = await run(
            "edit", "configmap", "cfg", "-n", "demo", KUBE_EDITOR="sed -i s/level/grade/"
        )
        self.assertEqual(edited, "configmap/cfg edited")
        data = ("get", "cm", "cfg", "-n", "demo", "-o", "jsonpath={.data}")
        self.assertEqual(await run(*data), '{"grade":"3"}')
        password = ("get", "secret", "sec", "-n", "demo", "-o", "jsonpath={.data.password}")
        self.assertEqual(await run(*password), "aHVudGVyMg==")

        await run("delete", "pod", "web", "-n", "demo", "--wait=false")
        self.assertIn("Terminating", await run("get", "pod", "web", "-n", "demo"))
        await run("delete", "pod", "web", "-n", "demo", "--force", "--grace-period=0")
        gone = await run("get", "pod", "web", "-n", "demo", ok=False)
        self.assertEqual(gone, 'Error from server (NotFound): pods "web" not found')
        await run("delete", "-f", manifest, "--ignore-not-found")
        await run("delete", "namespace", "demo")
        self.assertNotIn("demo", await run("get", "ns"))

    async def test_custom_objects(self: Any) -> None:
        """KubeEdge's own kinds: applied, printed, validated, explained, deleted."""
        await self.begin()
        await self.install_crds()
        run, manifest = self.kubectl, self.write("d.yaml", MODEL, DEVICE)
        applied = await run("apply", "-f", manifest)
        self.assertIn("device.devices.kubeedge.io/d created", applied)
        table = await run("get", "device,devicemodel", "-n", "demo")
        self.assertIn("device.devices.kubeedge.io/d", table)
        await run(
            "patch",
            "device",
            "d",
            "-n",
            "demo",
            "--type",
            "merge",
            "-p",
            '{"spec":{"nodeName":"edge-2"}}',
        )
        wrong = await run(
            "patch",
            "device",
            "d",
            "-n",
            "demo",
            "--type",
            "merge",
            "-p",
            '{"spec":{"properties":"wrong"}}',
            ok=False,
        )
        self.assertIn("spec.properties in body must be of type array", wrong)
        unknown = await run(
            "patch", "device", "d", "-n", "demo", "--type", "merge", "-p", '{"spec":{"nosuch":1}}'
        )
        self.assertIn('unknown field "spec.nosuch"', unknown)
        self.assertIn("deviceModelRef", await run("explain", "device.spec"))
        self.assertIn("command", await run("explain", "pod.spec.containers.command"))
        self.assertIn("rules.rules.kubeedge.io", await run("get", "crd"))
        self.assertIn("devices.kubeedge.io/v1beta1", await run("api-resources"))
        self.assertIn("devices.kubeedge.io/v1beta1", await run("api-versions"))
        await run("delete", "-f", manifest)
        self.assertIn("No resources found", await run("get", "devices", "-A"))

    async def test_generators(self: Any) -> None:
        """Things made from the command line, some of which kubectl sends as protobuf."""
        await self.begin()
        run = self.kubectl
        await run("create", "configmap", "c", "-n", "demo", "--from-literal=k=v")
        await run("create", "secret", "generic", "s", "-n", "demo", "--from-literal=k=v")
        await run("create", "serviceaccount", "robot", "-n", "demo")
        await run("create", "service", "clusterip", "svc", "-n", "demo", "--tcp=80:8080")
        self.assertIn("10.96.0.10", await run("get", "svc", "-n", "demo"))
        await run("run", "r", "-n", "demo", "--image=busybox", "--restart=Never")
        await run("expose", "pod", "r", "-n", "demo", "--port=80")
        self.assertIn("FailedScheduling", await run("get", "events", "-n", "demo"))
        data = ("get", "cm", "c", "-n", "demo", "-o", "jsonpath={.data.k}")
        self.assertEqual(await run(*data), "v")
        twice = await run("create", "configmap", "c", "-n", "demo", ok=False)
        self.assertIn('configmaps "c" already exists', twice)
        bad = await run("create", "configmap", "Bad_Name", "-n", "demo", ok=False)
        self.assertIn("a lowercase RFC 1123 subdomain must consist of", bad)
        self.assertEqual(await run("auth", "can-i", "get", "pods"), "yes")
        self.assertIn("*.*", await run("auth", "can-i", "--list"))
        await run("cordon", "edge-1")
        self.assertIn("SchedulingDisabled", await run("get", "node", "edge-1"))
        await run("taint", "nodes", "edge-1", "site=north:NoSchedule")
        await run("uncordon", "edge-1")
        self.assertEqual(await run("get", "--raw", "/readyz"), "ok")
        self.assertIn("Server Version", await run("version"))
        unknown = await run("get", "widgets", ok=False)
        self.assertEqual(unknown, 'error: the server doesn\'t have a resource type "widgets"')
        if not self.old:
            token = await run("create", "token", "robot", "-n", "demo")
            self.assertEqual(token.count("."), 2)
            self.assertIn("kubernetes-admin", await run("auth", "whoami"))
        self.assertIn("deleted", await run("delete", "ns", "demo"))

    async def test_wrong_manifest(self: Any) -> None:
        """A misspelt field is named, and nothing is made."""
        await self.begin()
        pod = {**POD, "spec": {"containers": [{"name": "c", "image": "i", "comand": ["x"]}]}}
        output = await self.kubectl("apply", "-f", self.write("p.yaml", pod), ok=False)
        self.assertIn(
            'unknown field "' + ("comand" if self.old else "spec.containers[0].comand"), output
        )
        self.assertIn("No resources", await self.kubectl("get", "pods", "-n", "demo"))

    async def test_server_side_apply(self: Any) -> None:
        """Server-side apply is refused in words."""
        await self.begin()
        manifest = self.write("c.yaml", CONFIG)
        output = await self.kubectl("apply", "--server-side", "-f", manifest, ok=False)
        self.assertRegex(output, "server-side|Server-side")

    async def test_wait_and_watch(self: Any) -> None:
        """wait and get -w see what happens."""
        await self.begin()
        await self.kubectl("apply", "-f", self.write("a.yaml", POD))
        watching = subprocess.Popen(
            [self.program, "get", "pods", "-n", "demo", "-w", "--no-headers"],
            env=self.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert watching.stdout is not None
            self.assertIn("Pending", await in_thread(watching.stdout.readline))
            conditions = [{"type": "Ready", "status": "True"}]
            await self.client.patch(
                "/api/v1/namespaces/demo/pods/web/status",
                {"status": {"phase": "Running", "conditions": conditions}},
            )
            self.assertIn("Running", await in_thread(watching.stdout.readline))
        finally:
            watching.kill()
            await in_thread(watching.communicate)
        output = await self.kubectl(
            "wait", "--for=condition=Ready", "pod/web", "-n", "demo", "--timeout=40s"
        )
        self.assertEqual(output, "pod/web condition met")


@requires("kubectl")
class KubectlTests(Scenarios, ServerCase):
    """The kubectl of this machine."""

    program = "kubectl"
    old = False


class OldKubectlTests(Scenarios, ServerCase):
    """Debian's kubectl 1.20: no aggregated discovery, OpenAPI v2 in protobuf."""

    program = OLD
    old = True

    if not OLD or not Path(OLD).exists():
        skip = "KUBEEDGE_TX_KUBECTL_120 does not name a kubectl 1.20"
