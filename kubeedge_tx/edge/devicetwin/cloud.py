"""What the cloud says of devices: who is here, what is wanted of them.

Two kinds of clouds are understood: those that send Device objects (``devices.kubeedge.io/
v1beta1``) and those that send twins with their versions (KubeEdge up to 1.14). Source: KubeEdge
``edge/pkg/devicetwin/dtmanager/membership.go`` and ``device.go``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger

from kubeedge_tx.api.meta import is_newer, mapping, resource_version, uid
from kubeedge_tx.api.twins import PropertyRule, read_desired, read_rules
from kubeedge_tx.edge.devicetwin import topics
from kubeedge_tx.edge.devicetwin.attributes import AttributeOutcome, change_attributes
from kubeedge_tx.edge.devicetwin.devices import Device, TakenIn, attribute_row
from kubeedge_tx.edge.devicetwin.keeper import NOT_FOUND, Keeper, without_empty
from kubeedge_tx.edge.devicetwin.payloads import AttributeChange, DeviceInfo, TwinRequest
from kubeedge_tx.edge.devicetwin.requests import UNKNOWN
from kubeedge_tx.edge.devicetwin.twin import Change as TwinChange
from kubeedge_tx.edge.devicetwin.twin import Outcome, desire, sync
from kubeedge_tx.errors import StoreError
from kubeedge_tx.store.database import Change
from kubeedge_tx.store.meta import MetaStore

MODEL_TYPE = "devicemodel"
DEVICE_TYPE = "device"


class CloudWishes:
    """Take in what the cloud says.

    Everything up to the first wait of each call happens at once, so calls keep their order.

    :param objects: MetaManager's store, which has Device and DeviceModel objects.
    """

    _log = Logger()

    def __init__(self, keeper: Keeper, objects: MetaStore) -> None:
        self._keeper = keeper
        self._objects = objects

    # Membership

    async def added(self, info: DeviceInfo) -> None:
        """A device is on this node."""
        keeper = self._keeper
        now = keeper.now_ms()
        device = keeper.devices.get(info.id)
        is_new = device is None
        changes: list[Change] = []
        if device is None:
            device = Device(info.id, info.name, info.description, info.state)
            keeper.devices.add(device)
            changes.append(keeper.store.putting(device.row()))
        attributes = AttributeOutcome()
        if not is_new or info.attributes is not None:
            attributes = change_attributes(device.attributes, info.attributes or {}, complete=True)
        before = dict(device.attributes)
        changes += self._attributes(device, attributes)
        outcome = sync(device.twins, info.twins or {}, now)
        self._keeper.complain(device, outcome)
        try:
            await keeper.write(device, outcome, *changes)
        except StoreError:
            device.attributes = before
            if is_new:
                keeper.devices.remove(device)
            raise
        papers: list[tuple[str, object]] = []
        if info.twins is not None:
            papers += keeper.documents(device, outcome, "", now)
        papers += self._attribute_papers(device, attributes, "", now)
        if is_new:
            papers.append(self._notice(added=info))
        await keeper.publish(*papers)

    async def removed(self, info: DeviceInfo) -> None:
        """A device is no longer on this node."""
        device = self._keeper.devices.get(info.id)
        if device is None:
            return
        await self._keeper.remove(device)
        await self._keeper.publish(self._notice(removed=info))

    def missing(self, listed: list[DeviceInfo]) -> list[DeviceInfo]:
        """Devices that a full list does not have.

        Of those whose Device object is here the list says nothing: MetaManager knows whether
        it is outdated, and the list may be from a cloud that is behind.
        """
        there = {info.id for info in listed}
        return [
            DeviceInfo(id=device.id)
            for device in self._keeper.devices
            if device.id not in there and not self.has_object(device.id)
        ]

    def has_object(self, device_id: str) -> bool:
        """Whether a device's object is here: then only the object's end is the device's."""
        return self._objects.get(_key(device_id, DEVICE_TYPE)) is not None

    # Attributes and twins of older clouds

    async def attributes_changed(
        self, device_id: str, event_id: str, asked: Mapping[str, AttributeChange | None]
    ) -> None:
        """Some attributes of a device changed."""
        device = self._keeper.devices.get(device_id)
        if device is None:
            return
        now = self._keeper.now_ms()
        outcome = change_attributes(device.attributes, asked, complete=False)
        before = dict(device.attributes)
        changes = self._attributes(device, outcome)
        if changes:
            try:
                await self._keeper.write(device, Outcome(), *changes)
            except StoreError:
                device.attributes = before
                raise
            await self._keeper.publish(*self._attribute_papers(device, outcome, event_id, now))

    async def twins_changed(self, device_id: str, request: TwinRequest) -> None:
        """Twins of a device, with versions."""
        keeper = self._keeper
        device = keeper.devices.find(device_id)
        if device is None:
            paper = keeper.error(NOT_FOUND, UNKNOWN, request.event_id)
            await keeper.publish((topics.update_result(device_id), paper))
            return
        now = keeper.now_ms()
        outcome = sync(device.twins, request.twins, now)
        self._keeper.complain(device, outcome)
        await keeper.write(device, outcome)
        await keeper.publish(*keeper.documents(device, outcome, request.event_id, now))

    # Objects

    async def object_changed(self, device_id: str, content: Mapping[str, Any]) -> None:
        """A Device object came, or is in the store at the start."""
        keeper = self._keeper
        now = keeper.now_ms()
        device = keeper.devices.get(device_id)
        known = device.taken_in if device is not None else None
        papers: list[tuple[str, object]] = []
        if device is not None and known is not None:
            if uid(content) and known.uid and uid(content) != known.uid:
                # Deleted and made again while nobody told us.
                info = DeviceInfo(id=device.id, name=device.name)
                keeper.remove(device).addErrback(self._not_removed, device.id)
                papers.append(self._notice(removed=info))
                device = known = None
            elif is_newer(known.version, resource_version(content)):
                return
        changes: list[Change] = []
        info = DeviceInfo(id=device_id, name=device_id.rpartition("/")[2])
        is_new = device is None
        if device is None:
            device = Device(info.id, info.name)
            keeper.devices.add(device)
            changes.append(keeper.store.putting(device.row()))
        self._know_model(device, content)
        outcome = self._desire(device, content, now, changes)
        try:
            await keeper.write(device, outcome, *changes)
        except StoreError:
            device.taken_in, device.model = known, ""  # what ``catch_up`` looks for
            if is_new:
                keeper.devices.remove(device)
            raise
        papers += keeper.documents(device, outcome, "", now, always=False)
        if is_new:
            papers.append(self._notice(added=info))
        await keeper.publish(*papers)

    async def object_deleted(self, device_id: str) -> None:
        """A Device object is gone."""
        device = self._keeper.devices.get(device_id)
        if device is not None:
            await self.removed(DeviceInfo(id=device.id, name=device.name))

    async def model_changed(self, model_id: str) -> None:
        """A DeviceModel came or went: what it refused before may now be right."""
        for device in self._keeper.devices:
            row = self._objects.get(_key(device.id, DEVICE_TYPE))
            if device.model == model_id and row is not None:
                await self.object_changed(device.id, row.read())

    async def catch_up(self) -> None:
        """Take in what is in the store and was not taken in: we died, or the disk was full.

        :raises StoreError: it still is.
        """
        late: list[Coroutine[Deferred[Any], Any, None]] = []
        for row in self._objects.list(DEVICE_TYPE):
            namespace, _, name = row.key.split("/", 2)
            device = self._keeper.devices.get(f"{namespace}/{name}")
            content = row.read()
            if isinstance(content, dict) and (
                device is None
                or device.taken_in is None
                or device.taken_in.version != resource_version(content)
                or not device.model
            ):
                late.append(self.object_changed(f"{namespace}/{name}", content))
        late += [self.removed(info) for info in self._gone()]
        # All begin before the first waits, so that nobody sees twins as they were.
        try:
            await gatherResults([Deferred.fromCoroutine(each) for each in late], consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()

    def _gone(self) -> list[DeviceInfo]:
        """Devices whose object was deleted without their hearing of it."""
        return [
            DeviceInfo(id=device.id, name=device.name)
            for device in self._keeper.devices
            if device.taken_in is not None
            and self._objects.get(_key(device.id, DEVICE_TYPE)) is None
        ]

    def _desire(
        self,
        device: Device,
        content: Mapping[str, Any],
        now: int,
        changes: list[Change],
    ) -> Outcome:
        before = device.taken_in.desired if device.taken_in is not None else {}
        version = resource_version(content)
        number = int(version) if version.isascii() and version.isdigit() else 0
        outcome, after = desire(
            device.twins,
            before,
            read_desired(content),
            min(number, (1 << 63) - 1),
            now,
            device.rules,
        )
        self._keeper.complain(device, outcome)
        taken_in = TakenIn(uid(content), version, after)
        if taken_in != device.taken_in:
            device.taken_in = taken_in
            changes.append(self._keeper.taking_in(device))
        return outcome

    def _know_model(self, device: Device, content: Mapping[str, Any]) -> None:
        name = mapping(content, "spec", "deviceModelRef").get("name")
        namespace = device.id.rpartition("/")[0]
        device.model = f"{namespace}/{name}" if isinstance(name, str) and name else ""
        device.rules = self._rules(device.model)

    def _rules(self, model: str) -> Mapping[str, PropertyRule] | None:
        row = self._objects.get(_key(model, MODEL_TYPE)) if model else None
        if row is None:
            return None
        content = row.read()
        return read_rules(content) if isinstance(content, Mapping) else None

    # What is told

    def _attributes(self, device: Device, outcome: AttributeOutcome) -> list[Change]:
        if not outcome.changed and not outcome.removed:
            return []
        device.attributes.update(outcome.changed)
        for name in outcome.removed:
            del device.attributes[name]
        rows = [attribute_row(name, each) for name, each in outcome.changed.items()]
        return [self._keeper.store.putting_attributes(device.id, rows, outcome.removed)]

    def _attribute_papers(
        self, device: Device, outcome: AttributeOutcome, event_id: str, now: int
    ) -> list[tuple[str, object]]:
        if not outcome.told:
            return []
        paper = {**self._keeper.base(event_id, now), "attributes": outcome.told}
        return [(topics.attributes_updated(name), paper) for name in device.names]

    def _notice(
        self, *, added: DeviceInfo | None = None, removed: DeviceInfo | None = None
    ) -> tuple[str, object]:
        paper = {
            **self._keeper.base(),
            "added_devices": None if added is None else [_echo(added)],
            "removed_devices": None if removed is None else [_echo(removed)],
        }
        return topics.membership_updated(self._keeper.node), paper

    def _not_removed(self, failure: Any, device_id: str) -> None:
        self._log.failure("{device} could not be removed", failure, device=device_id)


def _key(identity: str, type: str) -> str:
    """Where MetaManager keeps an object."""
    namespace, _, name = identity.rpartition("/")
    return f"{namespace}/{type}/{name}"


def _echo(info: DeviceInfo) -> dict[str, Any]:
    """A device as the cloud described it, less versions."""
    attributes = {
        name: None if each is None else _attribute_echo(each)
        for name, each in (info.attributes or {}).items()
    }
    twins = {name: _twin_echo(each) for name, each in (info.twins or {}).items()}
    return without_empty(
        {
            "id": info.id,
            "name": info.name,
            "description": info.description,
            "state": info.state,
            "attributes": attributes,
            "twin": twins,
        }
    )


def _attribute_echo(each: AttributeChange) -> dict[str, Any]:
    found: dict[str, Any] = {"value": each.value}
    if each.optional is not None:
        found["optional"] = each.optional
    if each.type is not None:
        found["metadata"] = {"type": each.type}
    return found


def _twin_echo(each: TwinChange | None) -> dict[str, Any] | None:
    if each is None or each.type == "deleted":
        return None
    found: dict[str, Any] = {}
    if each.expected is not None:
        found["expected"] = {"value": each.expected}
    if each.actual is not None:
        found["actual"] = {"value": each.actual}
    if each.optional is not None:
        found["optional"] = each.optional
    if each.type is not None:
        found["metadata"] = {"type": each.type}
    return found
