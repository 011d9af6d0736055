"""What the cloud must hear of devices, kept until it says that it has.

One message of a device holds the newest of every property that the cloud has not confirmed,
so that a cloud that was away hears each once, as it is now. Source of the forms: KubeEdge
``edge/pkg/devicetwin/dtmanager``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from twisted.internet.defer import Deferred

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.edge.devicetwin.twin import BOTH, NEITHER, Side, Twins, body
from kubeedge_tx.store.database import Change
from kubeedge_tx.store.outbox import CONTROL, STATE, Outbox

MOST_TOGETHER: Final = 64
"""Properties of a device in one message. With more, each still has one place."""

_TWIN: Final = "twin/"
_STATE: Final = "state/"
_DETAIL: Final = "membership/detail"


@dataclass(slots=True)
class _Batch:
    """Properties of one device that travel together."""

    device_id: str
    key: str
    message_id: str = ""
    sides: dict[str, frozenset[Side]] = field(default_factory=dict)
    """What of each property is not confirmed."""
    fresh: set[str] = field(default_factory=set)
    """Properties that the cloud has never heard of."""


class Reports:
    """The outbox, as devices see it."""

    def __init__(self, messages: MessageFactory, outbox: Outbox) -> None:
        self._messages = messages
        self._outbox = outbox
        self._batches: dict[str, list[_Batch]] = {}
        self._places: dict[str, dict[str, int]] = {}
        self._by_id: dict[str, _Batch] = {}

    async def load(self) -> None:
        """Read what a former process left; the outbox is loaded."""
        found = self._outbox.keyed(_TWIN)
        keys = {message_id: key for key, message_id in found.items()}
        for entry in await self._outbox.read(list(keys)):
            message = entry.message
            device_id, _, number = keys[message.header.msg_id][len(_TWIN) :].rpartition("/")
            self._remember(device_id, int(number), message)

    def twins(
        self,
        device_id: str,
        event_id: str,
        now: int,
        twins: Twins,
        sides: Mapping[str, frozenset[Side]],
        fresh: Collection[str] = (),
    ) -> list[Change]:
        """The changes that keep a report of some properties.

        :param twins: the device's twins as they are to be reported.
        :param sides: which sides of which of them are new.
        :param fresh: those that were just made.
        :raises StoreError: it does not fit the outbox.
        """
        touched: dict[str, _Batch] = {}
        for name, changed in sides.items():
            batch = self._place(device_id, name)
            batch.sides[name] = batch.sides.get(name, NEITHER) | changed
            if name in fresh:
                batch.fresh.add(name)
            touched[batch.key] = batch
        changes = []
        for batch in touched.values():
            content = {
                "event_id": event_id,
                "timestamp": now,
                "twin": {
                    name: body(twins[name], sides=which, versions=True)
                    for name, which in batch.sides.items()
                    if name in twins
                },
            }
            message = self._report(f"device/{device_id}/twin/edge_updated", content)
            self._by_id.pop(batch.message_id, None)
            batch.message_id = message.header.msg_id
            self._by_id[batch.message_id] = batch
            changes.append(
                self._outbox.putting(message, key=batch.key, priority=STATE, confirm=True)
            )
        return changes

    def state(self, device_id: str, content: object) -> Change:
        """The change that keeps a report of a device's state.

        :param content: what apps are told, too; it travels as a text.
        :raises StoreError: it does not fit the outbox.
        """
        text = msgspec.json.encode(content).decode()
        message = self._report(f"device/{device_id}/state/update", text)
        key = f"{_STATE}{device_id}/"
        return self._outbox.putting(message, key=key, priority=STATE, confirm=True)

    def forget(self, device_id: str) -> Change:
        """The change that drops all reports of a device that is gone."""
        for batch in self._batches.pop(device_id, ()):
            self._by_id.pop(batch.message_id, None)
        self._places.pop(device_id, None)
        return self._outbox.removing_keyed(f"{_TWIN}{device_id}/", f"{_STATE}{device_id}/")

    def again(self, message_id: str) -> tuple[str, frozenset[str]]:
        """Tell which properties to report once more, now that a message is confirmed.

        A Go cloud makes an entry of a property's first report and leaves its values empty;
        the second fills them. Source: KubeEdge ``cloud/pkg/devicecontroller/controller``.
        """
        batch = self._by_id.get(message_id)
        if batch is None:
            return "", frozenset()
        fresh, batch.fresh = frozenset(batch.fresh), set()
        return batch.device_id, fresh

    def confirmed(self, message_id: str) -> Deferred[None]:
        """The cloud has a message; fires when that is on disk."""
        batch = self._by_id.pop(message_id, None)
        if batch is not None and batch.message_id == message_id:
            batch.sides.clear()
        return self._outbox.confirm(message_id)

    def ask_for_members(self, node: str, event_id: str, now: int) -> Deferred[None]:
        """Ask the cloud which devices are on this node; fires when the question is kept.

        Nobody waits for an answer: only some clouds give one.
        """
        text = msgspec.json.encode(
            {
                "event_type": "group_membership_event",
                "event_id": event_id,
                "group_id": node,
                "operation": "detail",
                "timestamp": now,
            }
        ).decode()
        message = self._messages.new(
            source=names.TWIN,
            group=names.GROUP_RESOURCE,
            operation="get",
            resource=_DETAIL,
            content=text,
        )
        return self._outbox.put(message, key=_DETAIL, priority=CONTROL, confirm=False)

    def _report(self, resource: str, content: object) -> Message:
        return self._messages.new(
            source=names.TWIN,
            group=names.GROUP_RESOURCE,
            operation=names.UPDATE,
            resource=resource,
            content=content,
        )

    def _place(self, device_id: str, name: str) -> _Batch:
        places = self._places.setdefault(device_id, {})
        number = places.setdefault(name, len(places) // MOST_TOGETHER)
        return self._batch(device_id, number)

    def _batch(self, device_id: str, number: int) -> _Batch:
        batches = self._batches.setdefault(device_id, [])
        while len(batches) <= number:
            batches.append(_Batch(device_id, f"{_TWIN}{device_id}/{len(batches)}"))
        return batches[number]

    def _remember(self, device_id: str, number: int, message: Message) -> None:
        batch = self._batch(device_id, number)
        batch.message_id = message.header.msg_id
        self._by_id[batch.message_id] = batch
        content = message.read()
        for name, entry in content["twin"].items():
            self._places.setdefault(device_id, {})[name] = number
            batch.sides[name] = frozenset(side for side in BOTH if f"{side}_version" in entry)
