"""What a fault script and a control line may say, and doing it."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.clocks import MACHINE
from kubeedge_tx.faultkit.kit import Kit

_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "continue": signal.SIGCONT}


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to do."""

    do: str
    """One of the words of :data:`DEEDS`."""
    at: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds after the start; in a control line it means nothing."""
    direction: str = ""
    """For ``set``: ``up``, ``down`` or empty for both."""
    faults: dict[str, bool | int | float] = {}
    """For ``set``: latency, jitter, rate, silent, cut_after."""
    pid: int = 0
    """For ``kill``, ``stop``, ``continue``, ``no-space`` and ``slow-disk``: which process."""
    path: str = ""
    """For ``fill``: a folder of the filesystem. For ``clock``: the file that says the time."""
    leave: Annotated[int, msgspec.Meta(ge=0)] = 0
    """For ``fill``: bytes that stay free."""
    anyway: bool = False
    """For ``fill``: also the filesystem of ``/``."""
    seconds: float = 0.0
    """For ``slow-disk``: how late each sync is. For the clocks: how wrong they are, counted from
    the right time."""


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


def _set(step: Step, kit: Kit) -> None:
    try:
        kit.link.set(*((step.direction,) if step.direction else ()), **step.faults)
    except ValueError as error:
        raise ConfigError("set", str(error)) from None


def _refuse(step: Step, kit: Kit) -> None:
    kit.link.refusing = True
    kit.link.reset()


def _signal(step: Step, kit: Kit) -> None:
    if step.pid <= 1:
        raise ConfigError(step.do, f"pid {step.pid} is no process to be touched")
    try:
        os.kill(step.pid, _SIGNALS[step.do])
    except OSError as error:
        raise ConfigError(step.do, f"pid {step.pid}: {error.strerror}") from None
    kit.stopped.discard(step.pid)
    if step.do == "stop":
        kit.stopped.add(step.pid)


async def _fill(step: Step, kit: Kit) -> None:
    if not step.path:
        raise ConfigError("fill", "which filesystem? give a folder on it as path")
    await kit.fill(Path(step.path), step.leave, anyway=step.anyway)


async def _clock(step: Step, kit: Kit) -> None:
    if step.path in ("", MACHINE):
        raise ConfigError("clock", "give the file that `faultkit run --clock` was given as path")
    await kit.clocks.shift(step.path, step.seconds)


_DEEDS: Final[dict[str, Callable[[Step, Kit], Awaitable[object] | object]]] = {
    "set": _set,
    "reset": lambda step, kit: kit.link.reset(),
    "refuse": _refuse,
    "kill": _signal,
    "stop": _signal,
    "continue": _signal,
    "fill": _fill,
    "no-space": lambda step, kit: kit.injections.no_space(step.pid),
    "slow-disk": lambda step, kit: kit.injections.slow(step.pid, step.seconds),
    "clock": _clock,
    "machine-clock": lambda step, kit: kit.clocks.shift(MACHINE, step.seconds),
    "heal": lambda step, kit: kit.heal(),
    "status": lambda step, kit: None,
}
DEEDS: Final = tuple(_DEEDS)
"""What can be done."""


async def perform(step: Step, kit: Kit) -> dict[str, Any]:
    """Do one step; returns the state after it.

    :raises ConfigError: there is no such thing to do, or it could not be done.
    """
    deed = _DEEDS.get(step.do)
    if deed is None:
        raise ConfigError("do", f"{step.do!r} is unknown; expected one of {', '.join(DEEDS)}")
    doing = deed(step, kit)
    if isinstance(doing, Awaitable):
        await doing
    return kit.state()
