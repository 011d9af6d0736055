"""The patches that PATCH understands; none of them changes what it is given.

Source of the merge patch: RFC 7396.
"""

from __future__ import annotations

import copy
from typing import Any

from kubeedge_tx.apiserver.jsonpatch import MAX_OPERATIONS, apply_json_patch
from kubeedge_tx.apiserver.patcherrors import PatchError, bad_request, check_depth, json_name
from kubeedge_tx.apiserver.strategicmerge import apply_strategic_merge

__all__ = [
    "MAX_OPERATIONS",
    "PatchError",
    "apply_json_patch",
    "apply_merge_patch",
    "apply_strategic_merge",
]


def apply_merge_patch(obj: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch to an object.

    :raises PatchError: 400 when the patch is no object, or too deep.
    """
    if not isinstance(patch, dict):
        raise bad_request(
            f"json: cannot unmarshal {json_name(patch)} into Go value of type"
            " map[string]interface {}"
        )
    check_depth(patch)
    return _merge(copy.deepcopy(obj), patch)


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
