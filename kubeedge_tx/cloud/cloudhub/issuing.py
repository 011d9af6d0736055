"""Who gets which edge certificate: the rules behind ``/edge.crt``, without the HTTP.

Source: KubeEdge ``cloud/pkg/cloudhub/servers/httpserver``. Ours beyond upstream: the
request must be signed by its own key, ask for an edge's name and not for the cloud's, and
a certificate that ran out while its edge was away still renews for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from kubeedge_tx.errors import CertificateError, TokenError
from kubeedge_tx.security.authority import CLIENT_AUTH, Authority, alternative_names, check_dates
from kubeedge_tx.security.identity import identify
from kubeedge_tx.security.requests import load_request
from kubeedge_tx.security.token import jwt_id, verify_jwt

USAGES: Final = (
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.CODE_SIGNING,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),  # IPsec end system
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),  # IPsec tunnel
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),  # IPsec user
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.OCSP_SIGNING,
)
"""By the numbers of Go's ``x509.ExtKeyUsage``, which the ``ExtKeyUsages`` header has."""


class Refused(Exception):
    """The answer is no.

    :param code: HTTP status.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Expired(Refused):
    """The certificate ended too long ago. Its holder has proven to be that node.

    :param node: its name.
    """

    def __init__(self, reason: str, node: str) -> None:
        super().__init__(401, reason)
        self.node = node


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What arrived with one request."""

    csr_der: bytes
    node_header: str
    """``NodeName``; empty if absent."""
    usages_header: str
    """``ExtKeyUsages``; empty if absent."""
    authorization: str
    """``Authorization``; empty if absent."""
    certificate: x509.Certificate | None
    """The client certificate as presented: TLS has not verified it, only that its key is there."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What is sent back, and what to write in the log about it."""

    der: bytes
    node: str
    """Empty for an old edge, which does not say."""
    serial: int
    by: str
    """``token``, ``certificate`` or ``expired certificate``."""


