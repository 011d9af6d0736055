"""A container runtime in memory, whose containers do what a test tells them.

It passes the contract that the real runtimes pass (tests/runtime/contract.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.images import parse_image
from kubeedge_tx.runtime.interfaces import (
    ContainerSpec,
    ContainerState,
    ExecResult,
    IContainerRuntime,
    ImageAuth,
    PodState,
    SandboxSpec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a command does when a container runs it."""

    output: bytes = b""
    exits: int | None = None
    """Exit code with which it ends at once; ``None`` runs until stopped."""
    on_sigterm: int | None = None
    """Exit code with which it answers SIGTERM; ``None`` dies of it."""
    ignores_sigterm: bool = False
    not_found: bool = False


@dataclass(slots=True)
class _Container:
    spec: ContainerSpec
    pod_uid: str
    state: ContainerState
    output: bytes = b""
    ended: list[Deferred[None]] = field(default_factory=list)


@dataclass(slots=True)
class _Sandbox:
    spec: SandboxSpec
    id: str
    ready: bool = True


@implementer(IContainerRuntime)
class FakeRuntime:
    """Containers that exist only as records.

    Changes are announced in a later turn of the clock, as by a real engine: with a
    ``Clock``, ``clock.advance(0)`` delivers them.

    :param clock: measures grace periods and carries announcements.
    :param wall_clock: seconds since the epoch, for the states' times.
    """

    name = "fake"

    def __init__(self, clock: IReactorTime, wall_clock: Callable[[], float] | None = None) -> None:
        self._clock: Any = clock
        self._now = wall_clock or clock.seconds
        self._callbacks: list[Callable[[str], None]] = []
        self._serial = 0
        self.calls: list[tuple[str, str]] = []
        """Every call that changes something, as (method, what): the whole order of effects."""
        self.down = False
        """The engine does not answer: every call fails."""
        self.ip = "10.0.0.1"
        self.sandboxes: dict[str, _Sandbox] = {}
        self.containers: dict[str, _Container] = {}
        self.local_images: dict[str, str] = {}
        """Image reference to id; filled by pulls."""
        self.pulls: list[str] = []
        """Names pulled, in order."""
        self.auths: list[tuple[ImageAuth, ...]] = []
        self.pull_errors: dict[str, str] = {}
        """Image name to the engine's text: pulling it fails."""
        self.held_pulls: dict[str, list[Deferred[None]]] = {}
        """Set an image name to ``[]`` and its pulls wait until :meth:`release_pulls`."""
        self.sandbox_error: ContainerError | None = None
        self.start_errors: dict[str, ContainerError] = {}
        """Container name to why it cannot be created."""
        self.programs: dict[tuple[str, ...], Program] = {}
        """What ``command + args`` does; anything else runs until stopped."""
        self.execs: dict[tuple[str, ...], ExecResult | ContainerError] = {}
        """Answers of :meth:`exec`; anything else ends with 0 and no output."""

    # -- what a test does to it ------------------------------------------------------

    def find(self, pod_uid: str, name: str) -> ContainerState | None:
        """Return the newest container of that name, or ``None``."""
        found = [
            container.state
            for container in self.containers.values()
            if container.pod_uid == pod_uid and container.spec.name == name
        ]
        return max(found, key=lambda state: state.attempt, default=None)

    def spec_of(self, container_id: str) -> ContainerSpec:
        """Return what it was started with."""
        return self.containers[container_id].spec

    def running(self, pod_uid: str) -> set[str]:
        """Return the names of a pod's running containers."""
        return {
            container.spec.name
            for container in self.containers.values()
            if container.pod_uid == pod_uid and container.state.state == "running"
        }

    def exit(
        self, pod_uid: str, name: str, code: int = 0, *, signal: int = 0, oom_killed: bool = False
    ) -> None:
        """Let the running container of that name end by itself."""
        state = self.find(pod_uid, name)
        assert state is not None and state.state == "running", f"{name} does not run"
        self._end(state.id, code, signal=signal, oom_killed=oom_killed)

    def lose_sandbox(self, pod_uid: str) -> None:
        """Let the sandbox die, and with it every container, as at a reboot."""
        self.sandboxes[pod_uid].ready = False
        for container in list(self.containers.values()):
            if container.pod_uid == pod_uid and container.state.state == "running":
                self._end(container.state.id, 255)
        self._changed(pod_uid)

    def write_output(self, container_id: str, data: bytes) -> None:
        """Append to a container's log."""
        self.containers[container_id].output += data

    def release_pulls(self, image: str) -> None:
        """Let the held pulls of an image go on."""
        for waiting in self.held_pulls.pop(image):
            waiting.callback(None)

    # -- IContainerRuntime -----------------------------------------------------------

    def start(self) -> Deferred[None]:
        return self._answer(lambda: None)

    def stop(self) -> Deferred[None]:
        self._callbacks.clear()
        return succeed(None)

    def version(self) -> Deferred[str]:
        return self._answer(lambda: "1.0")

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def pods(self) -> Deferred[list[PodState]]:
        return self._answer(lambda: [self._pod(uid) for uid in self._uids()])

    def ensure_image(self, image: str, policy: str, auths: tuple[ImageAuth, ...]) -> Deferred[str]:
        return Deferred.fromCoroutine(self._ensure_image(image, policy, auths))

    def run_sandbox(self, spec: SandboxSpec) -> Deferred[PodState]:
        return self._answer(lambda: self._run_sandbox(spec))

    def start_container(self, pod_uid: str, spec: ContainerSpec) -> Deferred[str]:
        return self._answer(lambda: self._start_container(pod_uid, spec))

    def stop_container(self, container_id: str, grace_seconds: float) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop_container(container_id, grace_seconds))

    def remove_container(self, container_id: str) -> Deferred[None]:
        return self._answer(lambda: self._remove_container(container_id))

    def remove_pod(self, pod_uid: str) -> Deferred[None]:
        return self._answer(lambda: self._remove_pod(pod_uid))

    def exec(
        self, container_id: str, command: tuple[str, ...], timeout: float
    ) -> Deferred[ExecResult]:
        return self._answer(lambda: self._exec(container_id, command))

    def logs(self, container_id: str, *, tail: int | None = None) -> Deferred[bytes]:
        return self._answer(lambda: self._logs(container_id, tail))

    def pod_ip(self, pod_uid: str) -> Deferred[str]:
        return self._answer(lambda: self._pod(pod_uid).ip)

    def remove_unused_images(self, keep: frozenset[str], want_free_bytes: int) -> Deferred[int]:
        return self._answer(lambda: self._remove_unused_images(keep, want_free_bytes))

    # -- how -------------------------------------------------------------------------

    def _answer(self, call: Callable[[], Any]) -> Deferred[Any]:
        try:
            self._check_up()
            return succeed(call())
        except ContainerError as error:
            return fail(error)

    def _check_up(self) -> None:
        if self.down:
            raise ContainerError("RuntimeUnavailable", "the fake engine is down")

    def _uids(self) -> list[str]:
        return list(
            dict.fromkeys([*self.sandboxes, *(c.pod_uid for c in self.containers.values())])
        )

    def _pod(self, uid: str) -> PodState:
        sandbox = self.sandboxes.get(uid)
        if sandbox is None:
            return PodState(
                namespace="", pod="", uid=uid, sandbox_id="", sandbox_ready=False, ip=""
            )
        states = [c.state for c in self.containers.values() if c.pod_uid == uid]
        states.sort(key=lambda state: (state.name, -state.attempt))
        return PodState(
            namespace=sandbox.spec.namespace,
            pod=sandbox.spec.pod,
            uid=uid,
            sandbox_id=sandbox.id,
            sandbox_ready=sandbox.ready,
            ip=self.ip if sandbox.ready else "",
            containers=tuple(states),
        )

    def _new_id(self, kind: str) -> str:
        self._serial += 1
        return f"{kind}-{self._serial}"

    def _changed(self, pod_uid: str) -> None:
        def announce() -> None:
            for callback in list(self._callbacks):
                callback(pod_uid)

        if self._callbacks:
            self._clock.callLater(0, announce)

    async def _ensure_image(self, image: str, policy: str, auths: tuple[ImageAuth, ...]) -> str:
        self._check_up()
        reference = parse_image(image).reference
        present = self.local_images.get(reference)
        if policy == "Never":
            if present is None:
                raise ContainerError(
                    "ErrImageNeverPull",
                    f'Container image "{image}" is not present with pull policy of Never',
                )
            return present
        if present is not None and policy == "IfNotPresent":
            return present
        if image in self.held_pulls:
            waiting: Deferred[None] = Deferred()
            self.held_pulls[image].append(waiting)
            await waiting
        self.pulls.append(image)
        self.auths.append(auths)
        if image in self.pull_errors:
            raise ContainerError("ErrImagePull", self.pull_errors[image])
        return self.local_images.setdefault(reference, f"fake://{reference}")

    def _run_sandbox(self, spec: SandboxSpec) -> PodState:
        old = self.sandboxes.get(spec.uid)
        if old is None or not old.ready:
            self.calls.append(("run_sandbox", spec.uid))
            if self.sandbox_error is not None:
                raise self.sandbox_error
            for container in self.containers.values():
                if container.pod_uid == spec.uid and container.state.state == "running":
                    self._end(container.state.id, 137, signal=9)
            self.sandboxes[spec.uid] = _Sandbox(spec, self._new_id("sandbox"))
        return self._pod(spec.uid)

    def _start_container(self, pod_uid: str, spec: ContainerSpec) -> str:
        self.calls.append(("start_container", f"{spec.name}#{spec.attempt}"))
        sandbox = self.sandboxes.get(pod_uid)
        if sandbox is None or not sandbox.ready:
            raise ContainerError("CreateContainerError", f"pod {pod_uid} has no sandbox")
        if spec.name in self.start_errors:
            raise self.start_errors[spec.name]
        if any(
            (c.pod_uid, c.spec.name, c.spec.attempt) == (pod_uid, spec.name, spec.attempt)
            for c in self.containers.values()
        ):
            raise ContainerError(
                "CreateContainerError", f"container {spec.name} attempt {spec.attempt} exists"
            )
        reference = parse_image(spec.image).reference
        if reference not in self.local_images:
            raise ContainerError("CreateContainerError", f"no such image: {spec.image}")
        program = self.programs.get(spec.command + spec.args, Program())
        now = self._now()
        state = ContainerState(
            id=self._new_id("container"),
            name=spec.name,
            attempt=spec.attempt,
            image=spec.image,
            image_id=self.local_images[reference],
            spec_hash=spec.spec_hash,
            state="running",
            created_at=now,
            started_at=now,
        )
        if program.not_found:
            text = f'exec: "{spec.command[0]}": executable file not found in $PATH'
            state = replace(
                state,
                state="exited",
                started_at=0.0,
                finished_at=now,
                exit_code=127,
                error=text,
            )
            self.containers[state.id] = _Container(spec, pod_uid, state)
            raise ContainerError("RunContainerError", text)
        self.containers[state.id] = _Container(spec, pod_uid, state, output=program.output)
        self._changed(pod_uid)
        if program.exits is not None:
            self._end(state.id, program.exits)
        return state.id

    def _end(
        self, container_id: str, code: int, *, signal: int = 0, oom_killed: bool = False
    ) -> None:
        container = self.containers[container_id]
        container.state = replace(
            container.state,
            state="exited",
            finished_at=self._now(),
            exit_code=code,
            signal=signal,
            oom_killed=oom_killed,
        )
        self._changed(container.pod_uid)
        ended, container.ended = container.ended, []
        for waiting in ended:
            waiting.callback(None)

    async def _stop_container(self, container_id: str, grace_seconds: float) -> None:
        self._check_up()
        self.calls.append(("stop_container", container_id))
        container = self.containers.get(container_id)
        if container is None or container.state.state != "running":
            return
        program = self.programs.get(container.spec.command + container.spec.args, Program())
        if not program.ignores_sigterm:
            if program.on_sigterm is None:
                self._end(container_id, 143, signal=15)
            else:
                self._end(container_id, program.on_sigterm)
            return
        waiting: Deferred[None] = Deferred()
        container.ended.append(waiting)
        self._clock.callLater(grace_seconds, self._kill, container_id)
        await waiting

    def _kill(self, container_id: str) -> None:
        container = self.containers.get(container_id)
        if container is not None and container.state.state == "running":
            self._end(container_id, 137, signal=9)

    def _remove_container(self, container_id: str) -> None:
        self.calls.append(("remove_container", container_id))
        container = self.containers.get(container_id)
        if container is None:
            return
        if container.state.state == "running":
            raise ContainerError(
                "RemoveContainerError", f"container {container_id} still runs: stop it first"
            )
        del self.containers[container_id]

    def _remove_pod(self, pod_uid: str) -> None:
        self.calls.append(("remove_pod", pod_uid))
        for container in list(self.containers.values()):
            if container.pod_uid == pod_uid:
                if container.state.state == "running":
                    self._end(container.state.id, 137, signal=9)
                del self.containers[container.state.id]
        if self.sandboxes.pop(pod_uid, None) is not None:
            self._changed(pod_uid)

    def _exec(self, container_id: str, command: tuple[str, ...]) -> ExecResult:
        container = self.containers.get(container_id)
        if container is None or container.state.state != "running":
            raise ContainerError("ExecError", f"container {container_id} does not run")
        result = self.execs.get(command, ExecResult(exit_code=0, output=b""))
        if isinstance(result, ContainerError):
            raise result
        return result

    def _logs(self, container_id: str, tail: int | None) -> bytes:
        container = self.containers.get(container_id)
        if container is None:
            raise ContainerError("NotFound", f"no container {container_id}")
        if tail is None:
            return container.output
        lines = [line for line in re.split(rb"(?<=\n)", container.output) if line]
        return b"".join(lines[-tail:] if tail else [])

    def _remove_unused_images(self, keep: frozenset[str], want_free_bytes: int) -> int:
        used = {parse_image(c.spec.image).reference for c in self.containers.values()}
        used |= {parse_image(name).reference for name in keep}
        freed = 0
        for reference in [name for name in self.local_images if name not in used]:
            if freed >= want_free_bytes:
                break
            del self.local_images[reference]
            freed += 1
        return freed
