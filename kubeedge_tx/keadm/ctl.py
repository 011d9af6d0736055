"""``keadm ctl``: pods of this edge, whether the cloud is there or not."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from kubeedge_tx.keadm import execution, joining, options, places, settings
from kubeedge_tx.keadm.describe import describe
from kubeedge_tx.keadm.engine import Engine
from kubeedge_tx.keadm.get import get
from kubeedge_tx.keadm.holdings import Holdings, Object, kind_of, store_of
from kubeedge_tx.keadm.places import KeadmError, Places
from kubeedge_tx.runtime import docker_specs
from kubeedge_tx.runtime import process_records as records
from kubeedge_tx.runtime.process_logs import read_log
from kubeedge_tx.runtime.process_records import ContainerRecord, RunningRecord

_LOOK = 0.2


@click.group("ctl")
def command() -> None:
    """Pods of this edge, whether the cloud is there or not."""


command.add_command(get)
command.add_command(describe)


@command.command("logs")
@click.argument("pod")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-c", "--container", metavar="NAME", help="Needed if the pod has several.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option("-p", "--previous", is_flag=True, help="The container before the last restart.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Only the last lines.")
@options.data_dir
def logs(
    pod: str,
    namespace: str,
    container: str | None,
    follow: bool,
    previous: bool,
    tail: int | None,
    data_dir: str | None,
) -> None:
    """Print what a container of this edge has written."""
    here = places.find("edge", data_dir)
    found = _pod(here, namespace, pod)
    name = _container(found, container)
    if _is_in_engine(found, name):
        _engine_log(here, found, name, tail=tail, follow=follow, previous=previous)
        return
    _process_log(here, found, name, tail=tail, follow=follow, previous=previous)


@command.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("pod")
@click.argument("words", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-c", "--container", metavar="NAME", help="Needed if the pod has several.")
@click.option("-i", "--stdin", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@options.data_dir
def execute(
    pod: str,
    words: tuple[str, ...],
    namespace: str,
    container: str | None,
    stdin: bool,
    tty: bool,
    data_dir: str | None,
) -> None:
    """Run a command in a container of this edge, and end with its status."""
    here = places.find("edge", data_dir)
    found = _pod(here, namespace, pod)
    name = _container(found, container)
    for attempt, running in _processes(here, found):
        if attempt.parent.name == name:
            record = records.read(attempt, "container.json", ContainerRecord)
            if record is not None:
                execution.beside_process(record, running, words)
    for each in _containers(here, found, name) if _is_in_engine(found, name) else ():
        if each.get("State") == "running":
            engine = _engine(here)
            raise SystemExit(
                execution.in_engine(engine, each["Id"], words, stdin=stdin, terminal=tty)
            )
    raise KeadmError(f"container {name} of pod {pod} does not run here")


@command.group("restart")
def restart() -> None:
    """Restart something of this edge."""


@restart.command("pod")
@click.argument("pods", metavar="POD…", nargs=-1, required=True)
@click.option("-n", "--namespace", default="default", show_default=True)
@options.data_dir
def restart_pod(pods: tuple[str, ...], namespace: str, data_dir: str | None) -> None:
    """End a pod's containers, which the agent then starts again."""
    here = places.find("edge", data_dir)
    for name in pods:
        pod = _pod(here, namespace, name)
        policy = (pod.get("spec") or {}).get("restartPolicy", "Always")
        if policy != "Always":
            raise KeadmError(f"pod {name} has restartPolicy {policy}: it would not start again")
        ended = _end_containers(here, pod)
        if not ended:
            raise KeadmError(f"no container of pod {name} runs here")
        click.echo(f"pod {name}: {', '.join(ended)} asked to end; the agent starts it again")


def _pod(here: Places, namespace: str, name: str) -> Object:
    for obj in Holdings(store_of(here, None)).objects(kind_of("pod")):
        metadata = obj.get("metadata") or {}
        if (metadata.get("namespace"), metadata.get("name")) == (namespace, name):
            return obj
    raise KeadmError(f"this edge holds no pod {namespace}/{name}; `keadm ctl get pod -A` lists")


def _container(pod: Object, given: str | None) -> str:
    spec = pod.get("spec") or {}
    names = [each["name"] for each in spec.get("containers") or []]
    everyone = [*names, *(each["name"] for each in spec.get("initContainers") or [])]
    if given is None:
        if len(names) != 1:
            raise KeadmError(f"say which container with -c: {', '.join(names)}")
        return str(names[0])
    if given not in everyone:
        raise KeadmError(f"there is no container {given!r}; there are {', '.join(everyone)}")
    return given


