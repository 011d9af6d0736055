"""The cloud's CA, server certificate and join token, kept in the cluster's secrets.

Names, keys and bytes are upstream's, so that this cloud takes over from a Go cloudcore, and
it from us, with every edge staying joined. The CA is the one thing that must never change
by itself: every edge trusts it and nothing else, so whatever is unclear about it is an
error that asks a person.

Source: KubeEdge ``cloud/pkg/cloudhub/servers/httpserver/pre_server.go``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from twisted.logger import Logger

from kubeedge_tx.api.resources import NAMESPACES, SECRETS
from kubeedge_tx.errors import CertificateError, KubeError, TokenError
from kubeedge_tx.kube.interfaces import IKubeClient
from kubeedge_tx.security.authority import (
    Authority,
    KeyPair,
    alternative_names,
    check_dates,
    check_pair,
    subject_alternatives,
    utc,
)
from kubeedge_tx.security.files import pem_to_der, read_file
from kubeedge_tx.security.token import expiry, make_token, split_token, verify_ca, verify_jwt

NAMESPACE: Final = "kubeedge"
CA_SECRET: Final = "casecret"  # noqa: S105 - a secret's name
SERVER_SECRET: Final = "cloudcoresecret"  # noqa: S105 - as above
TOKEN_SECRET: Final = "tokensecret"  # noqa: S105 - as above

RENEW_DAYS: Final = 30
"""A server certificate with fewer days left is made anew."""

_ATTEMPTS: Final = 5
"""How often a write that another cloud process was faster with is begun again."""

_FRESH_START: Final = (
    f"restore it from a backup; only if there is none, delete {CA_SECRET}, {SERVER_SECRET} and "
    f"{TOKEN_SECRET} in namespace {NAMESPACE} to begin with a new CA, which every edge then has "
    "to join again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFiles:
    """PEM files that take precedence over the secrets, pair by pair; they may be absent."""

    ca_cert: Path
    ca_key: Path
    server_cert: Path
    server_key: Path


@dataclass(frozen=True, slots=True)
class Keys:
    """What the cloud's ports need."""

    authority: Authority
    server: KeyPair


