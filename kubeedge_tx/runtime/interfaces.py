"""What Edged needs of whatever runs containers.

A pod is a *sandbox* (what its containers share) and its containers. The runtime keeps
enough beside them (labels, or files) that a restarted agent finds its pods again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A container port published on the host."""

    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host path made visible in a container."""

    host_path: Path
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What the containers of a pod share."""

    namespace: str
    pod: str
    uid: str
    hostname: str
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_processes: bool = False
    ports: tuple[PortMapping, ...] = ()
    dns_servers: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    host_aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Pairs of IP and host names."""
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """How much of a container's output is kept. Source: kubelet's defaults."""

    file_bytes: int = 10 * 1024 * 1024
    """When a file is full and the next begins; ``containerLogMaxSize``."""
    files: int = 5
    """How many are kept; ``containerLogMaxFiles``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container to start."""

    name: str
    image: str
    attempt: int = 0
    """How often it was started before."""
    command: tuple[str, ...] = ()
    """Replaces the image's entry point if not empty."""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    cpu_millis_request: int = 0
    cpu_millis_limit: int = 0
    """0 is no limit."""
    memory_bytes_limit: int = 0
    user: int | None = None
    group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    privileged: bool = False
    read_only_root: bool = False
    allow_privilege_escalation: bool = True
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    termination_message_file: Path | None = None
    """A host file whose text becomes the exit message; mounted at the path below."""
    termination_message_path: str = "/dev/termination-log"
    spec_hash: str = ""
    """Edged's hash of the pod spec's part; given back in :class:`ContainerState`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """A container as the runtime has it."""

    id: str
    name: str
    attempt: int
    image: str
    image_id: str
    spec_hash: str
    state: Literal["created", "running", "exited"]
    created_at: float
    """Wall clock, seconds."""
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    signal: int = 0
    """What ended it, where the runtime knows; ``exit_code`` is then 128 and more."""
    oom_killed: bool = False
    error: str = ""
    """Why it could not be started, if it could not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """A pod as the runtime has it: its newest sandbox and all its containers."""

    namespace: str
    pod: str
    uid: str
    sandbox_id: str
    sandbox_ready: bool
    ip: str = ""
    containers: tuple[ContainerState, ...] = field(default=())
    """Newest first for each name; earlier attempts may be among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAuth:
    """Registry credentials from a pull secret."""

    registry: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command in a container ended."""

    exit_code: int
    output: bytes


class IContainerRuntime(Interface):
    """Runs pods. Calls fire when done, and fail with ContainerError for what a pod's author
    or the machine's operator can mend; ``RuntimeUnavailable`` from any of them means that
    the engine does not answer.
    """

    name: str = Attribute("``docker`` or ``process``: in ``containerRuntimeVersion``.")

    def start() -> Deferred[None]:
        """Connect; called once before anything else.

        :raises ContainerError: the engine cannot be reached, with what to do.
        """

    def stop() -> Deferred[None]:
        """Let go. Containers stay as they are."""

    def version() -> Deferred[str]:
        """The engine's version; fails if it does not answer (the node is then NotReady)."""

    def on_change(callback: Callable[[str], None]) -> None:
        """Call ``callback(pod_uid)``, in the reactor, when a container starts or ends."""

    def pods() -> Deferred[list[PodState]]:
        """All pods that this runtime has, also those a former agent started."""

    def ensure_image(image: str, policy: str, auths: tuple[ImageAuth, ...]) -> Deferred[str]:
        """Have an image here.

        :param policy: ``Always``, ``IfNotPresent`` or ``Never``.
        :returns: the image's id.
        :raises ContainerError: ``ErrImagePull``, ``ErrImageNeverPull``, ``InvalidImageName``.
        """

    def run_sandbox(spec: SandboxSpec) -> Deferred[PodState]:
        """Create what the containers share; idempotent for a uid whose sandbox is ready.

        What still runs in an older sandbox, which is not ready, is killed first.

        :raises ContainerError: ``CreatePodSandboxError``, ``CreateContainerConfigError``.
        """

    def start_container(pod_uid: str, spec: ContainerSpec) -> Deferred[str]:
        """Create and start a container in its pod's sandbox.

        :returns: its id.
        :raises ContainerError: ``CreateContainerConfigError``, ``CreateContainerError``;
            ``RunContainerError``, after which the attempt is listed as exited, with code
            126 to 128, the text in ``error``, and ``started_at`` 0.
        """

    def stop_container(container_id: str, grace_seconds: float) -> Deferred[None]:
        """SIGTERM, then SIGKILL after the grace; fires when it has ended. Idempotent."""

    def remove_container(container_id: str) -> Deferred[None]:
        """Remove an ended container and its log. Idempotent.

        :raises ContainerError: ``RemoveContainerError``: it runs.
        """

    def remove_pod(pod_uid: str) -> Deferred[None]:
        """Kill and remove the sandbox and every container that is left. Idempotent."""

    def exec(container_id: str, command: tuple[str, ...], timeout: float) -> Deferred[ExecResult]:
        """Run a command in a container.

        A command that is not found is a result too: code 126 or 127, and a text as output.

        :raises ContainerError: ``ExecError``: the container does not run; ``ExecTimeout``:
            the command did not end in time and was killed.
        """

    def logs(container_id: str, *, tail: int | None = None) -> Deferred[bytes]:
        """The container's output so far, stdout and stderr interleaved.

        :param tail: only the last so many lines.
        :raises ContainerError: ``NotFound``.
        """

    def pod_ip(pod_uid: str) -> Deferred[str]:
        """The address probes reach the pod at; empty while there is none."""

    def remove_unused_images(keep: frozenset[str], want_free_bytes: int) -> Deferred[int]:
        """Remove images no container uses, oldest first, until enough is free.

        :param keep: image names never to remove.
        :returns: bytes freed.
        """
