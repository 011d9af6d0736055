"""Timers that a change of the machine's clock does not touch.

Twisted measures time by the wall clock: set back by an hour, it fires no timer for an hour, and
set ahead, all of them at once. Leases, keepalives and pauses must not depend on that.
"""

from __future__ import annotations

import time
from typing import Any


def steady_seconds() -> float:
    """Seconds since the machine started, those it slept included: a lease ends meanwhile, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def keep_steady_time(reactor: Any) -> None:
    """Let a reactor measure time so; timers that it has already keep what is left of theirs."""
    if reactor.seconds is steady_seconds:
        return
    calls = reactor.getDelayedCalls()
    left = [call.getTime() - reactor.seconds() for call in calls]
    reactor.seconds = steady_seconds
    for call, seconds in zip(calls, left, strict=True):
        call.seconds = steady_seconds
        call.reset(max(0.0, seconds))
