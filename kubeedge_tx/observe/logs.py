"""Log lines: text for people, JSON for machines."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from zope.interface import implementer

LEVELS: Final = ("debug", "info", "warn", "error")

_QUIET: Final = ("twisted", "autobahn", "log_legacy")
"""Namespaces whose ``info`` (every listener, every request) is another program's ``debug``."""


def observer(stream: TextIO, *, level: str, form: str) -> ILogObserver:
    """Build the process' log observer.

    :param level: one of :data:`LEVELS`; what is below is left out.
    :param form: ``text`` or ``json``.
    """
    predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
    for namespace in _QUIET if level != "debug" else ():
        predicate.setLogLevelForNamespace(namespace, LogLevel.warn)
    write = _Json(stream) if form == "json" else _Text(stream)
    return FilteringLogObserver(write, [predicate])


@implementer(ILogObserver)
class _Text:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: dict[str, Any]) -> None:
        when = datetime.fromtimestamp(event.get("log_time", 0.0)).astimezone()
        level = event.get("log_level", LogLevel.info).name
        line = f"{when:%Y-%m-%dT%H:%M:%S.%f%z} {level:<8} {_origin(event)}: {_text(event)}\n"
        self._stream.write(line)
        self._stream.flush()


@implementer(ILogObserver)
class _Json:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: dict[str, Any]) -> None:
        when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": event.get("log_level", LogLevel.info).name,
            "logger": event.get("log_namespace", "-"),
            "event": event.get("log_format"),
            "text": _text(event),
        }
        for key, value in event.items():
            if not key.startswith("log_") and key not in ("format", "time", "message", "isError"):
                line[key] = value if isinstance(value, int | float | bool) else str(value)
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()


def _origin(event: dict[str, Any]) -> str:
    return str(event.get("log_namespace", "-")).removeprefix("kubeedge_tx.")


def _text(event: dict[str, Any]) -> str:
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is None:
        return text
    # The frames and the exception, never the local variables: they may hold a Secret.
    trace = "".join(
        traceback.format_exception(failure.type, failure.value, failure.getTracebackObject())
    )
    return f"{text}\n{trace.rstrip()}"
