from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.cloud.cloudhub.issuing import Asked, Expired, Issued, Issuer, Refused
from kubeedge_tx.security.authority import CLIENT_AUTH, SERVER_AUTH, Authority, new_key
from kubeedge_tx.security.token import make_token, split_token
from tests.fakes.certificates import edge_pair, edge_request

NOW = datetime(2026, 6, 1, tzinfo=UTC)
Names = tuple[str, str]
EDGE = ("system:nodes", "system:node:edge-1")
OLD = ("KubeEdge", "kubeedge.io")


def request_with_names(*names: x509.GeneralName) -> bytes:
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, "system:node:edge-1"),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.DER)


class IssuingTests(SynchronousTestCase):
    """An edge gets the certificate that it may have and no other."""

    def setUp(self) -> None:
        self.authority = Authority.create(now=NOW)
        server = self.authority.issue_server(["cloud"], ["10.0.0.1", "127.0.0.1"], now=NOW)
        self.cloud = x509.load_der_x509_certificate(server.cert_der)
        self.issuer = self.make()
        self.csr, _key = edge_request()
        self.by_token = Asked(
            csr_der=self.csr,
            node_header="edge-1",
            usages_header="",
            authorization=f"Bearer {self.jwt()}",
            certificate=None,
        )

    def make(
        self, *, legacy: bool = False, knows: Callable[[str], bool] = lambda _node: True
    ) -> Issuer:
        return Issuer(
            self.authority,
            self.cloud,
            signing_days=365,
            grace_days=30,
            legacy=legacy,
            node_exists=knows,
        )

    def jwt(self, lifetime: int = 3600) -> str:
        expires = int(NOW.timestamp()) + lifetime
        return split_token(make_token(self.authority.cert_der, self.authority.key_der, expires))[1]

    def by_certificate(
        self, authority: Authority | None = None, now: datetime = NOW, names: Names = EDGE
    ) -> Asked:
        pair = edge_pair(authority or self.authority, now=now, organization=names[0], name=names[1])
        certificate = x509.load_der_x509_certificate(pair.cert_der)
        return replace(self.by_token, authorization="", certificate=certificate)

    def refusal(
        self, asked: Asked, now: datetime = NOW, *, legacy: bool = False
    ) -> tuple[int, str]:
        with self.assertRaises(Refused) as caught:
            self.make(legacy=legacy).issue(asked, now)
        return caught.exception.code, str(caught.exception)

    def usages(self, issued: Issued) -> list[x509.ObjectIdentifier]:
        made = x509.load_der_x509_certificate(issued.der)
        return list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    def test_by_token(self) -> None:
        """A token buys a certificate for the node that the request names, for a year."""
        issued = self.issuer.issue(self.by_token, NOW)
        self.assertEqual((issued.node, issued.by), ("edge-1", "token"))
        made = x509.load_der_x509_certificate(issued.der)
        self.assertEqual(made.serial_number, issued.serial)
        self.assertEqual(made.not_valid_after_utc, NOW + timedelta(days=365))
        self.assertEqual(self.usages(issued), [CLIENT_AUTH])

    def test_bad_tokens(self) -> None:
        """Without a good token there is a 401 that says what is wrong with it."""
        forged = split_token(make_token(b"x", b"other key", 2**40))[1]
        for authorization, words in (
            ("", "neither a client certificate nor a token"),
            ("Bearer", "is not 'Bearer <token>'"),
            ("Bearer a b", "is not 'Bearer <token>'"),
            ("Bearer x", "malformed"),
            (f"Bearer {forged}", "signature is wrong"),
            (f"Bearer {self.jwt(-1)}", "expired"),
        ):
            code, text = self.refusal(replace(self.by_token, authorization=authorization))
            self.assertEqual(code, 401)
            self.assertIn(words, text)

    def test_token_of_another_node(self) -> None:
        """A token that is for one node is good for no other, nor for who names none."""
        ends = int(NOW.timestamp()) + 3600
        authority = self.authority
        for node in ("edge-1", "edge-2"):
            jwt = split_token(make_token(authority.cert_der, authority.key_der, ends, "i", node))[1]
            asked = replace(self.by_token, authorization=f"Bearer {jwt}")
            if node == "edge-1":
                self.assertEqual(self.issuer.issue(asked, NOW).node, "edge-1")
                csr, _key = edge_request(organization=OLD[0], name=OLD[1])
                asked = replace(asked, csr_der=csr, node_header="")
                self.assertEqual(self.refusal(asked, legacy=True)[0], 401)
            else:
                refused = (401, "the token is for node edge-2, the request names 'edge-1'")
                self.assertEqual(self.refusal(asked), refused)

    def test_scheme_word_is_not_looked_at(self) -> None:
        """As upstream, any word before the token will do."""
        self.issuer.issue(replace(self.by_token, authorization=f"Token {self.jwt()}"), NOW)

    def test_what_a_token_may_ask_for(self) -> None:
        """A token is good for an edge's name only, and the field that is wrong is named."""
        for names, words in (
            (("system:masters", EDGE[1]), "its O is 'system:masters'"),
            ((EDGE[0], "admin"), "its CN is 'admin'"),
            ((EDGE[0], "system:node:Edge_1"), "no DNS name"),
            (OLD, "its CN is 'kubeedge.io'"),
        ):
            csr, _key = edge_request(organization=names[0], name=names[1])
            code, text = self.refusal(replace(self.by_token, csr_der=csr))
            self.assertEqual(code, 400)
            self.assertIn(words, text)
        code, text = self.refusal(replace(self.by_token, node_header="edge-2"))
        self.assertEqual(code, 400)
        self.assertIn("header NodeName says 'edge-2'", text)

    def test_unreadable_requests(self) -> None:
        """PEM, garbage and a request changed on the way are 500, as upstream says it."""
        for csr in (b"", b"-----BEGIN CERTIFICATE REQUEST-----", self.csr[:-1] + b"\0"):
            code, text = self.refusal(replace(self.by_token, csr_der=csr))
            self.assertEqual(code, 500)
            self.assertIn("cannot sign", text)

    def test_by_certificate(self) -> None:
        """A certificate of ours renews itself without a token."""
        issued = self.issuer.issue(self.by_certificate(), NOW)
        self.assertEqual((issued.node, issued.by), ("edge-1", "certificate"))

    def test_bad_certificates(self) -> None:
        """A certificate of another CA, node, kind or time is 401, even with a good token."""
        other = Authority.create(now=NOW)
        cases = [
            (self.by_certificate(other), "not of this cloud's CA"),
            (replace(self.by_certificate(), node_header="edge-2"), "is of node edge-1"),
            (self.by_certificate(names=("system:masters", EDGE[1])), "its O is"),
            (self.by_certificate(now=NOW + timedelta(days=1)), "valid only from"),
            (self.by_certificate(now=NOW - timedelta(days=396)), "expired"),
            (self.by_certificate(names=OLD), "names no node"),
            (replace(self.by_certificate(), certificate=self.cloud), "not for clients"),
        ]
        for asked, words in cases:
            code, text = self.refusal(replace(asked, authorization=self.by_token.authorization))
            self.assertEqual(code, 401)
            self.assertIn(words, text)

    def test_renewal_after_a_long_absence(self) -> None:
        """A certificate that ended less than 30 days ago still renews itself."""
        asked = self.by_certificate(now=NOW - timedelta(days=394))
        issued = self.issuer.issue(asked, NOW)
        self.assertEqual((issued.node, issued.by), ("edge-1", "expired certificate"))

    def test_expired_for_too_long(self) -> None:
        """Whose certificate it was is known, since the key was proven; if the names agree."""
        asked = self.by_certificate(now=NOW - timedelta(days=396))
        with self.assertRaises(Expired) as caught:
            self.issuer.issue(asked, NOW)
        self.assertEqual((caught.exception.code, caught.exception.node), (401, "edge-1"))
        self.assertIn("more than 30 days ago", str(caught.exception))
        gone = self.make(knows=lambda node: node != "edge-1")
        late = self.by_certificate(now=NOW - timedelta(days=394))
        with self.assertRaisesRegex(Expired, "the cluster has no such node"):
            gone.issue(late, NOW)
        self.assertEqual(gone.issue(self.by_certificate(), NOW).by, "certificate")
        with self.assertRaises(Refused) as refused:
            self.issuer.issue(replace(asked, node_header="edge-2"), NOW)
        self.assertNotIsInstance(refused.exception, Expired)

    def test_certificate_cannot_become_another_node(self) -> None:
        """With edge-1's certificate nobody gets one for edge-2."""
        csr, _key = edge_request("edge-2")
        code, text = self.refusal(replace(self.by_certificate(), csr_der=csr))
        self.assertEqual(code, 400)
        self.assertIn("another one than the client certificate's", text)

    def test_old_edges_where_allowed(self) -> None:
        """With the switch on, edges up to 1.15 join and renew."""
        csr, _key = edge_request(organization=OLD[0], name=OLD[1])
        issuer = self.make(legacy=True)
        self.assertEqual(issuer.issue(replace(self.by_token, csr_der=csr), NOW).node, "")
        asked = replace(self.by_certificate(names=OLD), csr_der=csr)
        self.assertEqual(issuer.issue(asked, NOW).by, "certificate")
        # … but not as a node that has a name
        code, _text = self.refusal(self.by_certificate(names=OLD), legacy=True)
        self.assertEqual(code, 400)

    def test_usages(self) -> None:
        """The header's Go numbers become usages; null and an empty list are clientAuth."""
        for header, wanted in (
            ("[1,2,1]", [SERVER_AUTH, CLIENT_AUTH]),
            ("[]", [CLIENT_AUTH]),
            ("null", [CLIENT_AUTH]),
        ):
            issued = self.issuer.issue(replace(self.by_token, usages_header=header), NOW)
            self.assertEqual(self.usages(issued), wanted)
        for header in ("[99]", "[-1]", "serverAuth", '["1"]', "{}", "[" * 3000):
            code, text = self.refusal(replace(self.by_token, usages_header=header))
            self.assertEqual(code, 400)
            self.assertIn("ExtKeyUsages", text)

    def test_nobody_gets_the_clouds_names(self) -> None:
        """An edge may be valid for addresses of its own, never for the cloud's."""
        for bad in (
            x509.DNSName("cloud"),
            x509.IPAddress(ip_address("10.0.0.1")),
            x509.DNSName("*"),
        ):
            code, text = self.refusal(replace(self.by_token, csr_der=request_with_names(bad)))
            self.assertEqual(code, 400)
            self.assertIn("no edge may be", text)
        mine = (x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("edge-1"))
        issued = self.issuer.issue(replace(self.by_token, csr_der=request_with_names(*mine)), NOW)
        made = x509.load_der_x509_certificate(issued.der)
        found = made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        self.assertEqual(tuple(found.value), mine)

    def test_revoked(self) -> None:
        """A token that was revoked is refused by its id; the others stay good."""
        authority = self.authority
        ends = int(NOW.timestamp()) + 3600
        bad, good = (
            split_token(make_token(authority.cert_der, authority.key_der, ends, identity))[1]
            for identity in ("bad", "good")
        )
        issuer = Issuer(
            authority,
            self.cloud,
            signing_days=365,
            grace_days=30,
            legacy=False,
            revoked=lambda identity: identity == "bad",
            node_exists=lambda _node: True,
        )
        with self.assertRaises(Refused) as caught:
            issuer.issue(replace(self.by_token, authorization=f"Bearer {bad}"), NOW)
        self.assertEqual(caught.exception.code, 401)
        self.assertIn("the token bad was revoked", str(caught.exception))
        issued = issuer.issue(replace(self.by_token, authorization=f"Bearer {good}"), NOW)
        self.assertEqual(issued.by, "token")

    @given(
        st.binary(max_size=200), st.text(max_size=60), st.text(max_size=60), st.text(max_size=60)
    )
    def test_garbage(self, csr: bytes, node: str, usages: str, authorization: str) -> None:
        """Whatever is sent, the answer is a refusal."""
        asked = Asked(
            csr_der=csr,
            node_header=node,
            usages_header=usages,
            authorization=authorization,
            certificate=None,
        )
        with self.assertRaises(Refused):
            self.issuer.issue(asked, NOW)
        with self.assertRaises(Refused):
            self.issuer.issue(replace(asked, authorization=self.by_token.authorization), NOW)
