"""Times as Kubernetes writes them: RFC 3339 in UTC, to the second or the microsecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)\Z",
    re.ASCII,
)


def parse_time(text: str) -> tuple[int, int] | None:
    """Read RFC 3339; returns seconds and nanoseconds since 1970, or None."""
    match = _TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    seconds = int(moment.timestamp())
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds += -offset if zone[0] == "+" else offset
    nanos = int((match[7] or "").ljust(9, "0"))
    return seconds, nanos


def format_time(seconds: int, nanos: int, *, micro: bool) -> str | None:
    """Write as ``metav1.Time`` does, or with microseconds; None for what is no year 1-9999."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    text = moment.strftime("%Y").rjust(4, "0") + moment.strftime("-%m-%dT%H:%M:%S")
    return f"{text}.{nanos // 1000:06d}Z" if micro else text + "Z"


def rfc3339(seconds: float) -> str:
    """A time in seconds since 1970 as ``2026-11-24T08:03:59Z``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """A time as ``2026-11-24T08:03:59.000000Z``, the form of Lease times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_since_1970(text: object) -> float | None:
    """Read a time as a single number; ``None`` if it is none."""
    moment = parse_time(text) if isinstance(text, str) else None
    return None if moment is None else moment[0] + moment[1] / 1e9
