"""Reason codes of MQTT 5, return codes of MQTT 3.1.1, and the errors that carry them."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.errors import KubeEdgeError

SUCCESS: Final = 0x00
NORMAL_DISCONNECTION: Final = 0x00
GRANTED_QOS_0: Final = 0x00
GRANTED_QOS_1: Final = 0x01
GRANTED_QOS_2: Final = 0x02
DISCONNECT_WITH_WILL: Final = 0x04
NO_MATCHING_SUBSCRIBERS: Final = 0x10
NO_SUBSCRIPTION_EXISTED: Final = 0x11
CONTINUE_AUTHENTICATION: Final = 0x18
REAUTHENTICATE: Final = 0x19
UNSPECIFIED_ERROR: Final = 0x80
MALFORMED_PACKET: Final = 0x81
PROTOCOL_ERROR: Final = 0x82
IMPLEMENTATION_ERROR: Final = 0x83
UNSUPPORTED_PROTOCOL_VERSION: Final = 0x84
CLIENT_ID_NOT_VALID: Final = 0x85
BAD_USER_NAME_OR_PASSWORD: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
SERVER_UNAVAILABLE: Final = 0x88
SERVER_BUSY: Final = 0x89
BANNED: Final = 0x8A
SERVER_SHUTTING_DOWN: Final = 0x8B
BAD_AUTHENTICATION_METHOD: Final = 0x8C
KEEP_ALIVE_TIMEOUT: Final = 0x8D
SESSION_TAKEN_OVER: Final = 0x8E
TOPIC_FILTER_INVALID: Final = 0x8F
TOPIC_NAME_INVALID: Final = 0x90
PACKET_ID_IN_USE: Final = 0x91
PACKET_ID_NOT_FOUND: Final = 0x92
RECEIVE_MAXIMUM_EXCEEDED: Final = 0x93
TOPIC_ALIAS_INVALID: Final = 0x94
PACKET_TOO_LARGE: Final = 0x95
MESSAGE_RATE_TOO_HIGH: Final = 0x96
QUOTA_EXCEEDED: Final = 0x97
ADMINISTRATIVE_ACTION: Final = 0x98
PAYLOAD_FORMAT_INVALID: Final = 0x99
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B
USE_ANOTHER_SERVER: Final = 0x9C
SERVER_MOVED: Final = 0x9D
SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: Final = 0x9E
CONNECTION_RATE_EXCEEDED: Final = 0x9F
MAXIMUM_CONNECT_TIME: Final = 0xA0
SUBSCRIPTION_IDS_NOT_SUPPORTED: Final = 0xA1
WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: Final = 0xA2

_CONNACK: Final = frozenset(
    (0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F)
)
_PUBACK: Final = frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
_PUBREL: Final = frozenset((0x00, 0x92))
_SUBACK: Final = frozenset((0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2))
_SUBACK_V4: Final = frozenset((0x00, 0x01, 0x02, 0x80))
_UNSUBACK: Final = frozenset((0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91))
_DISCONNECT_SERVER: Final = frozenset(
    (0x00, *range(0x80, 0x84), 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3))
)
_DISCONNECT_CLIENT: Final = frozenset(
    (0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99)
)
_AUTH: Final = frozenset((0x00, 0x18, 0x19))

ALLOWED: Final = {
    2: _CONNACK,
    4: _PUBACK,
    5: _PUBACK,
    6: _PUBREL,
    7: _PUBREL,
    9: _SUBACK,
    11: _UNSUBACK,
    15: _AUTH,
}
"""Reason codes by packet type, both senders alike. Source: MQTT 5.0, 3.x.2 tables."""
SUBACK_V4: Final = _SUBACK_V4
"""Return codes of a 3.1.1 SUBACK [MQTT-3.9.3-2]."""
DISCONNECT_FROM_SERVER: Final = _DISCONNECT_SERVER
"""What a server may say. Source: MQTT 5.0, table 3-10."""
DISCONNECT_FROM_CLIENT: Final = _DISCONNECT_CLIENT
"""What a client may say. Source: MQTT 5.0, table 3-10."""

_TO_V4: Final = {
    SUCCESS: 0,
    UNSUPPORTED_PROTOCOL_VERSION: 1,
    CLIENT_ID_NOT_VALID: 2,
    SERVER_UNAVAILABLE: 3,
    SERVER_BUSY: 3,
    QUOTA_EXCEEDED: 3,
    CONNECTION_RATE_EXCEEDED: 3,
    USE_ANOTHER_SERVER: 3,
    SERVER_MOVED: 3,
    BAD_USER_NAME_OR_PASSWORD: 4,
    NOT_AUTHORIZED: 5,
    BANNED: 5,
    BAD_AUTHENTICATION_METHOD: 5,
}
_FROM_V4: Final = (
    SUCCESS,
    UNSUPPORTED_PROTOCOL_VERSION,
    CLIENT_ID_NOT_VALID,
    SERVER_UNAVAILABLE,
    BAD_USER_NAME_OR_PASSWORD,
    NOT_AUTHORIZED,
)


def connack_to_v4(reason: int) -> int | None:
    """The 3.1.1 return code of a reason; ``None``: none applies, close without a CONNACK.

    Source: MQTT 3.1.1, 3.2.2.3 and [MQTT-3.2.2-6].
    """
    return _TO_V4.get(reason)


def connack_from_v4(code: int) -> int:
    """The reason code that says what a 3.1.1 return code says."""
    return _FROM_V4[code] if code < len(_FROM_V4) else UNSPECIFIED_ERROR


class MqttError(KubeEdgeError):
    """A peer broke the protocol; its connection ends.

    :param text: what, and where; never content.
    :param reason: the MQTT 5 reason code that tells the peer.
    """

    def __init__(self, text: str, reason: int) -> None:
        super().__init__(text)
        self.reason = reason
        self.version = 0
        """Protocol level of the CONNECT in which it was found; 0 for any other packet."""


class MalformedPacket(MqttError):
    """Bytes that do not parse. Source: MQTT 5.0, 1.2 and 4.13.1."""

    def __init__(self, text: str, reason: int = MALFORMED_PACKET) -> None:
        super().__init__(text, reason)


class ProtocolError(MqttError):
    """A packet that parses and is not allowed here. Source: MQTT 5.0, 1.2 and 4.13.1."""

    def __init__(self, text: str, reason: int = PROTOCOL_ERROR) -> None:
        super().__init__(text, reason)
