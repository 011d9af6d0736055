"""Port 10002: where edges get the CA and their certificates.

Source: KubeEdge ``cloud/pkg/cloudhub/servers/httpserver``. The certificate request is a GET
with a body. Routes of node tasks are absent until there is something behind them: 404.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from cryptography import x509
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from kubeedge_tx.cloud.cloudhub.issuing import Asked, Expired, Issuer, Refused
from kubeedge_tx.observe.doors import Door, Guarded
from kubeedge_tx.observe.httpdoor import DoorChannel, HttpLimits, behind
from kubeedge_tx.observe.rarely import Rarely, and_more
from kubeedge_tx.security.authority import GRACE_DAYS, Authority, KeyPair, utc
from kubeedge_tx.security.contexts import Reloadable, https_server

MAX_BODY_BYTES: Final = 1024 * 1024
"""Source: as above."""

MAX_NAME_CHARS: Final = 254
"""What is kept of header ``NodeName``: more than any valid name has."""

STOP_SECONDS: Final = 2
"""What open connections get to end by themselves when the service stops."""


NodeExists = Callable[[str], bool]
"""Whether the cluster has a node of that name."""


class CertServer:
    """The HTTPS service.

    :param server_pair: our server certificate and key.
    :param node_exists: whether the cluster has a node of that name; a certificate that has ended
        does not renew itself without.
    :param wall_clock: seconds since 1970.
    :param signing_days: life of an edge's certificate, ``edgeCertSigningDuration``.
    :param door: limits of the listener's connections.
    :param limits: times of its requests.
    :param grace_days: days after its end in which an edge's certificate still renews itself.
    :param legacy: also serve edges up to 1.15, whose certificates name no node.
    :param revoked: whether the token of that id must not be used any more.
    :param on_expired: told the name of a node whose certificate ended too long ago, and why it
        gets no other.
    """

    name = "certificate port"

    def __init__(
        self,
        reactor: Any,
        *,
        authority: Authority,
        server_pair: KeyPair,
        node_exists: NodeExists,
        wall_clock: Callable[[], float],
        signing_days: int,
        interface: str,
        port: int,
        door: Door,
        limits: HttpLimits,
        grace_days: int = GRACE_DAYS,
        legacy: bool = False,
        revoked: Callable[[str], bool] = lambda _identity: False,
        on_expired: Callable[[str, str], object] = lambda _node, _why: None,
    ) -> None:
        self._reactor = reactor
        self._endpoint = TCP4ServerEndpoint(reactor, port, interface=interface)
        self._issuer = issuer = Issuer(
            authority,
            x509.load_der_x509_certificate(server_pair.cert_der),
            signing_days=signing_days,
            grace_days=grace_days,
            legacy=legacy,
            revoked=revoked,
            node_exists=node_exists,
        )
        root = _Page()
        root.putChild(b"ca.crt", _AuthorityResource(authority.cert_der, wall_clock))
        root.putChild(b"edge.crt", _IssueResource(issuer, wall_clock, reactor, on_expired))
        root.putChild(b"node", _NodesResource(node_exists))
        self._tls = Reloadable(https_server(server_pair.cert_pem, server_pair.key_pem))
        site = _Site(root, door, limits, reactor)
        self._factory = _Factory(self._tls, False, site, clock=reactor)
        self._door = door
        self._listening: Any = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._listening.getHost().port
        return port

    def startService(self) -> Deferred[None]:
        """Listen.

        :raises twisted.internet.error.CannotListenError: the port is taken.
        """
        listening: Deferred[Any] = self._endpoint.listen(Guarded(self._door, self._factory))
        return listening.addCallback(self._listens)

    def stopService(self) -> Deferred[None]:
        """Stop listening and end the connections that are open."""
        return Deferred.fromCoroutine(self._stop())

    def reconfigure(self, *, signing_days: int, legacy: bool) -> None:
        """Issue from now on with another life, and for other edges."""
        self._issuer.signing_days = signing_days
        self._issuer.legacy = legacy

    def use(self, server_pair: KeyPair) -> None:
        """Show another server certificate to those who connect from now on."""
        self._tls.current = https_server(server_pair.cert_pem, server_pair.key_pem)

    def _listens(self, port: Any) -> None:
        self._listening = port

    async def _stop(self) -> None:
        if self._listening is not None:
            await maybeDeferred(self._listening.stopListening)
            self._listening = None
        await self._factory.end_all(self._reactor, STOP_SECONDS)


class _Factory(TLSMemoryBIOFactory):
    """Remembers open connections (its base does) and can end them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._empty: Deferred[None] | None = None

    def end_all(self, clock: Any, seconds: float) -> Deferred[None]:
        """Fires when no connection is left; those that linger are aborted."""
        if not self.protocols:
            return succeed(None)
        self._empty = Deferred()
        for protocol in list(self.protocols):
            protocol.loseConnection()
        late = clock.callLater(seconds, self._abort_all)

        def gone(result: None) -> None:
            if late.active():
                late.cancel()

        return self._empty.addCallback(gone)

    def unregisterProtocol(self, protocol: Any) -> None:
        super().unregisterProtocol(protocol)
        if self._empty is not None and not self.protocols:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def _abort_all(self) -> None:
        for protocol in list(self.protocols):
            protocol.abortConnection()


