"""``script/bench soak``: run it, and report."""

from __future__ import annotations

import resource
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet import reactor as _global_reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from tests.bench.figures import Report
from tests.bench.processes import GaveUp
from tests.bench.soak.run import Result, Soak
from tests.bench.soak.settings import Settings


def run(report: Report, settings: Settings) -> None:
    """Run one soak, once in a process: the reactor cannot start again.

    What it leaves behind (logs, stores, ``history.jsonl``) is kept if a promise was broken.

    :raises GaveUp: it could not be started.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a proxy for each edge and cloud
    work = Path(tempfile.mkdtemp(prefix="kubeedge-tx-soak."))
    report.say(f"soak: seed {settings.seed}, everything is in {work}")
    reactor: Any = _global_reactor
    results: list[Result] = []
    failures: list[Failure] = []
    soak = Soak(reactor, settings, work, report.say)
    log = (work / "driver.log").open("w")
    globalLogBeginner.beginLoggingTo([textFileLogObserver(log)], redirectStandardIO=False)

    def start() -> None:
        done = Deferred.fromCoroutine(soak.run())
        done.addCallbacks(results.append, failures.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    if failures:
        report.say(failures[0].getTraceback())
        raise GaveUp(f"{failures[0].value}\nsee {work}")
    if not results:
        raise GaveUp(f"interrupted; see {work}")
    (result,) = results
    log.close()
    if "Traceback" in (work / "driver.log").read_text():
        result.broken.append("the soak itself had trouble: see driver.log")
    tell(report, result)
    if result.broken:
        report.say(f"kept: {work}; repeat with --seed {settings.seed}")
    else:
        shutil.rmtree(work, ignore_errors=True)


def tell(report: Report, result: Result) -> None:
    """Put a result into figures."""
    settings, memory = result.settings, result.memory
    conditions = (
        f"{settings.clouds} clouds, {settings.edges} edges, {settings.objects} objects, embedded "
        f"API in a process of its own, rounds of {settings.round_seconds:g} s, seed {settings.seed}"
    )
    with report.about("soak", conditions):
        report.add("length", result.seconds / 60, "min")
        for kind, count in sorted(result.faults.items()):
            report.add(kind, count, "times")
        for kind, count in sorted(result.writes.items()):
            report.add(f"objects {kind}", count, "times")
        report.add("reports of devices", result.reports, "")
        report.add("lines of history judged", result.events, "")
        report.add("promises broken", len(result.broken), "", "0")
        if result.converged:
            times = result.converged
            report.add("heal to agreement, median", median(times), "s", "", times)
            report.add("heal to agreement, maximum", max(times), "s", "", times)
        writes = result.api_writes / max(result.seconds, 1)
        own = sum(result.writes[kind] for kind in ("created", "changed", "deleted"))
        report.add("API writes, all", writes, "a second")
        report.add("API writes, the driver's own", own / max(result.seconds, 1), "a second")
        for what, prefix in (("edge", "soak-"), ("cloud", "cloud-"), ("API", "the API")):
            report.add(f"memory: {what}, most", memory.most(prefix), "MiB")
            course = memory.course(prefix)
            told = ", ".join(f"{size:.1f}" for size in course)
            report.say(f"memory of the {what} that lived longest, each five minutes: {told} MiB")
            typical = memory.typical(prefix)
            if typical is not None:
                first, last, growth = typical
                count = len(memory.lines(prefix))
                what = f"memory: {what}, of {count} that lived over 7 min"
                report.add(f"{what}, at first", first, "MiB")
                report.add(f"{what}, at last", last, "MiB")
                report.add(f"{what}, growth", growth, "MiB an hour")
    for each in result.broken:
        report.say(f"BROKEN: {each}")
