"""The reference of all configuration keys, written from the Structs and their docstrings.

``script/generate`` writes it to ``docs/configuration.rst``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, Final, get_args, get_origin

import msgspec

from kubeedge_tx.config import cloudcore, edgecore
from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.config.mqtt import MqttConfig

_HEAD: Final = """\
.. Written by script/generate from kubeedge_tx/config; do not edit.

Configuration
=============

``twistd kubeedge-cloud --defaultconfig`` (and ``kubeedge-edge``, ``kubeedge-mqtt``) prints the
whole file with its defaults, ``--minconfig`` the keys that most people change, and
``keadm config validate FILE`` checks one. Keys and defaults are upstream's; *ours* marks those
that upstream does not have. A key that does not exist is an error that names its path.
*reload* marks keys that need no restart: SIGHUP, or ``systemctl reload`` (:ref:`reload`). What is
connected keeps the rates and windows that it began with.
"""

_LOGGING: Final = {f"commonConfig.logging.{key}" for key in ("level", "format", "levels")}

_FILES: Final = (
    ("cloudcore.yaml", CloudCoreConfig, cloudcore.RELOADABLE | _LOGGING),
    ("edgecore.yaml", EdgeCoreConfig, edgecore.RELOADABLE | _LOGGING),
    ("mqtt.yaml", MqttConfig, _LOGGING),
)


_EVERYWHERE: Final = {
    "apiVersion": "Which version of the file's form it is.",
    "kind": "Which file it is.",
    "enable": "Whether this part is there.",
    "address": "The interface that is listened on; ``0.0.0.0`` is every one.",
    "port": "The port that is listened on; 0 takes a free one.",
    "timeout": "Seconds.",
    "tlsCaFile": "PEM; the authority that is trusted.",
    "tlsCertFile": "PEM; the certificate that is shown.",
    "tlsPrivateKeyFile": "PEM; its key.",
    "featureGates": "Upstream's switches. ``requireAuthorization`` is read by its clients; none "
    "changes anything here.",
}
"""What keys of these names are, wherever they are and say nothing else."""


def render() -> str:
    """Write the reference."""
    parts = [_HEAD]
    for title, form, reloadable in _FILES:
        parts.append(f"\n{title}\n{'-' * len(title)}\n")
        parts.extend(_block(form, "", reloadable))
    return "\n".join(part.rstrip() for part in "\n".join(parts).splitlines()) + "\n"


def _block(form: Any, path: str, reloadable: Collection[str]) -> Iterator[str]:
    """Write a block's keys, then the blocks in it."""
    title = f"``{path}``" if path else ""
    if title:
        yield f"\n{title}\n{'~' * len(title)}\n"
    yield f"{_doc(form)}\n"
    notes = _notes(form)
    below = []
    for field in msgspec.structs.fields(form):
        where = f"{path}.{field.encode_name}".removeprefix(".")
        inner = _struct(field.type)
        if inner is not None and _is_single(field.type):
            below.append((inner, where))
            continue
        reload = "; *reload*" if where in reloadable else ""
        yield f"``{field.encode_name}`` ({_type(field.type)}{_default(field)}{reload})"
        yield textwrap.indent(notes.get(field.name) or _plain(field, form), "   ")
        yield ""
        if inner is not None:
            below.append((inner, f"{where}[]"))
    for inner, where in below:
        yield from _block(inner, where, reloadable)


def _doc(form: Any) -> str:
    return inspect.cleandoc(form.__doc__ or "")


def _plain(field: Any, form: Any) -> str:
    """What a key without a note is: said by its name, and by the block around it."""
    doc = _doc(form)
    if doc.startswith("Kept for upstream"):
        return "Kept for upstream's files."
    if "Only the keys with" in doc:
        return "Kept for a kubelet's files; it does nothing here."
    if doc.endswith("Not in this version."):
        return "Not in this version."
    if field.encode_name in _EVERYWHERE:
        return _EVERYWHERE[field.encode_name]
    name = field.encode_name
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in name).strip()
    return f"{words[:1].upper()}{words[1:]}."


@cache
def _notes(form: Any) -> dict[str, str]:
    """The text under each field, of the class and those it is made from."""
    notes: dict[str, str] = {}
    for each in reversed(form.__mro__):
        if not (isinstance(each, type) and issubclass(each, msgspec.Struct)):
            continue
        if each is msgspec.Struct:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for node, after in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                notes[node.target.id] = inspect.cleandoc(after.value.value)
    return notes


def _struct(kind: Any) -> Any:
    """The block in a type, if there is one: itself, optional, or in a list."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for each in get_args(kind) if (found := _struct(each))), None)


def _is_single(kind: Any) -> bool:
    if get_origin(kind) in (tuple, list):
        return False
    return all(_is_single(each) for each in get_args(kind))


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if hasattr(kind, "__metadata__"):
        return _limits(kind)
    if str(origin) == "typing.Literal":
        return " or ".join(f"``{value}``" for value in arguments)
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"map of {_type(arguments[0])} to {_type(arguments[1])}"
    if arguments:
        named = [each for each in arguments if each not in (type(None), msgspec.UnsetType)]
        return " or ".join(map(_type, named))
    return {"str": "text", "int": "number", "float": "number", "bool": "true or false"}.get(
        getattr(kind, "__name__", ""), "anything" if kind is Any else "block"
    )


def _limits(kind: Any) -> str:
    meta = next((each for each in kind.__metadata__ if isinstance(each, msgspec.Meta)), None)
    plain = _type(get_args(kind)[0])
    if meta is None:
        return plain
    if meta.pattern is not None:
        return "duration" if "(ns|us|ms|s|m|h)" in meta.pattern else plain
    if meta.ge is not None and meta.le is not None:
        return f"{meta.ge} to {meta.le}"
    if meta.ge is not None:
        return f"{plain}, at least {meta.ge}"
    return f"{plain}, more than {meta.gt}" if meta.gt is not None else plain


def _default(field: Any) -> str:
    if field.default is msgspec.UNSET:
        return ""
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return ", required"
    if value is None:
        return ""
    text = msgspec.json.encode(value).decode()
    return f", default ``{text}``" if len(text) < 200 else ""
