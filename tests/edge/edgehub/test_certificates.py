from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from kubeedge_tx.cloud.cloudhub.certserver import CertServer
from kubeedge_tx.edge.edgehub.certclient import CertClient, Credentials
from kubeedge_tx.edge.edgehub.certificates import (
    CertFiles,
    CertManager,
    Held,
    load_files,
    save_files,
)
from kubeedge_tx.errors import CertificateError, ConfigError, KubeEdgeError, TokenError
from kubeedge_tx.security.authority import Authority, KeyPair
from kubeedge_tx.security.contexts import https_server
from kubeedge_tx.security.requests import load_request
from kubeedge_tx.security.token import make_token
from tests.fakes.certificates import edge_pair, edge_request, real_now
from tests.fakes.doors import http_door


class Middle:
    """Randomness that is always in the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def credentials(authority: Authority, pair: KeyPair) -> Credentials:
    return Credentials(ca_pem=authority.cert_pem, cert_pem=pair.cert_pem, key_pem=pair.key_pem)


def cert_files(folder: Path) -> CertFiles:
    return CertFiles(
        ca=folder / "ca" / "rootCA.crt",
        cert=folder / "certs" / "server.crt",
        key=folder / "certs" / "server.key",
    )


class JoiningCase(TestCase):
    """A cloud's certificate port on loopback, and an edge that asks it."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.start = real_now()
        self.clock = Clock()
        self.authority = Authority.create(now=self.start)
        self.files = cert_files(Path(self.mktemp()))
        self.used = 0
        self.cloud = await self.serve(self.authority)

    def wall_clock(self) -> float:
        # A little late, so that no certificate is from the future.
        return self.start.timestamp() + 5 + self.clock.seconds()

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.clock.seconds())

    async def serve(self, authority: Authority, port: int = 0) -> CertServer:
        cloud = CertServer(
            reactor,
            authority=authority,
            server_pair=authority.issue_server([], ["127.0.0.1"], now=self.start),
            node_exists=lambda name: True,
            wall_clock=self.wall_clock,
            signing_days=100,
            interface="127.0.0.1",
            port=port,
            **http_door(reactor),
        )
        await cloud.startService()
        self.addCleanup(cloud.stopService)
        return cloud

    def token(self, authority: Authority | None = None, lifetime: int = 3600) -> str:
        authority = authority or self.authority
        expires = int(self.wall_clock()) + lifetime
        return make_token(authority.cert_der, authority.key_der, expires)

    def manager(
        self,
        *,
        token: str = "",
        port: int | None = None,
        node: str = "edge-1",
        host: str = "127.0.0.1",
        on_token_used: Callable[[], object] | None = None,
    ) -> CertManager:
        manager = CertManager(
            reactor,
            self.clock,
            https_url=f"https://{host}:{port or self.cloud.port}",
            files=self.files,
            token=token,
            node_name=node,
            wall_clock=self.wall_clock,
            random=Middle(),
            on_token_used=on_token_used or self.token_used,
        )
        self.addCleanup(manager.stopService)
        return manager

    def token_used(self) -> None:
        self.used += 1

    async def joined(self) -> Held:
        return await self.manager(token=self.token()).obtain()

    async def refusal(
        self, manager: CertManager, kind: type[KubeEdgeError] = CertificateError
    ) -> str:
        with self.assertRaises(kind) as caught:
            await manager.obtain()
        return str(caught.exception)

    def put(self, pair: KeyPair, authority: Authority | None = None) -> None:
        held = credentials(authority or self.authority, pair)
        self.files.ca.parent.mkdir(parents=True, exist_ok=True)
        self.files.ca.write_bytes(held.ca_pem)
        save_files(self.files, held)


