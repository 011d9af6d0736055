"""``python -m kubeedge_tx.faultkit``: a bad link, and a judge."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.history import check, read
from kubeedge_tx.faultkit.proxy import Proxy
from kubeedge_tx.faultkit.script import Step, perform, read_line, read_steps


@click.group()
def main() -> None:
    """Break a deployment on purpose, and find out which promise did not hold."""


@main.command()
@click.option("--listen", default="127.0.0.1:0", help="host:port for the edges")
@click.option("--to", required=True, help="host:port of the cloud")
@click.option("--control", default="", help="host:port that takes steps as lines of JSON")
@click.option("--script", type=click.Path(path_type=Path), help="YAML list of steps")
@click.option("--seed", type=int, default=None, help="of the jitter")
def proxy(listen: str, to: str, control: str, script: Path | None, seed: int | None) -> None:
    """Be the link between edges and a cloud, as bad as you say."""
    try:
        steps = read_steps(script.read_bytes()) if script is not None else []
    except (ConfigError, OSError) as error:
        raise click.UsageError(str(error)) from None
    places = [_split(listen), _split(to), _split(control) if control else None]
    react(_run_proxy, [places, steps, random.Random(seed)])  # noqa: S311 - of jitter only


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"{place!r} is not host:port")
    return host, int(port)


async def _run_proxy(reactor: Any, places: list[Any], steps: list[Step], chance: Any) -> None:
    listen, to, control = places
    link = Proxy(reactor, chance, *to)
    port = await link.listen(listen[1], listen[0])
    click.echo(f"listening on {listen[0]}:{port}")
    if control is not None:
        endpoint = serverFromString(reactor, f"tcp:{control[1]}:interface={control[0]}")
        controlling = await endpoint.listen(Factory.forProtocol(lambda: Control(link)))
        click.echo(f"control on {control[0]}:{controlling.getHost().port}")
    for step in steps:
        reactor.callLater(step.at, _perform_loudly, step, link)
    await Deferred()


def _perform_loudly(step: Step, link: Proxy) -> None:
    try:
        perform(step, link)
    except (ConfigError, ProcessLookupError, PermissionError) as error:
        click.echo(f"{step.do}: {error}", err=True)
    else:
        click.echo(f"{step.at:g} s: {step.do}")


class Control(LineOnlyReceiver):
    """Takes one step a line, answers with the proxy's state."""

    delimiter = b"\n"

    def __init__(self, link: Proxy) -> None:
        self._link = link

    def lineReceived(self, line: bytes) -> None:
        answer: dict[str, Any]
        try:
            answer = perform(read_line(line), self._link)
        except (ConfigError, ProcessLookupError, PermissionError) as error:
            answer = {"error": str(error)}
        self.sendLine(msgspec.json.encode(answer))


@main.command("check")
@click.argument("history", type=click.File("rb"))
@click.option("--unfinished", is_flag=True, help="the history ends amid the faults")
def check_command(history: Any, unfinished: bool) -> None:
    """Read a history, and say which promises it breaks; status 1 if any."""
    try:
        events = read(history)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"not a history: {error}") from None
    broken = check(events, ended=not unfinished)
    for each in broken:
        click.echo(each)
    click.echo(f"{len(events)} events, {len(broken)} promises broken")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
