from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.resources import NAMESPACES, SECRETS
from kubeedge_tx.cloud.cloudhub.jointoken import JoinTokens
from kubeedge_tx.cloud.cloudhub.keystore import Keys, KeyStore, LocalFiles
from kubeedge_tx.errors import CertificateError, KubeError
from kubeedge_tx.security.authority import Authority, KeyPair, alternative_names
from kubeedge_tx.security.token import split_token, verify_ca, verify_jwt
from tests.fakes.kube import Call, FakeKube, kube_error, unreachable

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class KeyStoreCase(SynchronousTestCase):
    """A key store on a fake cluster, with its clock under control."""

    def setUp(self) -> None:
        self.kube = FakeKube()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.now = NOW.timestamp()

    def store(
        self, dns_names: Sequence[str] = ("cloud",), addresses: Sequence[str] = ("10.0.0.1",)
    ) -> KeyStore:
        return KeyStore(
            self.kube,
            files=LocalFiles(
                ca_cert=self.folder / "rootCA.crt",
                ca_key=self.folder / "rootCA.key",
                server_cert=self.folder / "server.crt",
                server_key=self.folder / "server.key",
            ),
            dns_names=dns_names,
            addresses=addresses,
            wall_clock=lambda: self.now,
        )

    def opened(self, store: KeyStore | None = None) -> Keys:
        store = store or self.store()
        return self.successResultOf(Deferred.fromCoroutine(store.open()))

    def refusal(self, store: KeyStore | None = None) -> str:
        opening = Deferred.fromCoroutine((store or self.store()).open())
        return str(self.failureResultOf(opening, CertificateError).value)

    def data(self, name: str) -> dict[str, bytes]:
        secret = self.kube.peek(SECRETS, "kubeedge", name)
        assert secret is not None
        return {key: base64.b64decode(value) for key, value in secret["data"].items()}

    def put(self, name: str, **data: bytes) -> None:
        self.kube.put(NAMESPACES, {"metadata": {"name": "kubeedge"}})
        self.kube.put(SECRETS, secret(name, **data))

    def names(self, keys: Keys) -> list[str]:
        certificate = x509.load_der_x509_certificate(keys.server.cert_der)
        return [str(name.value) for name in alternative_names(certificate)]


def secret(name: str, **data: bytes) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "kubeedge", "labels": {"kept": "yes"}},
        "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


