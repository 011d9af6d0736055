from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import datetimeToString

from kubeedge_tx.cloud.cloudhub.certserver import CertServer
from kubeedge_tx.edge.edgehub.certclient import CertClient
from kubeedge_tx.edge.edgehub.certificates import CertManager
from kubeedge_tx.edge.edgehub.cloudtime import CloudTime
from kubeedge_tx.edge.edgehub.connector import Backoff, keep_connected
from kubeedge_tx.errors import CertificateError, ClockError
from kubeedge_tx.security.authority import Authority
from tests.edge.edgehub.test_certificates import JoiningCase, Middle
from tests.fakes.doors import http_door

DAY: Final = 86_400.0


class CloudTimeTests(SynchronousTestCase):
    """What is known of the cloud's clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = 1_000_000.0
        self.time = CloudTime(self.clock, lambda: self.wall)

    def hear(self, seconds: float) -> None:
        self.time.heard(datetimeToString(seconds).decode())

    def test_not_heard(self) -> None:
        """Until the cloud was heard, this machine's clock is all there is, and is not wrong."""
        self.assertEqual((self.time.now(), self.time.off, self.time.describe()), (1e6, None, ""))
        for date in ("", "yesterday", "Tue, 99 Foo 2026 12:00:00 GMT"):
            self.time.heard(date)
        self.assertIsNone(self.time.off)

    def test_goes_on(self) -> None:
        """The cloud's time goes on steadily, whatever is done to this machine's clock."""
        self.hear(2_000_000.0)
        self.clock.advance(100)
        self.wall = 5.0
        self.assertEqual((self.time.now(), self.time.age), (2_000_100.0, 100.0))
        self.wall = 2_000_100.0
        self.assertEqual((self.time.off, self.time.is_wrong), (0.0, False))

    def test_words(self) -> None:
        """A difference is said in units that people count in, and not if it is small."""
        for off, words in (
            (30.0, ""),
            (-30.0, ""),
            (90.0, "90 seconds ahead of"),
            (-600.0, "10 minutes behind"),
            (2 * 3600.0, "2 hours ahead of"),
            (-20_000 * DAY, "20000 days behind"),
        ):
            self.wall = 2_000_000_000.0 + off
            self.hear(2_000_000_000.0)
            said = self.time.describe()
            self.assertEqual(bool(said), bool(words), off)
            self.assertIn(words, said)


