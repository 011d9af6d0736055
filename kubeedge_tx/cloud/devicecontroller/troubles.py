"""Kubernetes Events about what is wrong with one device: few, and none that is put right. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import DEVICES, EVENTS
from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.cloud.devicecontroller.draft import OF_THE_SPEC, new_problems

PAUSE: Final = 300.0
"""Seconds between two Events about the same trouble of one device."""
GRACE: Final = 5.0
"""Seconds that a model may come after its device before an Event says that it is missing."""
_MOST: Final = 256
"""Kinds of trouble of one device whose last Event is remembered."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An Event that is to be made."""

    about: str
    property: str
    reason: str
    message: str
    due: float
    """Not before, seconds."""

    def body(self, device: Mapping[str, Any], now_ms: int, number: int) -> dict[str, Any]:
        """Write the Event.

        :param number: sets it apart from others of the same millisecond.
        """
        namespace, name = meta.key(device)
        now = rfc3339(now_ms / 1000)
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{name[:200]}.{now_ms:x}{number:04x}",
                "namespace": namespace,
            },
            "involvedObject": {
                "apiVersion": DEVICES.api_version,
                "kind": DEVICES.kind,
                "namespace": namespace,
                "name": name,
                "uid": meta.uid(device),
                "resourceVersion": meta.resource_version(device),
            },
            "reason": self.reason,
            "message": self.message,
            "type": "Warning",
            "source": {"component": "devicecontroller"},
            "reportingComponent": "devicecontroller",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


class Troubles:
    """The Events that are to be made about one device, soonest first."""

    __slots__ = ("_told", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Trouble] = []
        self._told: dict[tuple[str, str, str], float] = {}

    def note(self, old: Mapping[str, Any], new: Mapping[str, Any], now: float) -> None:
        """Plan an Event for each problem that a status has and an older one has not."""
        for problem in new_problems(old, new):
            about, name, reason = kind = _kind(problem)
            if now - self._told.get(kind, -PAUSE) < PAUSE:
                continue
            if len(self._told) >= _MOST:
                self._told.clear()
            self._told[kind] = now
            message = f"{f'{about} {name}'.strip()}: {problem.get('message')}"[:1024]
            due = now + (GRACE if reason == "NoModel" else 0.0)
            self._waiting.append(Trouble(about, name, reason, message, due))
        self._waiting.sort(key=lambda each: each.due)

    def drop_solved(self, status: Mapping[str, Any]) -> None:
        """Say nothing of what the user has put right meanwhile."""
        if self._waiting:
            left = {_kind(each) for each in meta.sequence(status, "extensions", "problems")}
            self._waiting = [
                each
                for each in self._waiting
                if each.about not in OF_THE_SPEC or (each.about, each.property, each.reason) in left
            ]

    def clear(self) -> None:
        """Say nothing more."""
        self._waiting.clear()

    def next_due(self) -> float | None:
        """When the first is due, seconds; ``None`` if there is none."""
        return self._waiting[0].due if self._waiting else None

    def first(self) -> Trouble:
        """Look at the first."""
        return self._waiting[0]

    def take(self) -> None:
        """The first is made."""
        del self._waiting[0]


def _kind(problem: Mapping[str, Any]) -> tuple[str, str, str]:
    about, name, reason = (str(problem.get(part) or "") for part in ("about", "property", "reason"))
    return about, name, reason
