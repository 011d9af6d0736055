"""JSON Patch, JSON Merge Patch and Kubernetes' strategic merge patch, on plain JSON.

No function changes what it is given. Source: RFC 6902, RFC 7396, and for the third
Kubernetes' ``strategicpatch`` (directives, order of merged lists) with the merge keys of
``data/types.json``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver.nesting import too_deep
from kubeedge_tx.apiserver.types import Field, builtin_types
from kubeedge_tx.errors import KubeEdgeError

MAX_OPERATIONS: Final = 10_000
"""Operations in one JSON Patch. Source: Kubernetes ``handlers/patch.go``."""
_REJECTED: Final = "the server rejected our request due to an error in our request"
_ORDER: Final = "$setElementOrder/"
_DELETE_PRIMITIVES: Final = "$deleteFromPrimitiveList/"
_INDEX: Final = re.compile(r"(0|[1-9][0-9]*)\Z")

_KIND_MESSAGES: Final[Mapping[str, str]] = {
    "Namespace": "core.v1.Namespace",
    "Node": "core.v1.Node",
    "Pod": "core.v1.Pod",
    "ConfigMap": "core.v1.ConfigMap",
    "Secret": "core.v1.Secret",
    "Service": "core.v1.Service",
    "Endpoints": "core.v1.Endpoints",
    "Event": "core.v1.Event",
    "ServiceAccount": "core.v1.ServiceAccount",
    "Lease": "coordination.v1.Lease",
    "CertificateSigningRequest": "certificates.v1.CertificateSigningRequest",
    "CustomResourceDefinition": "apiextensions.v1.CustomResourceDefinition",
}


class PatchError(KubeEdgeError):
    """A patch cannot be applied.

    :param code: HTTP status.
    :param reason: Kubernetes' reason, possibly empty.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


def _bad_request(message: str) -> PatchError:
    return PatchError(400, "BadRequest", message)


def _rejected() -> PatchError:
    return PatchError(422, "Invalid", _REJECTED)


# --- RFC 7396 ---------------------------------------------------------------------------


