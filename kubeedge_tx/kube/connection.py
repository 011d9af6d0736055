"""Bytes to the API server and back, in a thread.

urllib3 opens, checks and keeps the connections: TLS, proxies, client certificates. Its way of
sending one request costs 0.3 ms of processor time, more than all else that a confirmed message
costs the cloud; so requests are written as bytes, small ones several at once, and httptools reads
the answers. Source of the rules: RFC 9112, sections 9.3 (pipelining) and 9.6 (closing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from socket import SHUT_RDWR
from typing import Any, Final

import httptools
from urllib3.exceptions import HTTPError

CONNECT_SECONDS: Final = 5.0
READ_BYTES: Final = 65536
AT_ONCE_BYTES: Final = 16384
"""Requests written before the first answer is read: less than what buffers on the way hold, so
that the two ends never both wait for the other to read."""


class NotSent(Exception):
    """The request did not reach the server."""


class NoAnswer(Exception):
    """The request may have reached the server; what came of it is not known."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be written."""

    data: bytes
    """Head and body."""
    repeatable: bool
    """Whether doing it twice is the same as doing it once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole."""

    status: int
    retry_after: float | None
    """Seconds, if the server said so."""
    body: bytes


Result = Answer | NotSent | NoAnswer


class Connections:
    """Connections to one server with one identity.

    :param pool: urllib3's for that server, also if a proxy is between.
    :param tunnel: whether the proxy is asked for a tunnel first.
    """

    def __init__(self, pool: Any, *, tunnel: bool) -> None:
        self._pool = pool
        self._tunnel = tunnel

    def exchange(self, requests: Sequence[Request], read_seconds: float) -> list[Result]:
        """Do several requests, in order, over one connection if it lasts.

        Small ones are written together, so that they share packets, records and turns of
        threads. One that must not be done twice is written alone: of those behind an answer
        that does not come it is not known whether they were done.

        :param read_seconds: the longest silence.
        :returns: for each what came of it.
        """
        results: list[Result] = []
        while len(results) < len(requests):
            results += self._some(_together(requests[len(results) :]), read_seconds)
        return results

    def open(self, request: Request, read_seconds: float) -> Stream:
        """Send a request and read the head of its answer.

        :raises NotSent: the server was not reached.
        :raises NoAnswer: the connection broke before the head was there.
        """
        stream = Stream(self._connect(read_seconds))
        try:
            stream.begin(request.data)
        except BaseException:
            stream.close()
            raise
        return stream

    def _connect(self, read_seconds: float) -> Any:
        """Take a connection that is open.

        :raises NotSent: there is none to be had.
        """
        connection = self._pool._get_conn()
        try:
            if connection.is_closed:
                connection.timeout = CONNECT_SECONDS
                if self._tunnel:
                    self._pool._prepare_proxy(connection)
                else:
                    connection.connect()
            connection.sock.settimeout(read_seconds)
        except (OSError, HTTPError, HTTPException) as error:
            connection.close()
            raise NotSent(str(error) or type(error).__name__) from None
        return connection

    def _some(self, requests: Sequence[Request], read_seconds: float) -> list[Result]:
        """Do at least the first of them.

        :returns: results for the first of them. The rest is still to be done: the server closed
            the connection and has not looked at them.
        """
        try:
            connection = self._connect(read_seconds)
        except NotSent as error:
            return [error] * len(requests)
        parser = _Answers()
        try:
            sock = connection.sock
            sock.sendall(b"".join(request.data for request in requests))
            while len(parser.whole) < len(requests) and parser.keep_alive:
                if not parser.feed(sock.recv(READ_BYTES)):
                    raise ConnectionError("the server closed the connection")
        except (OSError, httptools.HttpParserError) as error:
            connection.close()
            broken = NoAnswer(str(error) or type(error).__name__)
            return [*parser.whole, *[broken] * (len(requests) - len(parser.whole))]
        except BaseException:
            connection.close()
            raise
        if not parser.keep_alive or len(parser.whole) > len(requests):
            connection.close()
        self._pool._put_conn(connection)
        return [*parser.whole[: len(requests)]]


class Stream:
    """An answer whose body is read as it comes in."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sock = connection.sock
        self._parser = _Answers()
        self.status = 0

    def begin(self, request: bytes) -> None:
        """Write the request, read until the status is known.

        :raises NoAnswer: the connection broke.
        """
        try:
            self._sock.sendall(request)
        except OSError as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        while not (self._parser.status or self._parser.whole):
            self._read()
        self.status = self._parser.whole[0].status if self._parser.whole else self._parser.status

    def stream(self) -> Iterator[bytes]:
        """Yield the body as it comes in.

        :raises NoAnswer: it broke before its end.
        """
        while True:
            if self._parser.parts:
                parts, self._parser.parts = self._parser.parts, []
                yield b"".join(parts)
            if self._parser.whole:
                if body := self._parser.whole.pop().body:
                    yield body
                return
            self._read()

    def answer(self) -> Answer:
        """Read the answer to its end.

        :raises NoAnswer: it broke before.
        """
        while not self._parser.whole:
            self._read()
        return self._parser.whole[0]

    def shutdown(self) -> None:
        """End a :meth:`stream` that another thread is reading."""
        try:
            self._sock.shutdown(SHUT_RDWR)
        except OSError:  # it has ended by itself
            return

    def close(self) -> None:
        """Close the connection: a watch leaves nothing that could be used again."""
        self._connection.close()

    def _read(self) -> None:
        try:
            if not self._parser.feed(self._sock.recv(READ_BYTES)):
                raise NoAnswer("the server closed the connection")
        except (OSError, httptools.HttpParserError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from None


def _together(requests: Sequence[Request]) -> Sequence[Request]:
    """Choose how many of the first requests may be under way together."""
    size = count = 0
    for request in requests:
        size += len(request.data)
        if count and (size > AT_ONCE_BYTES or not request.repeatable):
            break
        count += 1
        if not request.repeatable:
            break
    return requests[:count]


class _Answers:
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
