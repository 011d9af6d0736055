"""Tests that need a program of the machine's, and say so when it is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def requires(tool: str) -> Callable[[T], T]:
    """Skip a test or a class without ``tool``, or fail it if KUBEEDGE_TX_REQUIRE names it.

    :param tool: ``docker`` (an engine that answers), ``mosquitto`` or ``kubectl``.
    """
    reason = _missing(tool)

    def mark(test: T) -> T:
        if reason is not None and tool not in os.environ.get("KUBEEDGE_TX_REQUIRE", "").split(","):
            test.skip = reason  # type: ignore[attr-defined]
        return test

    return mark


def _missing(tool: str) -> str | None:
    program = shutil.which(tool) or shutil.which(tool, path="/usr/sbin")
    if program is None:
        return f"{tool} is not installed"
    if tool == "docker":
        answer = subprocess.run(
            [program, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            check=False,
        )
        if answer.returncode:
            return "no Docker engine answers"
    return None
