"""``python -m kubeedge_tx.faultkit``: a bad link, bad disks and clocks, and a judge."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater, react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.clocks import run
from kubeedge_tx.faultkit.history import check, read
from kubeedge_tx.faultkit.kit import Kit
from kubeedge_tx.faultkit.proxy import Proxy
from kubeedge_tx.faultkit.script import Step, perform, read_line, read_steps


@click.group()
def main() -> None:
    """Break a deployment on purpose, and find out which promise did not hold."""


_CONTROL = click.option("--control", default="", help="host:port that takes steps as JSON lines")
_SCRIPT = click.option("--script", type=click.Path(path_type=Path), help="YAML list of steps")


@main.command()
@click.option("--listen", default="127.0.0.1:0", help="host:port for the edges")
@click.option("--to", required=True, help="host:port of the cloud")
@_CONTROL
@_SCRIPT
@click.option("--seed", type=int, default=None, help="of the jitter")
def proxy(listen: str, to: str, control: str, script: Path | None, seed: int | None) -> None:
    """Be the link between edges and a cloud, as bad as you say; do the rest as well."""
    steps = _steps(script)
    link = (_split(listen), _split(to), random.Random(seed))  # noqa: S311 - of jitter only
    react(_obey, [link, _split(control) if control else None, steps])


@main.command()
@_CONTROL
@_SCRIPT
def local(control: str, script: Path | None) -> None:
    """Break this machine's processes, disks and clocks, without a link."""
    steps = _steps(script)
    if not steps and not control:
        raise click.UsageError("give --script, --control or both")
    react(_obey, [None, _split(control) if control else None, steps])


@main.command("run", context_settings={"ignore_unknown_options": True})
@click.option(
    "--clock",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="file that says how wrong COMMAND's clock is; made if it is not there",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(clock: Path, command: tuple[str, ...]) -> None:
    """Become COMMAND, with a clock that `{do: clock}` can shift. Not for programs in Go."""
    try:
        run(clock, list(command))
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _steps(script: Path | None) -> list[Step]:
    try:
        return read_steps(script.read_bytes()) if script is not None else []
    except (ConfigError, OSError) as error:
        raise click.UsageError(str(error)) from None


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"{place!r} is not host:port")
    return host, int(port)


async def _obey(
    reactor: Any, link: Any, control: tuple[str, int] | None, steps: list[Step]
) -> None:
    proxy = None
    if link is not None:
        listen, to, chance = link
        proxy = Proxy(reactor, chance, *to)
        port = await proxy.listen(listen[1], listen[0])
        click.echo(f"listening on {listen[0]}:{port}")
    kit = Kit(reactor, proxy)
    # Ctrl-C and SIGTERM come here; what SIGKILL leaves, the kernel and a holder put right.
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(kit.heal()))
    doing = DeferredLock()
    if control is not None:
        endpoint = serverFromString(reactor, f"tcp:{control[1]}:interface={control[0]}")
        controlling = await endpoint.listen(Factory.forProtocol(lambda: Control(kit, doing)))
        click.echo(f"control on {control[0]}:{controlling.getHost().port}")
    began = reactor.seconds()
    for step in steps:
        await deferLater(reactor, max(0.0, began + step.at - reactor.seconds()))
        try:
            await doing.run(_start, step, kit)
        except ConfigError as error:
            click.echo(f"{step.at:g} s: {error}", err=True)
        else:
            click.echo(f"{step.at:g} s: {step.do}")
    await Deferred()


def _start(step: Step, kit: Kit) -> Deferred[dict[str, Any]]:
    return Deferred.fromCoroutine(perform(step, kit))


class Control(LineOnlyReceiver):
    """Takes one step a line, answers with what is in force then; one after the other."""

    delimiter = b"\n"

    def __init__(self, kit: Kit, doing: DeferredLock) -> None:
        self._kit = kit
        self._doing = doing

    def lineReceived(self, line: bytes) -> None:
        answering: Deferred[dict[str, Any]] = self._doing.run(self._perform, line)
        answering.addErrback(_complaint)
        answering.addCallback(lambda answer: self.sendLine(msgspec.json.encode(answer)))

    def _perform(self, line: bytes) -> Deferred[dict[str, Any]]:
        return _start(read_line(line), self._kit)


def _complaint(failure: Failure) -> dict[str, Any]:
    failure.trap(ConfigError)
    return {"error": failure.getErrorMessage()}


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
