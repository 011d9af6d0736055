"""End the process with a non-zero exit status, so that a supervisor starts it again."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


def end_process(reactor: Any, why: str, failure: Failure | None = None) -> None:
    """Log, stop the reactor, and leave with status 1 once every service had its turn.

    ``twistd`` exits 0 after a plain ``reactor.stop()``, and swallows ``sys.exit`` in a
    shutdown trigger; ``os._exit`` after the last trigger is what is left.

    :param why: the line the person reads: what was wrong, where, what to do.
    """
    _log.critical("{why}", why=why)
    if failure is not None:
        _log.debug("because of: {trace}", trace=failure.getTraceback())
    if sys.__stderr__ is not None:  # sys.stderr is the log, under twistd
        print(f"kubeedge-tx: {why}", file=sys.__stderr__, flush=True)
    reactor.addSystemEventTrigger("after", "shutdown", _leave)
    reactor.callLater(0, _stop, reactor)


def _stop(reactor: Any) -> None:
    if reactor.running:
        reactor.stop()


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
