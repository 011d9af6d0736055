"""The recorded exchanges in tests/golden, for the tests of the pure half."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"
KUBECTL = ("kubectl-1.20.jsonl", "kubectl-1.32.jsonl", "kubectl-1.36.jsonl")


def exchanges(name: str) -> list[dict[str, Any]]:
    """The lines of a recording, in order."""
    return [json.loads(line) for line in (GOLDEN / name).read_text("utf-8").splitlines()]


def named(what: str) -> dict[str, Any]:
    """One exchange of kube-api.jsonl by its name."""
    return next(line for line in exchanges("kube-api.jsonl") if line["what"] == what)


def plain(value: Any) -> Any:
    """A value without managedFields, which we never keep."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != "managedFields"}
    return [plain(item) for item in value] if isinstance(value, list) else value


def objects(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every whole object that was answered, those in lists included."""
    for line in lines:
        body = line["response"]["body"]
        if not isinstance(body, dict) or "kind" not in body:
            continue
        if body["kind"].endswith("List") and isinstance(body.get("items"), list):
            kind = body["kind"].removesuffix("List")
            for item in body["items"]:
                yield {"kind": kind, "apiVersion": body["apiVersion"], **plain(item)}
        elif "metadata" in body:
            yield plain(body)
