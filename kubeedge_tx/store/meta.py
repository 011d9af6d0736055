"""The edge's copy of its objects: tables ``meta`` and ``meta_v2``, and a cache of the first.

Keys, types and columns are KubeEdge's. Source: KubeEdge ``edge/pkg/metamanager/dao`` and
``dao/v2``.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from kubeedge_tx.api.holdings import UNCOUNTED, Holding
from kubeedge_tx.api.meta import is_newer
from kubeedge_tx.store.database import Change, Database

MAX_GONE: Final = 4096
"""Keys of deleted objects that are remembered."""

_KINDS: Final = {
    "pod": ("v1", "Pod"),
    "configmap": ("v1", "ConfigMap"),
    "secret": ("v1", "Secret"),
    "node": ("v1", "Node"),
    "persistentvolume": ("v1", "PersistentVolume"),
    "persistentvolumeclaim": ("v1", "PersistentVolumeClaim"),
    "service": ("v1", "Service"),
    "endpoints": ("v1", "Endpoints"),
}
"""What objects of a type are when they do not say it themselves."""


class _Metadata(msgspec.Struct, frozen=True):
    uid: str | None = None
    resourceVersion: str | None = None
    namespace: str | None = None
    name: str | None = None
    creationTimestamp: str | None = None


class _Head(msgspec.Struct, frozen=True):
    apiVersion: str | None = None
    kind: str | None = None
    metadata: _Metadata | None = None


_head: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class State:
    """When an object of a name was as it was."""

    version: str
    created: str

    def is_after(self, other: State) -> bool:
        """Tell whether this is a later state, of this object or of another one of its name."""
        if is_newer(self.version, other.version):
            return True
        return bool(other.created) and self.created > other.created


@dataclass(frozen=True, slots=True)
class Identity:
    """Which object, and which state of it, some JSON is; empty texts where it does not say."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    version: str = ""
    created: str = ""
    """Seconds, in UTC, in a form that sorts."""

    @property
    def state(self) -> State:
        """Its place among all objects that had its name."""
        return State(self.version, self.created)


def identify(value: bytes | msgspec.Raw) -> Identity:
    """Read who an object is, without decoding the rest; anything else is nobody."""
    try:
        head = _head.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Identity()
    found = head.metadata or _Metadata()
    return Identity(
        head.apiVersion or "",
        head.kind or "",
        found.namespace or "",
        found.name or "",
        found.uid or "",
        found.resourceVersion or "",
        found.creationTimestamp or "",
    )


@dataclass(frozen=True, slots=True)
class Meta:
    """One row: an object under its resource string."""

    key: str
    """``default/pod/web``."""
    type: str
    """``pod``."""
    value: bytes
    """JSON text."""

    @property
    def identity(self) -> Identity:
        """Which object it is."""
        return identify(self.value)

    def read(self) -> Any:
        """Decode the value."""
        return msgspec.json.decode(self.value)


