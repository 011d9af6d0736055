from __future__ import annotations

import contextlib
import ssl
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kubeedge_tx.errors import CertificateError
from kubeedge_tx.security import contexts
from kubeedge_tx.security.authority import Authority, KeyPair, key_to_der, load_key, new_key
from kubeedge_tx.security.files import der_to_pem
from kubeedge_tx.security.identity import identify
from tests.fakes.certificates import edge_pair, real_now


class Server(Protocol):
    """Greets whoever got through TLS with the name in its certificate."""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        presented = transport.getPeerCertificate()
        name = identify(presented.to_cryptography().subject).node if presented else "nobody"
        transport.write(name.encode())

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.connections.remove(self)  # type: ignore[union-attr]


class Client(Protocol):
    """Asks, and tells what it heard or why it did not."""

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(b"who am I?")

    def dataReceived(self, data: bytes) -> None:
        if not self.heard.called:
            self.heard.callback(data)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.heard.called:
            self.heard.errback(reason)
        self.gone.callback(None)


def with_names(authority: Authority, *names: str) -> KeyPair:
    """A server certificate with names that our own authority would refuse to write."""
    key = new_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(real_now() - timedelta(hours=1))
        .not_valid_after(real_now() + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(load_key(authority.key_der, "CA"), SHA256())
    )
    return KeyPair(cert_der=certificate.public_bytes(Encoding.DER), key_der=key_to_der(key))


class HandshakeTests(TestCase):
    """Who gets through, over real sockets."""

    timeout = 60

    def setUp(self) -> None:
        self.now = real_now()
        self.authority = Authority.create(now=self.now)
        self.server = self.authority.issue_server(["cloud"], ["127.0.0.1"], now=self.now)
        self.edge = edge_pair(self.authority, now=self.now)
        self.creator = contexts.Reloadable(self.hub())

    def hub(self, ca_pem: bytes = b"", server: KeyPair | None = None) -> Any:
        server = server or self.server
        ca_pem = ca_pem or self.authority.cert_pem
        return contexts.hub_server(ca_pem, server.cert_pem, server.key_pem)

    async def ask(self, pair: KeyPair | None, *, name: str = "127.0.0.1", ca: Any = None) -> bytes:
        """Connect as ``pair`` and hear who the server thinks we are."""
        factory: Any = Factory.forProtocol(Server)
        factory.connections = []
        tls = TLSMemoryBIOFactory(self.creator, False, factory)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(tls)
        own = (pair.cert_pem, pair.key_pem) if pair else (b"", b"")
        options = contexts.client(name, (ca or self.authority).cert_pem, *own)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        try:
            client: Any = await wrapClientTLS(options, endpoint).connect(
                Factory.forProtocol(Client)
            )
            try:
                return await client.heard  # type: ignore[no-any-return]
            finally:
                client.transport.abortConnection()
                await client.gone
        finally:
            await port.stopListening()
            for connection in factory.connections:
                connection.transport.abortConnection()

    async def refused(self, pair: KeyPair | None, **options: Any) -> BaseException:
        with self.assertRaises((SSL.Error, CertificateError)) as caught:
            await self.ask(pair, **options)
        error: BaseException = caught.exception
        return error

    async def test_edge(self) -> None:
        """An edge of our CA gets through, by address and by name, and is known by its name."""
        self.assertEqual(await self.ask(self.edge), b"edge-1")
        self.assertEqual(await self.ask(self.edge, name="cloud"), b"edge-1")

    async def test_who_is_refused(self) -> None:
        """No certificate, another CA's, an expired one, a server's: TLS ends it."""
        other = Authority.create(now=self.now)
        long_ago = self.now - timedelta(days=400)
        for pair in (
            None,
            edge_pair(other, now=self.now),
            edge_pair(self.authority, now=long_ago, days=365),
            self.server,
        ):
            self.assertIsInstance(await self.refused(pair), SSL.Error)

    async def test_edge_checks_the_cloud(self) -> None:
        """An edge ends it when the cloud has another CA or another name."""
        other = Authority.create(now=self.now)
        error = await self.refused(self.edge, ca=other)
        self.assertIn("certificate verify failed", str(error))
        for name in ("127.0.0.2", "other"):
            self.assertIsInstance(await self.refused(self.edge, name=name), CertificateError)

    async def test_unreadable_name(self) -> None:
        """A name that is none, as Go's default has, neither hides the others nor lets all in."""
        self.creator.current = self.hub(server=with_names(self.authority, "", "cloud"))
        self.assertEqual(await self.ask(self.edge, name="cloud"), b"edge-1")
        self.assertIsInstance(await self.refused(self.edge, name="other"), CertificateError)
        self.assertIsInstance(await self.refused(self.edge), CertificateError)

    async def test_two_authorities(self) -> None:
        """While the CA is changed, edges of the old and of the new one get through."""
        new = Authority.create(now=self.now)
        self.creator.current = self.hub(ca_pem=self.authority.cert_pem + new.cert_pem)
        self.assertEqual(await self.ask(self.edge), b"edge-1")
        self.assertEqual(await self.ask(edge_pair(new, "edge-2", now=self.now)), b"edge-2")

    async def test_exchanged_certificate(self) -> None:
        """A new server certificate is used from the next connection on."""
        new = self.authority.issue_server(["renamed"], [], now=self.now)
        self.creator.current = self.hub(server=new)
        self.assertEqual(await self.ask(self.edge, name="renamed"), b"edge-1")
        self.assertIsInstance(await self.refused(self.edge, name="cloud"), CertificateError)

    async def test_optional_certificate(self) -> None:
        """The certificate port lets in who has no certificate, and asks who has one."""
        self.creator.current = contexts.https_server(self.server.cert_pem, self.server.key_pem)
        self.assertEqual(await self.ask(None), b"nobody")
        foreign = edge_pair(Authority.create(now=self.now), "edge-9", now=self.now)
        self.assertEqual(await self.ask(foreign), b"edge-9")


