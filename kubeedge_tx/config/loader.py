"""YAML to typed configuration: an unknown key or a wrong type names its path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from kubeedge_tx.errors import ConfigError

T = TypeVar("T")

_AT: Final = re.compile(r"^(?P<reason>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<key>.*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `(?P<key>.*)`$")


def load(text: str, form: type[T], origin: str) -> T:
    """Read a configuration.

    :param form: the Struct it must fit; what the text leaves out keeps its default.
    :param origin: where the text came from, for the error: a file name.
    :raises ConfigError: no YAML, an unknown key, a wrong type or value.
    """
    tree = _parse(text, origin)
    try:
        return msgspec.convert({} if tree is None else tree, form, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None


def problems(text: str, form: type[Any], origin: str) -> tuple[Any, list[ConfigError]]:
    """Read a configuration, and find all that is wrong with it.

    :returns: what it is without the wrong keys, or ``None`` if nothing can be made of it; and
        the errors, in the order in which they are met.
    """
    found: list[ConfigError] = []
    tree: Any = None
    while True:
        try:
            tree = _parse(text, origin) if tree is None else tree
            return msgspec.convert({} if tree is None else tree, form, strict=True), found
        except ConfigError as error:
            return None, [error]
        except msgspec.ValidationError as error:
            found.append(_explain(str(error)))
            if not _remove(tree, found[-1].path):
                return None, found


def _remove(tree: Any, path: str) -> bool:
    """Take a key out, or the list it is in; ``False`` if there is none of that path."""
    *parents, last = path.partition("[")[0].split(".")
    below = tree
    for parent in parents:
        below = below.get(parent) if isinstance(below, dict) else None
    if not isinstance(below, dict) or last not in below:
        return False
    del below[last]
    return True


def load_file(path: Path, form: type[T]) -> T:
    """Read a configuration file.

    :raises ConfigError: it cannot be read, or :func:`load` refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(str(path), f"cannot be read: {reason}") from None
    return load(text, form, str(path))


def dump(config: msgspec.Struct) -> str:
    """Write a configuration as YAML, every key spelled out."""
    return yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False, allow_unicode=True)


def changed_keys(old: msgspec.Struct, new: msgspec.Struct) -> set[str]:
    """Name the keys whose values differ, by their paths."""
    return _changed(msgspec.to_builtins(old), msgspec.to_builtins(new), "")


def _changed(old: Any, new: Any, path: str) -> set[str]:
    if old == new:
        return set()
    if not isinstance(old, dict) or not isinstance(new, dict):
        return {path}
    keys = dict.fromkeys([*old, *new])
    return {
        found
        for key in keys
        for found in _changed(old.get(key), new.get(key), f"{path}.{key}".removeprefix("."))
    }


def _parse(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from CSafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}, line {mark.line + 1}" if mark else origin
        raise ConfigError(where, f"not YAML: {getattr(error, 'problem', error)}") from None


def _explain(text: str) -> ConfigError:
    match = _AT.match(text)
    assert match is not None
    reason = match["reason"]
    path = (match["path"] or "$").removeprefix("$").removeprefix(".")
    if unknown := _UNKNOWN.match(reason):
        path = f"{path}.{unknown['key']}".removeprefix(".")
        reason = "there is no such key"
    elif missing := _MISSING.match(reason):
        path = f"{path}.{missing['key']}".removeprefix(".")
        reason = "this key is required"
    else:
        reason = reason.replace("`", "")
        reason = reason[:1].lower() + reason[1:]
    return ConfigError(path or "the file", reason)


class _Loader(yaml.CSafeLoader):
    """YAML that refuses a key given twice: the first one would be lost without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
