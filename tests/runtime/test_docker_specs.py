"""The translation between our words and the engine's, and the sandbox's program."""

from __future__ import annotations

import io
import os
import platform
import signal
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import requests
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime import docker_specs as specs
from kubeedge_tx.runtime.docker_engine import json_lines
from kubeedge_tx.runtime.docker_pause import pause_archive, pause_program
from kubeedge_tx.runtime.images import parse_image
from kubeedge_tx.runtime.interfaces import (
    ContainerSpec,
    ImageAuth,
    LogLimits,
    PortMapping,
    SandboxSpec,
)

SANDBOX = SandboxSpec(namespace="default", pod="web", uid="u1", hostname="web")


class ConfigTests(SynchronousTestCase):
    """What is asked of the engine."""

    def test_log(self) -> None:
        """The engine keeps as much output as the edge's configuration says."""
        log = self.config(ContainerSpec(name="main", image="busybox"))["HostConfig"]["LogConfig"]
        self.assertEqual(log["Type"], "json-file")
        self.assertEqual(log["Config"], {"max-size": "4096", "max-file": "2"})

    def config(self, spec: ContainerSpec, **sandbox: Any) -> dict[str, Any]:
        given_sandbox = SandboxSpec(
            namespace="default", pod="web", uid="u1", hostname="web", **sandbox
        )
        inspected = specs.sandbox_config(given_sandbox, "pause", "node-1")
        inspected["Config"] = {"Labels": inspected["Labels"]}
        return specs.container_config("s1", inspected, spec, LogLimits(file_bytes=4096, files=2))

    def test_namespaces(self) -> None:
        """A container joins its sandbox's namespaces, or the host's where the pod does."""
        plain = self.config(ContainerSpec(name="main", image="x"))["HostConfig"]
        self.assertEqual(
            (plain["NetworkMode"], plain["IpcMode"], plain["PidMode"]),
            ("container:s1", "container:s1", ""),
        )
        shared = self.config(ContainerSpec(name="main", image="x"), share_processes=True)
        self.assertEqual(shared["HostConfig"]["PidMode"], "container:s1")
        host = self.config(ContainerSpec(name="main", image="x"), host_pid=True, host_ipc=True)
        self.assertEqual(
            (host["HostConfig"]["PidMode"], host["HostConfig"]["IpcMode"]), ("host", "host")
        )

    def test_image_decides(self) -> None:
        """What the pod does not say is left to the image."""
        config = self.config(ContainerSpec(name="main", image="x"))
        for key in ("Entrypoint", "Cmd", "WorkingDir", "User"):
            self.assertNotIn(key, config)

    def test_no_swap(self) -> None:
        """A memory limit is not stretched by swap."""
        host = self.config(ContainerSpec(name="m", image="x", memory_bytes_limit=1 << 27))
        self.assertEqual(host["HostConfig"]["Memory"], host["HostConfig"]["MemorySwap"])

    def test_ports(self) -> None:
        """Ports are published on the sandbox; one without a host port is not."""
        ports = (
            PortMapping(container_port=80, host_port=8080),
            PortMapping(container_port=53, host_port=53, protocol="UDP", host_ip="10.0.0.1"),
            PortMapping(container_port=9, host_port=0),
        )
        spec = SandboxSpec(namespace="a", pod="b", uid="c", hostname="b", ports=ports)
        config = specs.sandbox_config(spec, "pause", "node-1")
        self.assertEqual(set(config["ExposedPorts"]), {"80/tcp", "53/udp", "9/tcp"})
        self.assertEqual(
            config["HostConfig"]["PortBindings"],
            {
                "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                "53/udp": [{"HostIp": "10.0.0.1", "HostPort": "53"}],
            },
        )

    def test_host_network(self) -> None:
        """On the host's network there is no name to set and nothing to publish."""
        spec = SandboxSpec(
            namespace="a",
            pod="b",
            uid="c",
            hostname="b",
            host_network=True,
            ports=(PortMapping(container_port=80, host_port=80),),
        )
        config = specs.sandbox_config(spec, "pause", "node-1")
        self.assertNotIn("Hostname", config)
        self.assertNotIn("PortBindings", config["HostConfig"])


class AnswerTests(SynchronousTestCase):
    """What the engine says."""

    def test_times(self) -> None:
        """Times are read with their fractions; Go's zero is 0."""
        self.assertEqual(specs.seconds("1970-01-01T00:00:01.5Z"), 1.5)
        self.assertEqual(specs.seconds("1970-01-01T01:00:01+01:00"), 1.0)
        self.assertAlmostEqual(specs.seconds("2026-11-24T08:27:29.123456789Z") % 1, 0.123457, 5)
        for zero in ("0001-01-01T00:00:00Z", "", "garbage"):
            self.assertEqual(specs.seconds(zero), 0.0)

    def test_errors(self) -> None:
        """Of an error stays what its reader can act on."""
        reason = 'exec: "x": executable file not found in $PATH'
        for engine in (
            "failed to create shim task: OCI runtime create failed: runc create failed: "
            f"unable to start container process: {reason}: unknown",
            f"failed to create task for container: failed to create shim task: OCI runtime "
            f"create failed: runc create failed: unable to start container process: {reason}"
            ": unknown",
            "OCI runtime create failed: container_linux.go:380: starting container process "
            f"caused: {reason}: unknown",
        ):
            self.assertEqual(specs.clean_error(engine), reason)
            self.assertTrue(specs.is_about_command(engine))
        self.assertFalse(specs.is_about_command("port is already allocated"))

    def test_pod_address(self) -> None:
        """A pod's address is found where any engine since 20.10 puts it."""
        host = {"NetworkMode": "default"}
        old = {"NetworkSettings": {"IPAddress": "172.17.0.2"}, "HostConfig": host}
        new = {
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.3"}}},
            "HostConfig": host,
        }
        self.assertEqual([specs.address(old), specs.address(new)], ["172.17.0.2", "172.17.0.3"])


