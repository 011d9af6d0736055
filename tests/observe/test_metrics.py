"""Metrics in Prometheus' text form, and the port that shows them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import treq
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor as global_reactor
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.observe.httpd import StatusServer
from kubeedge_tx.observe.logs import Levels, Output, observer
from kubeedge_tx.observe.metrics import MOST_SERIES, Metrics
from kubeedge_tx.observe.process import add_process
from tests.fakes.doors import http_door

reactor: Any = global_reactor


class MetricsTests(SynchronousTestCase):
    """What Prometheus reads is what was counted."""

    def test_read_back_by_prometheus(self) -> None:
        """Prometheus' own parser gets every number, label and bucket back."""
        metrics = Metrics()
        counter = metrics.counter("frames_total", "Frames.", ("node",))
        counter.inc('a"\\\n', by=2)
        metrics.gauge("sessions", "Sessions.", read=lambda: 7)
        by_node = metrics.gauge("depth", "Depth.", ("node",))
        by_node.set(3, "b")
        by_node.set(4, "c")
        by_node.remove("c")
        histogram = metrics.histogram("wait_seconds", "Wait.", buckets=(0.1, 1.0))
        for value in (0.05, 0.5, 5.0):
            histogram.observe(value)
        samples = {
            (s.name, tuple(s.labels.items())): s.value
            for family in text_string_to_metric_families(metrics.text())
            for s in family.samples
        }
        self.assertEqual(
            samples,
            {
                ("frames_total", (("node", 'a"\\\n'),)): 2,
                ("sessions", ()): 7,
                ("depth", (("node", "b"),)): 3,
                ("wait_seconds_bucket", (("le", "0.1"),)): 1,
                ("wait_seconds_bucket", (("le", "1"),)): 2,
                ("wait_seconds_bucket", (("le", "+Inf"),)): 3,
                ("wait_seconds_sum", ()): 5.55,
                ("wait_seconds_count", ()): 3,
            },
        )

    def test_counters_that_are_looked_up(self) -> None:
        """What somebody else counts is a counter, too: Prometheus may ask for its rate."""
        metrics = Metrics()
        metrics.counter("sent_total", "Sent.", ("way",), lambda: {("up",): 3.0, ("down",): 4.0})
        self.assertIn(
            '# TYPE sent_total counter\nsent_total{way="up"} 3\nsent_total{way="down"} 4\n',
            metrics.text(),
        )

    def test_no_end_of_series(self) -> None:
        """However many names a label takes, the series stay few and the sum stays right."""
        metrics = Metrics()
        counter = metrics.counter("refused_total", "Refused.", ("node",))
        waits = metrics.histogram("wait_seconds", "Wait.", ("node",), (1.0,))
        for number in range(MOST_SERIES + 50):
            counter.inc(f"edge-{number}", by=2)
            waits.observe(0.5, f"edge-{number}")
        counter.inc("edge-0")
        lines = [line for line in metrics.text().splitlines() if line.startswith("refused")]
        self.assertEqual(len(lines), MOST_SERIES + 1)
        self.assertEqual(counter.value("edge-0"), 3)
        self.assertEqual(counter.value("other"), 100)
        self.assertIn('wait_seconds_count{node="other"} 50', metrics.text())

    def test_process(self) -> None:
        """Memory, CPU and files of a process; where nothing tells them there is no number."""
        metrics = Metrics()
        folder = Path(self.mktemp())
        (folder / "fd").mkdir(parents=True)
        for name in "012":
            (folder / "fd" / name).touch()
        numbers = " ".join(str(number) for number in range(4, 53))
        (folder / "stat").write_text(f"7 (a (strange) name) S {numbers}\n")
        (folder / "statm").write_text("900 100 50 1 0 60 0\n")
        add_process(metrics, "1.2", proc=folder)
        page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics.text())
            for sample in family.samples
        }
        self.assertEqual(
            values,
            {
                "kubeedge_build_info": 1,
                "process_resident_memory_bytes": 100 * page,
                "process_cpu_seconds_total": (14 + 15) / tick,
                "process_open_fds": 3,
                "process_threads": 20,
            },
        )
        nowhere = Metrics()
        add_process(nowhere, "1.2", proc=folder / "nowhere")
        self.assertNotIn("\nprocess_", nowhere.text())


