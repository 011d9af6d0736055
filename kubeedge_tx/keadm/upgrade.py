"""``keadm upgrade``: switch to another version; back to the old one if it does not work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kubeedge_tx.keadm import backups, options, places, service, versions
from kubeedge_tx.keadm.places import KeadmError, Places, RoleName
from kubeedge_tx.keadm.versions import Wanted


@click.group("upgrade")
def command() -> None:
    """Switch this machine to another version; back by itself if that does not work.

    A copy of configuration and store is kept. Pods go on running meanwhile.
    """


def _verb(role: RoleName) -> Callable[..., Any]:
    @click.command(role)
    @click.option(
        "--package",
        metavar="WHAT",
        help="What pip is to install into an environment of its own: kubeedge-tx==1.2, a wheel, "
        "a folder.",
    )
    @click.option(
        "--venv",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="An environment that has the new version already.",
    )
    @click.option(
        "--toVersion",
        "to_version",
        metavar="VERSION",
        help="Short for --package kubeedge-tx==VERSION.",
    )
    @options.tarballpath
    @click.option(
        "--timeout",
        type=click.FloatRange(min=1),
        default=120.0,
        show_default=True,
        metavar="SECONDS",
        help="How long the new version may take until it works.",
    )
    @options.data_dir
    def verb(
        package: str | None,
        venv: Path | None,
        to_version: str | None,
        tarballpath: Path | None,
        timeout: float,
        data_dir: str | None,
    ) -> None:
        """Upgrade this role."""
        given = (package, venv, to_version or tarballpath)
        if sum(each is not None for each in given) != 1:
            raise KeadmError("say what to: --package, --venv, or --toVersion and --tarballpath")
        what = Wanted(package) if package else versions.wanted(to_version, tarballpath)
        if what is None and venv is None:
            venv = Path(sys.prefix)  # the version that keadm itself is
        here = places.find(role, data_dir)
        backups.installed(here)
        with places.exclusive(here):
            _upgrade(here, what, venv, timeout)

    return verb


command.add_command(_verb("edge"))  # type: ignore[arg-type]
command.add_command(_verb("cloud"))  # type: ignore[arg-type]


def _upgrade(here: Places, what: Wanted | None, venv: Path | None, timeout: float) -> None:
    record = backups.installed(here)
    before = record.version
    folder = versions.install(here, what) if what else Path(str(venv)).absolute()
    version = versions.version_of(folder)
    _try_config(here, folder)
    connected = service.is_connected(here)
    was_running = service.pid_of(here) is not None
    try:
        service.end(here)  # first: what is written after the copy would not be in it
        backup = backups.make(here, record)
    except BaseException:
        if was_running:
            service.end(here)
            backups.run(here, record, timeout, connected=False)
        raise
    click.echo(f"kept v{before} with its configuration and store in {backup}")
    try:
        _switch(here, folder, version, timeout, connected=connected)
    except BaseException as error:
        why = str(error) or type(error).__name__
        click.echo(f"v{version} does not work: {why}", err=True)
        backups.go_back(here, backup, timeout, connected=connected)
        backups.report(here, "Upgrade", before, version, why)
        if isinstance(error, KeadmError):
            raise KeadmError(f"the upgrade to v{version} failed; v{before} runs again") from None
        raise
    backups.report(here, "Upgrade", before, version)
    click.echo(f"{here.program} v{version} runs; `keadm rollback {here.role}` goes back")


def _switch(here: Places, folder: Path, version: str, timeout: float, *, connected: bool) -> None:
    record = backups.installed(here)
    record.version, record.twistd = version, str(folder / "bin" / "twistd")
    here.save(record)
    backups.run(here, record, timeout, connected=connected)


def _try_config(here: Places, folder: Path) -> None:
    """See that the new version takes the configuration, before anything is stopped."""
    done = subprocess.run(  # noqa: S603 - as above
        [
            *(str(folder / "bin" / "python"), "-m", "kubeedge_tx.keadm.main"),
            *("config", "validate", str(here.config_file)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if done.returncode:
        raise KeadmError(f"the new version refuses {here.config_file}: {done.stderr.strip()}")
