"""What apps and clouds write in their messages, read with Go's leniency and strictness.

Keys of any case are taken and unknown ones left, a null is nothing; but a number is no text.
Source: KubeEdge ``edge/pkg/devicetwin/dttype``, and Go's ``encoding/json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from kubeedge_tx.api.twins import BAD_NAME, Version, check_name, check_text
from kubeedge_tx.edge.devicetwin.twin import Change

MAX_ECHO: Final = 256
"""Characters of a bad request that its answer repeats."""
MAX_TWINS: Final = 1000
"""Twins in one message."""

BAD_UPDATE: Final = "Unmarshal update request body failed, please check the request"
NO_TWIN: Final = "Update twin error, key:twin does not exist"


class BadPayload(Exception):
    """A message that cannot be read.

    :param reason: for whoever sent it.
    :param event_id: its own id, as far as that could be read.
    """

    def __init__(self, reason: str, event_id: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.event_id = event_id


class _Wrong(Exception):
    """A field of another type than it must have."""


@dataclass(frozen=True, slots=True)
class TwinRequest:
    """An update or sync of twins."""

    event_id: str
    twins: Mapping[str, Change | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeChange:
    """What a message says about one attribute."""

    value: str = ""
    optional: bool | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A device as a cloud describes it."""

    id: str
    name: str = ""
    description: str = ""
    state: str = ""
    attributes: Mapping[str, AttributeChange | None] | None = None
    twins: Mapping[str, Change | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Devices that came and went, or all there are."""

    added: list[DeviceInfo] = field(default_factory=list)
    removed: list[DeviceInfo] = field(default_factory=list)


def read_base(payload: str, what: str) -> str:
    """Read a message that has nothing but its event id.

    :param what: begins the reason: ``Unmarshal twin info``.
    :raises BadPayload: it is not JSON, or of wrong types.
    """
    try:
        return _event_id(_object(payload))
    except _Wrong as error:
        echo = payload if len(payload) <= MAX_ECHO else f"{payload[:MAX_ECHO]}…"
        raise BadPayload(f"{what} {echo} failed , err: {error}") from None


def read_twins(payload: str, *, strict: bool = True) -> TwinRequest:
    """Read an update or sync of twins.

    :param strict: check names and values, as for what comes from an app.
    :raises BadPayload: it cannot be read.
    """
    event_id = ""
    try:
        found = _object(payload)
        event_id = _event_id(found)
        given = found.get("twin")
        if given is None:
            raise BadPayload(NO_TWIN, event_id)
        twins = _twins(given)
    except _Wrong:
        raise BadPayload(BAD_UPDATE, event_id) from None
    if len(twins) > MAX_TWINS:
        raise BadPayload(f"more than {MAX_TWINS} twins in one message", event_id)
    if strict:
        _check(twins, event_id)
    return TwinRequest(event_id, twins)


def _check(twins: Mapping[str, Change | None], event_id: str) -> None:
    for name in twins:
        if check_name(name):
            raise BadPayload(BAD_NAME, event_id)
    for change in twins.values():
        if change is not None:
            for value in (change.expected, change.actual):
                reason = check_text(value) if value else ""
                if reason:
                    raise BadPayload(reason, event_id)


def read_state(payload: str) -> tuple[str, str]:
    """Read a state update: its event id and the state.

    :raises BadPayload: it cannot be read.
    """
    event_id = ""
    try:
        found = _object(payload)
        event_id = _event_id(found)
        return event_id, _text(found.get("state"), "state")
    except _Wrong as error:
        raise BadPayload(f"Unmarshal state update failed, err: {error}", event_id) from None


def read_membership(content: object) -> Membership:
    """Read devices that came and went.

    :raises BadPayload: it cannot be read.
    """
    try:
        found = _loose(content)
        return Membership(
            added=_devices(found.get("added_devices")),
            removed=_devices(found.get("removed_devices")),
        )
    except _Wrong as error:
        raise BadPayload(f"membership: {error}") from None


def read_detail(content: object) -> list[DeviceInfo]:
    """Read the full list of devices.

    :raises BadPayload: it cannot be read; a list that is missing would remove every device.
    """
    try:
        found = _loose(content)
        if not isinstance(found.get("devices"), list):
            raise _Wrong("devices must be a list")
        return _devices(found.get("devices"))
    except _Wrong as error:
        raise BadPayload(f"membership detail: {error}") from None


def read_attributes(content: object) -> tuple[str, Mapping[str, AttributeChange | None]]:
    """Read changed attributes: the event id and the attributes.

    :raises BadPayload: it cannot be read.
    """
    try:
        found = _loose(content)
        return _event_id(found), _attributes(found.get("attributes")) or {}
    except _Wrong as error:
        raise BadPayload(f"attributes: {error}") from None


def _object(payload: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _Wrong("it is not JSON") from None
    return _fold(found, "the body")


def _loose(content: object) -> dict[str, Any]:
    """Content of a message from the cloud: an object, or the text of one."""
    return _object(content) if isinstance(content, str) else _fold(content, "the content")


def _fold(found: object, what: str) -> dict[str, Any]:
    """An object with its keys in lower case, as Go finds them; null is an empty one."""
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _Wrong(f"{what} must be an object")
    return {key.lower(): value for key, value in found.items()}


def _event_id(found: Mapping[str, Any]) -> str:
    _number(found.get("timestamp"), "timestamp")
    return _text(found.get("event_id"), "event_id")


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Wrong(f"{what} must be a text")
    return value


def _flag(value: object, what: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise _Wrong(f"{what} must be true or false")
    return value


def _number(value: object, what: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        raise _Wrong(f"{what} must be an integer")
    return value


def _twins(given: object) -> dict[str, Change | None]:
    if not isinstance(given, dict):
        raise _Wrong("twin must be an object")
    return {name: None if each is None else _change(each) for name, each in given.items()}


def _change(each: object) -> Change:
    found = _fold(each, "a twin")
    metadata = found.get("metadata")
    return Change(
        expected=_value(found.get("expected"), "expected"),
        actual=_value(found.get("actual"), "actual"),
        optional=_flag(found.get("optional"), "optional"),
        type=_type(metadata),
        expected_version=_version(found.get("expected_version")),
        actual_version=_version(found.get("actual_version")),
    )


def _value(each: object, what: str) -> str | None:
    if each is None:
        return None
    found = _fold(each, what)
    _number(_fold(found.get("metadata"), f"{what}.metadata").get("timestamp"), "timestamp")
    value = found.get("value")
    if not isinstance(value, str):
        raise _Wrong(f"{what} must have a value, a text")
    return value


def _type(metadata: object) -> str | None:
    if metadata is None:
        return None
    return _text(_fold(metadata, "metadata").get("type"), "type")


def _version(each: object) -> Version | None:
    if each is None:
        return None
    found = _fold(each, "a version")
    return Version(_number(found.get("cloud"), "cloud"), _number(found.get("edge"), "edge"))


def _devices(given: object) -> list[DeviceInfo]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise _Wrong("devices must be a list")
    return [_device(each) for each in given if each is not None]


def _device(each: object) -> DeviceInfo:
    found = _fold(each, "a device")
    device_id = _text(found.get("id"), "id")
    if not device_id:
        raise _Wrong("a device must have an id")
    twins = found.get("twin")
    return DeviceInfo(
        id=device_id,
        name=_text(found.get("name"), "name"),
        description=_text(found.get("description"), "description"),
        state=_text(found.get("state"), "state"),
        attributes=_attributes(found.get("attributes")),
        twins=None if twins is None else _twins(twins),
    )


def _attributes(given: object) -> dict[str, AttributeChange | None] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise _Wrong("attributes must be an object")
    return {name: None if each is None else _attribute(each) for name, each in given.items()}


def _attribute(each: object) -> AttributeChange:
    found = _fold(each, "an attribute")
    return AttributeChange(
        value=_text(found.get("value"), "value"),
        optional=_flag(found.get("optional"), "optional"),
        type=_type(found.get("metadata")),
    )