class StatusServerTests(TestCase):
    """/healthz, /readyz, /metrics and /debug."""

    timeout = 30

    async def test_answers(self) -> None:
        """Healthy while it runs, ready when it says so, metrics always."""
        why: list[str | None] = ["waiting for the API server"]
        metrics = Metrics()
        metrics.counter("x_total", "X.").inc()
        server = StatusServer(
            reactor,
            metrics,
            lambda: why[0],
            interface="127.0.0.1",
            port=0,
            **http_door(reactor),
            state=lambda nodes: {"asked": nodes},
        )
        await server.startService()
        self.addCleanup(server.stopService)

        async def ask(path: str, method: str = "GET") -> tuple[int, str]:
            url = f"http://127.0.0.1:{server.port}/{path}"
            response = await treq.request(method, url, persistent=False)
            return response.code, await response.text()

        self.assertEqual(await ask("healthz"), (200, "ok\n"))
        self.assertEqual(await ask("readyz"), (503, "not ready: waiting for the API server\n"))
        why[0] = None
        self.assertEqual((await ask("readyz?verbose"))[0], 200)
        self.assertIn("x_total 1", (await ask("metrics"))[1])
        self.assertEqual(await ask("metrics", "HEAD"), (200, ""))
        self.assertEqual((await ask("metrics", "POST"))[0], 405)
        self.assertEqual((await ask("secrets"))[0], 404)
        for query, nodes in (("", []), ("?node=a&node=b", ["a", "b"]), ("?node=%ff&x", ["\ufffd"])):
            status, text = await ask(f"debug{query}")
            self.assertEqual((status, json.loads(text)), (200, {"asked": nodes}))


class LogTests(SynchronousTestCase):
    """Log lines for people and for machines."""

    def lines(self, form: str, level: str = "info") -> tuple[Logger, io.StringIO]:
        stream = io.StringIO()
        write = observer(Output(stream, form), Levels(level))
        return Logger("kubeedge_tx.x", observer=write), stream

    def test_text(self) -> None:
        """A line has its level, where it came from, and what happened."""
        log, stream = self.lines("text")
        log.info("node {node} connected", node="edge-1")
        log.debug("not shown")
        self.assertIn(" info     x: node edge-1 connected\n", stream.getvalue())
        self.assertNotIn("not shown", stream.getvalue())

    def test_json(self) -> None:
        """Each line is one JSON object with the event's fields."""
        log, stream = self.lines("json")
        log.warn("node {node} cut", node="edge-1", seconds=30)
        line = json.loads(stream.getvalue())
        self.assertEqual(
            (line["level"], line["text"], line["event"], line["node"], line["seconds"]),
            ("warn", "node edge-1 cut", "node {node} cut", "edge-1", 30),
        )

    def test_other_form(self) -> None:
        """The form can change from one line to the next."""
        stream = io.StringIO()
        output = Output(stream, "text")
        log = Logger("kubeedge_tx.x", observer=observer(output, Levels("info")))
        log.info("one")
        output.form = "json"
        log.info("two")
        first, second = stream.getvalue().splitlines()
        self.assertTrue(first.endswith(" x: one"), first)
        self.assertEqual(json.loads(second)["text"], "two")

    def test_failure_without_variables(self) -> None:
        """A traceback shows where, never the values that were at hand."""
        log, stream = self.lines("text")
        password = "hunter2"
        try:
            raise ValueError(len(password))
        except ValueError:
            log.failure("could not do it")
        self.assertIn("ValueError: 7", stream.getvalue())
        self.assertNotIn("hunter2'", stream.getvalue())


class LevelTests(SynchronousTestCase):
    """What is logged can be changed at any time, for each part."""

    def test_parts(self) -> None:
        """A part with a level of its own says more, or less, than the others."""
        stream = io.StringIO()
        levels = Levels("info", {"edge.edgehub": "debug", "cloud": "error"})
        write = observer(Output(stream, "text"), levels)

        def said() -> list[str]:
            stream.seek(0)
            stream.truncate()
            for part in ("kubeedge_tx.edge.edgehub.hub", "kubeedge_tx.cloud.core", "twisted.web"):
                log = Logger(part, observer=write)
                log.debug("debug of {part}", part=part)
                log.info("info of {part}", part=part)
            return [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()]

        hub = "kubeedge_tx.edge.edgehub.hub"
        self.assertEqual(said(), [f"debug of {hub}", f"info of {hub}"])
        levels.set("info", {})
        self.assertEqual(said(), [f"info of {hub}", "info of kubeedge_tx.cloud.core"])
