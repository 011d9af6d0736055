from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from kubeedge_tx.api.resources import CONFIGMAPS, EVENTS, NODES, PODS, SERVICEACCOUNTS
from kubeedge_tx.errors import ConfigError, KubeError
from kubeedge_tx.kube.client import KubeClient
from kubeedge_tx.kube.informer import Informer
from kubeedge_tx.kube.interfaces import JSON_PATCH, STRATEGIC_PATCH, IKubeClient
from tests.fakes.apiserver import ApiServer
from tests.fakes.kube import FakeKube

reactor: Any = global_reactor


def kubeconfig(folder: Path, port: int, token: str = "t0ken") -> Path:
    """Write one as `kubectl config` would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": token}}],
            }
        )
    )
    return path


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": name}, "data": data}


class KubeClientTests(TestCase):
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.kube = FakeKube()
        self.server = ApiServer(self.kube)
        site = WrappingFactory(Site(self.server))
        self.port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.until(lambda: not site.protocols)))
        self.folder = Path(self.mktemp())
        self.path = kubeconfig(self.folder, self.port.getHost().port)
        # Jitter of nothing: the shortest delays there are.
        self.client = KubeClient(
            reactor, kubeconfig=self.path, random=lambda: -0.49, pool_size=2, watches=1
        )
        await self.client.startService()
        self.addCleanup(self.client.stopService)

    async def refused(self, call: Deferred[Any]) -> KubeError:
        """Expect a KubeError."""
        try:
            await call
        except KubeError as error:
            return error
        raise AssertionError("it was not refused")

    def test_is_a_client(self) -> None:
        """It promises what the interface says."""
        verifyObject(IKubeClient, self.client)

    async def test_every_verb(self) -> None:
        """Create, read, list, change, replace and delete an object."""
        made = await self.client.create(CONFIGMAPS, "default", config_map("a", x="1"))
        self.assertEqual((await self.client.get(CONFIGMAPS, "default", "a"))["data"], {"x": "1"})
        changed = await self.client.patch(CONFIGMAPS, "default", "a", b'{"data": {"y": "2"}}')
        self.assertEqual(changed["data"], {"x": "1", "y": "2"})
        self.assertEqual(changed["metadata"]["uid"], made["metadata"]["uid"])
        changed["data"] = {}
        await self.client.update(CONFIGMAPS, "default", "a", changed)
        listed = await self.client.list(CONFIGMAPS, "default")
        self.assertEqual([item["data"] for item in listed["items"]], [{}])
        await self.client.delete(CONFIGMAPS, "default", "a", options={"gracePeriodSeconds": 0})
        gone = await self.refused(self.client.get(CONFIGMAPS, "default", "a"))
        self.assertEqual((gone.code, gone.reason), (404, "NotFound"))
        assert gone.status is not None
        self.assertEqual(gone.status["kind"], "Status")

    async def test_subresources(self) -> None:
        """Status is patched beside the object; tokens are asked for by POST."""
        self.kube.put(NODES, {"metadata": {"name": "edge-1"}, "status": {}})
        patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        node = await self.client.patch(
            NODES, "", "edge-1", patch, content_type=STRATEGIC_PATCH, subresource="status"
        )
        self.assertEqual(node["status"]["conditions"][0]["status"], "True")
        self.kube.put(SERVICEACCOUNTS, {"metadata": {"namespace": "default", "name": "robot"}})
        token = await self.client.create(
            SERVICEACCOUNTS, "default", {"spec": {}}, name="robot", subresource="token"
        )
        self.assertTrue(token["status"]["token"])

    async def test_long_lists_come_whole(self) -> None:
        """More objects than a page holds are fetched page by page."""
        for number in range(1203):
            self.kube.put(CONFIGMAPS, config_map(f"c{number:04}"))
        listed = await self.client.list(CONFIGMAPS)
        self.assertEqual(len(listed["items"]), 1203)
        self.assertEqual(
            sum(path.startswith("/api/v1/configmaps?") for _, path, _ in self.server.seen), 3
        )

    async def test_who_is_asking(self) -> None:
        """The token is ours; with `as_node` the API server judges as if the node had asked."""
        self.kube.put(NODES, {"metadata": {"name": "edge-1"}})
        await self.client.get(NODES, "", "edge-1")
        await self.client.get(NODES, "", "edge-1", as_node="edge-1")
        (_, _, plain), (_, _, impersonated) = self.server.seen
        self.assertEqual(plain["authorization"], "Bearer t0ken")
        self.assertNotIn("impersonate-user", plain)
        self.assertEqual(impersonated["impersonate-user"], "system:node:edge-1")
        self.assertEqual(impersonated["impersonate-group"], "system:nodes")

    async def test_a_busy_server_is_asked_again(self) -> None:
        """429 and 5xx pass; the caller does not notice."""
        self.kube.put(CONFIGMAPS, config_map("a"))
        self.server.answers = [(429, {"Retry-After": "0"}, b""), (500, {}, b"{}"), (0, {}, b"")]
        found = await self.client.get(CONFIGMAPS, "default", "a")
        self.assertEqual(found["metadata"]["name"], "a")
        self.assertEqual(len(self.server.seen), 4)

    async def test_three_retries_are_enough(self) -> None:
        """Then the caller is told, with what the server said."""
        self.server.answers = [(503, {}, b'{"reason": "ServiceUnavailable"}')] * 5
        error = await self.refused(self.client.get(CONFIGMAPS, "default", "a"))
        self.assertEqual((error.code, error.reason), (503, "ServiceUnavailable"))
        self.assertEqual(len(self.server.seen), 4)

    async def test_refusals_are_final(self) -> None:
        """Asking again what was understood and refused would not help."""
        self.server.answers = [(403, {}, b'{"reason": "Forbidden", "message": "no"}')]
        error = await self.refused(self.client.get(CONFIGMAPS, "default", "a"))
        self.assertEqual(error.code, 403)
        self.assertIn("GET /api/v1/namespaces/default/configmaps/a: 403 no", str(error))
        self.assertEqual(len(self.server.seen), 1)

    async def test_nothing_is_made_twice(self) -> None:
        """When it is not known whether a nameless object was made, it is not made again."""
        event = {"metadata": {"namespace": "default", "generateName": "e-"}}
        self.server.answers = [(0, {}, b"")]
        error = await self.refused(self.client.create(EVENTS, "default", event))
        self.assertEqual(error.code, 0)
        self.server.answers = [(0, {}, b"")]
        await self.client.create(CONFIGMAPS, "default", config_map("named"))
        self.server.answers = [(500, {}, b"")]
        add = [{"op": "add", "path": "/data/-", "value": "x"}]
        await self.refused(
            self.client.patch(CONFIGMAPS, "default", "named", add, content_type=JSON_PATCH)
        )
        self.assertEqual(
            [method for method, _, _ in self.server.seen], ["POST", "POST", "POST", "PATCH"]
        )

    async def test_a_server_that_is_not_there(self) -> None:
        """The error says which call failed, and has no status code."""
        await self.port.stopListening()
        error = await self.refused(self.client.get(PODS, "default", "web"))
        self.assertEqual(error.code, 0)
        self.assertIn("GET /api/v1/namespaces/default/pods/web: API server not reached", str(error))

    async def test_a_renewed_token_is_found(self) -> None:
        """Refused credentials are read again: whoever renews them need not restart us."""
        self.kube.put(CONFIGMAPS, config_map("a"))
        kubeconfig(self.folder, self.port.getHost().port, token="renewed")
        self.client._loaded_at -= 60
        self.server.answers = [(401, {}, b"{}")]
        await self.client.get(CONFIGMAPS, "default", "a")
        self.assertEqual(self.server.seen[-1][2]["authorization"], "Bearer renewed")

    async def test_names_are_quoted(self) -> None:
        """A name is one part of the path whatever is in it."""
        await self.refused(self.client.get(CONFIGMAPS, "default", "a/../b?c"))
        self.assertTrue(self.server.seen[0][1].endswith("/configmaps/a%2F..%2Fb%3Fc"))

    async def test_after_the_stop(self) -> None:
        """A stopped client refuses at once."""
        await self.client.stopService()
        error = await self.refused(self.client.get(CONFIGMAPS, "default", "a"))
        self.assertIn("not running", str(error))

    async def test_an_unusable_kubeconfig(self) -> None:
        """Its path is named, and what it must have."""
        for text in ("{}", "][", "current-context: x"):
            self.path.write_text(text)
            client = KubeClient(reactor, kubeconfig=self.path, random=random.random)
            try:
                await client.startService()
            except ConfigError as error:
                self.assertIn(str(self.path), str(error))
            else:
                self.fail(f"{text} was accepted")
            finally:
                await client.stopService()

    async def until(self, condition: Any) -> None:
        """Wait for something that a thread brings about; the test's timeout is the limit."""
        while not condition():
            await deferLater(reactor, 0.005)

    async def follow(self) -> Informer:
        informer = Informer(self.client, PODS, clock=reactor, random=lambda: 0.0)
        informer.startService()
        self.addCleanup(lambda: informer.stopService() if informer.running else None)
        await informer.when_synced()
        await self.until(lambda: self.server.streams)
        return informer

    async def test_an_informer_follows(self) -> None:
        """Changes arrive through a real watch in a real thread; the stop ends it."""
        pod = {"metadata": {"namespace": "default", "name": "a"}, "spec": {}}
        self.kube.put(PODS, pod)
        informer = await self.follow()
        self.assertIsNotNone(informer.get("default", "a"))
        self.kube.put(PODS, {**pod, "spec": {"nodeName": "edge-1"}})
        await self.until(lambda: (informer.get("default", "a") or {})["spec"])
        self.kube.drop(PODS, "default", "a")
        await self.until(lambda: informer.get("default", "a") is None)
        await informer.stopService()
        await self.until(lambda: not self.server.streams)

    async def test_an_informer_survives_cuts(self) -> None:
        """A connection lost in the middle of a line loses no event."""
        informer = await self.follow()
        self.server.cut()
        self.kube.put(PODS, {"metadata": {"namespace": "default", "name": "a"}, "spec": {}})
        await self.until(lambda: informer.get("default", "a"))
        await self.until(lambda: self.server.streams)
        self.server.end()
        await self.until(lambda: not self.server.streams)
        self.kube.put(PODS, {"metadata": {"namespace": "default", "name": "b"}, "spec": {}})
        await self.until(lambda: informer.get("default", "b"))

    async def test_an_informer_lists_again(self) -> None:
        """When its version is too old for a watch, the difference is found by a list."""
        self.kube.put(PODS, {"metadata": {"namespace": "default", "name": "a"}, "spec": {}})
        informer = await self.follow()
        self.kube._watchers.clear()
        self.kube.drop(PODS, "default", "a")
        self.server.forgotten = self.kube.version
        self.server.say({"type": "ERROR", "object": {"kind": "Status", "code": 410}})
        await self.until(lambda: informer.get("default", "a") is None)

    async def test_more_watches_than_threads_were_planned(self) -> None:
        """Each informer has its own thread, however many there are."""
        informers = [
            Informer(self.client, kind, clock=reactor, random=lambda: 0.0)
            for kind in (PODS, NODES, CONFIGMAPS)
        ]
        for informer in informers:
            informer.startService()
        await self.until(lambda: len(self.server.streams) == 3)
        await DeferredList([informer.stopService() for informer in informers])

    async def test_watch_lines_are_json(self) -> None:
        """What a feed gets are whole lines."""
        got: list[bytes] = []
        done: Deferred[None] = Deferred()

        def feed(lines: list[bytes]) -> Deferred[None]:
            got.extend(lines)
            done.callback(None)
            return done

        ended, stop = self.client.watch(PODS, feed, resource_version="1", timeout_seconds=5)
        await self.until(lambda: self.server.streams)
        self.kube.put(PODS, {"metadata": {"namespace": "default", "name": "a" * 100_000}})
        await self.until(lambda: got)
        stop()
        await ended
        self.assertEqual(json.loads(got[0])["type"], "ADDED")
