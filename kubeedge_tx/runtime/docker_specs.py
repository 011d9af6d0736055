"""Between our words and the Docker Engine API's. Pure.

A pod is an engine container that does nothing (the sandbox) and one for each attempt of
each of its containers, all told apart by labels, so that a restarted agent finds them.

Source: docs.docker.com, Engine API v1.41.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kubeedge_tx.api.timestamps import seconds_since_1970
from kubeedge_tx.runtime.images import ImageName, parse_image
from kubeedge_tx.runtime.interfaces import (
    ContainerSpec,
    ContainerState,
    ImageAuth,
    LogLimits,
    PodState,
    PortMapping,
    SandboxSpec,
)

POD_NAME: Final = "io.kubernetes.pod.name"
POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
POD_UID: Final = "io.kubernetes.pod.uid"
CONTAINER_NAME: Final = "io.kubernetes.container.name"
KIND: Final = "io.kubeedge.kind"
"""``sandbox`` or ``container``."""
OWNER: Final = "io.kubeedge.owner"
"""Which agent's it is; several may share an engine."""
ATTEMPT: Final = "io.kubeedge.attempt"
SPEC_HASH: Final = "io.kubeedge.spec-hash"
IMAGE: Final = "io.kubeedge.image"
"""The image's name as the pod has it."""
SHARE_PROCESSES: Final = "io.kubeedge.share-processes"

_CPU_PERIOD: Final = 100_000
"""Microseconds. Source: kubelet's cpuCFSQuotaPeriod."""
_MIN_CPU_SHARES: Final = 2
_MIN_CPU_QUOTA: Final = 1_000
_OCI_PREFIX: Final = re.compile(
    r"^(?:failed to create (?:shim )?task(?: for container)?: |OCI runtime create failed: "
    r"|runc create failed: |container_linux\.go:\d+: |unable to start container process: "
    r"|starting container process caused: )+"
)
_NO_COMMAND: Final = re.compile(r'exec: ".*(not found|no such file|permission denied)', re.DOTALL)


def sandbox_name(spec: SandboxSpec, unique: str) -> str:
    """Name the sandbox; ``docker ps`` shows it."""
    return f"kubeedge_POD_{spec.pod}_{spec.namespace}_{spec.uid}_{unique}"


def container_name(sandbox: dict[str, str], spec: ContainerSpec) -> str:
    """Name a container, by its sandbox's labels; the attempt makes it unique."""
    pod = f"{sandbox[POD_NAME]}_{sandbox[POD_NAMESPACE]}_{sandbox[POD_UID]}"
    return f"kubeedge_{spec.name}_{pod}_{spec.attempt}"


def sandbox_config(spec: SandboxSpec, image: str, owner: str) -> dict[str, Any]:
    """Return the body of ``POST /containers/create`` for a sandbox."""
    host: dict[str, Any] = {
        "NetworkMode": "host" if spec.host_network else "default",
        "IpcMode": "host" if spec.host_ipc else "shareable",
        "PidMode": "host" if spec.host_pid else "",
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "none"},
        "CpuShares": _MIN_CPU_SHARES,
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges"],
        "Dns": list(spec.dns_servers),
        "DnsSearch": list(spec.dns_searches),
        "DnsOptions": list(spec.dns_options),
        "ExtraHosts": [f"{name}:{ip}" for ip, names in spec.host_aliases for name in names],
        "Sysctls": dict(spec.sysctls),
    }
    config: dict[str, Any] = {
        "Image": image,
        "Labels": {
            KIND: "sandbox",
            OWNER: owner,
            POD_NAME: spec.pod,
            POD_NAMESPACE: spec.namespace,
            POD_UID: spec.uid,
            SHARE_PROCESSES: "true" if spec.share_processes else "false",
        },
        "HostConfig": host,
    }
    if not spec.host_network:
        config["Hostname"] = spec.hostname
        published = [port for port in spec.ports if port.host_port]
        config["ExposedPorts"] = {_port_key(port): {} for port in spec.ports}
        bindings: dict[str, list[dict[str, str]]] = {}
        for port in published:
            binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
            bindings.setdefault(_port_key(port), []).append(binding)
        host["PortBindings"] = bindings
    return config


