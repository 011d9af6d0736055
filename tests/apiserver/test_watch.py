from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tests.apiserver.running import ServerCase

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Lines(Protocol):
    """The lines of a watch, as they come."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.tail = b""
        self.waiting: list[tuple[int, Deferred[None]]] = []
        self.ended: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        *lines, self.tail = (self.tail + data).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        for count, done in tuple(self.waiting):
            if len(self.events) >= count:
                self.waiting.remove((count, done))
                done.callback(None)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.ended.callback(type(reason.value).__name__)

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Wait until there are ``count`` events; type and name of each."""
        if len(self.events) < count:
            done: Deferred[None] = Deferred()
            self.waiting.append((count, done))
            await done
        return self.short()

    def short(self) -> list[tuple[str, str]]:
        """Type and name of each event."""
        return [(e["type"], e["object"].get("metadata", {}).get("name", "")) for e in self.events]


class WatchTests(ServerCase):
    """A watch shows every change, once, in order."""

    async def watch(self, path: str, **headers: str) -> Lines:
        response = await self.client.open("GET", path, **headers)
        self.assertEqual(response.code, 200)
        lines = Lines()
        response.deliverBody(lines)
        self.watching = response
        return lines

    async def make(self, name: str, **labels: str) -> Any:
        return await self.client.post(MAPS, {"metadata": {"name": name, "labels": labels}})

    async def test_what_is_and_what_comes(self) -> None:
        """Without a version a watch begins with everything there is."""
        await self.make("a")
        lines = await self.watch(f"{MAPS}?watch=1&timeoutSeconds=5")
        await lines.take(2)
        await self.make("b")
        await self.client.patch(f"{MAPS}/a", {"data": {"k": "v"}})
        await self.client.ask("DELETE", f"{MAPS}/b")
        self.assertEqual(
            await lines.take(5),
            [
                ("ADDED", "a"),
                ("ADDED", "kube-root-ca.crt"),
                ("ADDED", "b"),
                ("MODIFIED", "a"),
                ("DELETED", "b"),
            ],
        )
        versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in lines.events]
        self.assertEqual(versions[2:], sorted(versions[2:]))

    async def test_resumes(self) -> None:
        """From a version on, exactly what came after it is sent."""
        version = (await self.make("a"))["metadata"]["resourceVersion"]
        await self.make("b")
        lines = await self.watch(f"{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1")
        await lines.ended
        self.assertEqual(lines.short(), [("ADDED", "b")])

    async def test_enters_and_leaves(self) -> None:
        """An object that begins or ceases to match a selector is added or deleted."""
        await self.make("a", n="1")
        version = (await self.client.get(MAPS))["metadata"]["resourceVersion"]
        path = f"{MAPS}?watch=1&resourceVersion={version}&labelSelector=n%3D2&timeoutSeconds=5"
        lines = await self.watch(path)
        for value in ("2", "2", "3", "3"):
            changes = {"metadata": {"labels": {"n": value}}, "data": {"at": value}}
            await self.client.patch(f"{MAPS}/a", changes)
        await self.client.patch(f"{MAPS}/a", {"metadata": {"labels": {"n": "2"}}})
        await self.client.patch(f"{MAPS}/a", {"data": {"x": "y"}})
        await self.client.ask("DELETE", f"{MAPS}/a")
        self.assertEqual(
            [kind for kind, _ in await lines.take(5)],
            ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"],
        )
        left = lines.events[1]["object"]
        self.assertEqual((left["metadata"]["labels"], left["data"]), ({"n": "2"}, {"at": "2"}))

    async def test_field_selector(self) -> None:
        """Pods of one node are followed, as an edge is served."""
        pods = "/api/v1/namespaces/default/pods"
        path = "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dedge-1&timeoutSeconds=5"
        lines = await self.watch(path)
        for name, node in (("a", "edge-2"), ("b", "edge-1"), ("c", "edge-1")):
            spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
            await self.client.post(pods, {"metadata": {"name": name}, "spec": spec})
        self.assertEqual(await lines.take(2), [("ADDED", "b"), ("ADDED", "c")])

    async def test_initial_events(self) -> None:
        """With sendInitialEvents a bookmark says when the objects there are have been sent."""
        await self.make("a")
        lines = await self.watch(
            f"{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
            "&allowWatchBookmarks=true&timeoutSeconds=5"
        )
        self.assertEqual([kind for kind, _ in await lines.take(3)], ["ADDED", "ADDED", "BOOKMARK"])
        self.assertEqual(
            lines.events[2]["object"]["metadata"]["annotations"],
            {"k8s.io/initial-events-end": "true"},
        )

    async def test_last_bookmark(self) -> None:
        """Before a watch ends a bookmark says how far it has come."""
        made = await self.client.post("/api/v1/namespaces", {"metadata": {"name": "other"}})
        lines = await self.watch(
            f"{MAPS}?watch=1&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=3"
        )
        await lines.ended
        self.assertEqual(lines.events[-1]["type"], "BOOKMARK")
        marked = int(lines.events[-1]["object"]["metadata"]["resourceVersion"])
        self.assertGreaterEqual(marked, int(made["metadata"]["resourceVersion"]))

    async def test_table(self) -> None:
        """kubectl get -w gets tables, the columns once."""
        await self.make("a")
        lines = await self.watch(f"{MAPS}?watch=1&timeoutSeconds=5", accept=TABLE)
        await lines.take(2)
        first, second = (event["object"] for event in lines.events)
        self.assertEqual((first["kind"], len(first["columnDefinitions"])), ("Table", 3))
        self.assertIsNone(second["columnDefinitions"])
        self.assertEqual(first["rows"][0]["cells"][0], "a")

    async def test_too_old(self) -> None:
        """After a restart an old version is gone: the client is told to list again."""
        await self.make("a")
        await self.restart()
        lines = await self.watch(f"{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=5")
        await lines.ended
        (event,) = lines.events
        self.assertEqual(
            (event["type"], event["object"]["code"], event["object"]["reason"]),
            ("ERROR", 410, "Expired"),
        )

    async def test_stop_ends_watches(self) -> None:
        """A server that stops finishes its watches, so clients ask again at once."""
        lines = await self.watch(f"{MAPS}?watch=1&timeoutSeconds=100")
        await lines.take(1)
        await self.service.stopService()
        self.assertEqual(await lines.ended, "ResponseDone")

    async def test_client_goes_away(self) -> None:
        """A client that hangs up leaves nothing behind, and others go on."""
        lines = await self.watch(f"{MAPS}?watch=1&timeoutSeconds=100")
        await lines.take(1)
        self.watching._transport._producer.abortConnection()
        await lines.ended
        await self.make("a")
        again = await self.watch(f"{MAPS}?watch=1&timeoutSeconds=5")
        await again.take(2)


class SlowWatchTests(ServerCase):
    """A client that does not read costs no memory; when it is too late it must relist."""

    max_events = 50

    async def test_slow_reader(self) -> None:
        response = await self.client.open("GET", f"{MAPS}?watch=1&timeoutSeconds=100")
        lines = Lines()
        response._transport._producer.pauseProducing()
        big = "x" * 200_000
        await self.client.post(MAPS, {"metadata": {"name": "a"}})
        for number in range(150):
            await self.client.patch(f"{MAPS}/a", {"data": {"k": f"{number}{big}"}})
        response._transport._producer.resumeProducing()
        response.deliverBody(lines)
        await lines.ended
        self.assertEqual(lines.events[-1]["type"], "ERROR")
        self.assertEqual(lines.events[-1]["object"]["code"], 410)
        numbers = [
            int(e["object"]["data"]["k"].rstrip("x"))
            for e in lines.events
            if e["object"].get("data", {}).get("k")
        ]
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertLess(len(numbers), 150)
