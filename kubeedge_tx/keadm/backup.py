"""``keadm backup``: keep a copy to go back to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from kubeedge_tx.keadm import backups, options, places
from kubeedge_tx.keadm.places import RoleName


@click.group("backup")
def command() -> None:
    """Keep a copy of configuration and store; `keadm rollback` goes back to it."""


def _verb(role: RoleName) -> Callable[..., Any]:
    @click.command(role)
    @options.data_dir
    def verb(data_dir: str | None) -> None:
        """Copy this role's configuration and store; it may run meanwhile."""
        here = places.find(role, data_dir)
        record = backups.installed(here)
        with places.exclusive(here):
            target = backups.make(here, record)
        backups.report(here, "Backup", record.version, record.version)
        click.echo(f"kept in {target}")

    return verb


command.add_command(_verb("edge"))  # type: ignore[arg-type]
command.add_command(_verb("cloud"))  # type: ignore[arg-type]
