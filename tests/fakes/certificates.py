"""Keys and certificates for tests, and the plain Python client that judges them."""

from __future__ import annotations

import base64
import http.client
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from kubeedge_tx.security.authority import Authority, KeyPair, key_to_der, new_key
from kubeedge_tx.security.identity import NODES_GROUP, common_name
from kubeedge_tx.security.requests import make_request


def real_now() -> datetime:
    """The machine's time, which OpenSSL goes by; in whole seconds, a little in the past."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)


def edge_request(
    node: str = "edge-1", *, organization: str = NODES_GROUP, name: str | None = None
) -> tuple[bytes, bytes]:
    """A certificate request and its key, both DER, as an edge makes them."""
    key = new_key()
    subject = [
        (NameOID.COUNTRY_NAME, "CN"),
        (NameOID.ORGANIZATION_NAME, organization),
        (NameOID.COMMON_NAME, common_name(node) if name is None else name),
    ]
    return make_request(key, subject), key_to_der(key)


def signing_request(node: str = "edge-1") -> str:
    """What stands in ``spec.request`` of a CertificateSigningRequest of a node."""
    csr_der, _key = edge_request(node)
    return base64.b64encode(x509.load_der_x509_csr(csr_der).public_bytes(Encoding.PEM)).decode()


def edge_pair(
    authority: Authority,
    node: str = "edge-1",
    *,
    now: datetime | None = None,
    days: int = 365,
    organization: str = NODES_GROUP,
    name: str | None = None,
) -> KeyPair:
    """An edge's certificate and key, as the cloud issues them."""
    csr, key_der = edge_request(node, organization=organization, name=name)
    cert_der = authority.sign_request(csr, now=now or real_now(), days=days)
    return KeyPair(cert_der=cert_der, key_der=key_der)


def python_get(
    folder: Path,
    port: int,
    path: str,
    *,
    authority: Authority | None = None,
    pair: KeyPair | None = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    method: str = "GET",
) -> Deferred[tuple[int, bytes]]:
    """Ask 127.0.0.1 with Python's own ssl and http; with an authority, verify strictly."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=authority.cert_pem.decode())
    if pair is not None:
        file = folder / "client.pem"
        file.write_bytes(pair.cert_pem + pair.key_pem)
        context.load_cert_chain(file)

    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response: Any = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return deferToThread(ask)
