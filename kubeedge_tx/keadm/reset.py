"""``keadm reset``: leave this machine as it was before."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from kubeedge_tx.errors import ConfigError, KubeError
from kubeedge_tx.keadm import backups, joining, options, places, service, settings
from kubeedge_tx.keadm.cluster import Cluster, kubeconfig_of
from kubeedge_tx.keadm.engine import Engine, EngineError
from kubeedge_tx.keadm.places import KeadmError, Places, RoleName
from kubeedge_tx.runtime import process_records as records
from kubeedge_tx.runtime.docker_pause import PAUSE_IMAGE
from kubeedge_tx.runtime.process_records import RunningRecord

_OURS: Final = (
    "/etc/kubeedge/config",
    "/etc/kubeedge/ca",
    "/etc/kubeedge/certs",
    "/etc/kubeedge/manifests",
    "/etc/kubeedge/backup",
    "/etc/kubeedge",
    "/var/log/kubeedge",
    "/var/lib/kubelet",
    "/var/lib/kubeedge",
)
"""Folders of upstream's layout, removed when nothing is left in them."""

_PODS_SECONDS: Final = 30.0


@click.group("reset", invoke_without_command=True)
@options.data_dir
@click.option("--force", is_flag=True, help="Do not ask.")
@click.pass_context
def command(ctx: click.Context, data_dir: str | None, force: bool) -> None:
    """Undo init or join: end what runs, remove what was made. Without a role: both."""
    if ctx.invoked_subcommand is not None:
        return
    roles: list[RoleName] = ["edge", "cloud"]
    _reset([places.find(role, data_dir) for role in roles], force)


@command.command("cloud")
@options.data_dir
@options.kube_config
@click.option("--force", is_flag=True, help="Do not ask.")
@click.option(
    "--keep-namespace",
    is_flag=True,
    help="Leave namespace kubeedge in a cluster of yours, with the CA that edges trust.",
)
def cloud(data_dir: str | None, kube_config: str | None, force: bool, keep_namespace: bool) -> None:
    """Remove the cloud from this machine, and namespace kubeedge from its cluster."""
    here = places.find("cloud", data_dir)
    _reset([here], force, kube_config, keep_namespace=keep_namespace)


@command.command("edge")
@options.data_dir
@click.option(
    "--kube-config",
    metavar="FILE",
    help="Of the cluster: its Node object is deleted, too, which the edge itself may not do.",
)
@click.option("--force", is_flag=True, help="Do not ask.")
def edge(data_dir: str | None, kube_config: str | None, force: bool) -> None:
    """Remove the edge agent from this machine, and end its pods."""
    _reset([places.find("edge", data_dir)], force, kube_config)


def _reset(
    all_places: Iterable[Places],
    force: bool,
    kubeconfig: str | None = None,
    *,
    keep_namespace: bool = True,
) -> None:
    found = [here for here in all_places if _is_here(here)]
    if not found:
        click.echo("None of KubeEdge components are running in this host, exit")
        return
    click.echo("[reset] This will be ended and removed:")
    for here in found:
        for line in _plan(here, kubeconfig, keep_namespace=keep_namespace):
            click.echo(f"[reset]   {line}")
    click.echo(
        "[reset] WARNING: Changes made to this host by 'keadm init' or 'keadm join' will be "
        "reverted."
    )
    if not force:
        answer = click.prompt(
            "[reset] Are you sure you want to proceed? [y/N]", default="", show_default=False
        )
        if answer.strip().lower() not in ("y", "yes"):
            raise KeadmError("aborted reset operation")
    for here in found:
        if here.role == "edge":
            _reset_edge(here, kubeconfig)
        else:
            _reset_cloud(here, kubeconfig, keep_namespace=keep_namespace)
        click.echo(f"[reset] {here.program} is gone")


def _is_here(here: Places) -> bool:
    """Whether there is something of ours: nobody's folder is emptied because it was named."""
    return here.record() is not None or service.pid_of(here) is not None


def _plan(here: Places, kubeconfig: str | None, *, keep_namespace: bool) -> list[str]:
    pid = service.pid_of(here)
    lines = [f"{here.program}, process {pid}"] if pid else []
    record = here.record()
    if record is not None and record.service == "systemd":
        lines.append(str(here.unit_file))
    lines.append(f"{here.data_dir} and all that is in it")
    if here.is_system:
        lines += [str(here.config_file), f"{here.log_file}*"]
        lines += [str(path) for path in (backups.folder_of(here),) if path.exists()]
    config = _config(here)
    if here.role == "edge":
        lines += [str(path) for path in _outside(here, config) if path.exists()]
        lines.append("the containers and processes of this node's pods")
        if config is not None:
            node = joining.node_name(config)
            lines.append(
                f"node {node} in the cluster of {kubeconfig}"
                if kubeconfig
                else f"(the Node object stays in the cluster: kubectl delete node {node})"
            )
    elif config is not None and config.kube_api_config.kube_config and not keep_namespace:
        lines.append(f"namespace kubeedge in the cluster of {config.kube_api_config.kube_config}")
    return lines


