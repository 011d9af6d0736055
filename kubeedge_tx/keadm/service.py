"""Run a role: as a systemd unit, or as a background process with a pid file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from kubeedge_tx.config.types import split_address
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.keadm import units
from kubeedge_tx.keadm.places import KeadmError, Places, Record, write
from kubeedge_tx.keadm.settings import config_of, read_tree
from kubeedge_tx.observe import LOG_FILE

LOOK: Final = 0.1
"""Seconds between two looks."""

STOP_SECONDS: Final = 45.0
"""What a role gets to end by itself."""


def twistd() -> str:
    """The ``twistd`` of the environment that this ``keadm`` is in.

    :raises KeadmError: there is none.
    """
    program = Path(sys.executable).with_name("twistd")
    if not program.exists():
        raise KeadmError(f"{program} is not there: install kubeedge-tx into this environment")
    return str(program)


def has_systemd() -> bool:
    """Whether systemd runs this machine and we may use it. Source: sd_booted(3)."""
    return (
        os.geteuid() == 0
        and Path("/run/systemd/system").is_dir()
        and shutil.which("systemctl") is not None
    )


def pid_of(places: Places) -> int | None:
    """The process that runs the role now, however it was started."""
    candidates = []
    ready = places.ready()
    if ready is not None:
        candidates.append(ready.get("pid"))
    with suppress(OSError, ValueError):
        candidates.append(int(places.pid_file.read_text()))
    for pid in candidates:
        if isinstance(pid, int) and _is_role(pid, places):
            return pid
    return _unnoted(places)


def _unnoted(places: Places) -> int | None:
    """A process that nothing was written about: keadm ended between its start and that."""
    try:
        own = places.data_dir.stat()
    except OSError:
        return None
    marks = {places.plugin.encode(), os.fsencode(places.data_dir)}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):  # it has ended, or is another user's
            if not marks <= set((entry / "cmdline").read_bytes().split(b"\0")):
                continue
            # In a container the same words may mean another folder.
            if os.path.samestat(own, (entry / "root" / places.data_dir.relative_to("/")).stat()):
                return int(entry.name)
    return None


def _is_role(pid: int, places: Places) -> bool:
    """Whether that process is this role's: pids are given to others after a while."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        status = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    if words == [b""]:
        # A program that is just being started has no command line for a moment, and nor has
        # one that has ended (Z), or a thread of the kernel (whose parent is 2).
        return status[0] not in (b"Z", b"X") and status[1] != b"2"
    return places.plugin.encode() in words and os.fsencode(places.data_dir) in words


def command(places: Places, record: Record) -> list[str]:
    """The role's command line."""
    return [
        *(record.twistd, "-n", "--pidfile=", places.plugin),
        *("--config", str(places.config_file), "--data-dir", str(places.data_dir)),
        *record.arguments,
    ]


def start(places: Places, record: Record) -> float:
    """Start the role, in the background; install its unit first if systemd runs it.

    Its configuration is written already. Returns where in the log this start begins.

    :raises KeadmError: it could not be started.
    """
    if record.service == "systemd":
        config = config_of(read_tree(places.config_file, places.role), places.role)
        unit = units.render(
            places,
            record.twistd,
            record.arguments,
            runtime=config.modules.edged.runtime if places.role == "edge" else "",
            reads=[config.kube_api_config.kube_config] if places.role == "cloud" else [],
        )
        write(places.unit_file, unit.encode(), 0o644)
        systemctl("daemon-reload")
        systemctl("enable", "--quiet", places.unit_file.name)
        # Not "restart": what is asked about the unit from now on must be about this start.
        systemctl("stop", places.unit_file.name)
        mark = log_end(places, record)
        systemctl("start", "--no-block", places.unit_file.name)
        return mark
    places.ready_file.unlink(missing_ok=True)
    mark = log_end(places, record)
    spawn(places, record)
    return mark


def spawn(places: Places, record: Record, *, foreground: bool = False) -> subprocess.Popen[bytes]:
    """Start the role's process."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}
    if not foreground:
        environment[LOG_FILE] = str(places.log_file)
    try:
        log = places.log_file.open("ab")
    except OSError as error:
        raise KeadmError(f"{places.log_file}: cannot be written: {error.strerror}") from None
    try:
        with log:
            os.fchmod(log.fileno(), 0o600)
            process = subprocess.Popen(  # noqa: S603 - our own program
                command(places, record),
                stdin=subprocess.DEVNULL,
                stdout=None if foreground else log,
                stderr=None if foreground else subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C here is not for it
                cwd="/",
                env=environment,
            )
    except OSError as error:
        raise KeadmError(f"{record.twistd} cannot be started: {error.strerror}") from None
    write(places.pid_file, f"{process.pid}\n".encode(), 0o644)
    return process


def stop(places: Places) -> None:
    """Stop the role, and have it not come back.

    :raises KeadmError: it does not end.
    """
    record = places.record()
    if record is not None and record.service == "systemd" and places.unit_file.exists():
        systemctl("disable", "--quiet", "--now", places.unit_file.name)
    end(places)


def end(places: Places) -> None:
    """End the role's process, if there is one, and wait; it is there again after a reboot.

    :raises KeadmError: it is not ours to end, or does not end.
    """
    record = places.record()
    if record is not None and record.service == "systemd" and places.unit_file.exists():
        systemctl("stop", places.unit_file.name)  # or it would be started again
    pid = pid_of(places)
    if pid is not None:
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break
            except PermissionError:
                raise KeadmError(
                    f"process {pid} runs as another user; run keadm as that user, or as root"
                ) from None
            if _gone(pid, seconds):
                break
        else:
            raise KeadmError(f"process {pid} does not end")
        places.ready_file.unlink(missing_ok=True)
    places.pid_file.unlink(missing_ok=True)


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # it may be our own child
        try:
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:
            return True
        if state in (b"Z", b"X"):
            return True
        time.sleep(LOOK)
    return False


def systemctl(*arguments: str) -> str:
    """Call ``systemctl``.

    :raises KeadmError: it failed; the text has what it said.
    """
    done = subprocess.run(  # noqa: S603 - fixed program
        ["systemctl", *arguments],  # noqa: S607 - wherever the distribution has it
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise KeadmError(f"systemctl {' '.join(arguments)} failed: {said}")
    return done.stdout


def has_ended(places: Places, record: Record) -> bool:
    """Whether a role that was started is not there any more; systemd may start it again."""
    if record.service == "systemd":
        state = _property(places, "SubState")
        return state == "failed" or state.startswith("auto-restart")
    return pid_of(places) is None


def _property(places: Places, name: str) -> str:
    """What systemd says of the role's unit."""
    return systemctl("show", f"--property={name}", "--value", places.unit_file.name).strip()


