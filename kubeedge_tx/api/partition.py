"""What becomes of a pod while its node is out of the cluster's reach: an annotation of the pod."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeedge_tx.api import meta

ON_PARTITION: Final = "kubeedge-tx.io/on-partition"
"""Annotation of a Pod: ``keep``, ``stop-after=<duration>`` or ``replace-after=<duration>``."""

CONDITION: Final = "kubeedge-tx.io/OnPartition"
"""Condition in a Pod's status, by its node: what it will do, in the annotation's words."""

KEEP: Final = "keep"
STOP: Final = "stop-after"
REPLACE: Final = "replace-after"

LEAST_SECONDS: Final = 60.0
"""Shortest duration: a dead link alone is noticed after half of it."""

MARGIN_SECONDS: Final = 60.0
"""What the cluster waits beyond a pod's time and its grace: for an agent that looks late, for a
runtime that is slow to stop, for clocks that do not run at the same speed."""

DEFAULT_GRACE: Final = 30.0
"""``terminationGracePeriodSeconds`` where a pod does not say."""

UNREACHABLE: Final = "node.kubernetes.io/unreachable"

_DURATION: Final = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Policy:
    """A pod that does not go on for ever."""

    seconds: float
    """How long its node may be out of reach before the node ends the pod."""
    replace: bool
    """Whether the cluster deletes it once it must have ended."""


class PolicyError(ValueError):
    """The annotation says nothing that is understood; the text names what is expected."""


def read_policy(pod: Mapping[str, Any]) -> Policy | None:
    """Read a pod's annotation; ``None`` to keep it running.

    :raises PolicyError: it is not understood; the pod is to be kept.
    """
    return _read(meta.annotation(pod, ON_PARTITION))


def _read(text: str) -> Policy | None:
    text = text.strip()
    verb, _, duration = text.partition("=")
    if text in ("", KEEP):
        return None
    if verb not in (STOP, REPLACE):
        raise PolicyError(
            f"annotation {ON_PARTITION} is {text[:100]!r}; expected {KEEP}, "
            f"{STOP}=<duration> or {REPLACE}=<duration>, such as {STOP}=10m"
        )
    found = _DURATION.fullmatch(duration)
    if not duration or found is None:
        raise PolicyError(
            f"annotation {ON_PARTITION}: {duration[:100]!r} is no duration; "
            "expected such as 90s, 10m or 1h30m"
        )
    hours, minutes, seconds = (int(each or 0) for each in found.groups())
    total = float(hours * 3600 + minutes * 60 + seconds)
    if total < LEAST_SECONDS:
        raise PolicyError(f"annotation {ON_PARTITION}: {duration} is less than {LEAST_SECONDS:g} s")
    return Policy(total, verb == REPLACE)


def agreed_policy(pod: Mapping[str, Any]) -> Policy | None:
    """Read by when the node certainly ends a pod; ``None`` if that is not certain.

    The annotation may have changed while the node was out of reach, and not every node obeys it:
    what the node has said counts as well, and of two times the longer one.

    :raises PolicyError: the annotation is not understood.
    """
    wanted = read_policy(pod)
    if wanted is None:
        return None
    for condition in meta.sequence(pod, "status", "conditions"):
        if condition.get("type") == CONDITION and condition.get("status") == "True":
            said = _read(str(condition.get("message")))
            if said is not None:
                return Policy(max(wanted.seconds, said.seconds), wanted.replace and said.replace)
    return None


def grace(pod: Mapping[str, Any]) -> float:
    """Read how many seconds the pod's containers have to end, at most."""
    given = (
        meta.mapping(pod, "spec").get("terminationGracePeriodSeconds", DEFAULT_GRACE),
        meta.metadata(pod).get("deletionGracePeriodSeconds"),
    )
    return max((float(each) for each in given if isinstance(each, int | float)), default=0.0)


def is_evicted_early(pod: Mapping[str, Any], policy: Policy) -> bool:
    """Tell whether Kubernetes itself would replace the pod before its node has ended it.

    It evicts what does not tolerate an unreachable node for long enough.
    """
    for toleration in meta.sequence(pod, "spec", "tolerations"):
        if toleration.get("key") in (None, "", UNREACHABLE) and toleration.get("effect") in (
            None,
            "",
            "NoExecute",
        ):
            seconds = toleration.get("tolerationSeconds")
            return isinstance(seconds, int | float) and seconds < policy.seconds + grace(pod)
    return False
