from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from kubeedge_tx.cloud.cloudhub.certserver import MAX_BODY_BYTES, CertServer
from kubeedge_tx.errors import KubeError
from kubeedge_tx.security.authority import Authority
from kubeedge_tx.security.token import make_token, split_token
from tests.fakes.certificates import edge_pair, edge_request, python_get, real_now
from tests.fakes.doors import http_door


class CertServerTests(TestCase):
    """Port 10002, asked by Python's own TLS and HTTP."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.now = real_now()
        self.authority = Authority.create(now=self.now)
        self.pair = self.authority.issue_server(["cloud"], ["127.0.0.1"], now=self.now)
        self.nodes: dict[str, Any] = {"edge-1": True}
        self.server = self.make(0)
        await self.server.startService()
        self.addCleanup(self.server.stopService)

    def make(self, port: int) -> CertServer:
        return CertServer(
            reactor,
            authority=self.authority,
            server_pair=self.pair,
            node_exists=self.node_exists,
            wall_clock=lambda: self.now.timestamp() + 10,
            signing_days=365,
            interface="127.0.0.1",
            port=port,
            **http_door(reactor),
        )

    def node_exists(self, name: str) -> bool:
        found = self.nodes.get(name, False)
        if isinstance(found, Exception):
            raise found
        return bool(found)

    def get(self, path: str, **options: Any) -> Deferred[tuple[int, bytes]]:
        options.setdefault("authority", self.authority)
        return python_get(self.folder, self.server.port, path, **options)

    def bearer(self) -> dict[str, str]:
        expires = int(self.now.timestamp()) + 3600
        token = make_token(self.authority.cert_der, self.authority.key_der, expires)
        return {"Authorization": f"Bearer {split_token(token)[1]}", "Nodename": "edge-1"}

    async def test_authority(self) -> None:
        """Anybody gets the CA, in DER."""
        answer = await self.get("/ca.crt", authority=None)
        self.assertEqual(answer, (200, self.authority.cert_der))

    async def test_first_certificate(self) -> None:
        """A GET with the request as its body and a token is answered with a certificate."""
        csr, _key = edge_request()
        code, der = await self.get("/edge.crt", body=csr, headers=self.bearer())
        self.assertEqual(code, 200)
        made = x509.load_der_x509_certificate(der)
        self.assertEqual(made.subject.rfc4514_string(), "CN=system:node:edge-1,O=system:nodes")

    async def test_other_life(self) -> None:
        """How long certificates live can change while it runs."""
        csr, _key = edge_request()
        self.server.reconfigure(signing_days=3, legacy=False)
        code, der = await self.get("/edge.crt", body=csr, headers=self.bearer())
        self.assertEqual(code, 200)
        made = x509.load_der_x509_certificate(der)
        self.assertEqual((made.not_valid_after_utc - self.now).days, 3)

    async def test_chunked_body(self) -> None:
        """The body may also come in chunks."""
        csr, _key = edge_request()
        headers = {**self.bearer(), "Transfer-Encoding": "chunked"}
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(csr), csr)
        code, _der = await self.get("/edge.crt", body=body, headers=headers)
        self.assertEqual(code, 200)

    async def test_renewal(self) -> None:
        """The old certificate is enough to get a new one."""
        csr, _key = edge_request()
        pair = edge_pair(self.authority, now=self.now)
        headers = {"NodeName": "edge-1"}
        code, der = await self.get("/edge.crt", body=csr, headers=headers, pair=pair)
        self.assertEqual(code, 200)
        x509.load_der_x509_certificate(der).verify_directly_issued_by(self.authority.certificate)

    async def test_foreign_certificate(self) -> None:
        """A certificate of another CA gets through TLS and is refused in words."""
        pair = edge_pair(Authority.create("Other", now=self.now), now=self.now)
        code, text = await self.get("/edge.crt", body=b"x", headers=self.bearer(), pair=pair)
        self.assertEqual(code, 401)
        self.assertIn(b"not of this cloud's CA", text)

    async def test_refusals(self) -> None:
        """No token is 401; a request that cannot be read is 500; both with text."""
        code, text = await self.get("/edge.crt", body=b"x")
        self.assertEqual(code, 401)
        self.assertIn(b"neither a client certificate nor a token", text)
        code, text = await self.get("/edge.crt", body=b"x", headers=self.bearer())
        self.assertEqual(code, 500)
        self.assertIn(b"not a certificate request", text)

    async def test_nodes(self) -> None:
        """Whether a node exists is answered in upstream's words, also when it cannot be told."""
        self.assertEqual(await self.get("/node/edge-1"), (200, b"Node found"))
        self.assertEqual(await self.get("/node/edge-2"), (404, b"Node not found"))
        self.nodes["edge-3"] = KubeError("secret detail", code=0)
        code, text = await self.get("/node/edge-3")
        self.assertEqual(code, 500)
        self.assertNotIn(b"secret detail", text)
        self.assertEqual(len(self.flushLoggedErrors(KubeError)), 1)

    async def test_what_is_absent(self) -> None:
        """Unknown paths and node tasks are 404, other methods 405."""
        for path in ("/", "/nope", "/readyz", "/node", "/node/edge-1/x", "/ca.crt/x", "/a/b/c"):
            self.assertEqual((await self.get(path))[0], 404, path)
        for path in ("/nodeupgrade", "/task/upgrade/name/a/node/b/status"):
            self.assertEqual((await self.get(path, method="POST", body=b"{}"))[0], 404)
        self.assertEqual((await self.get("/edge.crt", method="POST", body=b"{}"))[0], 405)

    async def test_body_limit(self) -> None:
        """A body of 1 MiB is read; one byte more is refused before it is."""
        code, _text = await self.get("/edge.crt", body=bytes(MAX_BODY_BYTES), headers=self.bearer())
        self.assertEqual(code, 500)
        answer = await deferToThread(
            self.raw,
            b"GET /edge.crt HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            % (MAX_BODY_BYTES + 1),
        )
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
        head = b"GET /edge.crt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        size = MAX_BODY_BYTES + 1
        answer = await deferToThread(self.raw, head + b"%x\r\n%s\r\n" % (size, bytes(size)))
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)

    def raw(self, data: bytes) -> bytes:
        """Send bytes over TLS and read until the other side closes."""
        context = ssl.create_default_context(cadata=self.authority.cert_pem.decode())
        with (
            socket.create_connection(("127.0.0.1", self.server.port), 30) as tcp,
            context.wrap_socket(tcp, server_hostname="127.0.0.1") as tls,
        ):
            with contextlib.suppress(OSError):  # cut off while sending, as is right
                tls.sendall(data)
            answer = b""
            try:
                while chunk := tls.recv(65536):
                    answer += chunk
            except OSError:
                pass
            return answer

    async def test_garbage(self) -> None:
        """Bytes that are no HTTP are 400, and the server goes on."""
        answer = await deferToThread(self.raw, b"\0\xff\r\n\r\n")
        self.assertIn(b"400", answer.partition(b"\r\n")[0])
        self.assertEqual((await self.get("/ca.crt"))[0], 200)

    async def test_no_tls(self) -> None:
        """Plain text is cut off, and the server goes on."""

        def plain() -> bytes:
            with socket.create_connection(("127.0.0.1", self.server.port), 30) as tcp:
                tcp.sendall(b"GET /ca.crt HTTP/1.1\r\n\r\n")
                try:
                    return tcp.recv(100)
                except OSError:
                    return b""

        self.assertNotIn(b"HTTP", await deferToThread(plain))
        self.assertEqual((await self.get("/ca.crt"))[0], 200)

    async def test_new_server_certificate(self) -> None:
        """After the exchange, new connections see the new certificate."""
        other = Authority.create("Other", now=self.now)
        self.server.use(other.issue_server([], ["127.0.0.1"], now=self.now))
        self.assertEqual((await self.get("/ca.crt", authority=other))[0], 200)
        with self.assertRaises(ssl.SSLError):
            await self.get("/ca.crt")

    async def test_old_tls(self) -> None:
        """TLS 1.1 is refused; 1.2 and 1.3 are spoken, HTTP/2 never."""

        def versions(low: ssl.TLSVersion, high: ssl.TLSVersion) -> tuple[str | None, str | None]:
            context = ssl.create_default_context(cadata=self.authority.cert_pem.decode())
            context.minimum_version, context.maximum_version = low, high
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.set_alpn_protocols(["h2", "http/1.1"])
            with (
                socket.create_connection(("127.0.0.1", self.server.port), 30) as tcp,
                context.wrap_socket(tcp, server_hostname="127.0.0.1") as tls,
            ):
                return tls.version(), tls.selected_alpn_protocol()

        for version, name in (
            (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
            (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ):
            self.assertEqual(await deferToThread(versions, version, version), (name, "http/1.1"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
            with self.assertRaises(ssl.SSLError) as caught:
                await deferToThread(versions, *old)
        # The server's alert, not something that our own OpenSSL will not do.
        self.assertEqual(caught.exception.reason, "TLSV1_ALERT_PROTOCOL_VERSION")

    async def test_port_in_use(self) -> None:
        """A port that is taken is an error at the start."""
        with self.assertRaises(CannotListenError):
            await self.make(self.server.port).startService()

    async def test_stop_with_open_connections(self) -> None:
        """Stopping ends connections, also one that never said anything."""
        with socket.create_connection(("127.0.0.1", self.server.port), 30) as tcp:
            await self.get("/ca.crt")  # by then the silent one has been accepted too
            await self.server.stopService()
            self.assertEqual(await deferToThread(_read_all, tcp), b"")


def _read_all(tcp: socket.socket) -> bytes:
    try:
        return tcp.recv(100)
    except OSError:
        return b""
