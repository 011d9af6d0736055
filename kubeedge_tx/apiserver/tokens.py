"""Tokens of service accounts: issued by TokenRequest, believed until they expire.

A token is good only while its service account (and its pod, if it is bound to one) is there.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from kubeedge_tx.apiserver.store import ObjectStore
from kubeedge_tx.errors import CertificateError
from kubeedge_tx.security.files import read_file, write_file

ISSUER: Final = "https://kubernetes.default.svc"
AUDIENCE: Final = ISSUER
MIN_SECONDS: Final = 600
MAX_SECONDS: Final = 1 << 32
"""Source: apiserver ``authentication/validation``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The object whose end ends a token."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Whom a token stands for."""

    namespace: str
    name: str
    uid: str
    audiences: tuple[str, ...]
    pod: str = ""
    pod_uid: str = ""


class Tokens:
    """Signs and checks tokens (ES256).

    :param key: signs; kept in a file, so that tokens survive a restart.
    :param wall_clock: seconds since 1970.
    :param new_uid: makes the token's own id.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        store: ObjectStore,
        *,
        wall_clock: Callable[[], float],
        new_uid: Callable[[], str],
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self._store = store
        self._wall_clock = wall_clock
        self._new_uid = new_uid
        spki = self._public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest = hashlib.sha256(spki).digest()
        self._kid = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: Sequence[str],
        lifetime: int,
        bound: Bound | None = None,
    ) -> tuple[str, float]:
        """Make a token for a service account.

        :param lifetime: seconds.
        :returns: the token, and when it expires (seconds since 1970).
        """
        now = int(self._wall_clock())
        claim: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": uid},
        }
        if bound is not None:
            claim[bound.kind.lower()] = {"name": bound.name, "uid": bound.uid}
        payload = {
            "aud": list(audiences),
            "exp": now + lifetime,
            "iat": now,
            "iss": ISSUER,
            "jti": self._new_uid(),
            "kubernetes.io": claim,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        token = jwt.encode(payload, self._key, algorithm="ES256", headers={"kid": self._kid})
        return token, float(now + lifetime)

    def check(self, token: str) -> Claims | None:
        """Tell whom a token stands for; ``None`` if it is not good (any more)."""
        try:
            payload = jwt.decode(
                token,
                self._public,
                algorithms=["ES256"],
                issuer=ISSUER,
                options={
                    "verify_aud": False,
                    # Our own clock is asked below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "require": ["exp", "nbf", "iss", "sub"],
                },
            )
            claim = payload["kubernetes.io"]
            now = self._wall_clock()
            if not payload["nbf"] - 5 <= now < payload["exp"]:
                return None
            pod = claim.get("pod") or {}
            found = Claims(
                namespace=claim["namespace"],
                name=claim["serviceaccount"]["name"],
                uid=claim["serviceaccount"]["uid"],
                audiences=tuple(payload.get("aud") or ()),
                pod=pod.get("name", ""),
                pod_uid=pod.get("uid", ""),
            )
        except (jwt.PyJWTError, KeyError, TypeError, AttributeError):
            return None
        account = self._store.get("serviceaccounts", found.namespace, found.name)
        if account is None or account.obj["metadata"]["uid"] != found.uid:
            return None
        if found.pod:
            there = self._store.get("pods", found.namespace, found.pod)
            if there is None or there.obj["metadata"]["uid"] != found.pod_uid:
                return None
        return found


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the signing key, or make it (mode 0600) if there is none.

    :raises CertificateError: the file cannot be used.
    """
    pem = read_file(path)
    if pem is None:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_file(path, pem, 0o600)
        return key
    try:
        loaded = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise CertificateError(f"{path}: not an unencrypted private key in PEM form") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path}: the key is not an EC key")
    return loaded
