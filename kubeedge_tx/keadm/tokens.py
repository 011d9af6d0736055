"""Join tokens beside the one that the cloud renews: made, listed and revoked.

A token's id is its claim ``jti``, which a Go cloudcore ignores, or, if it has none, the
beginning of its hash. What is known of tokens is in the secret ``kubeedge/keadm-tokens``:
one key for each id, with JSON that never has the token itself. The cloud refuses what is
marked revoked there; a Go cloudcore does not look.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Final

import msgspec

from kubeedge_tx.keadm.cluster import Cluster
from kubeedge_tx.keadm.places import KeadmError
from kubeedge_tx.security.token import TOKENS_SECRET, TokenNote, expiry, make_token, token_id

STANDING: Final = "tokensecret"
"""The secret with the token that the cloud renews. Source: KubeEdge."""

DAY: Final = 24 * 3600


def standing(cluster: Cluster) -> str | None:
    """The token that the cloud keeps fresh; ``None`` before it has made the first."""
    data = cluster.secret(STANDING)
    return data["tokendata"].decode().strip() if data and data.get("tokendata") else None


def make(cluster: Cluster, seconds: int, now: float, node: str = "") -> str:
    """Make a token that is good for so long.

    :param node: who alone may use it; empty: whoever has it. A Go cloudcore does not look.
    :raises KeadmError: the cloud has no CA yet.
    """
    authority = cluster.secret("casecret")
    if not authority or not authority.get("cadata") or not authority.get("cakeydata"):
        raise KeadmError("secret kubeedge/casecret is not there yet: has the cloud started?")
    identity = secrets.token_hex(6)
    ends = int(now) + seconds
    note = TokenNote(created=int(now), expires=ends, node=node)
    cluster.set_in_secret(TOKENS_SECRET, {identity: msgspec.json.encode(note)})
    forget_expired(cluster, now)
    return make_token(authority["cadata"], authority["cakeydata"], ends, identity, node)


def notes(cluster: Cluster) -> dict[str, TokenNote]:
    """What is known of the tokens that were made or revoked, by id."""
    found = {}
    for identity, data in (cluster.secret(TOKENS_SECRET) or {}).items():
        try:
            found[identity] = msgspec.json.decode(data, type=TokenNote)
        except msgspec.DecodeError:
            continue
    return found


def forget_expired(cluster: Cluster, now: float) -> None:
    """Take out what is over: nobody can use it."""
    over = [identity for identity, note in notes(cluster).items() if note.expires + DAY < now]
    if over:
        cluster.set_in_secret(TOKENS_SECRET, dict.fromkeys(over))


def revoke(cluster: Cluster, which: str, now: float) -> str:
    """Make a token useless; returns its id.

    :param which: an id as listed, or a token, whole.
    :raises KeadmError: no such token.
    :raises TokenError: a token that is none.
    """
    known = notes(cluster)
    current = standing(cluster)
    ends: float
    if "." in which:
        identity, ends = token_id(which), expiry(which) or now + 36500 * DAY
    elif current is not None and which == token_id(current):
        identity, ends = which, expiry(current) or now + 36500 * DAY
    elif which in known:
        identity, ends = which, known[which].expires
    else:
        raise KeadmError(f"there is no token {which!r}; `keadm gettoken list` shows them")
    old = known.get(identity)
    old = old or TokenNote(created=int(now), expires=int(ends))
    note = msgspec.structs.replace(old, expires=int(ends), revoked=int(now))
    cluster.set_in_secret(TOKENS_SECRET, {identity: msgspec.json.encode(note)})
    if current is not None and identity == token_id(current):
        _replace_standing(cluster, int(ends))
    return identity


def _replace_standing(cluster: Cluster, ends: int) -> None:
    """Put another token where the revoked one was, for those who join from now on."""
    authority = cluster.secret("casecret")
    if authority is None:
        raise KeadmError("secret kubeedge/casecret is gone; see the cloud's log")
    # One second less than the revoked one: same claims would be the same token again.
    token = make_token(authority["cadata"], authority["cakeydata"], ends - 1)
    cluster.set_in_secret(STANDING, {"tokendata": token.encode()})


def rows(cluster: Cluster, now: float) -> list[tuple[str, ...]]:
    """Id, state, end, node and origin of each token."""
    known = notes(cluster)
    current = standing(cluster)
    listed: list[tuple[str, ...]] = []
    if current is not None:
        identity, ends = token_id(current), expiry(current)
        state = _state(known.get(identity), ends, now)
        listed.append((identity, state, _date(ends), "any", "cloud"))
    for identity, note in sorted(known.items(), key=lambda item: item[1].created):
        if current is None or identity != token_id(current):
            state = _state(note, note.expires, now)
            listed.append((identity, state, _date(note.expires), note.node or "any", "keadm"))
    return listed


def _state(note: TokenNote | None, ends: float | None, now: float) -> str:
    if note is not None and note.revoked:
        return "revoked"
    return "expired" if ends is not None and ends <= now else "valid"


def _date(seconds: float | None) -> str:
    return "never" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
