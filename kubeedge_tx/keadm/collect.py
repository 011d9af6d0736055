"""``keadm debug collect``: what somebody who helps needs to see, and no secret."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import subprocess
import tarfile
import time
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import click
import yaml

from kubeedge_tx import VERSION
from kubeedge_tx.errors import KubeEdgeError
from kubeedge_tx.keadm import joining, options, places, service, settings
from kubeedge_tx.keadm.holdings import Holdings, store_of
from kubeedge_tx.keadm.places import KeadmError, Places, write
from kubeedge_tx.keadm.table import table

_GONE: Final = b"[removed]"

_TOKENS: Final = re.compile(
    rb"(?:[0-9a-f]{64}\.)?eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{10,}"
)
_KEYS: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_BEARERS: Final = re.compile(rb"(?i)(authorization:\s*(?:bearer\s+|basic\s+)?|bearer\s+)[^\s\"']+")
_URL_PASSWORDS: Final = re.compile(rb"(://[^/\s:@]+:)[^/\s@]+@")

_SHORTEST: Final = 4
"""A value of a Secret with fewer bytes is nothing to hide, and would tear every text apart."""

_CONFIDENTIAL: Final = re.compile(r"(?i)token$|password|secret$")
"""Keys of a configuration whose values are blanked."""

_MOST: Final = 5_000_000
"""Bytes of a log, its latest."""


class Bundle:
    """An archive that takes texts only after everything secret has been cut out of them.

    :param secrets: values that must not get in.
    """

    def __init__(self, root: str, secrets: Iterable[bytes]) -> None:
        self._root = root
        # The longest first: one may be a part of another.
        values = {value for value in secrets if len(value) >= _SHORTEST}
        forms = {form for value in values for form in _forms(value)}
        self._secrets = sorted(forms, key=len, reverse=True)
        self._buffer = io.BytesIO()
        self._archive = tarfile.open(fileobj=self._buffer, mode="w:gz")  # noqa: SIM115 - see close

    def add(self, name: str, content: str | bytes) -> None:
        """Put a text in."""
        data = self.cleaned(content.encode() if isinstance(content, str) else content)
        info = tarfile.TarInfo(f"{self._root}/{name}")
        info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
        self._archive.addfile(info, io.BytesIO(data))

    def cleaned(self, data: bytes) -> bytes:
        """Cut out keys, tokens and the values of Secrets."""
        for secret in self._secrets:
            data = data.replace(secret, _GONE)
        data = _KEYS.sub(_GONE, data)
        data = _TOKENS.sub(_GONE, data)
        data = _BEARERS.sub(rb"\1" + _GONE, data)
        return _URL_PASSWORDS.sub(rb"\1" + _GONE + b"@", data)

    def close(self) -> bytes:
        """End it; returns the archive."""
        self._archive.close()
        return self._buffer.getvalue()


def _forms(value: bytes) -> set[bytes]:
    """A value as it may stand in a log: itself, in JSON, in Python's notation, line by line."""
    text = value.decode("utf-8", "replace")
    forms = {value, json.dumps(text)[1:-1].encode(), repr(text)[1:-1].encode()}
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        forms |= {line for line in lines if len(line) >= 2 * _SHORTEST}
    return {form for form in forms if len(form) >= _SHORTEST}


@click.command("collect")
@options.data_dir
@click.option(
    "-o",
    "--output-path",
    metavar="DIR",
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the archive is put.",
)
def collect(data_dir: str | None, output_path: Path) -> None:
    """Make an archive of this edge's state for somebody who helps.

    In it are the configuration, logs, versions, what the store holds (names only), the state
    of the running agent and every check; not in it are keys, tokens and values of Secrets.
    """
    here = places.find("edge", data_dir)
    click.echo("Start collecting data")
    name = f"edge_{time.strftime('%Y_%m%d_%H%M%S')}"
    holdings = _holdings(here)
    bundle = Bundle(name, [*_own_secrets(here), *(holdings.secret_values() if holdings else ())])
    _add_system(bundle)
    _add_edge(bundle, here, holdings)
    path = output_path.absolute() / f"{name}.tar.gz"
    places.make_dir(path.parent)
    write(path, bundle.close(), 0o600)
    click.echo(f"Data collected successfully, path: {path}")


def _holdings(here: Places) -> Holdings | None:
    try:
        return Holdings(store_of(here, None))
    except KeadmError:
        return None


def _own_secrets(here: Places) -> list[bytes]:
    """What the configuration has that nobody else must have."""
    try:
        tree = settings.read_tree(here.config_file, "edge")
    except KubeEdgeError:
        return []
    return [str(value).encode() for value in _confidential(tree) if value]