def _port_key(port: PortMapping) -> str:
    return f"{port.container_port}/{port.protocol.lower()}"


def container_config(
    sandbox_id: str, sandbox: dict[str, Any], spec: ContainerSpec, logs: LogLimits
) -> dict[str, Any]:
    """Return the body of ``POST /containers/create`` for a container.

    :param sandbox: what inspecting the sandbox says.
    :param logs: how much of its output is kept.
    """
    labels: dict[str, str] = sandbox["Config"]["Labels"]
    sandbox_host: dict[str, Any] = sandbox["HostConfig"]
    shared = f"container:{sandbox_id}"
    pid_mode = sandbox_host.get("PidMode") or ""
    if not pid_mode and labels.get(SHARE_PROCESSES) == "true":
        pid_mode = shared
    mounts = [
        (str(mount.host_path), mount.container_path, mount.read_only) for mount in spec.mounts
    ]
    if spec.termination_message_file is not None:
        file = str(spec.termination_message_file)
        mounts.append((file, spec.termination_message_path, False))
    host: dict[str, Any] = {
        "NetworkMode": shared,
        "IpcMode": "host" if sandbox_host.get("IpcMode") == "host" else shared,
        "PidMode": pid_mode,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(logs.file_bytes), "max-file": str(logs.files)},
        },
        # Not "Binds": those make a missing host path, and colons in paths break them.
        "Mounts": [
            {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
            for source, target, read_only in mounts
        ],
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only_root,
        "CapAdd": list(spec.add_capabilities),
        "CapDrop": list(spec.drop_capabilities),
        "GroupAdd": [str(group) for group in spec.supplemental_groups],
        "CpuShares": max(_MIN_CPU_SHARES, spec.cpu_millis_request * 1024 // 1000),
    }
    if spec.cpu_millis_limit:
        quota = spec.cpu_millis_limit * _CPU_PERIOD // 1000
        host["CpuPeriod"] = _CPU_PERIOD
        host["CpuQuota"] = max(_MIN_CPU_QUOTA, quota)
    if spec.memory_bytes_limit:
        # Equal: no swap on top.
        host["Memory"] = host["MemorySwap"] = spec.memory_bytes_limit
    if not spec.allow_privilege_escalation:
        host["SecurityOpt"] = ["no-new-privileges"]
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.env],
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "Labels": {
            KIND: "container",
            OWNER: labels[OWNER],
            POD_NAME: labels[POD_NAME],
            POD_NAMESPACE: labels[POD_NAMESPACE],
            POD_UID: labels[POD_UID],
            CONTAINER_NAME: spec.name,
            ATTEMPT: str(spec.attempt),
            SPEC_HASH: spec.spec_hash,
            IMAGE: spec.image,
        },
        "HostConfig": host,
    }
    if spec.command:
        config["Entrypoint"] = list(spec.command)
    if spec.args:
        config["Cmd"] = list(spec.args)
    if spec.working_dir:
        config["WorkingDir"] = spec.working_dir
    if spec.user is not None or spec.group is not None:
        user = "0" if spec.user is None else str(spec.user)
        config["User"] = user if spec.group is None else f"{user}:{spec.group}"
    return config


def never_started(inspected: dict[str, Any]) -> bool:
    """Tell whether an agent ended between creating and starting it."""
    state = inspected["State"]
    return bool(state["Status"] == "created" and not state.get("Error"))


def container_state(inspected: dict[str, Any]) -> ContainerState:
    """Read what inspecting a container says."""
    labels, state = inspected["Config"]["Labels"], inspected["State"]
    error = clean_error(state.get("Error") or "")
    created = seconds(inspected["Created"])
    status = state["Status"]
    kind: Any = "exited"
    if status in ("running", "paused", "restarting"):
        kind = "running"
    elif status == "created" and not error:
        kind = "created"
    finished = seconds(state.get("FinishedAt") or "")
    return ContainerState(
        id=inspected["Id"],
        name=labels[CONTAINER_NAME],
        attempt=int(labels[ATTEMPT]),
        image=labels.get(IMAGE) or inspected["Config"]["Image"],
        image_id=image_id(inspected["Image"]),
        spec_hash=labels.get(SPEC_HASH, ""),
        state=kind,
        created_at=created,
        started_at=seconds(state.get("StartedAt") or ""),
        finished_at=(finished or created) if kind == "exited" else 0.0,
        exit_code=state.get("ExitCode", 0) if kind == "exited" else 0,
        oom_killed=bool(state.get("OOMKilled")) and kind == "exited",
        error=error,
    )


