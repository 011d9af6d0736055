"""Kubernetes' strategic merge patch: lists merge by keys, directives say more.

Source: Kubernetes ``apimachinery/pkg/util/strategicpatch`` (directives, order of merged lists);
the merge keys stand in ``data/types.json``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from kubeedge_tx.apiserver.patcherrors import (
    PatchError,
    bad_request,
    check_depth,
    json_name,
    same,
)
from kubeedge_tx.apiserver.types import Field, builtin_types

_ORDER: Final = "$setElementOrder/"
_DELETE_PRIMITIVES: Final = "$deleteFromPrimitiveList/"

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
        raise bad_request(
            f"json: cannot unmarshal {json_name(patch)} into Go value of type"
            " map[string]interface {}"
        )
    check_depth(patch)
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
        raise bad_request("invalid patch format of retainKeys")
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
        raise bad_request("lists of lists are not supported")
    if any(maps) and not all(maps):
        raise bad_request("list element types are not identical")
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
    return any(same(item, other) for other in items)


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
            original = [other for other in original if not same(other.get(key), item[key])]
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
            if same(other.get(key), item[key]):
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
        return next((i for i, other in enumerate(items) if same(key(other), wanted)), -1)

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
            raise bad_request("invalid patch format of setElementOrder list")
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
            if same(other.get(key) if key and isinstance(other, dict) else other, value):
                break
        else:
            raise bad_request("invalid patch format of setElementOrder list")
