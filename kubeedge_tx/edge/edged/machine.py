"""Facts about this machine: from ``/proc``, ``/etc`` and the file system."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv6l": "arm",
    "armv7l": "arm",
    "i686": "386",
    "i386": "386",
}
"""What Go calls a machine type. Others have the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What does not change while it is up."""

    cpus: int
    memory_kib: int
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    system_uuid: str
    hugepages: dict[str, int] = field(default_factory=dict)
    """Size in KiB to pages set aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What changes."""

    memory_free_kib: int
    disk_kib: int
    disk_free_kib: int
    inodes: int
    inodes_free: int
    processes: int
    processes_limit: int
    disk_problem: str = ""
    """Why the edge cannot store anything; empty if it can."""


def read_machine(root: Path = Path("/")) -> Machine:
    """Read the facts. Blocking, but short.

    :param root: where ``proc``, ``etc`` and ``sys`` are.
    """
    machine_id = _text(root / "etc/machine-id")
    machine = platform.machine()
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_kib=_meminfo(root).get("MemTotal", 0),
        architecture=_ARCHITECTURES.get(machine, machine),
        kernel=platform.release(),
        os_image=_os_image(root),
        machine_id=machine_id,
        boot_id=_text(root / "proc/sys/kernel/random/boot_id"),
        system_uuid=_text(root / "sys/class/dmi/id/product_uuid") or machine_id,
        hugepages=_hugepages(root),
    )


def read_usage(folder: Path, root: Path = Path("/")) -> Usage:
    """Read what is used now. Blocking, but short.

    :param folder: on the file system that counts.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    memory = _meminfo(root)
    load = _text(root / "proc/loadavg").split()
    processes = load[3].partition("/")[2] if len(load) > 3 else "0"
    return Usage(
        memory_free_kib=memory.get("MemAvailable", memory.get("MemFree", 0)),
        disk_kib=disk.f_blocks * disk.f_frsize // 1024,
        disk_free_kib=disk.f_bavail * disk.f_frsize // 1024,
        inodes=disk.f_files,
        inodes_free=disk.f_favail,
        processes=int(processes or 0),
        processes_limit=int(_text(root / "proc/sys/kernel/pid_max") or 0),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _meminfo(root: Path) -> dict[str, int]:
    found = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found


def _os_image(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip('"')
    return "Linux"


def _hugepages(root: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    folder = root / "sys/kernel/mm/hugepages"
    if not folder.is_dir():
        return found
    for entry in folder.iterdir():
        size = entry.name.removeprefix("hugepages-").removesuffix("kB")
        if size.isdigit():
            found[size] = int(_text(entry / "nr_hugepages") or 0)
    return found
