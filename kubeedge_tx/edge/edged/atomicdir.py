"""A folder whose files change all at once.

The visible names are links through ``..data`` to a dated folder; a change makes a new
folder and swaps that one link, so a reader sees either all old or all new files.

Source: ``k8s.io/kubernetes/pkg/volume/util/atomic_writer.go``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from kubeedge_tx.edge.edged.payload import File, Payload

_DATA: Final = "..data"
_NEW_DATA: Final = "..data_tmp"


def write(folder: Path, payload: Payload, stamp: str, group: int | None = None) -> bool:
    """Make the folder show exactly ``payload``. Blocking.

    :param stamp: unlike that of any former write: the name of the dated folder.
    :param group: a group that may read the files (``fsGroup``), where the agent may set it.
    :returns: whether anything changed.
    :raises OSError: the disk refused; what was visible before still is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / _DATA
    if data.is_symlink() and _holds(data, payload):
        return False
    former = folder / data.readlink() if data.is_symlink() else None
    dated = folder / f"..{stamp}"
    if dated.exists():  # of a write that was interrupted before its swap
        shutil.rmtree(dated)
    dated.mkdir(mode=0o755)
    dated.chmod(0o755)
    for path, file in payload.items():
        _write_file(dated, path, file, group)
    link = folder / _NEW_DATA
    link.unlink(missing_ok=True)
    link.symlink_to(dated.name)
    link.replace(data)
    visible = {path.split("/", 1)[0] for path in payload}
    for name in visible:
        shown = folder / name
        if not shown.is_symlink():
            shown.symlink_to(f"{_DATA}/{name}")
    for entry in list(folder.iterdir()):
        if not entry.name.startswith("..") and entry.name not in visible:
            entry.unlink()
        elif entry.name.startswith("..") and entry not in (data, dated) and entry != former:
            _remove(entry)
    if former is not None and former != dated:
        _remove(former)
    return True


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _write_file(root: Path, path: str, file: File, group: int | None) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = file.mode
    if group is not None:
        mode |= (mode & 0o600) >> 3
    with target.open("xb") as opened:
        os.fchmod(opened.fileno(), mode)
        opened.write(file.data)
    if os.geteuid() == 0 and (file.owner is not None or group is not None):
        os.chown(
            target,
            file.owner if file.owner is not None else -1,
            group if group is not None else -1,
        )


def _holds(data: Path, payload: Payload) -> bool:
    """Tell whether the folder already has these files and no others."""
    if not data.is_dir():
        return False
    found = {
        str(each.relative_to(data)): each
        for each in data.rglob("*")
        if each.is_file() and not each.is_symlink()
    }
    return found.keys() == payload.keys() and all(
        path.stat().st_size == len(payload[name].data) and path.read_bytes() == payload[name].data
        for name, path in found.items()
    )
