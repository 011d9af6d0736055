"""A ConfigMap that many nodes need: how fast, and at what cost."""

from __future__ import annotations

import time

from tests.bench.figures import Report
from tests.bench.fleet import Fleet
from tests.bench.processes import Bench

MAPS = 5
"""ConfigMaps that each node's pod needs; a round changes each of them once."""
ROUNDS = 4
SIZE = 500
"""Bytes of a ConfigMap's data."""
SUSTAINED = 10.0
"""Seconds."""
QUICK = 200
"""Changes of one object, as fast as the API server takes them."""


def run(report: Report, counts: list[int], windows: list[int], api: str) -> None:
    """Measure with each number of nodes and each window."""
    for count in counts:
        for window in windows:
            with Bench(api=api, window=max(window, 2)) as bench:
                conditions = f"{count} nodes over TLS, window {window}, {bench.api_kind}"
                report.say(f"fanout: {conditions}")
                with report.about("fanout", conditions):
                    _measure(report, bench, count, window)


def _measure(report: Report, bench: Bench, count: int, window: int) -> None:
    cloud = bench.cloud
    fleet = Fleet(bench, count, MAPS, size=SIZE)
    fleet.create()
    time.sleep(1)
    before, cpu = cloud.memory_kb(), cloud.cpu()
    started = time.monotonic()
    fleet.connect(window)
    connected = time.monotonic() - started
    try:
        fleet.settle()
        fleet.recorded()
        report.add("handshakes", count / connected, "nodes/s")
        report.add("cloud CPU of connect and first sync", cloud.cpu() - cpu, "s")
        time.sleep(2)
        grown = (cloud.memory_kb() - before) / count
        report.add("cloud memory per connected node", grown, "KB", "< 80 KB")
        _sustained(report, fleet)
        _rounds(report, fleet)
        _quick(report, fleet)
    finally:
        fleet.disconnect()
        fleet.disconnected()
        fleet.clean()


def _sustained(report: Report, fleet: Fleet) -> None:
    """Change one ConfigMap again and again, each time as soon as all nodes have the last."""
    cloud = fleet.bench.cloud
    name = fleet.maps[0]
    acks, writes, cpu = sum(fleet.acks()), fleet.writes(), cloud.cpu()
    began = time.monotonic()
    changes = 0
    while time.monotonic() - began < SUSTAINED:
        fleet.wait_version(name, fleet.write(name, f"sustained {changes}"))
        changes += 1
    seconds = time.monotonic() - began
    fleet.recorded()
    cpu = cloud.cpu() - cpu
    delivered = sum(fleet.acks()) - acks
    report.add(
        "one object changed for ten seconds: delivered and acknowledged",
        delivered / seconds,
        "messages/s",
        "> 2,500",
    )
    report.add(
        "the same: cloud CPU per message, bookkeeping included",
        cpu / delivered * 1e3,
        "ms",
        "< 0.24",
    )
    report.add(
        "the same: bookkeeping's API calls per node and second",
        (fleet.writes() - writes) / len(fleet.names) / seconds,
        "",
        "<= 1",
    )


def _rounds(report: Report, fleet: Fleet) -> None:
    cloud = fleet.bench.cloud
    seconds = 0.0
    alone, whole = 0.0, 0.0
    delivered = 0
    writes = fleet.writes()
    one_change = []
    for number in range(ROUNDS):
        before = fleet.acks()
        wanted = [
            done + MAPS * nodes for done, nodes in zip(before, fleet.per_process(), strict=True)
        ]
        cpu, started = cloud.cpu(), time.monotonic()
        for name in fleet.maps:
            fleet.write(name, f"round {number}")
        seconds += fleet.wait_acks(wanted) - started
        alone += cloud.cpu() - cpu
        delivered += sum(wanted) - sum(before)
        fleet.recorded()
        whole += cloud.cpu() - cpu
    cost = fleet.writes() - writes
    for number in range(5):
        time.sleep(1.1)
        started = time.monotonic()
        version = fleet.write(fleet.maps[0], f"single {number}")
        one_change.append(fleet.wait_version(fleet.maps[0], version) - started)
        fleet.recorded()
    report.add(
        f"{MAPS} objects changed at once: delivered and acknowledged",
        delivered / seconds,
        "messages/s",
        "> 2,500",
    )
    report.add(
        "the same: cloud CPU per message, until acknowledged",
        alone / delivered * 1e3,
        "ms",
        "< 0.24",
    )
    report.add("the same: with one record each", whole / delivered * 1e3, "ms")
    report.add("the same: bookkeeping's API calls per message", cost / delivered, "")
    one_change.sort()
    report.add(
        "one change on every node after", one_change[len(one_change) // 2], "s", "", one_change
    )


def _quick(report: Report, fleet: Fleet) -> None:
    name = fleet.maps[0]
    cloud = fleet.bench.cloud
    time.sleep(1.1)
    writes, acks, cpu = fleet.writes(), sum(fleet.acks()), cloud.cpu()
    started = time.monotonic()
    for number in range(QUICK):
        version = fleet.write(name, f"quick {number}")
    written = time.monotonic()
    last = fleet.wait_version(name, version)
    cpu = cloud.cpu() - cpu
    fleet.recorded()
    report.add(f"{QUICK} quick changes: API writes", QUICK / (written - started), "writes/s")
    report.add(f"{QUICK} quick changes: newest everywhere after", last - written, "s", "< 0.5 s")
    report.add(f"{QUICK} quick changes: delivered", sum(fleet.acks()) - acks, "messages")
    report.add(f"{QUICK} quick changes: cloud CPU", cpu, "s")
    report.add(
        f"{QUICK} quick changes: bookkeeping per node",
        (fleet.writes() - writes) / len(fleet.names),
        "writes",
        "one a second at most",
    )
