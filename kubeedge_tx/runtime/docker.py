"""The ``docker`` runtime: pods in a Docker engine, 20.10 or later.

A pod's containers share the network and IPC (and, if asked for, PID) namespaces of its
sandbox, whose image is made here (``docker_pause.py``), so that no registry is needed.
Everything of a pod is known by labels (``docker_specs.py``): a restarted agent, or a
restarted engine, finds it again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from docker.errors import APIError
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime import docker_calls as calls
from kubeedge_tx.runtime import docker_specs as specs
from kubeedge_tx.runtime.docker_engine import Engine, Stream, refusal
from kubeedge_tx.runtime.docker_pause import PAUSE_IMAGE
from kubeedge_tx.runtime.images import parse_image
from kubeedge_tx.runtime.interfaces import (
    ContainerSpec,
    ExecResult,
    IContainerRuntime,
    ImageAuth,
    LogLimits,
    PodState,
    SandboxSpec,
)

_LOOK_AGAIN_SECONDS: Final = 2.0
"""How long an awaited end is believed to be announced; then the engine is asked."""


@implementer(IContainerRuntime)
class DockerRuntime:
    """Pods in a Docker engine.

    :param base_url: where the engine is; ``None`` as ``DOCKER_HOST`` says, or the usual socket.
    :param sandbox_image: ``kubeedge-tx/pause:1`` is made here, any other pulled if missing.
    :param owner: tells apart the pods of several agents on one engine: the node's name.
    :param logs: how much of a container's output is kept.
    :param new_id: makes sandbox names unique.
    """

    name = "docker"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        base_url: str | None = None,
        sandbox_image: str = PAUSE_IMAGE,
        owner: str = "edge",
        logs: LogLimits | None = None,
        new_id: Callable[[], str] = lambda: uuid4().hex[:8],
    ) -> None:
        self._reactor = reactor
        self._base_url = base_url
        self._sandbox_image = sandbox_image
        self._owner = owner
        self._log_limits = logs or LogLimits()
        self._new_id = new_id
        self._engine = Engine(reactor, base_url, owner)
        self._callbacks: list[Callable[[str], None]] = []
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}
        """Containers as inspected, with their state then; an event makes us look again."""
        self._changes: set[Deferred[None]] = set()

    # -- life --------------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        self._callbacks.clear()
        self._known.clear()
        for change in list(self._changes):
            change.cancel()
        return self._engine.stop()

    def version(self) -> Deferred[str]:
        return Deferred.fromCoroutine(self._version())

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    async def _start(self) -> None:
        self._engine = Engine(self._reactor, self._base_url, self._owner)
        self._engine.start()
        try:
            info = await self._ask(lambda client: client.info())
            for summary in await self._ask(calls.list_owned, self._owner):
                if summary["State"] == "created":
                    await self._drop_if_never_started(summary["Id"])
        except ContainerError:
            await self._engine.stop()
            raise
        self._engine.listen(int(specs.seconds(info["SystemTime"])), self._on_event)

    async def _drop_if_never_started(self, container_id: str) -> None:
        # A former agent ended between creating and starting it.
        inspected = await self._ask(calls.inspect, container_id)
        if inspected is not None and specs.never_started(inspected):
            await self._ask(calls.remove, container_id, force=True)

    async def _version(self) -> str:
        version = await self._ask(lambda client: client.version())
        return str(version["Version"]).partition("+")[0]

    async def _ask(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the engine; an unforeseen refusal is a ContainerError too."""
        try:
            return await self._engine.call(function, *arguments, **named)
        except APIError as error:
            raise ContainerError("RuntimeError", refusal(error)) from error

    def _on_event(self, container_id: str, pod_uid: str) -> None:
        if not container_id:  # after a gap
            uids = {
                inspected["Config"]["Labels"][specs.POD_UID]
                for _, inspected in self._known.values()
            }
            self._known.clear()
        else:
            uids = {pod_uid}
            self._known.pop(container_id, None)
        changes, self._changes = self._changes, set()
        for change in changes:
            change.callback(None)
        for uid in uids:
            for callback in list(self._callbacks):
                try:
                    callback(uid)
                except Exception:  # noqa: BLE001 - one listener's fault is not the others'
                    self._log.failure("a listener of container changes failed")

    # -- pods --------------------------------------------------------------------------

    def pods(self) -> Deferred[list[PodState]]:
        return Deferred.fromCoroutine(self._pods())

    def pod_ip(self, pod_uid: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self._pod_ip(pod_uid))

    def run_sandbox(self, spec: SandboxSpec) -> Deferred[PodState]:
        return Deferred.fromCoroutine(self._run_sandbox(spec))

    def remove_pod(self, pod_uid: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove_pod(pod_uid))

    async def _inspected(self, pod_uid: str = "") -> list[dict[str, Any]]:
        """Inspect all containers, or a pod's, newest first; only those that may differ."""
        summaries = await self._ask(calls.list_owned, self._owner, pod_uid)
        # Copied, since events may take entries away while we wait.
        found = {
            each["Id"]: self._known[each["Id"]][1]
            for each in summaries
            if self._known.get(each["Id"], ("", {}))[0] == each["State"]
        }
        ids = [each["Id"] for each in summaries]
        stale = [each for each in ids if each not in found]
        fresh = await self._ask(calls.inspect_many, stale) if stale else {}
        for container_id, inspected in fresh.items():
            self._known[container_id] = (inspected["State"]["Status"], inspected)
        found |= fresh
        if not pod_uid:
            for gone in set(self._known) - set(ids):
                del self._known[gone]
        return [found[each] for each in ids if each in found]

    async def _pods(self) -> list[PodState]:
        by_uid: dict[str, list[dict[str, Any]]] = {}
        for inspected in await self._inspected():
            uid = inspected["Config"]["Labels"][specs.POD_UID]
            by_uid.setdefault(uid, []).append(inspected)
        return [self._put_together(found) for found in by_uid.values()]

    @staticmethod
    def _put_together(found: list[dict[str, Any]]) -> PodState:
        sandboxes, containers = _split(found)
        if not sandboxes:
            return specs.pod_without_sandbox(containers)
        return specs.pod_state(sandboxes[0], containers)

    async def _pod_ip(self, pod_uid: str) -> str:
        for sandbox in _split(await self._inspected(pod_uid))[0]:
            if specs.is_running(sandbox):
                return specs.address(sandbox)
        return ""

    async def _run_sandbox(self, spec: SandboxSpec) -> PodState:
        found = await self._inspected(spec.uid)
        sandboxes, containers = _split(found)
        if sandboxes and specs.is_running(sandboxes[0]):
            return self._put_together(found)
        for container in containers:
            if specs.is_running(container):  # in namespaces that nobody else can join
                await self._ask(calls.kill, container["Id"])
        for sandbox in sandboxes:
            await self._ask(calls.remove, sandbox["Id"], force=True)
        if self._sandbox_image == PAUSE_IMAGE:
            await self._ask(calls.ensure_pause_image)
        else:
            await self._ensure_image(self._sandbox_image, "IfNotPresent", ())
        name = specs.sandbox_name(spec, self._new_id())
        config = specs.sandbox_config(spec, self._sandbox_image, self._owner)
        sandbox_id = await self._ask(calls.create, name, config, "CreatePodSandboxError")
        try:
            await self._ask(calls.start, sandbox_id, "CreatePodSandboxError")
        except ContainerError:
            await self._ask(calls.remove, sandbox_id, force=True)
            raise
        return self._put_together(await self._inspected(spec.uid))

    async def _remove_pod(self, pod_uid: str) -> None:
        sandboxes, containers = _split(await self._inspected(pod_uid))
        for each in (*containers, *sandboxes):
            await self._ask(calls.remove, each["Id"], force=True)
            self._known.pop(each["Id"], None)

    # -- images ------------------------------------------------------------------------

    def ensure_image(self, image: str, policy: str, auths: tuple[ImageAuth, ...]) -> Deferred[str]:
        return Deferred.fromCoroutine(self._ensure_image(image, policy, auths))

    def remove_unused_images(self, keep: frozenset[str], want_free_bytes: int) -> Deferred[int]:
        return Deferred.fromCoroutine(
            self._ask(calls.remove_unused_images, keep | {self._sandbox_image}, want_free_bytes)
        )

    async def _ensure_image(self, image: str, policy: str, auths: tuple[ImageAuth, ...]) -> str:
        parse_image(image)
        present: str | None = await self._ask(calls.local_image, image)
        if policy == "Never" and present is None:
            raise ContainerError(
                "ErrImageNeverPull",
                f'Container image "{image}" is not present with pull policy of Never',
            )
        if present is not None and policy != "Always":
            return present
        try:
            pulled: str = await self._engine.stream(Stream(), calls.pull, image, auths)
        except APIError as error:
            raise ContainerError("ErrImagePull", refusal(error)) from error
        return pulled

    # -- containers --------------------------------------------------------------------

    def start_container(self, pod_uid: str, spec: ContainerSpec) -> Deferred[str]:
        return Deferred.fromCoroutine(self._start_container(pod_uid, spec))

    def stop_container(self, container_id: str, grace_seconds: float) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop_container(container_id, grace_seconds))

    def remove_container(self, container_id: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove_container(container_id))

    def exec(
        self, container_id: str, command: tuple[str, ...], timeout: float
    ) -> Deferred[ExecResult]:
        return Deferred.fromCoroutine(self._exec(container_id, command, timeout))

    def logs(self, container_id: str, *, tail: int | None = None) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._logs(container_id, tail))

    async def _start_container(self, pod_uid: str, spec: ContainerSpec) -> str:
        parse_image(spec.image)
        running = [
            each for each in _split(await self._inspected(pod_uid))[0] if specs.is_running(each)
        ]
        if not running:
            raise ContainerError("CreateContainerError", f"pod {pod_uid} has no sandbox")
        sandbox = running[0]
        name = specs.container_name(sandbox["Config"]["Labels"], spec)
        config = specs.container_config(sandbox["Id"], sandbox, spec, self._log_limits)
        container_id: str = await self._ask(calls.create, name, config, "CreateContainerError")
        await self._ask(calls.start, container_id, "RunContainerError")
        return container_id

    async def _stop_container(self, container_id: str, grace_seconds: float) -> None:
        inspected = await self._ask(calls.inspect, container_id)
        if inspected is None or not specs.is_running(inspected):
            return
        # Not the engine's own stop: that would hold a thread for the whole grace.
        await self._ask(
            calls.kill, container_id, inspected["Config"].get("StopSignal") or "SIGTERM"
        )
        kill_at = self._reactor.seconds() + max(grace_seconds, 0)
        killed = False
        while True:
            change = self._next_change()  # before looking, so that none is missed
            inspected = await self._ask(calls.inspect, container_id)
            if inspected is None or not specs.is_running(inspected):
                self._changes.discard(change)
                return
            left = kill_at - self._reactor.seconds()
            if left <= 0 and not killed:
                killed = True
                await self._ask(calls.kill, container_id)
            change.addTimeout(
                _LOOK_AGAIN_SECONDS if killed else min(left, _LOOK_AGAIN_SECONDS), self._reactor
            )
            with suppress(DeferredTimeout):
                await change

    def _next_change(self) -> Deferred[None]:
        change: Deferred[None] = Deferred(self._changes.discard)
        self._changes.add(change)
        return change

    async def _remove_container(self, container_id: str) -> None:
        await self._ask(calls.remove, container_id, force=False)
        self._known.pop(container_id, None)

    async def _exec(
        self, container_id: str, command: tuple[str, ...], timeout: float
    ) -> ExecResult:
        stream = Stream()
        started: list[str] = []
        late = False

        def too_late() -> None:
            nonlocal late
            late = True
            stream.cut()

        timer = self._reactor.callLater(timeout, too_late)
        try:
            result: ExecResult = await self._engine.stream(
                stream, calls.run_command, container_id, command, started
            )
        except ContainerError:
            if not late:
                raise
        finally:
            if timer.active():
                timer.cancel()
        if not late:
            return result
        if started:
            await self._ask(calls.kill_command, container_id, started[0])
        raise ContainerError("ExecTimeout", f"command {command[0]!r} timed out after {timeout:g} s")

    async def _logs(self, container_id: str, tail: int | None) -> bytes:
        log: bytes = await self._ask(calls.read_log, container_id, tail)
        return log if tail != 0 else b""


def _split(
    found: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Tell sandboxes from containers."""
    sandboxes: list[dict[str, Any]] = []
    containers: list[dict[str, Any]] = []
    for each in found:
        is_sandbox = each["Config"]["Labels"][specs.KIND] == "sandbox"
        (sandboxes if is_sandbox else containers).append(each)
    return sandboxes, containers
