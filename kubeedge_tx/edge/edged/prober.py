"""Reach into a pod: for its probes, and for its lifecycle hooks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol
from urllib.parse import urljoin, urlsplit

from OpenSSL import SSL
from twisted.internet import endpoints, ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as Connection
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS, IResponse
from zope.interface import implementer

from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import IContainerRuntime

USER_AGENT: Final = "kube-probe/1.32"
"""What a probed server sees. Source: kubelet ``probe/http/request.go``."""
_REDIRECTS: Final = 10
_OUTPUT: Final = 256
"""Characters of a probe's output that an event shows."""

Answer = tuple[bool | None, str]
"""Success, failure, or ``None`` if it could not be found out; and a text for the event."""


class Prober(Protocol):
    """What a worker needs to probe containers and run their hooks."""

    async def probe(
        self, action: Json, timeout: float, ip: str, container: Json, container_id: str
    ) -> Answer:
        """Make one probe; never fails."""

    async def hook(
        self, action: Json, timeout: float, ip: str, container: Json, container_id: str
    ) -> None:
        """Run one lifecycle hook.

        :raises ContainerError: it failed, or did not end in time.
        """


class NetworkProber:
    """Probe over HTTP, TCP and the runtime's exec."""

    def __init__(self, reactor: Any, runtime: IContainerRuntime) -> None:
        self._reactor = reactor
        self._runtime = runtime
        self._agent = Agent(reactor, contextFactory=_AnyCertificate())

    async def probe(
        self, action: Json, timeout: float, ip: str, container: Json, container_id: str
    ) -> Answer:
        try:
            if request := action.get("httpGet"):
                work = self._http(request, ip, container, USER_AGENT)
            elif tcp := action.get("tcpSocket"):
                work = self._tcp(tcp, ip, container)
            elif command := action.get("exec"):
                work = self._exec(command, container_id, timeout)
            else:
                kinds = ", ".join(sorted(set(action) & {"grpc"})) or "no action"
                return False, f"probes with {kinds} are not supported by this edge"
            return await self._within(timeout, work)
        except CancelledError:
            raise
        except DeferredTimeout:
            return False, f"no answer within {timeout:g} s"
        except ContainerError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - whatever keeps a connection from working
            return False, _short(str(error) or type(error).__name__)

    async def hook(
        self, action: Json, timeout: float, ip: str, container: Json, container_id: str
    ) -> None:
        try:
            if request := action.get("httpGet"):
                work = self._http(request, ip, container, "kube-lifecycle/1.32")
            elif tcp := action.get("tcpSocket"):
                work = self._tcp(tcp, ip, container)
            elif command := action.get("exec"):
                work = self._exec(command, container_id, timeout)
            elif pause := action.get("sleep"):
                work = self._sleep(float(pause.get("seconds") or 0))
            else:
                raise ContainerError("HookError", "the hook has no action that is known here")
            success, text = await self._within(timeout, work)
        except (CancelledError, ContainerError):
            raise
        except DeferredTimeout:
            raise ContainerError("HookError", f"did not end within {timeout:g} s") from None
        except Exception as error:  # noqa: BLE001 - whatever keeps a connection from working
            raise ContainerError("HookError", _short(str(error))) from None
        if not success:
            raise ContainerError("HookError", text)

    def _within(
        self, timeout: float, work: Coroutine[Deferred[Any], Any, Answer]
    ) -> Deferred[Answer]:
        return _cancellable(work).addTimeout(timeout, self._reactor)

    async def _http(self, request: Json, ip: str, container: Json, user_agent: str) -> Answer:
        scheme = str(request.get("scheme") or "HTTP").lower()
        host = str(request.get("host") or ip)
        shown = f"[{host}]" if ":" in host else host
        path = str(request.get("path") or "/")
        url = f"{scheme}://{shown}:{_port(request, container)}/{path.removeprefix('/')}"
        headers = Headers({"user-agent": [user_agent], "accept": ["*/*"]})
        given = [
            (str(e.get("name")), str(e.get("value"))) for e in request.get("httpHeaders") or ()
        ]
        for name, _ in given:
            headers.removeHeader(name)
        for name, value in given:
            headers.addRawHeader(name, value)
        for _ in range(_REDIRECTS):
            response: IResponse = await self._agent.request(b"GET", url.encode(), headers, None)
            code = response.code
            location = response.headers.getRawHeaders("location")
            response.deliverBody(_Discard())
            if not (300 <= code < 400 and location):
                break
            onward = urljoin(url, str(location[0]))
            if urlsplit(onward).hostname != urlsplit(url).hostname:
                break  # another host's health is not ours; Source: kubelet counts it as success
            url = onward
        if 200 <= code < 400:
            return True, ""
        return False, f"HTTP probe failed with statuscode: {code}"

    async def _tcp(self, socket: Json, ip: str, container: Json) -> Answer:
        host = str(socket.get("host") or ip)
        endpoint = endpoints.HostnameEndpoint(self._reactor, host, _port(socket, container))
        connection: Any = await endpoint.connect(Factory.forProtocol(Connection))
        connection.transport.loseConnection()
        return True, ""

    async def _exec(self, command: Json, container_id: str, timeout: float) -> Answer:
        words = tuple(str(each) for each in command.get("command") or ())
        result = await self._runtime.exec(container_id, words, timeout)
        text = _short(result.output.decode("utf-8", "replace").strip())
        return result.exit_code == 0, text or f"command exited with {result.exit_code}"

    async def _sleep(self, seconds: float) -> Answer:
        await deferLater(self._reactor, seconds, lambda: None)
        return True, ""


def _cancellable(work: Coroutine[Deferred[Any], Any, Answer]) -> Deferred[Answer]:
    """Run a probe so that cancelling it reads as that.

    Connections and requests that are cancelled fail in half a dozen ways, by how far they
    were; taken for a failed probe, one that is to stop would go on.
    """
    stopped = False

    def stop(_: Deferred[Answer]) -> None:
        nonlocal stopped
        stopped = True
        running.cancel()

    answer: Deferred[Answer] = Deferred(stop)
    running = Deferred.fromCoroutine(work)
    running.addCallbacks(
        lambda result: None if stopped else answer.callback(result),
        lambda failure: None if stopped else answer.errback(failure),
    )
    return answer


def _port(target: Json, container: Json) -> int:
    port = target.get("port")
    if isinstance(port, int) or str(port).isdigit():
        return int(str(port))
    for each in container.get("ports") or ():
        if each.get("name") == port:
            return int(each["containerPort"])
    raise ValueError(f"container {container.get('name')} has no port named {port}")


def _short(text: str) -> str:
    return text if len(text) <= _OUTPUT else text[:_OUTPUT] + "…"


class _Discard(Connection):
    """Do not read a body that nobody asks for."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        pass


@implementer(IPolicyForHTTPS)
class _AnyCertificate:
    """Take any certificate: a probe asks for health. Source: kubelet skips verification."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return _Unverified(ssl.CertificateOptions(verify=False).getContext)


class _Unverified:
    def __init__(self, context: Callable[[], SSL.Context]) -> None:
        self._context = context

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context(), None)
