from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edgehub.tokenfile import blank_token
from kubeedge_tx.errors import ConfigError

TEXT = """\
# my edge
modules:
    edgeHub:
        heartbeat: 15   # seconds
        token: {token}
        websocket: {{server: "10.0.0.1:10000"}}
    other:
        token: keep me
"""


class TokenFileTests(SynchronousTestCase):
    """The token goes, and nothing else in the file changes."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def blank(self, text: str) -> str:
        self.path.write_bytes(text.encode())
        self.assertTrue(blank_token(self.path))
        return self.path.read_bytes().decode()

    def test_styles(self) -> None:
        """Plain, quoted, commented, block and flow: only the value is replaced."""
        for token in ("abc.d.e.f", '"abc.d.e.f"', "'abc'", "abc # mine", "|\n            abc"):
            wanted = TEXT.format(token='"" # mine' if "#" in token else '""')
            self.assertEqual(self.blank(TEXT.format(token=token)), wanted)
        self.assertEqual(
            self.blank("modules: {edgeHub: {token: abc, heartbeat: 3}}"),
            'modules: {edgeHub: {token: "", heartbeat: 3}}',
        )

    def test_line_ends_and_marks(self) -> None:
        """Windows line ends and a byte order mark stay."""
        text = "\ufeff" + TEXT.format(token="abc").replace("\n", "\r\n")
        self.assertEqual(self.blank(text), text.replace("abc", '""'))

    def test_mode_and_link(self) -> None:
        """Permission bits stay, and a symbolic link still is one."""
        self.path.write_text(TEXT.format(token="abc"))
        self.path.chmod(0o640)
        link = Path(self.mktemp())
        link.symlink_to(self.path.resolve())
        self.assertTrue(blank_token(link))
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)
        self.assertNotIn("abc", self.path.read_text())

    def test_nothing_to_do(self) -> None:
        """Without a token the file is not touched."""
        for text in ("", "a: 1", "modules: []", TEXT.format(token=""), TEXT.format(token='""')):
            self.path.write_text(text)
            before = self.path.stat().st_ino
            self.assertFalse(blank_token(self.path))
            self.assertEqual(self.path.stat().st_ino, before)

    def test_unreadable(self) -> None:
        """No file, or none of YAML, is a ConfigError that names it."""
        with self.assertRaisesRegex(ConfigError, self.path.name):
            blank_token(self.path)
        self.path.write_text("a: [")
        with self.assertRaisesRegex(ConfigError, "cannot take the token out"):
            blank_token(self.path)

    @example({}, "\xa0", None, True)
    @example({}, "\x85", "|", False)
    @example({}, "a\u2028", "|", False)
    @example({}, "\u2029\n", ">", False)
    @given(
        st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=20), max_size=5),
        st.text(min_size=1, max_size=60),
        st.sampled_from([None, '"', "'", "|", ">"]),
        st.booleans(),
    )
    def test_every_file(
        self, others: dict[str, object], token: str, style: str | None, flow: bool
    ) -> None:
        """Read back, the file is as it was, less the token."""
        hub = {**others, "token": token, "zone": others}
        tree = {"first": others, "modules": {"edgeHub": hub}, "last": others}
        text = yaml.safe_dump(
            tree, default_style=style, default_flow_style=flow, allow_unicode=True
        )
        loaded = yaml.safe_load(text)
        loaded["modules"]["edgeHub"]["token"] = ""
        self.assertEqual(yaml.safe_load(self.blank(text)), loaded)
