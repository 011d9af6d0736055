"""The ``process`` runtime: pods as plain processes of the host, for where no engine is.

**No isolation is promised.** A container's image is only a name; its command and
arguments run from the host's file system, on the host's network (a pod's address is
127.0.0.1 and its ports are the host's), beside all other processes. Without a command there
is nothing to run. Not there at all: CPU and memory limits, capabilities, host name, DNS
and sysctls of a pod, publishing of ports, a read-only root. A user or group other than the
agent's needs the agent to be root.

**Volumes** appear at their container paths if the kernel lets us have mounts of our own, as
root or in a user namespace: see ``process_launcher.py``. Where it does not, command,
arguments, environment and working directory are rewritten: wherever a mounted container
path stands in them, the host path is put (:class:`~.process_records.PathRewriter`), and the
environment variable ``KUBEEDGE_MOUNTS`` says ``<container path>=<host path>``, several
separated by ``:``; read-only is then not enforced.

**Environment.** ``PATH``, ``HOSTNAME``, ``HOME``, and what the pod says. Nothing of the
agent's.

**Life.** Each container is watched over by a process of its own (``process_shim.py``) that
outlives the agent, however that ends. A restarted agent finds its containers by their
records (``process_records.py``): a process is known by its pid, its start time and the
host's boot. A service manager must leave them alone: ``KillMode=process`` in systemd.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime import process_plan as plan
from kubeedge_tx.runtime import process_records as records
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
from kubeedge_tx.runtime.process_container import ProcessContainer, ShimWatch
from kubeedge_tx.runtime.process_logs import read_log
from kubeedge_tx.runtime.process_records import (
    ContainerRecord,
    ExitRecord,
    RunningRecord,
    SandboxRecord,
)
from kubeedge_tx.runtime.process_spawn import launch, run_command

_EXIT_UNKNOWN = 255
"""Exit code of what ended while the host was off. Source: kubelet gives the same."""


@implementer(IContainerRuntime)
class ProcessRuntime:
    """Pods as processes under supervisors of their own.

    :param root: a folder of its own, for records and logs.
    :param wall_clock: seconds since the epoch.
    :param namespaces: how volumes are mounted: ``root`` and ``user`` try only that,
        ``none`` never tries; ``auto`` takes what works.
    :param logs: how much of a container's output is kept.
    :param new_id: makes ids for sandboxes and containers.
    """

    name = "process"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        root: Path,
        wall_clock: Callable[[], float],
        *,
        namespaces: Literal["auto", "root", "user", "none"] = "auto",
        logs: LogLimits | None = None,
        new_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._reactor = reactor
        self._root = root.absolute()
        self._now = wall_clock
        self._wish = namespaces
        self._log_limits = logs or LogLimits()
        self._new_id = new_id
        self._namespaces = "none"
        self._boot = ""
        self._callbacks: list[Callable[[str], None]] = []
        self._sandboxes: dict[str, SandboxRecord] = {}
        self._containers: dict[str, ProcessContainer] = {}
        self._pool: ThreadPool | None = None

    # -- life ------------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def version(self) -> Deferred[str]:
        return Deferred.fromCoroutine(self._version())

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    async def _start(self) -> None:
        if not hasattr(os, "pidfd_open"):
            raise ContainerError(
                "RuntimeUnavailable", "the process runtime needs Linux 5.3 or later"
            )
        try:
            (self._root / "pods").mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._root / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ContainerError(
                "RuntimeUnavailable", f"the process runtime cannot use {self._root}: {error}"
            ) from error
        self._boot = records.boot_id()
        self._namespaces = await self._probe()
        if self._namespaces == "none":
            self._log.warn(
                "no mount namespaces here: volume paths in commands and environments"
                " are rewritten to paths of the host"
            )
        self._pool = ThreadPool(0, 2, "process-runtime")
        self._pool.start()
        await self._adopt()

    async def _stop(self) -> None:
        self._callbacks.clear()
        for container in self._containers.values():
            container.let_go()
        self._containers.clear()
        self._sandboxes.clear()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()

    async def _version(self) -> str:
        self._check_started()
        return platform.release()

    async def _probe(self) -> str:
        if self._wish == "auto":
            kinds: tuple[str, ...] = ("root", "user") if os.geteuid() == 0 else ("user",)
        else:
            kinds = () if self._wish == "none" else (self._wish,)
        folder = self._root / "probe"
        folder.mkdir(exist_ok=True, mode=0o700)
        for kind in kinds:
            spec = {"namespaces": kind, "folder": str(folder)}
            if (await launch(self._reactor, "probe", spec)).exit_code == 0:
                return kind
        return "none"

    async def _adopt(self) -> None:
        """Find what a former agent started, and settle what became of it."""
        for pod in records.pod_folders(self._root):
            sandbox = records.read(pod, "sandbox.json", SandboxRecord)
            if sandbox is None:  # a crash came between folder and record
                await self._in_thread(shutil.rmtree, pod, True)
                continue
            self._sandboxes[sandbox.uid] = sandbox
            for folder in records.container_folders(pod):
                record = records.read(folder, "container.json", ContainerRecord)
                if record is None:
                    await self._in_thread(shutil.rmtree, folder, True)
                    continue
                log = self._log_path(sandbox, record.name, record.attempt)
                container = ProcessContainer(record, folder, log)
                self._containers[record.id] = container
                await self._settle(container)

    async def _settle(self, container: ProcessContainer) -> None:
        lock = records.take_lock(container.folder)
        while lock is None:
            if self._watch(container):
                return
            # Its launcher is at work, or its shim is just about to end.
            await deferLater(self._reactor, 0.05)
            lock = records.take_lock(container.folder)
        os.close(lock)
        running = records.read(container.folder, "running.json", RunningRecord)
        container.running = running
        container.exit = records.read(container.folder, "exit.json", ExitRecord)
        if container.exit is not None:
            return
        if running is None:
            text = "the agent ended before this was started"
        elif running.boot != self._boot:
            text = "the host was restarted meanwhile"
        else:
            text = "its supervisor ended without a report"
            container.kill_leftover()
        self._end(container, ExitRecord(exit_code=_EXIT_UNKNOWN, finished_at=0.0, error=text))

    def _watch(self, container: ProcessContainer) -> bool:
        """Get told when its shim ends; ``False`` if there is none to watch."""
        running = records.read(container.folder, "running.json", RunningRecord)
        if running is None or running.boot != self._boot:
            return False
        try:
            fd = os.pidfd_open(running.shim)
        except ProcessLookupError:
            return False
        # The descriptor is of whoever had the pid then; the start time says whether
        # that was ours.
        if not records.is_alive(running.shim, running.shim_start):
            os.close(fd)
            return False
        watch = ShimWatch(self._reactor, fd, lambda: self._shim_ended(container))
        container.watched_by(watch, running)
        return True

    def _shim_ended(self, container: ProcessContainer) -> None:
        found = records.read(container.folder, "exit.json", ExitRecord)
        if found is None:
            container.kill_leftover()
            found = ExitRecord(
                exit_code=137, signal=9, finished_at=0.0, error="its supervisor was killed"
            )
        self._end(container, found)

    def _end(self, container: ProcessContainer, found: ExitRecord) -> None:
        if found.finished_at == 0.0:
            found = ExitRecord(
                exit_code=found.exit_code,
                signal=found.signal,
                error=found.error,
                finished_at=self._now(),
            )
            try:
                records.write(container.folder, "exit.json", found)
            except OSError as error:  # it is settled again at the next start
                self._log.warn(
                    "cannot write {folder}: {error}", folder=container.folder, error=error
                )
        container.ended(found)
        self._changed(container.record.pod_uid)

    def _changed(self, pod_uid: str) -> None:
        for callback in list(self._callbacks):
            try:
                callback(pod_uid)
            except Exception:  # noqa: BLE001 - one listener's fault is not the others'
                self._log.failure("a listener of container changes failed")

    # -- pods ------------------------------------------------------------------------

    def pods(self) -> Deferred[list[PodState]]:
        return Deferred.fromCoroutine(self._pods())

    def pod_ip(self, pod_uid: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self._pod_ip(pod_uid))

    def ensure_image(self, image: str, policy: str, auths: tuple[ImageAuth, ...]) -> Deferred[str]:
        """Accept any name that could be an image's; there is nothing to pull."""
        return Deferred.fromCoroutine(self._ensure_image(image))

    def remove_unused_images(self, keep: frozenset[str], want_free_bytes: int) -> Deferred[int]:
        """Free nothing: there are no images."""
        return Deferred.fromCoroutine(self._remove_unused_images())

    def run_sandbox(self, spec: SandboxSpec) -> Deferred[PodState]:
        return Deferred.fromCoroutine(self._run_sandbox(spec))

    def remove_pod(self, pod_uid: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove_pod(pod_uid))

    async def _pods(self) -> list[PodState]:
        self._check_started()
        return [self._pod_state(sandbox) for sandbox in self._sandboxes.values()]

    async def _pod_ip(self, pod_uid: str) -> str:
        self._check_started()
        sandbox = self._sandboxes.get(pod_uid)
        return self._pod_state(sandbox).ip if sandbox else ""

    async def _ensure_image(self, image: str) -> str:
        self._check_started()
        parse_image(image)
        return f"process://{image}"

    async def _remove_unused_images(self) -> int:
        self._check_started()
        return 0

    def _pod_state(self, sandbox: SandboxRecord) -> PodState:
        ready = sandbox.boot == self._boot
        states = [container.state() for container in self._of_pod(sandbox.uid)]
        states.sort(key=lambda state: (state.name, -state.attempt))
        return PodState(
            namespace=sandbox.namespace,
            pod=sandbox.pod,
            uid=sandbox.uid,
            sandbox_id=sandbox.id,
            sandbox_ready=ready,
            ip="127.0.0.1" if ready else "",
            containers=tuple(states),
        )

    def _of_pod(self, pod_uid: str) -> list[ProcessContainer]:
        return [each for each in self._containers.values() if each.record.pod_uid == pod_uid]

    async def _run_sandbox(self, spec: SandboxSpec) -> PodState:
        self._check_started()
        old = self._sandboxes.get(spec.uid)
        if old is not None and old.boot == self._boot:
            return self._pod_state(old)
        for what, name in (
            ("pod uid", spec.uid),
            ("pod name", spec.pod),
            ("namespace", spec.namespace),
        ):
            records.check_name(what, name)
        sandbox = SandboxRecord(
            id=self._new_id(),
            namespace=spec.namespace,
            pod=spec.pod,
            uid=spec.uid,
            hostname=spec.hostname,
            boot=self._boot,
        )
        folder = self._root / "pods" / spec.uid
        try:
            folder.mkdir(exist_ok=True, mode=0o700)
            records.write(folder, "sandbox.json", sandbox)
        except OSError as error:
            raise ContainerError(
                "CreatePodSandboxError", f"cannot keep the pod: {error}"
            ) from error
        self._sandboxes[spec.uid] = sandbox
        return self._pod_state(sandbox)

    async def _remove_pod(self, pod_uid: str) -> None:
        self._check_started()
        sandbox = self._sandboxes.get(pod_uid)
        if sandbox is None:
            return
        containers = self._of_pod(pod_uid)
        for container in containers:
            container.kill()
        for container in containers:
            await container.when_ended()
        # The record goes first: without it, what a crash leaves is thrown away at start.
        (self._root / "pods" / pod_uid / "sandbox.json").unlink(missing_ok=True)
        for container in containers:
            self._containers.pop(container.record.id, None)
        self._sandboxes.pop(pod_uid, None)
        await self._in_thread(shutil.rmtree, self._root / "pods" / pod_uid, True)
        await self._in_thread(shutil.rmtree, self._log_folder(sandbox), True)
        self._changed(pod_uid)

    # -- containers ------------------------------------------------------------------

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
        self._check_started()
        sandbox = self._sandboxes.get(pod_uid)
        if sandbox is None or sandbox.boot != self._boot:
            raise ContainerError("CreateContainerError", f"pod {pod_uid} has no sandbox")
        plan.check(spec, self._namespaces)
        if any(
            (each.record.name, each.record.attempt) == (spec.name, spec.attempt)
            for each in self._of_pod(pod_uid)
        ):
            raise ContainerError(
                "CreateContainerError", f"container {spec.name} attempt {spec.attempt} exists"
            )
        record, launch_spec = plan.plan(
            sandbox, spec, self._namespaces, container_id=self._new_id(), now=self._now()
        )
        folder = self._root / "pods" / pod_uid / spec.name / str(spec.attempt)
        log = self._log_path(sandbox, spec.name, spec.attempt)
        try:
            folder.mkdir(parents=True, mode=0o700)
            log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            records.write(folder, "container.json", record)
            lock = records.take_lock(folder)
        except OSError as error:
            raise ContainerError(
                "CreateContainerError", f"cannot keep container {spec.name}: {error}"
            ) from error
        container = self._containers[record.id] = ProcessContainer(record, folder, log)
        launch_spec |= {
            "folder": str(folder),
            "log": str(log),
            "log_bytes": self._log_limits.file_bytes,
            "log_files": self._log_limits.files,
            "boot": self._boot,
        }
        ended = await launch(self._reactor, "run", launch_spec, lock)
        self._check_started()  # it may have been stopped meanwhile
        if self._watch(container):
            self._changed(pod_uid)
            return record.id
        container.running = records.read(folder, "running.json", RunningRecord)
        found = records.read(folder, "exit.json", ExitRecord)
        if found is None:
            last = ended.error_output.decode(errors="replace").strip().rpartition("\n")[2]
            text = f"its supervisor did not start: {last or ended.exit_code}"
            found = ExitRecord(
                exit_code=128, finished_at=0.0, error=text, reason="RunContainerError"
            )
        self._end(container, found)
        if found.reason:
            raise ContainerError(found.reason, found.error)
        return record.id

    async def _stop_container(self, container_id: str, grace_seconds: float) -> None:
        self._check_started()
        container = self._containers.get(container_id)
        if container is None or container.exit is not None:
            return
        container.terminate()
        killing = self._reactor.callLater(max(grace_seconds, 0), container.kill)
        try:
            await container.when_ended()
        finally:
            if killing.active():
                killing.cancel()

    async def _remove_container(self, container_id: str) -> None:
        self._check_started()
        container = self._containers.get(container_id)
        if container is None:
            return
        if container.exit is None:
            raise ContainerError(
                "RemoveContainerError", f"container {container_id} still runs: stop it first"
            )
        del self._containers[container_id]
        (container.folder / "container.json").unlink(missing_ok=True)
        await self._in_thread(container.remove_files)

    async def _exec(
        self, container_id: str, command: tuple[str, ...], timeout: float
    ) -> ExecResult:
        self._check_started()
        container = self._containers.get(container_id)
        running = container.running if container is not None else None
        if container is None or running is None or container.exit is not None:
            raise ContainerError("ExecError", f"container {container_id} does not run")
        if not command or not records.is_alive(running.pid, running.pid_start):
            raise ContainerError("ExecError", f"container {container_id} does not run any more")
        spec = plan.command_spec(container.record, command) | {"pid": running.pid}
        ended = await run_command(self._reactor, spec, timeout)
        if ended is None:
            raise ContainerError(
                "ExecTimeout", f"command {command[0]!r} timed out after {timeout:g} s"
            )
        return ExecResult(exit_code=ended.exit_code, output=ended.output)

    async def _logs(self, container_id: str, tail: int | None) -> bytes:
        self._check_started()
        container = self._containers.get(container_id)
        if container is None:
            raise ContainerError("NotFound", f"no container {container_id}")
        text: bytes = await self._in_thread(read_log, container.log, tail)
        return text

    # -- how -------------------------------------------------------------------------

    def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        assert self._pool is not None
        return deferToThreadPool(self._reactor, self._pool, call, *arguments)

    def _check_started(self) -> None:
        if self._pool is None:
            raise ContainerError("RuntimeUnavailable", "the process runtime is not started")

    def _log_folder(self, sandbox: SandboxRecord) -> Path:
        return self._root / "logs" / f"{sandbox.namespace}_{sandbox.pod}_{sandbox.uid}"

    def _log_path(self, sandbox: SandboxRecord, name: str, attempt: int) -> Path:
        return self._log_folder(sandbox) / name / f"{attempt}.log"
