"""``keadm gettoken``: the token that an edge joins with."""

from __future__ import annotations

import re
import time
from typing import Final

import click

from kubeedge_tx.keadm import options, places, tokens
from kubeedge_tx.keadm.cluster import Cluster, kubeconfig_of
from kubeedge_tx.keadm.places import KeadmError
from kubeedge_tx.keadm.table import table
from kubeedge_tx.security.identity import is_node_name

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    parts = re.findall(r"(\d+)([smhd])", value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise click.BadParameter(f"expected 30m, 12h, 7d…, got {value!r}")
    total = sum(int(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < total <= 3650 * _UNITS["d"]:
        raise click.BadParameter("expected more than nothing and less than ten years")
    return total


def _node(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_node_name(value):
        raise click.BadParameter(f"{value!r} is no name that a node may have")
    return value


@click.group("gettoken", invoke_without_command=True)
@options.kube_config
@options.data_dir
@click.option(
    "--ttl",
    metavar="DURATION",
    callback=_seconds,
    help="Make a token of its own that is good for so long: 30m, 12h, 7d.",
)
@click.option(
    "--node",
    metavar="NAME",
    callback=_node,
    help="Make a token with which only this node can join; for a day, or --ttl.",
)
@click.pass_context
def command(
    ctx: click.Context,
    kube_config: str | None,
    data_dir: str | None,
    ttl: int | None,
    node: str | None,
) -> None:
    """Print the join token that the cloud keeps fresh, or make one with --ttl or --node."""
    ctx.obj = (kube_config, data_dir)
    if ctx.invoked_subcommand is not None:
        return
    cluster = _cluster(ctx.obj)
    if ttl is not None or node is not None:
        click.echo(tokens.make(cluster, ttl or tokens.DAY, time.time(), node or ""))
        return
    token = tokens.standing(cluster)
    if token is None:
        raise KeadmError(
            "failed to get token: secret kubeedge/tokensecret is not there: has the cloud started?"
        )
    click.echo(token)


@command.command("list")
@click.pass_obj
def list_tokens(where: tuple[str | None, str | None]) -> None:
    """List the tokens, by their ids; never a token itself."""
    rows = tokens.rows(_cluster(where), time.time())
    click.echo(table(("ID", "STATE", "EXPIRES (UTC)", "NODE", "MADE BY"), rows))


@command.command("revoke")
@click.argument("which", metavar="ID_OR_TOKEN")
@click.pass_obj
def revoke(where: tuple[str | None, str | None], which: str) -> None:
    """Make a token useless; edges that joined with it stay joined."""
    identity = tokens.revoke(_cluster(where), which, time.time())
    click.echo(f"token {identity} is revoked")


def _cluster(where: tuple[str | None, str | None]) -> Cluster:
    kube_config, data_dir = where
    return Cluster(kubeconfig_of(places.find("cloud", data_dir), kube_config))
