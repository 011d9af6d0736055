"""``keadm init``: a cloud on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from kubeedge_tx.config.types import split_address
from kubeedge_tx.errors import KubeError
from kubeedge_tx.keadm import install, options, places, probes, service, settings, tokens, versions
from kubeedge_tx.keadm.cluster import Cluster, kubeconfig_of
from kubeedge_tx.keadm.places import KeadmError, Places
from kubeedge_tx.keadm.probes import Machine, Result


def _no_master(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        raise KeadmError(
            "--master: an address says nothing of who we are there; write it into a kubeconfig "
            f"(kubectl --kubeconfig FILE config set-cluster NAME --server {value}) and give that "
            "with --kube-config FILE"
        )


@click.command("init")
@click.option(
    "--advertise-address",
    metavar="IP[,IP…]",
    default="",
    help="Addresses that edges use for this cloud: they go into its certificate.",
)
@click.option(
    "--domainname",
    metavar="NAME[,NAME…]",
    default="",
    help="Host names that edges use for this cloud.",
)
@click.option(
    "--kube-config",
    metavar="FILE",
    help="The cluster to work for; without it the cloud brings its own Kubernetes API.",
)
@click.option(
    "--master",
    metavar="URL",
    expose_value=False,
    callback=_no_master,
    help="Upstream's; the address is in the kubeconfig.",
)
@options.sets
@options.data_dir
@options.running
@options.installing
@click.option("--skip-preflight-checks", is_flag=True, help="Do not look before.")
@click.option("--force", is_flag=True, help="Do not wait until it is ready.")
@click.option(
    "-d", "--dry-run", is_flag=True, help="Print the configuration it would write, and do nothing."
)
def command(
    advertise_address: str,
    domainname: str,
    kube_config: str | None,
    settings: tuple[str, ...],
    data_dir: str | None,
    service: bool | None,
    foreground: bool,
    timeout: float,
    skip_preflight_checks: bool,
    force: bool,
    dry_run: bool,
    kubeedge_version: str | None,
    tarballpath: Path | None,
) -> None:
    """Start a cloud on this machine and print how edges join it.

    It makes the configuration file and the data directory, starts the cloud (which makes CA
    and certificates and applies KubeEdge's definitions to the cluster) and waits until it
    is ready. Run it again after a failure or Ctrl-C: it goes on.
    """
    here = places.find("cloud", data_dir)
    tree = _configure(here, advertise_address, domainname, kube_config, settings)
    if dry_run:
        import yaml

        click.echo(f"# {here.config_file}")
        click.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)
        return
    _start(
        here,
        tree,
        wish=service,
        foreground=foreground,
        timeout=timeout,
        check=not skip_preflight_checks,
        wait=not force,
        wanted=versions.wanted(kubeedge_version, tarballpath),
    )


def _configure(
    here: Places, addresses: str, names: str, kube_config: str | None, sets: tuple[str, ...]
) -> settings.Tree:
    tree = settings.read_tree(here.config_file, "cloud")
    if addresses:
        settings.put(tree, "modules.cloudHub.advertiseAddress", _listed(addresses))
    if names:
        settings.put(tree, "modules.cloudHub.dnsNames", _listed(names))
    if kube_config:
        path = Path(kube_config).expanduser().absolute()
        if not path.is_file():
            raise KeadmError(f"--kube-config: {path} is not there")
        settings.put(tree, "kubeAPIConfig.kubeConfig", str(path))
    settings.apply_sets(tree, sets)
    settings.config_of(tree, "cloud")
    return tree


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _start(
    here: Places,
    tree: settings.Tree,
    *,
    wish: bool | None,
    foreground: bool,
    timeout: float,
    check: bool,
    wait: bool,
    wanted: versions.Wanted | None,
) -> None:
    kind = install.choose_service(wish, foreground=foreground, places=here)
    changed = install.differs(here, tree)
    pid = service.pid_of(here)
    if pid is not None and changed and here.ready() is not None:  # or it is half a start
        raise KeadmError(
            f"CloudCore is already running on this node (process {pid}) with another "
            f"configuration, {here.config_file}: change that file and restart it, or please run "
            "`keadm reset cloud` to clean up first"
        )
    if check and not install.report(_preflight(here, tree, running=pid is not None)):
        raise KeadmError("nothing was changed; mend what failed and run the same command again")
    with places.exclusive(here) as let_go:
        record = install.prepare(here, kind, wanted)
        running = install.Running(here, record, timeout)
        with install.foreground_child(running):
            running.start(tree, changed=changed, foreground=foreground)
            if wait:
                ports = running.ready()
                click.echo("CLOUDCORE started")
                _say_how_to_join(here, tree, ports, running.deadline)
            if running.process is not None:
                let_go()
                raise SystemExit(running.stay())
    if kind == "process" and os.geteuid() == 0:
        click.echo(
            "It runs in the background without systemd: after a reboot, run `keadm init` again."
        )


def _preflight(here: Places, tree: settings.Tree, *, running: bool) -> list[Result]:
    config = settings.config_of(tree, "cloud")
    modules, where = config.modules, "commonConfig.monitorServer.bindAddress"
    hub = modules.cloud_hub
    listens = [
        (where, *split_address(config.common_config.monitor_server.bind_address, where)),
        ("modules.cloudHub.websocket.port", hub.websocket.address, hub.websocket.port),
        ("modules.cloudHub.https.port", hub.https.address, hub.https.port),
    ]
    kube_config = config.kube_api_config.kube_config
    if not kube_config:
        api = modules.api_server
        listens.append(("modules.apiServer.port", api.address, api.port))
    machine = Machine(
        node="",
        data_dir=here.data_dir,
        runtime="process",
        docker_address="",
        cgroup_driver="",
        listens=tuple(listens),
        broker=None,
        running=running,
    )
    looks = (probes.data_dir, probes.disk, probes.memory, probes.pids, probes.ports)
    results = [look(machine) for look in looks]
    results.append(_kubernetes(Path(kube_config)) if kube_config else _embedded())
    return results


def _embedded() -> Result:
    return Result("kubernetes", "ok", "the cloud brings its own API")


def _kubernetes(kubeconfig: Path) -> Result:
    """The cluster answers, and we may do in it what the cloud does."""
    try:
        cluster = Cluster(kubeconfig)
        version = cluster.call("GET", "/version") or {}
        denied = [what for what in _NEEDED if not _allowed(cluster, *what)]
    except (KeadmError, KubeError) as error:
        return Result(
            "kubernetes", "fail", str(error), "give a kubeconfig that works with --kube-config"
        )
    if denied:
        listed = ", ".join(f"{verb} {resource}" for _, resource, verb in denied)
        return Result(
            "kubernetes",
            "fail",
            f"{kubeconfig} may not: {listed}",
            "use an administrator's kubeconfig, or the role in deploy/kubernetes/cloud.yaml",
        )
    return Result("kubernetes", "ok", f"{version.get('gitVersion', '?')} at {cluster.url}")


_NEEDED = (
    ("apiextensions.k8s.io", "customresourcedefinitions", "create"),
    ("", "nodes", "list"),
    ("", "nodes", "create"),
    ("", "pods", "watch"),
    ("", "secrets", "create"),
    ("reliablesyncs.kubeedge.io", "objectsyncs", "create"),
)


def _allowed(cluster: Cluster, group: str, resource: str, verb: str) -> bool:
    review: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"group": group, "resource": resource, "verb": verb}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = cluster.call("POST", path, review)
    return bool(answer and answer.get("status", {}).get("allowed"))


def _say_how_to_join(
    here: Places, tree: settings.Tree, ports: dict[str, int], deadline: float
) -> None:
    config = settings.config_of(tree, "cloud")
    cluster = Cluster(kubeconfig_of(here, None))
    while (token := tokens.standing(cluster)) is None:
        if time.monotonic() > deadline:
            raise KeadmError("the cloud has made no join token yet; `keadm gettoken` prints it")
        time.sleep(service.LOOK)
    host = next(iter([*config.modules.cloud_hub.advertise_address, *_own_names(config)]))
    port = f" --certport {ports['https']}" if ports["https"] != 10002 else ""
    if "api" in ports:
        click.echo(f"\nFor kubectl:\n  export KUBECONFIG={here.data_dir / 'admin.kubeconfig'}")
    click.echo(
        "\nOn each edge machine:\n"
        f"  keadm join --cloudcore-ipport {install.bracketed(host)}:{ports['websocket']}{port} "
        f"--token {token}\n"
    )


def _own_names(config: Any) -> list[str]:
    from kubeedge_tx.config.host import own_address

    return [*config.modules.cloud_hub.dns_names, own_address()]
