"""One struct for each packet of MQTT, both versions. They hold values, never bytes of the wire."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties

V4: Final = 4
"""Protocol level of MQTT 3.1.1."""
V5: Final = 5
"""Protocol version of MQTT 5.0."""

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15

NEVER: Final = 0xFFFF_FFFF
"""A session expiry interval that means for ever."""


class Will(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to publish for a client that is gone. Never shown whole: the payload is private."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES

    def __repr__(self) -> str:
        return f"Will(topic={self.topic!r}, {len(self.payload)} bytes)"


class Connect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Never shown whole: it may hold a password."""

    client_id: str
    version: int = V5
    clean_start: bool = True
    keep_alive: int = 0
    """Seconds; 0 for no limit."""
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    properties: Properties = NO_PROPERTIES

    def __repr__(self) -> str:
        return f"Connect(client_id={self.client_id!r}, version={self.version})"


class Connack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """``reason`` is of MQTT 5 in both versions; see :func:`.reasons.connack_to_v4`."""

    session_present: bool = False
    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Never shown whole: payloads are private.

    ``topic`` is empty if a topic alias stands for it.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NO_PROPERTIES

    def __repr__(self) -> str:
        return (
            f"Publish(topic={self.topic!r}, {len(self.payload)} bytes, qos={self.qos},"
            f" retain={self.retain}, dup={self.dup}, packet_id={self.packet_id})"
        )


class Puback(msgspec.Struct, frozen=True, gc=False):
    """QoS 1 was taken."""

    packet_id: int
    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Pubrec(msgspec.Struct, frozen=True, gc=False):
    """QoS 2, first answer: it was taken."""

    packet_id: int
    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Pubrel(msgspec.Struct, frozen=True, gc=False):
    """QoS 2, the sender forgot it."""

    packet_id: int
    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Pubcomp(msgspec.Struct, frozen=True, gc=False):
    """QoS 2, the receiver forgot its packet identifier."""

    packet_id: int
    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """One filter and its options; 3.1.1 has ``qos`` only."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Ask for topics."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NO_PROPERTIES


class Suback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason for each subscription, in order."""

    packet_id: int
    reasons: tuple[int, ...]
    properties: Properties = NO_PROPERTIES


class Unsubscribe(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Ask for topics no more."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NO_PROPERTIES


class Unsuback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason for each filter, in order; 3.1.1 has none."""

    packet_id: int
    reasons: tuple[int, ...] = ()
    properties: Properties = NO_PROPERTIES


class Pingreq(msgspec.Struct, frozen=True):
    """Ask whether the server is there."""


class Pingresp(msgspec.Struct, frozen=True):
    """It is."""


class Disconnect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last packet of a connection."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Auth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step of enhanced authentication; MQTT 5 only."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


Ack: TypeAlias = Puback | Pubrec | Pubrel | Pubcomp
Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
