from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.faultkit.__main__ import main
from kubeedge_tx.faultkit.history import Event, check

KEY = "default/configmap/app"


def cluster(uid: str, version: int, *, gone: bool = False) -> Event:
    return Event(where="cluster", key=KEY, uid=uid, version=version, gone=gone)


def edge(uid: str = "", version: int = 0, *, gone: bool = False) -> Event:
    return Event(where="edge", key=KEY, uid=uid, version=version, gone=gone, node="edge-1")


def confirmed(uid: str, version: int) -> Event:
    return Event(where="confirmed", key=KEY, uid=uid, version=version, node="edge-1")


class HistoryTests(SynchronousTestCase):
    """Each promise, kept and broken."""

    def test_all_kept(self) -> None:
        """Skipped versions, repeats and a recreated object break nothing."""
        history = [
            cluster("a", 1),
            cluster("a", 2),
            edge("a", 2),
            edge("a", 2),
            confirmed("a", 2),
            cluster("a", 3, gone=True),
            cluster("b", 4),
            edge("b", 4),
            confirmed("a", 2),
            confirmed("b", 4),
        ]
        self.assertEqual(check(history), [])

    def broken(self, words: str, *history: Event, ended: bool = False) -> None:
        (found,) = check(history, ended=ended)
        self.assertIn(words, found)

    def test_order(self) -> None:
        """An older version after a newer one is found."""
        self.broken("went back from version 5 to 4", cluster("a", 5), edge("a", 5), edge("a", 4))

    def test_resurrection(self) -> None:
        """An object that was deleted and comes back is found."""
        self.broken(
            "came back from the dead",
            *(cluster("a", 5), edge("a", 5), cluster("a", 6, gone=True)),
            *(edge(gone=True), edge("a", 5)),
        )

    def test_lost(self) -> None:
        """What was confirmed and is not there is found; so is what vanished by itself."""
        self.broken("and has it not", cluster("a", 5), edge("a", 4), confirmed("a", 5))
        self.broken(
            "was deleted, the cluster has it", cluster("a", 5), edge("a", 5), edge(gone=True)
        )

    def test_disagreement(self) -> None:
        """At the end each edge has what the cluster has."""
        self.broken("in version 4, the cluster", cluster("a", 5), edge("a", 4), ended=True)
        self.broken(
            "which the cluster has not",
            *(cluster("a", 5), edge("a", 5), cluster("a", 6, gone=True)),
            ended=True,
        )

    def test_reports(self) -> None:
        """At the end the cluster shows what an edge took last from a device, or something later."""

        def report(where: Any, version: int) -> Event:
            return Event(where=where, key="default/device/door", node="edge-1", version=version)

        kept = [report("taken", 3), report("taken", 2), report("shown", 2), report("shown", 4)]
        self.assertEqual(check(kept), [])
        self.assertEqual(check([report("taken", 3)], ended=False), [])
        lost = report("taken", 3), report("taken", 2), report("shown", 2)
        self.broken("took report 3 of default/device/door, the cluster shows 2", *lost, ended=True)

    def test_not_deleted_after_all(self) -> None:
        """A delete that was noted and did not happen excuses nothing."""
        self.broken(
            "was deleted, the cluster has it",
            *(cluster("a", 5), edge("a", 5), cluster("a", 5, gone=True), cluster("a", 5)),
            edge(gone=True),
        )

    def test_command(self) -> None:
        """The command prints what is broken and says so with its status."""
        lines = [
            {"where": "cluster", "key": KEY, "uid": "a", "version": 5},
            {"where": "edge", "key": KEY, "uid": "a", "version": 4, "node": "edge-1", "at": 7},
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        run = CliRunner().invoke
        result = run(main, ["check", "-"], input=text)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("7.0 s: edge-1 has", result.output)
        self.assertEqual(run(main, ["check", "--unfinished", "-"], input=text).exit_code, 0)
        self.assertEqual(run(main, ["check", "-"], input="{}").exit_code, 2)