class WrongClockTests(JoiningCase):
    """An edge whose clock is not the cloud's."""

    off = 0.0
    """Seconds by which the edge's clock is ahead."""

    def edge(self, *, token: str = "", cloud: CertServer | None = None) -> CertManager:
        manager = CertManager(
            reactor,
            self.clock,
            https_url=f"https://127.0.0.1:{(cloud or self.cloud).port}",
            files=self.files,
            token=token,
            node_name="edge-1",
            wall_clock=lambda: self.wall_clock() + self.off,
            random=Middle(),
        )
        self.addCleanup(manager.stopService)
        return manager

    def count(self) -> list[str]:
        """Requests for a certificate from now on."""
        asked: list[str] = []
        ask = CertClient.get_certificate

        async def counted(client: CertClient, csr: bytes, node: str, *more: object) -> bytes:
            asked.append(node)
            return await ask(client, csr, node, *more)  # type: ignore[arg-type]

        self.patch(CertClient, "get_certificate", counted)
        return asked

    async def test_ahead(self) -> None:
        """Years ahead, it asks what time it is, keeps its certificate, and connects."""
        first = await self.joined()
        asked = self.count()
        self.off = 1825 * DAY
        edge = self.edge()
        held = await edge.obtain()
        await edge.credentials("127.0.0.1")
        self.assertEqual(held.credentials.cert_pem, first.credentials.cert_pem)
        self.assertEqual(asked, [])
        self.assertIn("1825 days ahead of the cloud's", edge.problem)
        self.assertApproximates(edge.days_left() or 0, 100, 1)

    async def test_not_renewed_early(self) -> None:
        """A clock that is set ahead while it runs renews nothing."""
        edge = self.edge(token=self.token())
        await edge.obtain()
        asked = self.count()
        self.off = 90 * DAY
        edge.startService()
        self.clock.advance(3600)
        for _ in range(50):
            await deferLater(reactor, 0.005)
        self.clock.advance(3600)
        self.assertIn("90 days ahead", edge.problem)
        self.assertEqual(asked, [])

    async def test_behind(self) -> None:
        """In 1970, it says by how much the clock is wrong, and goes on when it is set."""
        await self.joined()
        self.off = -self.wall_clock()
        edge = self.edge()
        for _ in range(2):
            with self.assertRaisesRegex(ClockError, "days behind the cloud's.*TLS fails"):
                await edge.credentials("127.0.0.1")
        self.assertIn("days behind", edge.problem)
        await self.cloud.stopService()  # nobody is asked again
        with self.assertRaisesRegex(ClockError, "days behind the cloud's"):
            await edge.credentials("127.0.0.1")
        self.off = 0.0
        await edge.credentials("127.0.0.1")
        self.assertEqual(edge.problem, "")

    async def test_behind_and_alone(self) -> None:
        """Without a cloud to ask, what is certain is said."""
        await self.joined()
        self.off = -self.wall_clock()
        edge = self.edge()
        await self.cloud.stopService()
        with self.assertRaisesRegex(ClockError, "clock says 1970-01-01 .*certificate is of"):
            await edge.credentials("127.0.0.1")

    async def test_joins(self) -> None:
        """A first certificate is taken, though it is from tomorrow by this clock."""
        self.off = -3 * DAY
        held = await self.edge(token=self.token()).obtain()
        self.assertGreater(held.certificate.not_valid_before_utc.timestamp(), self.off)

    async def tomorrow(self) -> CertServer:
        """A cloud whose time is ten days ahead of ours, and its certificate valid from there."""
        later = self.start + timedelta(days=10)
        cloud = CertServer(
            reactor,
            authority=self.authority,
            server_pair=self.authority.issue_server([], ["127.0.0.1"], now=later),
            node_exists=lambda name: True,
            wall_clock=lambda: self.wall_clock() + 10 * DAY,
            signing_days=100,
            interface="127.0.0.1",
            port=0,
            **http_door(reactor),
        )
        await cloud.startService()
        self.addCleanup(cloud.stopService)
        return cloud

    async def test_tls_fails(self) -> None:
        """What TLS does not like is traced to the clock, at joining and at dialling."""
        cloud = await self.tomorrow()
        token = self.token(lifetime=30 * int(DAY))
        with self.assertRaisesRegex(ClockError, "10 days behind.*is valid only from"):
            await self.edge(token=token, cloud=cloud).obtain()

        await self.joined()
        edge = self.edge(cloud=cloud)
        await edge.credentials("127.0.0.1")
        edge._doubt_clock()  # as TLS does when it fails because of dates
        with self.assertRaisesRegex(ClockError, "10 days behind"):
            await edge.credentials("127.0.0.1")

    async def test_time_of_another_cloud(self) -> None:
        """Who is not of our CA is not believed what time it is."""
        other = await self.serve(Authority.create(now=self.start))
        await self.joined()
        client = CertClient(reactor, self.clock, f"https://127.0.0.1:{other.port}")
        with self.assertRaisesRegex(CertificateError, "not of the CA"):
            await client.ask_time(self.authority.cert_pem)
        client = CertClient(reactor, self.clock, f"https://localhost:{self.cloud.port}")
        with self.assertRaisesRegex(CertificateError, "not valid for localhost"):
            await client.ask_time(self.authority.cert_pem)


class PauseTests(SynchronousTestCase):
    """How soon it is tried again."""

    def test_soon(self) -> None:
        """While the clock is wrong the pauses stay short: it may be set at any moment."""
        clock = Clock()
        dials: list[float] = []

        async def dial() -> object:
            dials.append(clock.seconds())
            raise ClockError("wrong")

        loop = Deferred.fromCoroutine(
            keep_connected(
                dial,  # type: ignore[arg-type]
                Backoff(Middle(), first=1.0, limit=60.0, unreachable_limit=3.0),
                clock,
            )
        )
        loop.addErrback(lambda failure: None)
        for _ in range(600):
            clock.advance(1.0)
        loop.cancel()
        pauses = [after - before for before, after in pairwise(dials)]
        self.assertLessEqual(max(pauses), 3.0)
