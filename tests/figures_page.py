"""The list of all metrics, from the calls in the code that add them: ``docs/metrics.rst``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CODE: Final = Path(__file__).parent.parent / "kubeedge_tx"

_KINDS: Final = frozenset({"counter", "gauge", "histogram"})

_HEAD: Final = """\
.. Written by script/generate from the calls that add metrics; do not edit.

Metrics
=======

.. code-block:: console

   $ curl -s http://127.0.0.1:9091/metrics

.. expect: kubeedge_sync_lag_seconds{nodes="connected"}

9091 is the cloud, 9092 the edge (``commonConfig.monitorServer.bindAddress``).
``deploy/grafana/dashboard.json`` and ``deploy/prometheus/alerts.yaml`` use them. Labels take
few values: there is no series for each node, but for the twenty that are worst, and
``/debug?node=NAME`` of the cloud has the state of any one. A counter or histogram that would have
more than 200 series counts the others as ``other``.
"""

_OWN: Final = {
    "cloud": "Cloud",
    "edge": "Edge",
    "mqtt": "The MQTT broker, at an edge or alone",
}
"""Folders with a part of the page to themselves; all others are in both roles."""


@dataclass(frozen=True, order=True)
class Family:
    """One metric, as the code names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def families(*rooms: str) -> list[Family]:
    """All that code in these folders adds."""
    found = set()
    for room in rooms:
        for file in sorted((CODE / room).rglob("*.py")):
            found |= set(_of_file(file))
    return sorted(found)


def _of_file(file: Path) -> Iterator[Family]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _KINDS
            and node.args
            and file.name != "metrics.py"
        ):
            continue
        given: dict[str, ast.expr] = dict(zip(("name", "help", "labels"), node.args, strict=False))
        given |= {each.arg: each.value for each in node.keywords if each.arg is not None}
        labels = given.get("labels", ast.Tuple([]))
        try:
            name, help_text = ast.literal_eval(given["name"]), ast.literal_eval(given["help"])
            yield Family(name, node.func.attr, ast.literal_eval(labels), help_text)
        except ValueError:
            where = f"{file}:{node.lineno}"
            raise ValueError(
                f"{where}: write the metric's name, help and labels out, so that the "
                "documentation can have them"
            ) from None


def render() -> str:
    """Write the page."""
    parts = [_HEAD]
    shared = [each.name for each in CODE.iterdir() if each.is_dir() and each.name not in _OWN]
    for title, rooms in (*((title, [room]) for room, title in _OWN.items()), ("Both", shared)):
        parts.append(f"{title}\n{'-' * len(title)}\n")
        for each in families(*rooms):
            labels = ", ".join(f"``{label}``" for label in each.labels)
            by = f", by {labels}" if labels else ""
            parts.append(f"``{each.name}`` ({each.kind}{by})\n   {each.help}\n")
    return "\n".join(parts)
