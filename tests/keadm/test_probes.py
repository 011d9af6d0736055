"""Each probe fails for real, and says what a person can do about it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from email.utils import formatdate
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.keadm.certificate import certificate
from kubeedge_tx.security.authority import Authority
from kubeedge_tx.security.token import make_token
from tests.fakes.certificates import edge_pair, real_now
from tests.keadm.machine import EDGE_PORTS, Done, FakeCloud, MachineCase, until


class LocalProbeTests(MachineCase):
    """What is wrong with this machine; the cloud is of no matter here."""

    def check(self, *arguments: str) -> Done:
        done = self.keadm(*self.words(*arguments))
        self.assertEqual(done.status, 1)
        return done

    def words(self, *arguments: str, folder: Path | None = None) -> list[str]:
        return [
            *("check", "-e", "127.0.0.1:1", "-s", "1", "--data-dir", str(folder or self.edge_dir)),
            *("-r", "process", *EDGE_PORTS, *arguments),
        ]

    def test_name(self) -> None:
        """A host name that is no node name."""
        done = self.check("-i", "Edge_1")
        self.assertIn("FAIL 'Edge_1' is no node name: lower-case letters", done.line("node name"))
        self.assertIn("node name: give one with --edgenode-name", done.output)

    def test_data_dir(self) -> None:
        """A folder on a disk that is mounted read-only."""
        self.edge_dir.mkdir()
        done = self.in_mount_namespace(f"mount -t tmpfs -o ro none {self.edge_dir}", *self.words())
        self.assertIn("FAIL", done.line("data directory"))
        self.assertIn("cannot be written: Read-only file system", done.line("data directory"))

    def test_disk(self) -> None:
        """A disk of eight megabytes."""
        self.edge_dir.mkdir()
        done = self.in_mount_namespace(
            f"mount -t tmpfs -o size=8m none {self.edge_dir}", *self.words()
        )
        self.assertIn(f"FAIL 8 MB free at {self.edge_dir}, 512 MB are needed", done.line("disk"))

    def test_memory(self) -> None:
        """A machine with little memory left."""
        fake = self.root / "meminfo"
        fake.write_text("MemTotal: 500000 kB\nMemAvailable: 65536 kB\n")
        done = self.in_mount_namespace(f"mount --bind {fake} /proc/meminfo", *self.words())
        self.assertIn("FAIL 64 MB available, 128 MB are needed", done.line("memory"))

    def test_pids(self) -> None:
        """A machine with no process numbers left."""
        fake = self.root / "pid_max"
        fake.write_text("1\n")
        done = self.in_mount_namespace(
            f"mount --bind {fake} /proc/sys/kernel/pid_max", *self.words()
        )
        self.assertIn("FAIL", done.line("pids"))
        self.assertIn("of 1 in use", done.line("pids"))

    def test_kubelet(self) -> None:
        """A kubelet on the same machine."""
        program = self.root / "kubelet"
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        process = subprocess.Popen([program, "60"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        comm = Path(f"/proc/{process.pid}/comm")
        until("its start", lambda: comm.read_text().strip() == "kubelet")
        done = self.check()
        self.assertIn("FAIL kubelet runs here (process ", done.line("kubelet"))
        allowed = self.keadm(*self.words(), env={"CHECK_EDGECORE_ENVIRONMENT": "false"})
        self.assertIn("kubelet - not looked for", allowed.line("kubelet"))

    def test_runtime(self) -> None:
        """A Docker engine that is wanted and not there, or is something else."""
        folder = tempfile.mkdtemp()  # a socket's path is at most 107 bytes long
        self.addCleanup(shutil.rmtree, folder)
        address = f"unix://{folder}/docker.sock"
        done = self.check("-r", "docker", "-p", address)
        self.assertIn(
            f"FAIL no Docker engine at {address}: No such file or directory", done.line("runtime")
        )
        done = self.check("-r", "auto", "-p", address)
        self.assertIn("WARN no Docker engine", done.line("runtime"))
        self.assertIn("pods will run as processes, without isolation", done.line("runtime"))

    def test_cgroups(self) -> None:
        """A machine without cgroups, and Docker that needs them."""
        script = "mount -t tmpfs none /sys/fs/cgroup"
        done = self.in_mount_namespace(script, *self.words("-r", "docker"))
        self.assertIn("FAIL no cgroups at /sys/fs/cgroup", done.line("cgroups"))
        done = self.in_mount_namespace(script, *self.words())
        self.assertIn("WARN no cgroups at /sys/fs/cgroup", done.line("cgroups"))

    def test_ports(self) -> None:
        """Something else listens on the status port."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = self.check("--set", f"commonConfig.monitorServer.bindAddress=127.0.0.1:{port}")
        self.assertIn(f"FAIL 127.0.0.1:{port} cannot be listened on", done.line("ports"))
        self.assertIn("--set commonConfig.monitorServer.bindAddress=", done.output)

    def test_mqtt(self) -> None:
        """An external broker that is not there, or is no broker."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            external = ("--set", f"modules.eventBus.mqttServerExternal=tcp://127.0.0.1:{port}")
            other.close()
            done = self.check(*external, "--set", "modules.eventBus.mqttMode=2")
        self.assertIn(f"WARN no MQTT broker at 127.0.0.1:{port}", done.line("mqtt"))
        self.assertIn("--set modules.eventBus.mqttMode=0", done.output)

    def test_dns(self) -> None:
        """A cloud's name that leads nowhere; what needs the cloud is not tried."""
        done = self.keadm(
            *("check", "-e", "cloud.invalid:10000", "--data-dir", str(self.edge_dir)), *EDGE_PORTS
        )
        self.assertIn("FAIL cloud.invalid cannot be resolved", done.line("dns"))
        self.assertIn("- the cloud cannot be asked", done.line("name free"))

    def test_cloud_port(self) -> None:
        """A cloud that does not listen."""
        done = self.check()
        for name in ("cloud port", "certificate port"):
            self.assertIn("FAIL 127.0.0.1:1 cannot be reached: Connection refused", done.line(name))
        self.assertIn("is the cloud running, is the address right", done.output)


