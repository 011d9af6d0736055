from __future__ import annotations

import os
import random
from pathlib import Path

from twisted.internet import reactor
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from tests.bench.soak.run import Soak
from tests.bench.soak.settings import Settings

SEED = int(os.environ.get("KUBEEDGE_TX_STORM_SEED", "0")) or random.randrange(1, 1 << 30)


class StormTests(TestCase):
    """Two minutes of ``script/bench soak``; the same code, with less patience."""

    timeout = 900
    _log = Logger()

    async def test_storm(self) -> None:
        """All sorts of things break at random: no promise does, and both ends agree each time."""
        settings = Settings(
            seed=SEED,
            seconds=0,
            least_rounds=2,
            round_seconds=25,
            longest=12,
            pause=(0.2, 1.5),
            writes=8,
            look=2,
            starting=2,
            nice=10,  # tests beside this one have a processor each
        )
        work = Path(self.mktemp()).absolute()
        work.mkdir()
        result = await Soak(reactor, settings, work, self._say).run()
        self.assertEqual(result.broken, [], f"KUBEEDGE_TX_STORM_SEED={SEED}, see {work}")
        self.assertEqual(len(result.converged), 2)
        self.assertGreater(len(result.faults), 5, str(result.faults))
        self.assertGreater(result.writes["changed"], 50, str(result.writes))
        self.assertGreater(result.reports, 20)

    def _say(self, text: str) -> None:
        self._log.info("{text}", text=text)
