"""Objects as kubectl prints them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click
import yaml

from kubeedge_tx.apiserver.tables import to_table
from kubeedge_tx.keadm.holdings import Kind, Object
from kubeedge_tx.keadm.table import table


def print_objects(
    kind: Kind, objects: Sequence[Object], *, output: str | None, all_namespaces: bool
) -> None:
    """Print a table, a wide one, or the objects whole.

    :param output: ``yaml``, ``json``, ``wide`` or ``None``.
    """
    if output in ("yaml", "json"):
        print_whole(objects, output)
        return
    made = to_table(kind, objects, {}, time.time())
    shown = [
        at
        for at, column in enumerate(made["columnDefinitions"])
        if output == "wide" or not column["priority"]
    ]
    header = [str(made["columnDefinitions"][at]["name"]).upper() for at in shown]
    rows = [[str(row["cells"][at]) for at in shown] for row in made["rows"]]
    if all_namespaces and kind.namespaced:
        header.insert(0, "NAMESPACE")
        for row, obj in zip(rows, objects, strict=True):
            row.insert(0, str(obj["metadata"].get("namespace", "")))
    click.echo(table(header, rows))


def print_whole(objects: Sequence[Object], output: str) -> None:
    """Print objects with all that is in them; several as a List."""
    whole: Any = objects[0] if len(objects) == 1 else None
    if whole is None:
        whole = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    if output == "json":
        click.echo(json.dumps(whole, indent=4))
    else:
        click.echo(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), nl=False)
