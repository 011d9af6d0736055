"""The next call that a DeviceStatus needs. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubeedge_tx.api import meta
from kubeedge_tx.api.devices import Key, properties
from kubeedge_tx.api.resources import DEVICES, DEVICESTATUSES
from kubeedge_tx.cloud.devicecontroller.draft import Draft, apply, patch_between


class Verb(enum.Enum):
    """What a plan is."""

    NOTHING = "nothing"
    CREATE = "create"
    PATCH = "patch"
    DELETE = "delete"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Plan:
    """A call, and the status before and after it."""

    verb: Verb
    body: dict[str, Any]
    """The object, the patch, or the options of the delete."""
    current: str
    """Uid of the DeviceStatus that there is; empty if there is none."""
    old: Mapping[str, Any]
    new: Mapping[str, Any]


def owner(status: Mapping[str, Any]) -> str:
    """Read the uid of the Device that a DeviceStatus belongs to."""
    for reference in meta.sequence(status, "metadata", "ownerReferences"):
        if reference.get("kind") == DEVICES.kind:
            return str(reference.get("uid") or "")
    return ""


def make_plan(
    key: Key,
    current: Mapping[str, Any] | None,
    device: Mapping[str, Any] | None,
    draft: Draft,
    now: str,
    deadband: float,
) -> Plan:
    """Find out what is to be done.

    :param current: the DeviceStatus that there is, if any.
    :param device: ``None``: it is deleted, and its status goes; as does one of a former device
        of that name.
    :param now: for new problems, RFC 3339.
    """
    uid = "" if current is None else meta.uid(current)
    whose = "" if current is None else owner(current)
    old = {} if current is None else meta.mapping(current, "status")
    if whose and (device is None or whose != meta.uid(device)):
        return Plan(Verb.DELETE, {"preconditions": {"uid": uid}}, uid, old, {})
    if device is None:
        return Plan(Verb.NOTHING, {}, uid, old, old)
    new = apply(old, draft, properties(device), now, deadband)
    reference = {
        "apiVersion": DEVICES.api_version,
        "kind": DEVICES.kind,
        "name": meta.name(device),
        "uid": meta.uid(device),
        "controller": True,
    }
    metadata: dict[str, Any]
    if current is None:
        metadata = {"name": key[1], "namespace": key[0], "ownerReferences": [reference]}
        body = {
            "apiVersion": DEVICESTATUSES.api_version,
            "kind": DEVICESTATUSES.kind,
            "metadata": metadata,
            "spec": {},
            "status": new,
        }
        return Plan(Verb.CREATE, body, uid, old, new)
    patch = patch_between(old, new)
    if not patch and whose:
        return Plan(Verb.NOTHING, {}, uid, old, new)
    metadata = {"resourceVersion": meta.resource_version(current), "uid": uid}
    if not whose:
        metadata["ownerReferences"] = [reference]
    body = {"metadata": metadata} | ({"status": patch} if patch else {})
    return Plan(Verb.PATCH, body, uid, old, new)