class AuthoritySourceTests(KeyStoreCase):
    """Where the CA comes from, and when the cloud refuses to go on."""

    def test_empty_cluster(self) -> None:
        """A new cluster gets its namespace, a CA and a server certificate, and keeps them."""
        keys = self.opened()
        self.assertEqual(
            self.data("casecret"),
            {"cadata": keys.authority.cert_der, "cakeydata": keys.authority.key_der},
        )
        self.assertEqual(
            self.data("cloudcoresecret"),
            {"cloudcoredata": keys.server.cert_der, "cloudcorekeydata": keys.server.key_der},
        )
        stored = self.kube.peek(SECRETS, "kubeedge", "casecret")
        assert stored is not None
        self.assertEqual(stored["type"], "Opaque")
        self.assertEqual(self.names(keys), ["cloud", "10.0.0.1"])

    def test_second_start_changes_nothing(self) -> None:
        """What is in the secrets is used as it is, and nothing is written."""
        first = self.opened()
        self.kube.calls.clear()
        second = self.opened()
        self.assertEqual(second.authority.key_der, first.authority.key_der)
        self.assertEqual(second.server.cert_der, first.server.cert_der)
        self.assertEqual({call.verb for call in self.kube.calls}, {"get"})

    def test_files_come_first(self) -> None:
        """An operator's own CA is used, and written to the secret in DER."""
        own = Authority.create(now=NOW)
        (self.folder / "rootCA.crt").write_bytes(own.cert_pem)
        (self.folder / "rootCA.key").write_bytes(own.key_pem)
        keys = self.opened()
        self.assertEqual(keys.authority.cert_der, own.cert_der)
        self.assertEqual(self.data("casecret")["cakeydata"], own.key_der)
        self.kube.calls.clear()
        self.opened()
        self.assertEqual({call.verb for call in self.kube.calls}, {"get"})

    def test_half_a_pair_of_files(self) -> None:
        """One file of a pair is an error that names the other."""
        own = Authority.create(now=NOW)
        (self.folder / "rootCA.crt").write_bytes(own.cert_pem)
        self.assertRegex(self.refusal(), r"rootCA\.key is missing while .*rootCA\.crt is there")
        (self.folder / "rootCA.key").write_bytes(own.key_pem)
        (self.folder / "server.key").write_bytes(own.key_pem)
        self.assertRegex(self.refusal(), r"server\.crt is missing while .*server\.key is there")

    def test_lost_authority(self) -> None:
        """With the CA's secret gone but another left, no new CA is made."""
        self.opened()
        for relic in ("cloudcoresecret", "tokensecret"):
            self.kube = FakeKube()
            self.put(relic, some=b"thing")
            text = self.refusal()
            self.assertIn("kubeedge/casecret is gone", text)
            self.assertIn(relic, text)
            self.assertIn("restore it from a backup", text)
            self.assertEqual(self.kube.made("create"), [])

    def test_damaged_authority(self) -> None:
        """A CA secret that cannot be used is refused with the reason, and never replaced."""
        good, other = Authority.create(now=NOW), Authority.create(now=NOW)
        for data, words in (
            ({}, "no cadata and no cakeydata"),
            ({"cadata": good.cert_der}, "no cakeydata in it"),
            ({"cadata": b"junk", "cakeydata": good.key_der}, "not a certificate"),
            ({"cadata": good.cert_der, "cakeydata": other.key_der}, "does not belong"),
        ):
            self.put("casecret", **data)
            before = self.kube.peek(SECRETS, "kubeedge", "casecret")
            text = self.refusal()
            self.assertIn(words, text)
            self.assertIn("restore it from a backup", text)
            self.assertEqual(self.kube.peek(SECRETS, "kubeedge", "casecret"), before)

    def test_expired_authority(self) -> None:
        """An expired CA is said to be expired."""
        self.opened()
        self.now += timedelta(days=36500).total_seconds()
        self.assertIn("expired at", self.refusal())

    def test_two_clouds_at_once(self) -> None:
        """Two processes starting on an empty cluster end up with the same keys."""
        winner = Authority.create(now=NOW)

        def other_was_faster(call: Call) -> None:
            if call.verb == "create" and call.name == "casecret":
                self.kube.before = None
                self.put("casecret", cadata=winner.cert_der, cakeydata=winner.key_der)

        self.kube.before = other_was_faster
        self.assertEqual(self.opened().authority.cert_der, winner.cert_der)

    def test_other_cloud_made_everything_meanwhile(self) -> None:
        """A server secret that appears after our look at the CA is not taken for a relic."""
        winner = Authority.create(now=NOW)
        server = winner.issue_server(["cloud"], ["10.0.0.1"], now=NOW)

        def other_was_faster(call: Call) -> None:
            if call.verb == "get" and call.name == "cloudcoresecret":
                self.kube.before = None
                self.put("casecret", cadata=winner.cert_der, cakeydata=winner.key_der)
                self.put(
                    "cloudcoresecret",
                    cloudcoredata=server.cert_der,
                    cloudcorekeydata=server.key_der,
                )

        self.kube.before = other_was_faster
        keys = self.opened()
        self.assertEqual(keys.authority.cert_der, winner.cert_der)
        self.assertEqual(keys.server.cert_der, server.cert_der)

    def test_cluster_away(self) -> None:
        """A cluster that does not answer is a KubeError, not a reason for a new CA."""
        self.kube.fail_next("get", unreachable())
        opening = Deferred.fromCoroutine(self.store().open())
        self.failureResultOf(opening, KubeError)
        self.assertEqual(self.kube.made("create"), [])


