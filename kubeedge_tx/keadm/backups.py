"""Copies of a role's configuration and stores, and the way back to them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import click
import msgspec

from kubeedge_tx.keadm import service
from kubeedge_tx.keadm.places import KeadmError, Places, Record, make_dir, unbroken, write

_CONFIG: Final = "config.yaml"
_RECORD: Final = "keadm.json"


def folder_of(here: Places) -> Path:
    """Where a role's backups are; upstream's place for root."""
    root = Path("/etc/kubeedge") if here.is_system else here.data_dir
    return root / "backup" / here.program


def report_file(here: Places) -> Path:
    """Where the last of these is reported; upstream's place for root."""
    root = Path("/etc/kubeedge") if here.is_system else here.data_dir
    return root / "upgrade_report.json"


def installed(here: Places) -> Record:
    """How the role was installed.

    :raises KeadmError: it was not.
    """
    record = here.record()
    if record is None:
        raise KeadmError(f"{here.program} was not installed here by keadm ({here.data_dir})")
    return record


def make(here: Places, record: Record) -> Path:
    """Copy configuration, stores and record; complete or not there at all.

    :raises KeadmError: the disk does not take it.
    """
    name = f"{record.version}-{time.strftime('%Y%m%d-%H%M%S')}"
    target = folder_of(here) / name
    number = 1
    while target.exists():
        number += 1
        target = folder_of(here) / f"{name}-{number}"
    draft = target.with_name(f".{target.name}.new")
    with unbroken():
        made = make_dir(draft.parent)
        if made:
            record.made_dirs += made
            here.save(record)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if here.config_file.exists():
            shutil.copy2(here.config_file, draft / _CONFIG)
        shutil.copy2(here.record_file, draft / _RECORD)
        for store in sorted(here.data_dir.glob("*.db")):
            _copy_store(store, draft / store.name)
        draft.rename(target)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError | sqlite3.Error):
            raise KeadmError(f"{target}: no backup could be made: {error}") from None
        raise
    return target


def _copy_store(store: Path, target: Path) -> None:
    """Copy a database as it is at one moment, also while it is written to."""
    with (
        closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
    target.chmod(0o600)


def find(here: Places, version: str | None) -> Path:
    """Find the newest backup, or the newest of a version.

    :raises KeadmError: there is none.
    """
    found = [path for path in folder_of(here).glob("*") if (path / _RECORD).is_file()]
    if version:
        wanted = version.removeprefix("v")
        found = [path for path in found if path.name == wanted or _version(path) == wanted]
    if not found:
        raise KeadmError(f"{folder_of(here)} has no backup{f' of {version}' if version else ''}")
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def _version(backup: Path) -> str:
    return str(json.loads((backup / _RECORD).read_text())["version"])


def restore(here: Places, backup: Path, *, stores: bool) -> Record:
    """Put configuration and record back, and the stores; the role does not run.

    :param stores: whether to; what was written to them since is lost.
    :raises KeadmError: it cannot be read or written.
    """
    try:
        record = msgspec.json.decode((backup / _RECORD).read_bytes(), type=Record)
        if (backup / _CONFIG).exists():
            write(here.config_file, (backup / _CONFIG).read_bytes(), 0o600)
        for copy in sorted(backup.glob("*.db")) if stores else ():
            store = here.data_dir / copy.name
            draft = store.with_name(f".{store.name}.new")
            shutil.copy2(copy, draft)
            # What was written since is not of this store any more.
            for end in ("-wal", "-shm"):
                store.with_name(store.name + end).unlink(missing_ok=True)
            draft.replace(store)
    except (OSError, msgspec.DecodeError) as error:
        raise KeadmError(f"{backup}: cannot be restored: {error}") from None
    now = here.record()
    if now is not None:
        record.made_dirs = list(dict.fromkeys([*record.made_dirs, *now.made_dirs]))
    here.save(record)
    return record


def run(here: Places, record: Record, timeout: float, *, connected: bool) -> None:
    """Start the role and wait until it does its work.

    :param connected: an edge is to be connected to its cloud, too.
    :raises KeadmError: it does not, in time; the text says why.
    """
    deadline = time.monotonic() + timeout
    start = service.start(here, record)
    service.wait_until_ready(here, record, deadline, log_from=start)
    service.wait_for(
        "/readyz",
        lambda: service.status_page(here, "/readyz")[0] == 200,
        here,
        record,
        deadline,
        log_from=start,
    )
    if connected:
        service.wait_for(
            "the connection to the cloud",
            lambda: service.is_connected(here),
            here,
            record,
            deadline,
            log_from=start,
        )


def report(here: Places, event: str, before: str, after: str, error: str = "") -> None:
    """Write how it went, where upstream's edge looks for it."""
    text = json.dumps(
        {
            "event": event,
            "success": not error,
            "fromVersion": f"v{before}",
            "toVersion": f"v{after}",
            "errorMessage": error,
        },
        indent=2,
    )
    write(report_file(here), text.encode(), 0o600)


def go_back(
    here: Places, backup: Path, timeout: float, *, connected: bool, stores: bool = False
) -> None:
    """Go back to a backup, and say so.

    The stores stay as they are, with all that was written since, if the old version can read
    them; else they are restored, too.

    :param stores: restore them in any case.
    :raises KeadmError: the backup cannot be read, or the old one does not run either.
    """
    service.end(here)
    if not stores:
        record = restore(here, backup, stores=False)
        try:
            run(here, record, timeout, connected=connected)
        except KeadmError as error:
            click.echo(f"v{record.version} does not run with the store as it is: {error}", err=True)
            service.end(here)
            stores = True
    if stores:
        record = restore(here, backup, stores=True)
        run(here, record, timeout, connected=connected)
    which = f"the store of {backup.name}" if stores else "the store as it is"
    click.echo(f"back at {here.program} v{record.version}, with {which}")
