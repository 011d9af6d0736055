from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from kubeedge_tx.runtime.process import ProcessRuntime
from tests.runtime.contract import RuntimeContract

_reactor: Any = reactor


class ProcessRuntimeTests(RuntimeContract, TestCase):
    """The process runtime with real processes keeps the contract."""

    root: Path | None = None

    def make_runtime(self) -> ProcessRuntime:
        if self.root is None:
            self.root = Path(self.mktemp())
        return ProcessRuntime(_reactor, self.root, time.time)
