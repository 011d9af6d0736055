"""Every command that the documentation shows is run, as it stands; or the page says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.docmachine import Machine
from tests.docpages import DOCS, blocks, pages
from tests.requirements import requires

ELSEWHERE: Final = {"getstarted": "tests/test_getstarted.py"}
"""Pages that another test runs."""

FIRST: Final = ("operation", "keadm", "cluster")
"""Pages that bring a cloud and an edge of their own, and leave none."""

CLUSTER: Final = """
mkdir ~/.kube
python -m tests.bench.apiserver ~/.kube/cluster 6443 > cluster.log 2>&1 &
until [ -e ~/.kube/cluster/ready.json ]; do sleep 0.05; done
cp ~/.kube/cluster/admin.kubeconfig ~/.kube/config
unset KUBECONFIG
"""
"""What stands for the reader's own cluster: an API server, and the way to it."""

LIVE: Final = "../README"
"""The page that brings the cloud and the edge, edge-1, that the other pages are about."""

SCRIPTS: Final = ("script/demo ", "script/test ")
"""What README names that CI calls itself: ``tests/system/test_demo.py``, ``.ci/run``."""


class BlockTests(SynchronousTestCase):
    def test_commands_are_known(self) -> None:
        """A command is in a block of language console, which is run or says why it is not."""
        count = 0
        for name in (LIVE, *pages()):
            text = (DOCS / f"{name}.rst").read_text(encoding="utf-8")
            seen = sum(len(block.commands()) for block in blocks(name))
            typed = [line for line in text.splitlines() if line.lstrip().startswith("$ ")]
            self.assertEqual(len(typed), seen, f"{name}: a command that is in no block")
            for block in blocks(name):
                if block.language == "console":
                    count += 1
                    self.assertTrue(block.commands(), f"{block.where}: begin commands with $")
                    if block.caption:
                        self.assertTrue(block.why_not, f"{block.where}: {block.caption}")
                else:
                    known = all(line.startswith(SCRIPTS) for line in block.lines)
                    self.assertFalse(
                        block.looks_typed and not block.file and not known,
                        f"{block.where}: make it `code-block:: console`, commands after `$ `, so "
                        f"that a test runs them:\n{block.text}",
                    )
        self.assertGreater(count, 30)


@requires("root")
@requires("kubectl")
@requires("mosquitto_rr")
@requires("curl")
@requires("libfaketime")
class CommandTests(SynchronousTestCase):
    def test_pages(self) -> None:
        """A reader who types what the pages say gets what they say."""
        machine = Machine(Path(self.mktemp()).absolute())
        self.addCleanup(machine.close)
        others = [name for name in pages() if name not in (*FIRST, *ELSEWHERE)]
        for name in FIRST:
            if name == "cluster":
                machine.run(CLUSTER.strip())
            self.read(machine, name)
        for name in (LIVE, *others):
            self.read(machine, name)

    def read(self, machine: Machine, name: str) -> None:
        """Do what a page says."""
        for block in blocks(name):
            if block.file:
                machine.write(block)
            elif block.language == "console" and block.why_not is None:
                wrong = machine.type(block)
                if wrong:
                    _, logs = machine.run("tail -n 20 *.log /var/log/kubeedge/*.log")
                    self.fail(f"{block.where}:\n{wrong}\nThe logs there:\n{logs}")
        machine.end_page()
