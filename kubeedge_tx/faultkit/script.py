"""What a fault script and a control line may say, and doing it."""

from __future__ import annotations

import os
import signal
from typing import Annotated, Any, Final

import msgspec

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.proxy import Proxy

_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "continue": signal.SIGCONT}


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to do."""

    do: str
    """``set``, ``heal``, ``reset``, ``refuse``, ``kill``, ``stop``, ``continue`` or ``status``."""
    at: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds after the start; in a control line it means nothing."""
    direction: str = ""
    """``up``, ``down`` or empty for both."""
    faults: dict[str, float | bool] = {}
    """For ``set``: latency, jitter, rate, silent, cut_after."""
    pid: int = 0
    """For ``kill``, ``stop`` and ``continue``: which process."""


def read_steps(text: bytes) -> list[Step]:
    """Read a script: a YAML list of steps, in order of time.

    :raises ConfigError: it is none; says where.
    """
    try:
        steps = msgspec.yaml.decode(text, type=list[Step])
    except msgspec.DecodeError as error:
        raise ConfigError("script", str(error)) from None
    return sorted(steps, key=lambda step: step.at)


def read_line(line: bytes) -> Step:
    """Read a control line: one step as JSON.

    :raises ConfigError: it is none.
    """
    try:
        return msgspec.json.decode(line, type=Step)
    except msgspec.DecodeError as error:
        raise ConfigError("control line", str(error)) from None


def perform(step: Step, proxy: Proxy) -> dict[str, Any]:
    """Do one step; returns the proxy's state after it.

    :raises ConfigError: there is no such thing to do.
    :raises ProcessLookupError: no process has that id.
    """
    directions = (step.direction,) if step.direction else ()
    if step.do == "set":
        try:
            proxy.set(*directions, **step.faults)
        except ValueError as error:
            raise ConfigError("set", str(error)) from None
    elif step.do == "heal":
        proxy.heal()
    elif step.do == "reset":
        proxy.reset()
    elif step.do == "refuse":
        proxy.refusing = True
        proxy.reset()
    elif step.do in _SIGNALS:
        if step.pid <= 1:
            raise ConfigError(step.do, f"pid {step.pid} is no process to be touched")
        os.kill(step.pid, _SIGNALS[step.do])
    elif step.do != "status":
        raise ConfigError(
            "do",
            f"{step.do!r} is unknown; expected set, heal, reset, refuse, kill, stop, continue "
            "or status",
        )
    return {
        "connections": len(proxy.links),
        "accepted": proxy.accepted,
        "refused": proxy.refused,
        "refusing": proxy.refusing,
        "faults": {which: msgspec.to_builtins(each) for which, each in proxy.faults.items()},
    }
