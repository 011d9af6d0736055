"""``keadm join``: make this machine an edge node."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click

from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.edge.edgehub.tokenfile import blank_token
from kubeedge_tx.errors import KubeEdgeError
from kubeedge_tx.keadm import (
    cloudprobes,
    install,
    joining,
    options,
    places,
    probes,
    service,
    settings,
    versions,
)
from kubeedge_tx.keadm.install import bracketed, host_port
from kubeedge_tx.keadm.places import KeadmError, Places
from kubeedge_tx.security.files import pem_blocks, read_file
from kubeedge_tx.security.token import split_token


@click.command("join")
@click.option(
    "-e",
    "--cloudcore-ipport",
    metavar="HOST:PORT",
    required=True,
    help="The cloud's address, and the port for edges (10000).",
)
@click.option(
    "-t",
    "--token",
    metavar="TOKEN",
    envvar="KEADM_TOKEN",
    default="",
    help="What `keadm gettoken` prints at the cloud; - reads it from standard input.",
)
@click.option(
    "-s",
    "--certport",
    type=click.IntRange(1, 65535),
    default=10002,
    show_default=True,
    help="The cloud's port for certificates.",
)
@click.option("-i", "--edgenode-name", metavar="NAME", help="The node's name; else the host's.")
@click.option("-l", "--labels", metavar="KEY=VALUE[,…]", multiple=True, help="Labels of the node.")
@click.option(
    "-r",
    "--runtimetype",
    type=click.Choice(["auto", "docker", "process"]),
    help="What runs containers; auto takes Docker if its engine answers.",
)
@click.option(
    "-p",
    "--remote-runtime-endpoint",
    metavar="ADDRESS",
    help="The Docker engine: unix:///var/run/docker.sock or tcp://HOST:PORT.",
)
@click.option("--cgroupdriver", type=click.Choice(["cgroupfs", "systemd"]), help="Docker's.")
@click.option("--certPath", "certpath", metavar="DIR", help="Where certificate and key are kept.")
@click.option(
    "--hub-protocol", type=click.Choice(["websocket"]), default="websocket", show_default=True
)
@options.sets
@options.data_dir
@options.running
@options.installing
@click.option("--check", is_flag=True, help="Only look whether it would work.")
@click.option(
    "--ignore-preflight-errors",
    metavar="CHECK[,…]",
    default="",
    help="Go on although these checks fail; 'all' for any.",
)
@click.option("--pre-run", metavar="COMMAND", help="Run by the shell before anything else.")
@click.option("--post-run", metavar="COMMAND", help="Run by the shell when the node is Ready.")
def command(
    cloudcore_ipport: str,
    token: str,
    certport: int,
    edgenode_name: str | None,
    labels: tuple[str, ...],
    runtimetype: str | None,
    remote_runtime_endpoint: str | None,
    cgroupdriver: str | None,
    certpath: str | None,
    hub_protocol: str,
    settings: tuple[str, ...],
    data_dir: str | None,
    service: bool | None,
    foreground: bool,
    timeout: float,
    check: bool,
    ignore_preflight_errors: str,
    pre_run: str | None,
    post_run: str | None,
    kubeedge_version: str | None,
    tarballpath: Path | None,
) -> None:
    """Make this machine an edge node of a cloud, and wait until the node is Ready.

    First it looks at everything that a join needs and prints one table. Run it again after
    a failure or Ctrl-C: it goes on from where it was.
    """
    here = places.find("edge", data_dir)
    host, port = host_port(cloudcore_ipport, 10000, "--cloudcore-ipport")
    tree = _configure(
        here,
        {
            "modules.edgeHub.websocket.server": f"{bracketed(host)}:{port}",
            "modules.edgeHub.httpServer": f"https://{bracketed(host)}:{certport}",
            "modules.edged.hostnameOverride": edgenode_name,
            "modules.edged.runtime": runtimetype,
            "modules.edged.dockerAddress": remote_runtime_endpoint,
            "modules.edged.tailoredKubeletConfig.cgroupDriver": cgroupdriver,
            "modules.edgeHub.tlsCertFile": certpath and f"{certpath}/server.crt",
            "modules.edgeHub.tlsPrivateKeyFile": certpath and f"{certpath}/server.key",
        },
        _token(token),
        labels,
        settings,
    )
    wanted = versions.wanted(kubeedge_version, tarballpath)
    kind = install.choose_service(service, foreground=foreground, places=here)
    if pre_run and not check:
        _run_hook("--pre-run", pre_run)
    _preflight(here, tree, check=check, ignored=ignore_preflight_errors)
    if check:
        return
    _start(
        here,
        tree,
        kind=kind,
        wanted=wanted,
        foreground=foreground,
        timeout=timeout,
        post_run=post_run,
    )


def _token(text: str) -> str:
    if text == "-":
        text = sys.stdin.readline()
    return text.strip()


def _configure(
    here: Places,
    keys: dict[str, str | None],
    token: str,
    labels: tuple[str, ...],
    sets: tuple[str, ...],
) -> settings.Tree:
    tree = settings.read_tree(here.config_file, "edge")
    before = tree.get("modules", {}).get("edgeHub", {})
    server = keys["modules.edgeHub.httpServer"]
    if before.get("httpServer") not in (None, server):
        settings.put(tree, "modules.edgeHub.token", "")  # it was another cloud's
    for path, value in keys.items():
        if value:
            settings.put(tree, path, value)
    if labels:
        settings.put(tree, "modules.edged.nodeLabels", _labels(labels))
    settings.apply_sets(tree, sets)
    if token:
        settings.put(tree, "modules.edgeHub.token", token)
    config = settings.config_of(tree, "edge")
    if "mqttMode" not in tree["modules"].get("eventBus", {}) and not _has_broker(here, config):
        settings.put(tree, "modules.eventBus.mqttMode", 0)  # the edge is the broker itself
    if token and _is_used(here, config, token):
        # Joined with it before: the agent has taken it out of the file, which stays as it is.
        settings.put(tree, "modules.edgeHub.token", "")
    return tree


def _has_broker(here: Places, config: EdgeCoreConfig) -> bool:
    """Whether an MQTT broker answers where upstream's default has it."""
    return probes.mqtt(joining.machine_of(here, config, running=False)).state == "ok"


