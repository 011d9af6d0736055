"""The devices of this node in memory, and how they stand in the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from kubeedge_tx.api.twins import PropertyRule, Version
from kubeedge_tx.edge.devicetwin.attributes import Attribute
from kubeedge_tx.edge.devicetwin.twin import Twin, Value
from kubeedge_tx.store.device import AttrRow, DeviceRow, ObjectRow, StoredDevice, TwinRow

_encode: Final = msgspec.json.Encoder().encode
_read_version: Final = msgspec.json.Decoder(Version).decode


@dataclass(frozen=True, slots=True)
class TakenIn:
    """Which state of its Device object a device's twins show."""

    uid: str
    version: str
    desired: Mapping[str, str | None]
    """Every property of the object."""


@dataclass(slots=True)
class Device:
    """One device.

    ``twins`` is ahead of the disk while a commit is under way, ``stored`` never is.
    """

    id: str
    name: str
    description: str = ""
    state: str = ""
    last_online: str = ""
    """RFC 3339; empty: never."""
    attributes: dict[str, Attribute] = field(default_factory=dict)
    twins: dict[str, Twin] = field(default_factory=dict)
    stored: dict[str, Twin] = field(default_factory=dict)
    taken_in: TakenIn | None = None
    model: str = ""
    """``<namespace>/<name>`` of its DeviceModel; empty: it has none."""
    rules: Mapping[str, PropertyRule] | None = None
    """The properties of that model, if it is here."""
    in_flight: int = 0
    """Commits under way."""
    spoken_to: str = ""
    """The bare name by which an app addressed it, if one did."""

    @property
    def names(self) -> tuple[str, ...]:
        """How topics about it name it."""
        return (self.id, self.spoken_to) if self.spoken_to else (self.id,)

    def row(self) -> DeviceRow:
        """Its own row."""
        return DeviceRow(self.id, self.name, self.description, self.state, self.last_online)


class Devices:
    """All of them, by id and by bare name."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._named: dict[str, dict[str, None]] = {}

    def __iter__(self) -> Iterator[Device]:
        return iter(list(self._devices.values()))

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device_id: str) -> Device | None:
        """Look one up by its id."""
        return self._devices.get(device_id)

    def find(self, name: str) -> Device | None:
        """Look one up by what an app calls it.

        A bare name is the only device of that name, or the one in namespace ``default``.
        """
        found = self._devices.get(name)
        if found is not None or "/" in name:
            return found
        ids = self._named.get(name, {})
        if f"default/{name}" in ids:
            return self._devices[f"default/{name}"]
        return self._devices[next(iter(ids))] if len(ids) == 1 else None

    def add(self, device: Device) -> None:
        """Add one."""
        self._devices[device.id] = device
        self._named.setdefault(_bare(device.id), {})[device.id] = None

    def remove(self, device: Device) -> None:
        """Remove one, if it is still this one."""
        if self._devices.get(device.id) is device:
            del self._devices[device.id]
            named = self._named[_bare(device.id)]
            del named[device.id]
            if not named:
                del self._named[_bare(device.id)]


def _bare(device_id: str) -> str:
    return device_id.rpartition("/")[2]


def twin_row(name: str, twin: Twin) -> TwinRow:
    """A twin as it stands in the store."""
    return TwinRow(
        name,
        twin.expected.value if twin.expected is not None else None,
        twin.actual.value if twin.actual is not None else None,
        _meta(twin.expected),
        _meta(twin.actual),
        _version(twin.expected_version),
        _version(twin.actual_version),
        twin.optional,
        twin.type,
    )


def attribute_row(name: str, attribute: Attribute) -> AttrRow:
    """An attribute as it stands in the store."""
    return AttrRow(name, attribute.value, attribute.optional, attribute.type)


def object_row(taken_in: TakenIn) -> ObjectRow:
    """Which object was taken in, as it stands in the store."""
    return ObjectRow(taken_in.uid, taken_in.version, _encode(taken_in.desired).decode())


def restored(stored: StoredDevice) -> Device:
    """A device from the store; what cannot be read of a twin is as if it were not there."""
    own = stored.device
    device = Device(own.id, own.name, own.description, own.state, own.last_online)
    for attr in stored.attributes:
        device.attributes[attr.name] = Attribute(
            value=attr.value, optional=attr.optional, type=attr.attr_type
        )
    for row in stored.twins:
        device.twins[row.name] = Twin(
            expected=_restored_value(row.expected, row.expected_meta),
            actual=_restored_value(row.actual, row.actual_meta),
            optional=row.optional,
            type=row.attr_type,
            expected_version=_restored_version(row.expected_version),
            actual_version=_restored_version(row.actual_version),
        )
    device.stored.update(device.twins)
    if stored.object is not None:
        desired: Any = msgspec.json.decode(stored.object.desired)
        device.taken_in = TakenIn(stored.object.uid, stored.object.resource_version, desired)
    return device


def _meta(value: Value | None) -> str | None:
    return None if value is None else f'{{"timestamp":{value.timestamp}}}'


def _version(version: Version | None) -> str | None:
    return None if version is None else f'{{"cloud":{version.cloud},"edge":{version.edge}}}'


def _restored_value(text: str | None, meta: str | None) -> Value | None:
    if text is None or (not text and not meta):
        return None  # an older writer has an empty text for "none"
    try:
        found = msgspec.json.decode(meta or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        found = {}
    timestamp = found.get("timestamp")
    return Value(text, timestamp if isinstance(timestamp, int) else 0)


def _restored_version(text: str | None) -> Version | None:
    if not text:
        return None
    try:
        return _read_version(text)
    except msgspec.DecodeError:
        return None
