"""Doors for listeners under test."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime

from kubeedge_tx.config.types import HttpLimits, ListenerLimits
from kubeedge_tx.observe.doors import Door, Doors
from kubeedge_tx.observe.metrics import Metrics


def a_door(clock: IReactorTime, metrics: Metrics | None = None, **limits: Any) -> Door:
    """A door whose figures go to ``metrics``."""
    return Doors(clock, metrics or Metrics()).door("port", ListenerLimits(**limits))


def http_door(clock: IReactorTime, metrics: Metrics | None = None, **limits: Any) -> dict[str, Any]:
    """The arguments ``door`` and ``limits`` of an HTTP listener."""
    settings = HttpLimits(**limits)
    return {
        "door": Doors(clock, metrics or Metrics()).door("port", settings),
        "limits": settings,
    }
