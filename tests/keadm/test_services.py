"""Units, readiness, the watchdog, and a configuration that changes under a running cloud."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from urllib.request import urlopen

import yaml
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.keadm import units
from kubeedge_tx.keadm.places import Places, RoleName, system_dir
from kubeedge_tx.keadm.service import twistd
from tests.keadm.machine import FREE_PORTS, PATIENCE, MachineCase, until

EXPOSED: dict[tuple[RoleName, str], float] = {("cloud", ""): 2.5, ("edge", "docker"): 3.5}
"""Most that ``systemd-analyze security`` may say of a unit."""


class UnitTests(SynchronousTestCase):
    if shutil.which("systemd-analyze") is None:
        skip = "systemd-analyze is not installed"

    def analyze(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
        )

    def unit(self, role: RoleName, runtime: str, places: Places | None = None) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        places = places or Places(role, system_dir(role))
        path = folder / f"{places.program}.service"
        path.write_text(units.render(places, twistd(), runtime=runtime))
        return path

    def test_verify(self) -> None:
        """systemd finds nothing to say about any of our units."""
        for role, runtime in (*EXPOSED, ("edge", "process")):
            path = self.unit(role, runtime)
            done = self.analyze("verify", "--man=no", str(path))
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_odd_folder(self) -> None:
        """A path with blanks, per cents and dollars is quoted."""
        odd = Places("cloud", Path('/srv/100% of $HOME "x"'))
        path = self.unit("cloud", "", odd)
        self.assertEqual(self.analyze("verify", "--man=no", str(path)).stderr, "")
        self.assertIn('"/srv/100%% of $$HOME \\"x\\""', path.read_text())

    def test_sandbox(self) -> None:
        """The score of systemd-analyze security stays where it is."""
        for (role, runtime), most in EXPOSED.items():
            path = self.unit(role, runtime)
            done = self.analyze("security", "--offline=yes", "--no-pager", str(path))
            score = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
            assert score is not None, done.stdout + done.stderr
            self.assertLessEqual(float(score[1]), most)


class NotifyTests(MachineCase):
    def test_ready_alive_stopping(self) -> None:
        """As systemd hears it: ready when it is, alive again and again, then stopping."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.settimeout(PATIENCE)
            # A path of a socket has at most 107 bytes, the abstract ones no file.
            name = f"kubeedge-tx-{os.getpid()}-{id(self)}"
            systemd.bind(f"\0{name}")
            done = self.keadm(
                *("init", "--data-dir", str(self.cloud_dir), *FREE_PORTS),
                env={"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "2000000"},
            )
            self.assertEqual(done.status, 0, done.output)
            first = systemd.recv(1000).decode()
            self.assertTrue(first.startswith("READY=1\nSTATUS=ready: "), first)
            self.assertEqual([systemd.recv(1000) for _ in range(2)], [b"WATCHDOG=1"] * 2)
            self.keadm("reset", "cloud", "--data-dir", str(self.cloud_dir), "--force")
            said = systemd.recv(1000)
            while said == b"WATCHDOG=1":
                said = systemd.recv(1000)
            self.assertEqual(said, b"STOPPING=1")


class LogTests(MachineCase):
    def test_large_log(self) -> None:
        """A background process begins its log anew before it fills the disk, and goes on in it."""
        self.start_cloud()
        log = self.cloud_dir / "log" / "cloudcore.log"
        os.truncate(log, 11_000_000)
        older = log.with_name("cloudcore.log.1")
        until("the change", older.exists)
        self.assertIn("kubeedge-cloud is ready", older.read_text())
        os.kill(json.loads((self.cloud_dir / "ready.json").read_text())["pid"], signal.SIGHUP)
        until("the new log", lambda: "read the configuration again" in log.read_text())
        self.assertLess(log.stat().st_size, 10_000)
        self.assertEqual((log.stat().st_mode & 0o777, older.stat().st_mode & 0o777), (0o600,) * 2)


class ReloadTests(MachineCase):
    def test_reload(self) -> None:
        """SIGHUP takes over what it can, names what it cannot, and refuses what is wrong."""
        self.start_cloud()
        pid = json.loads((self.cloud_dir / "ready.json").read_text())["pid"]
        config = self.cloud_dir / "config" / "cloudcore.yaml"
        log = self.cloud_dir / "log" / "cloudcore.log"
        tree = yaml.safe_load(config.read_text())

        def reload(text: str, said: str) -> str:
            config.write_text(text)
            os.kill(pid, signal.SIGHUP)
            return str(until(said, lambda: said in log.read_text() and log.read_text()))

        reload("kind: CloudCore\nnonsense: 1\n", "the configuration stays as it was: nonsense")
        tree["commonConfig"]["logging"] = {"levels": {"cloud.cloudhub": "debug"}}
        tree["modules"]["cloudHub"]["nodeLimit"] = 7
        tree["modules"]["cloudHub"]["tokenRefreshDuration"] = 24
        written = reload(yaml.safe_dump(tree), "need a restart: modules.cloudHub.nodeLimit")
        self.assertIn("new: commonConfig.logging.levels.cloud.cloudhub, modules.cloudHub.", written)
        tree["commonConfig"]["logging"] = {"level": "error"}
        config.write_text(yaml.safe_dump(tree))
        os.kill(pid, signal.SIGHUP)
        # Nothing more is logged but errors; the state can be asked for all the same.
        port = self.ports()["metrics"]
        with urlopen(f"http://127.0.0.1:{port}/debug") as answer:
            state = json.load(answer)
        self.assertEqual((state["role"], state["waitingFor"]), ("cloud", None))
        self.assertEqual(state["sessions"], 0)

    def test_debug_has_no_secret(self) -> None:
        """/debug of both roles shows no token and no key."""
        token = self.start_cloud()
        self.assertEqual(self.join(token).status, 0)
        for folder in (self.cloud_dir, self.edge_dir):
            with urlopen(f"http://127.0.0.1:{self.ports(folder)['metrics']}/debug") as answer:
                text = answer.read().decode()
            self.assertIn('"version"', text)
            for secret in (token, token.rpartition(".")[2], "PRIVATE KEY"):
                self.assertNotIn(secret, text)
