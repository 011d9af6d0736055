"""TLS settings for each end of the channel and of the certificate service.

All: TLS 1.2 or newer, ECDHE with AEAD ciphers, no compression, no session tickets or cache
(a resumed session would outlive the check of its certificate), and buffers released while a
connection is idle. Twisted's CertificateOptions provides the latter three.

A context is made from PEM for every use, so whoever connects anew after a rotation, or
gives :class:`Reloadable` a new one, uses the new certificate.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import (
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from kubeedge_tx.errors import CertificateError, ClockError
from kubeedge_tx.security.authority import check_pair, load_key
from kubeedge_tx.security.files import pem_blocks, pem_to_der
from kubeedge_tx.security.identity import identify, is_ip_address, serves

HUB_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"
)
"""For TLS 1.2 on port 10000; TLS 1.3 has only good ones. Source: KubeEdge CloudHub."""

WEB_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2 elsewhere."""


def hub_server(ca_pem: bytes, cert_pem: bytes, key_pem: bytes) -> IOpenSSLServerConnectionCreator:
    """Port 10000: a client needs a certificate (clientAuth) of the CA, or of one of several.

    Why one was refused is attribute ``refusal`` of the TLS protocol: OpenSSL's error does not
    tell an expired certificate from a foreign one.

    :raises CertificateError: one of the PEM texts cannot be used.
    """
    return Verifying(
        CertificateOptions(**_own(cert_pem, key_pem), **_trust(ca_pem), **ciphers(HUB_CIPHERS)),
        SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT | SSL.VERIFY_CLIENT_ONCE,
        _note_refusal,
    )


def https_server(cert_pem: bytes, key_pem: bytes) -> IOpenSSLServerConnectionCreator:
    """Port 10002: a client may show a certificate, of whatever CA; the code looks at it.

    :raises CertificateError: one of the PEM texts cannot be used.
    """
    options = CertificateOptions(**_own(cert_pem, key_pem), **ciphers(WEB_CIPHERS))
    return Verifying(options, SSL.VERIFY_PEER, lambda *_: True)


def client(
    hostname: str,
    ca_pem: bytes,
    cert_pem: bytes = b"",
    key_pem: bytes = b"",
    *,
    on_dates: Callable[[], object] | None = None,
    at_any_time: bool = False,
) -> IOpenSSLClientConnectionCreator:
    """An edge towards the cloud: the server must be of the CA and have the name or address.

    :param hostname: what the edge was told to call; a DNS name or an IP address.
    :param cert_pem: our own certificate, if we have one yet; with its key.
    :param on_dates: called when the server's certificate is out of its dates by our clock.
    :param at_any_time: do not mind its dates: to ask for the time, and for nothing else.
    :raises CertificateError: one of the PEM texts cannot be used.
    """
    own = _own(cert_pem, key_pem) if cert_pem else {}
    options = CertificateOptions(**own, **ciphers(WEB_CIPHERS), **_trust(ca_pem))
    return Expecting(hostname, options, on_dates=on_dates, at_any_time=at_any_time)


def unverified_client() -> IOpenSSLClientConnectionCreator:
    """For ``/ca.crt`` and nothing else: what comes is checked against the token's hash."""
    return CertificateOptions(**ciphers(WEB_CIPHERS))


@implementer(IOpenSSLServerConnectionCreator)
class Reloadable:
    """A server's settings that can be exchanged while it listens; open connections stay."""

    def __init__(self, current: IOpenSSLServerConnectionCreator) -> None:
        self.current = current

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return self.current.serverConnectionForTLS(protocol)


Judge = Callable[[Callable[[], Any], SSL.Connection, crypto.X509, int, int, bool], bool]
"""Told the TLS protocol, or ``None`` once that is gone; and what OpenSSL tells of one certificate
of a chain: the connection, the certificate, an error, the depth, and whether it verified."""


@implementer(IOpenSSLServerConnectionCreator)
class Verifying:
    """Verify client certificates in a way that ``CertificateOptions`` has not.

    :param mode: flags of OpenSSL's ``set_verify``.
    :param judge: whether a certificate will do.
    """

    def __init__(self, options: CertificateOptions, mode: int, judge: Judge) -> None:
        self._options = options
        self._mode = mode
        self._judge = judge

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = self._options.serverConnectionForTLS(protocol)
        connection.set_verify(self._mode, partial(self._judge, weakref.ref(protocol)))
        return connection


_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_REFUSALS: Final = {
    _NOT_YET_VALID: "is not valid yet: is a clock wrong?",
    _EXPIRED: "has expired",
    18: "is self-signed",
    19: "is of another CA",
    20: "is of another CA",
    21: "is of another CA",
    26: "is not for clients (clientAuth)",
}
"""Source: OpenSSL ``x509_vfy.h``, ``X509_V_ERR_*``."""


