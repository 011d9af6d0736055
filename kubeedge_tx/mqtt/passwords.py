"""User names and passwords from a file in mosquitto's ``password_file`` format.

``name:$7$iterations$salt$hash`` is PBKDF2 with SHA-512, ``name:$6$salt$hash`` SHA-512 of
password and salt; salts and hashes are base64. Source: mosquitto_passwd(1).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Final

import msgspec

from kubeedge_tx.errors import ConfigError

_HASH_BYTES: Final = 64
MAX_ITERATIONS: Final = 10_000_000
"""More would keep a thread busy for many seconds at each attempt."""


class _Entry(msgspec.Struct, frozen=True):
    iterations: int
    """0 for the plain salted hash."""
    salt: bytes
    digest: bytes

    def __repr__(self) -> str:
        return "_Entry(…)"


class Passwords:
    """The users of one file."""

    __slots__ = ("_entries", "_nobody")

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._nobody = _Entry(101, b"\0" * 12, b"\0" * _HASH_BYTES)

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def parse(cls, text: str, path: str) -> Passwords:
        """Read a file's text.

        :param path: names the file in errors.
        :raises ConfigError: with the line's number, never with the line.
        """
        made = cls()
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            where = f"{path}:{number}"
            name, colon, rest = line.partition(":")
            if not colon or not name:
                raise ConfigError(where, "no user name before a colon")
            if name in made._entries:
                raise ConfigError(where, "the same user name as in an earlier line")
            made._entries[name] = _entry(rest, where)
        return made

    def check(self, username: str, password: bytes) -> bool:
        """Tell whether the password is the user's. Takes as long for an unknown user."""
        entry = self._entries.get(username, self._nobody)
        if entry.iterations:
            digest = hashlib.pbkdf2_hmac("sha512", password, entry.salt, entry.iterations)
        else:
            digest = hashlib.sha512(password + entry.salt).digest()
        return hmac.compare_digest(digest, entry.digest) and username in self._entries


def entry(username: str, password: bytes, salt: bytes, iterations: int = 101) -> str:
    """One line for the file.

    :param salt: chance; mosquitto takes 12 bytes.
    :raises ValueError: the name is empty or has a colon.
    """
    if not username or ":" in username:
        raise ValueError("a user name is not empty and has no colon")
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, iterations)
    return f"{username}:$7${iterations}${b64encode(salt).decode()}${b64encode(digest).decode()}"


def _entry(rest: str, where: str) -> _Entry:
    parts = rest.split("$")
    if len(parts) == 5 and parts[:2] == ["", "7"]:
        iterations, salt, digest = parts[2:]
    elif len(parts) == 4 and parts[:2] == ["", "6"]:
        iterations, salt, digest = "0", *parts[2:]
    else:
        raise ConfigError(where, "no password in the form $7$… or $6$…; use mosquitto_passwd")
    try:
        made = _Entry(
            int(iterations), b64decode(salt, validate=True), b64decode(digest, validate=True)
        )
    except (ValueError, binascii.Error):
        raise ConfigError(where, "iterations, salt or hash cannot be read") from None
    if len(made.digest) != _HASH_BYTES:
        raise ConfigError(where, f"a hash of {len(made.digest)} bytes; SHA-512 has {_HASH_BYTES}")
    if not 0 <= made.iterations <= MAX_ITERATIONS or (parts[1] == "7" and not made.iterations):
        raise ConfigError(where, f"iterations are not within 1 and {MAX_ITERATIONS}")
    return made
