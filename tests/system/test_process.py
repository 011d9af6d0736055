from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from twisted.internet.threads import deferToThread

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.config.loader import load
from tests.system.roles import (
    TWISTD,
    Process,
    Role,
    SystemCase,
    collection,
    config_map,
    pod,
    reactor,
    until,
)


class StartTests(SystemCase):
    """What keeps a role from starting is said in one line, and the status is 1."""

    async def refused(self, role: Role, *words: str) -> str:
        """Start a role that cannot; returns the line that says why."""
        status = await role.start().ended()
        said = role.process.lines("kubeedge-tx: ")
        self.assertEqual((status, len(said)), (1, 1), role.output)
        for word in words:
            self.assertIn(word, said[0])
        self.assertFalse((role.data_dir / "ready.json").exists())
        return said[0]

    async def test_bad_configuration(self) -> None:
        """An unknown key, a wrong type, a bad option: nothing but the line that names it."""
        role = self.make_cloud({"modules": {"cloudHub": {"nodeLimt": 5}}})
        await self.refused(role, "modules.cloudHub.nodeLimt", "no such key")
        self.assertEqual(len(role.output.splitlines()), 1)
        role = self.make_edge("", {"modules": {"edged": {"nodeLabels": [1]}}})
        await self.refused(role, "modules.edged.nodeLabels", "expected object, got array")
        self.assertEqual(len(role.output.splitlines()), 1)
        role = self.make_edge("", None, "--server", "no-port")
        await self.refused(role, "--server", "HOST:PORT", "no-port")

    async def test_node_name(self) -> None:
        """A node name that is no DNS name is refused, with what would be one."""
        role = self.make_edge(node="Edge_1")
        await self.refused(role, "modules.edged.hostnameOverride", "'Edge_1'", "lower-case letters")

    async def test_port_in_use(self) -> None:
        """The line names the key, the port, and what to do."""
        for port, key in (
            (self.api_port, "modules.apiServer.port"),
            (self.https_port, "modules.cloudHub.https.port"),
            (self.websocket_port, "modules.cloudHub.websocket.port"),
        ):
            with closing(socket.socket()) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("127.0.0.1", port))
                other.listen()
                role = self.make_cloud()
                await self.refused(role, key, f"127.0.0.1:{port}", "in use", "choose another")
            self.assertNotIn("Traceback", role.output)

    async def test_data_dir(self) -> None:
        """A directory that another process has, or that cannot be written, is refused."""
        first, second = self.make_edge(), self.make_edge()
        await first.run()
        status = await second.start().ended()
        self.assertEqual(status, 1)
        (said,) = second.process.lines("kubeedge-tx: ")
        self.assertIn("in use by another process", said)
        self.assertIn(str(first.data_dir), said)
        self.assertTrue((first.data_dir / "ready.json").exists(), "it is the first one's")

        file = self.work / "file"
        file.touch()
        process = Process(
            [TWISTD, "-n", "--pidfile=", "kubeedge-edge", "--data-dir", str(file / "below")]
        )
        process.start()
        self.assertEqual(await process.ended(), 1)
        (said,) = process.lines("kubeedge-tx: ")
        self.assertIn(f"{file / 'below'} cannot be used: Not a directory", said)

    async def test_store(self) -> None:
        """A store of a newer version and a damaged one are left as they are."""
        role = self.make_edge(name="newer")
        role.data_dir.mkdir()
        file = role.data_dir / "edgecore.db"
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA user_version = 9999")
        await self.refused(role, str(file), "written by a newer version", "schema 9999")

        role = self.make_edge(name="damaged")
        role.data_dir.mkdir()
        file = role.data_dir / "edgecore.db"
        file.write_bytes(b"not a database at all " * 1000)
        await self.refused(role, str(file), "damaged", "move the file away")
        self.assertTrue(file.read_bytes().startswith(b"not a database"))

        role = self.make_cloud(name="cloud")
        role.data_dir.mkdir()
        (role.data_dir / "apiserver.db").write_bytes(os.urandom(20000))
        await self.refused(role, "apiserver.db", "damaged", "move it away")


