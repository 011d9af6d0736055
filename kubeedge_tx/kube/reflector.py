"""What to ask the API server next so that a cache follows it: list, watch, wait, list again.

Pure: told what came back, it says what to do. Source of the rules: Kubernetes API concepts,
"Efficient detection of changes", and client-go ``tools/cache/reflector.go``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kubeedge_tx.api import meta

PAGE_SIZE: Final = 500
"""Objects per page of a list."""
GONE: Final = 410
"""HTTP status, also of an ERROR event: the version is too old to watch from."""
FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 30.0
"""Seconds between attempts that fail: doubling from the first to the longest, with jitter."""
SILENT_DELAY: Final = 5.0
"""The longest one while nobody answers: an attempt costs little, and edges wait for its end."""
PASSING: Final = frozenset({0, 401, 403, 429})
"""What says nothing about the version. An API server that has just started refuses everybody
until it has read its own roles."""
SHORT_WATCH: Final = 1.0
"""A watch that ends sooner, in seconds, and empty, counts as a failure."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """Ask for one page of a list."""

    limit: int
    continue_: str
    """Empty for the first page."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Watch from a version on."""

    resource_version: str
    timeout_seconds: int
    """How long the server should keep the stream open."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for a while, then ask :meth:`Reflector.next` again."""

    seconds: float


Step = ListPage | Watch | Wait


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    type: str
    """``ADDED``, ``MODIFIED`` or ``DELETED``."""
    object: dict[str, Any]


class Reflector:
    """Follow one kind. After every answer, :meth:`next` says what to ask for.

    :param random: uniform in [0, 1).
    """

    def __init__(self, *, random: Callable[[], float], page_size: int = PAGE_SIZE) -> None:
        self._random = random
        self._page_size = page_size
        self._version = ""  # empty: a list is due
        self._continue = ""
        self._pages: list[dict[str, Any]] = []
        self._failures = 0
        self._silent = False
        self._wait = 0.0
        self._progress = False

    def next(self) -> Step:
        """Decide what comes now."""
        if self._wait > 0:
            wait, self._wait = self._wait, 0.0
            return Wait(wait)
        if not self._version:
            return ListPage(self._page_size, self._continue)
        self._progress = False
        return Watch(self._version, 300 + int(300 * self._random()))

    def listed(self, page: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Take one page.

        :returns: every object, when this was the last page; ``None`` before.
        """
        self._pages += [item for item in page.get("items") or () if isinstance(item, dict)]
        about = meta.mapping(page, "metadata")
        self._continue = str(about.get("continue") or "")
        if self._continue:
            return None
        self._failures = 0
        # A server that gives no version cannot be watched from one: "0" means any state.
        self._version = str(about.get("resourceVersion") or "0")
        everything, self._pages = self._pages, []
        return everything

    def changed(self, line: bytes) -> Change | None:
        """Take one line of a watch.

        :returns: what it changes; ``None`` for a bookmark, or an error, after which the watch
            is of no more use and :meth:`next` knows better.
        """
        try:
            event = msgspec.json.decode(line)
            kind, found = event["type"], event["object"]
        except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
            self.failed(0)
            self._relist()  # what was in that line is lost, so the cache is no longer right
            return None
        if kind == "ERROR" or not isinstance(found, dict):
            code = found.get("code") if isinstance(found, dict) else 0
            self.failed(code if isinstance(code, int) else 0)
            return None
        if version := meta.resource_version(found):
            self._version = version
        self._progress = True
        self._failures = 0
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return None
        return Change(kind, found)

    @property
    def disrupted(self) -> bool:
        """Whether the watch under way should be left: a pause or a list is due."""
        return self._wait > 0 or not self._version

    def ended(self, lasted: float) -> None:
        """Note that a watch ended without an error, after so many seconds."""
        if lasted < SHORT_WATCH and not self._progress and not self.disrupted:
            self.failed(0)

    def failed(self, code: int, retry_after: float | None = None) -> None:
        """Note that a list or a watch failed.

        :param code: HTTP status; 0 when there was no answer.
        """
        if self._silent and code:  # it is back, which the pauses so far say nothing about
            self._failures = 0
        self._silent = not code
        if code == GONE:
            # An expired continue token or version. The first time that is nobody's fault.
            self._relist()
            if self._failures == 0:
                self._failures = 1
                return
        elif not (code in PASSING or code >= 500):
            self._relist()
        elif self._pages or self._continue:
            self._relist()  # pages of two different lists do not add up
        longest = LONGEST_DELAY if code else SILENT_DELAY
        delay = min(longest, FIRST_DELAY * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._wait = max(delay * (0.5 + self._random() / 2), retry_after or 0.0)

    def _relist(self) -> None:
        self._version = ""
        self._continue = ""
        self._pages = []
