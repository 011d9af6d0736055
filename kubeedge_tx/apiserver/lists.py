"""Lists: as of which version, in which chunks."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from kubeedge_tx.apiserver import status
from kubeedge_tx.apiserver.calls import Call
from kubeedge_tx.apiserver.selection import Selection
from kubeedge_tx.apiserver.shelf import Compacted, Item
from kubeedge_tx.apiserver.store import ObjectStore

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You must "
    "start a new list without the continue parameter."
)


def read_list(
    store: ObjectStore, selection: Selection, call: Call
) -> tuple[list[Item], dict[str, Any]]:
    """Find the objects of a list request.

    :returns: the objects, and the list's metadata.
    :raises ApiError: 400, 410, or 504 for a version that does not exist yet.
    """
    limit = call.number("limit") or 0
    token = call.option("continue")
    wanted = _version(call, store)
    start: tuple[str, str] | None = None
    if token:
        if call.option("resourceVersion") not in ("", "0"):
            raise status.bad_request(
                "specifying resource version is not allowed when using continue"
            )
        wanted, start = _parse_continue(token)
    version = store.version if wanted is None else wanted
    try:
        items = selection.pick(
            store.shelf(selection.info.resource), None if version == store.version else version
        )
    except Compacted as compacted:
        if token:
            raise status.expired(_TOO_OLD) from None
        raise status.expired(
            f"The resourceVersion for the provided list is too old: {version} ({compacted.oldest})"
        ) from None
    if start is not None:
        items = [item for item in items if item.key > start]
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if limit and len(items) > limit:
        remaining = len(items) - limit
        items = items[:limit]
        metadata["continue"] = _make_continue(version, items[-1])
        if selection.is_everything:
            metadata["remainingItemCount"] = remaining
    return items, metadata


def check_version(text: str) -> int | None:
    """Read a resourceVersion parameter; ``None`` for unset or 0.

    :raises ApiError: 400 if it is no number.
    """
    if text in ("", "0"):
        return None
    if not text.isascii() or not text.isdigit():
        raise status.bad_request(f'resourceVersion: Invalid value: "{text}": must be a number')
    return int(text)


def _version(call: Call, store: ObjectStore) -> int | None:
    """The version a list must show exactly; ``None`` for the newest."""
    match = call.option("resourceVersionMatch")
    version = check_version(call.option("resourceVersion"))
    if match not in ("", "Exact", "NotOlderThan"):
        raise status.bad_request(
            f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", '
            '"NotOlderThan"'
        )
    if version is None:
        if match == "Exact":
            raise status.bad_request(
                'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for '
                'resourceVersion "0" or unset'
            )
        return None
    if version > store.version:
        message = f"Too large resource version: {version}, current: {store.version}"
        raise status.ApiError(
            504,
            "Timeout",
            f"Timeout: {message}",
            {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": message}],
                "retryAfterSeconds": 1,
            },
            retry_after=1,
        )
    # Without a match, a limit makes a version exact, as it always did.
    return version if match == "Exact" or (not match and call.option("limit")) else None


def _make_continue(version: int, last: Item) -> str:
    value = {"v": "meta.k8s.io/v1", "rv": version, "start": f"{last.namespace}/{last.name}"}
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


def _parse_continue(token: str) -> tuple[int, tuple[str, str]]:
    try:
        padded = token + "=" * (-len(token) % 4)
        value = msgspec.json.decode(base64.urlsafe_b64decode(padded))
        namespace, _, name = value["start"].partition("/")
        return int(value["rv"]), (namespace, name)
    except (binascii.Error, ValueError, msgspec.DecodeError, TypeError, KeyError, AttributeError):
        raise status.bad_request("continue key is not valid: it was not made by this server") from (
            None
        )