class DiskTests(SystemCase):
    """A file system that takes nothing more."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("mounting a small file system needs root")

    async def mount(self, folder: Path, options: str) -> None:
        """Put a file system of a known size there."""
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True)
        if done.returncode:
            self.skipTest(f"cannot mount here: {done.stderr.strip()}")
        self.addCleanup(lambda: deferToThread(subprocess.run, ["umount", "-l", str(folder)]))

    async def test_read_only(self) -> None:
        """A read-only data directory is named."""
        for role in (self.edge_on("ro"), self.cloud_on("ro")):
            if not role.data_dir.exists():
                await self.mount(role.data_dir, "size=1m,ro")
            self.assertEqual(await role.start().ended(), 1)
            (said,) = role.process.lines("kubeedge-tx: ")
            self.assertIn(f"{role.data_dir} cannot be used: Read-only file system", said)

    async def test_full_at_start(self) -> None:
        """No room for the database: it says so and ends."""
        for role in (self.edge_on("full"), self.cloud_on("full-cloud")):
            await self.mount(role.data_dir, "size=48k")
            self.assertEqual(await role.start().ended(), 1)
            (said,) = role.process.lines("kubeedge-tx: ")
            self.assertIn("the disk is full; free some space", said)

    async def test_full_while_running(self) -> None:
        """What an edge cannot store it does not acknowledge; with room it gets it after all."""
        folder = self.work / "edge"
        await self.mount(folder, "size=24m")
        cloud, edge, api = await self.pair()
        await api.create(config_map("first", text="1"))
        await api.create(
            pod(
                "reader",
                *("sleep", "100000"),
                container={"volumeMounts": [{"name": "v", "mountPath": "/conf"}]},
                volumes=[{"name": "v", "configMap": {"name": "first"}}],
            )
        )
        await self.pod_ready(api, "reader", cloud, edge)
        filler = folder / "filler"
        self.addCleanup(filler.unlink, missing_ok=True)
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096) == 4096:
                pass
        await api.patch(f"{collection('ConfigMap')}/first", {"data": {"text": "2" * 100_000}})
        await until("the edge to complain", lambda: "the disk is full" in edge.output, edge)
        self.assertIsNone(edge.process.status)
        changed = await api.get(f"{collection('ConfigMap')}/first")
        name = f"edge.{changed['metadata']['uid']}"
        path = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs/" + name
        version = changed["metadata"]["resourceVersion"]

        async def recorded() -> bool:
            sync = await api.get(path)
            status = (sync or {}).get("status") or {}
            return bool(status.get("objectResourceVersion") == version)

        self.assertFalse(await recorded())
        filler.unlink()
        await until("the new version to be stored", recorded, cloud, edge)

    def edge_on(self, name: str) -> Role:
        return self.make_edge(name=name)

    def cloud_on(self, name: str) -> Role:
        return self.make_cloud(name=name)


class LifeTests(SystemCase):
    """Starting and stopping in order."""

    async def test_stop(self) -> None:
        """SIGTERM ends both within seconds, with status 0 and without ``ready.json``."""
        cloud, edge, _api = await self.pair()
        for role in (edge, cloud):
            before = reactor.seconds()
            self.assertEqual(await role.process.stop(), 0, role.output)
            self.assertLess(reactor.seconds() - before, 15)
            self.assertFalse((role.data_dir / "ready.json").exists())

    async def test_stop_before_ready(self) -> None:
        """A cloud that waits for its API server can be stopped too."""
        cloud = self.make_cloud(None, "--kubeconfig", str(self.kubeconfig()))
        cloud.start()
        await until("it to wait", lambda: "waiting for the Kubernetes API" in cloud.output, cloud)
        self.assertEqual(await cloud.process.stop(), 0, cloud.output)

    def kubeconfig(self) -> Path:
        """One that leads to a port of ours where nobody listens."""
        file = self.work / "kubeconfig"
        cluster: Any = {"server": f"https://127.0.0.1:{self.api_port}"}
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "none"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file.write_text(yaml.safe_dump(tree))
        return file

    async def test_api_server_away(self) -> None:
        """A cloud keeps asking for its API server, and is ready when that has come."""
        api_cloud = self.make_cloud(name="api")
        await api_cloud.run()  # for its kubeconfig; then it is away
        kubeconfig = api_cloud.data_dir / "admin.kubeconfig"
        await api_cloud.process.stop()
        hub = {"websocket": {"port": 0}, "https": {"port": 0}}
        ours = self.make_cloud(
            {"modules": {"cloudHub": hub}}, "--kubeconfig", str(kubeconfig), name="ours"
        )
        ours.start()
        await until("it to wait", lambda: "waiting for the Kubernetes API" in ours.output, ours)
        self.assertIsNone(ours.process.status)
        await api_cloud.run()
        ports = await ours.ready()
        self.assertNotIn("api", ports)

    async def test_printed_configuration(self) -> None:
        """--defaultconfig and --minconfig print YAML that the loader takes."""
        forms: Any = {"kubeedge-cloud": CloudCoreConfig, "kubeedge-edge": EdgeCoreConfig}
        for role, form in forms.items():
            for option in ("--defaultconfig", "--minconfig"):
                process = Process([TWISTD, "-n", role, option])
                process.start()
                self.assertEqual(await process.ended(), 0, process.output)
                loaded = load(process.output, form, option)
                if option == "--defaultconfig":
                    self.assertEqual(loaded, form())

    async def test_tac(self) -> None:
        """The .tac files run with KUBEEDGE_CONFIG."""
        root = Path(__file__).parents[2]
        for name, role in (("cloud", self.make_cloud()), ("edge", self.make_edge())):
            role.config_file.write_text(yaml.safe_dump(role.config))
            environment = {
                "KUBEEDGE_CONFIG": str(role.config_file),
                "KUBEEDGE_DATA_DIR": str(role.data_dir),
            }
            process = Process(
                [TWISTD, "-n", "--pidfile=", "-y", str(root / "tac" / f"{name}.tac")], environment
            )
            process.start()
            self.addCleanup(process.stop)
            await until("it to be ready", partial(ready_or_over, process))
            self.assertTrue(process.lines(f"kubeedge-{name} is ready"), process.output)
            self.assertEqual(await process.stop(), 0, process.output)


def ready_or_over(process: Process) -> bool:
    """Whether a role has nothing more to say about its start."""
    return bool(process.lines(" is ready: ")) or process.status is not None