def _status(pod: Object, container: str) -> Object | None:
    status = pod.get("status") or {}
    for kind in ("containerStatuses", "initContainerStatuses"):
        for each in status.get(kind) or []:
            if each.get("name") == container:
                return dict(each)
    return None


def _is_in_engine(pod: Object, container: str) -> bool:
    """Whether a Docker engine has, or had, a container; else it is a plain process."""
    status = _status(pod, container) or {}
    return str(status.get("containerID", "")).startswith("docker")


def _processes(here: Places, pod: Object) -> Iterator[tuple[Path, RunningRecord]]:
    """Folder and record of each container of a pod that runs as a plain process."""
    folder = here.data_dir / "process" / "pods" / pod["metadata"]["uid"]
    for attempt in records.container_folders(folder) if folder.is_dir() else ():
        record = records.read(attempt, "running.json", RunningRecord)
        if record is not None and records.is_alive(record.shim, record.shim_start):
            yield attempt, record


def _process_log(
    here: Places, pod: Object, container: str, *, tail: int | None, follow: bool, previous: bool
) -> None:
    metadata = pod["metadata"]
    name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
    folder = here.data_dir / "process" / "logs" / name / container
    attempts = sorted(folder.glob("*.log"), key=lambda path: int(path.stem))
    if previous:
        attempts = attempts[:-1]
    if not attempts:
        raise KeadmError(f"container {container} has written nothing: {folder} has no log")
    log = attempts[-1]
    last = None if follow else tail
    _follow(lambda: read_log(log, last), tail=tail, follow=follow)


def _engine_log(
    here: Places, pod: Object, container: str, *, tail: int | None, follow: bool, previous: bool
) -> None:
    engine, all_of_it = _engine(here), _containers(here, pod, container)
    which = all_of_it[1 if previous else 0] if len(all_of_it) > previous else None
    if which is None:
        raise KeadmError(f"container {container} has no log here")
    tty = engine.ask("GET", f"/containers/{which['Id']}/json")["Config"]["Tty"]
    last = None if follow else tail

    def read() -> bytes:
        body = engine.log(which["Id"], last)
        return body if tty else execution.unframed(body)

    _follow(read, tail=tail, follow=follow)


def _follow(read: Callable[[], bytes], *, tail: int | None, follow: bool) -> None:
    out = sys.stdout.buffer
    text = read()
    lines = text.splitlines(keepends=True)
    out.write(b"".join(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]))
    out.flush()
    written = len(text)
    while follow:
        time.sleep(_LOOK)
        text = read()
        if len(text) < written:
            written = 0  # the log was begun anew
        out.write(text[written:])
        out.flush()
        written = len(text)


def _end_containers(here: Places, pod: Object) -> list[str]:
    ended = []
    for attempt, record in _processes(here, pod):
        with suppress(ProcessLookupError):
            os.kill(record.shim, signal.SIGTERM)  # which it passes on
            ended.append(attempt.parent.name)
    names = [each["name"] for each in (pod.get("spec") or {}).get("containers") or []]
    if any(_is_in_engine(pod, name) for name in names):
        seconds = (pod.get("spec") or {}).get("terminationGracePeriodSeconds", 30)
        for name in names:
            for each in _containers(here, pod, name):
                if each.get("State") == "running":
                    Engine(_config(here).docker_address, timeout=seconds + 30).stop(
                        each["Id"], seconds
                    )
                    ended.append(name)
    return ended


def _containers(here: Places, pod: Object, container: str) -> list[Any]:
    """Docker's containers for one of a pod's, the newest first."""
    labels = [
        f"{docker_specs.POD_UID}={pod['metadata']['uid']}",
        f"{docker_specs.CONTAINER_NAME}={container}",
        f"{docker_specs.OWNER}={_node(here)}",
    ]
    filters = quote(json.dumps({"label": labels}))
    found: list[Any] = _engine(here).ask("GET", f"/containers/json?all=1&filters={filters}")
    return found


def _engine(here: Places) -> Engine:
    return Engine(_config(here).docker_address)


def _config(here: Places) -> Any:
    tree = settings.read_tree(here.config_file, "edge")
    return settings.config_of(tree, "edge").modules.edged


def _node(here: Places) -> str:
    tree = settings.read_tree(here.config_file, "edge")
    return joining.node_name(settings.config_of(tree, "edge"))
