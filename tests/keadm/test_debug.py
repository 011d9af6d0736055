"""Looking into an edge, with the cloud away."""

from __future__ import annotations

import base64
import json
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import yaml

from tests.keadm.machine import Done, MachineCase, until

PLANTED = "planted-value-of-a-secret"
LINES = "first planted line\nsecond planted line\n"


def _pod() -> dict[str, Any]:
    script = 'while true; do echo "it is $PW"; sleep 0.2; done'
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "edge-1",
            "containers": [
                {
                    "name": "main",
                    "image": "none",
                    "command": ["sh", "-c", script],
                    "env": [
                        {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "pw"}}}
                    ],
                }
            ],
        },
    }


class DebugTests(MachineCase):
    def edge(self, verb: str, *arguments: str) -> Done:
        return self.keadm(*verb.split(), *arguments, "--data-dir", str(self.edge_dir))

    def start(self) -> str:
        """A cloud, an edge, a Secret and a pod that uses it; returns the token."""
        token = self.start_cloud()
        done = self.join(token)
        self.assertEqual(done.status, 0, done.output)
        namespace = "/api/v1/namespaces/default"
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s1", "namespace": "default"},
            "stringData": {"pw": PLANTED, "lines": LINES},
        }
        self.api(f"{namespace}/secrets", secret)
        self.api(f"{namespace}/pods", _pod())

        def running() -> bool:
            (pod,) = self.api(f"{namespace}/pods")["items"]
            statuses = pod.get("status", {}).get("containerStatuses") or [{}]
            return bool(statuses[0].get("ready"))

        until("the pod", running)
        return token

    def stop_cloud(self) -> None:
        pid = json.loads((self.cloud_dir / "ready.json").read_text())["pid"]
        os.kill(pid, signal.SIGTERM)
        until("the cloud's end", lambda: not (self.cloud_dir / "ready.json").exists())

    def test_offline(self) -> None:
        """With the cloud away: what the edge holds, a pod's log, a restart, what is wrong."""
        self.start()
        self.stop_cloud()
        got = self.edge("debug get", "pod")
        self.assertEqual(
            got.output.split()[:7], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "web", "1/1"]
        )
        wide = self.edge("ctl get", "po", "-A", "-o", "wide").output
        self.assertIn("NAMESPACE", wide)
        self.assertIn("edge-1", wide)
        whole = yaml.safe_load(self.edge("debug get", "pod", "web", "-o", "yaml").output)
        self.assertEqual(whole["status"]["containerStatuses"][0]["name"], "main")
        listed = json.loads(self.edge("debug get", "all", "-o", "json").output)
        self.assertEqual(
            sorted(item["kind"] for item in listed["items"]), ["Node", "Pod", "Secret"]
        )
        self.assertIn("web", self.edge("debug get", "pod", "-l", "app=web").output)
        none = self.edge("debug get", "pod", "-l", "app=other").output
        self.assertIn("No resources found in default namespace.", none)
        self.assertIn("there is no 'pods!' at an edge", self.edge("debug get", "pods!").output)

        said = self.edge("ctl logs", "web", "--tail", "2").output
        self.assertEqual(said, f"it is {PLANTED}\n" * 2)
        where = ("--data-dir", str(self.edge_dir))
        script = 'read line; echo "$line, $PW"; echo oops >&2; exit 7'
        ran = self.keadm(
            *("ctl", "exec", *where, "-i", "web", "--", "sh", "-c", script), given="hello\n"
        )
        self.assertEqual((ran.status, ran.output), (7, f"hello, {PLANTED}\noops\n"))
        ran = self.keadm("ctl", "exec", *where, "web", "--", "no-such-program")
        self.assertEqual(ran.status, 127)
        self.assertIn("executable file not found", ran.output)
        described = self.edge("ctl describe", "pod", "web")
        self.assertEqual(described.line("  Ready:"), "Ready: True")
        folder = next((self.edge_dir / "process" / "logs").glob("default_web_*/main"))
        restarted = self.edge("ctl restart pod", "web")
        self.assertEqual(restarted.status, 0, restarted.output)
        until("the next attempt", (folder / "1.log").exists)

        wrong = self.edge("debug diagnose")
        self.assertEqual(wrong.status, 1)
        self.assertIn("ok process ", wrong.line("agent"))
        self.assertIn("FAIL", wrong.line("cloud port"))
        pod = self.keadm(*("debug", "diagnose", "--data-dir", str(self.edge_dir), "pod", "web"))
        self.assertIn("pod default/web is Running", pod.output)

    def test_bundle_has_no_secret(self) -> None:
        """Nothing secret gets into a bundle, wherever it was written before."""
        token = self.start()
        config = self.edge_dir / "config" / "edgecore.yaml"
        tree = yaml.safe_load(config.read_text())
        tree["modules"]["edgeHub"]["token"] = token
        tree["modules"]["eventBus"]["mqttPassword"] = "planted-password"
        config.write_text(yaml.safe_dump(tree))
        key = (self.edge_dir / "certs" / "server.key").read_text()
        with (self.edge_dir / "log" / "edgecore.log").open("a") as log:
            log.write(f"a careless line with {PLANTED} and {token}\n{key}\n")
            log.write(f"{json.dumps(LINES)} planted-password\nAuthorization: Bearer planted-b\n")
        done = self.edge("debug collect", "-o", str(self.root))
        self.assertEqual(done.status, 0, done.output)
        self.assertIn("Data collected successfully, path: ", done.output)
        (archive,) = self.root.glob("edge_*.tar.gz")
        self.assertEqual(archive.stat().st_mode & 0o777, 0o600)
        found = {}
        with tarfile.open(archive) as opened:
            for member in opened:
                content = opened.extractfile(member)
                assert content is not None
                found[Path(member.name).name] = content.read().decode()
        archive.unlink()
        for name in ("edgecore.yaml", "edgecore.log", "store", "debug", "checks", "meminfo"):
            self.assertIn(name, found)
        self.assertIn("a careless line with [removed] and [removed]", found["edgecore.log"])
        self.assertIn("default/secret/s1", found["store"])
        private = key.splitlines()[1]
        encoded = base64.b64encode(PLANTED.encode()).decode()
        jwt = token.partition(".")[2]
        for name, text in found.items():
            for secret in ("planted", private, encoded, jwt, "PRIVATE KEY"):
                self.assertNotIn(secret, text, name)

    def test_bundle_of_a_machine_that_is_no_edge(self) -> None:
        """Also before a join, or with a broken configuration, there is a bundle."""
        done = self.edge("debug collect", "-o", str(self.root))
        self.assertEqual(done.status, 0, done.output)
        (archive,) = self.root.glob("edge_*.tar.gz")
        archive.unlink()


