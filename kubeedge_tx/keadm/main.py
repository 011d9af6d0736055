"""The command ``keadm``; a verb's module is imported when the verb is used."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

VERBS: Final = {
    "init": ("init", "Start a cloud on this machine and print how edges join it."),
    "join": ("join", "Make this machine an edge node of a cloud."),
    "gettoken": ("gettoken", "Print, make, list and revoke join tokens."),
    "reset": ("reset", "Undo init or join on this machine."),
    "check": ("check", "Look whether this machine can join, or why it does not work."),
    "debug": ("debug", "Look into an edge: what it holds, what is wrong, a support bundle."),
    "ctl": ("ctl", "Pods of this edge: get, describe, logs, exec, restart; the cloud may be away."),
    "config": ("config", "Validate a configuration file."),
    "upgrade": ("upgrade", "Switch to another version, and back by itself if it fails."),
    "backup": ("backup", "Keep a copy of configuration and store."),
    "rollback": ("rollback", "Go back to the version and state before an upgrade."),
    "batch": ("batch", "Join many machines over ssh."),
    "version": ("version", "Print the version."),
}
"""Module and help line of each verb."""


class _Verbs(click.Group):
    """Lists the verbs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _ = VERBS[cmd_name]
        command: click.Command = import_module(f"kubeedge_tx.keadm.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Turn what went wrong on purpose into one line and exit code 1.

        Ctrl-C leaves with 130, as a shell expects.
        """
        from kubeedge_tx.errors import KubeEdgeError

        try:
            return super().invoke(ctx)
        except KubeEdgeError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            click.echo("\ninterrupted; the same command goes on from here", err=True)
            raise SystemExit(130) from None


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Install and look after KubeEdge-TX: one command for each machine."""


if __name__ == "__main__":
    main(prog_name="keadm")
