"""``get``: what this edge holds, from its store; for ``keadm debug`` and ``keadm ctl``."""

from __future__ import annotations

import click

from kubeedge_tx.errors import KubeError
from kubeedge_tx.keadm import options, places
from kubeedge_tx.keadm.holdings import KINDS, Holdings, Kind, Object, kind_of, store_of
from kubeedge_tx.keadm.places import KeadmError
from kubeedge_tx.keadm.printing import print_objects, print_whole
from kubeedge_tx.kube.selectors import Selector, parse_label_selector


@click.command("get")
@click.argument("resource")
@click.argument("names", metavar="[NAME]…", nargs=-1)
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-l", "--selector", metavar="LABELS", default="", help="key=value,key!=value")
@click.option("-o", "--output", type=click.Choice(["yaml", "json", "wide"]))
@click.option("-p", "--edgedb-path", metavar="FILE", help="The store: edgecore.db.")
@options.data_dir
def get(
    resource: str,
    names: tuple[str, ...],
    namespace: str,
    all_namespaces: bool,
    selector: str,
    output: str | None,
    edgedb_path: str | None,
    data_dir: str | None,
) -> None:
    """Print objects of this edge as kubectl does: pod, node, configmap, secret, service,
    endpoints, device, devicemodel, or all. Neither the cloud nor the agent is asked.
    """
    try:
        wanted = parse_label_selector(selector)
    except (KubeError, ValueError) as error:
        raise KeadmError(f"--selector: {error}") from None
    kinds = KINDS if resource == "all" else tuple(kind_of(each) for each in resource.split(","))
    holdings = Holdings(store_of(places.find("edge", data_dir), edgedb_path))
    everything: list[Object] = []
    printed = False
    for kind in kinds:
        found = [
            obj
            for obj in holdings.objects(kind)
            if _matches(obj, kind, names, None if all_namespaces else namespace, wanted)
        ]
        everything += found
        if found and output not in ("yaml", "json"):
            if printed:
                click.echo()
            print_objects(kind, found, output=output, all_namespaces=all_namespaces)
            printed = True
    if not everything:
        where = "" if all_namespaces else f" in {namespace} namespace"
        click.echo(f"No resources found{where}.", err=True)
    elif output in ("yaml", "json"):
        print_whole(everything, output)


def _matches(
    obj: Object, kind: Kind, names: tuple[str, ...], namespace: str | None, wanted: Selector
) -> bool:
    metadata = obj.get("metadata") or {}
    if names and metadata.get("name") not in names:
        return False
    if kind.namespaced and namespace is not None and metadata.get("namespace") != namespace:
        return False
    return wanted.matches(metadata.get("labels") or {})
