"""Every command that the documentation shows is run, as it stands; or the page says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.docmachine import Machine
from tests.docpages import blocks, pages
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

LIVE: Final = """
keadm init --advertise-address 192.0.2.1,127.0.0.1
keadm join -e 192.0.2.1:10000 -t "$(keadm gettoken)" -i edge-1 -r process
export KUBECONFIG=/var/lib/kubeedge/cloudcore/admin.kubeconfig
"""
"""What the other pages begin with: cloud and edge run, and kubectl knows the way."""


class BlockTests(SynchronousTestCase):
    def test_commands_are_known(self) -> None:
        """A command is in a block of language console, which is run or says why it is not."""
        count = 0
        for name in pages():
            for block in blocks(name):
                if block.language == "console":
                    count += 1
                    self.assertTrue(block.commands(), f"{block.where}: begin commands with $")
                    if block.caption:
                        self.assertTrue(block.why_not, f"{block.where}: {block.caption}")
                else:
                    self.assertFalse(
                        block.looks_typed and not block.file,
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
        status, said = machine.run(LIVE.strip().replace("\n", " &&\n"))
        self.assertEqual(status, 0, said)
        for name in others:
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
