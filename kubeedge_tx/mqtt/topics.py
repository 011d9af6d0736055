"""Topic names and filters: what is allowed, and what matches what."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.mqtt.reasons import (
    TOPIC_FILTER_INVALID,
    TOPIC_NAME_INVALID,
    MalformedPacket,
    ProtocolError,
)

MAX_LEVELS: Final = 200
"""Most levels of a name or filter; the same as mosquitto's TOPIC_HIERARCHY_LIMIT."""


def text(raw: bytes, what: str) -> str:
    """Read a UTF-8 string [MQTT-1.5.4-1] [MQTT-1.5.4-2] (3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2]).

    A byte order mark is a character like any other [MQTT-1.5.4-3].

    :param what: names the field in the error.
    :raises MalformedPacket: not UTF-8, or with a null character.
    """
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        raise MalformedPacket(f"{what} is not UTF-8") from None
    if "\0" in value:
        raise MalformedPacket(f"{what} has a null character")
    return value


def is_plain(value: str) -> bool:
    """Tell whether a string is free of control characters and of non-characters.

    A receiver may refuse them (MQTT 5.0, 1.5.4); we do in names that land in logs and keys.
    """
    if value.isascii():
        return value.isprintable()
    return not any(
        char < " "
        or "\x7f" <= char <= "\x9f"
        or "\ufdd0" <= char <= "\ufdef"
        or (ord(char) & 0xFFFE) == 0xFFFE
        for char in value
    )


def check_name(name: str) -> None:
    """Refuse what cannot be a topic name; an empty one included.

    :raises MalformedPacket: with a control character or a wildcard [MQTT-3.3.2-2].
    :raises ProtocolError: empty [MQTT-4.7.3-1], or too deep.
    """
    if not is_plain(name):
        raise MalformedPacket("topic name has a control character")
    if not name:
        raise ProtocolError("topic name is empty")
    if "+" in name or "#" in name:
        raise MalformedPacket("topic name has a wildcard")
    if name.count("/") >= MAX_LEVELS:
        raise ProtocolError(f"topic name has more than {MAX_LEVELS} levels", TOPIC_NAME_INVALID)


def check_filter(topic_filter: str) -> None:
    """Refuse what cannot be a topic filter [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1].

    The filter of a shared subscription is :func:`split_share`'s.

    :raises MalformedPacket: empty, with a control character, or wildcards in wrong places.
    :raises ProtocolError: too deep.
    """
    if not is_plain(topic_filter):
        raise MalformedPacket("topic filter has a control character")
    if not topic_filter:
        raise MalformedPacket("topic filter is empty")
    levels = topic_filter.split("/")
    if len(levels) > MAX_LEVELS:
        raise ProtocolError(f"topic filter has more than {MAX_LEVELS} levels", TOPIC_FILTER_INVALID)
    if "#" in topic_filter and ("#" in topic_filter[:-1] or levels[-1] != "#"):
        raise MalformedPacket("topic filter has # where it is not the last level")
    if "+" in topic_filter and any("+" in level and level != "+" for level in levels):
        raise MalformedPacket("topic filter has + beside other characters")


def split_share(topic_filter: str) -> tuple[str, str]:
    """Take a filter apart into share name and filter; the name is empty if it is not shared.

    :raises MalformedPacket: no filter, a share name that is empty or has ``+`` or ``#``
        [MQTT-4.8.2-1] [MQTT-4.8.2-2], or see :func:`check_filter`.
    :raises ProtocolError: see :func:`check_filter`.
    """
    if not topic_filter.startswith("$share/"):
        check_filter(topic_filter)
        return "", topic_filter
    _, share, rest = (*topic_filter.split("/", 2), "")[:3]
    if not share or "+" in share or "#" in share:
        raise MalformedPacket("share name is empty or has a wildcard")
    if not rest:
        raise MalformedPacket("shared subscription without a filter")
    check_filter(rest)
    if not is_plain(share):
        raise MalformedPacket("share name has a control character")
    return share, rest


def matches(topic_filter: str, name: str) -> bool:
    """Tell whether a valid filter matches a valid topic name.

    Wildcards at the first level do not match names that begin with ``$`` [MQTT-4.7.2-1].
    """
    if name[:1] == "$" and topic_filter[:1] in ("+", "#"):
        return False
    wanted, levels = topic_filter.split("/"), name.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or (level != "+" and level != levels[at]):
            return False
    return len(wanted) == len(levels)
