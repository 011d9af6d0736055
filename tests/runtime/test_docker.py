from __future__ import annotations

import contextlib  # the bare name "suppress" in a test module means something to trial
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from docker.errors import APIError, ImageNotFound
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.docker import DockerRuntime
from kubeedge_tx.runtime.docker_calls import remove_unused_images
from kubeedge_tx.runtime.docker_pause import PAUSE_IMAGE, pause_archive
from kubeedge_tx.runtime.docker_specs import container_config
from kubeedge_tx.runtime.interfaces import ImageAuth, LogLimits, Mount, PortMapping
from tests.fakes.registry import FakeRegistry
from tests.fakes.relay import Relay
from tests.requirements import requires
from tests.runtime.contract import RuntimeContract
from tests.runtime.docker_image import BUSYBOX, engine, ensure_busybox

_reactor: Any = reactor


@requires("docker")
class DockerRuntimeTests(RuntimeContract, TestCase):
    """The docker runtime with a real engine keeps the contract."""

    image = BUSYBOX

    async def setUp(self) -> None:  # type: ignore[override]
        self.client = engine()
        self.addCleanup(self.client.close)
        ensure_busybox(self.client)
        self.base_url = os.environ.get("DOCKER_HOST")
        self.owner = f"test-{uuid4()}"
        await super().setUp()

    def make_runtime(self) -> DockerRuntime:
        return DockerRuntime(_reactor, base_url=self.base_url, owner=self.owner)

    async def run_to_end(self, script: str, **changes: Any) -> bytes:
        """Run a script in a container to its end; returns what it printed."""
        container_id = await self.start(self.shell(script), **changes)
        await self.ended(container_id)
        log: bytes = await self.runtime.logs(container_id)
        return log

    def folder(self, **files: str) -> Path:
        """Make a volume with files in it."""
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        for name, text in files.items():
            (path / name).write_text(text)
        return path

    async def test_survives_restart(self) -> None:
        """A container goes on while the agent restarts, and is the same one after it."""
        container_id = await self.start(self.sleeps(), spec_hash="abc")
        before = await self.pod()
        await self.runtime.stop()
        self.runtime = await self.started()
        self.assertEqual(await self.pod(), before)
        await self.runtime.stop_container(container_id, 0)
        self.assertEqual((await self.state(container_id)).state, "exited")

    async def test_never_started(self) -> None:
        """What an agent created and did not live to start is gone after its restart."""
        await self.runtime.run_sandbox(self.sandbox())
        pod = await self.pod()
        assert pod is not None
        sandbox = self.client.inspect_container(pod.sandbox_id)
        spec = self.container(self.sleeps())
        config = container_config(pod.sandbox_id, sandbox, spec, LogLimits())
        self.client.create_container_from_config(config)
        await self.runtime.stop()
        self.runtime = await self.started()
        self.assertEqual(await self.pod(), pod)

    async def test_other_owner(self) -> None:
        """Agents that share an engine do not see each other's pods."""
        await self.runtime.run_sandbox(self.sandbox())
        other = DockerRuntime(_reactor, base_url=os.environ.get("DOCKER_HOST"), owner="other")
        await other.start()
        self.assertNotIn(self.uid, [pod.uid for pod in await other.pods()])
        await other.stop()

    async def test_lost_sandbox(self) -> None:
        """A sandbox that died is seen to be not ready, and another takes its place."""
        container_id = await self.start(self.sleeps())
        pod = await self.pod()
        assert pod is not None
        changed = self._changed
        self.client.kill(pod.sandbox_id)
        await changed
        lost = await self.pod()
        assert lost is not None
        self.assertEqual((lost.sandbox_ready, lost.ip), (False, ""))
        again = await self.runtime.run_sandbox(self.sandbox())
        self.assertTrue(again.sandbox_ready)
        self.assertNotEqual(again.sandbox_id, pod.sandbox_id)
        await self.ended(container_id)

    async def test_volumes(self) -> None:
        """Volumes are at their paths, read-only where asked, and so is the exit message."""
        volume, message = self.folder(a="text"), self.folder(file="")
        log = await self.run_to_end(
            "cat /config/a; echo x > /data/out; echo x > /config/a || echo refused;"
            " echo bye > /dev/termination-log",
            mounts=(
                Mount(host_path=volume, container_path="/config", read_only=True),
                Mount(host_path=volume, container_path="/data"),
            ),
            termination_message_file=message / "file",
        )
        self.assertIn(b"text", log)
        self.assertIn(b"refused", log)
        self.assertEqual((volume / "out").read_text(), "x\n")
        self.assertEqual((message / "file").read_text(), "bye\n")

    async def test_missing_volume(self) -> None:
        """A volume whose host path is not there is refused by name, not made."""
        missing = self.folder() / "missing"
        mounts = (Mount(host_path=missing, container_path="/data"),)
        call = Deferred.fromCoroutine(self.start(self.exits(0), mounts=mounts))
        self.assertIn("missing", await self.refused("CreateContainerError", call))
        self.assertFalse(missing.exists())

    async def test_environment(self) -> None:
        """Environment, working directory, user and groups are as asked for."""
        log = await self.run_to_end(
            "echo $COLOUR; pwd; id -u; id -g; id -G; grep NoNewPrivs /proc/self/status",
            env=(("COLOUR", "a=b c"),),
            working_dir="/tmp",
            user=123,
            group=234,
            supplemental_groups=(345,),
            allow_privilege_escalation=False,
        )
        lines = log.decode().splitlines()
        self.assertEqual(lines[:4], ["a=b c", "/tmp", "123", "234"])
        self.assertEqual(set(lines[4].split()), {"234", "345"})
        self.assertEqual(lines[5].split()[1], "1")

    async def test_read_only_root(self) -> None:
        """A root that is to be read-only is."""
        log = await self.run_to_end("echo x > /tmp/x || echo refused", read_only_root=True)
        self.assertIn(b"refused", log)

    async def test_out_of_memory(self) -> None:
        """A container over its memory limit is killed, and that is said."""
        container_id = await self.start(("tail", "/dev/zero"), memory_bytes_limit=64 * 1024 * 1024)
        state = await self.ended(container_id)
        self.assertEqual((state.exit_code, state.oom_killed), (137, True))

    async def test_shared_network(self) -> None:
        """Containers of a pod reach each other at localhost, and know the pod's name."""
        await self.runtime.ensure_image(self.image, "IfNotPresent", ())
        await self.runtime.run_sandbox(
            self.sandbox(hostname="web-0", host_aliases=(("10.1.2.3", ("db", "db.local")),))
        )
        server = await self.start(
            self.shell("echo ready; echo hello | nc -l -p 8080"), name="server"
        )
        await self.printed(server)
        # What nc has not opened yet is asked for again.
        script = "hostname; until nc 127.0.0.1 8080 < /dev/null; do :; done; cat /etc/hosts"
        log = (await self.run_to_end(script, name="client")).decode()
        self.assertEqual(log.splitlines()[:2], ["web-0", "hello"])
        self.assertRegex(log, r"(?m)^10\.1\.2\.3\s+db$")
        self.assertRegex(log, r"(?m)^10\.1\.2\.3\s+db\.local$")

    async def test_shared_processes(self) -> None:
        """Containers see each other's processes only if the pod shares them."""
        for share in (False, True):
            await self.runtime.remove_pod(self.uid)
            await self.runtime.ensure_image(self.image, "IfNotPresent", ())
            await self.runtime.run_sandbox(self.sandbox(share_processes=share))
            log = await self.run_to_end("cat /proc/1/comm")
            self.assertEqual(log == b"pause\n", share)

    async def test_host_network(self) -> None:
        """A pod on the host's network sees the host's interfaces."""
        await self.runtime.ensure_image(self.image, "IfNotPresent", ())
        await self.runtime.run_sandbox(self.sandbox(host_network=True))
        self.assertEqual(await self.runtime.pod_ip(self.uid), "127.0.0.1")
        log = await self.run_to_end("cat /proc/net/dev")
        for name in Path("/sys/class/net").iterdir():
            if name.name in ("eth0", "docker0"):
                self.assertIn(name.name.encode(), log)

    async def test_published_port(self) -> None:
        """A host port leads to its container port; one in use is an error that says so."""
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        mapping = PortMapping(container_port=8080, host_port=port, host_ip="127.0.0.1")
        call = self.runtime.run_sandbox(self.sandbox(ports=(mapping,)))
        self.assertIn(str(port), await self.refused("CreatePodSandboxError", call))
        self.assertIsNone(await self.pod())
        taken.close()
        await self.runtime.run_sandbox(self.sandbox(ports=(mapping,)))
        bindings = self.client.port((await self.runtime.pods())[0].sandbox_id, 8080)
        self.assertEqual(bindings, [{"HostIp": "127.0.0.1", "HostPort": str(port)}])

    async def test_limits(self) -> None:
        """CPU requests and limits are shares and quota."""
        container_id = await self.start(self.sleeps(), cpu_millis_request=250, cpu_millis_limit=500)
        host = self.client.inspect_container(container_id)["HostConfig"]
        self.assertEqual(
            (host["CpuShares"], host["CpuQuota"], host["CpuPeriod"]), (256, 50_000, 100_000)
        )
        self.assertEqual(host["LogConfig"]["Config"], {"max-size": "10485760", "max-file": "5"})

    async def test_exec_timeout(self) -> None:
        """A command that takes too long is given up and killed."""
        container_id = await self.start(self.sleeps())
        call = self.runtime.exec(container_id, self.shell("echo begun; exec sleep 4321"), 1)
        await self.refused("ExecTimeout", call)
        while b"4321" in (await self.runtime.exec(container_id, ("ps",), 30)).output:
            pass  # the signal is sent; the kernel may take its time

    async def test_exec_not_found(self) -> None:
        """A command that exec does not find ends with 126 or 127 and says so."""
        container_id = await self.start(self.sleeps())
        result = await self.runtime.exec(container_id, ("no-such-program",), 30)
        self.assertIn(result.exit_code, (126, 127))
        self.assertIn(b"executable file not found", result.output)

    async def test_never_pull(self) -> None:
        """An image that is not here and must not be pulled is an error of its own."""
        call = self.runtime.ensure_image("kubeedge-tx/absent:1", "Never", ())
        await self.refused("ErrImageNeverPull", call)

    async def test_no_registry(self) -> None:
        """A registry that cannot be reached is named in the engine's words."""
        free = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        call = self.runtime.ensure_image(f"{address}/team/app:1", "IfNotPresent", ())
        self.assertIn(address, await self.refused("ErrImagePull", call))

    def registry(self, login: tuple[bytes, bytes] | None = None) -> FakeRegistry:
        """Start a registry; its image is removed from the engine afterwards."""
        registry = FakeRegistry(_reactor, pause_archive("x86_64"), login)

        def remove() -> None:
            for name in (registry.image, registry.by_digest):
                with contextlib.suppress(ImageNotFound):
                    self.client.remove_image(name, force=True)

        self.addCleanup(registry.port.stopListening)
        self.addCleanup(remove)
        return registry

    async def test_pull(self) -> None:
        """An image is pulled if it is not here, or every time if the pod says so."""
        registry = self.registry()
        first = await self.runtime.ensure_image(registry.image, "IfNotPresent", ())
        asked = registry.asked
        again = await self.runtime.ensure_image(registry.image, "IfNotPresent", ())
        self.assertEqual((first, asked > 0), (again, True))
        self.assertEqual(registry.asked, asked)
        await self.runtime.ensure_image(registry.image, "Always", ())
        self.assertGreater(registry.asked, asked)
        digest = await self.runtime.ensure_image(registry.by_digest, "IfNotPresent", ())
        self.assertEqual(digest, first)

    async def test_pull_unknown(self) -> None:
        """An image that its registry does not have is an error in the engine's words."""
        image = self.registry().image.replace(":1", ":1", 1).removesuffix("1") + "2"
        call = self.runtime.ensure_image(image, "IfNotPresent", ())
        self.assertIn("manifest unknown", await self.refused("ErrImagePull", call))

    async def test_pull_with_login(self) -> None:
        """A registry that asks who pulls gets the secret that fits, not another's."""
        registry = self.registry((b"me", b"secret"))
        address = registry.image.partition("/")[0]
        wrong = ImageAuth(registry="ghcr.io", username="me", password="secret")
        call = self.runtime.ensure_image(registry.image, "IfNotPresent", (wrong,))
        await self.refused("ErrImagePull", call)
        bad = ImageAuth(registry=address, username="me", password="old")
        good = ImageAuth(registry=f"http://{address}/v2/", username="me", password="secret")
        self.assertTrue(
            await self.runtime.ensure_image(registry.image, "IfNotPresent", (wrong, bad, good))
        )

    async def test_remove_unused_images(self) -> None:
        """Images nobody uses go until enough is free, never those to be kept."""
        registry = self.registry()
        await self.runtime.ensure_image(registry.image, "IfNotPresent", ())
        ours = OneImage(self.client, registry.image)
        self.assertEqual(remove_unused_images(ours, frozenset({registry.image}), 1), 0)
        self.assertEqual(remove_unused_images(ours, frozenset(), 0), 0)
        self.assertEqual(len(self.client.images(registry.image)), 1)
        self.assertGreater(remove_unused_images(ours, frozenset(), 1), 0)
        self.assertEqual(self.client.images(registry.image), [])

    async def test_sandbox_image_made(self) -> None:
        """The sandbox's image is made here if it is not, of 0.2 KB."""
        with contextlib.suppress(APIError):  # another test's pod may have it
            self.client.remove_image(PAUSE_IMAGE)
        await self.runtime.run_sandbox(self.sandbox())
        self.assertLess(self.client.inspect_image(PAUSE_IMAGE)["Size"], 1000)

    async def test_away_and_back(self) -> None:
        """Calls fail while the engine is away; back again, what happened is noticed."""
        target = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").path
        if not target:
            self.skipTest("the engine for tests is not on a UNIX socket")
        folder = tempfile.mkdtemp()  # mktemp() is too long for a socket
        self.addCleanup(shutil.rmtree, folder)
        relay = Relay(_reactor, f"{folder}/engine.sock", target)
        await self.runtime.stop()
        self.base_url = f"unix://{folder}/engine.sock"
        self.runtime = await self.started()
        container_id = await self.start(self.sleeps())
        await self.runtime.pods()
        await relay.close()
        await self.refused("RuntimeUnavailable", self.runtime.version())
        await self.refused("RuntimeUnavailable", self.runtime.pods())
        self.client.kill(container_id)
        changed = self._changed
        relay.open()
        await changed
        self.assertEqual((await self.state(container_id)).state, "exited")
        await self.runtime.stop()
        await relay.close()
        self.base_url = os.environ.get("DOCKER_HOST")
        self.runtime = await self.started()


class OneImage:
    """A client of an engine that seems to have one image only: no test removes others."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def images(self, **_: Any) -> Any:
        return self._client.images(self._name)


class UnreachableEngineTests(TestCase):
    """An engine that is not there."""

    async def test_start(self) -> None:
        """The start fails with where the engine was looked for, and can be tried again."""
        path = Path(self.mktemp()).absolute()
        runtime: Any = DockerRuntime(_reactor, base_url=f"unix://{path}")
        for _ in range(2):
            error: Any = await self.assertFailure(runtime.start(), ContainerError)
            self.assertEqual(error.reason, "RuntimeUnavailable")
            self.assertIn(str(path), str(error))
