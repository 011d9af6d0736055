"""The recordings in ``tests/golden``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "golden"


def lines(name: str) -> list[dict[str, Any]]:
    """Read a recording: one event, message or exchange a line."""
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]
