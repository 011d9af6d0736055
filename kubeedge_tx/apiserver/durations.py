"""Ages as ``kubectl get`` shows them. Source: Kubernetes ``apimachinery/pkg/util/duration``."""

from __future__ import annotations

from kubeedge_tx.api.timestamps import parse_time


def human(seconds: float) -> str:
    """Write a time span in one or two units; ``<invalid>`` for one that lies ahead."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = whole // 3600
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    years = hours // 24 // 365
    if hours < 24 * 365 * 8:
        return _two(years, "y", hours // 24 % 365, "d")
    return f"{years}y"


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"


def since(timestamp: str | None, now: float, *, missing: str = "<unknown>") -> str:
    """How long ago an RFC 3339 time was.

    :param now: seconds since 1970.
    """
    moment = parse_time(timestamp) if timestamp else None
    if moment is None:
        return missing
    return human(now - moment[0] - moment[1] / 1e9)