def apply_merge_patch(obj: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch to an object.

    :raises PatchError: 400 when the patch is no object, or too deep.
    """
    if not isinstance(patch, dict):
        raise _bad_request(
            f"json: cannot unmarshal {_json_name(patch)} into Go value of type"
            " map[string]interface {}"
        )
    _check_depth(patch)
    return _merge(copy.deepcopy(obj), patch)


def _check_depth(value: Any) -> None:
    """Refuse what would exhaust the stack of the recursive functions below."""
    if too_deep(value):
        raise _bad_request("error decoding patch: exceeded max depth")


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if not isinstance(target, dict):
        target = {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = _merge(target.get(key), value)
    return target


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "null" if value is None else "object"


# --- RFC 6902 ---------------------------------------------------------------------------


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
    _check_depth(ops)
    document = copy.deepcopy(obj)
    for op in ops:
        document = _operate(document, op)
    return document


def _no_json_patch(value: Any) -> PatchError:
    return _bad_request(
        f"error decoding patch: json: cannot unmarshal {_json_name(value)} into Go value of type"
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
            if not _equal(_find(document, path), op["value"]):
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


def _equal(left: Any, right: Any) -> bool:
    """JSON equality: 1 is 1.0 but true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


# --- strategic merge --------------------------------------------------------------------


def apply_strategic_merge(obj: dict[str, Any], patch: Any, kind: str) -> dict[str, Any]:
    """Apply a strategic merge patch to an object of a built-in kind.

    :param kind: ``Pod``, ``Node``…
    :raises PatchError: 415 for a kind that has no merge keys (custom resources); 400 or 500,
        as the real server, for a patch that does not fit.
    """
    message = _KIND_MESSAGES.get(kind)
    if message is None:
        raise PatchError(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include:"
            " application/json-patch+json, application/merge-patch+json",
        )
    if not isinstance(patch, dict):
        raise _bad_request(
            f"json: cannot unmarshal {_json_name(patch)} into Go value of type"
            " map[string]interface {}"
        )
    _check_depth(patch)
    return _merge_map(copy.deepcopy(obj), copy.deepcopy(patch), message)


def _merge_map(original: dict[str, Any], patch: dict[str, Any], message: str) -> dict[str, Any]:
    if "$patch" in patch:
        return _directive(patch)
    _retain_keys(original, patch)
    _ordered_lists(original, patch, message)
    for key, value in patch.items():
        delete = key.startswith(_DELETE_PRIMITIVES)
        name = key.removeprefix(_DELETE_PRIMITIVES)
        if value is None:
            original.pop(name, None)
        elif type(original.get(name)) is not type(value) or name not in original:
            if not delete:
                _take(original, name, value)
        elif isinstance(value, dict):
            original[name] = _merge_map(original[name], value, _message_of(message, name))
        elif isinstance(value, list):
            original[name] = _list(message, name, original[name], value, delete=delete)
        else:
            original[name] = value
    return original


def _directive(patch: dict[str, Any]) -> dict[str, Any]:
    directive = patch["$patch"]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    raise _server_error(f"unknown patch type: {directive} in map: {_go_map(patch)}")


def _server_error(message: str) -> PatchError:
    # The real server has no status for these and answers 500 without a reason.
    return PatchError(500, "", message)


def _retain_keys(original: dict[str, Any], patch: dict[str, Any]) -> None:
    if "$retainKeys" not in patch:
        return
    keep = patch.pop("$retainKeys")
    if not isinstance(keep, list) or any(
        value is not None and key not in keep and not key.startswith((_ORDER, _DELETE_PRIMITIVES))
        for key, value in patch.items()
    ):
        raise _bad_request("invalid patch format of retainKeys")
    for key in [key for key in original if key not in keep]:
        del original[key]


def _take(original: dict[str, Any], name: str, value: Any) -> None:
    """Take over a value that the original does not have: no nulls, no directives."""
    kept, value = _without_directives(_without_nulls(value))
    if kept:
        original[name] = value
    else:
        original.pop(name, None)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _without_directives(value: Any) -> tuple[bool, Any]:
    if isinstance(value, dict):
        if "$patch" in value:
            return False, None
        pairs = ((key, _without_directives(item)) for key, item in value.items())
        return True, {
            key: item
            for key, (kept, item) in pairs
            if kept and not key.startswith((_ORDER, _DELETE_PRIMITIVES)) and key != "$retainKeys"
        }
    if isinstance(value, list):
        return True, [item for kept, item in map(_without_directives, value) if kept]
    return True, value


def _field(message: str, name: str) -> Field | None:
    return builtin_types().flat.get(message, {}).get(name)


def _message_of(message: str, name: str) -> str:
    """The message of the elements of a field; empty when it has none (maps, scalars)."""
    field = _field(message, name)
    if field is None:
        return ""
    kind = field.type.removeprefix("[]")
    return kind if kind in builtin_types().flat else ""


def _list(
    message: str, name: str, original: list[Any], patch: list[Any], *, delete: bool
) -> list[Any]:
    field = _field(message, name)
    if delete:
        return [item for item in original if not _contains(patch, item)]
    if field is None or not field.merge:
        return patch
    if not original and not patch:
        return original
    maps = [isinstance(item, dict) for item in original + patch]
    if any(isinstance(item, list) for item in original + patch):
        raise _bad_request("lists of lists are not supported")
    if any(maps) and not all(maps):
        raise _bad_request("list element types are not identical")
    if not maps[0]:
        merged: list[Any] = []
        for item in original + patch:
            if not _contains(merged, item):
                merged.append(item)
        return _arrange(merged, patch, original, _key_of(""))
    if not field.merge_key:
        raise _server_error(f"cannot merge lists without merge key for {name}")
    key = field.merge_key
    original, patch = _special_elements(original, patch, key)
    merged = _merge_elements(original, patch, key, _message_of(message, name))
    return _arrange(merged, patch, original, _key_of(key))


def _key_of(name: str) -> Callable[[Any], Any]:
    """How to tell items of a list apart: by a field, or as they are."""
    if not name:
        return lambda item: item
    return lambda item: item.get(name) if isinstance(item, dict) else None


def _contains(items: list[Any], item: Any) -> bool:
    return any(_equal(item, other) for other in items)


def _special_elements(
    original: list[Any], patch: list[Any], key: str
) -> tuple[list[Any], list[Any]]:
    plain = []
    replace = False
    for item in patch:
        directive = item.get("$patch")
        if "$patch" not in item:
            plain.append(item)
        elif directive == "delete":
            if key not in item:
                raise _no_merge_key(item, key)
            original = [other for other in original if not _equal(other.get(key), item[key])]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _server_error("merging lists cannot yet be specified in the patch")
        else:
            raise _server_error(f"unknown patch type: {directive} in map: {_go_map(item)}")
    return (plain, []) if replace else (original, plain)


def _no_merge_key(item: dict[str, Any], key: str) -> PatchError:
    return _server_error(f"map: {_go_map(item)} does not contain declared merge key: {key}")


def _go_map(item: dict[str, Any]) -> str:
    """Name the keys only: the values may be secret."""
    return f"map[{' '.join(sorted(item))}]"


def _merge_elements(original: list[Any], patch: list[Any], key: str, message: str) -> list[Any]:
    merged = list(original)
    for item in patch:
        if key not in item:
            raise _no_merge_key(item, key)
        for position, other in enumerate(merged):
            if _equal(other.get(key), item[key]):
                merged[position] = _merge_map(other, item, message)
                break
        else:
            merged.append(_without_directives(_without_nulls(item))[1])
    return merged


def _arrange(
    merged: list[Any], first: list[Any], before: list[Any], key: Callable[[Any], Any]
) -> list[Any]:
    """Order a merged list: the patch's items in its order, others where they stood.

    Where an item of the patch is new, it goes before the others, as in the real server.
    """

    def index(items: list[Any], item: Any) -> int:
        wanted = key(item)
        return next((i for i, other in enumerate(items) if _equal(key(other), wanted)), -1)

    ours = sorted((i for i in merged if index(first, i) >= 0), key=lambda i: index(first, i))
    others = sorted(
        (i for i in merged if index(first, i) < 0),
        key=lambda i: (index(before, i) < 0, index(before, i)),
    )
    result: list[Any] = []
    while ours and others:
        left, right = index(before, others[0]), index(before, ours[0])
        result.append((others if left >= 0 and right >= 0 and left < right else ours).pop(0))
    return result + ours + others


def _ordered_lists(original: dict[str, Any], patch: dict[str, Any], message: str) -> None:
    """Apply ``$setElementOrder/<field>`` together with the list it belongs to."""
    for directive in [key for key in patch if key.startswith(_ORDER)]:
        order = patch.pop(directive)
        name = directive.removeprefix(_ORDER)
        have, want = original.get(name), patch.get(name)
        if not isinstance(order, list) or not all(
            value is None or isinstance(value, list) for value in (have, want)
        ):
            raise _bad_request("invalid patch format of setElementOrder list")
        field = _field(message, name)
        key = field.merge_key if field else ""
        _check_order(want or [], order, key)
        if have is None and want is None:
            continue
        if want is None:
            merged = list(have or [])
        elif have is None:
            merged = _without_directives(_without_nulls(want))[1]
        else:
            merged = _list(message, name, have, want, delete=False)
        patch.pop(name, None)
        original[name] = _arrange(merged, order, have or [], _key_of(key))


def _check_order(patch: list[Any], order: list[Any], key: str) -> None:
    """The patch's items must appear in the order list, in its order."""
    position = 0
    for item in patch:
        if key:
            if not isinstance(item, dict) or "$patch" in item:
                continue
            value = item.get(key)
        else:
            value = item
        while position < len(order):
            other = order[position]
            position += 1
            if _equal(other.get(key) if key and isinstance(other, dict) else other, value):
                break
        else:
            raise _bad_request("invalid patch format of setElementOrder list")