def _note_refusal(
    protocol: Callable[[], Any],
    _connection: SSL.Connection,
    certificate: crypto.X509,
    error: int,
    _depth: int,
    passed: bool,
) -> bool:
    if not passed and (refusing := protocol()) is not None:
        what = "the client certificate"
        if error in (_NOT_YET_VALID, _EXPIRED):  # whose it is was verified before its dates
            what += _of_node(certificate)
        refusing.refusal = f"{what} {_REFUSALS.get(error, f'does not verify (error {error})')}"
    return bool(passed)


def _of_node(certificate: crypto.X509) -> str:
    try:
        return f" of node {identify(certificate.to_cryptography().subject).node}"
    except (CertificateError, ValueError):
        return ""


@implementer(IOpenSSLClientConnectionCreator)
class Expecting:
    """Expect a certificate for one host.

    Not ``optionsForClientTLS``: its check logs and *passes* when it cannot read one of the
    certificate's names, and a Go cloudcore's certificate has an empty one by default.
    """

    def __init__(
        self,
        hostname: str,
        options: CertificateOptions,
        remedy: str = "add that to the cloud's dnsNames or advertiseAddress",
        *,
        on_dates: Callable[[], object] | None = None,
        at_any_time: bool = False,
    ) -> None:
        self._hostname = hostname
        self._options = options
        self._remedy = remedy
        self._on_dates = on_dates
        self._at_any_time = at_any_time

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = self._options.clientConnectionForTLS(protocol)
        if not is_ip_address(self._hostname):
            connection.set_tlsext_host_name(self._hostname.encode("idna"))
        abandon = weakref.WeakMethod(protocol.failVerification)
        connection.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
            partial(_check_dates, self._on_dates, self._at_any_time, abandon, self._judge(abandon)),
        )
        return connection

    def _judge(self, abandon: Abandon) -> Callable[[crypto.X509, int, bool], bool]:
        return partial(_check, self._hostname, self._remedy, abandon)


Abandon = Callable[[], Callable[[Failure], None] | None]
"""Returns what ends the connection with a reason, if there is still one."""


def _check_dates(
    on_dates: Callable[[], object] | None,
    at_any_time: bool,
    abandon: Abandon,
    judge: Callable[[crypto.X509, int, bool], bool],
    _connection: SSL.Connection,
    certificate: crypto.X509,
    error: int,
    depth: int,
    passed: bool,
) -> bool:
    if not passed and error in (_NOT_YET_VALID, _EXPIRED):
        if at_any_time:
            return judge(certificate, depth, True)
        if on_dates is not None:
            on_dates()
        if (give_up := abandon()) is not None:
            give_up(Failure(ClockError(_dates(certificate.to_cryptography(), error))))
        return False
    return judge(certificate, depth, bool(passed))


def _dates(certificate: x509.Certificate, error: int) -> str:
    if error == _EXPIRED:
        when = f"expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    else:
        when = f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return f"its certificate {when}, by this machine's clock"


def _check(
    hostname: str,
    remedy: str,
    abandon: Abandon,
    certificate: crypto.X509,
    depth: int,
    passed: bool,
) -> bool:
    if not passed or depth:
        return passed
    try:
        if serves(certificate.to_cryptography(), hostname):
            return True
        why = f"its certificate is not valid for {hostname}; {remedy}"
    except Exception as error:  # noqa: BLE001 - whatever cannot be checked has not passed
        why = f"its certificate cannot be read: {error}"
    if (give_up := abandon()) is not None:
        give_up(Failure(CertificateError(why)))
    return False


def _own(cert_pem: bytes, key_pem: bytes) -> dict[str, Any]:
    cert_der = pem_to_der(cert_pem, "CERTIFICATE", "certificate")
    key_der = pem_to_der(key_pem, "PRIVATE KEY", "private key")
    return {
        "certificate": check_pair(cert_der, key_der, "TLS"),
        "privateKey": load_key(key_der, "private key"),
    }


def _trust(ca_pem: bytes) -> dict[str, Any]:
    try:
        roots = [
            Certificate.load(der, crypto.FILETYPE_ASN1)
            for der in pem_blocks(ca_pem, "CERTIFICATE", "CA")
        ]
    except crypto.Error:
        raise CertificateError("CA: a CERTIFICATE block in it is no certificate") from None
    return {"trustRoot": trustRootFromCertificates(roots)}


def ciphers(text: str) -> dict[str, Any]:
    """The argument of CertificateOptions for a list of ciphers in OpenSSL's words."""
    return {"acceptableCiphers": AcceptableCiphers.fromOpenSSLCipherString(text)}