class Issuer:
    """Decide and sign.

    :param cloud: the cloud's own server certificate, whose names no edge may have.
    :param signing_days: life of an edge's certificate.
    :param grace_days: days after its end in which a certificate still renews itself.
    :param legacy: issue and renew certificates of edges up to 1.15, which name no node.
    :param revoked: whether the token of that id must not be used any more.
    :param node_exists: whether the cluster has a node of that name. One that was removed from it
        comes back with a certificate that has not ended, or with a token.
    """

    def __init__(
        self,
        authority: Authority,
        cloud: x509.Certificate,
        *,
        signing_days: int,
        grace_days: int,
        legacy: bool,
        revoked: Callable[[str], bool] = lambda _identity: False,
        node_exists: Callable[[str], bool],
    ) -> None:
        self._revoked = revoked
        self._node_exists = node_exists
        self._authority = authority
        self._cloud_names = {n for n in alternative_names(cloud) if not _is_loopback(n)}
        self.signing_days = signing_days
        self._grace = timedelta(days=grace_days)
        self.legacy = legacy

    def issue(self, asked: Asked, now: datetime) -> Issued:
        """Sign a request whose sender may have what it asks for.

        :raises Refused: with the status and text to answer.
        """
        bound = ""
        if asked.certificate is not None:
            self._check_certificate(asked.certificate, asked.node_header, now)
        else:
            bound = self._check_token(asked.authorization, now)
        usages = _usages(asked.usages_header)
        try:
            request = load_request(asked.csr_der)
        except CertificateError as error:
            raise Refused(500, f"cannot sign: {error}") from None
        node = self._check_request(request, asked)
        if bound and node != bound:
            raise Refused(401, f"the token is for node {bound}, the request names {node!r}")
        try:
            der = self._authority.sign_request(
                asked.csr_der, now=now, days=self.signing_days, usages=usages
            )
        except CertificateError as error:
            raise Refused(500, f"cannot sign: {error}") from None
        serial = x509.load_der_x509_certificate(der).serial_number
        return Issued(der, node, serial, _by(asked.certificate, now))

    def _check_certificate(
        self, certificate: x509.Certificate, node_header: str, now: datetime
    ) -> None:
        what = "the client certificate"
        try:
            certificate.verify_directly_issued_by(self._authority.certificate)
        except (ValueError, TypeError, InvalidSignature):
            raise Refused(401, f"{what} is not of this cloud's CA") from None
        try:
            ended = certificate.not_valid_after_utc
            if now <= ended:
                check_dates(certificate, now, what)
            if not _is_for_clients(certificate):
                raise CertificateError(f"{what} is not for clients (clientAuth)")
            identity = identify(certificate.subject)
        except CertificateError as error:
            raise Refused(401, str(error)) from None
        if identity.legacy and not self.legacy:
            raise Refused(401, f"{what} names no node; old edges join again with a token")
        if not identity.may_be(node_header):
            raise Refused(
                401, f"{what} is of node {identity.node}, header NodeName says {node_header!r}"
            )
        if now > ended + self._grace:
            raise Expired(
                f"{what} expired at {ended:%Y-%m-%d %H:%M} UTC, more than {self._grace.days} days "
                "ago",
                identity.node or node_header,
            )
        if now > ended and not self._node_exists(identity.node or node_header):
            raise Expired(
                f"{what} expired at {ended:%Y-%m-%d %H:%M} UTC, and the cluster has no such node",
                identity.node or node_header,
            )

    def _check_token(self, authorization: str, now: datetime) -> str:
        """Return the node that alone may use the token; empty: any may."""
        if not authorization:
            raise Refused(401, "neither a client certificate nor a token (header Authorization)")
        words = authorization.split(" ")
        if len(words) != 2:
            raise Refused(401, "header Authorization is not 'Bearer <token>'")
        try:
            node = verify_jwt(words[1], self._authority.key_der, now.timestamp())
            identity = jwt_id(words[1])
        except TokenError as error:
            raise Refused(401, str(error)) from None
        if self._revoked(identity):
            raise Refused(
                401, f"the token {identity} was revoked; get a new one with `keadm gettoken`"
            )
        return node

    def _check_request(self, request: x509.CertificateSigningRequest, asked: Asked) -> str:
        """Return the node that the request is for."""
        try:
            identity = identify(request.subject)
        except CertificateError as error:
            raise Refused(400, f"the certificate request cannot be granted: {error}") from None
        if identity.legacy and not self.legacy:
            raise Refused(400, "the certificate request names no node: its CN is 'kubeedge.io'")
        if asked.certificate is not None and identity != identify(asked.certificate.subject):
            raise Refused(400, "the request's CN is another one than the client certificate's")
        if not identity.legacy and asked.node_header not in ("", identity.node):
            raise Refused(
                400,
                f"the request's CN names node {identity.node!r}, "
                f"header NodeName says {asked.node_header!r}",
            )
        for name in _requested_names(request):
            text = str(name.value)
            if name in self._cloud_names or text.startswith("*"):
                raise Refused(400, f"the request asks for {text}, which no edge may be")
        return identity.node


def _by(certificate: x509.Certificate | None, now: datetime) -> str:
    if certificate is None:
        return "token"
    return "certificate" if now <= certificate.not_valid_after_utc else "expired certificate"


def _usages(header: str) -> list[x509.ObjectIdentifier]:
    if not header:
        return [CLIENT_AUTH]
    try:
        numbers = msgspec.json.decode(header, type=list[int] | None) or []
    except (msgspec.DecodeError, RecursionError):
        raise Refused(400, "header ExtKeyUsages is no JSON list of numbers") from None
    if unknown := [n for n in numbers if not 0 <= n < len(USAGES)]:
        raise Refused(400, f"header ExtKeyUsages: {unknown[0]} is not a usage that is issued")
    return [USAGES[n] for n in dict.fromkeys(numbers)] or [CLIENT_AUTH]


def _requested_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Refused(500, "cannot sign: the request's extensions cannot be read") from None
    return list(found.value)


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return CLIENT_AUTH in found or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in found


def _is_loopback(name: x509.GeneralName) -> bool:
    value = name.value
    if isinstance(value, IPv4Address | IPv6Address):
        return value.is_loopback
    return bool(value == "localhost")
