"""From a fresh machine to a Ready node, and back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.keadm.main import VERBS, main
from kubeedge_tx.security.token import token_id
from tests.keadm.machine import EDGE_PORTS, FREE_PORTS, MachineCase, files, interrupt, until


def _sleeper() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sleeper", "namespace": "default"},
        "spec": {
            "nodeName": "edge-1",
            "containers": [
                {"name": "main", "image": "none", "command": ["sleep", "600"]},
            ],
        },
    }


class LifeTests(MachineCase):
    def test_from_nothing_to_ready_and_back(self) -> None:
        """init, gettoken, join: the node is Ready. reset: every file and process is gone."""
        before = files(self.root)
        token = self.start_cloud()
        joined = self.join(token)
        self.assertEqual(joined.status, 0, joined.output)
        self.assertIn("Install Complete!", joined.output)
        self.assertTrue(self.node_ready())
        self.api("/api/v1/namespaces/default/pods", _sleeper())
        pods = self.edge_dir / "process" / "pods"
        running = until("the pod to run", lambda: list(pods.glob("*/main/*/running.json")))[0]
        pid = json.loads(running.read_text())["pid"]
        os.kill(pid, 0)
        kubeconfig = ("--kube-config", str(self.cloud_dir / "admin.kubeconfig"))
        done = self.keadm(
            *("reset", "edge", "--data-dir", str(self.edge_dir), *kubeconfig), given="y\n"
        )
        self.assertEqual(done.status, 0, done.output)
        self.assertIn(f"node edge-1 in the cluster of {kubeconfig[1]}", done.output)
        self.assertEqual(self.api("/api/v1/nodes")["items"], [])
        done = self.keadm("reset", "cloud", "--data-dir", str(self.cloud_dir), given="y\n")
        self.assertEqual(done.status, 0, done.output)
        self.assertIn(f"{self.cloud_dir} and all that is in it", done.output)
        self.assertEqual(files(self.root), before)
        self.assertFalse(Path(f"/proc/{pid}").exists())
        again = self.keadm("reset", "edge", "--data-dir", str(self.edge_dir), given="y\n")
        self.assertEqual(again.status, 0)
        self.assertIn("None of KubeEdge components are running in this host, exit", again.output)

    def test_reset_asks(self) -> None:
        """Anything but yes leaves all as it is; what somebody else has made stays in any case.

        A kubeconfig that does not work is told before anything is removed.
        """
        self.cloud_dir.mkdir()
        self.start_cloud()
        done = self.keadm("reset", "cloud", "--data-dir", str(self.cloud_dir), given="n\n")
        self.assertEqual(done.status, 1)
        self.assertIn("aborted reset operation", done.output)
        self.assertTrue((self.cloud_dir / "ready.json").exists())
        self.keadm("reset", "cloud", "--data-dir", str(self.cloud_dir), "--force")
        self.assertEqual([path.name for path in self.root.iterdir()], ["cloud"])
        self.assertEqual(list(self.cloud_dir.iterdir()), [])
        self.edge_dir.mkdir()
        (self.edge_dir / "keadm.json").write_text(
            '{"role": "edge", "version": "1", "twistd": "", "service": "process"}'
        )
        dead = self.root / "kubeconfig"
        dead.write_text("not: one\n")
        words = ("reset", "edge", "--data-dir", str(self.edge_dir), "--force")
        done = self.keadm(*words, "--kube-config", str(dead))
        self.assertEqual(done.status, 1)
        self.assertIn(f"Error: {dead}: no usable kubeconfig", done.output)
        self.assertTrue((self.edge_dir / "keadm.json").exists())
        foreign = self.root / "photos"
        foreign.mkdir()
        (foreign / "holiday.jpg").touch()
        done = self.keadm("reset", "edge", "--data-dir", str(foreign), "--force")
        self.assertIn("None of KubeEdge components", done.output)
        self.assertTrue((foreign / "holiday.jpg").exists())

    def test_init_twice(self) -> None:
        """The same init goes on with the cloud that runs; another configuration is refused.

        What it prints can be pasted on the edge machine as it is.
        """
        self.start_cloud()
        ports = self.ports()
        again = self.init()
        self.assertEqual(again.status, 0, again.output)
        self.assertIn("cloudcore runs already", again.output)
        self.assertIn("keadm join --cloudcore-ipport 127.0.0.1:", again.output)
        self.assertEqual(self.ports(), ports)
        other = self.init("--set", "modules.cloudHub.nodeLimit=7")
        self.assertEqual(other.status, 1)
        self.assertIn("CloudCore is already running on this node", other.output)
        self.assertEqual(self.ports(), ports)
        words = again.line("  keadm join").split()
        self.assertEqual(words[:2], ["keadm", "join"])
        where = ("--data-dir", str(self.edge_dir), "-i", "pasted", "-r", "process")
        joined = self.keadm(*words[1:], *where, *EDGE_PORTS)
        self.assertEqual(joined.status, 0, joined.output)
        self.assertTrue(self.node_ready("pasted"))

    def test_join_interrupted_and_run_again(self) -> None:
        """Ctrl-C in the middle of a join; the same command then finishes it."""
        token = self.start_cloud()
        cloud = json.loads((self.cloud_dir / "ready.json").read_text())["pid"]
        process = self.spawn(*self.join_command(token))
        until("the agent", lambda: (self.edge_dir / "edgecore.pid").exists())
        os.kill(cloud, signal.SIGSTOP)  # so that it cannot have finished
        self.addCleanup(os.kill, cloud, signal.SIGCONT)
        try:
            status, output = interrupt(process)
        finally:
            os.kill(cloud, signal.SIGCONT)
        self.assertIn(status, (130, 0), output)
        done = self.join(token)
        self.assertEqual(done.status, 0, done.output)
        self.assertTrue(self.node_ready())
        self.assertNotIn(token, (self.edge_dir / "config" / "edgecore.yaml").read_text())

    def test_init_interrupted_and_run_again(self) -> None:
        """Ctrl-C while the cloud starts; the same command then finishes it."""
        command = ["init", "--data-dir", str(self.cloud_dir), *FREE_PORTS]
        process = self.spawn(*command)
        until("the cloud's process", lambda: (self.cloud_dir / "cloudcore.pid").exists())
        status, output = interrupt(process)
        self.assertEqual(status, 130, output)
        self.assertIn("the same command goes on from here", output)
        done = self.keadm(*command)
        self.assertEqual(done.status, 0, done.output)

    def test_join_after_the_agent_died(self) -> None:
        """An agent that was killed is started again by the same command, without a token.

        A token that the file has although it is not needed is not left there.
        """
        token = self.start_cloud()
        self.assertEqual(self.join(token).status, 0)
        pid = json.loads((self.edge_dir / "ready.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        until("its end", lambda: not Path(f"/proc/{pid}").exists())
        looked = self.keadm("check", "--data-dir", str(self.edge_dir))
        self.assertEqual(looked.status, 1)
        self.assertIn("edgecore does not run", looked.line("agent"))
        config = self.edge_dir / "config" / "edgecore.yaml"
        tree = yaml.safe_load(config.read_text())
        tree["modules"]["edgeHub"]["token"] = token
        config.write_text(yaml.safe_dump(tree))
        done = self.join("")
        self.assertEqual(done.status, 0, done.output)
        self.assertTrue(self.node_ready())
        self.assertNotIn(token, config.read_text())

    def test_options_reach_the_configuration(self) -> None:
        """--check leaves no trace; labels and --set are in the file and at the node."""
        token = self.start_cloud()
        looked = self.join(token, "--check")
        self.assertEqual(looked.status, 0, looked.output)
        self.assertFalse(self.edge_dir.exists())
        self.assertEqual(self.api("/api/v1/nodes")["items"], [])
        done = self.join(
            *(token, "-l", "site=north,floor=2", "--cgroupdriver", "systemd"),
            *("--set", "modules.edgeHub.heartbeat=7", "--post-run", f"touch {self.root}/after"),
        )
        self.assertEqual(done.status, 0, done.output)
        config = yaml.safe_load((self.edge_dir / "config" / "edgecore.yaml").read_text())
        modules = config["modules"]
        self.assertEqual(modules["edgeHub"]["heartbeat"], 7)
        self.assertEqual(modules["edged"]["tailoredKubeletConfig"], {"cgroupDriver": "systemd"})
        (node,) = self.api("/api/v1/nodes")["items"]
        self.assertEqual(node["metadata"]["labels"]["floor"], "2")
        self.assertTrue((self.root / "after").exists())

    def test_foreground(self) -> None:
        """In a container: it prints the log, and SIGTERM stops cloud and keadm, at any moment.

        While it runs the role is not locked.
        """
        where = ("--data-dir", str(self.cloud_dir))
        ready = self.cloud_dir / "ready.json"
        for moment in ("KubeEdge cloudcore is running", "  keadm join "):
            process = self.spawn("init", *where, "--foreground", *FREE_PORTS)
            assert process.stdout is not None
            printed = ""
            while moment not in printed:
                line = process.stdout.readline()
                self.assertTrue(line, f"it ended before {moment!r}:\n{printed}")
                printed += line
            if moment == "  keadm join ":
                pid = json.loads(ready.read_text())["pid"]
                kept = self.keadm("backup", "cloud", *where)
                self.assertEqual(kept.status, 0, kept.output)
            else:
                pid = int((self.cloud_dir / "cloudcore.pid").read_text())
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
            self.assertFalse(Path(f"/proc/{pid}").exists(), printed + output)
        self.assertEqual(process.returncode, 0, printed + output)
        self.assertIn("kubeedge-cloud is ready", printed + output)

    def test_a_cloud_that_cannot_start(self) -> None:
        """The reason that the log has is what init says."""
        done = self.init("--set", "modules.cloudHub.tlsCAFile=/dev/null")
        self.assertEqual(done.status, 1)
        self.assertIn("cloudcore has ended: ", done.output)
        self.assertIn("/dev/null", done.line("Error"))


class TokenTests(MachineCase):
    def test_tokens(self) -> None:
        """A token with a life of its own is listed, joins an edge, and can be revoked.

        So can the standing one, and another takes its place at once.
        """
        standing = self.start_cloud()
        where = ("--data-dir", str(self.cloud_dir))
        made = self.keadm("gettoken", *where, "--ttl", "2h30m").output.strip()
        self.assertNotEqual(made, standing)
        listed = self.keadm("gettoken", *where, "list").output
        self.assertIn(f"{token_id(standing)}   valid", listed)
        self.assertIn(f"{token_id(made)}   valid", listed)
        for token in (made, standing):
            self.assertNotIn(token[70:], listed)
        revoked = self.keadm("gettoken", *where, "revoke", token_id(made))
        self.assertEqual(revoked.status, 0, revoked.output)
        self.assertIn(f"{token_id(made)}   revoked", self.keadm("gettoken", *where, "list").output)
        refused = self.join(made)
        self.assertEqual(refused.status, 1)
        self.assertIn(f"the token {token_id(made)} was revoked", refused.line("Error"))
        self.assertIn("The agent was stopped", refused.output)
        others = self.keadm("gettoken", *where, "--node", "another").output.strip()
        self.assertRegex(
            self.keadm("gettoken", *where, "list").output,
            rf"{token_id(others)} +valid +[-0-9]+ [:0-9]+ +another +keadm",
        )
        refused = self.join(others)
        self.assertEqual(refused.status, 1)
        self.assertIn("it is for node another, this one is edge-1", refused.output)
        fresh = self.keadm("gettoken", *where, "--ttl", "5m", "--node", "edge-1").output.strip()
        done = self.join(fresh)
        self.assertEqual(done.status, 0, done.output)
        self.assertEqual(self.keadm("gettoken", *where, "revoke", standing).status, 0)
        renewed = self.keadm("gettoken", *where).output.strip()
        self.assertNotEqual(renewed, standing)
        self._refuses_bad_input(where)

    def _refuses_bad_input(self, where: tuple[str, ...]) -> None:
        done = self.keadm("gettoken", *where, "--ttl", "soon")
        self.assertIn("expected 30m, 12h, 7d", done.output)
        done = self.keadm("gettoken", *where, "--node", "Edge_1")
        self.assertIn("'Edge_1' is no name that a node may have", done.output)
        done = self.keadm("gettoken", *where, "revoke", "nobody")
        self.assertIn("there is no token 'nobody'", done.output)

    def test_no_cloud(self) -> None:
        """Where no cloud is, there is no token, and the line says what to do."""
        done = self.keadm("gettoken", "--data-dir", str(self.cloud_dir))
        self.assertEqual(done.status, 1)
        self.assertIn("admin.kubeconfig is not there", done.output)


class BadInputTests(MachineCase):
    def test_two_clouds(self) -> None:
        """One cloud's token does not join another; with the right one an edge moves."""
        own = self.start_cloud()
        other = self.root / "cloud-2"
        token = self.start_cloud(other)
        done = self.join(token)
        self.assertEqual(done.status, 1)
        self.assertIn("FAIL the cloud's CA is", done.line("ca "))
        self.assertFalse(self.edge_dir.exists())
        self.assertEqual(self.join(own).status, 0)
        first, self.cloud_dir = self.cloud_dir, other
        done = self.join(token)
        self.assertEqual(done.status, 0, done.output)
        self.assertTrue(self.node_ready())
        self.cloud_dir = first

    def test_occupied_port(self) -> None:
        """init names the port that is taken, and its key, and makes nothing."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = self.init(
                *("--set", f"modules.cloudHub.https={{address: 127.0.0.1, port: {port}}}")
            )
        self.assertEqual(done.status, 1)
        self.assertIn(
            f"127.0.0.1:{port} cannot be listened on: Address already in use", done.output
        )
        self.assertIn("--set modules.cloudHub.https.port=", done.output)
        self.assertFalse(self.cloud_dir.exists())

    def test_read_only_folder(self) -> None:
        """A place that cannot be written is named, and another one asked for."""
        for verb in (["init"], ["join", "-e", "127.0.0.1:1", "-t", "x"]):
            done = self.keadm(*verb, "--data-dir", "/proc/kubeedge")
            self.assertEqual(done.status, 1)
            self.assertIn("FAIL /proc/kubeedge cannot be written", done.line("data directory"))
            self.assertIn("data directory: choose another one with --data-dir", done.output)

    def test_read_only_disk(self) -> None:
        """A disk that is read-only where the configuration, or the log, is to be."""
        for file in ("config/cloudcore.yaml", "log/cloudcore.log"):
            folder = (self.cloud_dir / file).parent
            folder.mkdir(parents=True, exist_ok=True)
            done = self.in_mount_namespace(
                f"mount -t tmpfs -o ro none {folder}",
                *("init", "--data-dir", str(self.cloud_dir), *FREE_PORTS),
            )
            self.assertEqual(done.status, 1)
            self.assertIn(f"Error: {self.cloud_dir}/{file}: cannot be written", done.output)
            self.assertIn("Read-only file system", done.line("Error"))

    def test_no_root(self) -> None:
        """Without root all is below the home folder, and systemd is somebody else's."""
        before = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
        env = {"XDG_STATE_HOME": str(self.root / "state")}
        self.cloud_dir = self.root / "state/kubeedge-tx/cloudcore"
        refused = self.keadm("init", "--service", before=before, env=env)
        self.assertIn("Error: --service: this is not root", refused.output)
        self.assertFalse(self.cloud_dir.exists())
        done = self.keadm("init", *FREE_PORTS, before=before, env=env)
        self.assertEqual(done.status, 0, done.output)
        self.assertTrue((self.cloud_dir / "ready.json").exists())
        self.assertEqual(self.keadm("gettoken", before=before, env=env).status, 0)
        gone = self.keadm("reset", "--force", before=before, env=env)
        self.assertEqual(gone.status, 0, gone.output)
        self.assertEqual(list(self.root.iterdir()), [])

    def test_host_name(self) -> None:
        """A machine whose name is no node's name, and no other was given."""
        name = "import os, socket, sys; socket.sethostname('Edge_1')"
        name += "; os.execvp(sys.argv[1], sys.argv[1:])"
        namespace = ("unshare", "--user", "--map-root-user", "--uts", sys.executable, "-c")
        done = self.keadm(
            *("join", "-e", "127.0.0.1:1", "-t", "x", "--data-dir", str(self.edge_dir)),
            before=(*namespace, name),
        )
        self.assertEqual(done.status, 1)
        self.assertIn("FAIL 'edge_1' is no node name", done.line("node name"))
        self.assertIn("node name: give one with --edgenode-name", done.output)
        self.assertFalse(self.edge_dir.exists())

    def test_unknown_key(self) -> None:
        """A key that does not exist is named by its whole path."""
        done = self.init("--set", "modules.cloudHub.nodeLimits=7")
        self.assertEqual(done.status, 1)
        self.assertIn("modules.cloudHub.nodeLimits: there is no such key", done.output)
        self.assertFalse(self.cloud_dir.exists())

    def test_cluster_that_is_of_no_use(self) -> None:
        """A cluster that does not answer, and one that does not know us; nothing is made."""
        self.start_cloud()
        config = yaml.safe_load((self.cloud_dir / "admin.kubeconfig").read_text())
        second = self.root / "cloud-2"
        file = self.root / "kubeconfig"
        cases = (
            (("clusters", "cluster", "server"), "https://127.0.0.1:1", "does not answer"),
            (("users", "user", "token"), "of-nobody", "Unauthorized"),
        )
        for (kind, of, key), value, said in cases:
            changed = json.loads(json.dumps(config))
            changed[kind][0][of][key] = value
            file.write_text(yaml.safe_dump(changed))
            done = self.init("--kube-config", str(file), folder=second)
            self.assertEqual(done.status, 1, done.output)
            self.assertIn("kubernetes FAIL", done.line("kubernetes"))
            self.assertIn(said, done.line("kubernetes"))
            self.assertIn("kubernetes: give a kubeconfig that works", done.output)
            self.assertFalse(second.exists())

    def test_master(self) -> None:
        """Upstream's --master is answered by what to do in its place."""
        done = self.init("--master", "https://192.0.2.9:6443")
        self.assertEqual(done.status, 1)
        self.assertIn("config set-cluster NAME --server https://192.0.2.9:6443", done.line("Error"))
        self.assertFalse(self.cloud_dir.exists())

    def test_systemd_that_is_not_there(self) -> None:
        """--service where systemd does not run says so."""
        if Path("/run/systemd/system").is_dir():
            self.skipTest("systemd runs this machine")
        done = self.init("--service")
        self.assertEqual(done.status, 1)
        self.assertIn("--service: ", done.output)
        self.assertIn("leave it out for a background process", done.output)

    def test_two_at_once(self) -> None:
        """Two keadm on one role: the second one says so and does nothing."""
        token = self.start_cloud()
        pid = json.loads((self.cloud_dir / "ready.json").read_text())["pid"]
        first = self.spawn(*self.join_command(token))
        until("the first one at work", lambda: (self.edge_dir / "keadm.json").exists())
        os.kill(pid, signal.SIGSTOP)
        try:
            second = self.join(token, "--ignore-preflight-errors", "all")
        finally:
            os.kill(pid, signal.SIGCONT)
        output, _ = first.communicate(timeout=60)
        self.assertEqual(first.returncode, 0, output)
        self.assertEqual(second.status, 1, second.output)
        self.assertIn("another keadm is working on", second.output)


class CommandTests(SynchronousTestCase):
    def test_help_is_quick(self) -> None:
        """keadm --help loads no reactor, and nothing of ours but its own file."""
        code = (
            "import sys; sys.argv = ['keadm', '--help']\n"
            "from kubeedge_tx.keadm.main import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "print(*sorted(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        loaded = done.stdout.splitlines()[-1].split()
        self.assertEqual([name for name in loaded if name.startswith("twisted")], [])
        ours = [name for name in loaded if name.startswith("kubeedge_tx.")]
        self.assertEqual(ours, ["kubeedge_tx.keadm", "kubeedge_tx.keadm.main"])

    def test_every_verb_has_help(self) -> None:
        """keadm VERB --help works for each."""
        for verb in VERBS:
            done = CliRunner().invoke(main, [verb, "--help"], prog_name="keadm")
            self.assertEqual(done.exit_code, 0, done.output)
            self.assertIn(f"Usage: keadm {verb}", done.output)
