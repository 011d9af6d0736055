from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.cloud.core import CloudCore
from kubeedge_tx.config.cloudcore import CloudCoreConfig


class StopTests(SynchronousTestCase):
    def test_not_ready_from_the_first_moment(self) -> None:
        """A cloud that stops says so before it sends its edges away, so that none is sent to it."""
        core = CloudCore(Clock(), CloudCoreConfig(), Path(self.mktemp()))
        stopped = core.stopService()
        self.assertIn("stopping", core.state()["waitingFor"])
        self.successResultOf(stopped)