class ServerCertificateTests(KeyStoreCase):
    """When the server certificate is made anew."""

    def test_more_names(self) -> None:
        """A name asked for that it lacks is added; those it has stay."""
        old = self.opened(self.store(["old"], ["10.0.0.1"]))
        new = self.opened(self.store(["new"], ["10.0.0.1"]))
        self.assertEqual(sorted(self.names(new)), ["10.0.0.1", "new", "old"])
        self.assertEqual(new.authority.cert_der, old.authority.cert_der)
        self.assertEqual(self.data("cloudcoresecret")["cloudcoredata"], new.server.cert_der)

    def test_fewer_names(self) -> None:
        """A certificate that is good for more than is asked is kept."""
        old = self.opened(self.store(["a", "b"], ["10.0.0.1"]))
        self.assertEqual(self.opened(self.store(["b"], [])).server, old.server)

    def test_end_is_near(self) -> None:
        """One with 29 days left is replaced, one with 31 is not; labels stay."""
        authority = self.opened().authority
        for days, replaced in ((31, False), (29, True)):
            pair = authority.issue_server(["cloud"], ["10.0.0.1"], now=NOW, days=days)
            self.put("cloudcoresecret", cloudcoredata=pair.cert_der, cloudcorekeydata=pair.key_der)
            self.assertEqual(self.opened().server != pair, replaced)
        stored = self.kube.peek(SECRETS, "kubeedge", "cloudcoresecret")
        assert stored is not None
        self.assertEqual(stored["metadata"]["labels"], {"kept": "yes"})

    def test_unusable(self) -> None:
        """Garbage, a wrong key or another CA's certificate are replaced: no edge minds."""
        authority = self.opened().authority
        other = Authority.create(now=NOW).issue_server(["cloud"], ["10.0.0.1"], now=NOW)
        for cert, key in (
            (b"junk", b"junk"),
            (other.cert_der, authority.key_der),
            (other.cert_der, other.key_der),
        ):
            self.put("cloudcoresecret", cloudcoredata=cert, cloudcorekeydata=key)
            made = x509.load_der_x509_certificate(self.opened().server.cert_der)
            made.verify_directly_issued_by(authority.certificate)

    def local(self, pair: KeyPair) -> None:
        (self.folder / "server.crt").write_bytes(pair.cert_pem)
        (self.folder / "server.key").write_bytes(pair.key_pem)

    def test_local_pair(self) -> None:
        """An operator's pair of our CA is used and kept; one of another CA is refused."""
        authority = self.opened().authority
        pair = authority.issue_server(["mine"], [], now=NOW)
        self.local(pair)
        self.assertEqual(self.opened().server, pair)
        self.assertEqual(self.data("cloudcoresecret")["cloudcoredata"], pair.cert_der)
        self.local(Authority.create(now=NOW).issue_server(["mine"], [], now=NOW))
        self.assertIn("not signed by the CA", self.refusal())

    def test_bad_address(self) -> None:
        """An advertised address that is none is quoted."""
        self.assertIn(
            "'cloud:10000' is not an IP address", self.refusal(self.store([], ["cloud:10000"]))
        )

    def test_lost_race(self) -> None:
        """When another process wrote first, what it wrote is looked at, and used if good."""
        authority = self.opened(self.store(["old"], [])).authority
        theirs = authority.issue_server(["cloud", "old"], ["10.0.0.1"], now=NOW)

        def other_was_faster(call: Call) -> None:
            if call.verb == "update":
                self.kube.before = None
                self.put(
                    "cloudcoresecret",
                    cloudcoredata=theirs.cert_der,
                    cloudcorekeydata=theirs.key_der,
                )

        self.kube.before = other_was_faster
        self.assertEqual(self.opened().server, theirs)

    def test_race_without_end(self) -> None:
        """Somebody who changes the secret each time we try does not keep us for ever."""
        self.opened(self.store(["old"], []))
        conflict = kube_error(409, "Conflict", "the object has been modified")
        self.kube.fail_next("update", conflict, times=100)
        opening = Deferred.fromCoroutine(self.store().open())
        self.failureResultOf(opening, KubeError)
        self.assertLess(len(self.kube.made("update")), 10)


class JoinTokenTests(KeyStoreCase):
    """The join token in the cluster is always good for half of its life at least."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.start = self.now
        self.authority = self.opened().authority

    def tokens(self) -> JoinTokens:
        service = JoinTokens(
            self.clock,
            self.store(),
            self.authority,
            refresh_hours=12,
            wall_clock=lambda: self.start + self.clock.seconds(),
        )
        self.addCleanup(service.stopService)
        return service

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.clock.advance(seconds)

    def stored(self) -> str:
        return self.data("tokensecret")["tokendata"].decode()

    def test_first_token(self) -> None:
        """At start there is a token that an edge and the cloud accept, for 24 hours."""
        service = self.tokens()
        service.startService()
        self.assertEqual(service.token, self.stored())
        verify_ca(self.stored(), self.authority.cert_der)
        verify_jwt(split_token(self.stored())[1], self.authority.key_der, self.now + 86399)

    def test_renewed(self) -> None:
        """After 12 hours there is a new one, and after 12 more another."""
        self.tokens().startService()
        first = self.stored()
        self.advance(12 * 3600 - 10)
        self.assertEqual(self.stored(), first)
        self.advance(10)
        second = self.stored()
        self.advance(12 * 3600)
        self.assertEqual(len({first, second, self.stored()}), 3)

    def test_restart_keeps_a_fresh_token(self) -> None:
        """A restart does not make the token worthless that somebody just copied."""
        self.tokens().startService()
        token = self.stored()
        self.advance(3600)
        self.tokens().startService()
        self.assertEqual(self.stored(), token)

    def test_foreign_token(self) -> None:
        """A token of another CA, or garbage, is replaced at start."""
        for bad in (b"garbage", b"\xff\xfe", b""):
            self.put("tokensecret", tokendata=bad)
            service = self.tokens()
            service.startService()
            verify_ca(self.stored(), self.authority.cert_der)

    def test_cluster_away(self) -> None:
        """While the cluster does not answer it is asked again and again, then it works."""
        self.kube.fail_next("get", unreachable(), times=3)
        service = self.tokens()
        service.startService()
        self.assertEqual(service.token, "")
        for delay in (2, 4, 8):
            self.advance(delay)
        self.assertEqual(service.token, self.stored())

    def test_refreshed(self) -> None:
        """Asked to look again, it makes a deleted token anew and goes on with another period."""
        service = self.tokens()
        service.startService()
        self.put("tokensecret", tokendata=b"")
        service.refresh(1)
        verify_jwt(split_token(self.stored())[1], self.authority.key_der, self.now + 7199)
        first = self.stored()
        self.advance(3600)
        self.assertNotEqual(self.stored(), first)
        self.successResultOf(service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """A stopped service leaves no timer behind."""
        service = self.tokens()
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
