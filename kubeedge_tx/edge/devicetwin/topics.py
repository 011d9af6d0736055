"""Topics of devices: what a message on one asks for, and where the answers go.

Source: KubeEdge ``edge/pkg/devicetwin/dtcommon/common.go``. Here a topic is read by the place
of its levels, so that a device may have any name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "$hw/events/"
_DEVICE: Final = f"{PREFIX}device/"
_NODE: Final = f"{PREFIX}node/"

Action = Literal["membership get", "state update", "twin get", "twin update", "twin sync"]

_ACTIONS: Final[dict[tuple[str, str], Action]] = {
    ("state", "update"): "state update",
    ("twin", "get"): "twin get",
    ("twin", "update"): "twin update",
    ("twin", "cloud_updated"): "twin sync",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a topic asks for."""

    action: Action
    device: str = ""
    """``<namespace>/<name>``, or the bare ``<name>`` of apps for older versions."""

    @property
    def bare(self) -> bool:
        """Whether the device is named without its namespace."""
        return "/" not in self.device


def read(topic: str) -> Request | None:
    """Read a topic that somebody published on; ``None`` if it asks for nothing."""
    levels = topic.split("/")
    match levels:
        case ["$hw", "events", "node", _, "membership", "get"]:
            return Request("membership get")
        case ["$hw", "events", "device", name, first, second]:
            action = _ACTIONS.get((first, second))
            return Request(action, name) if action is not None else None
        case ["$hw", "events", "device", namespace, name, first, second]:
            action = _ACTIONS.get((first, second))
            return Request(action, f"{namespace}/{name}") if action is not None else None
    return None


def membership_result(node: str) -> str:
    """Where the list of devices goes."""
    return f"{_NODE}{node}/membership/get/result"


def membership_updated(node: str) -> str:
    """Where a device that came or went is announced."""
    return f"{_NODE}{node}/membership/updated"


def attributes_updated(device: str) -> str:
    """Where changed attributes are announced."""
    return f"{_DEVICE}{device}/updated"


def state_result(device: str) -> str:
    """Where a state update is answered."""
    return f"{_DEVICE}{device}/state/update/result"


def get_result(device: str) -> str:
    """Where a question for twins is answered."""
    return f"{_DEVICE}{device}/twin/get/result"


def update_result(device: str) -> str:
    """Where a twin update is answered."""
    return f"{_DEVICE}{device}/twin/update/result"


def update_document(device: str) -> str:
    """Where twins before and after are announced."""
    return f"{_DEVICE}{device}/twin/update/document"


def update_delta(device: str) -> str:
    """Where mappers hear what to write."""
    return f"{_DEVICE}{device}/twin/update/delta"