class ContextTests(SynchronousTestCase):
    """What a connection is set to, and what is refused before there is one."""

    def setUp(self) -> None:
        self.authority = Authority.create(now=real_now())
        self.pair = self.authority.issue_server(["cloud"], [], now=real_now())

    def handshake(self, version: ssl.TLSVersion) -> tuple[list[str], ssl.SSLObject]:
        """Python's client, of one TLS version, against the hub's settings, in memory."""
        creator = contexts.hub_server(
            self.authority.cert_pem, self.pair.cert_pem, self.pair.key_pem
        )
        factory = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(Protocol))
        protocol: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        server = creator.serverConnectionForTLS(protocol)
        server.set_accept_state()
        context = ssl.create_default_context(cadata=self.authority.cert_pem.decode())
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        edge = edge_pair(self.authority)
        file = Path(self.mktemp())
        file.write_bytes(edge.cert_pem + edge.key_pem)
        context.load_cert_chain(file)
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(to_client, to_server, server_hostname="cloud")
        for _ in range(5):
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            if sent := to_server.read():
                server.bio_write(sent)
            with contextlib.suppress(SSL.WantReadError):
                server.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                to_client.write(server.bio_read(65536))
        return server.get_cipher_list(), client

    def test_hub_ciphers(self) -> None:
        """Below TLS 1.3 only ECDHE-ECDSA with AEAD is spoken, and no session is kept."""
        ciphers, client = self.handshake(ssl.TLSVersion.TLSv1_2)
        below = [cipher for cipher in ciphers if not cipher.startswith("TLS_")]
        self.assertEqual(sorted(below), sorted(contexts.HUB_CIPHERS.split(":")))
        self.assertEqual(client.version(), "TLSv1.2")
        assert client.session is not None
        self.assertFalse(client.session.has_ticket)

    def test_old_tls(self) -> None:
        """TLS 1.1 is refused."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with self.assertRaisesRegex(SSL.Error, "unsupported protocol"):
                self.handshake(ssl.TLSVersion.TLSv1_1)

    def test_bad_material(self) -> None:
        """Wrong keys and rubbish are a CertificateError, not one of OpenSSL's."""
        other = self.authority.issue_server(["cloud"], [], now=real_now())
        good = self.pair
        for ca, cert, key in (
            (b"", good.cert_pem, good.key_pem),
            (der_to_pem("CERTIFICATE", b"junk"), good.cert_pem, good.key_pem),
            (self.authority.cert_pem, b"", good.key_pem),
            (self.authority.cert_pem, good.cert_pem, b"junk"),
            (self.authority.cert_pem, good.cert_pem, other.key_pem),
        ):
            with self.assertRaises(CertificateError):
                contexts.hub_server(ca, cert, key)
            with self.assertRaises(CertificateError):
                contexts.client("cloud", ca, cert or b"x", key)
