"""``keadm debug``: look into an edge."""

from __future__ import annotations

import click

from kubeedge_tx.keadm import check, options, places
from kubeedge_tx.keadm.collect import collect
from kubeedge_tx.keadm.get import get
from kubeedge_tx.keadm.holdings import Holdings, kind_of, store_of
from kubeedge_tx.keadm.places import KeadmError
from kubeedge_tx.keadm.table import table


@click.group("debug")
def command() -> None:
    """Look into this edge; the cloud may be away."""


command.add_command(get)
command.add_command(collect)
command.add_command(check.command)


@command.group("diagnose", invoke_without_command=True)
@options.data_dir
@click.pass_context
def diagnose(ctx: click.Context, data_dir: str | None) -> None:
    """Say what is wrong with this edge, or with one of its pods.

    Exits with 0 if nothing failed, else with 1.
    """
    ctx.obj = data_dir
    if ctx.invoked_subcommand is None and not check.diagnose(places.find("edge", data_dir), {}):
        raise SystemExit(1)


@diagnose.command("node")
@click.pass_obj
def node(data_dir: str | None) -> None:
    """The agent, its machine and its cloud."""
    if not check.diagnose(places.find("edge", data_dir), {}):
        raise SystemExit(1)


@diagnose.command("install")
@options.sets
@click.pass_obj
def installation(data_dir: str | None, settings: tuple[str, ...]) -> None:
    """Only what this machine needs to become an edge."""
    from kubeedge_tx.keadm import install, joining, probes
    from kubeedge_tx.keadm import settings as files

    here = places.find("edge", data_dir)
    tree = files.read_tree(here.config_file, "edge")
    files.apply_sets(tree, settings)
    machine = joining.machine_of(here, files.config_of(tree, "edge"), running=False)
    if not install.report(probes.local(machine)):
        raise SystemExit(1)


@diagnose.command("pod")
@click.argument("name")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.pass_obj
def pod(data_dir: str | None, name: str, namespace: str) -> None:
    """A pod of this edge: its conditions and containers, and why they are not as they should."""
    here = places.find("edge", data_dir)
    healthy = check.diagnose(here, {})
    found = [
        each
        for each in Holdings(store_of(here, None)).objects(kind_of("pod"))
        if each["metadata"].get("name") == name and each["metadata"].get("namespace") == namespace
    ]
    if not found:
        raise KeadmError(f"this edge holds no pod {namespace}/{name}: is it bound to this node?")
    status = found[0].get("status") or {}
    click.echo(f"\npod {namespace}/{name} is {status.get('phase', 'not started')}")
    rows = [
        (each.get("type", ""), each.get("status", ""), each.get("reason") or "")
        for each in status.get("conditions") or []
    ]
    click.echo(table(("CONDITION", "STATUS", "REASON"), rows))
    containers = []
    for each in status.get("containerStatuses") or []:
        states: dict[str, dict[str, str]] = each.get("state") or {"unknown": {}}
        state, detail = next(iter(states.items()))
        why = " ".join(str((detail or {}).get(key) or "") for key in ("reason", "message")).strip()
        containers.append((each["name"], state, str(each.get("restartCount", 0)), why))
    click.echo(table(("CONTAINER", "STATE", "RESTARTS", "WHY"), containers))
    ready = any(row[:2] == ("Ready", "True") for row in rows)
    if not healthy or not ready:
        raise SystemExit(1)
