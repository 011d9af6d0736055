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
from typing import Any
from urllib.request import urlopen

import yaml
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.config import cloudcore, edgecore
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


def set_keys(tree: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Set keys of a configuration by their paths; returns these in order."""
    for path, value in values.items():
        *parents, last = path.split(".")
        block = tree
        for parent in parents:
            block = block.setdefault(parent, {})
        block[last] = value
    return sorted(values)


class ReloadTests(MachineCase):
    def config(self, folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
        """A role's configuration: its file, and what is in it."""
        path = folder / "config" / f"{name}.yaml"
        return path, yaml.safe_load(path.read_text())

    def hang_up(self, folder: Path) -> None:
        """Tell a role to read its configuration again."""
        os.kill(json.loads((folder / "ready.json").read_text())["pid"], signal.SIGHUP)

    def reload(self, folder: Path, config: str | dict[str, Any], said: str) -> str:
        """Let a role read another configuration; returns its log once that has ``said``."""
        (path,) = (folder / "config").glob("*.yaml")
        (log,) = (folder / "log").glob("*.log")
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        self.hang_up(folder)
        return str(until(said, lambda: said in log.read_text() and log.read_text()))

    def test_reload_edge(self) -> None:
        """An edge takes other servers, rates and times; an address that is none changes nothing."""
        self.assertEqual(self.join(self.start_cloud()).status, 0)
        _, tree = self.config(self.edge_dir, "edgecore")
        server = tree["modules"]["edgeHub"]["websocket"]["server"]
        values: dict[str, Any] = {key: 7 for key in edgecore.RELOADABLE if "token" not in key}
        values["modules.edgeHub.websocket.server"] = f"{server},:10000"
        set_keys(tree, values)
        written = self.reload(self.edge_dir, tree, "the configuration stays as it was: ")
        self.assertIn("stays as it was: modules.edgeHub.websocket.server", written)
        values["modules.edgeHub.websocket.server"] = f"127.0.0.1:1,{server}"
        # its token was used, and removed from the file, by the edge itself
        keys = sorted([*set_keys(tree, values), "modules.edgeHub.token"])
        written = self.reload(self.edge_dir, tree, "read the configuration again")
        self.assertIn(f"read the configuration again; new: {', '.join(keys)}\n", written)
        self.assertNotIn("need a restart", written)
        with urlopen(f"http://127.0.0.1:{self.ports(self.edge_dir)['metrics']}/debug") as answer:
            connection = json.load(answer)["connection"]
        self.assertEqual(connection["servers"], ["127.0.0.1:1", server])
        self.assertTrue(connection["up"])

    def test_reload(self) -> None:
        """SIGHUP takes over what it can, names what it cannot, and refuses what is wrong."""
        self.start_cloud()
        config, tree = self.config(self.cloud_dir, "cloudcore")
        wrong = "kind: CloudCore\nnonsense: 1\n"
        self.reload(self.cloud_dir, wrong, "the configuration stays as it was: nonsense")
        keys = set_keys(tree, {key: 2 for key in cloudcore.RELOADABLE if "legacy" not in key})
        tree["modules"]["cloudHub"]["dnsNames"] = ["cloud.example"]
        tree["commonConfig"]["logging"] = {"levels": {"cloud.cloudhub": "debug"}}
        written = self.reload(self.cloud_dir, tree, "need a restart: modules.cloudHub.dnsNames\n")
        keys = ["commonConfig.logging.levels.cloud.cloudhub", *keys]
        self.assertIn(f"read the configuration again; new: {', '.join(keys)}\n", written)
        tree["commonConfig"]["logging"] = {"format": "json"}
        self.reload(self.cloud_dir, tree, '"event": "read the configuration again')
        tree["commonConfig"]["logging"] = {"level": "error"}
        config.write_text(yaml.safe_dump(tree))
        self.hang_up(self.cloud_dir)
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
