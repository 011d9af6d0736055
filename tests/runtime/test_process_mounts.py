"""Volumes of the process runtime, in each of the three ways it provides them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import ContainerSpec, Mount, SandboxSpec
from kubeedge_tx.runtime.process import ProcessRuntime
from kubeedge_tx.runtime.process_records import PathRewriter

_reactor: Any = reactor


class MountTestCase(TestCase):
    """One pod, whose containers run a shell script to their end."""

    timeout = 60
    kind: Literal["root", "user", "none"]

    async def setUp(self) -> None:  # type: ignore[override]
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        self.runtime: Any = ProcessRuntime(
            _reactor, self.root / "run", time.time, namespaces=self.kind
        )
        self.uid = str(uuid4())
        await self.runtime.start()
        self.addCleanup(self.clean)
        if self.runtime._namespaces != self.kind:
            self.skipTest(f"no mounts of kind {self.kind} for this user on this kernel")
        await self.runtime.run_sandbox(
            SandboxSpec(namespace="default", pod="web", uid=self.uid, hostname="web")
        )
        self.attempts = 0

    def clean(self) -> Deferred[None]:
        async def run() -> None:
            await self.runtime.remove_pod(self.uid)
            await self.runtime.stop()

        return Deferred.fromCoroutine(run())

    def folder(self, **files: str) -> Path:
        """Make a volume with files in it."""
        path = self.root / uuid4().hex
        path.mkdir()
        for name, text in files.items():
            (path / name).write_text(text)
        return path

    async def start(self, script: str, *mounts: Mount, **changes: Any) -> str:
        spec = ContainerSpec(
            name="main",
            image="x",
            attempt=self.attempts,
            command=("/bin/sh", "-c", script),
            mounts=mounts,
            **changes,
        )
        self.attempts += 1
        container_id: str = await self.runtime.start_container(self.uid, spec)
        return container_id

    async def run_script(self, script: str, *mounts: Mount, **changes: Any) -> bytes:
        """Run a script to its end; returns what it printed."""
        ended: Deferred[None] = Deferred()
        container_id = ""

        def changed(_: str) -> None:
            for container in self.runtime._containers.values():
                if container.record.id == container_id and container.exit and not ended.called:
                    ended.callback(None)

        self.runtime.on_change(changed)
        container_id = await self.start(script, *mounts, **changes)
        changed("")
        await ended
        log: bytes = await self.runtime.logs(container_id)
        return log


class _Anywhere(MountTestCase):
    """What all three ways have in common."""

    async def test_folder(self) -> None:
        """A volume's files are at its path, below a folder the host does not have."""
        volume = self.folder(a="text")
        mount = Mount(host_path=volume, container_path="/no-such-folder/config")
        self.assertEqual(await self.run_script("cat /no-such-folder/config/a", mount), b"text")
        self.assertFalse(Path("/no-such-folder").exists())

    async def test_written(self) -> None:
        """What is written to a volume is on the host."""
        volume = self.folder()
        mount = Mount(host_path=volume, container_path="/data")
        await self.run_script("echo x > /data/out", mount)
        self.assertEqual((volume / "out").read_text(), "x\n")

    async def test_file(self) -> None:
        """A single file may be a volume."""
        volume = self.folder(a="text")
        mount = Mount(host_path=volume / "a", container_path="/etc/kubeedge-test.conf")
        self.assertEqual(await self.run_script("cat /etc/kubeedge-test.conf", mount), b"text")
        self.assertFalse(Path("/etc/kubeedge-test.conf").exists())

    async def test_termination_message(self) -> None:
        """The exit message goes to its file, at the path every pod has."""
        message = self.folder(message="") / "message"
        await self.run_script("echo bye > /dev/termination-log", termination_message_file=message)
        self.assertEqual(message.read_text(), "bye\n")

    async def test_exec(self) -> None:
        """A command run beside the container sees its volumes too."""
        volume = self.folder(a="text")
        mount = Mount(host_path=volume, container_path="/no-such-folder")
        container_id = await self.start("exec sleep 1000", mount)
        result = await self.runtime.exec(container_id, ("cat", "/no-such-folder/a"), 30)
        self.assertEqual((result.exit_code, result.output), (0, b"text"))


