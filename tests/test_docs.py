"""The documentation builds, and every page can be reached."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

DOCS = Path(__file__).parents[1] / "docs"


class DocsTests(SynchronousTestCase):
    def test_builds_without_warnings(self) -> None:
        """Sphinx has nothing to complain about: no dead link, no page outside the index."""
        out = Path(self.mktemp())
        done = subprocess.run(
            [
                *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"),
                *("-d", str(out / "doctrees"), str(DOCS), str(out / "html")),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        pages = {page.stem for page in DOCS.glob("*.rst")}
        self.assertEqual(pages - {page.stem for page in (out / "html").glob("*.html")}, set())


class TroubleshootingTests(SynchronousTestCase):
    def test_messages_exist(self) -> None:
        """What the page says that people read is what the code writes."""
        written = "\n".join(_texts())
        page = (DOCS / "troubleshooting.rst").read_text(encoding="utf-8")
        messages = re.findall(r"^``(.+?)``(?: .*)?\n    ", page, re.MULTILINE)
        self.assertGreater(len(messages), 25)
        for message in messages:
            for fragment in message.split("…"):
                self.assertIn(fragment.strip(), written, message)


def _texts() -> Iterator[str]:
    """Every text in the source; what is filled in later stands as a gap."""
    for file in sorted((DOCS.parent / "kubeedge_tx").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"\{[^{}]*\}", "\0", node.value)