def pod_state(sandbox: dict[str, Any], containers: list[dict[str, Any]]) -> PodState:
    """Put a pod together from its newest sandbox and its containers, as inspected."""
    labels = sandbox["Config"]["Labels"]
    states = [container_state(each) for each in containers]
    states.sort(key=lambda state: (state.name, -state.attempt))
    ready = is_running(sandbox)
    return PodState(
        namespace=labels[POD_NAMESPACE],
        pod=labels[POD_NAME],
        uid=labels[POD_UID],
        sandbox_id=sandbox["Id"],
        sandbox_ready=ready,
        ip=address(sandbox) if ready else "",
        containers=tuple(states),
    )


def pod_without_sandbox(containers: list[dict[str, Any]]) -> PodState:
    """Put a pod together of which only containers are left."""
    labels = containers[0]["Config"]["Labels"]
    states = [container_state(each) for each in containers]
    states.sort(key=lambda state: (state.name, -state.attempt))
    return PodState(
        namespace=labels[POD_NAMESPACE],
        pod=labels[POD_NAME],
        uid=labels[POD_UID],
        sandbox_id="",
        sandbox_ready=False,
        containers=tuple(states),
    )


def is_running(inspected: dict[str, Any]) -> bool:
    """Tell whether an inspected container runs."""
    return inspected["State"]["Status"] in ("running", "paused", "restarting")


def address(sandbox: dict[str, Any]) -> str:
    """Return where probes reach a pod; the host's own address on the host's network."""
    if sandbox["HostConfig"].get("NetworkMode") == "host":
        return "127.0.0.1"
    settings = sandbox.get("NetworkSettings") or {}
    for network in (settings.get("Networks") or {}).values():
        if network.get("IPAddress"):
            return str(network["IPAddress"])
    return str(settings.get("IPAddress") or "")


def image_id(engine_id: str) -> str:
    """Return an image's id as pod status has it."""
    return f"docker://{engine_id}"


def seconds(stamp: str) -> float:
    """Read an RFC 3339 time; Go's zero time is 0."""
    if not stamp or stamp.startswith("0001-"):
        return 0.0
    return seconds_since_1970(stamp) or 0.0


def clean_error(text: str) -> str:
    """Leave of the engine's text what its caller's caller's caller said last."""
    return _OCI_PREFIX.sub("", text).removesuffix(": unknown").removesuffix(": unknown")


def is_about_command(text: str) -> bool:
    """Tell whether a start failed because of the command itself."""
    return _NO_COMMAND.search(text) is not None


def credentials(image: str, auths: tuple[ImageAuth, ...]) -> list[dict[str, str]]:
    """Choose what may pull an image, best match first.

    Source: Kubernetes, "Images", config.json: registry host and optional path prefix.
    """
    name = parse_image(image)
    fitting = []
    for auth in auths:
        host, _, prefix = _registry(auth.registry).partition("/")
        if _same_host(host, name) and _under(prefix, name.path):
            fitting.append((len(prefix), auth))
    fitting.sort(key=lambda pair: -pair[0])
    return [{"username": auth.username, "password": auth.password} for _, auth in fitting]


def _registry(text: str) -> str:
    text = re.sub(r"^https?://", "", text).rstrip("/")
    return re.sub(r"/v[12]$", "", text)


def _same_host(host: str, name: ImageName) -> bool:
    alike = {"index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}
    host = alike.get(host, host)
    if host.startswith("*."):
        return name.registry.partition(".")[2] == host[2:]
    return host == name.registry


def _under(prefix: str, path: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}/")
