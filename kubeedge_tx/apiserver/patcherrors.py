"""What goes wrong with patches, and what their kinds have in common."""

from __future__ import annotations

from typing import Any

from kubeedge_tx.apiserver.nesting import too_deep
from kubeedge_tx.errors import KubeEdgeError


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


def bad_request(message: str) -> PatchError:
    """400 with this text."""
    return PatchError(400, "BadRequest", message)


def check_depth(value: Any) -> None:
    """Refuse what would exhaust the stack of functions that recurse."""
    if too_deep(value):
        raise bad_request("error decoding patch: exceeded max depth")


def json_name(value: Any) -> str:
    """What Go calls a JSON value of this type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "null" if value is None else "object"


def same(left: Any, right: Any) -> bool:
    """JSON equality: 1 is 1.0 but true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
