from __future__ import annotations

import hashlib
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.mqtt.acl import AccessList
from kubeedge_tx.mqtt.passwords import Passwords, entry

FILE = """
# everyone without a name
topic read public/#

user alice
topic alice/#
topic deny alice/secret/#
topic write   up/with spaces
topic read +/shared

user bob
topic readwrite bob

pattern write sensors/%c/%u
pattern read $hw/events/device/%c/#
"""


class AccessListTests(SynchronousTestCase):
    """Rules as mosquitto reads them."""

    def setUp(self) -> None:
        self.rules = AccessList.parse(FILE, "acl")

    def check(self, user: str, client: str, topic: str, reads: bool, writes: bool) -> None:
        self.assertEqual(self.rules.allows(user, client, topic, False), reads, f"read {topic}")
        self.assertEqual(self.rules.allows(user, client, topic, True), writes, f"write {topic}")

    def test_topics(self) -> None:
        """read, write, readwrite, and neither word for both."""
        self.check("alice", "c", "alice/x", True, True)
        self.check("alice", "c", "up/with spaces", False, True)
        self.check("alice", "c", "any/shared", True, False)
        self.check("alice", "c", "bob", False, False)
        self.check("bob", "c", "bob", True, True)

    def test_deny_wins(self) -> None:
        """What is denied stays denied whatever else allows it."""
        self.check("alice", "c", "alice/secret/x", False, False)

    def test_anonymous(self) -> None:
        """Lines before the first user are for clients without a name, and for no other."""
        self.check("", "c", "public/x", True, False)
        self.check("alice", "c", "public/x", False, False)
        self.check("carol", "c", "public/x", False, False)

    def test_patterns(self) -> None:
        """Patterns are for everyone; marks stand for client id and user name."""
        self.check("carol", "c7", "sensors/c7/carol", False, True)
        self.check("carol", "c8", "sensors/c7/carol", False, False)
        self.check("", "c7", "sensors/c7/", False, False)
        self.check("", "c7", "$hw/events/device/c7/twin/update", True, False)

    def test_patterns_and_names_with_wildcards(self) -> None:
        """A client named # or a/b gets nothing by a pattern; a denying pattern holds for it."""
        for name in ("#", "+", "a/b"):
            self.check("carol", name, f"sensors/{name}/carol", False, False)
            self.check(name, "c7", f"sensors/c7/{name}", False, False)
        rules = AccessList.parse("topic #\npattern deny x/%c/#", "acl")
        self.assertFalse(rules.allows("", "+", "x/c7/y", True))
        self.assertTrue(rules.allows("", "c8", "x/c7/y", True))

    def test_wildcards_and_dollar(self) -> None:
        """# does not reach topics that begin with $."""
        rules = AccessList.parse("topic #", "acl")
        self.assertTrue(rules.allows("", "c", "a", True))
        self.assertFalse(rules.allows("", "c", "$SYS/a", True))

    def test_errors(self) -> None:
        """A line that cannot be used is named by file and number."""
        for text, words in (
            ("topic", "needs a value"),
            ("user", "needs a value"),
            ("topics a", "none of"),
            ("topic read a#", "#"),
        ):
            with self.subTest(text):
                error = self.assertRaises(ConfigError, AccessList.parse, f"\n{text}\n", "acl")
                self.assertEqual(error.path, "acl:2")
                self.assertIn(words, error.reason)


class PasswordTests(SynchronousTestCase):
    """Files of mosquitto_passwd."""

    @settings(max_examples=20)
    @given(st.binary(max_size=30), st.binary(min_size=1, max_size=16))
    def test_round_trip(self, password: bytes, salt: bytes) -> None:
        """An entry we write accepts its password and no other."""
        users = Passwords.parse(entry("u", password, salt), "pw")
        self.assertTrue(users.check("u", password))
        self.assertFalse(users.check("u", password + b"x"))
        self.assertFalse(users.check("v", password))

    def test_mosquitto(self) -> None:
        """What mosquitto_passwd writes is accepted, PBKDF2 and salted SHA-512."""
        tool = shutil.which("mosquitto_passwd")
        if tool is None:
            raise SkipTest("mosquitto_passwd is not installed")
        path = Path(self.mktemp())
        for form in ((), ("-H", "sha512")):
            made = subprocess.run(
                [tool, *form, "-c", "-b", str(path), "ann", "s3cret"],
                capture_output=True,
                check=False,
            )
            if made.returncode:
                self.assertTrue(form, made.stderr)  # older tools have one form only
                continue
            users = Passwords.parse(path.read_text(), str(path))
            self.assertTrue(users.check("ann", b"s3cret"))
            self.assertFalse(users.check("ann", b"S3cret"))

    def test_salted(self) -> None:
        """The older form: SHA-512 of password and salt."""
        salt = bytes(range(12))
        digest = hashlib.sha512(b"pw" + salt).digest()
        line = f"u:$6${b64encode(salt).decode()}${b64encode(digest).decode()}"
        users = Passwords.parse(f"# users\n\n{line}\n", "pw")
        self.assertEqual(len(users), 1)
        self.assertTrue(users.check("u", b"pw"))
        self.assertFalse(users.check("u", b"PW"))

    def test_errors(self) -> None:
        """A bad line is named by number; its content is not shown."""
        good = entry("u", b"pw", b"salt")
        for text in (
            "u",
            ":$7$1$AA==$AA==",
            "u:plain-hunter2",
            "u:$7$x$AA==$AA==",
            "u:$7$101$!!$AA==",
            good.replace("$101$", "$0$"),
            good.replace("$101$", "$99999999$"),
            "u:$6$AA==$AA==",
            f"{good}\n{good}",
        ):
            with self.subTest(text):
                error = self.assertRaises(ConfigError, Passwords.parse, f"\n{text}", "pw")
                self.assertRegex(error.path, r"^pw:[23]$")
                self.assertNotIn("hunter2", str(error))
        self.assertRaises(ValueError, entry, "a:b", b"", b"")
