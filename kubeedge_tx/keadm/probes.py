"""What a machine needs to be an edge: one function for each thing, one line for each answer.

Every probe tries the thing itself and changes nothing. None raises: what goes wrong is
its result.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from kubeedge_tx.keadm.engine import Engine, EngineError
from kubeedge_tx.security.identity import is_node_name

State = Literal["ok", "warn", "fail", "skip"]

MB: Final = 1 << 20
MIN_DISK: Final = 512 * MB
"""Source: KubeEdge ``keadm debug check disk``."""
MIN_MEMORY: Final = 128 * MB
"""Source: KubeEdge ``keadm debug check mem``."""
MIN_PIDS_FREE: Final = 0.05
"""Source: KubeEdge ``keadm debug check pid``."""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of one probe."""

    name: str
    state: State
    text: str
    advice: str = ""
    """What to do about it."""


Probe = Callable[[], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is looked at on this machine."""

    node: str
    data_dir: Path
    runtime: Literal["auto", "docker", "process"]
    docker_address: str
    cgroup_driver: str
    listens: tuple[tuple[str, str, int], ...]
    """Configuration key, interface and port of everything that will be listened on."""
    broker: tuple[str, int] | None
    """An MQTT broker that must be there already."""
    running: bool = False
    """Whether the agent runs already, and so holds its ports."""


def name(machine: Machine) -> Result:
    """The name is one that Kubernetes takes."""
    if is_node_name(machine.node):
        return Result("node name", "ok", machine.node)
    return Result(
        "node name",
        "fail",
        f"{machine.node!r} is no node name: lower-case letters, digits, '-' and '.', at most "
        "253, beginning and ending with a letter or digit",
        "give one with --edgenode-name",
    )


def data_dir(machine: Machine) -> Result:
    """The data directory can be written to."""
    folder = _existing(machine.data_dir)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return Result(
            "data directory",
            "fail",
            f"{machine.data_dir} cannot be written: {error.strerror}",
            "choose another one with --data-dir, or run as a user who may write there",
        )
    return Result("data directory", "ok", str(machine.data_dir))


def disk(machine: Machine) -> Result:
    """There is room for the store, images' names and logs."""
    folder = _existing(machine.data_dir)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Result("disk", "fail", f"{folder}: {error.strerror}")
    text = f"{free // MB} MB free at {folder}"
    if free < MIN_DISK:
        return Result(
            "disk", "fail", f"{text}, {MIN_DISK // MB} MB are needed", "free some, or --data-dir"
        )
    return Result("disk", "ok", text)


def memory(machine: Machine, meminfo: Path = Path("/proc/meminfo")) -> Result:
    """There is memory for the agent."""
    try:
        fields = dict(
            line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line
        )
        free = int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return Result("memory", "skip", f"{meminfo} does not say")
    text = f"{free // MB} MB available"
    if free < MIN_MEMORY:
        return Result(
            "memory", "fail", f"{text}, {MIN_MEMORY // MB} MB are needed", "stop what uses it"
        )
    return Result("memory", "ok", text)


def pids(machine: Machine) -> Result:
    """There are process numbers left."""
    try:
        most = int(Path("/proc/sys/kernel/pid_max").read_text())
        used = sum(entry.name.isdigit() for entry in Path("/proc").iterdir())
    except (OSError, ValueError):
        return Result("pids", "skip", "/proc does not say")
    text = f"{used} of {most} in use"
    if 1 - used / most <= MIN_PIDS_FREE:
        return Result("pids", "fail", text, "something starts processes without end: find it")
    return Result("pids", "ok", text)


def kubelet(machine: Machine) -> Result:
    """No kubelet manages this machine already. Source: KubeEdge edgecore's start check."""
    if os.environ.get("CHECK_EDGECORE_ENVIRONMENT") == "false":
        return Result("kubelet", "skip", "not looked for: CHECK_EDGECORE_ENVIRONMENT is false")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            program = (entry / "comm").read_text().strip()
            if program in ("kubelet", "kube-proxy"):
                return Result(
                    "kubelet",
                    "fail",
                    f"{program} runs here (process {entry.name})",
                    "an edge node has none: stop it, or set CHECK_EDGECORE_ENVIRONMENT=false",
                )
    return Result("kubelet", "ok", "no kubelet or kube-proxy runs here")


def runtime(machine: Machine) -> Result:
    """What is to run containers is there."""
    if machine.runtime == "process":
        return Result("runtime", "ok", "pods run as processes, without isolation")
    try:
        version = Engine(machine.docker_address).version()
    except EngineError as error:
        if machine.runtime == "auto":
            return Result(
                "runtime",
                "warn",
                f"no Docker engine ({error}): pods will run as processes, without isolation",
                "start Docker for containers, or say --runtimetype process if that is meant",
            )
        return Result(
            "runtime",
            "fail",
            f"no Docker engine at {machine.docker_address}: {error}",
            "start it, give its address with --remote-runtime-endpoint, or --runtimetype process",
        )
    return Result("runtime", "ok", f"Docker {version} at {machine.docker_address}")


def cgroups(machine: Machine, root: Path = Path("/sys/fs/cgroup")) -> Result:
    """The kernel's groups are mounted, and the engine uses the driver we say."""
    if not (root / "cgroup.controllers").exists() and not (root / "memory").is_dir():
        state: State = "fail" if machine.runtime == "docker" else "warn"
        return Result(
            "cgroups", state, f"no cgroups at {root}", "mount them: limits of pods need them"
        )
    kind = "v2" if (root / "cgroup.controllers").exists() else "v1"
    if machine.runtime != "process":
        with suppress(EngineError):
            driver = Engine(machine.docker_address).info().get("CgroupDriver", "")
            if driver and driver != machine.cgroup_driver:
                return Result(
                    "cgroups",
                    "warn",
                    f"{kind}; Docker uses the driver {driver}, and --cgroupdriver is "
                    f"{machine.cgroup_driver}",
                    f"say --cgroupdriver {driver}",
                )
    return Result("cgroups", "ok", kind)


def ports(machine: Machine) -> Result:
    """The ports that are to be listened on are free."""
    if machine.running:
        return Result("ports", "skip", "the agent runs and holds them")
    for key, interface, port in machine.listens:
        if port == 0:
            continue
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((interface, port))
                probe.listen(1)
            except OSError as error:
                return Result(
                    "ports",
                    "fail",
                    f"{interface}:{port} cannot be listened on: {error.strerror}",
                    f"stop what holds it, or choose another: --set {key}=…",
                )
    listed = ", ".join(str(port) for _, _, port in machine.listens if port) or "any that is free"
    return Result("ports", "ok", listed)


def mqtt(machine: Machine) -> Result:
    """The MQTT broker for devices answers, or we are the broker."""
    if machine.broker is None:
        return Result("mqtt", "ok", "the edge is the broker itself")
    host, port = machine.broker
    try:
        # CONNECT with a clean session and an empty client id. Source: MQTT 3.1.1, 3.1
        with socket.create_connection((host, port), timeout=5) as broker:
            broker.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00")
            broker.settimeout(5)
            answer = broker.recv(4)
    except OSError as error:
        why = error.strerror or str(error)
    else:
        if answer[:1] == b"\x20":
            return Result("mqtt", "ok", f"a broker answers at {host}:{port}")
        why = "what answers there is no MQTT broker"
    return Result(
        "mqtt",
        "warn",
        f"no MQTT broker at {host}:{port}: {why}; devices cannot connect",
        "start one, or let the edge be it: --set modules.eventBus.mqttMode=0",
    )


LOCAL: Final = (name, data_dir, disk, memory, pids, kubelet, runtime, cgroups, ports, mqtt)
"""In the order of the table."""


def local(machine: Machine) -> list[Result]:
    """Run all of them."""
    return [probe(machine) for probe in LOCAL]


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    for folder in (path, *path.parents):
        if folder.is_dir():
            return folder
    return Path("/")
