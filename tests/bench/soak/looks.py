"""Looks at what everybody has: edges' stores, the cluster's records; and compares the two."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from kubeedge_tx.faultkit.history import Checker, Event
from tests.bench.soak.objects import API, Thing, version
from tests.bench.soak.site import Site
from tests.system.roles import condition

SYNCS: Final = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"
_LABELLED: Final = ("map-", "secret-", "device-", "reader-", "plain-")
_SHOWN: Final = 5
"""Differences that are spelled out."""


@dataclass(frozen=True, slots=True)
class Held:
    """One object in an edge's store."""

    uid: str
    version: int
    resource_version: int
    is_used: bool = True
    """Of a Device: whether its twins have taken this version in, which comes a moment later."""


class History:
    """Everything that was seen, in order: into a file, and to the judge."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._began = time.monotonic()
        self.checker = Checker()
        self.cluster: dict[str, Event] = {}
        """The latest of each object in the cluster."""
        self.changed: dict[str, int] = {}
        """The resourceVersion of each pod's last change by us; its statuses come after it."""

    def note(self, event: Event) -> None:
        """Take one event; it gets its time here."""
        event = msgspec.structs.replace(event, at=round(time.monotonic() - self._began, 3))
        self._file.write(msgspec.json.encode(event) + b"\n")
        if event.where == "cluster":
            self.cluster[event.key] = event
        self.checker.take(event)


class Looks:
    """What edges have, and where it differs from the cluster."""

    def __init__(self, site: Site, things: Sequence[Thing], history: History) -> None:
        self._site = site
        self._things = things
        self._history = history
        self._held: list[dict[str, Held]] = [{} for _ in site.edges]
        self._judged: dict[tuple[str, str], int] = {}
        self.unread: set[int] = set()
        """Edges whose store could not be read at the last look."""

    def edges(self) -> None:
        """Look into every edge's store, and write down what is new there."""
        for number, program in enumerate(self._site.edges):
            try:
                found = _read(program.data_dir / "edgecore.db")
            except sqlite3.Error:  # it is being made, or recovered
                self.unread.add(number)
                continue
            self.unread.discard(number)
            self._compare(self._site.nodes[number], self._held[number], found)
            self._held[number] = found

    def _compare(self, node: str, before: dict[str, Held], now: dict[str, Held]) -> None:
        for key in before.keys() - now.keys():
            self._history.note(Event(where="edge", node=node, key=key, gone=True))
        for key, held in now.items():
            old = before.get(key)
            if old is None or (held.uid, held.version) != (old.uid, old.version):
                self._history.note(
                    Event(where="edge", node=node, key=key, uid=held.uid, version=held.version)
                )

    async def confirmed(self) -> dict[tuple[str, str], int]:
        """Read what edges have confirmed, then their stores; write it down.

        :returns: version by node and uid.
        """
        found = {}
        for each in await self._site.api.items(SYNCS):
            node, _, uid = each["metadata"]["name"].rpartition(".")
            confirmed = (each.get("status") or {}).get("objectResourceVersion")
            kind, name = each["spec"]["objectKind"], each["spec"]["objectName"]
            if confirmed and name.startswith(_LABELLED):
                found[node, uid] = (f"default/{kind.lower()}/{name}", int(confirmed))
        self.edges()
        for (node, uid), (key, number) in found.items():
            edge = self._site.nodes.index(node)
            if edge in self.unread or self._judged.get((node, uid)) == number:
                continue
            self._judged[node, uid] = number
            held = self._held[edge].get(key)
            if held is not None and "/pod/" in key:  # these are compared by their label
                number = held.version + (held.resource_version < number)
            self._history.note(
                Event(where="confirmed", node=node, key=key, uid=uid, version=number)
            )
        return {place: latest for place, (_, latest) in found.items()}

    # Differences, as sentences

    def not_delivered(self) -> list[str]:
        """What an edge has not that it should, or in another state, or has and should not."""
        self.edges()
        wanted: list[dict[str, tuple[str, int]]] = [{} for _ in self._site.edges]
        for thing in self._things:
            now = self._history.cluster.get(thing.key)
            if now is not None and not now.gone:
                for edge in thing.nodes:
                    wanted[edge][thing.key] = (now.uid, now.version)
        found = [f"the store of {self._site.nodes[number]} can be read" for number in self.unread]
        for number, node in enumerate(self._site.nodes):
            held = {key: (each.uid, each.version) for key, each in self._held[number].items()}
            found += [
                f"{node} has {key} in {held.get(key)}, the cluster in {wanted[number].get(key)}"
                for key in wanted[number].keys() | held.keys()
                if held.get(key) != wanted[number].get(key)
            ]
            found += [
                f"{node} has {key} in {each.version} and has not taken it in"
                for key, each in self._held[number].items()
                if not each.is_used
            ]
        return found

    async def not_running(self) -> list[str]:
        """Pods that are not shown as Running and Ready."""
        found = []
        for each in await self._site.api.items("/api/v1/namespaces/default/pods"):
            if each["status"].get("phase") != "Running" or condition(each, "Ready") != "True":
                name, phase = each["metadata"]["name"], each["status"].get("phase")
                found.append(f"pod {name} is shown as {phase}, Ready: {condition(each, 'Ready')}")
        return found

    async def not_recorded(self) -> list[str]:
        """What an edge has and the cluster does not know it to have.

        Of a pod a cloud that has just started may send a version that differs by its status only.
        """
        confirmed = await self.confirmed()
        return [
            f"{node} has {key} in {held.resource_version}, recorded is "
            f"{confirmed.get((node, held.uid))}"
            for number, node in enumerate(self._site.nodes)
            for key, held in self._held[number].items()
            if confirmed.get((node, held.uid), 0) < self._history.changed.get(key, held.version)
        ]

    async def not_shown(self, taken: dict[str, int]) -> list[str]:
        """Devices whose newest report the cluster does not show.

        :param taken: number of the newest that was taken of each.
        """
        found = {}
        for each in await self._site.api.items(f"{API}/devicestatuses"):
            twins = (each.get("status") or {}).get("twins") or []
            for twin in twins:
                value = (twin.get("reported") or {}).get("value")
                if twin["propertyName"] == "count" and value:
                    found[f"default/device/{each['metadata']['name']}"] = int(value)
        behind = []
        for key, number in taken.items():
            shown = found.get(key, 0)
            if shown:
                self._history.note(Event(where="shown", key=key, version=shown))
            if shown < number:
                behind.append(f"{key} has reported {number}, the cluster shows {shown}")
        return behind


def spelled(differences: Sequence[str]) -> str:
    """Some of the differences, and how many there are."""
    return f"{len(differences)} differences: " + "; ".join(differences[:_SHOWN])


def _read(file: Path) -> dict[str, Held]:
    """Read the soak's objects in an edge's store.

    :raises sqlite3.Error: it cannot be read now.
    """
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=0.2)) as connection:
        rows = connection.execute(
            "SELECT key, type, value FROM meta"
            " WHERE type IN ('pod', 'configmap', 'secret', 'device')"
        ).fetchall()
        taken_in = set(
            connection.execute("SELECT uid, resource_version FROM device_object").fetchall()
        )
    found = {}
    for key, type, value in rows:
        metadata = msgspec.json.decode(value)["metadata"]
        if metadata["name"].startswith(_LABELLED):
            kind = "Pod" if type == "pod" else type
            uid, latest = metadata["uid"], metadata["resourceVersion"]
            used = type != "device" or (uid, latest) in taken_in
            found[key] = Held(uid, version(kind, metadata), int(latest), used)
    return found
