"""A certificate authority: makes itself, issues server certificates, signs requests."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeedge_tx.errors import CertificateError
from kubeedge_tx.security.files import der_to_pem
from kubeedge_tx.security.requests import UNREADABLE, load_request, long_names_allowed

AUTHORITY_DAYS: Final = 100 * 364
"""How long an authority, and a server certificate of it, is good.
Source: KubeEdge cloud/pkg/cloudhub/servers/httpserver."""

BACKDATE: Final = timedelta(hours=1)
"""Certificates are valid from a little before they were made: for peers whose clocks are late, and
for our own, should it be set back."""

GRACE_DAYS: Final = 30
"""After its end an edge's certificate still renews itself for so long at a cloud of ours."""

KUBEEDGE_NAME: Final = "KubeEdge"
"""The common name of KubeEdge's own authority, and O and CN of its servers."""

KUBEEDGE_SERIAL: Final = 1024
"""The serial number of KubeEdge's own authority. Source: as above."""

SERVER_AUTH: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH: Final = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate and its private key, both DER; the key in SEC 1 form."""

    cert_der: bytes
    key_der: bytes

    @property
    def cert_pem(self) -> bytes:
        """The certificate as a PEM block ``CERTIFICATE``."""
        return der_to_pem("CERTIFICATE", self.cert_der)

    @property
    def key_pem(self) -> bytes:
        """The key as a PEM block ``EC PRIVATE KEY``."""
        return der_to_pem("EC PRIVATE KEY", self.key_der)

    def __repr__(self) -> str:
        """Leave the key out, so that no log can show it."""
        return f"KeyPair(certificate of {len(self.cert_der)} bytes)"


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a key in SEC 1 DER, as Go's ``x509.MarshalECPrivateKey`` does."""
    return key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def load_certificate(der: bytes, what: str) -> x509.Certificate:
    """Read a certificate.

    :param what: names it in the error: a file or a secret's key.
    :raises CertificateError: the bytes are no DER certificate.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE:
        raise CertificateError(f"{what}: not a certificate in DER form") from None


def load_key(der: bytes, what: str) -> ec.EllipticCurvePrivateKey:
    """Read an EC key, SEC 1 or PKCS 8.

    :param what: names it in the error: a file or a secret's key.
    :raises CertificateError: the bytes are no private key, or not an EC key.
    """
    try:
        key = load_der_private_key(der, None)
    except UNREADABLE:
        raise CertificateError(f"{what}: not an unencrypted private key in DER form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{what}: the key is not an EC key; KubeEdge uses ECDSA P-256")
    return key


def check_pair(cert_der: bytes, key_der: bytes, what: str) -> x509.Certificate:
    """Read a certificate and see that the key is its key.

    :param what: names the pair in the error.
    :raises CertificateError: one cannot be read, or they do not belong together.
    """
    certificate = load_certificate(cert_der, f"{what} certificate")
    key = load_key(key_der, f"{what} key")
    if certificate.public_key() != key.public_key():
        raise CertificateError(f"{what}: the private key does not belong to the certificate")
    return certificate


def check_dates(certificate: x509.Certificate, now: datetime, what: str) -> None:
    """See that ``now`` is inside the certificate's validity.

    :raises CertificateError: it is expired, or not valid yet (or our clock is wrong).
    """
    if now > certificate.not_valid_after_utc:
        raise CertificateError(
            f"{what} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    # A whole second: certificates carry no fractions, and neighbours' clocks differ a little.
    if now + timedelta(seconds=1) < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{what} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; "
            "check this machine's clock"
        )


class Authority:
    """A CA certificate with its key. ECDSA P-256 and SHA-256 throughout.

    Build one with :meth:`create` or :meth:`load`.
    """

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, pair: KeyPair
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._pair = pair

    @classmethod
    def create(cls, common_name: str = KUBEEDGE_NAME, *, now: datetime) -> Authority:
        """Make a new authority, valid from ``now`` for :data:`AUTHORITY_DAYS`.

        :param common_name: its name; ``KubeEdge`` also gets KubeEdge's serial number.
        """
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        serial = KUBEEDGE_SERIAL if common_name == KUBEEDGE_NAME else _serial()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now - BACKDATE + timedelta(days=AUTHORITY_DAYS))
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([SERVER_AUTH, CLIENT_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        pair = KeyPair(cert_der=certificate.public_bytes(Encoding.DER), key_der=key_to_der(key))
        return cls(certificate, key, pair)

    @classmethod
    def load(
        cls, cert_der: bytes, key_der: bytes, *, now: datetime, what: str = "the CA"
    ) -> Authority:
        """Take an existing pair and check it.

        The key's bytes are kept as given, since join tokens are signed with them.

        :param key_der: SEC 1 DER, or PKCS 8, which is then converted.
        :param what: names the pair in errors: a file or a secret.
        :raises CertificateError: unreadable, not belonging together, not a CA, or out of
            its dates; the text says which.
        """
        certificate = check_pair(cert_der, key_der, what)
        if not _is_authority(certificate):
            raise CertificateError(
                f"{what}: the certificate is not a CA (basicConstraints CA:TRUE)"
            )
        check_dates(certificate, now, f"{what}: the certificate")
        key = load_key(key_der, f"{what} key")
        if not _is_sec1(key_der):
            key_der = key_to_der(key)
        return cls(certificate, key, KeyPair(cert_der=cert_der, key_der=key_der))

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate, parsed."""
        return self._certificate

    @property
    def cert_der(self) -> bytes:
        """The certificate in DER."""
        return self._pair.cert_der

    @property
    def cert_pem(self) -> bytes:
        """The certificate in PEM."""
        return self._pair.cert_pem

    @property
    def key_der(self) -> bytes:
        """The private key in SEC 1 DER; join tokens are signed with these bytes."""
        return self._pair.key_der

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM, ``EC PRIVATE KEY``."""
        return self._pair.key_pem

    def issue_server(
        self,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str],
        *,
        now: datetime,
        days: int = AUTHORITY_DAYS,
        common_name: str = KUBEEDGE_NAME,
        organization: str = KUBEEDGE_NAME,
    ) -> KeyPair:
        """Make a server's key and certificate (serverAuth) for these names and addresses.

        :raises CertificateError: an address or name cannot stand in a certificate, or there
            is none at all.
        """
        names = subject_alternatives(dns_names, ip_addresses)
        if not names:
            raise CertificateError("a server certificate needs at least one name or address")
        key = new_key()
        certificate = self._sign(
            key.public_key(),
            _name([organization], common_name),
            x509.SubjectAlternativeName(names),
            [SERVER_AUTH],
            now=now,
            days=days,
        )
        return KeyPair(cert_der=certificate, key_der=key_to_der(key))

    def issue_client(
        self, common_name: str, organizations: Sequence[str], *, now: datetime, days: int = 365
    ) -> KeyPair:
        """Make a client's key and certificate (clientAuth), as for a kubeconfig."""
        key = new_key()
        certificate = self._sign(
            key.public_key(),
            _name(organizations, common_name),
            None,
            [CLIENT_AUTH],
            now=now,
            days=days,
        )
        return KeyPair(cert_der=certificate, key_der=key_to_der(key))

    def sign_request(
        self,
        csr_der: bytes,
        *,
        now: datetime,
        days: int,
        usages: Iterable[x509.ObjectIdentifier] = (CLIENT_AUTH,),
    ) -> bytes:
        """Sign a request; O, CN and alternative names are taken from it, nothing else.

        Who may have what certificate is the caller's business.

        :param usages: extended key usages of the certificate.
        :returns: the certificate in DER.
        :raises CertificateError: see :func:`load_request`.
        """
        request = load_request(csr_der)
        try:
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            names = None
        except UNREADABLE:
            raise CertificateError("the request has extensions that cannot be read") from None
        kept = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        with long_names_allowed():
            asked = request.subject
        # The attributes themselves, not copies: those would be refused beyond 64 characters.
        subject = x509.Name([part for oid in kept for part in _parts(asked, oid)])
        return self._sign(request.public_key(), subject, names, list(usages), now=now, days=days)

    def _sign(
        self,
        public_key: CertificatePublicKeyTypes,
        subject: x509.Name,
        names: x509.SubjectAlternativeName | None,
        usages: list[x509.ObjectIdentifier],
        *,
        now: datetime,
        days: int,
    ) -> bytes:
        # A certificate that outlives its authority would only mislead whoever reads it.
        until = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(_serial())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(until)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(self._authority_key_identifier(), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _authority_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        extensions = self._certificate.extensions
        try:
            identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def subject_alternatives(
    dns_names: Iterable[str], ip_addresses: Iterable[str]
) -> list[x509.GeneralName]:
    """Turn names and addresses into what a certificate holds, each once, in order.

    :raises CertificateError: one of them is none; the text quotes it.
    """
    names: dict[x509.GeneralName, None] = {}
    for name in dns_names:
        try:
            names[x509.DNSName(name)] = None
        except ValueError:
            raise CertificateError(f"{name!r} is not a DNS name (ASCII letters only)") from None
    for address in ip_addresses:
        try:
            names[x509.IPAddress(ip_address(address))] = None
        except ValueError:
            raise CertificateError(f"{address!r} is not an IP address") from None
    return list(names)


def alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The names and addresses a certificate is for; empty if it has none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def utc(seconds: float) -> datetime:
    """A wall clock's seconds since 1970 as the ``now`` that this module takes."""
    return datetime.fromtimestamp(int(seconds), UTC)


def _name(organizations: Sequence[str], common_name: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _parts(subject: x509.Name, oid: x509.ObjectIdentifier) -> list[x509.NameAttribute[str | bytes]]:
    return subject.get_attributes_for_oid(oid)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _is_sec1(der: bytes) -> bool:
    # SEQUENCE { INTEGER 1, …; PKCS 8 has INTEGER 0 there.
    skip = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)
    return der[skip : skip + 3] == b"\x02\x01\x01"


def _serial() -> int:
    """A random positive number of at most 63 bits, as upstream's."""
    return secrets.randbits(63) or 1


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
