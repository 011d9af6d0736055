"""A cloud that holds all sessions is killed: when they are back, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kubeedge_tx.edge.edgehub.connector import LASTED_SECONDS
from tests.bench.figures import Report
from tests.bench.fleet import Fleet
from tests.bench.processes import NAMESPACE, Bench, Process, wait_for

MAPS = 5
"""ConfigMaps that each node's pod needs."""
SIZE = 500
QUIET = 5.0
"""Seconds after the last session is back in which writes still count."""
CHANGES = 4
"""Of each ConfigMap, while the sessions move."""
WRITING = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """What one death of a cloud led to."""

    back: list[float]
    """Seconds from the kill until each session was open at another cloud."""
    writes: float
    """Calls by which the other clouds changed something in the API."""
    bookkeeping: float
    """Those of them that noted what nodes have confirmed."""
    messages: int
    """What nodes acknowledged meanwhile."""
    bytes: int
    """What nodes and clouds said to each other meanwhile, before TLS."""
    lost: int
    """Objects whose newest state a node does not have in the end."""


def run(report: Report, count: int, repeat: int) -> None:
    """Measure with three clouds."""
    with Bench(api="separate") as bench:
        world = World(bench, count, lasted=LASTED_SECONDS + 1)
        conditions = f"{count} nodes over TLS, 3 clouds, {bench.api_kind}"
        report.say(f"failover: {conditions}")
        try:
            with report.about("failover", f"nothing else happens; {conditions}"):
                _tell(report, [world.takeover(changes=0) for _ in range(repeat)])
            with report.about("failover", f"{MAPS} objects change meanwhile; {conditions}"):
                _tell(report, [world.takeover(changes=CHANGES) for _ in range(repeat)])
        finally:
            world.end()


def _tell(report: Report, all_of_them: list[Takeover]) -> None:
    last = [max(each.back) for each in all_of_them]
    middle = [median(each.back) for each in all_of_them]
    report.add("half of the sessions are back after", median(middle), "s", "", middle)
    report.add("the last session is back after", median(last), "s", "< 10 s", last)
    for what, unit, samples in (
        ("API writes of the takeover", "calls", [each.writes for each in all_of_them]),
        ("bookkeeping among them", "calls", [each.bookkeeping for each in all_of_them]),
        ("messages meanwhile", "messages", [float(each.messages) for each in all_of_them]),
        ("bytes meanwhile, before TLS", "bytes", [float(each.bytes) for each in all_of_them]),
    ):
        report.add(what, median(samples), unit, "", samples)
    lost = [float(each.lost) for each in all_of_them]
    report.add("objects lost", max(lost), "objects", "0", lost)


class World:
    """Three clouds, and nodes that know all of them; the first has all sessions.

    :param lasted: seconds that sessions last before they are cut. An edge whose connections break
        ever again within ten seconds waits longer each time.
    """

    def __init__(self, bench: Bench, count: int, *, lasted: float) -> None:
        self._bench = bench
        self._count = count
        self._lasted = lasted
        self._first = bench.cloud
        self._others = [bench.another_cloud(name) for name in ("cloud-2", "cloud-3")]
        for cloud in (self._first, *self._others):
            bench.fix_ports(cloud)
        places = [f"127.0.0.1:{cloud.ports()['websocket']}" for cloud in self._clouds]
        self._fleet = Fleet(bench, count, MAPS, size=SIZE, program="tests.bench.movers")
        self._fleet.create()
        self._fleet.connect(32, tuple(places))
        self._fleet.settle()
        self._recorded(self._clouds)
        self._serial = 0

    @property
    def _clouds(self) -> tuple[Process, ...]:
        return (self._first, *self._others)

    def takeover(self, *, changes: int) -> Takeover:
        """Kill the cloud that has all sessions; put things back as they were.

        :param changes: so many of each ConfigMap.
        """
        self._gather()
        time.sleep(self._lasted)
        fleet = self._fleet
        newest = {name: fleet.version(name) for name in fleet.maps}
        writes, records = self._writes(), self._records()
        messages, talk = sum(fleet.acks()), self._bytes()
        self._first.kill()
        killed = time.monotonic()
        for _ in range(changes):
            self._serial += 1
            for name in fleet.maps:
                newest[name] = fleet.write(name, f"change {self._serial}")
            time.sleep(0.5)
        opened = wait_for("all sessions to be back", lambda: self._opened_since(killed), pause=0.2)
        time.sleep(QUIET)
        wait_for("the newest versions", lambda: self._missing(newest) == 0, pause=0.2)
        self._recorded(self._others)
        takeover = Takeover(
            back=[at - killed for at in opened],
            writes=self._writes() - writes,
            bookkeeping=self._records() - records,
            messages=sum(fleet.acks()) - messages,
            bytes=self._bytes() - talk,
            lost=self._missing(newest),
        )
        self._first.start()
        self._first.ports()
        return takeover

    def end(self) -> None:
        """Cut all nodes."""
        self._fleet.disconnect()
        self._fleet.clean()

    def _gather(self) -> None:
        """Bring all sessions to the first cloud: the others are started anew."""
        if self._sessions(self._first) == self._count:
            return
        time.sleep(self._lasted)
        for cloud in self._others:
            cloud.kill()
        wait_for(
            "all sessions at one cloud",
            lambda: self._sessions(self._first) == self._count,
            pause=0.3,
        )
        for cloud in self._others:
            cloud.start()
            cloud.ports()
        self._fleet.settle()
        self._recorded(self._clouds)

    def _sessions(self, cloud: Process) -> float:
        return self._bench.metric(cloud, "KubeEdge_CloudHub_connected_nodes")

    def _opened_since(self, then: float) -> list[float] | None:
        answers = self._fleet.ask({"do": "tell"})
        opened = [at for answer in answers for at in answer["opened"] if at > then]
        return opened if len(opened) == self._count else None

    def _missing(self, newest: dict[str, int]) -> int:
        answers = self._fleet.ask({"do": "tell"})
        missing = 0
        for name, version in newest.items():
            key = f"{NAMESPACE}/configmap/{name}"
            found = [answer["oldest"].get(key, [0, 0]) for answer in answers]
            nodes = sum(count for count, _ in found)
            missing += self._count - nodes
            missing += sum(count for count, oldest in found if oldest < version)
        return missing

    def _bytes(self) -> int:
        return sum(sum(answer["bytes"]) for answer in self._fleet.ask({"do": "tell"}))

    def _writes(self) -> float:
        name = "kubeedge_kube_calls_total"
        return sum(
            self._bench.metric(cloud, name, f'method="{method}"')
            for cloud in self._others
            for method in WRITING
        )

    def _records(self) -> float:
        name = "kubeedge_cloudhub_sync_writes_total"
        return sum(self._bench.metric(cloud, name) for cloud in self._others)

    def _recorded(self, clouds: Sequence[Process]) -> None:
        def pending() -> float:
            name = "kubeedge_cloudhub_sync_pending"
            return sum(self._bench.metric(cloud, name) for cloud in clouds)

        wait_for("the bookkeeping", lambda: pending() == 0, pause=0.3)
