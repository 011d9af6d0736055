from __future__ import annotations

import hashlib

import jwt as pyjwt
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import TokenError
from kubeedge_tx.security.token import (
    expiry,
    is_revoked,
    jwt_id,
    made_for,
    make_token,
    split_token,
    token_id,
    verify_ca,
    verify_jwt,
)

CA = b"the CA's DER"
KEY = b"the CA's private key, thirty-two bytes or more" * 2
TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=200)


class TokenTests(SynchronousTestCase):
    """A join token is recognised, and each way of being wrong has its own words."""

    def test_form(self) -> None:
        """The hash of the CA, then a JWT that any JWT library accepts."""
        token = make_token(CA, KEY, 2_000_000_000)
        ca_hash, jwt = split_token(f" {token}\n")
        self.assertEqual(ca_hash, hashlib.sha256(CA).hexdigest())
        claims = pyjwt.decode(jwt, KEY, algorithms=["HS256"], options={"verify_exp": False})
        self.assertEqual(claims, {"exp": 2_000_000_000})
        self.assertEqual(pyjwt.get_unverified_header(jwt), {"alg": "HS256", "typ": "JWT"})
        self.assertEqual(expiry(token), 2_000_000_000)

    def test_identity(self) -> None:
        """A token may have an id; one without has the beginning of its hash instead."""
        token = make_token(CA, KEY, 2_000_000_000, "abc")
        claims = pyjwt.decode(
            split_token(token)[1], KEY, algorithms=["HS256"], options={"verify_exp": False}
        )
        self.assertEqual(claims, {"exp": 2_000_000_000, "jti": "abc"})
        self.assertEqual(token_id(token), "abc")
        plain = make_token(CA, KEY, 2_000_000_000)
        jwt = split_token(plain)[1]
        self.assertEqual(token_id(plain), hashlib.sha256(jwt.encode()).hexdigest()[:12])
        self.assertEqual(jwt_id(jwt), token_id(plain))
        for bad in ("", "a", "a.b.c", "....", "e30"):
            with self.assertRaises(TokenError):
                jwt_id(bad)

    def test_for_one_node(self) -> None:
        """A token may be for one node; who reads it is told which, and it cannot be changed."""
        token = make_token(CA, KEY, 2_000_000_000, "abc", "edge-1")
        jwt = split_token(token)[1]
        claims = pyjwt.decode(jwt, KEY, algorithms=["HS256"], options={"verify_exp": False})
        self.assertEqual(claims["sub"], "system:node:edge-1")
        self.assertEqual((verify_jwt(jwt, KEY, 1), made_for(token)), ("edge-1", "edge-1"))
        plain = make_token(CA, KEY, 2_000_000_000)
        self.assertEqual((verify_jwt(split_token(plain)[1], KEY, 1), made_for(plain)), ("", ""))
        head, _, signature = jwt.split(".")
        other = split_token(make_token(CA, KEY, 2_000_000_000, "abc", "edge-2"))[1].split(".")[1]
        with self.assertRaisesRegex(TokenError, "signature is wrong"):
            verify_jwt(f"{head}.{other}.{signature}", KEY, 1)

    def test_notes(self) -> None:
        """Only a note that says so revokes; a damaged one does not lock anybody out."""
        self.assertTrue(is_revoked(b'{"created":1,"expires":9,"revoked":5}'))
        for note in (b'{"created":1,"expires":9}', b"", b"[]", b"\xff", b"[" * 9999):
            self.assertFalse(is_revoked(note))

    def test_other_makers(self) -> None:
        """Tokens of the three HMAC algorithms, with or without an end, are accepted."""
        for algorithm in ("HS256", "HS384", "HS512"):
            verify_jwt(pyjwt.encode({"exp": 100}, KEY, algorithm), KEY, 99.9)
        verify_jwt(pyjwt.encode({}, KEY, "HS256"), KEY, 1e12)

    def test_wrong_forms(self) -> None:
        """Empty, cut, doubled and mangled tokens are told apart."""
        token = make_token(CA, KEY, 100)
        for text, words in (
            ("", "empty"),
            ("abc", "1 parts instead of 4"),
            (token.partition(".")[2], "3 parts"),
            (token + token, "7 parts"),
            ("x" + token[1:], "first part"),
            (token.replace(".", " .", 2), "first part"),
            (token.rpartition(".")[0] + ".", "signature is empty"),
            (token * 40, "characters"),
        ):
            with self.assertRaises(TokenError) as caught:
                split_token(text)
            self.assertIn(words, str(caught.exception))
            self.assertNotIn(token[70:], str(caught.exception))

    def test_other_authority(self) -> None:
        """The hash tells the wrong cloud from the right one."""
        token = make_token(CA, KEY, 100)
        verify_ca(token, CA)
        with self.assertRaisesRegex(TokenError, "another one than the token was made for"):
            verify_ca(token, CA + b"x")

    def test_refused(self) -> None:
        """Expired, forged, early and malformed are different refusals."""
        _hash, jwt = split_token(make_token(CA, KEY, 100))
        verify_jwt(jwt, KEY, 99)
        none = pyjwt.encode({"exp": 1000}, "", "none")
        for bad, now, words in (
            (jwt, 100, "expired at 1970-01-01 00:01 UTC"),
            (jwt[:-4] + "AAAA", 99, "signature is wrong"),
            (pyjwt.encode({"exp": 1000}, b"z" * 64, "HS256"), 99, "signature is wrong"),
            (pyjwt.encode({"nbf": 200}, KEY, "HS256"), 99, "valid only from"),
            (none, 99, "malformed"),
            (none + "AAAA", 99, "algorithm"),
            (jwt + ".x", 99, "4 parts instead of 3"),
            ("a.b.c", 99, "malformed"),
            ("é.b.c", 99, "malformed"),
        ):
            with self.assertRaises(TokenError) as caught:
                verify_jwt(bad, KEY, now)
            self.assertIn(words, str(caught.exception))

    def test_signature_comes_first(self) -> None:
        """A forged token is not told whether it has expired as well."""
        with self.assertRaisesRegex(TokenError, "signature"):
            verify_jwt(pyjwt.encode({"exp": 1}, b"z" * 64, "HS256"), KEY, 100)

    @given(TEXT)
    def test_garbage(self, text: str) -> None:
        """Any text at all is a TokenError and nothing worse."""
        for check in (split_token, expiry, lambda t: verify_jwt(t, KEY, 0)):
            with self.assertRaises(TokenError):
                check(text)

    @given(st.lists(st.binary(max_size=60), min_size=3, max_size=3))
    def test_garbage_of_the_right_form(self, parts: list[bytes]) -> None:
        """Three parts of base64 with anything inside are refused as well."""
        import base64

        text = ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts)
        with self.assertRaises(TokenError):
            verify_jwt(text, KEY, 0)

    def test_deep_json(self) -> None:
        """A header nested thousands deep is malformed, not a crash."""
        import base64

        deep = base64.urlsafe_b64encode(b"[" * 2900).rstrip(b"=").decode()
        with self.assertRaisesRegex(TokenError, "malformed"):
            verify_jwt(f"{deep}.e30.AAAA", KEY, 0)

    @given(st.binary(min_size=1, max_size=99), st.integers(1, 2**40), st.integers(0, 2**41))
    def test_round_trip(self, key: bytes, expires_at: int, now: int) -> None:
        """What is made is accepted before its end and at no time after."""
        _hash, jwt = split_token(make_token(CA, key, expires_at))
        if now < expires_at:
            verify_jwt(jwt, key, now)
        else:
            with self.assertRaisesRegex(TokenError, "expired"):
                verify_jwt(jwt, key, now)