class MetaStore:
    """All rows of ``meta``, in memory and on disk.

    Reads are answered from memory and show committed rows only.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, Meta] = {}
        self._by_type: dict[str, dict[str, Meta]] = {}
        self._gone: dict[str, State] = {}

    async def load(self) -> None:
        """Read the table; call once, after the database is open."""
        self._rows.clear()
        self._by_type.clear()
        for row in await self._database.read(_all_rows):
            self._keep(row)
        self._gone = await self._database.read(_all_gone)

    def is_outdated(self, key: str, identity: Identity) -> bool:
        """Tell whether this version of an object, or a later one, was here already.

        Only a repeat, or a cloud that is behind another one, brings what is outdated. Versions
        are counted for the whole cluster: an object that was made again under its name is
        newer than all versions of the one before, and has another uid. Should it be older and
        yet created later, the count began anew, in a cluster that was set up again.
        """
        if not identity.uid or not identity.version:
            return False
        stored = self._rows.get(key)
        if stored is not None and not identity.state.is_after(stored.identity.state):
            return True
        return self.is_buried(key, identity.state)

    def is_buried(self, key: str, state: State) -> bool:
        """Tell whether what was deleted under a key was in this state or a later one."""
        return key in self._gone and not state.is_after(self._gone[key])

    @property
    def graves(self) -> int:
        """How many deleted keys are remembered."""
        return len(self._gone)

    def holdings(self) -> list[Holding]:
        """All objects of the cluster that are here."""
        found = (
            (row.key, row.identity)
            for kind, rows in self._by_type.items()
            if kind not in UNCOUNTED
            for row in rows.values()
        )
        return [
            Holding(key, identity.uid, identity.version)
            for key, identity in found
            if identity.uid and identity.version
        ]

    def get(self, key: str) -> Meta | None:
        """Look one row up."""
        return self._rows.get(key)

    def list(self, type: str) -> list[Meta]:
        """All rows of a type, of all namespaces, by key."""
        rows = self._by_type.get(type, {})
        return [rows[key] for key in sorted(rows)]

    def put(self, key: str, type: str, value: bytes | msgspec.Raw) -> Deferred[None]:
        """Insert or replace a row; fires when it is on disk.

        :raises StoreError: it is not.
        """
        return self._database.commit(self.putting(key, type, value))

    def delete(self, key: str) -> Deferred[None]:
        """Delete a row, if it is there; fires when that is on disk."""
        return self._database.commit(self.deleting(key))

    def apply(self, change: Change) -> Deferred[None]:
        """Commit a change made by :meth:`putting` or :meth:`deleting`."""
        return self._database.commit(change)

    def putting(self, key: str, type: str, value: bytes | msgspec.Raw) -> Change:
        """The change that :meth:`put` makes, to be committed with others.

        :raises UnicodeDecodeError: ``value`` is no UTF-8, so no JSON.
        """
        row = Meta(key, type, bytes(value))
        text = row.value.decode()
        second = _v2_row(row)

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(
                "INSERT OR REPLACE INTO meta (key, type, value) VALUES (?, ?, ?)", (key, type, text)
            )
            if second is not None:
                cursor.execute(
                    "INSERT OR REPLACE INTO meta_v2 (key, group_version_resource, namespace, name,"
                    " resource_version, value) VALUES (?, ?, ?, ?, ?, ?)",
                    (*second, text),
                )

        return Change(work, lambda _: self._keep(row))

    def deleting(self, key: str) -> Change:
        """The change that :meth:`delete` makes, to be committed with others."""

        def work(cursor: sqlite3.Cursor) -> None:
            found = cursor.execute("SELECT type, value FROM meta WHERE key = ?", (key,)).fetchone()
            if found is None:
                return
            cursor.execute("DELETE FROM meta WHERE key = ?", (key,))
            second = _v2_row(Meta(key, found[0], found[1].encode()))
            if second is not None:
                cursor.execute("DELETE FROM meta_v2 WHERE key = ?", (second[0],))

        return Change(work, lambda _: self._drop(key))

    def burying(self, key: str, gone: State) -> Change:
        """The change that remembers what was deleted under a key."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute("DELETE FROM gone_key WHERE key = ?", (key,))
            cursor.execute(
                "INSERT INTO gone_key (key, resource_version, created) VALUES (?, ?, ?)",
                (key, gone.version, gone.created),
            )
            cursor.execute(
                "DELETE FROM gone_key WHERE seq <= ?", ((cursor.lastrowid or 0) - MAX_GONE,)
            )

        def applied(_: None) -> None:
            self._gone.pop(key, None)
            self._gone[key] = gone
            while len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]

        return Change(work, applied)

    def _keep(self, row: Meta) -> None:
        self._drop(row.key)
        self._rows[row.key] = row
        self._by_type.setdefault(row.type, {})[row.key] = row

    def _drop(self, key: str) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            del self._by_type[row.type][key]


def _all_rows(cursor: sqlite3.Cursor) -> list[Meta]:
    found = cursor.execute("SELECT key, type, value FROM meta")
    return [Meta(key, type, value.encode()) for key, type, value in found]


def _all_gone(cursor: sqlite3.Cursor) -> dict[str, State]:
    found = cursor.execute("SELECT key, resource_version, created FROM gone_key ORDER BY seq")
    return {key: State(version, created) for key, version, created in found}


def _v2_row(row: Meta) -> tuple[str, str, str, str, int] | None:
    """Key, group-version-resource, namespace, name and version for ``meta_v2``.

    ``None`` for what is no object of a known kind. Source: KubeEdge
    ``pkg/metaserver/util.go`` (the key) and apimachinery's text form of the second.
    """
    identity = row.identity
    default_version, default_kind = _KINDS.get(row.type, ("", ""))
    api_version = identity.api_version or default_version
    kind = identity.kind or default_kind
    if not api_version or not kind or not identity.name:
        return None
    group, _, version = api_version.rpartition("/")
    resource = _plural(kind)
    key = f"/{group or 'core'}/{version}/{resource}/{identity.namespace or 'null'}/{identity.name}"
    number = int(identity.version) if identity.version.isdecimal() else 0
    return (
        key,
        f"{group}/{version}, Resource={resource}",
        identity.namespace,
        identity.name,
        min(number, (1 << 63) - 1),
    )


def _plural(kind: str) -> str:
    """Guess as upstream does, since pushed objects do not name their resource.

    Source: KubeEdge ``pkg/metaserver/util`` (kind to resource).
    """
    word = kind.lower()
    if word == "endpoints":
        return word
    if word.endswith("s"):
        return word + "es"
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + "s"