def _confidential(tree: Any, key: str = "") -> list[Any]:
    if isinstance(tree, dict):
        return [found for name, value in tree.items() for found in _confidential(value, str(name))]
    return [tree] if _CONFIDENTIAL.search(key) and isinstance(tree, str) else []


def _blanked(tree: Any, key: str = "") -> Any:
    if isinstance(tree, dict):
        return {name: _blanked(value, str(name)) for name, value in tree.items()}
    if _CONFIDENTIAL.search(key) and isinstance(tree, str) and tree:
        return _GONE.decode()
    return tree


def _add_system(bundle: Bundle) -> None:
    for path in ("/proc/meminfo", "/proc/cpuinfo", "/proc/loadavg", "/proc/uptime", "/proc/mounts"):
        _add_file(bundle, f"system/{Path(path).name}", Path(path))
    for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/os-release", "/proc/net/dev"):
        _add_file(bundle, f"system/{Path(path).name}", Path(path))
    uname = platform.uname()
    bundle.add("system/uname", f"{uname.system} {uname.release} {uname.version} {uname.machine}\n")
    bundle.add("system/date", time.strftime("%Y-%m-%dT%H:%M:%S%z\n"))
    bundle.add("system/disk", _said("df", "-h"))
    bundle.add("system/addresses", _said("ip", "address"))
    bundle.add("system/routes", _said("ip", "route"))
    # Names only: a command line may have a password in it.
    bundle.add("system/processes", _said("ps", "-eo", "pid,ppid,user,rss,etime,comm"))
    packages = sorted(f"{each.name}=={each.version}" for each in distributions())
    bundle.add("system/packages", "\n".join(packages) + "\n")


def _add_edge(bundle: Bundle, here: Places, holdings: Holdings | None) -> None:
    bundle.add("edgecore/version", f"KubeEdge-TX v{VERSION}, Python {platform.python_version()}\n")
    config: Any = None
    try:
        tree = settings.read_tree(here.config_file, "edge")
        bundle.add("edgecore/edgecore.yaml", yaml.safe_dump(_blanked(tree), sort_keys=False))
        config = settings.config_of(tree, "edge")
    except KubeEdgeError as error:
        bundle.add("edgecore/edgecore.yaml.error", f"{error}\n")
    record = here.record()
    if record is not None:
        bundle.add("edgecore/keadm.json", here.record_file.read_bytes())
        bundle.add("edgecore/edgecore.log", _latest(service.log_text(here, record)))
        if record.service == "systemd":
            # With what systemd says: that it stopped an agent that hung, and started it again.
            said = _said("journalctl", "-u", here.unit_file.name, "-b", "-n", "20000", "--no-pager")
            bundle.add("edgecore/journal", _latest(said))
            _add_file(bundle, f"edgecore/{here.unit_file.name}", here.unit_file)
            bundle.add("edgecore/systemctl", _said("systemctl", "status", here.unit_file.name))
    bundle.add("edgecore/files", _files(here.data_dir))
    if holdings is not None:
        try:
            rows = [(key, kind, str(size), v) for key, kind, size, v in holdings.listing()]
            bundle.add("edgecore/store", table(("KEY", "TYPE", "BYTES", "VERSION"), rows) + "\n")
            bundle.add("edgecore/tables", json.dumps(holdings.counts(), indent=2) + "\n")
        except KeadmError as error:
            bundle.add("edgecore/store.error", f"{error}\n")
    for page in ("readyz", "debug", "metrics") if here.ready() is not None else ():
        bundle.add(f"edgecore/{page}", service.status_page(here, f"/{page}")[1])
    if config is not None:
        _add_file(bundle, "edgecore/server.crt", joining.cloud_of(here, config).cert_file)
        results = joining.probe(here, config, running=service.pid_of(here) is not None)
        rows = [(each.name, each.state, each.text, each.advice) for each in results]
        bundle.add("edgecore/checks", table(("CHECK", "RESULT", "DETAIL", "ADVICE"), rows) + "\n")


def _add_file(bundle: Bundle, name: str, path: Path) -> None:
    try:
        bundle.add(name, _latest(path.read_text(errors="replace")))
    except OSError as error:
        bundle.add(f"{name}.error", f"{path}: {error.strerror}\n")


def _latest(text: str) -> str:
    return text[-_MOST:]


def _files(root: Path) -> str:
    """Every file's name and size; of pods' volumes not even that: names may be secrets too."""
    lines = []
    for folder, folders, files in os.walk(root):
        if Path(folder).name in ("volumes", "pods"):
            folders.clear()
        for name in sorted(files):
            path = Path(folder) / name
            try:
                status = path.lstat()
            except OSError:
                continue
            lines.append(f"{status.st_mode:o} {status.st_size:>10} {path.relative_to(root)}")
    return "\n".join(lines) + "\n"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs
            command, capture_output=True, text=True, errors="replace", check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}\n"
    return done.stdout + done.stderr
