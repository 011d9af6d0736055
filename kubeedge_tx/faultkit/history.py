"""Which promise a history breaks. Pure.

A history is what somebody wrote down while things broke: what the cluster had, what each edge
had, what the cluster believed an edge had confirmed, which reports an edge had taken and which
the cluster showed, in the order of the looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a history."""

    where: Literal["cluster", "edge", "confirmed", "taken", "shown"]
    """Who had it: the cluster; the edge ``node``; or the cluster says the edge confirmed it.
    Of reports the other way: the edge has ``taken`` one from a device; the cluster ``shown`` it.
    """
    key: str
    """``default/configmap/app``."""
    uid: str = ""
    version: int = 0
    """Of a report: its number, higher for each."""
    gone: bool = False
    """It was deleted, at this end."""
    node: str = ""
    at: float = 0.0
    """Seconds, for the reader."""


def read(lines: Iterable[bytes]) -> list[Event]:
    """Read a history: one JSON object a line.

    :raises msgspec.DecodeError: a line is no event.
    """
    return [msgspec.json.decode(line, type=Event) for line in lines if line.strip()]


class Checker:
    """Takes events one by one; ``broken`` says what did not hold, in words."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.events = 0
        self._cluster: dict[str, Event] = {}
        self._deleted: set[str] = set()
        self._edges: dict[tuple[str, str], Event] = {}
        self._buried: set[tuple[str, str]] = set()
        self._taken: dict[str, Event] = {}
        self._shown: dict[str, int] = {}

    def take(self, event: Event) -> None:
        """Look at one event."""
        self.events += 1
        if event.where == "cluster":
            self._in_cluster(event)
        elif event.where == "edge":
            self._at_edge(event)
        elif event.where == "confirmed":
            self._confirmed(event)
        elif event.where == "taken":
            before = self._taken.get(event.key, event)
            self._taken[event.key] = max(before, event, key=lambda each: each.version)
        else:
            self._shown[event.key] = event.version

    def end(self) -> list[str]:
        """All is healed and quiet: each edge must have what the cluster has, and be heard.

        :returns: everything that was broken.
        """
        for (node, key), have in self._edges.items():
            want = self._cluster.get(key)
            if have.gone:
                continue
            if want is None or want.gone:
                self._say(have, f"{node} still has {key}, which the cluster has not")
            elif (have.uid, have.version) != (want.uid, want.version):
                self._say(
                    have,
                    f"{node} has {key} {have.uid} in version {have.version}, "
                    f"the cluster {want.uid} in {want.version}",
                )
        for key, taken in self._taken.items():
            if (shown := self._shown.get(key, 0)) < taken.version:
                self._say(
                    taken,
                    f"{taken.node} took report {taken.version} of {key}, the cluster shows {shown}",
                )
        return self.broken

    def _in_cluster(self, event: Event) -> None:
        old = self._cluster.get(event.key)
        if old is not None and old.uid != event.uid:
            self._deleted.add(old.uid)
        if event.gone:
            self._deleted.add(event.uid or (old.uid if old is not None else ""))
        else:
            self._deleted.discard(event.uid)  # what was noted as gone was not done
        self._cluster[event.key] = event

    def _at_edge(self, event: Event) -> None:
        place = event.node, event.key
        old = self._edges.get(place)
        if not event.gone:
            if (event.node, event.uid) in self._buried:
                self._say(event, f"{event.node}: {event.key} {event.uid} came back from the dead")
            elif old is not None and old.uid == event.uid and event.version < old.version:
                self._say(
                    event,
                    f"{event.node}: {event.key} went back from version {old.version} "
                    f"to {event.version}",
                )
        if old is not None and not old.gone and (event.gone or old.uid != event.uid):
            self._buried.add((event.node, old.uid))
            if event.gone and old.uid not in self._deleted:
                self._say(event, f"{event.node}: {event.key} was deleted, the cluster has it")
        self._edges[place] = event

    def _confirmed(self, event: Event) -> None:
        have = self._edges.get((event.node, event.key))
        if event.uid in self._deleted:
            return
        if have is None or have.gone or have.uid != event.uid or have.version < event.version:
            self._say(
                event,
                f"{event.node} confirmed {event.key} {event.uid} in version {event.version}, "
                "and has it not",
            )

    def _say(self, event: Event, text: str) -> None:
        self.broken.append(f"{event.at:.1f} s: {text}")


def check(events: Iterable[Event], *, ended: bool = True) -> list[str]:
    """Check a whole history.

    :param ended: whether all was healed and quiet at its end.
    :returns: the promises that were broken; empty if none.
    """
    checker = Checker()
    for event in events:
        checker.take(event)
    return checker.end() if ended else checker.broken