class JoinTests(JoiningCase):
    """How an edge gets its first certificate, and what it says when it does not."""

    async def test_join(self) -> None:
        """A token is enough: CA, certificate and key are written, and the token is used up."""
        held = await self.joined()
        self.assertEqual(self.used, 1)
        self.assertEqual(self.files.ca.read_bytes(), self.authority.cert_pem)
        self.assertEqual(self.files.key.stat().st_mode & 0o777, 0o600)
        self.assertEqual(
            held.certificate.subject.rfc4514_string(), "CN=system:node:edge-1,O=system:nodes"
        )
        self.assertTrue(self.files.key.read_bytes().startswith(b"-----BEGIN EC PRIVATE KEY-----"))

    async def test_restart_needs_no_cloud(self) -> None:
        """With the files there, the next start asks nobody and needs no token."""
        first = await self.joined()
        await self.cloud.stopService()
        again = await self.manager(port=1, token="garbage").obtain()
        self.assertEqual(again.credentials, first.credentials)
        self.assertEqual(self.used, 1)

    async def test_asked_at_once(self) -> None:
        """Two who want the certificate at the same time share one."""
        manager = self.manager(token=self.token())
        one, two = (Deferred.fromCoroutine(manager.obtain()) for _ in range(2))
        self.assertIs(await one, await two)
        self.assertEqual(self.used, 1)

    async def test_credentials_open_a_connection(self) -> None:
        """What is handed to the hub is accepted by the cloud's TLS."""
        manager = self.manager(token=self.token())
        options = await manager.credentials("127.0.0.1")
        self.assertTrue(hasattr(options, "clientConnectionForTLS"))

    async def test_no_token(self) -> None:
        """Without certificate and token, it says what to do."""
        text = await self.refusal(self.manager(), TokenError)
        self.assertIn("no token to get one; set modules.edgeHub.token", text)

    async def test_bad_tokens(self) -> None:
        """Cut, of another cloud, expired and forged tokens are told apart; nothing is written."""
        other = Authority.create(now=self.start)
        good = self.token()
        forged = make_token(self.authority.cert_der, b"other key", 2**40)
        for token, words in (
            (good.rpartition(".")[0], "3 parts instead of 4"),
            (self.token(other), "has another CA than the token was made for"),
            (self.token(lifetime=-60), "the token expired at"),
            (forged, "the token's signature is wrong"),
        ):
            text = await self.refusal(self.manager(token=token), TokenError)
            self.assertIn(words, text)
            self.assertNotIn(token.rpartition(".")[2], text)
        self.assertFalse(self.files.cert.exists())
        self.assertEqual(self.used, 0)

    async def test_token_works_at_the_second_try(self) -> None:
        """A cloud that is away at first is no reason to give up or to forget the token."""
        manager = self.manager(token=self.token())
        port = self.cloud.port
        await self.cloud.stopService()
        text = await self.refusal(manager)
        self.assertIn(f"cannot get /ca.crt from 127.0.0.1:{port}", text)
        self.assertIn("refused", text)
        await self.serve(self.authority, port)
        await manager.obtain()
        self.assertEqual(self.used, 1)

    async def test_wrong_name(self) -> None:
        """A cloud whose certificate lacks the address that is used is told what it lacks."""
        text = await self.refusal(self.manager(token=self.token(), host="localhost"))
        self.assertIn("its certificate is not valid for localhost", text)
        self.assertIn("dnsNames", text)

    async def test_other_node(self) -> None:
        """A certificate of another node is not used; with a token a new one is got."""
        await self.joined()
        text = await self.refusal(self.manager(node="edge-2"))
        self.assertIn("is of node edge-1, and this is node edge-2", text)
        self.assertIn("set modules.edgeHub.token", text)
        held = await self.manager(node="edge-2", token=self.token()).obtain()
        self.assertIn("edge-2", held.certificate.subject.rfc4514_string())

    async def test_damaged_files(self) -> None:
        """Each file that is damaged or missing is named, and a token repairs all."""
        for path, damage, words in (
            (self.files.ca, None, "rootCA.crt is missing"),
            (self.files.key, None, "server.key is missing"),
            (self.files.cert, b"x", "server.crt: no PEM block"),
            (self.files.key, b"x", "server.key: no PEM block"),
            (self.files.ca, b"x", "no PEM block"),
            (self.files.ca, Authority.create(now=self.start).cert_pem, "is not of the CA"),
        ):
            self.put(edge_pair(self.authority, now=self.start))
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage)
            self.assertIn(words, await self.refusal(self.manager()))
            await self.manager(token=self.token()).obtain()
            await self.manager().obtain()

    async def test_token_of_another_cloud(self) -> None:
        """A token for another cloud than the files are of makes the edge join that one."""
        await self.joined()
        other = Authority.create(now=self.start)
        cloud = await self.serve(other)
        held = await self.manager(token=self.token(other), port=cloud.port).obtain()
        held.certificate.verify_directly_issued_by(other.certificate)
        self.assertEqual(self.files.ca.read_bytes(), other.cert_pem)

    async def test_token_cannot_be_removed(self) -> None:
        """A configuration that cannot be written does not keep the edge from joining."""

        def readonly() -> None:
            raise CertificateError("edgecore.yaml: cannot be written")

        await self.manager(token=self.token(), on_token_used=readonly).obtain()
        await self.manager().obtain()

    async def test_disk_does_not_take_it(self) -> None:
        """A folder that cannot be made is an error with the path."""
        self.files.cert.parent.parent.mkdir(exist_ok=True, parents=True)
        self.files.cert.parent.write_bytes(b"a file where the folder should be")
        manager = self.manager(token=self.token())
        self.assertIn("server.key.next: cannot be written", await self.refusal(manager))


