"""Files that are written by code are as the code would write them now."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig
from tests.generated import FILES, ROOT


def _paths(tree: Any, path: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        where = f"{path}.{key}".removeprefix(".")
        below = isinstance(value, dict) and value and key not in ("evictionHard", "featureGates")
        found += _paths(value, where) if below else [where]
    return found


class GeneratedTests(SynchronousTestCase):
    def test_up_to_date(self) -> None:
        """If this fails, run script/generate and commit what it writes."""
        for name, text in FILES.items():
            self.assertEqual((ROOT / name).read_text(), text(), name)

    def test_every_key_is_there(self) -> None:
        """The reference names every key that --defaultconfig prints, below its block."""
        text = FILES["docs/configuration.rst"]()
        for form in (CloudCoreConfig, EdgeCoreConfig):
            for path in _paths(msgspec.to_builtins(form())):
                block, _, key = path.rpartition(".")
                start = 0 if not block else text.index(f"\n``{block}``\n")
                self.assertIn(f"\n``{key}`` (", text[start:], path)