class KeyStore:
    """Find or make the keys; safe for several cloud processes at once.

    :param files: where an operator may have put keys of their own.
    :param dns_names: names that edges use for the cloud.
    :param addresses: IP addresses that edges use for the cloud.
    :param wall_clock: seconds since 1970.
    """

    _log = Logger()

    def __init__(
        self,
        kube: IKubeClient,
        *,
        files: LocalFiles,
        dns_names: Sequence[str],
        addresses: Sequence[str],
        wall_clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._files = files
        self._dns_names = dns_names
        self._addresses = addresses
        self._wall_clock = wall_clock

    async def open(self) -> Keys:
        """Load each pair from files, else from its secret, else make it; and keep it.

        :raises CertificateError: something that only a person can decide; the text says
            what it is and what to do. The cloud must not start.
        :raises KubeError: the cluster cannot be asked.
        """
        authority = await self._open_authority()
        return Keys(authority, await self._open_server(authority))

    async def ensure_token(self, authority: Authority, lifetime: int) -> str:
        """Return the join token in the cluster, replaced if half of its life is over.

        :param lifetime: seconds that a new one is good for.
        :raises KubeError: the cluster cannot be asked.
        """

        def decide(old: dict[str, bytes] | None) -> dict[str, bytes] | None:
            now = self._wall_clock()
            if old is not None:
                text = old.get("tokendata", b"").decode("ascii", "replace").strip()
                if _token_is_fresh(text, authority, now, lifetime):
                    return None
            token = make_token(authority.cert_der, authority.key_der, int(now) + lifetime)
            return {"tokendata": token.encode("ascii")}

        return (await self._settle(TOKEN_SECRET, decide))["tokendata"].decode("ascii").strip()

    # The authority

    async def _open_authority(self) -> Authority:
        local = self._local_pair(self._files.ca_cert, self._files.ca_key)
        if local is not None:
            return await self._keep_local_authority(local)
        authority = await self._stored_authority()
        if authority is None:
            authority = await self._make_authority()
        return authority

    async def _keep_local_authority(self, local: tuple[bytes, bytes]) -> Authority:
        where = f"{self._files.ca_cert}, {self._files.ca_key}"
        authority = Authority.load(*local, now=utc(self._wall_clock()), what=where)
        wanted = {"cadata": authority.cert_der, "cakeydata": authority.key_der}

        def decide(old: dict[str, bytes] | None) -> dict[str, bytes] | None:
            if old is None:
                return wanted
            if all(old.get(key) == value for key, value in wanted.items()):
                return None
            if old.get("cadata") != authority.cert_der:
                self._log.warn(
                    "the CA in {file} replaces another one in secret {namespace}/{secret}: edges "
                    "that joined under that one must join again",
                    file=self._files.ca_cert,
                    namespace=NAMESPACE,
                    secret=CA_SECRET,
                )
            return wanted

        await self._settle(CA_SECRET, decide)
        return authority

    async def _stored_authority(self) -> Authority | None:
        secret = await self._read(CA_SECRET)
        if secret is None:
            return None
        where = f"secret {NAMESPACE}/{CA_SECRET}"
        try:
            data = _data(secret)
            missing = [key for key in ("cadata", "cakeydata") if not data.get(key)]
            if missing:
                raise CertificateError(f"{where}: no {' and no '.join(missing)} in it")
            return Authority.load(
                data["cadata"], data["cakeydata"], now=utc(self._wall_clock()), what=where
            )
        except CertificateError as error:
            raise CertificateError(f"{error}. The CA is not replaced: {_FRESH_START}") from None

    async def _make_authority(self) -> Authority:
        for relic in (SERVER_SECRET, TOKEN_SECRET):
            if await self._read(relic) is None:
                continue
            # Another cloud process may have made all of them since we looked.
            authority = await self._stored_authority()
            if authority is not None:
                return authority
            raise CertificateError(
                f"secret {NAMESPACE}/{CA_SECRET} is gone, but {relic} shows that there was a CA "
                f"which edges trust: {_FRESH_START}"
            )
        made = Authority.create(now=utc(self._wall_clock()))
        data = {"cadata": made.cert_der, "cakeydata": made.key_der}
        try:
            await self._create(CA_SECRET, data)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            authority = await self._stored_authority()
            if authority is None:
                raise
            return authority
        self._log.info(
            "made a new CA and keeps it in secret {namespace}/{secret}",
            namespace=NAMESPACE,
            secret=CA_SECRET,
        )
        return made

    # The server's certificate

    async def _open_server(self, authority: Authority) -> KeyPair:
        local = self._local_pair(self._files.server_cert, self._files.server_key)
        if local is not None:
            pair = self._check_local_server(local, authority)
            wanted = {"cloudcoredata": pair.cert_der, "cloudcorekeydata": pair.key_der}
            await self._settle(SERVER_SECRET, lambda old: None if old == wanted else wanted)
            return pair

        def decide(old: dict[str, bytes] | None) -> dict[str, bytes] | None:
            names = subject_alternatives(self._dns_names, self._addresses)
            reason = "there was none"
            if old is not None:
                reason, has = self._why_renew(old, authority, names)
                if not reason:
                    return None
                # Other clouds of this cluster may have asked for the others.
                kept = [name for name in has if name.value]  # Go writes an empty one by default
                names = list(dict.fromkeys([*names, *kept]))
            made = authority.issue_server(
                [n.value for n in names if isinstance(n, x509.DNSName)],
                [str(n.value) for n in names if isinstance(n, x509.IPAddress)],
                now=utc(self._wall_clock()),
            )
            self._log.info(
                "made a server certificate for {names}: {reason}",
                names=", ".join(str(name.value) for name in names),
                reason=reason,
            )
            return {"cloudcoredata": made.cert_der, "cloudcorekeydata": made.key_der}

        data = await self._settle(SERVER_SECRET, decide)
        return KeyPair(cert_der=data["cloudcoredata"], key_der=data["cloudcorekeydata"])

    def _check_local_server(self, local: tuple[bytes, bytes], authority: Authority) -> KeyPair:
        where = str(self._files.server_cert)
        certificate = check_pair(*local, where)
        check_dates(certificate, utc(self._wall_clock()), where)
        if not _issued_by(certificate, authority):
            raise CertificateError(
                f"{where} is not signed by the CA, so no edge would trust it; sign it with the "
                "CA's key, or remove it and its key to have one made"
            )
        asked = subject_alternatives(self._dns_names, self._addresses)
        missing = [name for name in asked if name not in alternative_names(certificate)]
        if missing:
            self._log.warn(
                "{file} is not valid for {names}; edges that use them will refuse it",
                file=where,
                names=", ".join(str(name.value) for name in missing),
            )
        return KeyPair(cert_der=local[0], key_der=local[1])

    def _why_renew(
        self, data: dict[str, bytes], authority: Authority, asked: list[x509.GeneralName]
    ) -> tuple[str, list[x509.GeneralName]]:
        """Why a stored pair will not do (empty: it does), and the names it has."""
        try:
            certificate = check_pair(
                data.get("cloudcoredata", b""), data.get("cloudcorekeydata", b""), "the old one"
            )
        except CertificateError as error:
            return str(error), []
        if not _issued_by(certificate, authority):
            return "the old one is of another CA", []
        has = alternative_names(certificate)
        missing = [str(name.value) for name in asked if name not in has]
        if missing:
            return f"the old one is not valid for {', '.join(missing)}", has
        left = certificate.not_valid_after_utc - utc(self._wall_clock())
        if left.days < RENEW_DAYS:
            return f"the old one ends {certificate.not_valid_after_utc:%Y-%m-%d}", has
        return "", has

    # Files and secrets

    def _local_pair(self, cert: Path, key: Path) -> tuple[bytes, bytes] | None:
        cert_pem, key_pem = read_file(cert), read_file(key)
        if cert_pem is None and key_pem is None:
            return None
        for data, missing, there in ((cert_pem, cert, key), (key_pem, key, cert)):
            if data is None:
                raise CertificateError(
                    f"{missing} is missing while {there} is there; provide both, or neither to "
                    "use the cluster's secret"
                )
        assert cert_pem is not None and key_pem is not None
        return (
            pem_to_der(cert_pem, "CERTIFICATE", str(cert)),
            pem_to_der(key_pem, "PRIVATE KEY", str(key)),
        )

    async def _settle(
        self, name: str, decide: Callable[[dict[str, bytes] | None], dict[str, bytes] | None]
    ) -> dict[str, bytes]:
        """Read a secret, let ``decide`` say what should be in it instead, write that.

        When another process was faster, look at what it wrote and decide again.

        :param decide: given the data (``None``: no secret), returns what to set in it, or
            ``None`` to leave it.
        """
        attempt = 0
        while True:
            attempt += 1
            secret = await self._read(name)
            data = None if secret is None else _data(secret)
            wanted = decide(data)
            if wanted is None:
                assert data is not None
                return data
            try:
                if secret is None:
                    await self._create(name, wanted)
                else:
                    secret = {**secret, "data": {**(secret.get("data") or {}), **_encode(wanted)}}
                    await self._kube.update(SECRETS, NAMESPACE, name, secret)
            except KubeError as error:
                lost_race = error.code == 409 or (secret is not None and error.code == 404)
                if not lost_race or attempt == _ATTEMPTS:
                    raise
            else:
                return wanted

    async def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._kube.get(SECRETS, NAMESPACE, name)
        except KubeError as error:
            if error.code == 404:
                return None
            raise

    async def _create(self, name: str, data: dict[str, bytes]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "type": "Opaque",
            "data": _encode(data),
        }
        try:
            await self._kube.create(SECRETS, NAMESPACE, body)
        except KubeError as error:
            if error.code != 404:
                raise
            await self._create_namespace()
            await self._kube.create(SECRETS, NAMESPACE, body)

    async def _create_namespace(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        try:
            await self._kube.create(NAMESPACES, "", body)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise


def _data(secret: dict[str, Any]) -> dict[str, bytes]:
    """Decode a secret's data; a value that is no base64 counts as absent."""
    decoded = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            decoded[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            continue
    return decoded


def _encode(data: dict[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}


def _issued_by(certificate: x509.Certificate, authority: Authority) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _token_is_fresh(text: str, authority: Authority, now: float, lifetime: int) -> bool:
    try:
        verify_ca(text, authority.cert_der)
        verify_jwt(split_token(text)[1], authority.key_der, now)
        ends = expiry(text)
    except TokenError:
        return False
    # One that lives longer than ours would was made by hand, or under other settings.
    return ends is not None and lifetime / 2 < ends - now <= lifetime