class _Mounted(_Anywhere):
    """What mounts do and rewriting does not."""

    async def test_read_only(self) -> None:
        """A read-only volume cannot be written to."""
        volume = self.folder(a="text")
        mount = Mount(host_path=volume, container_path="/config", read_only=True)
        log = await self.run_script("echo x > /config/a || echo refused", mount)
        self.assertIn(b"refused", log)
        self.assertEqual((volume / "a").read_text(), "text")

    async def test_computed_path(self) -> None:
        """A path that no text of the pod names is the volume's too."""
        mount = Mount(host_path=self.folder(a="text"), container_path="/no-such/config")
        log = await self.run_script("x=no-such; cat /$x/con*/a", mount)
        self.assertEqual(log, b"text")

    async def test_nested(self) -> None:
        """A volume may lie in another, whichever is named first."""
        outer, inner = self.folder(a="outer"), self.folder(a="inner")
        (outer / "in").mkdir()
        mounts = (
            Mount(host_path=inner, container_path="/vol/in"),
            Mount(host_path=outer, container_path="/vol"),
        )
        self.assertEqual(await self.run_script("cat /vol/a /vol/in/a", *mounts), b"outerinner")

    async def test_over_existing(self) -> None:
        """A volume covers what the host has at that path, for this container only."""
        mount = Mount(host_path=self.folder(a="text"), container_path="/usr/share")
        self.assertEqual(await self.run_script("ls /usr/share", mount), b"a\n")
        self.assertFalse(Path("/usr/share/a").exists())

    async def test_rest_of_the_host(self) -> None:
        """Folders that had to be extended, / among them, still show what the host has."""
        mounts = (
            Mount(host_path=self.folder(), container_path="/no-such-folder"),
            Mount(host_path=self.folder(), container_path="/etc/no-such-folder"),
        )
        log = await self.run_script("ls -a / /etc /dev /proc/self/ns; cat /etc/passwd", *mounts)
        shown = set(log.decode().split("\n"))
        for folder in ("/", "/etc"):
            self.assertLessEqual({path.name for path in Path(folder).iterdir()}, shown)
        self.assertLessEqual({"null", "tty"}, shown)
        self.assertIn("no-such-folder", shown)
        self.assertNotIn(".kubeedge-old-root", shown)
        self.assertIn(Path("/etc/passwd").read_text().splitlines()[0], shown)

    async def test_missing(self) -> None:
        """A volume whose host path is not there is refused by name."""
        mount = Mount(host_path=self.root / "nothing", container_path="/data")
        call = Deferred.fromCoroutine(self.start("true", mount))
        error: Any = await self.assertFailure(call, ContainerError)
        self.assertEqual(error.reason, "CreateContainerError")
        self.assertIn("nothing", str(error))

    async def test_wrong_kind(self) -> None:
        """A folder cannot be mounted where the host has a file."""
        mount = Mount(host_path=self.folder(), container_path="/etc/passwd")
        call = Deferred.fromCoroutine(self.start("true", mount))
        error: Any = await self.assertFailure(call, ContainerError)
        self.assertIn("/etc/passwd", str(error))

    async def test_working_directory(self) -> None:
        """The working directory may be in a volume."""
        mount = Mount(host_path=self.folder(a="text"), container_path="/work-dir")
        log = await self.run_script("pwd; cat a", mount, working_dir="/work-dir")
        self.assertEqual(log, b"/work-dir\ntext")

    async def test_no_mounts_on_the_host(self) -> None:
        """The host's own mounts are what they were."""
        before = Path("/proc/self/mounts").read_text()
        mount = Mount(host_path=self.folder(), container_path="/no-such-folder")
        await self.start("exec sleep 1000", mount)
        self.assertEqual(Path("/proc/self/mounts").read_text(), before)


class RootMountTests(_Mounted):
    """Mounts as root may make them."""

    kind = "root"


class UserMountTests(_Mounted):
    """Mounts as anybody may make them in a user namespace."""

    kind = "user"

    async def test_same_user(self) -> None:
        """A command has the agent's user, as without a namespace."""
        mount = Mount(host_path=self.folder(), container_path="/data")
        log = await self.run_script("id -u; echo x > /data/f", mount)
        self.assertEqual(log, f"{os.getuid()}\n".encode())


class RewrittenMountTests(_Anywhere):
    """Paths put in place of mounts."""

    kind = "none"

    async def test_variable(self) -> None:
        """Environment values change like commands, and one variable says what is where."""
        volume = self.folder(a="text")
        mount = Mount(host_path=volume, container_path="/config")
        log = await self.run_script(
            'cat "$FILE"; echo; echo "$KUBEEDGE_MOUNTS"', mount, env=(("FILE", "/config/a"),)
        )
        self.assertEqual(log.decode(), f"text\n/config={volume}\n")


del MountTestCase, _Anywhere, _Mounted  # or trial runs them too


class PathRewriterTests(SynchronousTestCase):
    """Where a text names a mounted path."""

    def setUp(self) -> None:
        self.rewrite = PathRewriter((("/etc/app", "/h/1"), ("/etc/app/sub", "/h/2"))).rewrite

    def test_changed(self) -> None:
        """A path changes alone, before a slash, after an equals sign, in a script."""
        for text, expected in (
            ("/etc/app", "/h/1"),
            ("/etc/app/x", "/h/1/x"),
            ("/etc/app/sub/x", "/h/2/x"),
            ("--file=/etc/app/x", "--file=/h/1/x"),
            ("cat '/etc/app/a' >/etc/app/b", "cat '/h/1/a' >/h/1/b"),
            ("/bin:/etc/app:/etc/app/sub", "/bin:/h/1:/h/2"),
        ):
            self.assertEqual(self.rewrite(text), expected)

    def test_unchanged(self) -> None:
        """What merely contains the path's letters stays."""
        for text in ("/etc/apple", "/var/etc/app", "./etc/app", "x/etc/app", "/etc/app-2", ""):
            self.assertEqual(self.rewrite(text), text)

    @given(st.text())
    def test_nothing_mounted(self, text: str) -> None:
        """Without mounts every text stays."""
        self.assertEqual(PathRewriter(()).rewrite(text), text)
        self.assertEqual(PathRewriter((("/", "/h"),)).rewrite(text), text)
