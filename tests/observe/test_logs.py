from __future__ import annotations

import io
import json
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.observe.logs import MAX_TEXT, Levels, Output, observer


class StrangeTextTests(SynchronousTestCase):
    """What peers have written gets into the log, and looks like nothing else there."""

    def lines(self, form: str, **event: Any) -> list[str]:
        stream = io.StringIO()
        observe: Any = observer(Output(stream, form), Levels("info"))
        Logger(namespace="test", observer=observe).warn("{node} said {what}", **event)
        return stream.getvalue().splitlines()

    def test_no_line_is_forged(self) -> None:
        """Line ends and control characters of others do not begin a line of ours."""
        forged = "x\n2026-01-01T00:00:00 info security: all is well\r\x1b[2K\x00"
        first, second = self.lines("text", node="edge-1", what=forged)
        self.assertIn("warn", first)
        self.assertEqual(second, "    2026-01-01T00:00:00 info security: all is well??[2K?")
        (line,) = self.lines("json", node="edge-1", what=forged)
        self.assertEqual(json.loads(line)["what"], forged)

    def test_no_line_is_endless(self) -> None:
        """A resource of a megabyte is cut."""
        for form in ("text", "json"):
            (line,) = self.lines(form, node="edge-1", what="x" * 1_000_000)
            self.assertLess(len(line), 3 * MAX_TEXT)

    def test_what_people_write(self) -> None:
        """Other scripts stay as they are, and so do tracebacks."""
        (line,) = self.lines("text", node="Kühlhaus-北", what="…")
        self.assertIn("Kühlhaus-北 said …", line)
        stream = io.StringIO()
        observe: Any = observer(Output(stream, "text"), Levels("info"))
        try:
            raise ValueError("one\ntwo")
        except ValueError:
            Logger(namespace="test", observer=observe).failure("it broke", Failure())
        self.assertIn("\nTraceback (most recent call last):\n  File ", stream.getvalue())