class CloudProbeTests(MachineCase):
    """What is wrong with the cloud, or with what we know of it."""

    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeCloud(self.root / "fake")
        self.addCleanup(self.fake.close)
        authority = self.fake.authority
        self.token = make_token(authority.cert_der, authority.key_der, int(time.time()) + 3600)

    def check(self, *arguments: str, token: str | None = None, host: str = "127.0.0.1") -> Done:
        return self.keadm(
            *("check", "-e", f"{host}:{self.fake.port}", "-s", str(self.fake.port)),
            *("-t", self.token if token is None else token, "-i", "edge-1", "-r", "process"),
            *("--data-dir", str(self.edge_dir), *EDGE_PORTS, *arguments),
        )

    def test_all_is_well(self) -> None:
        """With a cloud as it should be, nothing fails."""
        done = self.check()
        self.assertEqual(done.status, 0, done.output)
        self.assertNotIn("FAIL", done.output)

    def test_certificate_port(self) -> None:
        """A port with something else behind it."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            done = self.check("-s", str(port))
        self.assertEqual(done.status, 1)
        self.assertIn(
            f"FAIL what answers at 127.0.0.1:{port} is no KubeEdge cloud",
            done.line("certificate port"),
        )

    def test_token(self) -> None:
        """No token, half a token, and one that is over."""
        done = self.check(token="")
        self.assertIn("FAIL there is none", done.line("token"))
        done = self.check(token=self.token[:100])
        self.assertIn("FAIL the token has", done.line("token"))
        authority = self.fake.authority
        old = make_token(authority.cert_der, authority.key_der, int(time.time()) - 7200)
        done = self.check(token=old)
        self.assertEqual(done.status, 1)
        self.assertIn("FAIL expired 2 h ago", done.line("token"))
        self.assertIn("token: get a new one with `keadm gettoken`", done.output)

    def test_ca(self) -> None:
        """A token of another cloud."""
        other = "ab" * 32 + self.token[64:]
        done = self.check(token=other)
        self.assertEqual(done.status, 1)
        self.assertIn("the token was made for abababababab…", done.line("ca "))

    def test_server_name(self) -> None:
        """A cloud called by an address that is not in its certificate."""
        done = self.check(host="127.0.0.2")
        self.assertIn("cannot be reached", done.output)  # the fake listens on one address only
        real = self.start_cloud()
        done = self.keadm(
            *("check", *self.cloud_options(host="127.0.0.2"), "-t", real, "-r", "process"),
            *("--data-dir", str(self.edge_dir), *EDGE_PORTS),
        )
        self.assertEqual(done.status, 1)
        self.assertIn("FAIL the cloud's certificate is not for 127.0.0.2", done.line("server name"))
        self.assertIn("keadm init --advertise-address 127.0.0.2", done.output)

    def test_clock(self) -> None:
        """Clocks that are an hour apart, or a little."""
        self.fake.date = formatdate(time.time() + 3600, usegmt=True)
        done = self.check()
        self.assertEqual(done.status, 1)
        self.assertIn("FAIL this machine is", done.line("clock"))
        self.assertIn("behind the cloud", done.line("clock"))
        self.assertIn("clock: set the clock", done.output)
        self.fake.date = formatdate(time.time() - 130, usegmt=True)
        done = self.check()
        self.assertEqual(done.status, 0)
        self.assertIn("WARN this machine is 2 min ahead of the cloud", done.line("clock"))

    def test_name_free(self) -> None:
        """A name that another machine has."""
        self.fake.nodes.add("edge-1")
        done = self.check()
        self.assertEqual(done.status, 1)
        self.assertIn("FAIL there is a node edge-1 already", done.line("name free"))
        self.assertIn("kubectl delete node edge-1", done.output)


class CertificateProbeTests(SynchronousTestCase):
    """The certificate that an edge has."""

    def test_each(self) -> None:
        """None yet, a good one, one that has ended, one that ended long ago, and garbage."""
        folder = Path(self.mktemp())
        folder.mkdir()
        file = folder / "server.crt"
        now = real_now().timestamp()
        self.assertEqual(certificate(file, now).state, "skip")
        pair = edge_pair(Authority.create(now=real_now()), days=10)
        file.write_bytes(pair.cert_pem)
        for days, state, words in (
            (0, "ok", "in 10 days"),
            (12, "warn", "2 days ago; it renews itself"),
            (41, "fail", "31 days ago: too long ago"),
        ):
            found = certificate(file, now + days * 86_400)
            self.assertEqual(found.state, state)
            self.assertIn(words, found.text)
        self.assertIn("keadm gettoken", found.advice)
        file.write_bytes(b"garbage")
        self.assertEqual(certificate(file, now).state, "fail")
