"""What ``init`` and ``join`` have in common: put a role on this machine, run it, stay with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from kubeedge_tx import VERSION
from kubeedge_tx.keadm import service, settings, versions
from kubeedge_tx.keadm.places import KeadmError, Places, Record, make_dir, unbroken
from kubeedge_tx.keadm.probes import Result
from kubeedge_tx.keadm.table import table
from kubeedge_tx.keadm.versions import Wanted

_MARKS: Final = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "skip": "-"}


def report(results: Iterable[Result]) -> bool:
    """Print the table of probes, and advice below it; returns whether nothing failed."""
    results = list(results)
    rows = [(result.name, _MARKS[result.state], result.text) for result in results]
    click.echo(table(("CHECK", "RESULT", "DETAIL"), rows))
    for result in results:
        if result.advice and result.state in ("warn", "fail"):
            click.echo(f"  {result.name}: {result.advice}")
    return all(result.state != "fail" for result in results)


def choose_service(wish: bool | None, *, foreground: bool, places: Places) -> str:
    """Decide what runs the role, ``systemd`` or ``process``.

    :param wish: ``--service`` or ``--no-service``; ``None``: neither.
    :raises KeadmError: systemd is wished for and cannot be had.
    """
    if wish and foreground:
        raise KeadmError("--service and --foreground exclude each other")
    if wish and not service.has_systemd():
        why = "this is not root" if os.geteuid() else "systemd does not run this machine"
        raise KeadmError(f"--service: {why}; leave it out for a background process")
    if wish and not places.is_system:
        raise KeadmError(
            "--service: a unit has one name, so it is for the usual place only; leave out "
            "--data-dir, or --service"
        )
    if wish is None and not foreground and service.has_systemd():
        return "systemd" if places.is_system else "process"
    return "systemd" if wish else "process"


def prepare(places: Places, kind: str, wanted: Wanted | None) -> Record:
    """Make the record of an installation and its folders, or go on with an old one.

    :param wanted: the version to be run; ``None``: the one there is, or ours.
    :raises KeadmError: something cannot be made.
    """
    record = places.record()
    if record is not None and record.service != kind:
        service.stop(places)
    if record is None:
        record = Record(role=places.role, version=VERSION, twistd="", service="process")
    if not Path(record.twistd).is_file():
        _install(places, record, wanted)
    elif wanted is not None and wanted.version != record.version:
        raise KeadmError(
            f"{places.program} v{record.version} is installed here, not v{wanted.version}: "
            f"`keadm upgrade {places.role}` changes the version"
        )
    record.service = "systemd" if kind == "systemd" else "process"
    places.save(record)
    for folder in (places.config_file.parent, places.log_file.parent):
        with unbroken():
            record.made_dirs += make_dir(folder)
            places.save(record)
    return record


def _install(places: Places, record: Record, wanted: Wanted | None) -> None:
    """Fill in which program is run, after having installed it if it is not ours."""
    if wanted is None:
        record.version, record.twistd = VERSION, service.twistd()
        return
    folder = versions.install(places, wanted)
    record.version = versions.version_of(folder)
    record.twistd = str(folder / "bin" / "twistd")


class Running:
    """A role that was started, or ran already.

    :ivar process: the child that ``--foreground`` stays with.
    """

    def __init__(self, places: Places, record: Record, timeout: float) -> None:
        self.places = places
        self.record = record
        self.deadline = time.monotonic() + timeout
        self.log_from = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, tree: dict[str, Any], *, changed: bool, foreground: bool) -> None:
        """Write the configuration and start the role, unless it runs with the same one."""
        places = self.places
        pid = service.pid_of(places)
        if pid is not None and not changed and not foreground:
            click.echo(f"{places.program} runs already (process {pid})")
            return
        if pid is not None:
            click.echo(f"stopping {places.program} (process {pid}) to start it anew")
            service.end(places)
        settings.save(places, tree)
        if foreground:
            self.log_from = service.log_end(places, self.record)
            self.process = service.spawn(places, self.record, foreground=True)
        else:
            self.log_from = service.start(places, self.record)
        hint = service.log_hint(places, self.record)
        click.echo(f"KubeEdge {places.program} is running, For logs visit: {hint}")

    def ready(self) -> dict[str, int]:
        """Wait until it is ready; returns its ports.

        :raises KeadmError: it has ended, or takes too long.
        """
        return service.wait_until_ready(
            self.places, self.record, self.deadline, log_from=self.log_from
        )

    def stay(self) -> int:
        """Wait until the child of ``--foreground`` ends; returns its status.

        Within :func:`foreground_child`: Ctrl-C and SIGTERM are for the child.
        """
        assert self.process is not None
        while True:
            try:
                return self.process.wait()
            except KeyboardInterrupt:
                self.process.send_signal(signal.SIGTERM)


@contextmanager
def foreground_child(running: Running) -> Iterator[None]:
    """Take the child of ``--foreground`` along when we end by anything but success."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except BaseException:
        if running.process is not None and running.process.poll() is None:
            running.process.terminate()
            running.process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def differs(places: Places, tree: dict[str, Any]) -> bool:
    """Whether the file would become another one."""
    before = settings.read_tree(places.config_file, places.role)
    return not places.config_file.exists() or before != tree


def host_port(text: str, default: int, what: str) -> tuple[str, int]:
    """Read ``HOST[:PORT]``, ``[IPv6]:PORT``.

    :raises KeadmError: it is neither.
    """
    host, port = text, str(default)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host or " " in host:
        raise KeadmError(f"{what}: expected HOST:PORT, got {text!r}")
    return host, int(port)


def bracketed(host: str) -> str:
    """Write a host as it stands before a port."""
    return f"[{host}]" if ":" in host else host
