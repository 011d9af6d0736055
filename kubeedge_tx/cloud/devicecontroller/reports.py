"""What edges say about devices, taken apart and judged. Pure.

Source: KubeEdge ``edge/pkg/devicetwin/dttype`` and
``cloud/pkg/devicecontroller/controller/upstream.go``, which judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

import msgspec

from kubeedge_tx.api.devices import (
    STATES,
    Key,
    Problem,
    Refusal,
    check_desired,
    check_value,
)
from kubeedge_tx.api.twins import DELETED, PropertyRule, Version
from kubeedge_tx.beehive.route import split_node
from kubeedge_tx.cloud.devicecontroller.draft import Draft, Side, TwinChange
from kubeedge_tx.errors import KubeEdgeError, RouteError
from kubeedge_tx.security.identity import is_node_name

TWIN: Final = "twin/edge_updated"
STATE: Final = "state/update"
DETAIL: Final = "membership/detail"

REPORTED: Final = "reported"
OBSERVED: Final = "observedDesired"

_LONGEST_ANSWER: Final = 1024
_UNKNOWN_SHOWN: Final = 64
_LONGEST_TIME: Final = 64
_STATES: Final = ", ".join(sorted(STATES))

T = TypeVar("T")
Check = Callable[[PropertyRule, str], Refusal | None]


class Address(NamedTuple):
    """What a message from an edge is about."""

    node: str
    kind: str
    """:data:`TWIN`, :data:`STATE` or :data:`DETAIL`."""
    device: Key
    """Empty for :data:`DETAIL`."""


def read_address(resource: str) -> Address:
    """Read ``node/<node>/device/<namespace>/<name>/<kind>`` or ``node/<node>/membership/detail``.

    :raises RouteError: it is neither.
    """
    node, rest = split_node(resource)
    if rest == DETAIL:
        return Address(node, DETAIL, ("", ""))
    parts = rest.split("/", 3)
    if (
        len(parts) == 4
        and parts[0] == "device"
        and parts[3] in (TWIN, STATE)
        and is_node_name(parts[1])
        and is_node_name(parts[2])
    ):
        return Address(node, parts[3], (parts[1], parts[2]))
    raise RouteError(
        f"{rest[:200]!r} is not device/<namespace>/<name>/{TWIN}, …/{STATE}, nor {DETAIL}"
    )


class _Stamp(msgspec.Struct, frozen=True, gc=False):
    timestamp: int = 0


class _Value(msgspec.Struct, frozen=True, gc=False):
    value: str | None = None
    metadata: _Stamp | None = None


class _Type(msgspec.Struct, frozen=True, gc=False):
    type: str = ""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One twin of a report."""

    expected: _Value | None = None
    actual: _Value | None = None
    metadata: _Type | None = None
    expected_version: Version | None = None
    actual_version: Version | None = None


class TwinReport(msgspec.Struct, frozen=True, gc=False):
    """Content of ``twin/edge_updated``."""

    event_id: str = ""
    twin: dict[str, Entry | None] | None = None


class _DeviceState(msgspec.Struct, frozen=True, gc=False):
    state: str = ""
    last_online: str | None = msgspec.field(default=None, name="lastOnlineTime")


class StateReport(msgspec.Struct, frozen=True, gc=False):
    """Content of ``state/update``; Go edges spell the key either way."""

    device: _DeviceState | None = None
    device_: _DeviceState | None = msgspec.field(default=None, name="Device")


class _Event(msgspec.Struct, frozen=True, gc=False):
    event_id: str = ""


_twin_decoder: Final = msgspec.json.Decoder(TwinReport)
_state_decoder: Final = msgspec.json.Decoder(StateReport)
_event_decoder: Final = msgspec.json.Decoder(_Event)


def _decode(decoder: msgspec.json.Decoder[T], content: msgspec.Raw) -> T:
    """Decode an object, or a string that holds its JSON: they mean the same.

    :raises Unreadable: it is neither.
    """
    text = bytes(content)
    try:
        if text.lstrip()[:1] == b'"':
            text = msgspec.json.decode(text, type=str).encode(errors="replace")
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"the content cannot be read: {error}"[:_LONGEST_ANSWER]) from None


class Unreadable(KubeEdgeError):
    """The content of a report makes no sense; the text says why, not what it was."""


def event_id(content: msgspec.Raw) -> str:
    """Read the id that a question has; empty if there is none."""
    try:
        return _decode(_event_decoder, content).event_id
    except Unreadable:
        return ""


