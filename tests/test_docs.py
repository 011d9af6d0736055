"""The documentation builds, and every page can be reached."""

from __future__ import annotations

import subprocess
import sys
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