def _is_used(here: Places, config: EdgeCoreConfig, token: str) -> bool:
    """Whether this edge has a certificate of the token's cloud already."""
    cloud = joining.cloud_of(here, config)
    try:
        ca = read_file(cloud.ca_file)
        if ca is None or not cloud.cert_file.exists():
            return False
        ca_hash, _ = split_token(token)
        roots = pem_blocks(ca, "CERTIFICATE", str(cloud.ca_file))
    except KubeEdgeError:
        return False
    return any(hashlib.sha256(der).hexdigest() == ca_hash for der in roots)


def _labels(labels: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in ",".join(labels).split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise KeadmError(f"--labels: expected key=value, got {pair!r}")
        found[key.strip()] = value.strip()
    return found


def _preflight(here: Places, tree: settings.Tree, *, check: bool, ignored: str) -> None:
    running = service.pid_of(here) is not None
    results = joining.probe(here, settings.config_of(tree, "edge"), running=running)
    if install.report(results):
        return
    accepted = {name.strip() for name in ignored.split(",")}
    failed = [result.name for result in results if result.state == "fail"]
    left = [name for name in failed if name not in accepted and "all" not in accepted]
    if left or check:
        raise KeadmError(
            f"{', '.join(left or failed)} failed; nothing was changed: mend it and run the same "
            "command again"
        )


def _start(
    here: Places,
    tree: settings.Tree,
    *,
    kind: str,
    wanted: versions.Wanted | None,
    foreground: bool,
    timeout: float,
    post_run: str | None,
) -> None:
    config = settings.config_of(tree, "edge")
    with places.exclusive(here) as let_go:
        changed = install.differs(here, tree)
        record = install.prepare(here, kind, wanted)
        running = install.Running(here, record, timeout)
        with install.foreground_child(running):
            running.start(tree, changed=changed, foreground=foreground)
            running.ready()
            cloud = joining.cloud_of(here, config)
            for what, until in (
                ("the certificate", lambda: _has_certificate(running, cloud)),
                ("the connection to the cloud", lambda: service.is_connected(here)),
                ("the node's registration", lambda: cloudprobes.node_exists(cloud)),
                ("the node's status", lambda: _is_told(here)),
            ):
                service.wait_for(
                    what, until, here, record, running.deadline, log_from=running.log_from
                )
            # An agent that got its certificate while we wrote the file does not look at the token.
            blank_token(here.config_file)
            if post_run:
                _run_hook("--post-run", post_run)
            click.echo(
                f"node {cloud.node} is Ready: it has joined the cloud at {cloud.host}: "
                "Install Complete!"
            )
            if running.process is not None:
                let_go()
                raise SystemExit(running.stay())
    if kind == "process" and os.geteuid() == 0:
        click.echo(
            "It runs in the background without systemd: after a reboot, run the same command again."
        )


def _has_certificate(running: install.Running, cloud: cloudprobes.Cloud) -> bool:
    """Whether it has; a refusal that waiting will not change ends the agent.

    :raises KeadmError: the cloud refused the token, or is another one than the token's.
    """
    if cloud.cert_file.exists():
        return True
    why = service.reason(running.places, running.record, running.log_from)
    if "TokenError" in why:
        service.stop(running.places)
        raise KeadmError(
            f"{why.partition('TokenError: ')[2] or why}\n"
            "The agent was stopped; run the same command again with a token that is good"
        )
    return False


def _is_told(here: Places) -> bool:
    """Whether the cloud has taken the node's status, which says Ready."""
    status, text = service.status_page(here, "/debug")
    return status == 200 and json.loads(text).get("registered") is True


def _run_hook(option: str, script: str) -> None:
    done = subprocess.run(script, shell=True, check=False)  # noqa: S602 - the user's own words
    if done.returncode:
        raise KeadmError(f"{option} ended with status {done.returncode}")
