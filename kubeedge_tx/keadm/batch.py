"""``keadm batch``: join many machines over ssh.

Each machine has ``keadm`` already (in its image, or by pip). Nothing secret is on any command
line: the token goes through ssh's standard input.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from kubeedge_tx.config.loader import load_file
from kubeedge_tx.config.types import Block, Port, Positive
from kubeedge_tx.keadm.places import KeadmError
from kubeedge_tx.keadm.table import table

_EXAMPLE: Final = """\
# keadm batch --config FILE joins all of these machines.
keadm: keadm              # what is run on each machine; it is installed there already
maxRunNum: 5              # machines at once
cloudcoreIpport: 192.0.2.1:10000
certport: 10002
# token: …                # else from --token or KEADM_TOKEN
joinArguments: --runtimetype auto
nodes:
- nodeName: gateway-1
  ssh:
    ip: 192.0.2.11
    username: root
    port: 22
    identityFile: ~/.ssh/id_ed25519
- nodeName: gateway-2
  ssh: {ip: 192.0.2.12, username: root}
  joinArguments: --runtimetype docker --labels site=north
"""


class Ssh(Block, frozen=True, kw_only=True):
    """How to get onto a machine."""

    ip: str
    username: str = ""
    port: Port = 22
    identity_file: str = ""


class Node(Block, frozen=True, kw_only=True):
    """One machine."""

    node_name: str
    ssh: Ssh
    join_arguments: str = ""


class Batch(Block, frozen=True, kw_only=True):
    """The whole file."""

    cloudcore_ipport: str
    certport: Port = 10002
    token: str = ""
    keadm: str = "keadm"
    max_run_num: Positive = 5
    join_arguments: str = ""
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went on one machine."""

    node: str
    status: int
    output: str


@click.group("batch", invoke_without_command=True)
@click.option("-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-t", "--token", metavar="TOKEN", envvar="KEADM_TOKEN", default="")
@click.option(
    "--ssh", "program", metavar="PROGRAM", default="ssh", show_default=True, help="With options."
)
@click.option("--check", is_flag=True, help="Only look whether each would work.")
@click.option(
    "--log",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default="batch_process_log.txt",
    show_default=True,
)
@click.pass_context
def command(
    ctx: click.Context, file: Path | None, token: str, program: str, check: bool, log: Path
) -> None:
    """Join the machines of a file over ssh, several at once; those that joined stay so."""
    if ctx.invoked_subcommand is not None:
        return
    if file is None:
        raise KeadmError(
            "say which machines with --config FILE; `keadm batch gen-config` shows one"
        )
    batch = load_file(file, Batch)
    token = (token or batch.token).strip()
    if token == "-":  # noqa: S105 - no token
        token = sys.stdin.readline().strip()
    if not token:
        raise KeadmError("there is no token: in the file, by --token, or in KEADM_TOKEN")
    names = [node.node_name for node in batch.nodes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise KeadmError(f"{file}: two machines have the name {', '.join(sorted(twice))}")
    with ThreadPoolExecutor(batch.max_run_num) as pool:
        ended = list(
            pool.map(lambda node: _join(batch, node, token, program, check=check), batch.nodes)
        )
    with log.open("a") as written:
        for each in ended:
            written.write(f"=== {each.node}: status {each.status}\n{each.output}\n")
    rows = [
        (each.node, "ok" if each.status == 0 else "FAILED", _last(each.output)) for each in ended
    ]
    click.echo(table(("NODE", "RESULT", "LAST WORDS"), rows))
    failed = [each.node for each in ended if each.status]
    if failed:
        raise KeadmError(f"{len(failed)} of {len(ended)} failed; all they said is in {log}")


@command.command("gen-config")
def gen_config() -> None:
    """Print a file to begin with."""
    click.echo(_EXAMPLE, nl=False)


def _join(batch: Batch, node: Node, token: str, program: str, *, check: bool) -> Ended:
    words = [
        *(*shlex.split(batch.keadm), "join", "--token", "-"),
        *("--cloudcore-ipport", batch.cloudcore_ipport, "--certport", str(batch.certport)),
        *("--edgenode-name", node.node_name),
        *shlex.split(batch.join_arguments),
        *shlex.split(node.join_arguments),
        *(["--check"] if check else []),
    ]
    try:
        done = subprocess.run(  # noqa: S603 - what the file asks for
            [*shlex.split(program), *_ssh_options(node.ssh), shlex.join(words)],
            input=f"{token}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return Ended(node.node_name, 255, f"{program}: {error.strerror}")
    click.echo(f"{node.node_name}: {'ok' if done.returncode == 0 else 'FAILED'}")
    return Ended(node.node_name, done.returncode, done.stdout.replace(token, "[token]"))


def _ssh_options(ssh: Ssh) -> list[str]:
    # Nobody is there to answer a question.
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-p", str(ssh.port)]
    if ssh.identity_file:
        options += ["-i", str(Path(ssh.identity_file).expanduser())]
    target = f"{ssh.username}@{ssh.ip}" if ssh.username else ssh.ip
    return [*options, "--", target]


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""
