"""The demo, as a newcomer runs it."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase


class DemoTests(TestCase):
    """script/demo --once, less the installation."""

    timeout = 180

    async def test_once(self) -> None:
        """A pod becomes Ready, a device is heard in the cluster and hears from it; exit 0."""
        out, err, code = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "kubeedge_tx.demo", "--once"],
            env={"HOME": self.mktemp()},
            reactor=reactor,
        )
        text = (out + err).decode()
        self.assertEqual(code, 0, text)
        for told in (
            "pod hello is Running and Ready",
            "the pod reads the new greeting",
            "desired and reported agree",
            "pod deleted",
        ):
            self.assertIn(told, text)
