"""``keadm rollback``: go back to a backup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from kubeedge_tx.keadm import backups, options, places
from kubeedge_tx.keadm.places import RoleName


@click.group("rollback")
def command() -> None:
    """Go back to the version, configuration and store of a backup."""


def _verb(role: RoleName) -> Callable[..., Any]:
    @click.command(role)
    @click.option("--historical-version", metavar="VERSION", help="Else the newest backup.")
    @click.option("--timeout", type=click.FloatRange(min=1), default=120.0, show_default=True)
    @click.option(
        "--restore-store",
        is_flag=True,
        help="Restore the store, too; what was written since is lost. Without it this is done "
        "only if the old version cannot read the store as it is.",
    )
    @options.data_dir
    def verb(
        historical_version: str | None, timeout: float, restore_store: bool, data_dir: str | None
    ) -> None:
        """Go back, of this role."""
        here = places.find(role, data_dir)
        before = backups.installed(here).version
        with places.exclusive(here):
            backup = backups.find(here, historical_version)
            backups.go_back(here, backup, timeout, connected=False, stores=restore_store)
            backups.report(here, "Rollback", before, backups.installed(here).version)

    return verb


command.add_command(_verb("edge"))  # type: ignore[arg-type]
command.add_command(_verb("cloud"))  # type: ignore[arg-type]
