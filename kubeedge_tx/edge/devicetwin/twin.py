"""What happens to the twins of one device: pure functions of what is and what is asked.

Source of the rules: KubeEdge ``edge/pkg/devicetwin/dtmanager/twin.go``; where ours differ, see
``docs/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from kubeedge_tx.api.twins import (
    DELETED,
    STRING,
    Desired,
    PropertyRule,
    Version,
    check_text,
    check_value,
)

Side = Literal["expected", "actual"]
EXPECTED: Final[Side] = "expected"
ACTUAL: Final[Side] = "actual"
BOTH: Final[frozenset[Side]] = frozenset((EXPECTED, ACTUAL))
NEITHER: Final[frozenset[Side]] = frozenset()
"""Only the twin's ``optional`` changed."""

MAX_TWINS: Final = 2000
"""Twins of one device, deleted ones included, beyond which apps cannot make further ones."""


class Value(msgspec.Struct, frozen=True):
    """One side of a twin."""

    value: str
    timestamp: int = 0
    """When this edge took it, in milliseconds."""


class Twin(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a property and what it is."""

    expected: Value | None = None
    actual: Value | None = None
    optional: bool = True
    """Whether an app may delete it."""
    type: str = STRING
    """``deleted``: gone, and kept for its versions."""
    expected_version: Version | None = None
    actual_version: Version | None = None

    @property
    def live(self) -> bool:
        """Whether anybody is to see it."""
        return self.type != DELETED

    @property
    def wanting(self) -> str:
        """The expected value, if the actual one is another; else empty."""
        if not self.live or self.expected is None or not self.expected.value:
            return ""
        actual = self.actual.value if self.actual is not None else ""
        return self.expected.value if self.expected.value != actual else ""


Twins = Mapping[str, Twin]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a message says about one twin; ``None`` where it says nothing."""

    expected: str | None = None
    actual: str | None = None
    optional: bool | None = None
    type: str | None = None
    expected_version: Version | None = None
    """Read only in what comes from the cloud."""
    actual_version: Version | None = None


class Refused(Exception):
    """A whole request is refused.

    :param reason: for the device.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Outcome:
    """What follows from a message about twins, in the order of the message."""

    changed: dict[str, Twin] = field(default_factory=dict)
    """Their new states, to be stored."""
    result: dict[str, Any] = field(default_factory=dict)
    """``twin`` of the answer."""
    document: dict[str, tuple[Twin | None, Twin | None]] = field(default_factory=dict)
    """State before and after."""
    report: dict[str, frozenset[Side]] = field(default_factory=dict)
    """What the cloud must hear: which sides of which twins."""
    ignored: dict[str, str] = field(default_factory=dict)
    """What of the cloud's wishes cannot be, and why."""


def body(twin: Twin | None, *, sides: frozenset[Side] = BOTH, versions: bool = False) -> Any:
    """A twin as it stands in payloads; ``None`` for one that is deleted."""
    if twin is None:
        return None
    found: dict[str, Any] = {}
    if EXPECTED in sides and twin.expected is not None:
        found["expected"] = _side(twin.expected)
    if ACTUAL in sides and twin.actual is not None:
        found["actual"] = _side(twin.actual)
    found["optional"] = twin.optional
    found["metadata"] = {"type": twin.type}
    if versions:
        if EXPECTED in sides and twin.expected_version is not None:
            found["expected_version"] = twin.expected_version
        if ACTUAL in sides and twin.actual_version is not None:
            found["actual_version"] = twin.actual_version
    return found


def _side(value: Value) -> Any:
    return {"value": value.value, "metadata": {"timestamp": value.timestamp}}


def delta(twins: Twins) -> tuple[dict[str, Any], dict[str, str]]:
    """The twins that have an expected value, and what those that differ should become.

    Of all twins of a device, not only those that a message was about.
    """
    bodies: dict[str, Any] = {}
    wanted: dict[str, str] = {}
    for name, twin in twins.items():
        if twin.live and twin.expected is not None and twin.expected.value:
            bodies[name] = body(twin)
            if twin.wanting:
                wanted[name] = twin.wanting
    return bodies, wanted


def update(
    twins: Twins,
    asked: Mapping[str, Change | None],
    now: int,
    rules: Mapping[str, PropertyRule] | None = None,
) -> Outcome:
    """An app's or mapper's update: all of it or nothing.

    :param now: milliseconds, the timestamp of what is stored.
    :param rules: the properties of the device's model, if it is known.
    :raises Refused: nothing is to change.
    """
    outcome = Outcome()
    for name, change in asked.items():
        old = twins.get(name)
        if change is None:
            _delete(outcome, name, old)
            continue
        _check_model(name, change, old, rules)
        if old is None:
            if len(twins) + len(outcome.changed) >= MAX_TWINS:
                raise Refused(f"the device has {MAX_TWINS} twins, which is the most")
            _add(outcome, name, change, now, rules)
        else:
            _change(outcome, name, old, change, now)
    return outcome


def _check_model(
    name: str, change: Change, old: Twin | None, rules: Mapping[str, PropertyRule] | None
) -> None:
    if rules is None:
        return
    rule = rules.get(name)
    if rule is None:
        if old is None or not old.live:
            raise Refused(f"the device model has no property {name}")
        return
    for value in (change.expected, change.actual):
        if value:
            reason = check_value(rule.twin_type, value)  # upstream's check, in its words
            if reason:
                raise Refused(reason)
    reason = rule.refuses_desired(change.expected) if change.expected else ""
    if change.actual and not reason:
        reason = rule.refuses(change.actual)
    if reason:
        raise Refused(reason)


def _delete(outcome: Outcome, name: str, old: Twin | None) -> None:
    if old is None:
        # Upstream answers as if it had done something; apps that tidy up rely on no error.
        outcome.document[name] = (None, None)
    elif old.live and old.optional:
        gone = msgspec.structs.replace(
            old,
            expected=None,
            actual=None,
            type=DELETED,
            expected_version=_next(old.expected_version) if old.expected_version else None,
            actual_version=_next(old.actual_version) if old.actual_version else None,
        )
        outcome.changed[name] = gone
        outcome.result[name] = None
        outcome.document[name] = (old, None)
        outcome.report[name] = BOTH


def _add(
    outcome: Outcome,
    name: str,
    change: Change,
    now: int,
    rules: Mapping[str, PropertyRule] | None,
) -> None:
    kind = change.type
    if kind is None:
        kind = rules[name].twin_type if rules is not None and name in rules else STRING
    _check_values(change, kind)
    twin = Twin(
        expected=_value(change.expected, now),
        actual=_value(change.actual, now),
        optional=True if change.optional is None else change.optional,
        type=kind,
        expected_version=None if change.expected is None else Version(0, 1),
        actual_version=None if change.actual is None else Version(0, 1),
    )
    outcome.changed[name] = twin
    outcome.result[name] = body(twin)
    outcome.document[name] = (None, twin)
    outcome.report[name] = BOTH


def _change(outcome: Outcome, name: str, old: Twin, change: Change, now: int) -> None:
    kind = old.type
    if not old.live:
        kind = change.type or STRING
        if kind == DELETED:
            return
    _check_values(change, kind)
    sides: set[Side] = set()
    new: dict[str, Any] = {}
    if change.expected is not None:
        new["expected"] = _value(change.expected, now)
        new["expected_version"] = _next(old.expected_version)
        sides.add(EXPECTED)
    if change.actual is not None:
        new["actual"] = _value(change.actual, now)
        new["actual_version"] = _next(old.actual_version)
        sides.add(ACTUAL)
    if change.optional is False and old.optional:
        new["optional"] = False
    if not old.live:
        new["type"] = kind
    retyped = old.live and change.type is not None and change.type != old.type
    if not new and not retyped:
        return
    twin = msgspec.structs.replace(old, **new) if new else old
    outcome.changed[name] = twin
    outcome.document[name] = (old if old.live else None, twin)
    if sides:
        outcome.result[name] = body(twin, sides=frozenset(sides))
        outcome.report[name] = frozenset(sides)
    elif new:
        outcome.result[name] = body(twin, sides=NEITHER)
        outcome.report[name] = NEITHER
    else:
        outcome.result[name] = {}


def _check_values(change: Change, kind: str) -> None:
    for value in (change.expected, change.actual):
        if value is not None:
            reason = (
                "the value type is not allowed" if kind == DELETED else check_value(kind, value)
            )
            if reason:
                raise Refused(reason)


def sync(twins: Twins, asked: Mapping[str, Change | None], now: int) -> Outcome:
    """The cloud's word on twins, with versions on both sides.

    A side whose version here is newer in either number is not changed but reported, so that
    the cloud learns of it.
    """
    outcome = Outcome()
    for name, change in asked.items():
        old = twins.get(name)
        if change is None:
            continue
        if change.type == DELETED:
            _sync_delete(outcome, name, old, change)
        elif old is None:
            _sync_add(outcome, name, change, now)
        else:
            _sync_change(outcome, name, old, change, now)
    return outcome


def _sync_delete(outcome: Outcome, name: str, old: Twin | None, change: Change) -> None:
    if old is None or not old.live:
        return
    for known, said in (
        (old.expected_version, change.expected_version),
        (old.actual_version, change.actual_version),
    ):
        if known is not None and said is not None and not _allowed(known, said):
            outcome.report[name] = BOTH
            return
    outcome.changed[name] = msgspec.structs.replace(
        old,
        expected=None,
        actual=None,
        type=DELETED,
        expected_version=change.expected_version or old.expected_version,
        actual_version=change.actual_version or old.actual_version,
    )
    outcome.document[name] = (old, None)


def _sync_add(outcome: Outcome, name: str, change: Change, now: int) -> None:
    kind = change.type or STRING
    for value, version in (
        (change.expected, change.expected_version),
        (change.actual, change.actual_version),
    ):
        if value is None:
            continue
        reason = check_value(kind, value) or check_text(value)
        if version is None:
            reason = "it has no version"
        if reason:
            outcome.ignored[name] = reason
            return
    twin = Twin(
        expected=_value(change.expected, now),
        actual=_value(change.actual, now),
        optional=True if change.optional is None else change.optional,
        type=kind,
        expected_version=change.expected_version if change.expected is not None else None,
        actual_version=change.actual_version if change.actual is not None else None,
    )
    outcome.changed[name] = twin
    outcome.document[name] = (None, twin)


def _sync_change(outcome: Outcome, name: str, old: Twin, change: Change, now: int) -> None:
    kind = old.type if old.live else change.type or STRING
    new: dict[str, Any] = {}
    sides: tuple[tuple[Side, str | None, Version | None], ...] = (
        (EXPECTED, change.expected, change.expected_version),
        (ACTUAL, change.actual, change.actual_version),
    )
    for side, value, version in sides:
        if value is None:
            continue
        reason = check_value(kind, value) or check_text(value)
        if reason:
            outcome.ignored[name] = reason
            continue
        known: Version = getattr(old, f"{side}_version") or Version()
        if version is None or not _allowed(known, version):
            outcome.report[name] = frozenset((side,))
            break
        new[side] = _value(value, now)
        new[f"{side}_version"] = version
    else:
        if change.optional is False and old.optional:
            new["optional"] = False
        if not old.live:
            new["type"] = kind
    if new:
        twin = msgspec.structs.replace(old, **new)
        outcome.changed[name] = twin
        outcome.document[name] = (old if old.live else None, twin)


def _allowed(known: Version, said: Version) -> bool:
    return known.cloud <= said.cloud and known.edge <= said.edge


def desire(
    twins: Twins,
    before: Mapping[str, str | None],
    wanted: Mapping[str, Desired],
    version: int,
    now: int,
    rules: Mapping[str, PropertyRule] | None = None,
) -> tuple[Outcome, dict[str, str | None]]:
    """Take in a Device object: the desired values that changed since the last one.

    :param before: what the last object desired: its properties' values.
    :param version: the object's resource version.
    :returns: also what this one desired, less what could not be taken in.
    """
    outcome = Outcome()
    after: dict[str, str | None] = {}
    for name, desired in wanted.items():
        if desired.value == before.get(name):
            after[name] = desired.value
            continue
        old = twins.get(name)
        if desired.value is None:
            after[name] = None
            if old is not None and old.live and old.expected is not None:
                _wish(outcome, name, old, None, old.type, version)
            continue
        rule = rules.get(name) if rules is not None else None
        kind = _kind(old, desired, rule)
        reason = check_value(kind, desired.value) or check_text(desired.value)
        if rule is not None and not reason:
            reason = rule.refuses_desired(desired.value)
        if reason:
            outcome.ignored[name] = reason
            if name in before:
                after[name] = before[name]
            continue
        after[name] = desired.value
        _wish(outcome, name, old, Value(desired.value, now), kind, version)
    for name in before:
        old = twins.get(name)
        if name not in wanted and old is not None and old.live:
            outcome.changed[name] = msgspec.structs.replace(
                old, expected=None, actual=None, type=DELETED
            )
            outcome.document[name] = (old, None)
    return outcome, after


def _kind(old: Twin | None, desired: Desired, rule: PropertyRule | None) -> str:
    if old is not None and old.live:
        return old.type
    if rule is not None and rule.type:
        return rule.twin_type
    if desired.type in ("int", "integer", "float", "boolean"):
        return desired.type
    return STRING


def _wish(
    outcome: Outcome, name: str, old: Twin | None, value: Value | None, kind: str, version: int
) -> None:
    edits = old.expected_version.edge if old is not None and old.expected_version else 0
    twin = msgspec.structs.replace(
        old or Twin(),
        expected=value,
        expected_version=Version(version, edits),
        type=kind,
    )
    outcome.changed[name] = twin
    outcome.document[name] = (old if old is not None and old.live else None, twin)
    outcome.report[name] = frozenset((EXPECTED,))


def _next(version: Version | None) -> Version:
    return Version(version.cloud, version.edge + 1) if version is not None else Version(0, 1)


def _value(text: str | None, now: int) -> Value | None:
    return None if text is None else Value(text, now)
