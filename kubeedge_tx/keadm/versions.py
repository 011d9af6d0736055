"""Environments of their own for versions other than the one that ``keadm`` is in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from kubeedge_tx import VERSION
from kubeedge_tx.keadm.places import KeadmError, Places, make_dir

NAME: Final = "kubeedge-tx"
"""Of the package."""

_FILE: Final = re.compile(r"kubeedge[_-]tx-(\d[^-]*?)(?:-[^-]+-[^-]+-[^-]+\.whl|\.tar\.gz)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be installed."""

    package: str
    """As pip takes it: ``kubeedge-tx==1.2``, a wheel, a folder with the source."""
    version: str = ""
    """Which version that is, if it is known before."""
    folder: Path | None = None
    """Wheels, of it and of all it needs; the network is not asked then."""


def wanted(version: str | None, folder: Path | None) -> Wanted | None:
    """Read ``--kubeedge-version`` and ``--tarballpath``; ``None``: what keadm itself is.

    :raises KeadmError: the folder does not have that version, or none at all.
    """
    version = (version or "").removeprefix("v")
    if folder is None:
        own = version in ("", VERSION)
        return None if own else Wanted(f"{NAME}=={version}", version)
    folder = folder.absolute()
    if not folder.is_dir():
        raise KeadmError(f"--tarballpath: {folder} is no folder")
    matches = [match for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
    there = sorted({match[1] for match in matches})
    if not there:
        raise KeadmError(
            f"--tarballpath: {folder} has no {NAME}; where there is a network: "
            f"pip wheel -w DIR {NAME}"
        )
    if version and version not in there:
        raise KeadmError(f"--tarballpath: {folder} has v{', v'.join(there)}, and no v{version}")
    if not version and len(there) > 1:
        raise KeadmError(
            f"--tarballpath: {folder} has v{', v'.join(there)}; say which with --kubeedge-version"
        )
    version = version or there[0]
    return Wanted(f"{NAME}=={version}", version, folder)


def install(here: Places, what: Wanted) -> Path:
    """Make an environment of its own for a version; returns its folder.

    :raises KeadmError: pip cannot install it.
    """
    folder = here.data_dir / "versions" / time.strftime("%Y%m%d-%H%M%S")
    make_dir(folder.parent)
    package = str(Path(what.package).absolute()) if Path(what.package).exists() else what.package
    offline = ["--no-index", "--find-links", str(what.folder)] if what.folder else []
    click.echo(f"installing {package} into {folder}")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    try:
        for words in (
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, "--disable-pip-version-check", *offline, package],
        ):
            done = subprocess.run(  # noqa: S603 - our own words, and what the user asked for
                words, capture_output=True, text=True, check=False
            )
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines()[-1:]
                raise KeadmError(f"{package} cannot be installed: {' '.join(said)}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def version_of(folder: Path) -> str:
    """Which version an environment has.

    :raises KeadmError: none.
    """
    python, twistd = folder / "bin" / "python", folder / "bin" / "twistd"
    for program in (python, twistd):
        if not program.exists():
            raise KeadmError(f"{program} is not there: {folder} has no KubeEdge-TX")
    code = "from kubeedge_tx import VERSION; print(VERSION)"
    done = subprocess.run(  # noqa: S603 - as above
        [str(python), "-I", "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode:
        raise KeadmError(f"{folder} has no KubeEdge-TX in it")
    return done.stdout.strip()
