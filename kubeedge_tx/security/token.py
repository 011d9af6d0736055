"""The join token: ``<sha256 of the CA's DER>.<JWT>``.

The first part lets an edge know the right cloud before it trusts anything; the rest is for
the cloud alone. Only HMAC is needed, so the JWT is done here: an edge just splits and
hashes, and should not load a JWT library for it.

Source: KubeEdge ``cloud/pkg/cloudhub/servers/httpserver``, ``edge/pkg/edgehub/certificate``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Final

import msgspec

from kubeedge_tx.errors import TokenError

MAX_TOKEN_CHARS: Final = 4096
"""A real one has 170; more is not looked at."""

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_DIGESTS: Final = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_SUBJECT: Final = "system:node:"
"""Before a node's name in the claim ``sub``, as in the CN of its certificate."""
_PART_NAMES: Final = ("header", "claims", "signature")


class _Header(msgspec.Struct, frozen=True):
    alg: str


class _Claims(msgspec.Struct, frozen=True):
    exp: float | None = None
    nbf: float | None = None
    jti: str = ""
    sub: str = ""


TOKENS_SECRET: Final = "keadm-tokens"  # noqa: S105 - a secret's name
"""Where, in namespace ``kubeedge``, is kept what is known of tokens: a note for each id."""


class TokenNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a token, as JSON in the secret. Times in seconds since 1970."""

    created: int
    expires: int
    revoked: int = 0
    """When; 0: it was not."""
    node: str = ""
    """Who alone may use it; empty: any."""


def make_token(
    ca_der: bytes, key: bytes, expires_at: int, identity: str = "", node: str = ""
) -> str:
    """Make a join token.

    :param ca_der: the CA certificate.
    :param key: what it is signed with: the CA's private key, SEC 1 DER, as bytes.
    :param expires_at: seconds since 1970.
    :param identity: its claim ``jti``, by which it can be revoked; the one that the cloud
        renews has none. (A Go cloudcore only looks at the signature and at ``exp``.)
    :param node: who alone may use it, its claim ``sub``; empty: whoever has it.
    """
    head = _encode(b'{"alg":"HS256","typ":"JWT"}')
    content: dict[str, object] = {"exp": expires_at}
    if identity:
        content["jti"] = identity
    if node:
        content["sub"] = f"{_SUBJECT}{node}"
    claims = _encode(msgspec.json.encode(content))
    signature = hmac.digest(key, f"{head}.{claims}".encode("ascii"), "sha256")
    return f"{hashlib.sha256(ca_der).hexdigest()}.{head}.{claims}.{_encode(signature)}"


def split_token(text: str) -> tuple[str, str]:
    """Take a token apart into the CA's hash and the JWT.

    :raises TokenError: it is no token; the text says what is wrong with its form and does
        not quote it.
    """
    text = text.strip()
    if not text:
        raise TokenError("the token is empty")
    if len(text) > MAX_TOKEN_CHARS:
        raise TokenError(f"the token has {len(text)} characters; that is no join token")
    parts = text.split(".")
    if len(parts) != 4:
        raise TokenError(
            f"the token has {len(parts)} parts instead of 4, separated by dots; "
            "copy the whole of what `keadm gettoken` prints"
        )
    ca_hash = parts[0].lower()
    if not _HASH.fullmatch(ca_hash):
        raise TokenError("the token's first part is not the SHA-256 of a CA (64 hex digits)")
    for name, part in zip(_PART_NAMES, parts[1:], strict=True):
        if not _BASE64URL.fullmatch(part):
            raise TokenError(f"the token's {name} is empty or has characters that do not belong")
    return ca_hash, ".".join(parts[1:])


def verify_ca(token: str, ca_der: bytes) -> None:
    """See that a CA certificate is the one that the token was made for.

    :raises TokenError: it is another one, or the token is none.
    """
    ca_hash, _jwt = split_token(token)
    found = hashlib.sha256(ca_der).hexdigest()
    if found != ca_hash:
        raise TokenError(
            f"the CA is another one than the token was made for (SHA-256 {found[:12]}… "
            f"instead of {ca_hash[:12]}…)"
        )


def verify_jwt(jwt: str, key: bytes, now: float) -> str:
    """Check a token without its first part, as an edge presents it.

    :param now: seconds since 1970.
    :returns: the node that alone may use it; empty: any may.
    :raises TokenError: malformed, wrongly signed, or expired; the text says which.
    """
    if len(jwt) > MAX_TOKEN_CHARS:
        raise TokenError("the token is malformed: too long")
    parts = jwt.split(".")
    if len(parts) != 3:
        raise TokenError(f"the token is malformed: {len(parts)} parts instead of 3")
    head, body, signature = (_decode(n, p) for n, p in zip(_PART_NAMES, parts, strict=True))
    try:
        algorithm = msgspec.json.decode(head, type=_Header).alg
        claims = msgspec.json.decode(body, type=_Claims)
    except (msgspec.DecodeError, RecursionError):
        raise TokenError("the token is malformed: its header or claims are no JSON") from None
    digest = _DIGESTS.get(algorithm)
    if digest is None:
        raise TokenError("the token is malformed: its algorithm is none of HS256, HS384, HS512")
    right = hmac.digest(key, f"{parts[0]}.{parts[1]}".encode("ascii"), digest)
    if not hmac.compare_digest(right, signature):
        raise TokenError("the token's signature is wrong: it was made by another cloud or changed")
    if claims.exp is not None and now >= claims.exp:
        raise TokenError(
            f"the token expired at {_date(claims.exp)}; get a new one with `keadm gettoken`"
        )
    if claims.nbf is not None and now < claims.nbf:
        raise TokenError(f"the token is valid only from {_date(claims.nbf)}")
    return claims.sub.removeprefix(_SUBJECT)


def expiry(token: str) -> float | None:
    """When a token (whole) expires, seconds since 1970; ``None``: never. Verifies nothing.

    :raises TokenError: it is no token.
    """
    return _read(split_token(token)[1]).exp


def made_for(token: str) -> str:
    """Name the node that alone may use a token (whole); empty: any may. Verifies nothing.

    :raises TokenError: it is no token.
    """
    return _read(split_token(token)[1]).sub.removeprefix(_SUBJECT)


def token_id(token: str) -> str:
    """Name a token (whole): its claim ``jti``, or the beginning of its hash. Verifies nothing.

    :raises TokenError: it is no token.
    """
    return jwt_id(split_token(token)[1])


def jwt_id(jwt: str) -> str:
    """Do the same for a token without its first part.

    :raises TokenError: it is none.
    """
    return _read(jwt).jti or hashlib.sha256(jwt.encode("utf-8", "replace")).hexdigest()[:12]


def is_revoked(note: bytes) -> bool:
    """Whether a note of :data:`TOKENS_SECRET` says so; what cannot be read does not."""
    try:
        return msgspec.json.decode(note, type=TokenNote).revoked > 0
    except (msgspec.DecodeError, RecursionError):
        return False


def _read(jwt: str) -> _Claims:
    body = _decode("claims", (*jwt.split("."), "", "")[1])
    try:
        return msgspec.json.decode(body, type=_Claims)
    except (msgspec.DecodeError, RecursionError):
        raise TokenError("the token is malformed: its claims are no JSON") from None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(name: str, part: str) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise TokenError(f"the token is malformed: its {name} is not base64url")
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise TokenError(f"the token is malformed: its {name} is not base64url") from None


def _date(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s after 1970"
