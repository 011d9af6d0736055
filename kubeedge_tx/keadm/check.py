"""``keadm check``: every probe, one table, and an exit code."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import click

from kubeedge_tx.config.types import relocate
from kubeedge_tx.keadm import install, joining, options, places, service, settings
from kubeedge_tx.keadm.certificate import certificate
from kubeedge_tx.keadm.install import bracketed, host_port
from kubeedge_tx.keadm.places import KeadmError, Places
from kubeedge_tx.keadm.probes import Result


@click.command("check")
@click.option(
    "-e",
    "--cloudcore-ipport",
    metavar="HOST:PORT",
    help="A cloud that this machine is to join; else the one of the configuration.",
)
@click.option("-t", "--token", metavar="TOKEN", envvar="KEADM_TOKEN", default="")
@click.option("-s", "--certport", type=click.IntRange(1, 65535), default=10002, show_default=True)
@click.option("-i", "--edgenode-name", metavar="NAME")
@click.option("-r", "--runtimetype", type=click.Choice(["auto", "docker", "process"]))
@click.option("-p", "--remote-runtime-endpoint", metavar="ADDRESS")
@options.sets
@options.data_dir
def command(
    cloudcore_ipport: str | None,
    token: str,
    certport: int,
    edgenode_name: str | None,
    runtimetype: str | None,
    remote_runtime_endpoint: str | None,
    settings: tuple[str, ...],
    data_dir: str | None,
) -> None:
    """Look at everything that an edge needs, and print what is wrong. Changes nothing.

    Exits with 0 if nothing failed, else with 1.
    """
    keys = {
        "modules.edged.hostnameOverride": edgenode_name,
        "modules.edged.runtime": runtimetype,
        "modules.edged.dockerAddress": remote_runtime_endpoint,
        "modules.edgeHub.token": token,
    }
    if cloudcore_ipport:
        host, port = host_port(cloudcore_ipport, 10000, "--cloudcore-ipport")
        keys["modules.edgeHub.websocket.server"] = f"{bracketed(host)}:{port}"
        keys["modules.edgeHub.httpServer"] = f"https://{bracketed(host)}:{certport}"
    here = places.find("edge", data_dir)
    if not diagnose(here, keys, settings):
        raise SystemExit(1)


def diagnose(here: Places, keys: dict[str, str | None], sets: tuple[str, ...] = ()) -> bool:
    """Print the table; returns whether nothing failed."""
    tree = settings.read_tree(here.config_file, "edge")
    if not here.config_file.exists() and not keys.get("modules.edgeHub.httpServer"):
        raise KeadmError(
            f"{here.config_file} is not there, so this machine is no edge yet: say which cloud "
            "it is to join with --cloudcore-ipport"
        )
    for path, value in keys.items():
        if value:
            settings.put(tree, path, value)
    settings.apply_sets(tree, sets)
    config = settings.config_of(tree, "edge")
    pid = service.pid_of(here)
    results = joining.probe(here, config, running=pid is not None)
    if here.record() is not None:
        hub = config.modules.edge_hub
        results = [
            *agent(here, pid, urlsplit(hub.http_server).netloc),
            certificate(relocate(hub.tls_cert_file, here.data_dir), time.time()),
            *results,
        ]
    return install.report(results)


def agent(here: Places, pid: int | None, cloud: str) -> list[Result]:
    """The agent that was installed here runs, is ready and connected."""
    if pid is None:
        record = here.record()
        why = service.reason(here, record) if record is not None else ""
        return [
            Result("agent", "fail", f"edgecore does not run; its last words: {why}", "keadm join …")
        ]
    if here.ready() is None:
        return [Result("agent", "fail", f"process {pid} is not ready yet", "see its log")]
    status, text = service.status_page(here, "/readyz")
    if status != 200:
        return [Result("agent", "fail", f"process {pid}: {text.strip()}", "see its log")]
    _, but, remark = text.strip().partition(", but ")
    return [
        Result("agent", "warn", f"process {pid} is ready, but {remark}")
        if but
        else Result("agent", "ok", f"process {pid} is ready"),
        Result("connection", "ok", f"to {cloud}")
        if service.is_connected(here)
        else Result(
            "connection", "fail", f"none to {cloud}; pods go on without", "see the checks below"
        ),
    ]
