"""``script/bench``: print figures with their conditions. Never fails for being slow."""

from __future__ import annotations

import json
import random
from pathlib import Path

import click

from tests.bench import edges, failover, fanout, memory, mqtt, pods, reconnect, twin
from tests.bench.figures import Report
from tests.bench.processes import GaveUp
from tests.bench.soak import command as soak
from tests.bench.soak.settings import Settings

MEASURED = ("fanout", "pod", "edge", "reconnect", "failover", "memory", "mqtt", "twin")
"""What runs if nothing is named."""
NAMES = (*MEASURED, "soak")
LOOKED_AT = 60
"""Edges whose stores the soak reads in a second, at most: it shares their processors."""


def _numbers(_context: object, _option: object, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter("expected numbers, such as 50,300") from None


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write JSON there, too.")
@click.option("--nodes", default="50,300", callback=_numbers, help="fanout: numbers of nodes.")
@click.option("--windows", default="1,32", callback=_numbers, help="fanout: 1 is a Go edge's.")
@click.option(
    "--api",
    type=click.Choice(["separate", "embedded"]),
    default="separate",
    help="fanout: the embedded API in a process of its own, or in the cloud's.",
)
@click.option(
    "--minutes",
    type=float,
    help="edge: how long idle traffic is measured (4); soak: how long rounds are begun (20).",
)
@click.option("--seed", type=int, help="soak: of the faults and changes; by default any.")
@click.option("--edges", "edge_count", default=30, help="soak: edges.")
@click.option("--objects", default=500, help="soak: objects that change.")
@click.option("--sessions", default=300, help="failover, memory: nodes.")
@click.option("--held", default=4000, help="memory: objects of each kind.")
@click.option("--repeat", default=7, help="pod, reconnect, failover, mqtt, twin: samples.")
@click.option("--subscribers", default="10,100,500", callback=_numbers, help="mqtt: fan-out to.")
@click.option("--idle", default=1000, help="mqtt: clients that do nothing; 0 for none.")
@click.option("--peers/--no-peers", default=True, help="mqtt: mosquitto and amqtt, too.")
def main(
    names: tuple[str, ...],
    json_file: Path | None,
    nodes: list[int],
    windows: list[int],
    api: str,
    minutes: float | None,
    seed: int | None,
    edge_count: int,
    objects: int,
    sessions: int,
    held: int,
    repeat: int,
    subscribers: list[int],
    idle: int,
    peers: bool,
) -> None:
    """Run the benchmarks."""
    report = Report()
    for name in names or MEASURED:
        try:
            if name == "fanout":
                fanout.run(report, nodes, windows, api)
            elif name == "pod":
                pods.run(report, repeat)
            elif name == "edge":
                edges.run(report, minutes or 4.0)
            elif name == "failover":
                failover.run(report, sessions, min(repeat, 3))
            elif name == "memory":
                memory.run(report, held, sessions)
            elif name == "mqtt":
                mqtt.run(report, subscribers, idle, repeat, peers)
            elif name == "twin":
                twin.run(report, repeat)
            elif name == "soak":
                settings = Settings(
                    seed=seed if seed is not None else random.randrange(1 << 30),
                    seconds=(minutes or 20.0) * 60,
                    edges=edge_count,
                    objects=objects,
                    look=max(1.0, edge_count / LOOKED_AT),
                )
                soak.run(report, settings)
            else:
                reconnect.run(report, repeat)
        except GaveUp as error:
            report.problem(f"{name}: {error}")
    report.print_table()
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n")


if __name__ == "__main__":
    main()
