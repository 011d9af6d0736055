"""What every container runtime has to do, as tests for a class to mix in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import (
    ContainerSpec,
    ContainerState,
    IContainerRuntime,
    PodState,
    SandboxSpec,
)

_reactor: Any = reactor

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object  # so that trial does not run the contract by itself


class RuntimeContract(_Base):
    """Mix-in; a subclass says how to make the runtime and where programs come from."""

    timeout = 60
    image = "busybox:test"
    runtime: Any

    # -- for a subclass to say -------------------------------------------------------

    def make_runtime(self) -> Any:
        """Return a runtime that is not started; again: one that finds the same pods."""
        raise NotImplementedError

    def shell(self, script: str) -> tuple[str, ...]:
        """Return a command that runs a shell script."""
        return ("sh", "-c", script)

    def sleeps(self) -> tuple[str, ...]:
        """Return a command that runs until it is stopped."""
        return self.shell("echo ready; exec sleep 1000")

    def exits(self, code: int) -> tuple[str, ...]:
        """Return a command that ends at once."""
        return self.shell(f"exit {code}")

    def prints(self, *lines: str) -> tuple[str, ...]:
        """Return a command that prints lines and ends."""
        return self.shell("; ".join(f"echo {line}" for line in lines))

    def stubborn(self) -> tuple[str, ...]:
        """Return a command that ignores SIGTERM once it has printed ``ready``."""
        return self.shell("trap '' TERM; echo ready; while :; do sleep 1; done")

    def echo(self, text: str, code: int) -> tuple[str, ...]:
        """Return a command for exec that prints a text and ends with a code."""
        return self.shell(f"echo {text}; exit {code}")

    # -- helpers -----------------------------------------------------------------------

    async def setUp(self) -> None:  # type: ignore[override]
        self.uid = str(uuid4())
        self.runtime = await self.started()
        self.addCleanup(self.clean)

    async def started(self) -> Any:
        """Return a runtime that is started."""
        runtime = self.make_runtime()
        self._changed: Deferred[None] = Deferred()
        runtime.on_change(self._on_change)
        await runtime.start()
        return runtime

    def clean(self) -> Deferred[None]:
        """Remove the pod and stop."""

        async def run() -> None:
            await self.runtime.remove_pod(self.uid)
            await self.runtime.stop()

        return Deferred.fromCoroutine(run())

    def _on_change(self, pod_uid: str) -> None:
        if pod_uid == self.uid:
            changed, self._changed = self._changed, Deferred()
            changed.callback(None)

    def sandbox(self, **changes: Any) -> SandboxSpec:
        """Return the pod's sandbox."""
        given: dict[str, Any] = {"namespace": "default", "pod": "web", "hostname": "web"}
        return SandboxSpec(uid=self.uid, **(given | changes))

    def container(self, command: tuple[str, ...], **changes: Any) -> ContainerSpec:
        """Return a container that runs a command."""
        given: dict[str, Any] = {"name": "main", "image": self.image, "command": command}
        return ContainerSpec(**(given | changes))

    async def start(self, command: tuple[str, ...], **changes: Any) -> str:
        """Start a container in the pod, whose sandbox is made if need be."""
        await self.runtime.ensure_image(self.image, "IfNotPresent", ())
        await self.runtime.run_sandbox(self.sandbox())
        started: str = await self.runtime.start_container(
            self.uid, self.container(command, **changes)
        )
        return started

    async def pod(self) -> PodState | None:
        """Return the pod as the runtime has it."""
        for pod in await self.runtime.pods():
            if pod.uid == self.uid:
                assert isinstance(pod, PodState)
                return pod
        return None

    async def state(self, container_id: str) -> ContainerState:
        """Return a container as the runtime has it."""
        pod = await self.pod()
        assert pod is not None
        return next(each for each in pod.containers if each.id == container_id)

    async def when(
        self, container_id: str, check: Callable[[ContainerState], bool]
    ) -> ContainerState:
        """Wait, by being told of changes only, until a container is as asked for."""
        while True:
            changed = self._changed
            state = await self.state(container_id)
            if check(state):
                return state
            await changed

    async def ended(self, container_id: str) -> ContainerState:
        """Wait until a container has ended."""
        return await self.when(container_id, lambda state: state.state == "exited")

    async def printed(self, container_id: str, text: bytes = b"ready\n") -> bytes:
        """Wait until a container has printed a text; returns all it printed."""
        while True:
            log: bytes = await self.runtime.logs(container_id)
            if text in log:
                return log
            await deferLater(_reactor, 0.02)

    async def refused(self, reason: str, call: Deferred[Any]) -> str:
        """Check that a call fails for a reason; returns the text."""
        error = await self.assertFailure(call, ContainerError)
        self.assertEqual(error.reason, reason)
        return str(error)

    # -- the contract ------------------------------------------------------------------

    def test_interface(self) -> None:
        """It has every method of the interface."""
        self.assertTrue(verifyObject(IContainerRuntime, self.runtime))

    async def test_version(self) -> None:
        """A runtime that works tells its version."""
        self.assertRegex(await self.runtime.version(), r"^\d")

    async def test_life_of_a_pod(self) -> None:
        """A container runs, is seen to run, ends with its code, and goes."""
        container_id = await self.start(self.exits(3), spec_hash="abc", attempt=2)
        state = await self.ended(container_id)
        self.assertEqual(
            (state.name, state.attempt, state.image, state.spec_hash, state.exit_code),
            ("main", 2, self.image, "abc", 3),
        )
        self.assertGreater(state.finished_at, 0)
        self.assertLessEqual(state.created_at, state.finished_at)
        pod = await self.pod()
        assert pod is not None
        self.assertEqual((pod.namespace, pod.pod, pod.sandbox_ready), ("default", "web", True))
        await self.runtime.remove_container(container_id)
        pod = await self.pod()
        assert pod is not None
        self.assertEqual(pod.containers, ())
        await self.runtime.remove_pod(self.uid)
        self.assertIsNone(await self.pod())

    async def test_running(self) -> None:
        """A container that runs says since when, and the pod has an address."""
        container_id = await self.start(self.sleeps())
        state = await self.state(container_id)
        self.assertEqual(state.state, "running")
        self.assertGreaterEqual(state.started_at, state.created_at)
        self.assertRegex(await self.runtime.pod_ip(self.uid), r"^\d+\.\d+\.\d+\.\d+$")

    async def test_same_sandbox(self) -> None:
        """Asking for a sandbox that is there gives that one."""
        first = await self.runtime.run_sandbox(self.sandbox())
        second = await self.runtime.run_sandbox(self.sandbox())
        self.assertEqual(first.sandbox_id, second.sandbox_id)
        self.assertTrue(first.sandbox_ready)

    async def test_no_sandbox(self) -> None:
        """A container without its pod's sandbox is refused."""
        await self.runtime.ensure_image(self.image, "IfNotPresent", ())
        await self.refused(
            "CreateContainerError",
            self.runtime.start_container(self.uid, self.container(self.sleeps())),
        )

    async def test_unknown_command(self) -> None:
        """A command that is not there fails the start, and the attempt is on record."""
        call = Deferred.fromCoroutine(self.start(("no-such-program",)))
        text = await self.refused("RunContainerError", call)
        self.assertIn('exec: "no-such-program": executable file not found in $PATH', text)
        pod = await self.pod()
        assert pod is not None
        (state,) = pod.containers
        self.assertEqual((state.state, state.exit_code), ("exited", 127))
        self.assertIn("not found in $PATH", state.error)
        self.assertEqual(state.started_at, 0)

    async def test_invalid_image(self) -> None:
        """A name that cannot be an image's is refused as such."""
        for policy in ("Always", "IfNotPresent", "Never"):
            call = self.runtime.ensure_image("Not An Image", policy, ())
            await self.refused("InvalidImageName", call)

    async def test_image_is_there(self) -> None:
        """An image that is there has an id, however often one asks."""
        first = await self.runtime.ensure_image(self.image, "IfNotPresent", ())
        second = await self.runtime.ensure_image(self.image, "Never", ())
        self.assertEqual(first, second)
        self.assertTrue(first)

    async def test_same_attempt_twice(self) -> None:
        """An attempt has one number; the second of that number is refused."""
        await self.start(self.exits(0))
        call = self.runtime.start_container(self.uid, self.container(self.exits(0)))
        await self.refused("CreateContainerError", call)

    async def test_attempts(self) -> None:
        """Earlier attempts are listed after later ones until they are removed."""
        first = await self.start(self.exits(1))
        await self.ended(first)
        second = await self.start(self.exits(2), attempt=1)
        await self.ended(second)
        pod = await self.pod()
        assert pod is not None
        self.assertEqual(
            [(each.attempt, each.exit_code) for each in pod.containers], [(1, 2), (0, 1)]
        )

    async def test_stop(self) -> None:
        """Stopping asks with SIGTERM, which ends an ordinary program at once."""
        container_id = await self.start(
            self.shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done")
        )
        await self.printed(container_id)
        await self.runtime.stop_container(container_id, 1000)
        self.assertEqual((await self.state(container_id)).exit_code, 9)

    async def test_stop_stubborn(self) -> None:
        """What ignores SIGTERM is killed after the grace."""
        container_id = await self.start(self.stubborn())
        await self.printed(container_id)
        await self.runtime.stop_container(container_id, 0.2)
        state = await self.state(container_id)
        self.assertEqual((state.state, state.exit_code), ("exited", 137))

    async def test_stop_again(self) -> None:
        """Stopping what has ended, or never was, is no error; so is removing it."""
        container_id = await self.start(self.exits(0))
        await self.ended(container_id)
        await self.runtime.stop_container(container_id, 5)
        await self.runtime.remove_container(container_id)
        await self.runtime.stop_container(container_id, 5)
        await self.runtime.remove_container(container_id)
        await self.runtime.remove_pod("no-such-uid")

    async def test_remove_running(self) -> None:
        """A running container is not removed by mistake."""
        container_id = await self.start(self.sleeps())
        await self.refused("RemoveContainerError", self.runtime.remove_container(container_id))
        self.assertEqual((await self.state(container_id)).state, "running")

    async def test_remove_pod_running(self) -> None:
        """Removing a pod ends what still runs in it."""
        container_id = await self.start(self.stubborn())
        await self.printed(container_id)
        await self.runtime.remove_pod(self.uid)
        self.assertIsNone(await self.pod())

    async def test_logs(self) -> None:
        """The log is what was printed; its tail is the last lines."""
        container_id = await self.start(self.prints("one", "two", "three"))
        await self.ended(container_id)
        self.assertEqual(await self.runtime.logs(container_id), b"one\ntwo\nthree\n")
        self.assertEqual(await self.runtime.logs(container_id, tail=2), b"two\nthree\n")
        self.assertEqual(await self.runtime.logs(container_id, tail=0), b"")

    async def test_exec(self) -> None:
        """A command runs beside the container; its code and output come back."""
        container_id = await self.start(self.sleeps())
        result = await self.runtime.exec(container_id, self.echo("hello", 4), 30)
        self.assertEqual((result.exit_code, result.output), (4, b"hello\n"))

    async def test_exec_ended(self) -> None:
        """Nothing is executed in a container that has ended."""
        container_id = await self.start(self.exits(0))
        await self.ended(container_id)
        call = self.runtime.exec(container_id, self.echo("hello", 0), 30)
        await self.refused("ExecError", call)

    async def test_told_of_changes(self) -> None:
        """Whoever listens is told when a container starts and when it ends."""
        told = self._changed
        container_id = await self.start(self.sleeps())
        await told
        told = self._changed
        await self.runtime.stop_container(container_id, 0)
        await told
        self.assertEqual((await self.state(container_id)).state, "exited")
