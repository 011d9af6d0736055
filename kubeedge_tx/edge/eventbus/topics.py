"""Topics: what EventBus subscribes to, and where a message goes.

Source: KubeEdge ``edge/pkg/eventbus/mqtt`` and ``edge/pkg/eventbus/common/util``.
"""

from __future__ import annotations

from typing import Final

FIXED: Final = (
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/device/+/state/update",
    "$hw/events/device/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
)
"""Filters that are always subscribed; the fourth and fifth are of KubeEdge up to 1.15."""

MOST_BYTES: Final = 65_535
"""Of a topic. Source: MQTT 3.1.1, 1.5.3."""

_TWIN: Final = ("$hw/events/device/", "$hw/events/node/")


def for_twin(topic: str) -> bool:
    """Whether a message on this topic is for DeviceTwin; else it is for the cloud."""
    return topic.startswith(_TWIN)


def check_filter(topic_filter: str) -> str:
    """Say what is wrong with a filter; empty if nothing is."""
    if not topic_filter:
        return "it is empty"
    levels = topic_filter.split("/")
    for place, level in enumerate(levels):
        if level == "#" and place != len(levels) - 1:
            return "'#' stands before the last level"
        if level not in ("+", "#") and ("+" in level or "#" in level):
            return "a wildcard is not alone in its level"
    return _check_text(topic_filter)


def check_name(topic: str) -> str:
    """Say why nothing can be published on a topic; empty if it can."""
    if not topic:
        return "it is empty"
    if "+" in topic or "#" in topic:
        return "it has a wildcard"
    return _check_text(topic)


def _check_text(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "it is not Unicode"
    if size > MOST_BYTES:
        return f"it has {size} bytes, {MOST_BYTES} are the most"
    return "it has a null character" if "\0" in text else ""
