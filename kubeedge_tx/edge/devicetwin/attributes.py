"""What happens to the attributes of one device.

Source: KubeEdge ``edge/pkg/devicetwin/dtmanager/device.go``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kubeedge_tx.edge.devicetwin.payloads import AttributeChange


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about a device that the cloud states."""

    value: str = ""
    optional: bool = True
    """Whether it may be removed alone."""
    type: str = "string"


@dataclass(slots=True)
class AttributeOutcome:
    """What follows from a message about attributes."""

    changed: dict[str, Attribute] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    """What apps hear: the differences, null for what is gone."""


def attribute_body(attribute: Attribute) -> Any:
    """An attribute as it stands in payloads."""
    return {
        "value": attribute.value,
        "optional": attribute.optional,
        "metadata": {"type": attribute.type},
    }


def change_attributes(
    attributes: Mapping[str, Attribute],
    asked: Mapping[str, AttributeChange | None],
    *,
    complete: bool,
) -> AttributeOutcome:
    """Take in attributes from the cloud.

    :param complete: what is not asked for is gone.
    """
    outcome = AttributeOutcome()
    for name, change in asked.items():
        old = attributes.get(name)
        if change is None:
            if old is not None and old.optional:
                outcome.removed.append(name)
                outcome.told[name] = None
        elif old is None:
            new = Attribute(
                value=change.value,
                optional=True if change.optional is None else change.optional,
                type="string" if change.type is None else change.type,
            )
            outcome.changed[name] = new
            outcome.told[name] = attribute_body(new)
        else:
            _change(outcome, name, old, change)
    if complete:
        for name in attributes:
            if name not in asked:
                outcome.removed.append(name)
                outcome.told[name] = None
    return outcome


def _change(outcome: AttributeOutcome, name: str, old: Attribute, change: AttributeChange) -> None:
    told: dict[str, Any] = {}
    new: dict[str, Any] = {}
    if change.value != old.value:
        new["value"] = change.value
    if change.optional is False and old.optional:
        told["optional"] = new["optional"] = False
    if change.type is not None and change.type != old.type:
        new["type"] = change.type
        told["metadata"] = {"type": change.type}
    if new:
        outcome.changed[name] = msgspec.structs.replace(old, **new)
        outcome.told[name] = {"value": new.get("value", ""), **told}
