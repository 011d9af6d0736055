"""What an edge holds, read from its store while the cloud, or the agent, is away.

Source: KubeEdge ``keadm debug get``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubeedge_tx.config.types import relocate
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.keadm import settings
from kubeedge_tx.keadm.places import KeadmError, Places

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that an edge may hold."""

    kind: str
    types: tuple[str, ...]
    """Its type in the store, and what it is called on the command line."""
    version: str = "v1"
    group: str = ""
    namespaced: bool = True
    crd: None = None

    @property
    def type(self) -> str:
        """Its type in the store."""
        return self.types[0]


KINDS: Final = (
    Kind("Pod", ("pod", "pods", "po")),
    Kind("Node", ("node", "nodes", "no"), namespaced=False),
    Kind("ConfigMap", ("configmap", "configmaps", "cm")),
    Kind("Secret", ("secret", "secrets")),
    Kind("Service", ("service", "services", "svc")),
    Kind("Endpoints", ("endpoints", "ep")),
    Kind("PersistentVolumeClaim", ("persistentvolumeclaim", "persistentvolumeclaims", "pvc")),
    Kind("Device", ("device", "devices"), "v1beta1", "devices.kubeedge.io"),
    Kind("DeviceModel", ("devicemodel", "devicemodels"), "v1beta1", "devices.kubeedge.io"),
)


def kind_of(word: str) -> Kind:
    """Find a kind by any of its names.

    :raises KeadmError: there is none.
    """
    for kind in KINDS:
        if word.lower() in kind.types:
            return kind
    known = ", ".join(kind.types[0] for kind in KINDS)
    raise KeadmError(f"there is no {word!r} at an edge; there may be: {known}, or all")


def store_of(here: Places, given: str | None) -> Path:
    """Find the store.

    :raises KeadmError: there is none.
    """
    if given:
        path = Path(given)
    else:
        try:
            config = settings.config_of(settings.read_tree(here.config_file, "edge"), "edge")
            path = relocate(config.database.data_source, here.data_dir)
        except ConfigError:
            path = here.data_dir / "edgecore.db"
    if not path.is_file():
        raise KeadmError(f"{path} is not there: is this machine an edge? Say where with -p")
    return path


class Holdings:
    """The objects of a store.

    :raises KeadmError: it is no store of an edge.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def objects(self, kind: Kind) -> list[Object]:
        """All objects of a kind, with the status that this edge has told last."""
        rows = dict(self._rows(kind.type))
        patches = dict(self._rows(f"{kind.type}patch"))
        found = []
        for key, obj in rows.items():
            if not isinstance(obj, dict):
                continue
            parts = key.rsplit("/", 2)
            patch = patches.get(f"{parts[0]}/{kind.type}patch/{parts[-1]}")
            if isinstance(patch, dict):
                told = {name: each for name, each in (patch.get("status") or {}).items() if each}
                obj = {**obj, "status": {**(obj.get("status") or {}), **told}}
            found.append({"apiVersion": _version(kind), "kind": kind.kind, **obj})
        return found

    def listing(self) -> list[tuple[str, str, int, str]]:
        """Key, type, size and version of every row: what is there without what is in it."""
        with self._opened() as database:
            rows = list(database.execute("SELECT key, type, value FROM meta ORDER BY key"))
        listed = []
        for key, type_, value in rows:
            version = ""
            decoded = _decode(value)
            if isinstance(decoded, dict):
                version = str((decoded.get("metadata") or {}).get("resourceVersion", ""))
            listed.append((key, type_, len(value), version))
        return listed

    def secret_values(self) -> list[bytes]:
        """Every value in a Secret, as it is and as it is stored: what must not get out."""
        import base64

        values = []
        for secret in self.objects(kind_of("secret")):
            for encoded in (secret.get("data") or {}).values():
                values.append(str(encoded).encode())
                try:
                    values.append(base64.b64decode(str(encoded), validate=True))
                except ValueError:
                    continue
            values += [str(value).encode() for value in (secret.get("stringData") or {}).values()]
        return values

    def counts(self) -> dict[str, int]:
        """How many rows every table has."""
        with self._opened() as database:
            names = [
                row[0]
                for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            return {
                name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608
                for name in sorted(names)
            }

    def _rows(self, type_: str) -> Iterator[tuple[str, Any]]:
        with self._opened() as database:
            rows = database.execute(
                "SELECT key, value FROM meta WHERE type = ? ORDER BY key", (type_,)
            ).fetchall()
        for key, value in rows:
            yield key, _decode(value)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            raise KeadmError(f"{self._path}: no store of an edge: {error}") from None


def _decode(value: str | bytes) -> Any:
    try:
        decoded = json.loads(value)
        # A patch is kept as text of JSON.
        return json.loads(decoded) if isinstance(decoded, str) else decoded
    except ValueError:
        return None


def _version(kind: Kind) -> str:
    return f"{kind.group}/{kind.version}" if kind.group else kind.version
