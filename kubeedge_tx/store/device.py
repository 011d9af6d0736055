"""Devices, their attributes and twins: tables ``device``, ``device_attr``, ``device_twin``.

Rows are as they stand in the file; who reads them knows what they mean. Source: KubeEdge
``edge/pkg/metamanager/dao/models``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeedge_tx.store.database import Change, Database


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device."""

    id: str
    """``<namespace>/<name>``."""
    name: str
    description: str = ""
    state: str = ""
    last_online: str = ""


@dataclass(frozen=True, slots=True)
class AttrRow:
    """One attribute of a device."""

    name: str
    value: str
    optional: bool
    attr_type: str
    metadata: str = "{}"


@dataclass(frozen=True, slots=True)
class TwinRow:
    """One twin of a device. Texts of JSON, or ``None`` where there is nothing."""

    name: str
    expected: str | None
    actual: str | None
    expected_meta: str | None
    actual_meta: str | None
    expected_version: str | None
    actual_version: str | None
    optional: bool
    attr_type: str
    metadata: str = "{}"


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """Which state of the Device object the twins have taken in."""

    uid: str
    resource_version: str
    desired: str
    """JSON: property to its desired value, or null."""


@dataclass(slots=True)
class StoredDevice:
    """Everything about one device."""

    device: DeviceRow
    attributes: list[AttrRow] = field(default_factory=list)
    twins: list[TwinRow] = field(default_factory=list)
    object: ObjectRow | None = None


class DeviceStore:
    """The changes that can be made, to be committed together by :meth:`Database.commit`.

    It has no memory of its own: whoever changes devices has them in memory already.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[StoredDevice]:
        """Read all devices."""
        return await self._database.read(_load)

    def putting(self, device: DeviceRow) -> Change:
        """Write one device's own row."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(
                "INSERT INTO device (id, name, description, state, last_online)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
                " description = excluded.description, state = excluded.state,"
                " last_online = excluded.last_online",
                (device.id, device.name, device.description, device.state, device.last_online),
            )

        return Change(work, _nothing)

    def deleting(self, device_id: str) -> Change:
        """Delete a device and everything of it."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute("DELETE FROM device WHERE id = ?", (device_id,))
            for statement in (
                "DELETE FROM device_attr WHERE deviceid = ?",
                "DELETE FROM device_twin WHERE deviceid = ?",
                "DELETE FROM device_object WHERE deviceid = ?",
            ):
                cursor.execute(statement, (device_id,))

        return Change(work, _nothing)

    def putting_twins(self, device_id: str, rows: Sequence[TwinRow]) -> Change:
        """Write twins of one device."""
        values = [
            (
                device_id,
                row.name,
                row.expected,
                row.actual,
                row.expected_meta,
                row.actual_meta,
                row.expected_version,
                row.actual_version,
                row.optional,
                row.attr_type,
                row.metadata,
            )
            for row in rows
        ]

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.executemany(
                "INSERT INTO device_twin (deviceid, name, expected, actual, expected_meta,"
                " actual_meta, expected_version, actual_version, optional, attr_type, metadata)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (deviceid, name) DO UPDATE"
                " SET expected = excluded.expected, actual = excluded.actual,"
                " expected_meta = excluded.expected_meta, actual_meta = excluded.actual_meta,"
                " expected_version = excluded.expected_version,"
                " actual_version = excluded.actual_version, optional = excluded.optional,"
                " attr_type = excluded.attr_type, metadata = excluded.metadata",
                values,
            )

        return Change(work, _nothing)

    def putting_attributes(
        self, device_id: str, rows: Sequence[AttrRow], removed: Iterable[str]
    ) -> Change:
        """Write some attributes of a device and delete others."""
        names = [(device_id, name) for name in removed]
        values = [
            (device_id, row.name, row.value, row.optional, row.attr_type, row.metadata)
            for row in rows
        ]

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.executemany("DELETE FROM device_attr WHERE deviceid = ? AND name = ?", names)
            cursor.executemany(
                "INSERT INTO device_attr (deviceid, name, value, optional, attr_type, metadata)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (deviceid, name) DO UPDATE"
                " SET value = excluded.value, optional = excluded.optional,"
                " attr_type = excluded.attr_type, metadata = excluded.metadata",
                values,
            )

        return Change(work, _nothing)

    def putting_object(self, device_id: str, row: ObjectRow) -> Change:
        """Note which state of the Device object was taken in."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(
                "INSERT OR REPLACE INTO device_object (deviceid, uid, resource_version, desired)"
                " VALUES (?, ?, ?, ?)",
                (device_id, row.uid, row.resource_version, row.desired),
            )

        return Change(work, _nothing)


def _nothing(_: object) -> None:
    """Whoever made the change has it in memory."""


def _load(cursor: sqlite3.Cursor) -> list[StoredDevice]:
    found = {
        row[0]: StoredDevice(DeviceRow(*row))
        for row in cursor.execute("SELECT id, name, description, state, last_online FROM device")
    }
    for device_id, *row in cursor.execute(
        "SELECT deviceid, name, value, optional, attr_type, metadata FROM device_attr ORDER BY id"
    ):
        if device_id in found:
            name, value, optional, *more = row
            found[device_id].attributes.append(AttrRow(name, value, bool(optional), *more))
    for device_id, *row in cursor.execute(
        "SELECT deviceid, name, expected, actual, expected_meta, actual_meta, expected_version,"
        " actual_version, optional, attr_type, metadata FROM device_twin ORDER BY id"
    ):
        if device_id in found:
            found[device_id].twins.append(_twin(row))
    for device_id, *row in cursor.execute(
        "SELECT deviceid, uid, resource_version, desired FROM device_object"
    ):
        if device_id in found:
            found[device_id].object = ObjectRow(*row)
    return list(found.values())


def _twin(row: list[Any]) -> TwinRow:
    name, expected, actual, expected_meta, actual_meta, *more = row
    expected_version, actual_version, optional, attr_type, metadata = more
    return TwinRow(
        name,
        expected,
        actual,
        expected_meta,
        actual_meta,
        expected_version,
        actual_version,
        bool(optional),
        attr_type,
        metadata,
    )
