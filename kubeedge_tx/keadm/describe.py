"""``keadm ctl describe``: one pod or device of this edge, for a person to read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from kubeedge_tx.errors import KubeError
from kubeedge_tx.keadm import options, places
from kubeedge_tx.keadm.holdings import Holdings, Object, kind_of, store_of
from kubeedge_tx.keadm.places import KeadmError
from kubeedge_tx.kube.selectors import parse_label_selector

Lines = list[tuple[int, str, str]]
"""Depth, name and value of each line."""


@click.command("describe")
@click.argument("resource", type=click.Choice(["pod", "pods", "po", "device", "devices"]))
@click.argument("names", metavar="[NAME]…", nargs=-1)
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-l", "--selector", metavar="LABELS", default="", help="key=value,key!=value")
@options.data_dir
def describe(
    resource: str,
    names: tuple[str, ...],
    namespace: str,
    all_namespaces: bool,
    selector: str,
    data_dir: str | None,
) -> None:
    """Say all of a pod or a device of this edge that a person wants to know."""
    try:
        wanted = parse_label_selector(selector)
    except (KubeError, ValueError) as error:
        raise KeadmError(f"--selector: {error}") from None
    kind = kind_of(resource)
    found = [
        obj
        for obj in Holdings(store_of(places.find("edge", data_dir), None)).objects(kind)
        if (all_namespaces or obj["metadata"].get("namespace", "default") == namespace)
        and (not names or obj["metadata"]["name"] in names)
        and wanted.matches(obj["metadata"].get("labels") or {})
    ]
    missing = [name for name in names if name not in [obj["metadata"]["name"] for obj in found]]
    if missing or not found:
        what = " ".join(missing) or "any"
        raise KeadmError(
            f"this edge holds no {kind.type} {what}; `keadm ctl get {kind.type} -A` lists"
        )
    for at, obj in enumerate(found):
        lines = _pod(obj) if kind.kind == "Pod" else _device(obj)
        click.echo(("\n\n" if at else "") + _text([*_head(obj), *lines]))


def _text(lines: Lines) -> str:
    width = max(2 * depth + len(name) for depth, name, _ in lines) + 3
    return "\n".join(
        f"{'  ' * depth}{name}:".ljust(width if value else 0) + value
        for depth, name, value in lines
    )


def _head(obj: Object) -> Lines:
    metadata = obj["metadata"]
    return [
        (0, "Name", metadata["name"]),
        (0, "Namespace", metadata.get("namespace", "")),
        (0, "Labels", _pairs(metadata.get("labels"))),
        (0, "Annotations", _pairs(metadata.get("annotations"))),
        (0, "Created", str(metadata.get("creationTimestamp", ""))),
    ]


def _pod(pod: Object) -> Lines:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    lines: Lines = [
        (0, "Node", str(spec.get("nodeName", ""))),
        (0, "Status", str(status.get("phase", "not started"))),
    ]
    lines += [
        (0, name, str(status[key]))
        for name, key in (
            ("Reason", "reason"),
            ("Message", "message"),
            ("IP", "podIP"),
            ("Started", "startTime"),
        )
        if status.get(key)
    ]
    for title, key in (("Init Containers", "init"), ("Containers", "")):
        field = f"{key}Containers" if key else "containers"
        states = f"{key}ContainerStatuses" if key else "containerStatuses"
        told = {each["name"]: each for each in status.get(states) or []}
        if spec.get(field):
            lines.append((0, title, ""))
        for each in spec.get(field) or []:
            lines += _container(each, told.get(each["name"]) or {})
    lines.append((0, "Conditions", ""))
    for each in status.get("conditions") or []:
        why = " ".join(str(each.get(key) or "") for key in ("reason", "message")).strip()
        lines.append((1, each["type"], f"{each['status']} {why}".strip()))
    if spec.get("volumes"):
        lines.append((0, "Volumes", ""))
    for each in spec.get("volumes") or []:
        kinds = [name for name in each if name != "name"]
        lines.append((1, each["name"], ", ".join(f"{name} {_named(each[name])}" for name in kinds)))
    return lines


def _container(spec: Object, status: Object) -> Lines:
    lines: Lines = [
        (1, spec["name"], ""),
        (2, "Image", str(spec.get("image", ""))),
    ]
    for name, words in (("Command", spec.get("command")), ("Args", spec.get("args"))):
        if words:
            lines.append((2, name, " ".join(words)))
    ports = [
        f"{each['containerPort']}/{each.get('protocol', 'TCP')}" for each in spec.get("ports") or []
    ]
    if ports:
        lines.append((2, "Ports", ", ".join(ports)))
    for name, key in (("State", "state"), ("Last State", "lastState")):
        for state, detail in (status.get(key) or {}).items():
            told = [f"{word} {value}" for word, value in (detail or {}).items() if value != ""]
            lines.append((2, name, f"{state} ({', '.join(told)})" if told else state))
    lines += [
        (2, "Ready", str(status.get("ready", False))),
        (2, "Restarts", str(status.get("restartCount", 0))),
    ]
    if status.get("containerID"):
        lines.append((2, "Container ID", str(status["containerID"])))
    for each in spec.get("volumeMounts") or []:
        access = "ro" if each.get("readOnly") else "rw"
        lines.append((2, "Mount", f"{each['mountPath']} from {each['name']} ({access})"))
    # Names only: the values may be those of a Secret.
    names = [each["name"] for each in spec.get("env") or []]
    if names:
        lines.append((2, "Environment", ", ".join(names)))
    return lines


def _device(device: Object) -> Lines:
    spec, status = device.get("spec") or {}, device.get("status") or {}
    lines: Lines = [
        (0, "Model", str((spec.get("deviceModelRef") or {}).get("name", ""))),
        (0, "Node", str(spec.get("nodeName", ""))),
        (0, "Protocol", str((spec.get("protocol") or {}).get("protocolName", ""))),
    ]
    if status.get("state"):
        lines.append((0, "State", str(status["state"])))
    told = {each.get("propertyName"): each for each in status.get("twins") or []}
    if spec.get("properties"):
        lines.append((0, "Properties", ""))
    for each in spec.get("properties") or []:
        twin = told.get(each["name"]) or {}
        reported = (twin.get("reported") or {}).get("value")
        desired = (each.get("desired") or {}).get("value")
        values = (("desired", desired), ("reported", reported))
        shown = [f"{name} {value}" for name, value in values if value is not None]
        lines.append((1, each["name"], ", ".join(shown) or "no value yet"))
    return lines


def _pairs(pairs: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in (pairs or {}).items()) or "none"


def _named(source: Any) -> str:
    """What a volume is of, without more detail than its name or path."""
    wanted: Iterable[str] = ("name", "secretName", "claimName", "path")
    return next((str(source[key]) for key in wanted if (source or {}).get(key)), "")
