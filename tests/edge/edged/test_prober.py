from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.util import Redirect

from kubeedge_tx.edge.edged.prober import Answer, NetworkProber
from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import ContainerSpec, ExecResult, SandboxSpec
from tests.fakes.runtime import FakeRuntime


class _Page(Resource):
    isLeaf = True

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        self.headers: dict[str, str] = {}

    def render_GET(self, request: Request) -> bytes:
        for name in ("user-agent", "host", "x-own"):
            self.headers[name] = request.getHeader(name) or ""
        request.setResponseCode(self.code)
        return b"x" * 100


class _Silent(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> int:
        request.notifyFinish().addErrback(lambda _: None)
        return NOT_DONE_YET


class ProberTests(TestCase):
    def setUp(self) -> None:
        reactor: Any = global_reactor
        self.page = _Page(200)
        root = Resource()
        root.putChild(b"ok", self.page)
        root.putChild(b"bad", _Page(503))
        root.putChild(b"silent", _Silent())
        root.putChild(b"moved", Redirect(b"/ok"))
        root.putChild(b"broken", Redirect(b"/bad"))
        self.port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.number = self.port.getHost().port
        self.runtime = FakeRuntime(Clock())
        self.prober = NetworkProber(reactor, self.runtime)
        self.container = {"name": "web", "ports": [{"name": "web", "containerPort": self.number}]}

    def probe(self, action: dict[str, Any], timeout: float = 10) -> Deferred[Answer]:
        return Deferred.fromCoroutine(
            self.prober.probe(action, timeout, "127.0.0.1", self.container, "container-2")
        )

    def get(self, path: str, **fields: Any) -> Deferred[Answer]:
        return self.probe({"httpGet": {"path": path, "port": "web", **fields}})

    async def test_http(self) -> None:
        """2xx and 3xx are success, anything else is not; the server knows who asks."""
        headers = [{"name": "X-Own", "value": "1"}, {"name": "Host", "value": "example.org"}]
        self.assertEqual(await self.get("/ok", httpHeaders=headers), (True, ""))
        self.assertEqual(
            self.page.headers,
            {"user-agent": "kube-probe/1.32", "host": "example.org", "x-own": "1"},
        )
        self.assertEqual(await self.get("bad"), (False, "HTTP probe failed with statuscode: 503"))

    async def test_redirects(self) -> None:
        """A redirect on the same host is followed."""
        self.assertEqual((await self.get("/moved"))[0], True)
        self.assertEqual((await self.get("/broken"))[0], False)

    async def test_silence(self) -> None:
        """A server that does not answer in time has failed."""
        answer = await self.probe({"httpGet": {"path": "/silent", "port": self.number}}, 0.05)
        self.assertEqual(answer, (False, "no answer within 0.05 s"))

    async def test_stopped_in_between(self) -> None:
        """A probe that is stopped is no failed probe."""
        probe = self.get("/silent")
        await Deferred.fromCoroutine(
            self.prober.probe(
                {"httpGet": {"path": "/ok", "port": self.number}},
                5,
                "127.0.0.1",
                self.container,
                "",
            )
        )
        probe.cancel()
        await self.assertFailure(probe, CancelledError)

    async def test_tcp(self) -> None:
        """A port that is open is success, a closed one is not."""
        self.assertEqual(await self.probe({"tcpSocket": {"port": self.number}}), (True, ""))
        await self.port.stopListening()
        self.assertEqual((await self.probe({"tcpSocket": {"port": self.number}}))[0], False)

    async def test_unknown_port(self) -> None:
        """A port by a name that the container does not have is said so."""
        success, text = await self.probe({"tcpSocket": {"port": "nope"}})
        self.assertEqual((success, text), (False, "container web has no port named nope"))

    async def test_exec(self) -> None:
        """A command's exit code decides; one that could not run counts for nothing."""
        await self.runtime.ensure_image("i", "Always", ())
        await self.runtime.run_sandbox(SandboxSpec(namespace="d", pod="p", uid="u", hostname="p"))
        started = await self.runtime.start_container("u", ContainerSpec(name="c", image="i"))
        self.assertEqual(started, "container-2")
        self.runtime.execs["/check",] = ExecResult(exit_code=1, output=b"not yet\n")
        self.runtime.execs["/no",] = ContainerError("ExecError", "no such file")
        self.assertEqual((await self.probe({"exec": {"command": ["/fine"]}}))[0], True)
        answer = await self.probe({"exec": {"command": ["/check"]}})
        self.assertEqual(answer, (False, "not yet"))
        self.assertEqual(await self.probe({"exec": {"command": ["/no"]}}), (None, "no such file"))

    async def test_hooks(self) -> None:
        """A hook that fails says why; a sleep is a hook too."""
        await self.prober.hook(
            {"sleep": {"seconds": 0}}, 5, "127.0.0.1", self.container, "container-2"
        )
        hook = Deferred.fromCoroutine(
            self.prober.hook(
                {"httpGet": {"path": "/bad", "port": self.number}},
                5,
                "127.0.0.1",
                self.container,
                "container-2",
            )
        )
        error: Any = await self.assertFailure(hook, ContainerError)
        self.assertIn("503", str(error))