class _LimitedRequest(Request):
    """A request whose body is read up to the limit; more is answered 413 and cut off."""

    content: BytesIO
    _refused = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > MAX_BODY_BYTES:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        if self.content.tell() + len(data) > MAX_BODY_BYTES:
            self._refuse()
            return
        self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            channel: Any = self.channel
            channel.known()  # by its request: there is nothing here but short answers
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        self._refused = True
        text = b"the body is larger than 1 MiB\n"
        transport: Any = self.channel.transport
        transport.write(
            b"HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
            % (len(text), text)
        )
        self.channel.loseConnection()


class _Site(Site):
    """HTTP/1.1 only, and no access log: what matters is logged where it happens."""

    noisy = False
    protocol = DoorChannel  # type: ignore[assignment]  # Twisted's own adds HTTP/2

    def __init__(self, root: Resource, door: Door, limits: HttpLimits, reactor: Any) -> None:
        super().__init__(root, requestFactory=_LimitedRequest, reactor=reactor)
        self._door = door
        self._limits = limits

    def buildProtocol(self, addr: Any) -> Any:
        return behind(self._door, self._limits, super().buildProtocol(addr))

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def log(self, request: Any) -> None:
        return


class _Nothing(Resource):
    """404 in plain text, for every path below."""

    def render(self, request: Request) -> bytes:
        return _answer(request, 404, b"there is nothing here\n")

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self


class _Page(Resource):
    """Has only the children it was given."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Nothing()


class _AuthorityResource(_Page):
    """``/ca.crt``: the CA in DER, for anybody."""

    def __init__(self, der: bytes, wall_clock: Callable[[], float]) -> None:
        super().__init__()
        self._der = der
        self._wall_clock = wall_clock

    def render_GET(self, request: Request) -> bytes:
        _date(request, self._wall_clock())
        return _answer(request, 200, self._der, b"application/octet-stream")


class _IssueResource(_Page):
    """``/edge.crt``: a certificate for who has a token, or a certificate already."""

    _log = Logger()

    def __init__(
        self,
        issuer: Issuer,
        wall_clock: Callable[[], float],
        clock: IReactorTime,
        on_expired: Callable[[str, str], object],
    ) -> None:
        super().__init__()
        self._on_expired = on_expired
        self._issuer = issuer
        self._wall_clock = wall_clock
        self._clock = clock
        self._rarely = Rarely()

    def render_GET(self, request: Request) -> bytes:
        _date(request, self._wall_clock())
        peer = request.getClientAddress()
        where = getattr(peer, "host", str(peer))
        connection: Any = request.channel.transport
        presented = connection.getPeerCertificate()
        body: Any = request.content
        asked = Asked(
            csr_der=body.read(),
            node_header=_header(request, "NodeName")[:MAX_NAME_CHARS],
            usages_header=_header(request, "ExtKeyUsages"),
            authorization=_header(request, "Authorization"),
            certificate=None if presented is None else presented.to_cryptography(),
        )
        try:
            issued = self._issuer.issue(asked, utc(self._wall_clock()))
        except Refused as refused:
            self._note(asked.node_header, where, refused)
            if isinstance(refused, Expired):
                self._on_expired(refused.node, str(refused))
            return _answer(request, refused.code, f"{refused}\n".encode())
        self._log.info(
            "certificate {serial:x} for {node} at {peer}, by {by}",
            serial=issued.serial,
            node=issued.node or "an old edge",
            peer=where,
            by=issued.by,
        )
        return _answer(request, 200, issued.der, b"application/octet-stream")

    def _note(self, node: str, where: str, refused: Refused) -> None:
        silent = self._rarely.due((where, node), self._clock.seconds())
        if silent is not None:
            self._log.warn(
                "no certificate for {node} at {peer}: {reason}{more}",
                node=node or "an edge without a name",
                peer=where,
                reason=str(refused),
                more=and_more(silent),
            )


class _NodesResource(_Nothing):
    """``/node/<name>``: whether there is such a node; keadm asks before it joins one."""

    def __init__(self, node_exists: NodeExists) -> None:
        super().__init__()
        self._node_exists = node_exists

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _NodeResource(path.decode("utf-8", "replace"), self._node_exists)


class _NodeResource(_Page):
    _log = Logger()

    def __init__(self, node: str, node_exists: NodeExists) -> None:
        super().__init__()
        self._node = node
        self._node_exists = node_exists

    def render_GET(self, request: Request) -> int:
        finding = maybeDeferred(self._node_exists, self._node)
        # A client that has gone is not answered.
        request.notifyFinish().addErrback(lambda _gone: finding.cancel())
        finding.addCallbacks(self._found, self._failed).addCallback(self._finish, request)
        return NOT_DONE_YET

    def _found(self, there: bool) -> tuple[int, bytes]:
        return (200, b"Node found") if there else (404, b"Node not found")

    def _failed(self, failure: Failure) -> tuple[int, bytes]:
        self._log.failure("cannot look for node {node}", failure, node=self._node)
        return 500, b"cannot look for the node; see the cloud's log"

    def _finish(self, answer: tuple[int, bytes], request: Request) -> None:
        if request.channel is not None:
            request.write(_answer(request, *answer))
            request.finish()


def _header(request: Request, name: str) -> str:
    value: str | None = request.getHeader(name)
    return value or ""


def _date(request: Request, now: float) -> None:
    """Say what time it is here: an edge compares it with its own clock."""
    request.setHeader(b"date", datetimeToString(now))


def _answer(
    request: Request, code: int, body: bytes, content_type: bytes = b"text/plain; charset=utf-8"
) -> bytes:
    request.setResponseCode(code)
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body