class RenewalTests(JoiningCase):
    """How an edge keeps its certificate."""

    def soon(self, done: Deferred[None]) -> Callable[[], object]:
        """Fire in a later turn of the reactor: not inside the task that is under test."""
        return lambda: reactor.callLater(0, done.callback, None)  # type: ignore[attr-defined]

    def advance_days(self, days: float) -> None:
        self.clock.pump([3600.0] * int(days * 24))

    async def test_in_time(self) -> None:
        """At four fifths of its life the certificate renews itself, and again."""
        manager = self.manager(token=self.token())
        first = await manager.obtain()
        manager.startService()
        for _ in range(2):
            done: Deferred[None] = Deferred()
            manager.on_rotated = self.soon(done)
            self.advance_days(79.5)
            self.assertFalse(done.called)
            self.advance_days(0.5)
            await done
            now = await manager.obtain()
            self.assertNotEqual(now.credentials.key_pem, first.credentials.key_pem)
            self.assertEqual(self.files.cert.read_bytes(), now.credentials.cert_pem)
            first = now
        self.assertEqual(self.used, 1)

    async def test_cloud_away(self) -> None:
        """Renewal is tried again after 2, 4, 8, 16, 32, 32… seconds until it works."""
        manager = self.manager(token=self.token())
        await manager.obtain()
        await self.cloud.stopService()
        tries: list[float] = []
        over: list[Deferred[None]] = [Deferred()]
        ask = CertClient.get_certificate

        async def watched(client: CertClient, *arguments: Any) -> bytes:
            tries.append(self.clock.seconds())
            try:
                return await ask(client, *arguments)
            finally:
                self.soon(over[-1])()

        self.patch(CertClient, "get_certificate", watched)
        manager.startService()
        self.advance_days(80)
        await over[-1]
        for delay in (2, 4, 8, 16, 32, 32):
            over.append(Deferred())
            self.clock.advance(delay - 0.5)
            self.clock.advance(0.5)
            await over[-1]
        self.assertEqual([b - a for a, b in itertools.pairwise(tries)], [2, 4, 8, 16, 32, 32])

    async def test_expired_while_away(self) -> None:
        """A certificate that ended three weeks ago is renewed without a token."""
        old = edge_pair(self.authority, now=self.start - timedelta(days=121), days=100)
        self.put(old)
        held = await self.manager().obtain()
        self.assertFalse(held.expired(self.now()))
        self.assertNotEqual(self.files.cert.read_bytes(), old.cert_pem)

    async def test_expired_for_too_long(self) -> None:
        """One that ended long ago needs a token, and says so; with one, the edge joins."""
        self.put(edge_pair(self.authority, now=self.start - timedelta(days=200), days=100))
        text = await self.refusal(self.manager())
        self.assertIn("cannot renew itself", text)
        self.assertIn("(401): the client certificate expired at", text)
        self.assertIn("set modules.edgeHub.token", text)
        text = await self.refusal(self.manager(token=self.token(lifetime=-60)), TokenError)
        self.assertIn("and by token:", text)
        held = await self.manager(token=self.token()).obtain()
        self.assertFalse(held.expired(self.now()))
        self.assertEqual(self.used, 1)

    async def test_expires_while_running(self) -> None:
        """A certificate that ends while nobody renews it is replaced at the next dial."""
        manager = self.manager(token=self.token())
        first = await manager.obtain()
        self.clock.advance(101 * 86400)
        second = await manager.obtain()
        self.assertNotEqual(first.credentials.cert_pem, second.credentials.cert_pem)

    async def test_cloud_with_another_authority(self) -> None:
        """A cloud whose CA changed is not talked to, and the reason is given."""
        self.put(edge_pair(self.authority, now=self.start - timedelta(days=121), days=100))
        cloud = await self.serve(Authority.create(now=self.start))
        text = await self.refusal(self.manager(port=cloud.port))
        self.assertIn("its certificate is not of the CA that this edge trusts", text)

    async def test_stop(self) -> None:
        """A stopped manager leaves no timer behind."""
        manager = self.manager(token=self.token())
        await manager.obtain()
        manager.startService()
        await manager.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StrangeCloudTests(JoiningCase):
    """A cloud that holds the CA's key and behaves badly all the same."""

    async def strange(self, answer: Callable[[bytes], tuple[int, bytes]]) -> str:
        """What joining says when ``/edge.crt`` is answered so."""
        pair = self.authority.issue_server([], ["127.0.0.1"], now=self.start)
        root = Resource()
        root.putChild(b"ca.crt", _Says(lambda _body: (200, self.authority.cert_der)))
        root.putChild(b"edge.crt", _Says(answer))
        site = Site(root)
        tls = TLSMemoryBIOFactory(https_server(pair.cert_pem, pair.key_pem), False, site)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(tls)
        self.addCleanup(port.stopListening)
        return await self.refusal(
            self.manager(token=self.token(), port=port.getHost().port), KubeEdgeError
        )

    def sign(self, csr: bytes, authority: Authority | None = None) -> bytes:
        return (authority or self.authority).sign_request(csr, now=self.start, days=1)

    async def test_useless_certificates(self) -> None:
        """A certificate for another key, node or CA, or none at all, is not written."""
        other = Authority.create(now=self.start)
        for answer, words in (
            (lambda _: (200, b""), "not a certificate"),
            (lambda _: (200, self.sign(edge_request()[0])), "key does not belong"),
            (
                lambda csr: (200, self.sign(csr, other)),
                "is not of the CA",
            ),
            (lambda _: (200, self.authority.cert_der), "key does not belong"),
            (lambda _: (200, bytes(2 * 1024 * 1024)), "larger than 1 MiB"),
            (lambda _: (500, b"no space\nleft \0"), "(500): no space"),
            (lambda _: (401, b"\x1b[31mred"), "(401): ?[31mred"),
            (lambda _: (302, b""), "(302): no reason given"),
        ):
            self.assertIn(words, await self.strange(answer))
        self.assertFalse(self.files.cert.exists())
        self.assertEqual(self.used, 0)

    async def test_what_is_sent(self) -> None:
        """The request is upstream's: its subject, signed, DER, P-256."""
        seen = []

        def look(csr: bytes) -> tuple[int, bytes]:
            seen.append(load_request(csr))
            return 500, b""

        await self.strange(look)
        subject = {part.oid: part.value for part in seen[0].subject}
        self.assertEqual(
            subject,
            {
                NameOID.COUNTRY_NAME: "CN",
                NameOID.ORGANIZATION_NAME: "system:nodes",
                NameOID.LOCALITY_NAME: "Hangzhou",
                NameOID.STATE_OR_PROVINCE_NAME: "Zhejiang",
                NameOID.COMMON_NAME: "system:node:edge-1",
            },
        )

    async def silent(self) -> int:
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Protocol)
        )
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def test_silence(self) -> None:
        """A cloud that accepts and says nothing is given up after 30 s."""
        manager = self.manager(token=self.token(), port=await self.silent())
        asking = Deferred.fromCoroutine(manager.obtain())
        self.clock.advance(29)
        self.assertNoResult(asking)
        self.clock.advance(1)
        with self.assertRaisesRegex(CertificateError, "no answer within 30 s"):
            await asking

    async def test_cancelled(self) -> None:
        """Being stopped in the middle of a request is not a failure to report."""
        manager = self.manager(token=self.token(), port=await self.silent())
        asking = Deferred.fromCoroutine(manager.obtain())
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_no_tls(self) -> None:
        """A port that does not speak TLS is said to be such."""

        class Plain(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"220 mail.example ESMTP\r\n" * 10)  # type: ignore[union-attr]

        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Plain)
        )
        self.addCleanup(port.stopListening)
        manager = self.manager(token=self.token(), port=port.getHost().port)
        self.assertIn("TLS failed", await self.refusal(manager))


