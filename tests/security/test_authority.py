from __future__ import annotations

import subprocess
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import CertificateError
from kubeedge_tx.security.authority import (
    SERVER_AUTH,
    Authority,
    alternative_names,
    load_key,
    new_key,
    utc,
)
from kubeedge_tx.security.files import der_to_pem
from kubeedge_tx.security.requests import make_request
from tests.requirements import requires

NOW = datetime.now(UTC).replace(microsecond=0)
"""Real, since openssl looks at the machine's clock."""

EDGE = [(NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, "system:node:e1")]


class AuthorityTests(SynchronousTestCase):
    """The authority makes what KubeEdge makes and refuses what is unsafe."""

    def setUp(self) -> None:
        self.authority = Authority.create(now=NOW)
        self.request = make_request(new_key(), EDGE)

    def refuses(self, cert_der: bytes, key_der: bytes, now: datetime = NOW) -> str:
        with self.assertRaises(CertificateError) as caught:
            Authority.load(cert_der, key_der, now=now, what="casecret")
        return str(caught.exception)

    def test_authority_is_as_upstream_makes_it(self) -> None:
        """Name, serial, lifetime, usages and key are those of a Go cloudcore's CA."""
        made = self.authority.certificate
        self.assertEqual(made.subject.rfc4514_string(), "CN=KubeEdge")
        self.assertEqual(made.serial_number, 1024)
        self.assertEqual(
            made.not_valid_after_utc - made.not_valid_before_utc, timedelta(days=36400)
        )
        usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
        self.assertTrue(usage.key_cert_sign and usage.digital_signature and usage.key_encipherment)
        self.assertIsInstance(load_key(self.authority.key_der, "key").curve, ec.SECP256R1)
        self.assertTrue(self.authority.key_pem.startswith(b"-----BEGIN EC PRIVATE KEY-----"))

    def test_other_authorities_have_their_own_serial(self) -> None:
        """Only KubeEdge's own CA has serial 1024."""
        other = Authority.create("kubernetes", now=NOW).certificate
        self.assertEqual(other.subject.rfc4514_string(), "CN=kubernetes")
        self.assertNotEqual(other.serial_number, 1024)

    def test_load_gives_back_the_same_bytes(self) -> None:
        """A stored authority is taken over byte by byte, since tokens depend on it."""
        again = Authority.load(self.authority.cert_der, self.authority.key_der, now=NOW)
        self.assertEqual(
            (again.cert_der, again.key_der), (self.authority.cert_der, self.authority.key_der)
        )

    def test_pkcs8_key_becomes_sec1(self) -> None:
        """A key that an operator brings in the other common form is converted."""
        pkcs8 = load_key(self.authority.key_der, "key").private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
        again = Authority.load(self.authority.cert_der, pkcs8, now=NOW)
        self.assertEqual(again.key_der, self.authority.key_der)

    def test_foreign_key(self) -> None:
        """A key of another certificate is named as the fault."""
        other = Authority.create(now=NOW)
        self.assertIn(
            "does not belong to the certificate",
            self.refuses(self.authority.cert_der, other.key_der),
        )

    def test_expired_or_not_yet_valid(self) -> None:
        """Dates out of range are told apart."""
        pair = self.authority.cert_der, self.authority.key_der
        self.assertIn("expired at", self.refuses(*pair, now=NOW + timedelta(days=36401)))
        self.assertIn("valid only from", self.refuses(*pair, now=NOW - timedelta(days=1)))

    def test_no_authority(self) -> None:
        """A server certificate is not taken for an authority."""
        server = self.authority.issue_server(["cloud"], [], now=NOW)
        self.assertIn("not a CA", self.refuses(server.cert_der, server.key_der))

    def test_garbage_and_rsa(self) -> None:
        """Unreadable bytes and keys of another kind say so, and name the secret."""
        self.assertIn(
            "casecret certificate: not a certificate", self.refuses(b"x", self.authority.key_der)
        )
        self.assertIn("casecret key", self.refuses(self.authority.cert_der, b"x"))
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
        self.assertIn("not an EC key", self.refuses(self.authority.cert_der, key))

    def test_server_certificate(self) -> None:
        """It has every name and address once, and never outlives its authority."""
        pair = self.authority.issue_server(
            ["cloud.example", "cloud.example"], ["10.0.0.1", "::1"], now=NOW
        )
        made = x509.load_der_x509_certificate(pair.cert_der)
        self.assertEqual(
            [str(name.value) for name in alternative_names(made)],
            ["cloud.example", "10.0.0.1", "::1"],
        )
        self.assertEqual(made.subject.rfc4514_string(), "CN=KubeEdge,O=KubeEdge")
        later = self.authority.issue_server(["a"], [], now=NOW + timedelta(days=30000))
        self.assertEqual(
            x509.load_der_x509_certificate(later.cert_der).not_valid_after_utc,
            self.authority.certificate.not_valid_after_utc,
        )

    def test_bad_names(self) -> None:
        """An address that is none is quoted; no name at all is refused."""
        with self.assertRaisesRegex(CertificateError, "'10.0.0.256' is not an IP address"):
            self.authority.issue_server([], ["10.0.0.256"], now=NOW)
        with self.assertRaisesRegex(CertificateError, "is not a DNS name"):
            self.authority.issue_server(["wölke"], [], now=NOW)
        with self.assertRaisesRegex(CertificateError, "at least one"):
            self.authority.issue_server([], [], now=NOW)

    def test_pair_never_shows_its_key(self) -> None:
        """The representation of a pair, which may reach a log, has no key."""
        pair = self.authority.issue_server(["a"], [], now=NOW)
        self.assertNotIn(repr(pair.key_der)[2:20], repr(pair))

    def test_request_is_signed_with_its_names_only(self) -> None:
        """O and CN of the request are kept, other parts of its subject dropped."""
        subject = [
            (NameOID.COUNTRY_NAME, "CN"),
            (NameOID.ORGANIZATION_NAME, "system:nodes"),
            (NameOID.LOCALITY_NAME, "Hangzhou"),
            (NameOID.COMMON_NAME, "system:node:e1"),
        ]
        der = self.authority.sign_request(make_request(new_key(), subject), now=NOW, days=365)
        made = x509.load_der_x509_certificate(der)
        self.assertEqual(made.subject.rfc4514_string(), "CN=system:node:e1,O=system:nodes")
        self.assertEqual(made.not_valid_after_utc, NOW + timedelta(days=365))
        made.verify_directly_issued_by(self.authority.certificate)

    def test_long_node_names(self) -> None:
        """A node name of the 253 characters that Kubernetes allows gets its certificate."""
        name = "system:node:" + ".".join(["a" * 62] * 4)
        subject = [EDGE[0], (NameOID.COMMON_NAME, name)]
        der = self.authority.sign_request(make_request(new_key(), subject), now=NOW, days=1)
        made = x509.load_der_x509_certificate(der)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            (got,) = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.assertEqual(got.value, name)

    def test_request_names_and_usages(self) -> None:
        """Alternative names come from the request, usages from the caller."""
        key = new_key()
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in EDGE]))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("e1")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        der = self.authority.sign_request(
            request.public_bytes(Encoding.DER), now=NOW, days=1, usages=[SERVER_AUTH]
        )
        made = x509.load_der_x509_certificate(der)
        self.assertEqual(alternative_names(made), [x509.DNSName("e1")])
        usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usages), [SERVER_AUTH])

    def test_request_of_a_foreign_key(self) -> None:
        """A request whose sender does not hold the key is refused."""
        der = bytearray(make_request(new_key(), EDGE))
        der[-1] ^= 1
        with self.assertRaisesRegex(CertificateError, "signature|not a certificate request"):
            self.authority.sign_request(bytes(der), now=NOW, days=1)
        one, other = (make_request(new_key(), EDGE) for _ in range(2))
        point = x509.load_der_x509_csr(one).public_key()
        foreign = x509.load_der_x509_csr(other).public_key()
        assert isinstance(point, ec.EllipticCurvePublicKey)
        assert isinstance(foreign, ec.EllipticCurvePublicKey)
        forged = one.replace(_point(point), _point(foreign))
        self.assertNotEqual(forged, one)
        with self.assertRaisesRegex(CertificateError, "signature was not made with its own key"):
            self.authority.sign_request(forged, now=NOW, days=1)

    def test_request_without_name_or_with_weak_key(self) -> None:
        """A nameless request and one with a short RSA key are refused."""
        with self.assertRaisesRegex(CertificateError, "exactly one CN"):
            self.authority.sign_request(make_request(new_key(), EDGE[:1]), now=NOW, days=1)
        weak = rsa.generate_private_key(65537, 1024)
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(*EDGE[1])]))
            .sign(weak, hashes.SHA256())
        )
        with self.assertRaisesRegex(CertificateError, "1024 bits"):
            self.authority.sign_request(request.public_bytes(Encoding.DER), now=NOW, days=1)

    @given(st.binary(max_size=300))
    def test_garbage_requests(self, garbage: bytes) -> None:
        """Whatever arrives instead of a request, the answer is a CertificateError."""
        with self.assertRaises(CertificateError):
            self.authority.sign_request(garbage, now=NOW, days=1)

    def test_every_byte_damaged(self) -> None:
        """No wrong byte of a request leads to another key or name, or another exception."""
        good = x509.load_der_x509_csr(self.request)
        for at, byte in enumerate(self.request):
            for wrong in {byte ^ 1, 0, 10, 255} - {byte}:
                bad = self.request[:at] + bytes([wrong]) + self.request[at + 1 :]
                try:
                    der = self.authority.sign_request(bad, now=NOW, days=1)
                except CertificateError:
                    continue
                made = x509.load_der_x509_certificate(der)
                self.assertEqual(made.public_key(), good.public_key())
                self.assertEqual(made.subject, good.subject)

    @requires("openssl")
    def test_openssl_accepts_them_strictly(self) -> None:
        """OpenSSL's strict check passes for server, edge and client certificates."""
        folder = Path(self.mktemp())
        folder.mkdir()
        root = folder / "ca.pem"
        root.write_bytes(self.authority.cert_pem)
        edge = self.authority.sign_request(make_request(new_key(), EDGE), now=NOW, days=365)
        server = self.authority.issue_server(["cloud"], ["127.0.0.1"], now=NOW)
        admin = self.authority.issue_client("admin", ["system:masters"], now=NOW)
        for purpose, pem in (
            ("sslserver", server.cert_pem),
            ("sslclient", der_to_pem("CERTIFICATE", edge)),
            ("sslclient", admin.cert_pem),
        ):
            leaf = folder / "leaf.pem"
            leaf.write_bytes(pem)
            command = ["openssl", "verify", "-x509_strict", "-purpose", purpose]
            done = subprocess.run(
                [*command, "-CAfile", root, leaf], capture_output=True, text=True, check=False
            )
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_wall_clock(self) -> None:
        """Seconds since 1970 become whole seconds of UTC."""
        self.assertEqual(utc(86400.9), datetime(1970, 1, 2, tzinfo=UTC))


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import PublicFormat

    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
