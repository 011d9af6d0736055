"""JSON Patch. Source: RFC 6902; refusals as Kubernetes words them."""

from __future__ import annotations

import copy
import re
from typing import Any, Final

from kubeedge_tx.apiserver.patcherrors import (
    PatchError,
    bad_request,
    check_depth,
    json_name,
    same,
)

MAX_OPERATIONS: Final = 10_000
"""Operations in one JSON Patch. Source: Kubernetes ``handlers/patch.go``."""
_REJECTED: Final = "the server rejected our request due to an error in our request"
_INDEX: Final = re.compile(r"(0|[1-9][0-9]*)\Z")


def apply_json_patch(obj: Any, ops: Any) -> Any:
    """Apply a JSON Patch.

    :raises PatchError: 400 for what is no patch, 413 for too many operations, 422 for an
        operation that does not apply or a test that fails.
    """
    if not isinstance(ops, list):
        raise _no_json_patch(ops)
    for op in ops:
        if not isinstance(op, dict):
            raise _no_json_patch(op)
    if len(ops) > MAX_OPERATIONS:
        raise PatchError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(ops)}",
        )
    check_depth(ops)
    document = copy.deepcopy(obj)
    for op in ops:
        document = _operate(document, op)
    return document


def _no_json_patch(value: Any) -> PatchError:
    return bad_request(
        f"error decoding patch: json: cannot unmarshal {json_name(value)} into Go value of type"
        " jsonpatch.Patch"
    )


def _operate(document: Any, op: dict[str, Any]) -> Any:
    name = op.get("op")
    path = _pointer(op.get("path"))
    if name in ("add", "replace", "test") and "value" not in op:
        raise _rejected()
    match name:
        case "add":
            return _add(document, path, copy.deepcopy(op["value"]))
        case "remove":
            return _remove(document, path)[0]
        case "replace":
            if not path:
                return copy.deepcopy(op["value"])
            document, _ = _remove(document, path)
            return _add(document, path, copy.deepcopy(op["value"]))
        case "test":
            if not same(_find(document, path), op["value"]):
                raise _rejected()
            return document
        case "copy":
            return _add(document, path, copy.deepcopy(_find(document, _pointer(op.get("from")))))
        case "move":
            source = _pointer(op.get("from"))
            if path[: len(source)] == source and len(path) > len(source):
                raise _rejected()
            document, value = _remove(document, source) if source else (None, document)
            return _add(document, path, value)
        case _:
            raise _rejected()


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _rejected()
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _position(items: list[Any], step: str, limit: int) -> int:
    if not _INDEX.match(step) or len(step) > 9 or int(step) >= limit:
        raise _rejected()
    return int(step)


def _find(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, dict):
            if step not in document:
                raise _rejected()
            document = document[step]
        elif isinstance(document, list):
            document = document[_position(document, step, len(document))]
        else:
            raise _rejected()
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    step = path[-1]
    if isinstance(parent, dict):
        parent[step] = value
    elif isinstance(parent, list):
        if step == "-":  # RFC 6902: the end of the array
            parent.append(value)
        else:
            parent.insert(_position(parent, step, len(parent) + 1), value)
    else:
        raise _rejected()
    return document


def _remove(document: Any, path: list[str]) -> tuple[Any, Any]:
    if not path:
        raise _rejected()
    parent = _find(document, path[:-1])
    step = path[-1]
    if isinstance(parent, dict) and step in parent:
        return document, parent.pop(step)
    if isinstance(parent, list):
        return document, parent.pop(_position(parent, step, len(parent)))
    raise _rejected()


def _rejected() -> PatchError:
    return PatchError(422, "Invalid", _REJECTED)
