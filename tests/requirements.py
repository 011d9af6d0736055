"""Tests that need a program of the machine's, and say so when it is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.clocks import find_library

T = TypeVar("T")


def requires(tool: str) -> Callable[[T], T]:
    """Skip a test or a class without ``tool``, or fail it if KUBEEDGE_TX_REQUIRE names it.

    :param tool: ``docker`` (an engine that answers), ``mqttjs`` (the package ``mqtt`` of npm
        in the folder that KUBEEDGE_TX_MQTTJS names) or a program: ``mosquitto``, ``kubectl``;
        or ``libfaketime``, which is no program.
    """
    reason = _missing(tool)

    def mark(test: T) -> T:
        if reason is not None and tool not in os.environ.get("KUBEEDGE_TX_REQUIRE", "").split(","):
            test.skip = reason  # type: ignore[attr-defined]
        return test

    return mark


def _missing(tool: str) -> str | None:
    if tool == "root":
        return "needs root" if os.geteuid() else None
    if tool == "mqttjs":
        return _missing_mqttjs()
    if tool == "libfaketime":
        return _missing_libfaketime()
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


def _missing_libfaketime() -> str | None:
    try:
        find_library()
    except ConfigError as error:
        return error.reason
    return None


def _missing_mqttjs() -> str | None:
    if shutil.which("node") is None:
        return "node is not installed"
    folder = os.environ.get("KUBEEDGE_TX_MQTTJS", "")
    if not folder or not (Path(folder) / "node_modules/mqtt").is_dir():
        return "KUBEEDGE_TX_MQTTJS names no folder where `npm install mqtt@5.16.0` was run"
    return None
