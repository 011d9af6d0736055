"""HTTP answers from bytes, by httptools. Source of the rules: RFC 9112."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole."""

    status: int
    retry_after: float | None
    """Seconds, if the server said so."""
    body: bytes


class Answers:
    """What httptools' parser tells, collected."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._retry_after: float | None = None
        self._has_length = False
        self.whole: list[Answer] = []
        self.parts: list[bytes] = []
        """Of the body that comes in now."""
        self.status = 0
        """Of the answer that comes in now; 0 before its head is there."""
        self.keep_alive = True
        """Whether the connection may be used again."""

    def feed(self, data: bytes) -> bool:
        """Take what was read.

        :param data: empty when the other end has closed.
        :returns: whether there may be more, or the end was where it should be.
        :raises httptools.HttpParserError: that is not HTTP.
        """
        if data:
            self._parser.feed_data(data)
            return True
        if self.status and not self._has_length:  # the end of the connection is its length
            self.keep_alive = False
            self._end()
            return True
        return False

    def on_message_begin(self) -> None:
        self.parts, self.status = [], 0
        self._retry_after, self._has_length = None, False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        elif name == b"retry-after" and value.isdigit():
            self._retry_after = float(value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0  # before that it is only a notice

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        if self.status:
            self.keep_alive = self._parser.should_keep_alive()
            self._end()

    def _end(self) -> None:
        self.whole.append(Answer(self.status, self._retry_after, b"".join(self.parts)))
        self.parts, self.status = [], 0
