"""Read devices, and judge what they are asked and what they report by their models.

Pure. Like :mod:`kubeedge_tx.api.meta`: what is absent or of a wrong type reads as empty.
Source of the fields: KubeEdge ``staging/src/github.com/kubeedge/api/apis/devices/v1beta1``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from kubeedge_tx.api import meta, twins
from kubeedge_tx.api.twins import PropertyRule, check_text, read_float, read_rules

Key = tuple[str, str]
"""Namespace and name."""

STATES: Final = frozenset({"online", "offline", "ok", "unknown", "unhealthy"})
"""What a device may be, in lower case; any case is accepted."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a value cannot be."""

    reason: str
    """One word, as Kubernetes has it: ``OutOfRange``."""
    message: str
    """For the user."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a device that its user should see."""

    property: str
    """Empty: about the device as a whole."""
    about: str
    """``desired``, ``reported``, ``observedDesired``, ``state`` or ``model``."""
    reason: str
    message: str


# The Device


def device_id(obj: Mapping[str, Any]) -> str:
    """Write a device's id on the wire: ``<namespace>/<name>``."""
    return "/".join(meta.key(obj))


def node_name(device: Mapping[str, Any]) -> str:
    """Read the node that a Device is attached to; empty if to none."""
    return _text(meta.mapping(device, "spec"), "nodeName")


def model_key(device: Mapping[str, Any]) -> Key | None:
    """Read which DeviceModel a Device is of: one of its own namespace."""
    name = _text(meta.mapping(device, "spec", "deviceModelRef"), "name")
    return (meta.namespace(device), name) if name else None


def properties(device: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Read a Device's properties by name; of two with one name the first counts."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in meta.sequence(device, "spec", "properties"):
        name = _text(each, "name")
        if name:
            found.setdefault(name, each)
    return found


def desired(prop: Mapping[str, Any]) -> str | None:
    """Read the value that a property of a Device should have; ``None`` if none is asked for."""
    found = meta.mapping(prop, "desired").get("value")
    return found if isinstance(found, str) else None


# Values


def check_value(rule: PropertyRule, value: str) -> Refusal | None:
    """Judge a value by what a model says; ``None`` if it is right."""
    if text := check_text(value):
        return Refusal("BadValue", text)
    if text := rule.refuses(value):
        wrong_type = twins.check_value(rule.twin_type, value)
        return Refusal("WrongType" if wrong_type else "OutOfRange", f"{_short(value)}: {text}")
    return None


def check_desired(rule: PropertyRule, value: str) -> Refusal | None:
    """Judge a value that somebody wants a property to have."""
    if rule.read_only:
        return Refusal("ReadOnly", rule.refuses_desired(value))
    return check_value(rule, value)


def decimal(text: str) -> float | None:
    """Read a finite number; ``None`` if it is none."""
    found = read_float(text)
    return found if found is not None and math.isfinite(found) else None


def device_problems(
    device: Mapping[str, Any], model: Mapping[str, Any] | None
) -> Iterator[Problem]:
    """Find what is wrong with a Device's own words.

    :param model: its DeviceModel; ``None`` if there is none of that name.
    """
    key = model_key(device)
    if key is None:
        return
    if model is None:
        text = f"there is no DeviceModel {'/'.join(key)}; the device is sent once there is"
        yield Problem(property="", about="model", reason="NoModel", message=text)
        return
    known = read_rules(model)
    for name, prop in properties(device).items():
        value = desired(prop)
        modelled = known.get(name)
        if modelled is None:
            text = f"DeviceModel {key[1]} has no property {_short(name)}"
            yield Problem(property=name, about="model", reason="UnknownProperty", message=text)
            continue
        for bound, text in (("minimum", modelled.minimum), ("maximum", modelled.maximum)):
            if text and modelled.twin_type in ("int", "float") and decimal(text) is None:
                yield Problem(
                    property=name,
                    about="model",
                    reason="BadBound",
                    message=f"the {bound} in DeviceModel {key[1]} is no number: {_short(text)}",
                )
        refusal = None if value is None else check_desired(modelled, value)
        if refusal is not None:
            yield Problem(
                property=name, about="desired", reason=refusal.reason, message=refusal.message
            )


def _short(text: str) -> str:
    """Quote a text that somebody else wrote, so that it stays one short line."""
    return repr(text if len(text) <= 64 else f"{text[:61]}...")


def _text(mapping: Mapping[str, Any], field: str) -> str:
    found = mapping.get(field)
    return found if isinstance(found, str) else ""
