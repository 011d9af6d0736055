"""The three patch types of the Kubernetes API, as far as tests meet them."""

from __future__ import annotations

from typing import Any

MERGE_KEYS = {
    "conditions": "type",
    "addresses": "type",
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ownerReferences": "uid",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "podIPs": "ip",
}
"""Lists that a strategic merge patch merges by a key; other lists it replaces."""

MERGED_PRIMITIVES = {"finalizers"}
"""Lists of strings that it merges as sets."""


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_patch(target: Any, patch: Any) -> Any:
    """Kubernetes' own: as a merge patch, with lists merged by their keys."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    keep = patch.get("$retainKeys")
    if keep is not None:
        result = {key: value for key, value in result.items() if key in keep}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [item for item in result.get(name, []) if item not in value]
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _merge_list(key, result.get(key) or [], value)
        else:
            result[key] = strategic_patch(result.get(key), value)
    return result


def _merge_list(name: str, old: list[Any], new: list[Any]) -> list[Any]:
    if name in MERGED_PRIMITIVES:
        return old + [item for item in new if item not in old]
    key = MERGE_KEYS.get(name)
    if key is None or not all(isinstance(item, dict) and key in item for item in new):
        return new
    result = list(old)
    for item in new:
        at = next((i for i, have in enumerate(result) if have.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(item)
        else:
            result[at] = strategic_patch(result[at], item)
    return result


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902: add, replace, remove, test; raises ValueError where the real one refuses."""
    document = {"": target}
    for operation in operations:
        parts = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")]
        holder: Any = document
        try:
            for part in parts[:-1]:
                holder = holder[int(part)] if isinstance(holder, list) else holder[part]
            _apply(operation["op"], holder, parts[-1], operation.get("value"))
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"{operation['op']} {operation['path']}: no such path") from None
    return document[""]


def _apply(op: str, holder: Any, key: str, value: Any) -> None:
    at: Any = key
    if isinstance(holder, list):
        at = len(holder) if key == "-" else int(key)
    if op == "add":
        if isinstance(holder, list):
            holder.insert(at, value)
        else:
            holder[at] = value
    elif op == "replace":
        holder[at]
        holder[at] = value
    elif op == "remove":
        del holder[at]
    elif op == "test":
        if holder[at] != value:
            raise ValueError(f"test of {key} failed")
    else:
        raise ValueError(f"unsupported operation {op}")
