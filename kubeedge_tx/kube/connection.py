"""Connections to the API server, opened in a thread, and the answers that are read in one.

urllib3 opens them: TLS, proxies, client certificates. Its way of sending one request costs 0.3 ms
of processor time, more than all else that a confirmed message costs the cloud; so requests are
written as bytes, and httptools reads the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from socket import SHUT_RDWR
from typing import Any, Final

import httptools
from urllib3.exceptions import HTTPError

from kubeedge_tx.kube.answers import Answer, Answers

CONNECT_SECONDS: Final = 5.0
READ_BYTES: Final = 65536


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


Result = Answer | NotSent | NoAnswer


class Connections:
    """Connections to one server with one identity.

    :param pool: urllib3's for that server, also if a proxy is between.
    :param tunnel: whether the proxy is asked for a tunnel first.
    """

    def __init__(self, pool: Any, *, tunnel: bool) -> None:
        self._pool = pool
        self._tunnel = tunnel

    def connect(self, read_seconds: float) -> Any:
        """Open a connection; whoever asked closes it.

        :param read_seconds: the longest silence, for whoever reads it in a thread.
        :raises NotSent: the server was not reached.
        """
        connection = self._pool._new_conn()
        try:
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

    def open(self, request: Request, read_seconds: float) -> Stream:
        """Send a request and read the head of its answer.

        :raises NotSent: the server was not reached.
        :raises NoAnswer: the connection broke before the head was there.
        """
        stream = Stream(self.connect(read_seconds))
        try:
            stream.begin(request.data)
        except BaseException:
            stream.close()
            raise
        return stream


class Stream:
    """An answer whose body is read as it comes in."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sock = connection.sock
        self._parser = Answers()
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
