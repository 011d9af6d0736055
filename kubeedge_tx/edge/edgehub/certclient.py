"""Ask the cloud's certificate port: ``/ca.crt`` and ``/edge.crt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

from kubeedge_tx.errors import CertificateError, ClockError, ConfigError, TokenError
from kubeedge_tx.security.contexts import client, unverified_client

MAX_BODY_BYTES: Final = 1024 * 1024
"""More is no certificate. Source: KubeEdge ``edge/pkg/edgehub/certificate``."""

TIMEOUT_SECONDS: Final = 30
"""For one request, with its answer. Source: as above."""

DEFAULT_PORT: Final = 10002


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What an edge needs to talk to the cloud, in PEM; the two last empty before it joined."""

    ca_pem: bytes
    cert_pem: bytes = b""
    key_pem: bytes = b""

    def __repr__(self) -> str:
        """Leave the key out, so that no log can show it."""
        return "Credentials(…)"


class CertClient:
    """The two requests; every failure names the request, the cloud's address and the reason.

    :param url: ``https://host:port`` of the cloud, ``modules.edgeHub.httpServer``.
    :param on_date: told the ``Date`` of each answer whose sender is the cloud for certain.
    :raises ConfigError: from the constructor: the URL is none.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        url: str,
        on_date: Callable[[str], object] = lambda _date: None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._on_date = on_date
        self.host, port = split_url(url)
        address = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"{address}:{port}"
        """The cloud, for texts."""

    async def get_authority(self) -> bytes:
        """Fetch the CA, in DER. TLS verifies nothing here: compare it with the token's hash.

        :raises CertificateError: it could not be had.
        """
        code, body, _date = await self._get("/ca.crt", unverified_client(), Headers(), None)
        if code != 200:
            raise CertificateError(f"{self.address} answered {code} to /ca.crt: {_line(body)}")
        return body

    async def ask_time(self, ca_pem: bytes) -> None:
        """Have ``on_date`` told the time. The cloud must be of the CA; dates do not matter.

        :raises CertificateError: the cloud did not answer, or another one did.
        """
        tls = client(self.host, ca_pem, at_any_time=True)
        _code, _body, date = await self._get("/ca.crt", tls, Headers(), None)
        self._on_date(date)

    async def get_certificate(
        self, csr_der: bytes, node: str, credentials: Credentials, jwt: str = ""
    ) -> bytes:
        """Have a request signed; returns the certificate in DER.

        :param credentials: the CA that the cloud must be of; with our certificate, if that
            is to prove who we are.
        :param jwt: the token without its first part, if that is to do so.
        :raises TokenError: the cloud refuses the token; the text has the cloud's reason.
        :raises ClockError: its certificate is out of its dates, by our clock.
        :raises CertificateError: every other failure.
        """
        headers = Headers({b"NodeName": [node.encode()]})
        if jwt:
            headers.addRawHeader(b"Authorization", b"Bearer " + jwt.encode("ascii"))
        tls = client(self.host, credentials.ca_pem, credentials.cert_pem, credentials.key_pem)
        code, body, date = await self._get("/edge.crt", tls, headers, csr_der)
        self._on_date(date)
        if code == 200:
            return body
        text = f"{self.address} refused a certificate for {node} ({code}): {_line(body)}"
        raise TokenError(text) if jwt and code in (400, 401) else CertificateError(text)

    async def _get(
        self,
        path: str,
        tls: IOpenSSLClientConnectionCreator,
        headers: Headers,
        body: bytes | None,
    ) -> _Answer:
        agent = Agent(self._reactor, _Policy(tls))
        uri = f"https://{self.address}{path}".encode("ascii")
        producer = None if body is None else _Bytes(body)
        what = f"cannot get {path} from {self.address}"
        exchange = Deferred.fromCoroutine(_exchange(agent, uri, headers, producer))
        stopped = False

        def stop(_answer: Deferred[_Answer]) -> None:
            nonlocal stopped
            stopped = True
            exchange.cancel()  # which fails with whatever it was in the middle of

        answer: Deferred[_Answer] = Deferred(stop)
        exchange.chainDeferred(answer)
        try:
            return await answer.addTimeout(TIMEOUT_SECONDS, self._clock, _timed_out)
        except TimeoutError:
            raise CertificateError(f"{what}: no answer within {TIMEOUT_SECONDS} s") from None
        except _NETWORK as error:
            if stopped:
                raise CancelledError from None
            cause = _cause(error)
            kind = ClockError if isinstance(cause, ClockError) else CertificateError
            raise kind(f"{what}: {_why(cause, self.host)}") from None


_NETWORK: Final = (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    SSL.Error,
    CertificateError,
)
"""What a request fails with when the world is to blame."""


_Answer = tuple[int, bytes, str]
"""Status, body, and header ``Date``."""


async def _exchange(agent: Agent, uri: bytes, headers: Headers, producer: _Bytes | None) -> _Answer:
    response: Any = await agent.request(b"GET", uri, headers, producer)
    collector = _Collector()
    response.deliverBody(collector)
    (date,) = response.headers.getRawHeaders("date", [""])[:1]
    return response.code, await collector.done, date


def _timed_out(_result: object, _seconds: float) -> Any:
    # A request that is cancelled half-way fails with something of its own.
    raise TimeoutError


class _Collector(Protocol):
    """Gather a body up to the limit."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MAX_BODY_BYTES:
            self._finish(Failure(ConnectionClosed("the answer is larger than 1 MiB")))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Without a length, the end of the connection is the end of the body.
        complete = reason.check(ResponseDone, PotentialDataLoss)
        self._finish(bytes(self._data) if complete else reason)

    def _finish(self, result: bytes | Failure) -> None:
        if not self.done.called:
            self.done.callback(result)  # type: ignore[arg-type]  # a Failure is allowed

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


@implementer(IBodyProducer)
class _Bytes:
    """A body in memory, sent at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        return

    def resumeProducing(self) -> None:
        return

    def stopProducing(self) -> None:
        return


@implementer(IPolicyForHTTPS)
class _Policy:
    """The same TLS for the one host that is asked."""

    def __init__(self, tls: IOpenSSLClientConnectionCreator) -> None:
        self._tls = tls

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return self._tls


def split_url(url: str) -> tuple[str, int]:
    """Read ``modules.edgeHub.httpServer``.

    :raises ConfigError: it is not ``https://HOST:PORT``.
    """
    path = "modules.edgeHub.httpServer"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(path, f"{url!r}: {error}; expected https://host:port") from None
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme != "https" or not host or rest or not host.isascii():
        raise ConfigError(path, f"{url!r} is not https://host:port")
    return host, port or DEFAULT_PORT


def _cause(error: BaseException) -> BaseException:
    """The innermost of the failures that Twisted wraps into each other, TLS's first."""
    reasons: list[Failure] = getattr(error, "reasons", None) or []
    causes = [_cause(reason.value) for reason in reasons if reason.value is not None]
    for cause in causes:
        if isinstance(cause, SSL.Error | CertificateError):
            return cause
    return causes[0] if causes else error


def _why(cause: BaseException, host: str) -> str:
    if isinstance(cause, SSL.Error):
        reasons = [str(part[-1]) for part in cause.args[0]] if cause.args else []
        if "certificate verify failed" in reasons:
            return "its certificate is not of the CA that this edge trusts"
        return f"TLS failed: {', '.join(reasons) or 'the connection was closed'}"
    return str(cause) or type(cause).__name__


def _line(body: bytes) -> str:
    """The first line of an answer, made fit for a log."""
    text = body[:300].decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(c if c.isprintable() else "?" for c in text) or "no reason given"
