"""Back in service: after the cloud was killed, and after the link was away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from statistics import median

from tests.bench.figures import Report
from tests.bench.pods import MAPS, _file, _pod
from tests.bench.processes import NAMESPACE, Bench, GaveUp, Process, wait_for
from tests.bench.relay import Relay

NODE = "bench-link"
AWAY = {"refused": 15.0, "swallowed": 40.0}
"""Seconds without a link; when nothing gets through, long enough for both ends to notice."""
CHANGES = 20


def run(report: Report, repeat: int) -> None:
    """Measure with one edge that runs one pod."""
    repeat = min(repeat, 5)
    with Bench() as bench:
        relay = Relay(bench.ports["websocket"])
        edge = bench.edge(NODE, ports={"websocket": relay.port})
        edge.start()
        edge.ports()
        wait_for("the node to be Ready", lambda: bench.node_ready(NODE))
        bench.api.call("POST", MAPS, {"metadata": {"name": "text-process"}, "data": {"a": "first"}})
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        bench.api.call("POST", path, _pod("pod-link", NODE, "process"))
        wait_for("the pod to be Ready", lambda: bench.pod_ready("pod-link"))
        uid = bench.api.call("GET", f"{path}/pod-link")["metadata"]["uid"]
        file = _file(edge, uid)

        def arrives(text: str) -> Callable[[], bool]:
            return lambda: file.read_text() == text

        try:
            for how, cut in (("refused", relay.refuse), ("swallowed", relay.swallow)):
                with report.about("reconnect", f"link {how} for {AWAY[how]:g} s, {bench.api_kind}"):
                    report.say(f"reconnect: link {how}")
                    _away(report, bench, edge, relay, AWAY[how], cut, arrives, repeat)
            bench.fix_ports()
            edge.stop()
            edge = bench.edge(NODE)
            edge.start()
            edge.ports()
            wait_for("the connection", lambda: _connected(bench, edge))
            time.sleep(3)
            with report.about("reconnect", f"cloud killed -9, restarted at once, {bench.api_kind}"):
                report.say("reconnect: cloud killed")
                _killed(report, bench, edge, arrives, repeat)
        finally:
            # An edge that stops leaves its containers running, on purpose.
            pod = f"{path}/pod-link"
            bench.api.call("DELETE", pod)
            with suppress(GaveUp):
                wait_for("the pod to be gone", lambda: bench.api.call("GET", pod) is None, 20)
            edge.stop()
            relay.close()


def _write(bench: Bench, text: str) -> None:
    kind = "application/merge-patch+json"
    bench.api.call("PATCH", f"{MAPS}/text-process", {"data": {"a": text}}, kind)


def _connects(bench: Bench, edge: Process) -> float:
    return bench.metric(edge, "kubeedge_edgehub_connects_total")


def _connected_anew(bench: Bench, edge: Process, before: float) -> bool:
    return _connects(bench, edge) > before


def _connected(bench: Bench, edge: Process) -> bool:
    return bench.metric(edge, "kubeedge_edgehub_connected") == 1


def _away(
    report: Report,
    bench: Bench,
    edge: Process,
    relay: Relay,
    away: float,
    cut: Callable[[], None],
    arrives: Callable[[str], Callable[[], bool]],
    repeat: int,
) -> None:
    healed, after_heal, after_connect = [], [], []
    edge_noticed: list[float] = []
    cloud_noticed: list[float] = []
    for number in range(repeat):
        cut()
        began = time.monotonic()
        gone: dict[str, float] = {}
        for change in range(CHANGES):
            _write(bench, f"change {number}.{change}")
            while time.monotonic() - began < away * (change + 1) / CHANGES:
                time.sleep(0.2)
                if not _connected(bench, edge):
                    gone.setdefault("edge", time.monotonic() - began)
                if not bench.metric(bench.cloud, "KubeEdge_CloudHub_connected_nodes"):
                    gone.setdefault("cloud", time.monotonic() - began)
        for side, noticed in (("edge", edge_noticed), ("cloud", cloud_noticed)):
            noticed.append(gone.get(side, float("inf")))
        text = f"change {number}.{CHANGES - 1}"
        started = time.monotonic()
        relay.heal()
        wait_for("the connection", lambda: _connected(bench, edge))
        connected = time.monotonic()
        wait_for("the newest change", arrives(text))
        there = time.monotonic()
        healed.append(connected - started)
        after_heal.append(there - started)
        after_connect.append(there - connected)
        time.sleep(2)
    report.add("noticed by the edge", median(edge_noticed), "s", "< 30 s", edge_noticed)
    report.add("noticed by the cloud", median(cloud_noticed), "s", "< 30 s", cloud_noticed)
    report.add("edge connected after the link heals", median(healed), "s", "< 5 s", healed)
    report.add(
        "changes in the pod's file after reconnect",
        median(after_connect),
        "s",
        "< 1 s",
        after_connect,
    )
    report.add(
        "changes in the pod's file after the link heals", median(after_heal), "s", "", after_heal
    )


def _killed(
    report: Report,
    bench: Bench,
    edge: Process,
    arrives: Callable[[str], Callable[[], bool]],
    repeat: int,
) -> None:
    starts, after_ready, changed = [], [], []
    for number in range(repeat):
        connects = _connects(bench, edge)
        bench.cloud.kill()
        started = time.monotonic()
        bench.cloud.start()
        bench.cloud.ports()
        ready = time.monotonic()
        wait_for("the edge", partial(_connected_anew, bench, edge, connects))
        starts.append(ready - started)
        after_ready.append(max(0.0, time.monotonic() - ready))
        _write(bench, f"after kill {number}")
        now = time.monotonic()
        wait_for("the change", arrives(f"after kill {number}"))
        changed.append(time.monotonic() - now)
        time.sleep(3)
    back = [start + wait for start, wait in zip(starts, after_ready, strict=True)]
    report.add("cloud ready after its restart began", median(starts), "s", "", starts)
    report.add(
        "edge connected after the cloud is ready", median(after_ready), "s", "< 5 s", after_ready
    )
    report.add("edge connected after the restart began", median(back), "s", "", back)
    report.add("a change written then, in the pod's file", median(changed), "s", "", changed)
