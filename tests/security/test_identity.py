from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import CertificateError
from kubeedge_tx.security.authority import Authority
from kubeedge_tx.security.identity import common_name, identify, is_node_name, serves

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def subject(organization: str = "", name: str = "") -> x509.Name:
    pairs = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, name))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs if value])


class IdentityTests(SynchronousTestCase):
    """A certificate says which node it is for, and nothing else is believed."""

    def test_node(self) -> None:
        """Today's certificates name their node."""
        identity = identify(subject("system:nodes", "system:node:edge-1.lab"))
        self.assertEqual((identity.node, identity.legacy), ("edge-1.lab", False))
        self.assertTrue(identity.may_be("edge-1.lab"))
        self.assertFalse(identity.may_be("edge-2"))

    def test_old_edges(self) -> None:
        """Certificates of old edges, in both spellings, name nobody."""
        for organization in ("KubeEdge", "kubeEdge"):
            identity = identify(subject(organization, "kubeedge.io"))
            self.assertTrue(identity.legacy)
            self.assertTrue(identity.may_be("whoever"))

    def test_others(self) -> None:
        """Each wrong field is named."""
        for organization, name, words in (
            ("", "", "its O is ''"),
            ("system:masters", "system:node:a", "its O is 'system:masters'"),
            ("system:nodes", "a", "its CN is 'a'"),
            ("system:nodes", "kubeedge.io", "its CN is 'kubeedge.io'"),
            ("KubeEdge", "KubeEdge", "its O is 'KubeEdge'"),
            ("system:nodes", "system:node:", "no DNS name"),
            ("system:nodes", "system:node:Edge_1", "no DNS name"),
            ("system:nodes", "system:node:a/b", "no DNS name"),
        ):
            with self.assertRaises(CertificateError) as caught:
                identify(subject(organization, name))
            self.assertIn(words, str(caught.exception))

    def test_names(self) -> None:
        """Node names are DNS-1123 subdomains."""
        for name in ("a", "edge-1", "1.2.3", "a" * 63, ".".join(["a" * 62] * 4)):
            self.assertTrue(is_node_name(name), name)
        for name in ("", "A", "-a", "a-", "a..b", "a.", "a\n", "a" * 64, "é", "a." * 127):
            self.assertFalse(is_node_name(name), name)

    @given(st.text(st.characters(codec="ascii"), max_size=40))
    def test_every_name_taken_comes_back(self, name: str) -> None:
        """A certificate made for a valid name is read as that name."""
        if is_node_name(name):
            self.assertEqual(identify(subject("system:nodes", common_name(name))).node, name)
        elif name:
            with self.assertRaises(CertificateError):
                identify(subject("system:nodes", f"system:node:{name}"))


class ServerNameTests(SynchronousTestCase):
    """Which hosts a server's certificate is for."""

    def test_names(self) -> None:
        """Names whole or by a wildcard of one label, addresses as addresses, nothing else."""
        authority = Authority.create(now=NOW)
        pair = authority.issue_server(["Cloud.example", "*.lab.example"], ["10.0.0.1"], now=NOW)
        certificate = x509.load_der_x509_certificate(pair.cert_der)
        for host in ("cloud.example", "CLOUD.example.", "a.lab.example", "10.0.0.1"):
            self.assertTrue(serves(certificate, host), host)
        for host in ("example", "a.b.lab.example", "lab.example", "10.0.0.2", "x.cloud.example"):
            self.assertFalse(serves(certificate, host), host)

    def test_no_names(self) -> None:
        """A certificate without alternative names is for nobody, whatever its CN says."""
        certificate = Authority.create("cloud", now=NOW).certificate
        self.assertFalse(serves(certificate, "cloud"))
