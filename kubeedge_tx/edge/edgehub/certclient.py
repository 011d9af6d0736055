"""Ask the cloud's certificate port: ``/ca.crt`` and ``/edge.crt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

from kubeedge_tx.errors import CertificateError, ConfigError, TokenError
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
    :raises ConfigError: from the constructor: the URL is none.
    """

    def __init__(self, reactor: Any, url: str) -> None:
        self._reactor = reactor
        self.host, port = _split(url)
        address = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"{address}:{port}"
        """The cloud, for texts."""

    async def get_authority(self) -> bytes:
        """Fetch the CA, in DER. TLS verifies nothing here: compare it with the token's hash.

        :raises CertificateError: it could not be had.
        """
        code, body = await self._get("/ca.crt", unverified_client(), Headers(), None)
        if code != 200:
            raise CertificateError(f"{self.address} answered {code} to /ca.crt: {_line(body)}")
        return body

    async def get_certificate(
        self, csr_der: bytes, node: str, credentials: Credentials, jwt: str = ""
    ) -> bytes:
        """Have a request signed; returns the certificate in DER.

        :param credentials: the CA that the cloud must be of; with our certificate, if that
            is to prove who we are.
        :param jwt: the token without its first part, if that is to do so.
        :raises TokenError: the cloud refuses the token; the text has the cloud's reason.
        :raises CertificateError: every other failure.
        """
        headers = Headers({b"NodeName": [node.encode()]})
        if jwt:
            headers.addRawHeader(b"Authorization", b"Bearer " + jwt.encode("ascii"))
        tls = client(
            self.host, credentials.ca_pem, credentials.cert_pem, credentials.key_pem
        )
        code, body = await self._get("/edge.crt", tls, headers, csr_der)
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
    ) -> tuple[int, bytes]:
        agent = Agent(self._reactor, _Policy(tls))
        uri = f"https://{self.address}{path}".encode("ascii")
        producer = None if body is None else _Bytes(body)
        what = f"cannot get {path} from {self.address}"
        try:
            asking = Deferred.fromCoroutine(self._exchange(agent, uri, headers, producer))
            return await asking.addTimeout(TIMEOUT_SECONDS, self._reactor)
        except (TimeoutError, ConnectingCancelledError):
            raise CertificateError(f"{what}: no answer within {TIMEOUT_SECONDS} s") from None
        except ResponseFailed as error:
            raise CertificateError(f"{what}: {_why(error, self.host)}") from None
        except Exception as error:
            if _is_network(error):
                raise CertificateError(f"{what}: {_why(error, self.host)}") from None
            raise

    async def _exchange(
        self, agent: Agent, uri: bytes, headers: Headers, producer: _Bytes | None
    ) -> tuple[int, bytes]:
        response: Any = await agent.request(b"GET", uri, headers, producer)
        done: Deferred[bytes] = Deferred(lambda _: response._transport.abortConnection())
        response.deliverBody(_Collector(done))
        return response.code, await done