class ConfigTests(MachineCase):
    def test_validate(self) -> None:
        """A wrong key or value is named by its whole path; a right file is called so."""
        file = Path(self.root) / "edge.yaml"
        head = "apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\n"
        file.write_text(f"{head}modules: {{edged: {{hostnameOverride: a}}}}\n")
        done = self.keadm("config", "validate", str(file))
        self.assertEqual(done.status, 0, done.output)
        for text, said in (
            ("modules: {edged: {hostname: a}}", "modules.edged.hostname: there is no such key"),
            ("modules: {edgeHub: {heartbeat: soon}}", "modules.edgeHub.heartbeat: expected"),
            ("modules: [", "not YAML"),
            ("modules: {edged: {hostnameOverride: Edge_1}}", "hostnameOverride: 'Edge_1' is no"),
            ("modules: {edgeHub: {httpServer: a}}", "httpServer: 'a' is not https://host:port"),
            ("modules: {edgeHub: {websocket: {server: 'a,:1'}}}", "websocket.server: ':1' is not"),
            ("modules: {eventBus: {mqttServerInternal: a}}", "modules.eventBus.mqttServerInternal"),
            ("commonConfig: {monitorServer: {bindAddress: a}}", "monitorServer.bindAddress: exp"),
        ):
            file.write_text(f"{head}{text}\n")
            done = self.keadm("config", "validate", str(file))
            self.assertEqual(done.status, 1)
            self.assertIn(said, done.output)
        file.write_text("kind: Pod\n")
        done = self.keadm("config", "validate", str(file))
        self.assertIn("kind: expected one of CloudCore, EdgeCore, MqttBroker", done.output)

    def test_validate_says_all(self) -> None:
        """All that is wrong is said at once, of each role's file."""
        file = Path(self.root) / "cloud.yaml"
        file.write_text(
            "kind: CloudCore\nmodules:\n  nonsense: 1\n"
            "  cloudHub: {advertiseAddress: [cloud.example], nodeLimit: 0}\n"
        )
        done = self.keadm("config", "validate", str(file))
        self.assertEqual(done.status, 1)
        self.assertEqual(
            done.output,
            "Error: modules.nonsense: there is no such key\n"
            "Error: modules.cloudHub.nodeLimit: expected int >= 1\n"
            "Error: modules.cloudHub.advertiseAddress: 'cloud.example' is no IP address; names "
            "belong into dnsNames\n",
        )
        file.write_text("kind: MqttBroker\nallowAnonymous: perhaps\n")
        done = self.keadm("config", "validate", str(file))
        self.assertIn("allowAnonymous: expected", done.output)

    def test_version(self) -> None:
        """The version, in each form."""
        self.assertRegex(self.keadm("version", "-o", "short").output, r"^v\d+\.\d+\.\d+\n$")
        self.assertIn("gitVersion", json.loads(self.keadm("version", "-o", "json").output))
        self.assertIn("product", yaml.safe_load(self.keadm("version", "-o", "yaml").output))
