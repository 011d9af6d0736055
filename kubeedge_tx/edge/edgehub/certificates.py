"""The edge's certificate: got with the join token, renewed in time, never lost.

Source: KubeEdge ``edge/pkg/edgehub/certificate``. Ours beyond upstream: no failure ends the
process (who asks again, tries again); key and certificate are exchanged so that no power
cut leaves a pair that does not match; a certificate that ran out while the edge was away is
still offered for renewal, and a token is used when that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edgehub.certclient import CertClient, Credentials
from kubeedge_tx.edge.edgehub.cloudtime import CloudTime
from kubeedge_tx.edge.edgehub.connector import Randomness
from kubeedge_tx.errors import CertificateError, ClockError, KubeEdgeError, TokenError
from kubeedge_tx.security import contexts
from kubeedge_tx.security.authority import (
    check_dates,
    check_pair,
    key_to_der,
    load_certificate,
    new_key,
    utc,
)
from kubeedge_tx.security.files import der_to_pem, pem_blocks, pem_to_der, read_file, write_file
from kubeedge_tx.security.identity import NODES_GROUP, common_name, identify
from kubeedge_tx.security.requests import make_request
from kubeedge_tx.security.token import split_token, verify_ca

RENEW_EARLIEST: Final = 0.7
RENEW_LATEST: Final = 0.9
"""When to renew, as part of the certificate's life: somewhere between, so that edges that
joined together do not renew together. Source: as above."""

FIRST_DELAY: Final = 2.0
"""Seconds until a failed renewal is tried again; doubled four times. Source: as above."""

LAST_DELAY: Final = 32.0

LONGEST_SLEEP: Final = 3600.0
"""Seconds between looks at the wall clock, which may be set."""

TIME_IS_FRESH: Final = 60.0
"""Seconds for which the cloud is not asked again what time it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertFiles:
    """Where the edge keeps what it trusts and what it is."""

    ca: Path
    cert: Path
    key: Path

    @property
    def next_key(self) -> Path:
        """Where a new key waits until its certificate is on disk."""
        return self.key.with_name(f"{self.key.name}.next")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate that we have, with what belongs to it."""

    credentials: Credentials
    certificate: x509.Certificate

    def renew_at(self, part: float) -> float:
        """When ``part`` of its life is over, seconds since 1970."""
        begin = self.certificate.not_valid_before_utc.timestamp()
        end = self.certificate.not_valid_after_utc.timestamp()
        return begin + (end - begin) * part

    def expired(self, now: datetime) -> bool:
        """Whether it is of no use for the channel any more."""
        return now > self.certificate.not_valid_after_utc


class CertManager:
    """Have a valid certificate for this node.

    :param https_url: the cloud's certificate port, ``https://host:10002``.
    :param token: the join token; empty if there is none.
    :param clock: steady, also when somebody sets the machine's clock.
    :param wall_clock: seconds since 1970.
    :param on_token_used: called once when the token has done its work, to remove it from
        where it is kept. What it raises is logged.
    :param rotate: whether to renew the certificate in time.
    :raises ConfigError: the URL is none.
    """

    name = "certificates"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        *,
        https_url: str,
        files: CertFiles,
        token: str,
        node_name: str,
        wall_clock: Callable[[], float],
        random: Randomness,
        on_token_used: Callable[[], object] | None = None,
        rotate: bool = True,
    ) -> None:
        self.on_rotated: Callable[[], object] | None = None
        """Called after each renewal, to connect anew with the new certificate."""
        self._clock = clock
        self.time = CloudTime(clock, wall_clock)
        self._client = CertClient(reactor, clock, https_url, self.heard)
        self._files = files
        self._token = token.strip()
        self._node = node_name
        self._wall_clock = wall_clock
        self._random = random
        self._on_token_used = on_token_used
        self._rotate = rotate
        self._held: Held | None = None
        self._problem = ""
        self._ended: Held | None = None
        """Of whose end the log knows."""
        self._doubted = False
        self._said_wrong = False
        self._lock = DeferredLock()
        self._tasks = TaskSet()

    def startService(self) -> None:
        """Begin renewing in time; needs no certificate yet."""
        if self._rotate:
            self._tasks.spawn("certificate renewal", self._keep_renewing())

    def stopService(self) -> Deferred[None]:
        """End what is under way."""
        return Deferred.fromCoroutine(self._tasks.cancel_all())

    async def credentials(self, host: str) -> IOpenSSLClientConnectionCreator:
        """How to talk TLS to the cloud at ``host`` as this node; may ask for a certificate.

        :raises CertificateError: there is none and none can be had; try again later.
        :raises TokenError: the same, because of the token.
        :raises ClockError: TLS cannot work before this machine's clock is set. Asks nobody, as
            long as it is known to be wrong; so try again soon.
        """
        held = await self.obtain()
        await self._trust_clock(held)
        own = held.credentials
        return contexts.client(
            host, own.ca_pem, own.cert_pem, own.key_pem, on_dates=self._doubt_clock
        )

    @property
    def problem(self) -> str:
        """Why this edge cannot prove who it is, or how wrong its clock is; empty if all is well."""
        return self._problem or self.time.describe()

    def heard(self, date: str) -> None:
        """Take a ``Date`` header of the cloud."""
        self.time.heard(date)
        wrong = self.time.is_wrong
        if wrong and not self._said_wrong:
            self._log.warn("{what}", what=self.time.describe())
        self._said_wrong = wrong

    async def obtain(self) -> Held:
        """Take the certificate on disk, or get the first one with the token.

        :raises CertificateError: see :meth:`credentials`.
        :raises TokenError: see :meth:`credentials`.
        """
        async with self._lock:
            try:
                if self._held is None:
                    self._held = await self._load_or_join()
                if self._held.expired(self._now()):
                    await self._ask_time(self._held.credentials.ca_pem)
                    if self._held.expired(self._now()):
                        self._held = await self._replace_expired(self._held)
            except (CertificateError, TokenError) as error:
                self._problem = str(error)
                raise
            self._problem = ""
            return self._held

    def use_token(self, token: str) -> None:
        """Have another join token; an empty one changes nothing."""
        self._token = token.strip() or self._token

    def days_left(self) -> float | None:
        """How long the certificate is good; negative when it has ended, ``None`` without one."""
        if self._held is None:
            return None
        ends = self._held.certificate.not_valid_after_utc.timestamp()
        return (ends - self.time.now()) / 86_400

    def state(self) -> dict[str, object]:
        """What there is and until when, for ``/debug``."""
        held = self._held
        ends = None if held is None else held.certificate.not_valid_after_utc
        return {
            "held": held is not None,
            "ends": ends and f"{ends:%Y-%m-%dT%H:%M:%SZ}",
            "token": bool(self._token),
            "problem": self._problem,
            "clockAheadSeconds": self.time.off,
        }

    # Time

    async def _trust_clock(self, held: Held) -> None:
        """See that this machine's clock is right, if there is a doubt.

        :raises ClockError: it is not.
        """
        made = held.certificate.not_valid_before_utc
        now = utc(self._wall_clock())
        impossible = now < made
        if not (impossible or self._doubted):
            return
        await self._ask_time(held.credentials.ca_pem)
        if self.time.is_wrong:
            raise ClockError(f"{self.time.describe()}: TLS fails until then")
        if impossible:
            raise ClockError(
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and this edge's certificate "
                f"is of {made:%Y-%m-%d %H:%M} UTC; set it (timedatectl, or NTP): TLS fails until "
                "then"
            )
        self._doubted = False

    def _doubt_clock(self) -> None:
        self._doubted = True

    async def _ask_time(self, ca_pem: bytes) -> None:
        """Ask the cloud what time it is, unless that is known; it may not answer."""
        if self.time.age < TIME_IS_FRESH:
            return
        try:
            await self._client.ask_time(ca_pem)
        except CertificateError as error:
            self._log.debug("the cloud does not say what time it is: {why}", why=error)

    # First certificate

    async def _load_or_join(self) -> Held:
        try:
            held = load_files(self._files, self._node)
        except CertificateError as error:
            if not self._token:
                raise CertificateError(
                    f"{error}; to join anew, set modules.edgeHub.token to what "
                    "`keadm gettoken` prints at the cloud"
                ) from None
            self._log.warn("joining with the token, since {why}", why=error)
            return await self._join()
        if held is not None:
            if not self._token_is_of_another_cloud(held):
                return held
            self._log.warn(
                "the token is of another cloud than {path}; joining that", path=self._files.ca
            )
        elif not self._token:
            raise TokenError(
                f"this edge has no certificate ({self._files.cert}) and no token to get one; set "
                "modules.edgeHub.token to what `keadm gettoken` prints at the cloud"
            )
        return await self._join()

    def _token_is_of_another_cloud(self, held: Held) -> bool:
        if not self._token:
            return False
        try:
            ca_hash, _jwt = split_token(self._token)
        except TokenError as error:
            self._log.warn("not needed, and no use: {error}", error=error)
            return False
        roots = pem_blocks(held.credentials.ca_pem, "CERTIFICATE", str(self._files.ca))
        return all(sha256(der).hexdigest() != ca_hash for der in roots)

    async def _join(self) -> Held:
        _hash, jwt = split_token(self._token)
        address = self._client.address
        ca_der = await self._client.get_authority()
        try:
            verify_ca(self._token, ca_der)
        except TokenError as error:
            raise TokenError(
                f"the cloud at {address} has another CA than the token was made for: is it the "
                f"right cloud, or has it a new CA? ({error})"
            ) from None
        load_certificate(ca_der, f"the CA of {address}")
        self._keep_authority(ca_der)
        ca_pem = der_to_pem("CERTIFICATE", ca_der)
        held = await self._request(Credentials(ca_pem=ca_pem), jwt)
        self._log.info("joined the cloud at {address} as {node}", address=address, node=self._node)
        self._token_is_used()
        return held

    def _keep_authority(self, ca_der: bytes) -> None:
        path = self._files.ca
        old = read_file(path)
        if old is not None:
            try:
                blocks = pem_blocks(old, "CERTIFICATE", str(path))
            except CertificateError:
                blocks = []
            if ca_der in blocks:
                return
            self._log.warn("{path} held another CA; the token's replaces it", path=path)
        write_file(path, der_to_pem("CERTIFICATE", ca_der), 0o644)

    def _token_is_used(self) -> None:
        self._token = ""
        if self._on_token_used is None:
            return
        try:
            self._on_token_used()
        except KubeEdgeError as error:
            self._log.warn("the used token stays where it is: {error}", error=error)

    # Later ones

    async def _request(self, credentials: Credentials, jwt: str = "") -> Held:
        """Get a certificate for a new key, check it, and put both on disk."""
        key = new_key()
        subject = [
            (NameOID.COUNTRY_NAME, "CN"),
            (NameOID.ORGANIZATION_NAME, NODES_GROUP),
            (NameOID.LOCALITY_NAME, "Hangzhou"),
            (NameOID.STATE_OR_PROVINCE_NAME, "Zhejiang"),
            (NameOID.COMMON_NAME, common_name(self._node)),
        ]
        csr = make_request(key, subject)
        try:
            cert_der = await self._client.get_certificate(csr, self._node, credentials, jwt)
        except ClockError as error:
            await self._ask_time(credentials.ca_pem)
            if not self.time.is_wrong:
                raise
            raise ClockError(f"{self.time.describe()}: TLS fails until then ({error})") from None
        what = f"the certificate from {self._client.address}"
        certificate = check_pair(cert_der, key_to_der(key), what)
        _check(certificate, credentials.ca_pem, self._node, what)
        check_dates(certificate, self._now(), what)
        made = Credentials(
            ca_pem=credentials.ca_pem,
            cert_pem=der_to_pem("CERTIFICATE", cert_der),
            key_pem=der_to_pem("EC PRIVATE KEY", key_to_der(key)),
        )
        save_files(self._files, made)
        return Held(credentials=made, certificate=certificate)

    async def _replace_expired(self, held: Held) -> Held:
        ended = f"{held.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        if self._ended is not held:
            self._log.warn("the certificate of this edge expired at {ended}", ended=ended)
            self._ended = held
        try:
            return await self._request(held.credentials)
        except ClockError:
            raise
        except CertificateError as error:
            why = f"{self._files.cert} expired at {ended} and cannot renew itself: {error}"
        if not self._token:
            raise CertificateError(
                f"{why}; set modules.edgeHub.token to what `keadm gettoken` prints at the cloud"
            )
        try:
            return await self._join()
        except TokenError as error:
            raise TokenError(f"{why}; and by token: {error}") from None

    async def _keep_renewing(self) -> None:
        part = self._random.uniform(RENEW_EARLIEST, RENEW_LATEST)
        failures = 0
        said = ""
        while True:
            held = self._held
            left = LAST_DELAY if held is None else held.renew_at(part) - self.time.now()
            if held is None or left > 0:
                await self._sleep(min(left, LONGEST_SLEEP))
                continue
            if self.time.age >= TIME_IS_FRESH:
                await self._ask_time(held.credentials.ca_pem)
                if held.renew_at(part) > self.time.now():
                    continue  # our clock had been set ahead
            try:
                await self._renew(held)
            except CancelledError:
                raise
            except KubeEdgeError as error:
                delay = min(FIRST_DELAY * 2.0**failures, LAST_DELAY)
                failures = min(failures + 1, 10)
                if str(error) != said:  # once for each reason, not every half a minute
                    said = str(error)
                    self._log.warn(
                        "cannot renew the certificate, which ends {ends:%Y-%m-%d %H:%M} UTC; "
                        "trying on: {error}",
                        ends=held.certificate.not_valid_after_utc,
                        error=said,
                    )
                await self._sleep(delay)
            else:
                part = self._random.uniform(RENEW_EARLIEST, RENEW_LATEST)
                failures, said = 0, ""

    async def _renew(self, held: Held) -> None:
        async with self._lock:
            if self._held is not held:
                return  # somebody who wanted to connect was faster
            if held.expired(self._now()):
                self._held = await self._replace_expired(held)
            else:
                self._held = await self._request(held.credentials)
        self._log.info(
            "renewed the certificate; the new one ends {ends:%Y-%m-%d %H:%M} UTC",
            ends=self._held.certificate.not_valid_after_utc,
        )
        if self.on_rotated is not None:
            self.on_rotated()

    async def _sleep(self, seconds: float) -> None:
        await deferLater(self._clock, seconds)

    def _now(self) -> datetime:
        return utc(self.time.now())


def load_files(files: CertFiles, node: str) -> Held | None:
    """Read the three files; ``None`` if there is no certificate yet.

    A key that waited for its certificate when the power went takes its place now.

    :raises CertificateError: they are there and cannot be used for this node; the text says
        which and why.
    """
    cert_pem = read_file(files.cert)
    if cert_pem is None:
        return None
    ca_pem, key_pem = read_file(files.ca), read_file(files.key)
    if ca_pem is None:
        raise CertificateError(f"{files.ca} is missing, while {files.cert} is there")
    cert_der = pem_to_der(cert_pem, "CERTIFICATE", str(files.cert))
    try:
        if key_pem is None:
            raise CertificateError(f"{files.key} is missing, while {files.cert} is there")
        certificate = check_pair(
            cert_der, pem_to_der(key_pem, "PRIVATE KEY", str(files.key)), str(files.cert)
        )
    except CertificateError:
        key_pem = read_file(files.next_key)
        if key_pem is None:
            raise
        certificate = check_pair(
            cert_der, pem_to_der(key_pem, "PRIVATE KEY", str(files.next_key)), str(files.cert)
        )
        _move_key(files)
    _check(certificate, ca_pem, node, str(files.cert))
    credentials = Credentials(ca_pem=ca_pem, cert_pem=cert_pem, key_pem=key_pem)
    return Held(credentials=credentials, certificate=certificate)


def save_files(files: CertFiles, credentials: Credentials) -> None:
    """Exchange certificate and key so that at every moment one pair can be loaded.

    :raises CertificateError: the disk does not take them.
    """
    write_file(files.next_key, credentials.key_pem, 0o600)
    write_file(files.cert, credentials.cert_pem, 0o644)
    _move_key(files)


def _move_key(files: CertFiles) -> None:
    try:
        files.next_key.replace(files.key)
    except OSError as error:
        raise CertificateError(f"{files.key}: cannot be written: {error.strerror}") from None


def _check(certificate: x509.Certificate, ca_pem: bytes, node: str, what: str) -> None:
    """See that a certificate is of the CA (or one of several) and of this node."""
    roots = [
        load_certificate(der, "the CA file") for der in pem_blocks(ca_pem, "CERTIFICATE", "the CA")
    ]
    if not any(_issued_by(certificate, root) for root in roots):
        raise CertificateError(f"{what} is not of the CA that this edge trusts")
    try:
        identity = identify(certificate.subject)
    except CertificateError as error:
        raise CertificateError(f"{what} is no edge's: {error}") from None
    if identity.legacy:
        raise CertificateError(f"{what} is an old edge's and names no node")
    if identity.node != node:
        raise CertificateError(f"{what} is of node {identity.node}, and this is node {node}")


def _issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