class JsonLinesTests(SynchronousTestCase):
    """Answers that come as lines."""

    def test_cut_short(self) -> None:
        """A line that is cut off counts as a lost connection, not as garbage."""

        class Response:
            def iter_lines(self) -> list[bytes]:
                return [b'{"a": 1}', b"", b'{"a"']

        lines = json_lines(Response())
        self.assertEqual(next(lines), {"a": 1})
        self.assertRaises(requests.ConnectionError, next, lines)


class CredentialTests(SynchronousTestCase):
    """Which pull secret is used."""

    def chosen(self, image: str, *registries: str) -> list[str]:
        auths = tuple(ImageAuth(registry=each, username=each, password="p") for each in registries)
        return [each["username"] for each in specs.credentials(image, auths)]

    def test_docker_hub(self) -> None:
        """Docker's own registry has several names in secrets."""
        for registry in ("https://index.docker.io/v1/", "docker.io", "index.docker.io"):
            self.assertEqual(self.chosen("nginx", registry, "ghcr.io"), [registry])

    def test_longest_path(self) -> None:
        """The secret for the longest fitting path comes first."""
        self.assertEqual(
            self.chosen("ghcr.io/a/b/c", "ghcr.io", "ghcr.io/a/b", "ghcr.io/a/bb", "quay.io"),
            ["ghcr.io/a/b", "ghcr.io"],
        )

    def test_port(self) -> None:
        """A port is part of a registry's name."""
        self.assertEqual(self.chosen("r.local:5000/x", "r.local", "r.local:5000"), ["r.local:5000"])


class ImageNameTests(SynchronousTestCase):
    """Names of images."""

    def test_full_names(self) -> None:
        """Short names are completed as Docker does."""
        digest = "sha256:" + "0" * 64
        for name, registry, reference in (
            ("nginx", "docker.io", "nginx:latest"),
            ("library/nginx:1", "docker.io", "nginx:1"),
            ("team/app", "docker.io", "team/app:latest"),
            ("index.docker.io/team/app", "docker.io", "team/app:latest"),
            ("localhost/app", "localhost", "localhost/app:latest"),
            ("r.local:5000/app:v1", "r.local:5000", "r.local:5000/app:v1"),
            (f"ghcr.io/a/b:v1@{digest}", "ghcr.io", f"ghcr.io/a/b@{digest}"),
        ):
            parsed = parse_image(name)
            self.assertEqual((parsed.registry, parsed.reference), (registry, reference))

    def test_invalid(self) -> None:
        """What cannot be a name is refused."""
        for name in ("", "Nginx", "a b", "a:", "a@sha256:12", "/a", "a//b", "-a", "a\n", "a" * 999):
            error = self.assertRaises(ContainerError, parse_image, name)
            self.assertEqual(error.reason, "InvalidImageName")

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a name or refused; a name's full form means the same."""
        try:
            parsed = parse_image(text)
        except ContainerError:
            return
        self.assertEqual(parse_image(parsed.reference), parsed)


class PauseTests(SynchronousTestCase):
    """The program of a sandbox."""

    def test_files(self) -> None:
        """It is an ELF file for its processor, of a few hundred bytes, entered at its code."""
        for machine, number, header in (
            ("x86_64", 62, "<16sHHIQQQ"),
            ("aarch64", 183, "<16sHHIQQQ"),
            ("armv7l", 40, "<16sHHIIII"),
        ):
            program = pause_program(machine)
            self.assertLess(len(program), 256)
            _, kind, found, _, entry, table, _ = struct.unpack_from(header, program)
            self.assertEqual((kind, found), (2, number))
            self.assertEqual(entry, 0x400000 + table + (56 if number != 40 else 32))

    def test_code(self) -> None:
        """The code is what an assembler makes of the documented instructions."""
        aarch64 = (
            "20028052 a1010010 02008052 03018052 c8108052 010000d4 00008052 01008052"
            " 02008052 03008052 04008052 28098052 010000d4 f9ffff17"
        )
        self.assertIn(bytes.fromhex(aarch64), pause_program("aarch64"))
        armv7l = "1100a0e3 18108fe2 0020a0e3 0830a0e3 ae70a0e3 000000ef 1d70a0e3 000000ef fcffffea"
        self.assertIn(bytes.fromhex(armv7l), pause_program("armv7l"))

    def test_runs(self) -> None:
        """It runs here, waits, and has the kernel bury its children."""
        try:
            program = pause_program(platform.machine())
        except KeyError:
            self.skipTest(f"no program for {platform.machine()}")
        path = Path(self.mktemp()).absolute()
        path.write_bytes(program)
        path.chmod(0o755)
        process = subprocess.Popen([path])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        ignored = 0
        while not ignored:  # it says so in its third instruction or never
            self.assertIsNone(process.poll())
            status = Path(f"/proc/{process.pid}/status").read_text()
            mask = int(status.partition("SigIgn:")[2].split()[0], 16)
            ignored = mask & 1 << (signal.SIGCHLD - 1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), -signal.SIGTERM)

    def test_archive(self) -> None:
        """The archive has the program and nothing else, executable."""
        with tarfile.open(fileobj=io.BytesIO(pause_archive("x86_64"))) as archive:
            (entry,) = archive.getmembers()
            self.assertEqual((entry.name, entry.mode & os.X_OK), ("pause", os.X_OK))
