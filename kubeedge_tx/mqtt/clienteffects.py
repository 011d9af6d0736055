"""What a client asks of its broker, and what :class:`.clientstate.ClientState` wants done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from kubeedge_tx.mqtt.message import Message
from kubeedge_tx.mqtt.packets import V5, Connack, Will


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Who we are, and what we ask of the broker."""

    client_id: str
    """Empty: the broker makes one up, anew for each connection in MQTT 3.1.1."""
    version: int = V5
    clean_start: bool = True
    """Begin without a former session. MQTT 5: at the first connection only, if
    ``session_expiry`` keeps the session for the next."""
    session_expiry: int = 0
    """MQTT 5: seconds the broker keeps the session without a connection."""
    keep_alive: int = 60
    """Seconds; 0 for none."""
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    receive_maximum: int = 256
    """QoS 1 and 2 messages we take unacknowledged; MQTT 5."""
    topic_alias_maximum: int = 32
    """Topic aliases the broker may set; MQTT 5."""
    maximum_packet_bytes: int = 2 * 1024 * 1024
    max_inflight: int = 64
    """QoS 1 and 2 messages we have unacknowledged at once."""
    max_queued: int = 1000
    """Messages that wait for a connection, or for earlier ones to be acknowledged."""
    max_queued_bytes: int = 8 * 1024 * 1024
    user_properties: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"ClientOptions(client_id={self.client_id!r}, version={self.version})"


class Token:
    """Stands for a publish, subscribe or unsubscribe until it is completed or failed."""

    __slots__ = ()


class Write(msgspec.Struct, frozen=True):
    """Write to the connection."""

    data: list[bytes]


class Shut(msgspec.Struct, frozen=True):
    """Close the connection, after what was written to it."""

    reason: int
    text: str


class Opened(msgspec.Struct, frozen=True):
    """The broker let us in."""

    connack: Connack


class Refused(msgspec.Struct, frozen=True):
    """The broker did not let us in."""

    reason: int
    text: str


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A message; with QoS 1 and 2 ``acknowledge`` it once it is dealt with."""

    message: Message
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    subscription_ids: tuple[int, ...]
    connection: int
    """Serial number of the connection it came by."""


class Completed(msgspec.Struct, frozen=True):
    """The broker answered; reasons from 0x80 on mean no."""

    token: Token
    reasons: tuple[int, ...]


class Failed(msgspec.Struct, frozen=True):
    """It will not be answered."""

    token: Token
    text: str


class Ended(msgspec.Struct, frozen=True):
    """The broker said goodbye."""

    reason: int
    text: str


ClientEffect: TypeAlias = Write | Shut | Opened | Refused | Received | Completed | Failed | Ended
