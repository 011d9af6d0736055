"""Writes on top of what somebody else may have written meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from kubeedge_tx.cloud.edgecontroller.answers import refusal
from kubeedge_tx.errors import KubeError

ATTEMPTS: Final = 3

T = TypeVar("T")


async def on_top(write: Callable[[bool], Awaitable[T]]) -> T:
    """Write, and write again on top if somebody was faster.

    :param write: told whether somebody was, so that what it had read is old.
    :raises KubeError: what ``write`` raised; after several conflicts 503, which edges of ours take
        for *not now* and say it again later. A conflict they would take for the last word.
    """
    for attempt in range(ATTEMPTS):
        try:
            return await write(attempt > 0)
        except KubeError as error:
            if error.reason != "Conflict":
                raise
    text = "others write to this object faster than the cloud can; to be tried again"
    raise refusal(503, "ServiceUnavailable", text)