def _ended(places: Places, record: Record, log_from: float) -> KeadmError:
    text = f"{places.program} has ended: {reason(places, record, log_from)}"
    if record.service == "systemd":
        text += f"\nsystemd goes on starting it; its log: {log_hint(places, record)}"
    return KeadmError(text)


def wait_until_ready(
    places: Places, record: Record, deadline: float, *, log_from: float
) -> dict[str, int]:
    """Wait for ``ready.json``; returns the ports.

    :param deadline: of ``time.monotonic``.
    :param log_from: where in the log this start begins.
    :raises KeadmError: the role has ended, or is not ready in time; the text has its reason.
    """
    while True:
        ready = places.ready()
        if ready is not None and _is_role(ready["pid"], places):
            ports: dict[str, int] = ready["ports"]
            return ports
        if has_ended(places, record):
            raise _ended(places, record, log_from)
        if time.monotonic() > deadline:
            raise KeadmError(
                f"{places.program} is not ready yet: {reason(places, record, log_from)}\n"
                f"It goes on trying; its log: {log_hint(places, record)}"
            )
        time.sleep(LOOK)


def log_end(places: Places, record: Record) -> float:
    """Where the log ends now: a place in the file, or a time of the journal."""
    if record.service == "systemd":
        return time.time()
    try:
        return places.log_file.stat().st_size
    except OSError:
        return 0


def log_hint(places: Places, record: Record) -> str:
    """How a person reads the log."""
    if record.service == "systemd":
        return f"journalctl -u {places.unit_file.name} -b"
    return str(places.log_file)


def log_text(places: Places, record: Record, start_at: float = 0) -> str:
    """What the role has logged since ``start_at``; the latest of it, if it is much."""
    if record.service == "systemd":
        return _journal(places.unit_file.name, start_at)
    try:
        with places.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(int(start_at) if start_at <= size else 0, size - 1_000_000))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


def _journal(unit: str, since: float) -> str:
    """What a unit's processes have printed, in this boot; without what systemd says of them."""
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)  # noqa: S607
    which = (f"--since=@{since:.6f}", "-b", "-n", "2000", f"_SYSTEMD_UNIT={unit}")
    done = subprocess.run(  # noqa: S603 - fixed program
        ["journalctl", "-o", "cat", "--no-pager", *which],  # noqa: S607
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout


def reason(places: Places, record: Record, log_from: float = 0) -> str:
    """The last line of this start's log that tells of something wrong; else the last line."""
    lines = [line for line in log_text(places, record, log_from).splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("kubeedge-tx: "):
            return line.removeprefix("kubeedge-tx: ")
        stamp, level, text = (*line.split(None, 2), "", "", "")[:3]
        if level in ("warn", "error", "critical") and stamp[:1].isdigit():
            return text.partition(": ")[2] or text
    return lines[-1] if lines else "it has logged nothing"


def status_page(places: Places, path: str, *, timeout: float = 5.0) -> tuple[int, str]:
    """Ask a role's status port; status 0 if nobody answers."""
    ready = places.ready()
    if ready is None:
        return 0, "it is not ready"
    try:
        config = config_of(read_tree(places.config_file, places.role), places.role)
        bound, _ = split_address(config.common_config.monitor_server.bind_address, "bindAddress")
    except ConfigError:
        bound = ""  # changed since the start; the default then
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(bound, bound)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{ready['ports']['metrics']}{path}"
    try:
        with urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except URLError as error:
        code: Any = getattr(error, "code", 0)
        body = error.read().decode(errors="replace") if hasattr(error, "read") else str(error)
        return int(code), body
    except OSError as error:
        return 0, str(error)


def is_connected(places: Places) -> bool:
    """Whether an edge that runs is connected to its cloud."""
    _, text = status_page(places, "/metrics")
    return places.role == "edge" and "\nkubeedge_edgehub_connected 1\n" in text


def wait_for(
    what: str,
    until: Callable[[], bool],
    places: Places,
    record: Record,
    deadline: float,
    *,
    log_from: float,
) -> None:
    """Wait for something that a running role brings about.

    :raises KeadmError: the role has ended, or it does not happen in time.
    """
    while not until():
        if has_ended(places, record):
            raise _ended(places, record, log_from)
        if time.monotonic() > deadline:
            raise KeadmError(
                f"no success yet with {what}: {reason(places, record, log_from)}\n"
                f"It goes on trying; its log: {log_hint(places, record)}"
            )
        time.sleep(LOOK)