class _Says(Resource):
    isLeaf = True

    def __init__(self, answer: Callable[[bytes], tuple[int, bytes]]) -> None:
        super().__init__()
        self._answer = answer

    def render_GET(self, request: Request) -> bytes:
        code, body = self._answer(request.content.read())  # type: ignore[union-attr]
        request.setResponseCode(code)
        request.setHeader("Connection", "close")
        return body


class FilePairTests(SynchronousTestCase):
    """Key and certificate on disk belong together whatever happens."""

    def setUp(self) -> None:
        self.files = cert_files(Path(self.mktemp()))
        self.authority = Authority.create(now=real_now())
        self.files.ca.parent.mkdir(parents=True)
        self.files.ca.write_bytes(self.authority.cert_pem)
        self.old, self.new = (
            credentials(self.authority, edge_pair(self.authority)) for _ in range(2)
        )
        save_files(self.files, self.old)

    def loaded(self) -> Credentials:
        held = load_files(self.files, "edge-1")
        assert held is not None
        return held.credentials

    def test_power_cut_at_every_step(self) -> None:
        """Whenever the power goes during an exchange, the old or the new pair is there."""
        self.assertEqual(self.loaded(), self.old)
        self.files.next_key.write_bytes(self.new.key_pem)  # new key written, then dark
        self.assertEqual(self.loaded(), self.old)
        self.files.cert.write_bytes(self.new.cert_pem)  # certificate as well, then dark
        self.assertEqual(self.loaded(), self.new)
        self.assertFalse(self.files.next_key.exists())
        self.assertEqual(self.loaded(), self.new)

    def test_two_authorities(self) -> None:
        """A CA file with two certificates trusts both, as during a change of CA."""
        other = Authority.create(now=real_now())
        self.files.ca.write_bytes(other.cert_pem + self.authority.cert_pem)
        self.assertEqual(self.loaded().cert_pem, self.old.cert_pem)

    def test_old_edge(self) -> None:
        """A certificate of an edge up to 1.15 names no node and is not used."""
        pair = edge_pair(self.authority, organization="KubeEdge", name="kubeedge.io")
        save_files(self.files, credentials(self.authority, pair))
        with self.assertRaisesRegex(CertificateError, "names no node"):
            self.loaded()

    def test_nothing_there(self) -> None:
        """No certificate yet is no error."""
        self.files.cert.unlink()
        self.assertIsNone(load_files(self.files, "edge-1"))

    def test_key_is_never_shown(self) -> None:
        """The representation of what is held has no key in it."""
        held = load_files(self.files, "edge-1")
        self.assertNotIn("PRIVATE", repr(held))
        self.assertNotIn("PRIVATE", repr(replace(self.old, cert_pem=b"")))


class URLTests(SynchronousTestCase):
    """The address of the cloud's certificate port."""

    def address(self, url: str) -> str:
        return CertClient(reactor, Clock(), url).address

    def test_good(self) -> None:
        """Host, port, default port, IPv6."""
        self.assertEqual(self.address("https://cloud:10002"), "cloud:10002")
        self.assertEqual(self.address("https://10.0.0.1/"), "10.0.0.1:10002")
        self.assertEqual(self.address("https://[::1]:3"), "[::1]:3")

    def test_bad(self) -> None:
        """Anything else names the key and what would be right."""
        for url in ("", "cloud:10002", "http://a:1", "https://", "https://a:b", "https://a/x"):
            with self.assertRaisesRegex(ConfigError, "modules.edgeHub.httpServer: .*https://host"):
                self.address(url)
