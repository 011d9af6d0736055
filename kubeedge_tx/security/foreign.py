"""TLS with certificates that others made: MQTT's listeners and brokers.

The cloud and the edge make their own certificates and are strict about their form
(:mod:`~kubeedge_tx.security.contexts`). Here a site brings what it has: RSA or elliptic
curves, with intermediate certificates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates

from kubeedge_tx.errors import CertificateError, ConfigError
from kubeedge_tx.security.contexts import WEB_CIPHERS, Expecting, Verifying, ciphers
from kubeedge_tx.security.files import pem_blocks, read_file


def server(
    cert_file: Path, key_file: Path, ca_file: Path | None = None, *, require: bool = False
) -> IOpenSSLServerConnectionCreator:
    """A listener.

    :param ca_file: clients that show a certificate need one of these authorities; without
        it they are not asked for one.
    :param require: refuse clients without a certificate.
    :raises ConfigError: a file cannot be used; the text says which and why.
    """
    if require and ca_file is None:
        raise ConfigError("requireCertificate", "needs caFile: whose certificates are good")
    trust = _trust(ca_file) if ca_file is not None else {}
    options = CertificateOptions(**_own(cert_file, key_file), **trust, **ciphers(WEB_CIPHERS))
    if require or ca_file is None:
        return options
    return Verifying(options, SSL.VERIFY_PEER, lambda *found: bool(found[-1]))


def client(
    hostname: str,
    ca_file: Path,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> IOpenSSLClientConnectionCreator:
    """A client of a broker: it must be of the authority and have the name or address.

    :raises ConfigError: a file cannot be used; the text says which and why.
    """
    own = _own(cert_file, key_file) if cert_file is not None and key_file is not None else {}
    return Expecting(
        hostname,
        CertificateOptions(**own, **_trust(ca_file), **ciphers(WEB_CIPHERS)),
        remedy="call the broker by a name that is in it",
    )


def _read(path: Path) -> bytes:
    try:
        data = read_file(path)
    except CertificateError as error:
        raise ConfigError(str(path), str(error)) from None
    if data is None:
        raise ConfigError(str(path), "is not there")
    return data


def _certificates(path: Path) -> list[Certificate]:
    try:
        return [
            Certificate.load(der, crypto.FILETYPE_ASN1)
            for der in pem_blocks(_read(path), "CERTIFICATE", str(path))
        ]
    except (crypto.Error, CertificateError) as error:
        raise ConfigError(str(path), f"no certificate in it: {error}") from None


def _own(cert_file: Path, key_file: Path) -> dict[str, Any]:
    own, *chain = (found.original for found in _certificates(cert_file))
    try:
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, _read(key_file), b"")
    except (crypto.Error, ValueError, TypeError):
        raise ConfigError(str(key_file), "no private key in it, or one with a password") from None
    probe = SSL.Context(SSL.TLS_METHOD)
    try:
        probe.use_certificate(own)
        probe.use_privatekey(key)
        probe.check_privatekey()
    except SSL.Error:
        raise ConfigError(str(key_file), f"does not belong to {cert_file}") from None
    return {"certificate": own, "privateKey": key, "extraCertChain": chain}


def _trust(ca_file: Path) -> dict[str, Any]:
    return {"trustRoot": trustRootFromCertificates(_certificates(ca_file))}
