"""``keadm version``."""

from __future__ import annotations

import json
import platform

import click

from kubeedge_tx import VERSION


@click.command("version")
@click.option("-o", "--output", type=click.Choice(["yaml", "json", "short"]))
def command(output: str | None) -> None:
    """Print the version."""
    if output == "short":
        click.echo(f"v{VERSION}")
        return
    about = {
        "gitVersion": f"v{VERSION}",
        "product": "KubeEdge-TX",
        "pythonVersion": platform.python_version(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }
    if output == "json":
        click.echo(json.dumps(about, indent=2))
    elif output == "yaml":
        click.echo("\n".join(f"{key}: {value}" for key, value in about.items()))
    else:
        click.echo(f"version: {about['product']} v{VERSION}, Python {about['pythonVersion']}")
