"""Whom a message from the cloud is for.

Source: KubeEdge ``edge/pkg/edgehub/process.go`` and ``edge/pkg/edgehub/common/msghandler``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Message

ROUTER_EVENTBUS: Final = "router_eventbus"
ROUTER_SERVICEBUS: Final = "router_servicebus"


@dataclass(frozen=True, slots=True)
class Destination:
    """First whoever waits for the answer, if it is one; then a module."""

    answer: bool = False
    """Somebody may wait for it: try that first."""
    module: str = ""
    """Empty: nobody else."""


def destination(message: Message) -> Destination | None:
    """Decide from group, parent id and source; ``None`` for a group we do not know."""
    answer = bool(message.header.parent_id)
    match message.route.group:
        case names.GROUP_RESOURCE | "func":  # the second is an old name of the first
            # Also an answer nobody waits for: it may confirm a message of the outbox.
            return Destination(answer, names.METAMANAGER)
        case names.GROUP_TWIN:
            return Destination(False, names.TWIN)
        case names.GROUP_USER:
            if answer:
                return Destination(True)
            if message.route.source == ROUTER_EVENTBUS:
                return Destination(False, names.EVENTBUS)
            if message.route.source == ROUTER_SERVICEBUS:
                return Destination(False, names.SERVICEBUS)
            return None
        case names.TASKMANAGER:
            return Destination(False, names.TASKMANAGER)
    return None
