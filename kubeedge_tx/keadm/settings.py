"""A role's configuration file: read, laid over with what the command line says, written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.config.loader import load
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.keadm.places import Places, RoleName, write

Tree = dict[str, Any]

FORMS: Final[dict[RoleName, Any]] = {"cloud": CloudCoreConfig, "edge": EdgeCoreConfig}


def read_tree(path: Path, role: RoleName) -> Tree:
    """Read what the file says; without one, the two keys that every file has.

    :raises ConfigError: it cannot be read, or is no mapping.
    """
    head: Tree = {
        "apiVersion": FORMS[role]().api_version,
        "kind": FORMS[role]().kind,
    }
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return head
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(str(path), f"cannot be read: {reason}") from None
    load(text, FORMS[role], str(path))  # says what is wrong with it, and where
    tree = yaml.safe_load(text)
    return head | (tree or {})


def config_of(tree: Tree, role: RoleName) -> Any:
    """The typed configuration of a tree.

    :raises ConfigError: a key or value of it cannot be used; the text has its path.
    """
    return load(yaml.safe_dump(tree), FORMS[role], "the configuration")


def put(tree: Tree, path: str, value: Any) -> None:
    """Set one key, by its path: ``modules.edgeHub.token``.

    :raises ConfigError: the path leads through something that is no mapping.
    """
    *parents, last = path.split(".")
    for parent in parents:
        below = tree.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(path, f"{parent} is not a mapping")
        tree = below
    tree[last] = value


def apply_sets(tree: Tree, settings: Iterable[str]) -> None:
    """Set what ``--set path=value[,path=value…]`` says; values are YAML.

    :raises ConfigError: one has no ``=``, or a value that is no YAML.
    """
    for setting in settings:
        for pair in split_pairs(setting):
            path, equals, text = pair.partition("=")
            if not equals or not path.strip():
                raise ConfigError("--set", f"expected path=value, got {pair!r}")
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError:
                raise ConfigError("--set", f"the value of {path.strip()} is no YAML") from None
            put(tree, path.strip(), "" if text == "" else value)


def split_pairs(text: str) -> list[str]:
    """Split at commas that do not stand inside brackets or quotes."""
    pairs, depth, quote, start = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and not depth:
            pairs.append(text[start:at])
            start = at + 1
    return [*pairs, text[start:]]


def save(places: Places, tree: Tree) -> None:
    """Write the file; its folder is there.

    :raises KeadmError: the disk does not take it.
    """
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    write(places.config_file, text.encode(), 0o600)
