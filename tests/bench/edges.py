"""What a role costs that does nothing: memory, start, traffic."""

from __future__ import annotations

import re
import subprocess
import time
from statistics import median

from tests.bench.figures import Report
from tests.bench.processes import Bench, Process, wait_for

STARTS = 5
HEADERS = 52
"""Bytes of the IPv4 and TCP headers of a packet, with timestamps."""
_COUNTERS = re.compile(r"\b(bytes_sent|bytes_received|segs_out|segs_in):(\d+)")


def run(report: Report, minutes: float) -> None:
    """Measure one cloud and one edge."""
    with Bench() as bench, report.about("edge", f"process runtime, no pod, {bench.api_kind}"):
        report.say("edge: start, memory, idle traffic")
        report.add("cloud: first start to ready.json, database made", bench.cloud_seconds, "s")
        edge = bench.edge("bench-idle")
        edge.start()
        edge.ports()
        report.add("edge: first start to ready.json", time.monotonic() - edge.started_at, "s")
        wait_for("the node to be Ready", lambda: bench.node_ready("bench-idle"))
        report.add("edge: first start to node Ready, join included", _since(edge), "s")
        bench.fix_ports()
        edges, clouds = [], []
        for _ in range(STARTS):
            edge.stop()
            edge.start()
            edge.ports()
            edges.append(_since(edge))
        for _ in range(STARTS if bench.api_process is None else 0):
            bench.cloud.stop()
            bench.cloud.start()
            bench.cloud.ports()
            clouds.append(_since(bench.cloud))
        report.add("edge: start to ready.json", median(edges), "s", "", edges)
        report.add("cloud with embedded API: start to ready.json", median(clouds), "s", "", clouds)
        wait_for("the connection", lambda: bench.metric(edge, "kubeedge_edgehub_connected") == 1)
        time.sleep(20)
        with report.about("edge", f"measured over {minutes:g} min, extrapolated to a day"):
            _traffic(report, bench, edge, minutes)
        report.add(
            "edge: resident memory, idle and connected", edge.memory_kb() / 1024, "MiB", "< 65"
        )
        report.add("edge: the same as PSS", edge.memory_kb("Pss") / 1024, "MiB")
        report.add(
            "cloud with embedded API, 1 node: resident", bench.cloud.memory_kb() / 1024, "MiB"
        )


def _traffic(report: Report, bench: Bench, edge: Process, minutes: float) -> None:
    def totals() -> tuple[float, ...]:
        frames = bench.metric(edge, "kubeedge_channel_messages_total")
        return (bench.metric(edge, "kubeedge_channel_bytes_total"), frames, *_tcp(bench))

    before, cpu, started = totals(), edge.cpu(), time.monotonic()
    time.sleep(minutes * 60)
    after, seconds = totals(), time.monotonic() - started
    day = 86_400 / seconds
    text, frames, tls, packets = (now - then for now, then in zip(after, before, strict=True))
    report.add("idle traffic: messages", frames * day, "a day")
    report.add("idle traffic: their bytes", text * day / 1e6, "MB a day")
    report.add("idle traffic: with WebSocket and TLS", tls * day / 1e6, "MB a day")
    whole = tls + packets * HEADERS
    report.add("idle traffic: with TCP and IP, both ways", whole * day / 1e6, "MB a day", "< 15")
    report.add("idle edge: CPU", (edge.cpu() - cpu) / seconds * 100, "% of one core")


def _tcp(bench: Bench) -> tuple[float, float]:
    """Bytes and packets of the edge's connection so far, both ways, as the kernel counts."""
    port = bench.ports["websocket"]
    text = subprocess.run(
        ["ss", "-tinH", "state", "established", f"( dport = :{port} )"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {name: float(value) for name, value in _COUNTERS.findall(text)}
    return (
        found["bytes_sent"] + found["bytes_received"],
        found["segs_out"] + found["segs_in"],
    )


def _since(process: Process) -> float:
    return time.monotonic() - process.started_at
