"""What the ``process`` runtime keeps on disk beside its containers, and whether they live.

::

    <root>/pods/<uid>/sandbox.json
    <root>/pods/<uid>/<container>/<attempt>/container.json   written by the agent, first
                                            lock             held while its shim lives
                                            running.json     written by the launcher
                                            exit.json        written when it has ended
    <root>/logs/<namespace>_<pod>_<uid>/<container>/<attempt>.log[.1…]

``container.json`` holds the environment, so Secrets: folders are 0700 and files 0600.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import ContainerSpec

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_S = TypeVar("_S", bound=msgspec.Struct)


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``sandbox.json``: a pod exists since a certain boot of the host."""

    id: str
    namespace: str
    pod: str
    uid: str
    hostname: str
    boot: str


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``container.json``: what was to be started."""

    id: str
    pod_uid: str
    name: str
    attempt: int
    image: str
    spec_hash: str
    created_at: float
    namespaces: str
    """``root``, ``user`` or ``none``: how its mounts were made."""
    env: dict[str, str]
    working_dir: str
    user: int | None
    group: int | None
    supplemental_groups: tuple[int, ...]
    allow_privilege_escalation: bool
    rewrites: tuple[tuple[str, str], ...] = ()
    """Container path to host path, where there are no mounts."""


class RunningRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``running.json``: which processes it is. Start times are clock ticks since boot."""

    boot: str
    shim: int
    shim_start: int
    pid: int
    pid_start: int
    started_at: float


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``exit.json``: how it ended, or why it never started."""

    exit_code: int
    finished_at: float
    signal: int = 0
    error: str = ""
    reason: str = ""


def check_name(what: str, name: str) -> str:
    """Return a name that is safe as a file's.

    :raises ContainerError: it is not.
    """
    if _SAFE.fullmatch(name) is None:
        raise ContainerError("CreateContainerConfigError", f"{name!r} cannot be a {what}")
    return name


def read(folder: Path, name: str, kind: type[_S]) -> _S | None:
    """Read one record; ``None`` if it is absent or was cut short by a crash."""
    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def write(folder: Path, name: str, record: msgspec.Struct) -> None:
    """Write one record so that it is there whole or not at all."""
    path, new = folder / name, folder / f"{name}.new"
    fd = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(record))
    finally:
        os.close(fd)
    new.replace(path)


def pod_folders(root: Path) -> Iterator[Path]:
    """Every pod's folder."""
    pods = root / "pods"
    if pods.is_dir():
        yield from sorted(path for path in pods.iterdir() if path.is_dir())


def container_folders(pod: Path) -> Iterator[Path]:
    """Every attempt of every container of a pod."""
    for name in sorted(path for path in pod.iterdir() if path.is_dir()):
        yield from sorted(path for path in name.iterdir() if path.is_dir())


def boot_id() -> str:
    """Name the host's current boot. Source: random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def is_alive(pid: int, start: int) -> bool:
    """Tell whether that very process runs; a pid alone may be somebody else's by now.

    Source: proc(5), fields 3 and 22 of ``stat``.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") and int(fields[19]) == start


def take_lock(folder: Path) -> int | None:
    """Lock a container's folder; ``None`` if a launcher or shim holds it.

    :returns: a descriptor; every process that inherits it holds the lock.
    """
    fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


class PathRewriter:
    """Puts host paths where a text names container paths, for lack of mounts.

    A mounted path counts where it stands alone: at the start, or after anything that
    cannot be part of a path, and before ``/``, the end, or such a thing. So
    ``--config=/etc/app/x`` and ``cat /etc/app`` change, ``/etc/apple`` does not.

    :param pairs: container path, host path.
    """

    def __init__(self, pairs: tuple[tuple[str, str], ...]) -> None:
        self._to = {source.rstrip("/"): target for source, target in pairs}
        self._to.pop("", None)
        longest_first = sorted(self._to, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, longest_first))
        self._pattern = re.compile(rf"(?<![\w./-])(?:{alternatives})(?![\w.-])")

    def rewrite(self, text: str) -> str:
        """Return the text with host paths."""
        if not self._to:
            return text
        return self._pattern.sub(lambda match: self._to[match[0]], text)


def environment(spec: ContainerSpec, hostname: str) -> dict[str, str]:
    """Return what a container's process finds in its environment.

    Nothing of the agent's own gets there: it may hold tokens.
    """
    base = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": hostname,
    }
    if spec.tty:
        base["TERM"] = "xterm"
    return base | dict(spec.env)
