"""Where a role is on this machine, and what of it ``keadm`` has made.

As root everything is where upstream has it: ``/etc/kubeedge``, ``/var/lib/kubeedge``,
``/var/log/kubeedge``. Anywhere else all of a role is in its data directory. A cloud keeps
its data below ``/var/lib/kubeedge/cloudcore``, so that one machine can be both.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from kubeedge_tx import VERSION
from kubeedge_tx.errors import KubeEdgeError

RoleName = Literal["cloud", "edge"]

PROGRAMS: Final = {"cloud": "cloudcore", "edge": "edgecore"}
"""Upstream's name of each role: of its unit and its files."""

SYSTEM_DIR: Final = Path("/var/lib/kubeedge")


class KeadmError(KubeEdgeError):
    """A verb cannot be carried out; the text says why and what to do."""


class Record(msgspec.Struct, kw_only=True):
    """``keadm.json``: how a role was installed here, written before anything else is."""

    role: RoleName
    version: str
    twistd: str
    """The program that is started, with its path: the one of the environment in use."""
    service: Literal["systemd", "process"]
    made_dirs: list[str] = []
    """Folders that were not there before, outermost first."""
    arguments: list[str] = []
    """More arguments for the role."""


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one role."""

    role: RoleName
    data_dir: Path

    @property
    def program(self) -> str:
        """``cloudcore`` or ``edgecore``."""
        return PROGRAMS[self.role]

    @property
    def plugin(self) -> str:
        """What ``twistd`` calls it."""
        return f"kubeedge-{self.role}"

    @property
    def is_system(self) -> bool:
        """Whether it is where upstream has it."""
        return self.data_dir == system_dir(self.role)

    @property
    def config_file(self) -> Path:
        """The YAML file."""
        folder = Path("/etc/kubeedge") if self.is_system else self.data_dir
        return folder / "config" / f"{self.program}.yaml"

    @property
    def log_file(self) -> Path:
        """What a background process prints."""
        folder = Path("/var/log/kubeedge") if self.is_system else self.data_dir / "log"
        return folder / f"{self.program}.log"

    @property
    def pid_file(self) -> Path:
        """Of a background process."""
        return self.data_dir / f"{self.program}.pid"

    @property
    def ready_file(self) -> Path:
        """Written by the role when it is ready, removed when it stops."""
        return self.data_dir / "ready.json"

    @property
    def record_file(self) -> Path:
        """See :class:`Record`."""
        return self.data_dir / "keadm.json"

    @property
    def unit_file(self) -> Path:
        """The systemd unit."""
        return Path("/etc/systemd/system") / f"{self.program}.service"

    def record(self) -> Record | None:
        """How it was installed; ``None``: not by us."""
        try:
            return msgspec.json.decode(self.record_file.read_bytes(), type=Record)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise KeadmError(
                f"{self.record_file}: cannot be read: {error.strerror}; are you the user (root?) "
                "who installed it"
            ) from None
        except msgspec.DecodeError:
            raise KeadmError(f"{self.record_file}: is damaged; remove it and go on") from None

    def save(self, record: Record) -> None:
        """Write the record, whole or not at all.

        :raises KeadmError: the disk does not take it.
        """
        write(self.record_file, msgspec.json.format(msgspec.json.encode(record)), 0o600)

    def ready(self) -> dict[str, Any] | None:
        """What ``ready.json`` says."""
        try:
            found: dict[str, Any] = json.loads(self.ready_file.read_text())
        except (OSError, ValueError):
            return None
        return found


def system_dir(role: RoleName) -> Path:
    """The data directory of a role that root installs."""
    return SYSTEM_DIR if role == "edge" else SYSTEM_DIR / PROGRAMS["cloud"]


def find(role: RoleName, data_dir: str | None) -> Places:
    """Say where a role is, or is to be.

    :param data_dir: what the command line says.
    """
    if data_dir:
        return Places(role, Path(data_dir).absolute())
    if os.geteuid() == 0:
        return Places(role, system_dir(role))
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Places(role, Path(state).absolute() / "kubeedge-tx" / PROGRAMS[role])


def make_dir(path: Path) -> list[str]:
    """Make a folder and those above it; returns those that are new, outermost first.

    :raises KeadmError: it cannot be made.
    """
    missing = []
    for folder in (path, *path.parents):
        if folder.exists():
            break
        missing.append(folder)
    missing.reverse()
    try:
        for folder in missing:
            folder.mkdir(mode=0o700 if folder == path else 0o755, exist_ok=True)
    except OSError as error:
        raise KeadmError(
            f"{path}: cannot be made: {error.strerror}; choose another place with --data-dir"
        ) from None
    if not path.is_dir():
        raise KeadmError(f"{path} is not a folder; choose another place with --data-dir")
    return [str(folder) for folder in missing]


def write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file at once.

    :raises KeadmError: the folder or disk does not let us.
    """
    new = draft_of(path)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException as error:
        with suppress(OSError):  # a disk that is read-only says so of what is not there, too
            new.unlink()
        if isinstance(error, OSError):
            raise KeadmError(f"{path}: cannot be written: {error.strerror}") from None
        raise


def draft_of(path: Path) -> Path:
    """What a file is before it takes the place of ``path``; a killed keadm leaves it behind."""
    return path.with_name(f".{path.name}.new")


@contextmanager
def unbroken() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while two things are done that belong together."""
    pressed: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, frame: pressed.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if pressed:
        os.kill(os.getpid(), pressed[0])


@contextmanager
def exclusive(places: Places) -> Iterator[Callable[[], None]]:
    """Hold a role against a second ``keadm`` that would change it.

    Its folder is made if it is not there, and a first record with it, so that a reset knows.
    Gives a function that lets it go before the end.

    :raises KeadmError: another one is at it, or the folder cannot be made.
    """
    with unbroken():
        made = make_dir(places.data_dir)
        if made:
            places.save(
                Record(
                    role=places.role, version=VERSION, twistd="", service="process", made_dirs=made
                )
            )
    path = places.data_dir / "keadm.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeadmError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise KeadmError(
                f"another keadm is working on {places.data_dir}; wait until it has ended"
            ) from None
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
