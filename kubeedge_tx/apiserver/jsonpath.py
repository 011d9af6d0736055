"""The part of JSONPath that printer columns use: names, indexes, ``[*]``, ``[?(@.a=="b")]``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

Step = Callable[[Any], Iterator[Any]]

_NAME: Final = re.compile(r"\.((?:[^.\[\\]|\\.)+)")
_BRACKET: Final = re.compile(
    r"\[(?:(?P<index>-?\d+)|(?P<all>\*)|'(?P<single>(?:[^'\\]|\\.)*)'|\"(?P<double>[^\"]*)\""
    r"|\?\(@(?P<path>(?:\.[A-Za-z0-9_\-]+)+)\s*(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>[^)]+)\))\]"
)


def find(path: str, obj: Any) -> list[Any]:
    """Everything that a path leads to; empty when nothing does, or the path is not understood."""
    found = [obj]
    for step in steps(path) or (_nothing,):
        found = [result for value in found for result in step(value)]
    return found


@lru_cache(maxsize=512)
def steps(path: str) -> tuple[Step, ...] | None:
    """Read a path such as ``.status.conditions[?(@.type=="Ready")].status``.

    :returns: None when it is not understood.
    """
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if text and text[0] not in ".[":
        text = "." + text
    result: list[Step] = []
    position = 0
    while position < len(text):
        match = _NAME.match(text, position) or _BRACKET.match(text, position)
        if match is None:
            return None
        result.append(_step(match))
        position = match.end()
    return tuple(result)


def _step(match: re.Match[str]) -> Step:
    if match.re is _NAME:
        name = re.sub(r"\\(.)", r"\1", match[1])
        return _every if name == "*" else _member(name)
    if match["all"]:
        return _every
    if match["index"] is not None:
        return _item(int(match["index"]))
    if match["path"] is not None:
        return _filter(match["path"], match["op"], match["value"].strip())
    single = match["single"]
    return _member(re.sub(r"\\(.)", r"\1", single) if single is not None else match["double"])


def _nothing(value: Any) -> Iterator[Any]:
    return iter(())


def _member(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _item(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _filter(path: str, operator: str, literal: str) -> Step:
    wanted = _literal(literal)

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else []:
            results = find(path, item)
            if results and _holds(results[0], operator, wanted):
                yield item

    return step


def _literal(text: str) -> Any:
    if text.startswith("'"):
        return text[1:-1]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    if operator in ("==", "!="):
        return bool(value == wanted) == (operator == "==")
    if isinstance(value, str) != isinstance(wanted, str) or value is None:
        return False
    match operator:
        case "<":
            return bool(value < wanted)
        case "<=":
            return bool(value <= wanted)
        case ">":
            return bool(value > wanted)
    return bool(value >= wanted)
