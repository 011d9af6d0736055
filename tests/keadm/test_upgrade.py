"""Another version, and the way back; many machines at once."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import yaml

from kubeedge_tx import VERSION
from kubeedge_tx.keadm.batch import Batch
from tests.keadm.machine import KEADM, Done, MachineCase, until


class UpgradeTests(MachineCase):
    """The new version is ours under another number, in an environment that is made of scripts."""

    def new_version(self, name: str, twistd: str) -> Path:
        """Make an environment that calls itself 9.9.9.

        :param twistd: the script of its ``twistd``; ``$real`` is the true one.
        """
        folder = self.root / name / "bin"
        folder.mkdir(parents=True)
        real = Path(sys.executable)
        scripts = {
            "python": f'case "$*" in *VERSION*) echo 9.9.9;; *) exec {real} "$@";; esac',
            "twistd": f"real={real.with_name('twistd')}\n{twistd}",
        }
        for program, text in scripts.items():
            (folder / program).write_text(f"#!/bin/sh\n{text}\n")
            (folder / program).chmod(0o755)
        return folder.parent

    def edge(self, *arguments: str) -> Done:
        return self.keadm(*arguments, "--data-dir", str(self.edge_dir))

    def program(self) -> list[str]:
        """The command line of the edge that runs."""
        pid = json.loads((self.edge_dir / "ready.json").read_text())["pid"]
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")

    def start(self) -> None:
        done = self.join(self.start_cloud())
        self.assertEqual(done.status, 0, done.output)

    def report(self) -> dict[str, object]:
        return dict(json.loads((self.edge_dir / "upgrade_report.json").read_text()))

    def test_up_and_back(self) -> None:
        """The new version runs and is connected; rollback brings the old one back."""
        self.start()
        good = self.new_version("good", 'NEW=1 exec "$real" "$@"')
        done = self.edge("upgrade", "edge", "--venv", str(good))
        self.assertEqual(done.status, 0, done.output)
        self.assertIn("edgecore v9.9.9 runs", done.output)
        pid = json.loads((self.edge_dir / "ready.json").read_text())["pid"]
        self.assertIn("NEW=1", Path(f"/proc/{pid}/environ").read_text().split("\0"))
        self.assertTrue(self.report()["success"])
        self.assertEqual(self.report()["toVersion"], "v9.9.9")
        # The same join again does not bring the old program back.
        self.assertEqual(self.join("").status, 0)
        self.assertIn("9.9.9", (self.edge_dir / "keadm.json").read_text())
        back = self.edge("rollback", "edge")
        self.assertEqual(back.status, 0, back.output)
        self.assertIn(f"back at edgecore v{VERSION}, with the store as it is", back.output)
        self.assertEqual(self.report()["event"], "Rollback")

    def test_a_version_that_does_not_start(self) -> None:
        """A new version that breaks the store and ends: the old one runs, with its store."""
        self.start()
        store = self.edge_dir / "edgecore.db"
        spoil = (
            f"{sys.executable} -c \"import sqlite3; d = sqlite3.connect('{store}');"
            " d.execute('PRAGMA user_version = 999'); d.execute('DELETE FROM meta'); d.commit()\"\n"
            "echo 'it has no luck'; exit 1"
        )
        bad = self.new_version("bad", spoil)
        done = self.edge("upgrade", "edge", "--venv", str(bad))
        self.assertEqual(done.status, 1, done.output)
        self.assertIn("v9.9.9 does not work: edgecore has ended: it has no luck", done.output)
        self.assertIn(f"v{VERSION} runs again", done.output)
        self.assertTrue(self.node_ready())
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as opened:
            self.assertGreater(opened.execute("SELECT count(*) FROM meta").fetchone()[0], 0)
        self.assertFalse(self.report()["success"])

    def test_a_version_that_never_gets_ready(self) -> None:
        """Ctrl-C in the middle of an upgrade, or its timeout, leaves the old version running."""
        self.start()
        code = "import time; time.sleep(600)"
        bad = self.new_version("bad", f"exec {sys.executable} -c '{code}' \"$@\"")
        process = self.spawn(
            *("upgrade", "edge", "--venv", str(bad), "--data-dir", str(self.edge_dir))
        )
        record = self.edge_dir / "keadm.json"
        until("the switch", lambda: "9.9.9" in record.read_text())
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, output)
        self.assertIn(f"back at edgecore v{VERSION}", output)
        self.assertNotIn("9.9.9", record.read_text())
        self.assertIn(str(Path(sys.executable).with_name("twistd")), self.program())
        done = self.edge("upgrade", "edge", "--venv", str(bad), "--timeout", "3")
        self.assertEqual(done.status, 1, done.output)
        self.assertIn("edgecore is not ready yet", done.output)
        self.assertIn(f"back at edgecore v{VERSION}, with the store as it is", done.output)
        self.assertTrue(self.node_ready())

    def test_before_an_upgrade(self) -> None:
        """What is no new version, or refuses the configuration, is found before the stop.

        A backup can be made while it runs, and gone back to by its version.
        """
        self.start()
        pid = json.loads((self.edge_dir / "ready.json").read_text())["pid"]
        done = self.edge("upgrade", "edge", "--venv", str(self.root / "nowhere"))
        self.assertEqual(done.status, 1)
        self.assertIn("has no KubeEdge-TX", done.output)
        config = self.edge_dir / "config" / "edgecore.yaml"
        right = config.read_text()
        config.write_text(right + "nonsense: 1\n")
        good = self.new_version("good", 'exec "$real" "$@"')
        done = self.edge("upgrade", "edge", "--venv", str(good))
        config.write_text(right)
        self.assertIn("nonsense: there is no such key", done.output)
        os.kill(pid, 0)

        done = self.edge("backup", "edge")
        self.assertEqual(done.status, 0, done.output)
        missing = self.edge("rollback", "edge", "--historical-version", "v0.0.1")
        self.assertIn("has no backup of v0.0.1", missing.output)
        back = self.edge(
            *("rollback", "edge", "--historical-version", f"v{VERSION}", "--restore-store")
        )
        self.assertEqual(back.status, 0, back.output)
        self.assertIn("with the store of", back.output)
        self.assertTrue(self.node_ready())


class BatchTests(MachineCase):
    """``ssh`` is a script that runs what it is told on this machine."""

    def setUp(self) -> None:
        super().setUp()
        self.ssh = self.root / "ssh"
        self.ssh.write_text(
            "#!/bin/sh\n"
            'while [ "$1" != -- ]; do shift; done\n'
            'case "$2" in *unreachable) echo "no route to host" >&2; exit 255;; esac\n'
            'shift 2; exec sh -c "$*"\n'
        )
        self.ssh.chmod(0o755)

    def batch(self, hosts: dict[str, str], *arguments: str, token: str) -> Done:
        ports = self.ports()
        tree = {
            "cloudcoreIpport": f"127.0.0.1:{ports['websocket']}",
            "certport": ports["https"],
            "keadm": " ".join(KEADM),
            "joinArguments": "--runtimetype process "
            "--set commonConfig.monitorServer.bindAddress=127.0.0.1:0 "
            "--set modules.eventBus.mqttServerInternal=tcp://127.0.0.1:0",
            "nodes": [
                {
                    "nodeName": name,
                    "ssh": {"ip": host},
                    "joinArguments": f"--data-dir {self.root}/edge-{name}",
                }
                for name, host in hosts.items()
            ],
        }
        file = self.root / "batch.yaml"
        file.write_text(yaml.safe_dump(tree))
        return self.keadm(
            *("batch", "-c", str(file), "--ssh", str(self.ssh), "-t", token),
            *("--log", str(self.root / "log.txt"), *arguments),
        )

    def test_several(self) -> None:
        """Those that can join do; those that cannot are named, and all is in the log."""
        token = self.start_cloud()
        done = self.batch({"one": "a", "two": "unreachable", "three": "c"}, token=token)
        self.assertEqual(done.status, 1)
        self.assertEqual(done.line("two  "), "two FAILED no route to host")
        self.assertTrue(done.line("one  ").startswith("one ok"))
        self.assertTrue(self.node_ready("one"))
        self.assertTrue(self.node_ready("three"))
        log = (self.root / "log.txt").read_text()
        self.assertIn("=== two: status 255", log)
        self.assertNotIn(token, log + done.output)

    def test_bad_files(self) -> None:
        """What is wrong with the file is said before anything is done."""
        file = self.root / "batch.yaml"
        file.write_text("cloudcoreIpport: a:1\nnodes: [{nodeName: a, ssh: {}}]\n")
        done = self.keadm("batch", "-c", str(file), "-t", "x")
        self.assertIn("nodes[0].ssh.ip: this key is required", done.output)
        node = "{nodeName: a, ssh: {ip: b}}"
        file.write_text(f"cloudcoreIpport: a:1\nnodes: [{node}, {node}]\n")
        done = self.keadm("batch", "-c", str(file))
        self.assertIn("there is no token", done.output)
        done = self.keadm("batch", "-c", str(file), "-t", "x")
        self.assertIn("two machines have the name a", done.output)
        example = yaml.safe_load(self.keadm("batch", "gen-config").output)
        self.assertEqual(len(msgspec.convert(example, Batch).nodes), 2)
