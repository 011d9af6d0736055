"""What a store keeps of a broker, as operations; the same structs bring it back.

Times are wall clock, seconds. All of them can be encoded and decoded by msgspec.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from kubeedge_tx.mqtt.properties import NO_PROPERTIES, WILL, Properties, read, write


class MessageRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message; never shown whole, payloads are private.

    ``number`` is the same for all who wait for the same message.
    """

    number: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    publisher: str
    properties: bytes
    expires_at: float | None

    def __repr__(self) -> str:
        return f"MessageRecord(number={self.number}, {len(self.payload)} bytes)"


class WillRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A will that is to be published unless its client returns."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    due_at: float | None
    """``None``: its client was connected."""

    def __repr__(self) -> str:
        return f"WillRecord({len(self.payload)} bytes)"


class _Operation(msgspec.Struct, frozen=True, tag=True, gc=False):
    client_id: str


class SessionPut(_Operation, frozen=True, kw_only=True, gc=False):
    """A session began, or changed."""

    expiry: int
    """Seconds it outlives its connection; 2**32 - 1: for ever."""
    expires_at: float | None
    """``None``: it is connected, or never ends."""
    user: str
    will: WillRecord | None = None


class SessionDrop(_Operation, frozen=True, gc=False):
    """A session ended, and with it its subscriptions, queue and identifiers."""


class SubscriptionPut(_Operation, frozen=True, kw_only=True, gc=False):
    """A subscription began, or changed; its key is client id and filter."""

    filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int = 0


class SubscriptionDrop(_Operation, frozen=True, gc=False):
    """A subscription ended."""

    filter: str


class QueuePut(_Operation, frozen=True, kw_only=True, gc=False):
    """A message waits for a client; ``number`` is its order and unique."""

    number: int
    packet_id: int
    """0 until it is sent for the first time."""
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    message: MessageRecord


class QueueSent(_Operation, frozen=True, gc=False):
    """It got its packet identifier."""

    number: int
    packet_id: int


class QueueReleased(_Operation, frozen=True, gc=False):
    """QoS 2: the client has it; only the release is to be repeated."""

    number: int


class QueueDrop(_Operation, frozen=True, gc=False):
    """It need not be sent any more."""

    number: int


class IncomingPut(_Operation, frozen=True, gc=False):
    """QoS 2: a message with this packet identifier came and was passed on."""

    packet_id: int


class IncomingDrop(_Operation, frozen=True, gc=False):
    """QoS 2: its sender has forgotten the packet identifier."""

    packet_id: int


class RetainedPut(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A topic's retained message."""

    topic: str
    message: MessageRecord


class RetainedDrop(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A topic has no retained message any more."""

    topic: str


Operation: TypeAlias = (
    SessionPut
    | SessionDrop
    | SubscriptionPut
    | SubscriptionDrop
    | QueuePut
    | QueueSent
    | QueueReleased
    | QueueDrop
    | IncomingPut
    | IncomingDrop
    | RetainedPut
    | RetainedDrop
)


def pack_properties(properties: Properties) -> bytes:
    """A message's properties in the form of MQTT 5; empty for none."""
    return b"" if properties is NO_PROPERTIES else write(properties)


def unpack_properties(data: bytes) -> Properties:
    """Undo :func:`pack_properties`.

    :raises MqttError: it is not what :func:`pack_properties` made.
    """
    return read(data, 0, len(data), WILL)[0] if data else NO_PROPERTIES
