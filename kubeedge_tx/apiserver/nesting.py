"""How deep JSON is nested, found out without recursion."""

from __future__ import annotations

from typing import Any, Final

MAX_DEPTH: Final = 200
"""Levels that the recursive functions of this package are made for."""


def too_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether lists and objects are nested in more than ``limit`` levels."""
    level = [value] if isinstance(value, dict | list) else []
    depth = 0
    while level:
        depth += 1
        if depth > limit:
            return True
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
    return False
