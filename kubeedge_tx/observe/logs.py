"""Log lines: text for people, JSON for machines."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
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

FORMS: Final = ("text", "json")

_QUIET: Final = ("twisted", "autobahn", "log_legacy")
"""Namespaces whose ``info`` (every listener, every request) is another program's ``debug``."""


MAX_TEXT: Final = 8 * 1024
"""Characters of one line; a traceback behind it is not cut."""


class Levels:
    """From which level on each part of the process is logged; can be changed at any time."""

    def __init__(self, level: str, parts: Mapping[str, str] | None = None) -> None:
        self._predicate = LogLevelFilterPredicate()
        self.set(level, parts or {})

    def __call__(self, event: dict[str, Any]) -> Any:
        """Decide about one event."""
        return self._predicate(event)

    def set(self, level: str, parts: Mapping[str, str]) -> None:
        """Replace all levels.

        :param level: one of :data:`LEVELS`; what is below is left out.
        :param parts: other levels for some packages: ``edge.edgehub``, ``twisted``.
        """
        predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
        for namespace in _QUIET if level != "debug" else ():
            predicate.setLogLevelForNamespace(namespace, LogLevel.warn)
        for part, its_level in parts.items():
            level_of = LogLevel.levelWithName(its_level)
            for namespace in (part, f"kubeedge_tx.{part}"):
                predicate.setLogLevelForNamespace(namespace, level_of)
        self._predicate = predicate


@implementer(ILogObserver)
class Output:
    """Writes events, in the form that ``form`` names; that can be changed at any time.

    :param form: one of :data:`FORMS`.
    """

    def __init__(self, stream: TextIO, form: str) -> None:
        self._forms = {"text": _Text(stream), "json": _Json(stream)}
        self.form = form

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one event."""
        self._forms[self.form](event)


def observer(output: Output, levels: Levels) -> ILogObserver:
    """Build a process' log observer."""
    predicate: Any = levels
    return FilteringLogObserver(output, [predicate])


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
                line[key] = (
                    value if isinstance(value, int | float | bool) else str(value)[:MAX_TEXT]
                )
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()


def _one_line(text: str) -> str:
    """Keep what others wrote from looking like lines of ours, or from being endless."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… ({len(text)} characters)"
    if text.isprintable():
        return text
    lines = text.split("\n")
    return "\n    ".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _origin(event: dict[str, Any]) -> str:
    return str(event.get("log_namespace", "-")).removeprefix("kubeedge_tx.")


def _text(event: dict[str, Any]) -> str:
    text = _one_line(formatEvent(event))
    failure = event.get("log_failure")
    if failure is None:
        return text
    # The frames and the exception, never the local variables: they may hold a Secret.
    trace = "".join(
        traceback.format_exception(failure.type, failure.value, failure.getTracebackObject())
    )
    return f"{text}\n{trace.rstrip()}"
