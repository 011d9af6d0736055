"""Certificate requests: made by an edge, read and checked by the cloud."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kubeedge_tx.errors import CertificateError
from kubeedge_tx.security.identity import identify

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What ``cryptography`` raises for bytes that it cannot read."""


def load_request(csr_der: bytes) -> x509.CertificateSigningRequest:
    """Read a certificate request and check that its sender holds the key.

    :raises CertificateError: not DER, its signature is wrong, it has not exactly one common
        name, or the key is too weak.
    """
    try:
        request = x509.load_der_x509_csr(csr_der)
        valid = request.is_signature_valid
        key = request.public_key()
        with long_names_allowed():
            names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except UNREADABLE:
        raise CertificateError("not a certificate request in DER form") from None
    if not valid:
        raise CertificateError("the request's signature was not made with its own key")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        raise CertificateError(f"the request's RSA key has {key.key_size} bits, less than 2048")
    if len(names) != 1:
        raise CertificateError("the request's subject must have exactly one CN")
    return request


def node_of_request(pem: bytes) -> str:
    """Read which node a certificate request in PEM names in its subject.

    :raises CertificateError: it is none, or names no node.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
    except UNREADABLE:
        raise CertificateError("not a certificate request in PEM form") from None
    with long_names_allowed():
        if len(request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)) != 1:
            raise CertificateError("the request's subject must have exactly one CN")
        return identify(request.subject).node


def make_request(
    key: ec.EllipticCurvePrivateKey, attributes: Sequence[tuple[x509.ObjectIdentifier, str]]
) -> bytes:
    """Make a certificate request in DER.

    :param attributes: the subject, as pairs such as ``(NameOID.COMMON_NAME, "x")``.
    """
    with long_names_allowed():
        subject = x509.Name(
            [x509.NameAttribute(oid, value, _validate=False) for oid, value in attributes]
        )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@contextmanager
def long_names_allowed() -> Iterator[None]:
    """Keep ``cryptography`` quiet about a CN of more than X.509's 64 characters.

    Kubernetes' node names may have 253, and Go and OpenSSL take them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
