"""A real API server on a free port, and a plain HTTPS client for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

import kubeedge_tx.api
from kubeedge_tx.apiserver.service import ApiServerService
from kubeedge_tx.config.cloudcore import ApiServer


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    code: int
    headers: Headers
    text: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.text)

    @property
    def events(self) -> list[Any]:
        """The body of a watch, decoded."""
        return [json.loads(line) for line in self.text.splitlines()]

    def header(self, name: str) -> str:
        """One response header, empty if absent."""
        return ", ".join(self.headers.getRawHeaders(name, []))


@implementer(IPolicyForHTTPS)
class _Trust:
    def __init__(self, ca_pem: bytes) -> None:
        self._root = Certificate.loadPEM(ca_pem)

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return optionsForClientTLS(hostname.decode(), trustRoot=self._root)


class Client:
    """Speaks to one server over kept-alive TLS connections.

    :param token: bearer token; empty to send none.
    """

    def __init__(self, service: ApiServerService, data_dir: Path, token: str | None = None) -> None:
        config = yaml.safe_load(service.kubeconfig.read_text())
        self.url = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"] if token is None else token
        self.pool = HTTPConnectionPool(reactor, persistent=True)
        self.pool.maxPersistentPerHost = 20
        self._agent = Agent(
            reactor, _Trust((data_dir / "pki" / "ca.crt").read_bytes()), pool=self.pool
        )

    async def open(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request; fires with the response once its headers are there."""
        content = b""
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = Headers({})
        if self.token:
            sent.addRawHeader("authorization", f"Bearer {self.token}")
        if content and "content_type" not in headers:
            sent.addRawHeader("content-type", "application/json")
        for name, value in headers.items():
            for one in value.split("\n"):
                sent.addRawHeader(name.replace("_", "-"), one)
        return await self._agent.request(
            method.encode(), (self.url + path).encode(), sent, _Body(content) if content else None
        )

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request; fires with the whole reply."""
        response = await self.open(method, path, body, **headers)
        return Reply(response.code, response.headers, await readBody(response))

    async def get(self, path: str, **headers: str) -> Any:
        """GET, which must succeed; fires with the decoded body."""
        reply = await self.ask("GET", path, **headers)
        assert reply.code == 200, (path, reply.code, reply.text)
        return reply.json

    async def post(self, path: str, body: Any, **headers: str) -> Any:
        """POST, which must succeed; fires with the decoded body."""
        reply = await self.ask("POST", path, body, **headers)
        assert reply.code == 201, (path, reply.code, reply.text)
        return reply.json

    async def patch(self, path: str, body: Any, kind: str = "application/merge-patch+json") -> Any:
        """PATCH, which must succeed; fires with the decoded body."""
        reply = await self.ask("PATCH", path, body, content_type=kind)
        assert reply.code == 200, (path, reply.code, reply.text)
        return reply.json


@implementer(IBodyProducer)
class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._content)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """It is written at once."""

    def resumeProducing(self) -> None:
        """It is written at once."""

    def stopProducing(self) -> None:
        """It is written at once."""


class ServerCase(TestCase):
    """A test with a server of its own."""

    timeout = 60
    max_events = 10_000

    service: ApiServerService
    client: Client
    data_dir: Path

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.data_dir = Path(self.mktemp()).absolute()
        self.offset = 0.0
        self.pools: list[HTTPConnectionPool] = []
        self.service = self.make_service()
        await self.service.startService()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.finish()))
        self.client = self.make_client()

    def make_service(self) -> ApiServerService:
        """A server on this test's data."""
        return ApiServerService(
            reactor,
            data_dir=self.data_dir,
            interface="127.0.0.1",
            port=0,
            wall_clock=lambda: time.time() + self.offset,
            settings=ApiServer(watch_history=self.max_events),
        )

    def make_client(self, token: str | None = None) -> Client:
        """A client with a token; the admin's by default."""
        client = Client(self.service, self.data_dir, token)
        self.pools.append(client.pool)
        return client

    async def finish(self) -> None:
        """Stop the server, which ends watches, and then the clients."""
        await self.service.stopService()
        for pool in self.pools:
            await pool.closeCachedConnections()

    async def restart(self) -> None:
        """Stop the server and start it again on the same data, with another port."""
        await self.client.pool.closeCachedConnections()
        await self.service.stopService()
        self.service = self.make_service()
        await self.service.startService()
        self.client = self.make_client()

    async def install_crds(self) -> None:
        """Define KubeEdge's kinds, as the cloud does at its start."""
        for path in sorted((Path(kubeedge_tx.api.__file__).parent / "crds").glob("*.yaml")):
            for crd in yaml.safe_load_all(path.read_text()):
                await self.client.post(
                    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd
                )

    def deferred(self, coroutine: Any) -> Deferred[Any]:
        """Start something, to wait for it together with others."""
        return Deferred.fromCoroutine(coroutine)

    async def until(self, path: str, condition: Callable[[Any], bool]) -> Any:
        """Wait for an object (or list) to be as ``condition`` wants it, by polling."""
        while True:
            reply = await self.client.ask("GET", path)
            if condition(reply):
                return reply
            await in_thread(time.sleep, 0.02)


def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    """Run something that blocks, so that the server in this process can answer it."""
    return deferToThread(function, *args, **kwargs)
