"""The HTTP side: every request comes in here and is answered from here."""

from __future__ import annotations

from typing import Any, Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from kubeedge_tx.apiserver import bodies, status
from kubeedge_tx.apiserver.answers import Answer, answer
from kubeedge_tx.apiserver.auth import Authenticator, Authorizer
from kubeedge_tx.apiserver.calls import Call
from kubeedge_tx.apiserver.handlers import Handlers
from kubeedge_tx.apiserver.paths import Paths
from kubeedge_tx.apiserver.registry import Registry
from kubeedge_tx.apiserver.targets import resolve
from kubeedge_tx.errors import StoreError
from kubeedge_tx.observe.doors import Door
from kubeedge_tx.observe.httpdoor import DoorChannel, HttpLimits, behind

_ABUSE_BYTES: Final = 64 * 1024 * 1024
"""A body that goes on beyond this is not worth the answer 413: the connection is closed."""
_MAX_WARNING: Final = 1024
_CLOSE_SECONDS: Final = 1.0
"""How long clients have at stop to read the end of their answers."""


class ApiResource(Resource):
    """The whole tree; paths are looked up in the registry."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        registry: Registry,
        authenticator: Authenticator,
        authorizer: Authorizer,
        handlers: Handlers,
        paths: Paths,
    ) -> None:
        super().__init__()
        self._registry = registry
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._handlers = handlers
        self._paths = paths

    def render(self, request: Request) -> int:
        """Answer, now or later; watches go on by themselves."""
        warnings: list[str] = []
        try:
            reply = self._reply(request, warnings)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - every mistake is answered, as 500 if need be
            reply = self._failed(Failure())
        if isinstance(reply, Deferred):
            reply.addErrback(self._failed).addCallback(self._send, request, warnings)
        elif reply is not None:
            self._send(reply, request, warnings)
        return NOT_DONE_YET

    def _reply(self, request: Request, warnings: list[str]) -> Answer | Deferred[Answer] | None:
        method = request.method.decode("ascii", "replace")
        path = request.path.decode("utf-8", "replace")
        public = self._paths.public(method, path)
        if public is not None:
            return public

        def headers(name: str) -> list[str]:
            return [str(v) for v in request.requestHeaders.getRawHeaders(name, [])]

        user = self._authenticator.authenticate(lambda name: request.getHeader(name) or "", headers)
        channel: Any = request.channel
        if channel is not None:
            channel.known()
        target = resolve(self._registry, method, path, request.args or {})
        if target is None:
            return self._paths.answer(method, path, user, request)
        self._authorizer.authorize(user, target)
        call = Call.read(request, target, user)
        call.warnings = warnings
        return self._handlers.handle(call)

    def _failed(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, StoreError):
            self._log.error("a write failed: {why}", why=error)
            error = status.internal(f"the change is not stored: {error}")
        elif not isinstance(error, status.ApiError):
            self._log.failure("a request could not be answered", failure)
            error = status.internal("see the log of the API server")
        made = answer(error.code, error.status())
        if error.retry_after is not None:
            made.headers.append((b"retry-after", str(error.retry_after).encode()))
        return made

    def _send(self, reply: Answer, request: Request, warnings: list[str]) -> None:
        if request.channel is None:
            return  # the client has gone
        request.setResponseCode(reply.code)
        headers = request.responseHeaders
        headers.setRawHeaders(b"content-type", [reply.content_type.encode()])
        headers.setRawHeaders(b"content-length", [b"%d" % len(reply.body)])
        headers.setRawHeaders(b"cache-control", [b"no-cache, private"])
        for name, value in reply.headers:
            headers.setRawHeaders(name, [value])
        if warnings:
            headers.setRawHeaders(b"warning", [_warning(text) for text in warnings[:16]])
        if request.method != b"HEAD":
            request.write(reply.body)
        request.finish()


def _warning(text: str) -> bytes:
    quoted = text[:_MAX_WARNING].replace("\\", "\\\\").replace('"', '\\"')
    safe = "".join(c if c.isprintable() else "?" for c in quoted)
    return f'299 - "{safe}"'.encode()


class ApiRequest(Request):
    """A request whose body cannot fill the disk."""

    _received = 0

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what is needed to see that a body is too big, and drop the rest."""
        self._received += len(data)
        if self._received <= bodies.MAX_BODY_BYTES + 1:
            super().handleContentChunk(data)
        elif self._received - len(data) <= bodies.MAX_BODY_BYTES:
            super().handleContentChunk(data[: bodies.MAX_BODY_BYTES + 1])
        elif self._received > _ABUSE_BYTES and self.channel is not None:
            self.channel.loseConnection()


class ApiChannel(DoorChannel):
    """One connection; HTTP/1.1 only. It is a stranger's until it has shown a good token."""

    site: ApiSite

    def connectionMade(self) -> None:
        """Tell the site."""
        super().connectionMade()
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the site."""
        self.site.closed(self)
        super().connectionLost(reason)


class ApiSite(Site):
    """Keeps track of its connections, so that they can be closed at stop."""

    noisy = False
    protocol = ApiChannel  # type: ignore[assignment]  # Twisted's own adds HTTP/2

    def __init__(self, resource: ApiResource, reactor: Any, door: Door, limits: HttpLimits) -> None:
        super().__init__(resource, requestFactory=ApiRequest, reactor=reactor)
        self._door = door
        self._limits = limits
        self._clock: IReactorTime = reactor
        self._open: set[ApiChannel] = set()
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of one connection."""
        return behind(self._door, self._limits, super().buildProtocol(addr))

    def log(self, request: Any) -> None:
        """Write no access log; it costs more than many of the answers."""

    def opened(self, channel: ApiChannel) -> None:
        """Remember a connection."""
        self._open.add(channel)

    def closed(self, channel: ApiChannel) -> None:
        """Forget a connection."""
        self._open.discard(channel)
        if not self._open and self._empty is not None:
            done, self._empty = self._empty, None
            done.callback(None)

    async def close_connections(self) -> None:
        """Close what is still open; fires when nothing is."""
        if not self._open:
            return
        self._empty = Deferred()
        empty = self._empty
        for channel in tuple(self._open):
            channel.loseConnection()
        late = self._clock.callLater(_CLOSE_SECONDS, self._abort)
        await empty
        if late.active():
            late.cancel()

    def _abort(self) -> None:
        for channel in tuple(self._open):
            cast(ITCPTransport, channel.transport).abortConnection()