def _config(here: Places) -> Any:
    """The configuration; ``None`` if it cannot be read, which must not keep anybody here."""
    try:
        return settings.config_of(settings.read_tree(here.config_file, here.role), here.role)
    except ConfigError:
        return None


def _outside(here: Places, config: Any) -> list[Path]:
    if config is None:
        return []
    return [
        path for path in joining.owned_files(here, config) if not path.is_relative_to(here.data_dir)
    ]


def _reset_edge(here: Places, kubeconfig: str | None) -> None:
    config = _config(here)
    # Before anything is done: a kubeconfig that does not work is found while all is there.
    cluster = Cluster(kubeconfig_of(here, kubeconfig)) if kubeconfig else None
    if cluster is not None:
        cluster.call("GET", "/version")
    outside = _outside(here, config)
    service.stop(here)
    end_processes(here.data_dir / "process")
    if config is not None and config.modules.edged.runtime != "process":
        _end_containers(config.modules.edged.docker_address, joining.node_name(config))
    if cluster is not None and config is not None:
        cluster.call("DELETE", f"/api/v1/nodes/{joining.node_name(config)}")
    _remove(here, outside)


def _reset_cloud(here: Places, kubeconfig: str | None, *, keep_namespace: bool) -> None:
    config = _config(here)
    own_api = config is not None and not config.kube_api_config.kube_config
    service.stop(here)
    if not keep_namespace and config is not None and not own_api:
        try:
            cluster = Cluster(kubeconfig_of(here, kubeconfig))
            cluster.call("DELETE", "/api/v1/namespaces/kubeedge")
        except (KeadmError, KubeError) as error:
            click.echo(f"[reset] namespace kubeedge stays: {error}", err=True)
    _remove(here, [])


def end_processes(root: Path) -> None:
    """End everything that the ``process`` runtime has started.

    :raises KeadmError: something does not end.
    """
    deadline = time.monotonic() + _PODS_SECONDS
    while alive := _alive(root):
        for record in alive:
            with suppress(ProcessLookupError):
                os.kill(record.shim, signal.SIGUSR1)  # it takes everything with it
        if time.monotonic() > deadline:
            listed = ", ".join(str(record.shim) for record in alive)
            raise KeadmError(f"these processes of pods do not end: {listed}; end them, and go on")
        time.sleep(service.LOOK)


def _alive(root: Path) -> list[RunningRecord]:
    found = []
    for pod in records.pod_folders(root):
        for folder in records.container_folders(pod):
            record = records.read(folder, "running.json", RunningRecord)
            if record is not None and records.is_alive(record.shim, record.shim_start):
                found.append(record)
    return found


def _end_containers(address: str, node: str) -> None:
    engine = Engine(address, timeout=60)
    try:
        for container in engine.owned(node):
            engine.remove(container["Id"])
    except EngineError as error:
        if Path(address.removeprefix("unix://")).exists():
            click.echo(f"[reset] containers may be left: {error}", err=True)
        return
    with suppress(EngineError):  # another node of this engine uses it
        engine.remove_image(PAUSE_IMAGE)


def _remove(here: Places, more: list[Path]) -> None:
    record = here.record()
    made = [] if record is None else record.made_dirs
    if record is not None and record.service == "systemd":
        here.unit_file.unlink(missing_ok=True)
        service.systemctl("daemon-reload")
    kept = [backups.folder_of(here), backups.report_file(here)]
    logs = here.log_file.parent.glob(f"{here.log_file.name}*")
    # The configuration says where the others are, so it goes after them.
    files = [*kept, *logs, *more, here.config_file]
    for path in (*files, *(places.draft_of(path) for path in (*files, here.unit_file))):
        _delete(path)
    # The record goes last: until then the same command can be run again.
    last = (here.record_file, here.data_dir / "keadm.lock")
    other = places.system_dir("cloud")
    for path in sorted(here.data_dir.iterdir()) if here.data_dir.is_dir() else ():
        if path not in last and not (here.is_system and path == other and path != here.data_dir):
            _delete(path)
    folders = [*map(Path, reversed(made)), *(map(Path, _OURS) if here.is_system else ())]
    with places.unbroken():
        for path in last:
            _delete(path)
        for folder in sorted(set(folders), key=lambda path: -len(path.parts)):
            with suppress(OSError):  # not empty: somebody else's things are in it
                folder.rmdir()


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise KeadmError(f"{path} cannot be removed: {error.strerror}") from None
