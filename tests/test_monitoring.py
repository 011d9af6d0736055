"""The dashboard and the alert rules in ``deploy/`` name what a cloud and an edge measure."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import yaml
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig
from tests.figures_page import families
from tests.generated import ROOT
from tests.keadm.machine import MachineCase
from tests.requirements import requires

ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
METRIC = re.compile(r"\b(?:kubeedge|process)_\w+", re.IGNORECASE)
JOB = re.compile(r'job=~?"[^"]*"')


def _expressions() -> Iterator[tuple[str, str]]:
    """Where, and what is asked of Prometheus there."""
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    alerts = yaml.safe_load(ALERTS.read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def _families(text: str) -> set[tuple[str, str, str]]:
    """Name, kind and help of what a process gives to Prometheus."""
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", text, re.MULTILINE))
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
    return {(name, kind, helps[name]) for name, kind in kinds}


def _default(path: str) -> float:
    """The default of a key of either role's configuration."""
    for config in (CloudCoreConfig(), EdgeCoreConfig()):
        found: Any = msgspec.to_builtins(config)
        for step in path.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        if found is not None:
            return float(found)
    raise AssertionError(f"there is no key {path}")


@requires("promtool")
class RulesTests(SynchronousTestCase):
    """Prometheus' own judge."""

    def promtool(self, *arguments: str) -> None:
        done = subprocess.run(
            ["promtool", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_rules(self) -> None:
        """The alert rules are ones, and so is each question of the dashboard."""
        self.promtool("check", "rules", str(ALERTS))
        rules = [
            {"record": f"panel:{number}", "expr": expression}
            for number, (_, expression) in enumerate(_expressions())
        ]
        asked = Path(self.mktemp())
        asked.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        self.promtool("check", "rules", str(asked))

    def test_alerts(self) -> None:
        """Alerts fire when something is wrong, and none does when nothing is."""
        tests = Path(self.mktemp())
        tests.write_text((ROOT / "tests/alerts.yaml").read_text().replace("RULES", str(ALERTS)))
        self.promtool("test", "rules", str(tests))


class MonitoringTests(MachineCase):
    def test_figures_exist(self) -> None:
        """Each figure in them, and in the list of figures, is one that cloud or edge gives."""
        joined = self.join(self.start_cloud())
        self.assertEqual(joined.status, 0, joined.output)
        cloud, edge = self._metrics(self.cloud_dir), self._metrics(self.edge_dir)
        given = _families(cloud) | _families(edge)
        listed = {(each.name, each.kind, each.help) for each in families("")}
        self.assertEqual(given, listed, "docs/metrics.rst lists what is given")
        for name, kind, _ in given:
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
        known = {name for name, _, _ in given} | {"up"}
        known |= {f"{name}_bucket" for name, kind, _ in given if kind == "histogram"}
        asked = list(_expressions())
        self.assertGreater(len(asked), 30)
        for where, expression in asked:
            names = METRIC.findall(JOB.sub("", expression))
            self.assertTrue(names or expression.startswith("up{"), where)
            self.assertLessEqual(set(names), known, where)
        self._bounds_are_listed(cloud + edge)
        self.assertGreater(self._days(cloud, "ca"), 36_000)
        self.assertGreater(self._days(cloud, "server"), 36_000)
        self.assertEqual(round(self._days(edge, "edge")), 365)

    def _bounds_are_listed(self, text: str) -> None:
        """What can grow is in the table of docs/operation.rst, with its key, and the reverse."""
        page = (ROOT / "docs/operation.rst").read_text()
        table = page.partition("What can grow")[2].partition("- **Connections**")[0]
        listed = dict(re.findall(r"^``([\w-]+)`` +(.*?)  ", table, re.MULTILINE))
        limits = dict(re.findall(r'^kubeedge_held_limit{what="(.*)"} (.*)$', text, re.MULTILINE))
        held = re.findall(r'^kubeedge_held_items{what="(.*)"} (.*)$', text, re.MULTILINE)
        self.assertEqual(set(listed), set(limits))
        self.assertEqual(set(listed), {what for what, _ in held})
        for what, number in held:
            self.assertLessEqual(float(number), float(limits[what]), what)
        for what, limit in listed.items():
            key = re.match(r"``(modules\.[\w.]+)``", limit)
            if key is None:
                self.assertEqual(float(limit.split()[0]), float(limits[what]), what)
            else:
                default = _default(key.group(1)) * (3600 if key.group(1).endswith("Hours") else 1)
                self.assertEqual(default, float(limits[what]), what)

    def _metrics(self, folder: Path) -> str:
        port = self.ports(folder)["metrics"]
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read().decode())

    def _days(self, text: str, name: str) -> float:
        start = f'kubeedge_certificate_days_left{{certificate="{name}"}} '
        (line,) = (line for line in text.splitlines() if line.startswith(start))
        return float(line.removeprefix(start))
