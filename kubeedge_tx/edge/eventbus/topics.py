"""Topics: what EventBus subscribes to, and where a message goes.

Source: KubeEdge ``edge/pkg/eventbus/mqtt`` and ``edge/pkg/eventbus/common/util``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kubeedge_tx.errors import KubeEdgeError
from kubeedge_tx.mqtt import topics as mqtt

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
    return _check(mqtt.check_filter, topic_filter)


def check_name(topic: str) -> str:
    """Say why nothing can be published on a topic; empty if it can."""
    return _check(mqtt.check_name, topic)


def _check(check: Callable[[str], None], text: str) -> str:
    try:
        size = len(text.encode())
        check(text)
    except UnicodeEncodeError:
        return "it is not Unicode"
    except KubeEdgeError as error:
        return str(error)
    return f"it has {size} bytes, {MOST_BYTES} are the most" if size > MOST_BYTES else ""