class Seen:
    """The newest version of each side of each twin that was taken from a node.

    What is older in version and in time is an old message sent again. One of the two is not
    enough: versions begin anew when a twin is made anew, and clocks are set back.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], tuple[Version, int]] = {}

    def is_old(self, name: str, side: str, version: Version | None, timestamp: int) -> bool:
        """Tell whether something newer was taken; if not, this is the newest."""
        version = version or Version()
        known = self._newest.get((name, side))
        if known is not None and version < known[0] and timestamp < known[1]:
            return True
        self._newest[name, side] = version, timestamp
        return False

    def clear(self) -> None:
        """Forget all: the device is on another node now, or is another device."""
        self._newest.clear()

    def keep(self, names: Collection[str]) -> None:
        """Forget the twins of properties that the device has no more."""
        for key in [key for key in self._newest if key[0] not in names]:
            del self._newest[key]


@dataclass(slots=True)
class Verdict:
    """What becomes of a report."""

    draft: Draft = field(default_factory=Draft)
    refusals: list[tuple[str, Refusal]] = field(default_factory=list)
    """By property; what was refused is not in the draft's twins, but in its problems."""

    def refuse(self, name: str, about: str, refusal: Refusal) -> None:
        """Do not take a value."""
        self.refusals.append((name, refusal))
        self.draft.problems[name, about] = Problem(
            property=name, about=about, reason=refusal.reason, message=refusal.message
        )

    def answer(self) -> str:
        """Write the reasons for the edge; empty if all was taken."""
        text = "; ".join(
            f"{name}: {refusal.message}" if name else refusal.message
            for name, refusal in self.refusals
        )
        return text if len(text) <= _LONGEST_ANSWER else f"{text[: _LONGEST_ANSWER - 3]}..."


def judge_twins(
    content: msgspec.Raw,
    names: Collection[str],
    models: Mapping[str, PropertyRule],
    seen: Seen,
) -> Verdict:
    """Judge a report of twins.

    :param names: the properties that the device has.
    :param models: what its model says of them; of what it does not know any text is right.
    :raises Unreadable: the report makes no sense.
    """
    report = _decode(_twin_decoder, content)
    verdict = Verdict()
    for name, entry in (report.twin or {}).items():
        if entry is None or (entry.metadata is not None and entry.metadata.type == DELETED):
            verdict.draft.twins[name] = TwinChange(removed=True)
        elif name not in names:
            shown = name if len(name) <= _UNKNOWN_SHOWN else f"{name[: _UNKNOWN_SHOWN - 3]}..."
            verdict.refuse(
                shown, REPORTED, Refusal("UnknownProperty", "the Device lists no such property")
            )
        else:
            model = models.get(name) or PropertyRule(name)
            _judge_entry(verdict, name, entry, model, seen)
    return verdict


def _judge_entry(
    verdict: Verdict, name: str, entry: Entry, model: PropertyRule, seen: Seen
) -> None:
    kind = "" if entry.metadata is None else entry.metadata.type
    taken: dict[str, Side] = {}
    sides: tuple[tuple[str, _Value | None, Version | None, Check], ...] = (
        (REPORTED, entry.actual, entry.actual_version, check_value),
        (OBSERVED, entry.expected, entry.expected_version, check_desired),
    )
    for about, value, version, check in sides:
        text = None if value is None else value.value
        if text is None and version is None:
            continue
        timestamp = 0 if value is None or value.metadata is None else value.metadata.timestamp
        if seen.is_old(name, about, version, timestamp):
            continue
        if text is None:  # a version alone: there is no value any more
            verdict.draft.problems[name, about] = None
            taken[about] = Side("", 0, "")
            continue
        # An empty text is no value either, but says when that came.
        refusal = check(model, text) if text else None
        if refusal is not None:
            verdict.refuse(name, about, refusal)
            continue
        verdict.draft.problems[name, about] = None
        taken[about] = Side(text, timestamp, kind)
    if taken:
        verdict.draft.twins[name] = TwinChange(taken.get(REPORTED), taken.get(OBSERVED))


def judge_state(content: msgspec.Raw) -> Verdict:
    """Judge a report of a device's state.

    :raises Unreadable: the report makes no sense.
    """
    report = _decode(_state_decoder, content)
    device = report.device or report.device_ or _DeviceState()
    verdict = Verdict()
    state, last_online = device.state, device.last_online or ""
    if state.lower() not in STATES:
        verdict.refuse("", "state", Refusal("WrongState", f"a state is one of {_STATES}"))
    elif len(last_online) > _LONGEST_TIME:
        verdict.refuse("", "state", Refusal("WrongTime", "lastOnlineTime is no time"))
    else:
        verdict.draft.state, verdict.draft.last_online = state, last_online
        verdict.draft.problems["", "state"] = None
    return verdict
