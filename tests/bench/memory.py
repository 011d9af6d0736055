"""What one object, one session and one lease cost a cloud: the constants of docs/scale.rst."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from kubeedge_tx.api.holdings import Holding
from kubeedge_tx.api.resources import CONFIGMAPS, LEASES, NODES, OBJECTSYNCS, PODS, ResourceType
from tests.bench.figures import Report
from tests.bench.fleet import Fleet
from tests.bench.processes import NAMESPACE, Bench, wait_for

SIZE = 500
"""Bytes of a ConfigMap's data."""
MAPS = 20
"""ConfigMaps that each node needs where records are measured."""
IDLE_SECONDS = 30.0
RENEWALS = 5
UID = "0b9d3c1e-51a5-4f0e-9a55-3f2f6f0f8f6a"


def run(report: Report, objects: int, sessions: int) -> None:
    """Measure with so many objects of a kind, then with so many sessions."""
    where = "real cluster" if os.environ.get("KUBEEDGE_TX_KUBECONFIG") else "embedded API, separate"
    report.say(f"memory: {objects} objects of each kind")
    with (
        report.about("memory", f"{objects} objects of each kind, {where}"),
        Bench(api="separate") as bench,
    ):
        report.add("cloud without objects and nodes", bench.cloud.memory_kb() / 1024, "MiB")
        for kind, make in _KINDS.items():
            _hold(report, bench, kind, make, objects)
        _restart(report, bench, objects * len(_KINDS))
    report.say(f"memory: {sessions} sessions")
    with (
        report.about("memory", f"{sessions} nodes over TLS, {where}"),
        Bench(api="separate") as bench,
    ):
        session = _sessions(report, bench, sessions)
    count = max(1, sessions // 3)
    report.say(f"memory: {count} sessions with {MAPS} ConfigMaps each")
    about = f"{count} nodes over TLS that hold {MAPS} ConfigMaps each, {where}"
    with report.about("memory", about), Bench(api="separate") as bench:
        _confirmed(report, bench, count, session)
    with report.about("memory", "bytes of JSON"):
        holding = Holding("default/configmap/shared-01", UID, "12345678")
        report.add("one object in the list of what an edge has", len(_json(holding)), "bytes")


def _configmap(number: int) -> Any:
    return {"metadata": {"name": f"map-{number}"}, "data": {"text": "x" * SIZE}}


def _pod(number: int) -> Any:
    containers = [{"name": "main", "image": "busybox", "command": ["sleep", "1000"]}]
    # Bound to a node that is no edge: nothing is sent.
    spec = {"nodeName": "elsewhere", "containers": containers}
    return {"metadata": {"name": f"pod-{number}"}, "spec": spec}


_KINDS: dict[ResourceType, Callable[[int], Any]] = {
    CONFIGMAPS: _configmap,
    PODS: _pod,
}


def _hold(
    report: Report, bench: Bench, kind: ResourceType, make: Callable[[int], Any], count: int
) -> None:
    """Make objects of a kind, and see what the cloud takes to know them."""
    before, cpu = bench.cloud.memory_kb(), bench.cloud.cpu()
    path = kind.path(NAMESPACE)

    def create(number: int) -> None:
        bench.api.call("POST", path, make(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(count)))
    wait_for(f"the {kind.plural}", lambda: _known(bench, kind) >= count, pause=0.2)
    time.sleep(1)
    grown = bench.cloud.memory_kb() - before
    report.add(f"cloud memory per {kind.kind}", grown / count, "KB")
    took = (bench.cloud.cpu() - cpu) / count
    report.add(f"cloud CPU per {kind.kind} that a watch brings", took * 1e3, "ms")
    one = bench.api.call("GET", kind.path(NAMESPACE, make(0)["metadata"]["name"]))
    report.add(f"{kind.kind} as JSON", len(_json(one)), "bytes")


def _known(bench: Bench, kind: ResourceType) -> float:
    return bench.metric(bench.cloud, "kubeedge_informer_objects", f'kind="{kind.plural}"')


def _restart(report: Report, bench: Bench, count: int) -> None:
    """Start the cloud anew beside all those objects."""
    bench.cloud.stop()
    bench.cloud.start()
    bench.cloud.ports()
    report.add("start until ready", time.monotonic() - bench.cloud.started_at, "s")
    report.add("cloud CPU of the start", bench.cloud.cpu(), "s")
    report.add("memory after that start", bench.cloud.memory_kb() / 1024, "MiB")
    report.add("objects then in the caches", count, "objects")


def _confirmed(report: Report, bench: Bench, count: int, session: float) -> None:
    """See what the cloud keeps for each object that a node has confirmed.

    :param session: KB of a session that holds nothing.
    """
    fleet = Fleet(bench, count, MAPS, size=SIZE)
    fleet.create()
    time.sleep(1)
    before = bench.cloud.memory_kb()
    fleet.connect(32)
    try:
        fleet.settle()
        fleet.recorded()
        time.sleep(2)
        each = ((bench.cloud.memory_kb() - before) / count - session) / (MAPS + 1)
        report.add("cloud memory per object that a node holds: its record", each, "KB")
        records = bench.api.call("GET", OBJECTSYNCS.path(NAMESPACE))["items"]
        report.add("ObjectSync as JSON", len(_json(records[0])), "bytes")
    finally:
        fleet.disconnect()
        fleet.clean()


def _sessions(report: Report, bench: Bench, count: int) -> float:
    """Measure sessions without a pod; returns the KB of one."""
    cloud = bench.cloud
    fleet = Fleet(bench, count, 0, size=SIZE)
    before = cloud.memory_kb()
    fleet.create(pods=False)
    wait_for("the nodes", lambda: _known(bench, NODES) >= count, pause=0.2)
    time.sleep(1)
    known = cloud.memory_kb()
    report.add("cloud memory per Node object, fresh", (known - before) / count, "KB")
    cpu = cloud.cpu()
    fleet.connect(32)
    try:
        fleet.settle()
        fleet.recorded()
        report.add(
            "cloud CPU per handshake and first sync", (cloud.cpu() - cpu) / count * 1e3, "ms"
        )
        time.sleep(2)
        session = (cloud.memory_kb() - known) / count
        report.add("cloud memory per session", session, "KB")
        cpu = cloud.cpu()
        time.sleep(IDLE_SECONDS)
        idle = (cloud.cpu() - cpu) / IDLE_SECONDS / count
        report.add("cloud CPU per idle session, a keepalive in 10 s", idle * 1e6, "µs/s")
        fleet.ask({"do": "leases", "rounds": 1})
        cpu, began = cloud.cpu(), time.monotonic()
        fleet.ask({"do": "leases", "rounds": RENEWALS})
        renewals = count * RENEWALS
        report.add("cloud CPU per renewed lease", (cloud.cpu() - cpu) / renewals * 1e3, "ms")
        report.add("renewed leases", renewals / (time.monotonic() - began), "1/s")
        lease = bench.api.call("GET", LEASES.path("kube-node-lease", fleet.names[0]))
        report.add("Lease as JSON", len(_json(lease)), "bytes")
    finally:
        fleet.disconnect()
        fleet.clean()
    return session


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
