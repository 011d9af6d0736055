"""The recorded requests of vectors/kube-api.jsonl, asked of our server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.apiserver.running import Reply, ServerCase

GOLDEN = Path(__file__).parents[1] / "golden" / "kube-api.jsonl"
SHARED = Path("/work/shared/vectors/kube-api.jsonl")

NOT_ASKED = {
    "apply": "server-side apply is absent (415)",
    "apply conflict": "server-side apply is absent (415)",
    "watch with selector: enters and leaves": "needs a change meanwhile; see test_watch",
    "unknown token": "recorded by a client certificate; see test_auth for tokens",
}
"""Recorded exchanges that we do not follow, and why."""

OWN_WORDS = {
    "bad json": "we never repeat what was sent, it may be a Secret",
    "immutable field": "Go's diff of its own structures is left out",
}
"""Exchanges with the same code and reason, and another message."""

OWN_BODY = {
    "discovery": "we serve fewer kinds; test_discovery compares those we serve",
    "aggregated discovery": "likewise",
}
"""Exchanges whose body cannot be the same."""

VOLATILE = {
    "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "token",
    "expirationTimestamp", "continue", "description", "lastTransitionTime",
}  # fmt: skip
"""Values that differ from run to run; their type must be the same."""

MAPPED = ("uid", "resourceVersion", "continue")
"""Values that later requests repeat."""


def recorded() -> list[dict[str, Any]]:
    """The exchanges, in order."""
    for path in (GOLDEN, SHARED):
        if path.exists():
            return [json.loads(line) for line in path.read_text().splitlines()]
    raise SkipTest("kube-api.jsonl is not here: it lies in the shared vectors folder")


def shape(value: Any, key: str = "") -> Any:
    """A value without what differs from run to run."""
    if isinstance(value, dict):
        return {k: shape(v, k) for k, v in value.items() if k not in ("managedFields", "selfLink")}
    if isinstance(value, list):
        return [shape(item, key if key == "cells" else "") for item in value]
    if key in VOLATILE:
        return type(value).__name__
    if isinstance(value, str):
        value = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UID", value)
        value = re.sub(r"\b(gen|e)-[a-z0-9]{5}\b", r"\1-RANDOM", value)
        if key == "cells":
            value = re.sub(r"^\d+[smh]$", "AGE", value)
    return value


def without_controllers(value: Any) -> Any:
    """Our answer without what no controller did where the recording was made.

    There, no namespace got its root certificate and no pod was told that it does not fit.
    """
    if isinstance(value, dict):
        value = {k: without_controllers(v) for k, v in value.items()}
        for key in ("items", "rows"):
            if key in value:
                kept = [v for v in value[key] if "kube-root-ca.crt" not in json.dumps(v)]
                value[key] = kept
        if "remainingItemCount" in value:
            value["remainingItemCount"] -= 1
        if "conditions" in value:
            kept = [c for c in value["conditions"] if c.get("reason") != "Unschedulable"]
            value = {k: v for k, v in value.items() if k != "conditions"}
            if kept:
                value["conditions"] = kept
        return value
    if isinstance(value, list):
        return [without_controllers(item) for item in value]
    return value


def without_bookmarks(events: list[Any]) -> list[Any]:
    """The events of a watch; when bookmarks come is a matter of time."""
    return [
        event
        for event in events
        if "kube-root-ca.crt" not in json.dumps(event)
        and (event["type"] != "BOOKMARK" or "annotations" in event["object"]["metadata"])
    ]


class ReplayTests(ServerCase):
    """A client that works with kube-apiserver gets the same answers here."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        await self.install_crds()
        self.mapped: dict[str, str] = {}
        self.differences: list[str] = []

    async def test_answers(self) -> None:
        """Status code, reason, message and shape are the real server's."""
        for exchange in recorded():
            request = exchange["request"]
            if exchange["what"] == "apply":
                await self.client.post(
                    "/api/v1/namespaces/raw/configmaps",
                    {"metadata": {"name": "ssa"}, "data": {"a": "1"}},
                )
            if exchange["what"] in NOT_ASKED:
                continue
            headers = {"accept": request["accept"]}
            if request["content_type"]:
                headers["content_type"] = request["content_type"]
            reply = await self.client.ask(
                request["method"],
                self.translate(request["path"]),
                self.body(request.get("body")),
                **headers,
            )
            self.compare(exchange, reply)
        self.assertEqual(self.differences, [], "\n\n".join(self.differences))

    def translate(self, path: str) -> str:
        """A recorded path with our values in place of theirs."""
        path = re.sub("timeoutSeconds=[0-9]+", "timeoutSeconds=1", path)
        for name in MAPPED:
            path = re.sub(f"({name}=)([^&]+)", lambda m: m[1] + self.mapped.get(m[2], m[2]), path)
        return path

    def body(self, value: Any) -> bytes | None:
        """A recorded request body with our values in place of theirs."""
        if value is None:
            return None
        if isinstance(value, str):
            return value.encode()
        return json.dumps(self.ours(value)).encode()

    def ours(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: self.ours(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self.ours(item) for item in value]
        return self.mapped.get(value, value) if key in MAPPED else value

    def learn(self, theirs: Any, ours: Any) -> None:
        """Remember which value of ours stands for which of theirs."""
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for key, value in theirs.items():
                if key in MAPPED and isinstance(value, str) and isinstance(ours.get(key), str):
                    self.mapped[value] = ours[key]
                self.learn(value, ours.get(key))
        elif isinstance(theirs, list) and isinstance(ours, list):
            for left, right in zip(theirs, ours, strict=False):
                self.learn(left, right)

    def compare(self, exchange: dict[str, Any], reply: Reply) -> None:
        what, theirs = exchange["what"], exchange["response"]
        where = f"{what}: {exchange['request']['method']} {exchange['request']['path']}"
        expected = theirs["body"]
        if isinstance(expected, str):
            found: Any = reply.text.decode()
        elif "watch=" in exchange["request"]["path"]:
            expected = without_bookmarks(expected)
            found = without_bookmarks(reply.events)
        else:
            found = reply.json
            self.learn(expected, found)
        left, right = shape(expected), shape(without_controllers(found))
        if what in OWN_BODY:
            left = right = None
        if what in OWN_WORDS:
            for side in (left, right):
                side.pop("message")
                for cause in (side.get("details") or {}).get("causes", []):
                    cause.pop("message")
        if (reply.code, right) != (theirs["status"], left):
            self.differences.append(
                f"{where}\n  theirs {theirs['status']} {json.dumps(left)}\n"
                f"  ours   {reply.code} {json.dumps(right)}"
            )
