"""Steps of the start that need the API server, repeated until it is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kubeedge_tx.errors import KubeError

T = TypeVar("T")

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 4.0
"""Seconds between two calls of an API server that is away at the start."""
REFUSED_SECONDS: Final = 20.0
"""How long a refusal may be that of a server which has not yet read who may do what: after its
start a kube-apiserver answers 403, or 401, to everybody for some seconds."""

_log = Logger()


async def patiently(clock: IReactorTime, step: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step until the API server answers it.

    :raises KubeError: it did answer, and refused, and goes on refusing.
    """
    seconds = FIRST_DELAY
    refused_since: float | None = None
    while True:
        try:
            return await step()
        except KubeError as error:
            if error.code in (401, 403):
                refused_since = clock.seconds() if refused_since is None else refused_since
                if clock.seconds() - refused_since >= REFUSED_SECONDS:
                    raise
            elif 0 < error.code < 500 and error.code != 429:
                raise
            else:
                refused_since = None
            _log.warn(
                "waiting for the Kubernetes API, to be asked again in {seconds:g} s: {why}",
                seconds=seconds,
                why=error,
            )
        await deferLater(clock, seconds)
        seconds = min(seconds * 2, LONGEST_DELAY)
