"""What a DeviceStatus should come to say. Pure.

Reports are gathered in a :class:`Draft`; :func:`apply` writes it into a status,
:func:`patch_between` says what the API server must be told. Shape of the status: KubeEdge
``staging/src/github.com/kubeedge/api/apis/devices/v1beta1/device_status.go``; in its free
``extensions`` we keep ``problems`` and ``reported``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kubeedge_tx.api import meta
from kubeedge_tx.api.devices import Problem, decimal

MAX_PROBLEMS: Final = 16
"""Problems kept for one device; the oldest goes first."""
_SUMMARY: Final = 200
"""Characters of ``extensions.reported``."""
OF_THE_SPEC: Final = frozenset({"desired", "model"})
"""What problems are about that come of the Device and its model, not of a report."""

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a twin: a value, when it was set, of what type."""

    value: str
    timestamp: int
    """Milliseconds."""
    type: str

    def written(self) -> dict[str, Any]:
        """Write it as DeviceStatus does."""
        found: dict[str, Any] = {"value": self.value}
        metadata = {}
        if self.timestamp:
            metadata["timestamp"] = str(self.timestamp)
        if self.type:
            metadata["type"] = self.type
        if metadata:
            found["metadata"] = metadata
        return found


@dataclass(frozen=True, slots=True)
class TwinChange:
    """What is new about a twin; a side that is ``None`` stays as it is."""

    reported: Side | None = None
    observed: Side | None = None
    removed: bool = False
    """The device has it no more; a side given beside that came later."""

    def then(self, later: TwinChange) -> TwinChange:
        """Join with what came after it."""
        if later.removed:
            return later
        return TwinChange(
            later.reported or self.reported, later.observed or self.observed, self.removed
        )


@dataclass(slots=True)
class Draft:
    """What is to be written about one device."""

    twins: dict[str, TwinChange] = field(default_factory=dict)
    state: str = ""
    last_online: str = ""
    problems: dict[tuple[str, str], Problem | None] = field(default_factory=dict)
    """By property and what it is about; ``None``: there is none any more."""
    of_the_spec: tuple[Problem, ...] | None = None
    """All problems of the Device's own words, when they were looked at."""

    def then(self, later: Draft) -> None:
        """Take in what came after it."""
        for name, change in later.twins.items():
            earlier = self.twins.get(name)
            self.twins[name] = change if earlier is None else earlier.then(change)
        self.state = later.state or self.state
        self.last_online = later.last_online or self.last_online
        for key, problem in later.problems.items():
            self.problems.pop(key, None)
            self.problems[key] = problem
        if later.of_the_spec is not None:
            self.of_the_spec = later.of_the_spec


def apply(
    status: Mapping[str, Any], draft: Draft, names: Collection[str], now: str, deadband: float
) -> Status:
    """Write a draft into a status; returns the new one, and leaves the old.

    :param names: the properties that the device has, in its order; twins of others go.
    :param now: the time of new problems, RFC 3339.
    :param deadband: a reported number that differs by no more than this is no news.
    """
    twins: dict[str, dict[str, Any]] = {}
    for twin in meta.sequence(status, "twins"):
        name = str(twin.get("propertyName") or "")
        if name in names:
            twins.setdefault(name, dict(twin))
    for name, change in draft.twins.items():
        if change.removed:
            twins.pop(name, None)
        if name in names and (change.reported or change.observed):
            twins[name] = _changed(twins.get(name), name, change, deadband)
    new: Status = {**status, "twins": list(twins.values())}
    if not twins and "twins" not in status:
        del new["twins"]
    if draft.state:
        new["state"] = draft.state
    if draft.last_online:
        new["lastOnlineTime"] = draft.last_online
    extensions = dict(meta.mapping(status, "extensions"))
    _set(
        extensions, "problems", _problems(meta.sequence(extensions, "problems"), draft, names, now)
    )
    _set(extensions, "reported", _summary(twins[name] for name in names if name in twins))
    _set(new, "extensions", extensions)
    return new


def _changed(
    twin: dict[str, Any] | None, name: str, change: TwinChange, deadband: float
) -> dict[str, Any]:
    if twin is None:
        twin = {"propertyName": name, "reported": {"value": ""}, "observedDesired": {"value": ""}}
    for field_name, side, band in (
        ("reported", change.reported, deadband),
        ("observedDesired", change.observed, 0.0),
    ):
        if side is not None and not _is_same(meta.mapping(twin, field_name), side, band):
            twin[field_name] = side.written()
    return twin


def _is_same(old: Mapping[str, Any], side: Side, deadband: float) -> bool:
    """Tell whether a side says what is written already, whenever that was."""
    metadata = meta.mapping(old, "metadata")
    if not metadata or metadata.get("type", "") != side.type:
        return False
    value = old.get("value")
    if value == side.value:
        return True
    if not deadband or not isinstance(value, str):
        return False
    before, after = decimal(value), decimal(side.value)
    return before is not None and after is not None and abs(after - before) <= deadband


def _problems(
    old: Iterable[Mapping[str, Any]], draft: Draft, names: Collection[str], now: str
) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for each in old:
        name, about = str(each.get("property") or ""), str(each.get("about") or "")
        found[name, about] = dict(each)
    fresh: dict[tuple[str, str], Problem | None] = dict(draft.problems)
    if draft.of_the_spec is not None:
        for key in found:
            if key[1] in OF_THE_SPEC:
                fresh[key] = None
        for problem in draft.of_the_spec:
            fresh[problem.property, problem.about] = problem
    for key, new in fresh.items():
        before = found.pop(key, None)
        if new is None:
            continue
        said = {"reason": new.reason, "message": new.message}
        if before is not None and before.items() >= said.items():
            found[key] = before
        else:
            found[key] = {"property": key[0], "about": key[1], **said, "time": now}
    kept = [each for key, each in found.items() if _still_counts(key, each, names)]
    return kept[-MAX_PROBLEMS:]


def _still_counts(key: tuple[str, str], problem: Mapping[str, Any], names: Collection[str]) -> bool:
    name, about = key
    if about in OF_THE_SPEC or not name:
        return True
    return (problem.get("reason") == "UnknownProperty") != (name in names)


def _summary(twins: Iterable[Mapping[str, Any]]) -> str:
    words = []
    for twin in twins:
        reported = meta.mapping(twin, "reported")
        if reported.get("metadata"):
            words.append(f"{twin.get('propertyName')}={str(reported.get('value'))[:64]}")
    text = " ".join(words)
    return text if len(text) <= _SUMMARY else f"{text[: _SUMMARY - 3]}..."


def _set(mapping: dict[str, Any], key: str, value: Any) -> None:
    if value:
        mapping[key] = value
    else:
        mapping.pop(key, None)


def patch_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Write the merge patch that makes one status of another; empty if they are the same."""
    patch: dict[str, Any] = {
        key: value for key, value in new.items() if key != "extensions" and old.get(key) != value
    }
    patch |= {key: None for key in old if key not in new}
    before, after = meta.mapping(old, "extensions"), meta.mapping(new, "extensions")
    if before != after and after:
        patch["extensions"] = {
            **{key: value for key, value in after.items() if before.get(key) != value},
            **{key: None for key in before if key not in after},
        }
    return patch


def new_problems(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the problems of a status that an older one does not have, whatever their values."""

    def kind(problem: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(problem.get(part) for part in ("property", "about", "reason"))

    known = {kind(problem) for problem in meta.sequence(old, "extensions", "problems")}
    return [
        problem
        for problem in meta.sequence(new, "extensions", "problems")
        if kind(problem) not in known
    ]
