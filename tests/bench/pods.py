"""From the API call to the pod that is Ready."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.figures import Report
from tests.bench.processes import NAMESPACE, Bench, Process, wait_for

MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def run(report: Report, repeat: int) -> None:
    """Measure on processes and, if an engine answers, on Docker."""
    with Bench() as bench:
        for runtime in ("process", "docker"):
            if runtime == "docker" and not _has_engine(report):
                continue
            edge = bench.edge(f"bench-{runtime}", runtime)
            edge.start()
            edge.ports()
            wait_for("the node to be Ready", partial(bench.node_ready, edge.data_dir.name))
            conditions = (
                f"{runtime} runtime, image present, one container, one ConfigMap volume, no "
                f"probe, {bench.api_kind}, 1 edge"
            )
            report.say(f"pod: {conditions}")
            with report.about("pod", conditions):
                _measure(report, bench, edge, runtime, repeat)
            edge.stop()


def _measure(report: Report, bench: Bench, edge: Process, runtime: str, repeat: int) -> None:
    running, ready, gone, changed = [], [], [], []
    bench.api.call("POST", MAPS, {"metadata": {"name": f"text-{runtime}"}, "data": {"a": "first"}})
    for number in range(repeat):
        name = f"pod-{runtime}-{number}"
        started = time.monotonic()
        bench.api.call("POST", PODS, _pod(name, edge.data_dir.name, runtime))
        pod = wait_for("the pod to run", partial(_running, bench, name))
        running.append(time.monotonic() - started)
        wait_for("the pod to be Ready", partial(bench.pod_ready, name))
        ready.append(time.monotonic() - started)
        file = _file(edge, pod["metadata"]["uid"])
        text = f"text {number}"
        started = time.monotonic()
        kind = "application/merge-patch+json"
        bench.api.call("PATCH", f"{MAPS}/text-{runtime}", {"data": {"a": text}}, kind)
        wait_for("the new text", partial(_says, file, text))
        changed.append(time.monotonic() - started)
        started = time.monotonic()
        bench.api.call("DELETE", f"{PODS}/{name}")
        wait_for("the pod to be gone", partial(_gone, bench, name))
        gone.append(time.monotonic() - started)
    report.add("API create to Running in the API", median(running), "s", "", running)
    report.add("API create to Ready in the API", median(ready), "s", "< 1.2 s", ready)
    report.add("ConfigMap change to the pod's file", median(changed), "s", "", changed)
    report.add("API delete to gone (grace 1 s, ends at SIGTERM)", median(gone), "s", "", gone)


def _file(edge: Process, uid: str) -> Path:
    found = next(edge.data_dir.glob(f"**/pods/{uid}/volumes/*configmap/text/a"), None)
    assert found is not None, f"no volume of pod {uid} below {edge.data_dir}"
    return found


def _says(file: Path, text: str) -> bool:
    return file.read_text() == text


def _running(bench: Bench, name: str) -> Any:
    pod = bench.api.call("GET", f"{PODS}/{name}")
    return pod if pod["status"].get("phase") == "Running" else None


def _gone(bench: Bench, name: str) -> bool:
    return bench.api.call("GET", f"{PODS}/{name}") is None


def _pod(name: str, node: str, runtime: str) -> Any:
    script = "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    return {
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": "main",
                    "image": "busybox:test",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "text", "mountPath": "/etc/text"}],
                }
            ],
            "volumes": [{"name": "text", "configMap": {"name": f"text-{runtime}"}}],
            "terminationGracePeriodSeconds": 1,
        },
    }


def _has_engine(report: Report) -> bool:
    from docker import APIClient
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    from tests.runtime.docker_image import ensure_busybox

    try:
        client = APIClient(**kwargs_from_env())
        client.ping()
    except DockerException as error:
        where = os.environ.get("DOCKER_HOST", "the default socket")
        report.problem(f"pod on docker: no engine answers at {where}: {error}")
        return False
    ensure_busybox(client)
    client.close()
    return True
