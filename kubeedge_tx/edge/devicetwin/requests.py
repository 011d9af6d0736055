"""What apps and mappers ask by MQTT.

Source: KubeEdge ``edge/pkg/devicetwin/dtmanager``.
"""

from __future__ import annotations

from typing import Any, Final

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.edge.devicetwin import topics
from kubeedge_tx.edge.devicetwin.attributes import attribute_body
from kubeedge_tx.edge.devicetwin.devices import Device
from kubeedge_tx.edge.devicetwin.keeper import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    NOT_FOUND,
    Keeper,
    without_empty,
)
from kubeedge_tx.edge.devicetwin.payloads import (
    BadPayload,
    read_base,
    read_state,
    read_twins,
)
from kubeedge_tx.edge.devicetwin.twin import Outcome, Refused, body, sync, update
from kubeedge_tx.errors import StoreError

STATES: Final = ("online", "offline", "ok", "unknown", "unhealthy")
"""States of a device, in any case. Source: KubeEdge ``dtcommon/common.go``."""
_SEEN: Final = ("online", "ok")
"""States that say the device was there just now."""

UNKNOWN: Final = "update rejected due to the device is not existed"
"""Upstream's words."""


class Requests:
    """Answer apps: the answer follows the disk."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def handle(self, request: topics.Request, payload: str) -> None:
        """Do what a message asks for; everything up to the first wait happens at once.

        :raises StoreError: it is not on disk; the app has been told, its message is to be
            sent again.
        """
        device = self._keeper.devices.find(request.device) if request.device else None
        if device is not None and request.bare and request.device != device.id:
            device.spoken_to = request.device
        match request.action:
            case "membership get":
                await self._members(payload)
            case "twin get":
                await self._get(request.device, device, payload)
            case "twin update":
                await self._update(request.device, device, payload)
            case "twin sync":
                await self._sync(request.device, device, payload)
            case "state update":
                await self._state(request.device, device, payload)

    async def _members(self, payload: str) -> None:
        keeper = self._keeper
        paper: dict[str, Any]
        try:
            event_id = read_base(payload, "Unmarshal get membership info")
        except BadPayload as error:
            paper = keeper.error(BAD_REQUEST, error.reason)
        else:
            paper = {
                **keeper.base(event_id),
                "devices": [_member(device) for device in keeper.devices],
            }
        await keeper.publish((topics.membership_result(keeper.node), paper))

    async def _get(self, name: str, device: Device | None, payload: str) -> None:
        keeper = self._keeper
        paper: dict[str, Any]
        try:
            event_id = read_base(payload, "Unmarshal twin info")
        except BadPayload as error:
            paper = keeper.error(BAD_REQUEST, error.reason)
        else:
            if device is None:
                reason = f"Device {name} not found while getting twin"
                paper = keeper.error(NOT_FOUND, reason, event_id)
            else:
                await keeper.settled(device)
                twins = device.stored.items()
                paper = {
                    **keeper.base(event_id),
                    "twin": {each: body(twin) for each, twin in twins if twin.live},
                }
        await keeper.publish((topics.get_result(name), paper))

    async def _update(self, name: str, device: Device | None, payload: str) -> None:
        keeper = self._keeper
        result = topics.update_result(name)
        now = keeper.now_ms()
        event_id = ""
        try:
            asked = read_twins(payload)
            event_id = asked.event_id
            if device is None:
                await keeper.publish((result, keeper.error(NOT_FOUND, UNKNOWN, event_id)))
                return
            outcome = update(device.twins, asked.twins, now, device.rules)
        except BadPayload as error:
            await keeper.publish((result, keeper.error(BAD_REQUEST, error.reason, error.event_id)))
            return
        except Refused as error:
            await keeper.publish((result, keeper.error(BAD_REQUEST, error.reason, event_id)))
            return
        try:
            await keeper.write(device, outcome)
        except StoreError as error:
            await keeper.publish((result, keeper.error(INTERNAL_ERROR, str(error), event_id)))
            raise
        await keeper.publish(
            (result, {**keeper.base(event_id, now), "twin": outcome.result}),
            *keeper.documents(device, outcome, event_id, now),
        )

    async def _sync(self, name: str, device: Device | None, payload: str) -> None:
        keeper = self._keeper
        result = topics.update_result(name)
        try:
            asked = read_twins(payload, strict=False)
        except BadPayload as error:
            paper = keeper.error(BAD_REQUEST, error.reason, error.event_id)
            await keeper.publish((result, paper))
            return
        if device is None:
            await keeper.publish((result, keeper.error(NOT_FOUND, UNKNOWN, asked.event_id)))
            return
        now = keeper.now_ms()
        outcome = sync(device.twins, asked.twins, now)
        keeper.complain(device, outcome)
        await keeper.write(device, outcome)
        await keeper.publish(*keeper.documents(device, outcome, asked.event_id, now))

    async def _state(self, name: str, device: Device | None, payload: str) -> None:
        keeper = self._keeper
        result = topics.state_result(name)
        try:
            event_id, state = read_state(payload)
        except BadPayload as error:
            paper = keeper.error(BAD_REQUEST, error.reason, error.event_id)
            await keeper.publish((result, paper))
            return
        if device is None:
            reason = f"Device {name} not found while updating state"
            await keeper.publish((result, keeper.error(NOT_FOUND, reason, event_id)))
            return
        if state.lower() not in STATES:
            reason = f"the state must be one of {', '.join(STATES)}"
            await keeper.publish((result, keeper.error(BAD_REQUEST, reason, event_id)))
            return
        before = device.state, device.last_online
        now = keeper.now_ms()
        device.state = state
        if state.lower() in _SEEN:
            device.last_online = rfc3339(now / 1000)
        told = {
            "name": device.name,
            "state": device.state,
            "lastOnlineTime": device.last_online,
        }
        paper = {**keeper.base(now=now), "device": without_empty(told)}
        try:
            await keeper.write(
                device,
                Outcome(),
                keeper.store.putting(device.row()),
                keeper.reports.state(device.id, paper),
            )
        except StoreError as error:
            if device.state is state:
                device.state, device.last_online = before
            await keeper.publish((result, keeper.error(INTERNAL_ERROR, str(error), event_id)))
            raise
        await keeper.publish((result, paper))


def _member(device: Device) -> dict[str, Any]:
    attributes = {name: attribute_body(each) for name, each in device.attributes.items()}
    return without_empty(
        {
            "id": device.id,
            "name": device.name,
            "description": device.description,
            "state": device.state,
            "last_online": device.last_online,
            "attributes": attributes,
        }
    )
