"""Calls of the API server: as bytes, over one connection after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from kubeedge_tx.kube.access import Access, Way
from kubeedge_tx.kube.answers import Answer
from kubeedge_tx.kube.connection import Connections, NotSent, Request, Result
from kubeedge_tx.kube.line import Line

READ_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of the API server, whoever asks and wherever it is."""

    method: str
    path: str
    """With the query, if there is one."""
    headers: str
    """Lines besides those that every request has."""
    body: bytes
    repeatable: bool
    """Whether doing it twice is the same as doing it once."""

    @property
    def where(self) -> str:
        """The path, for people."""
        return self.path.partition("?")[0]

    def request(self, way: Way) -> Request:
        """Write it down as bytes."""
        method, path, headers = (part.encode() for part in (self.method, self.path, self.headers))
        line = b"%b %b%b HTTP/1.1\r\n" % (method, way.prefix, path)
        length = b"Content-Length: %d\r\n\r\n" % len(self.body)
        return Request(b"".join((line, way.head, headers, length, self.body)), self.repeatable)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API server answered."""

    answer: Answer
    value: Any
    """What its body says, if it is JSON."""


def read(answer: Answer) -> Reply:
    """Look at an answer."""
    try:
        return Reply(answer, msgspec.json.decode(answer.body))
    except (msgspec.DecodeError, RecursionError):
        return Reply(answer, None)


class Caller:
    """Do calls, a few at a time, in order.

    :param pool: threads, for what blocks: to find the credentials and to open a connection.
    :param access: the credentials of now.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, access: Callable[[], Access]) -> None:
        self._reactor = reactor
        self._pool = pool
        self._access = access
        self._line: Line | None = None
        self._through: Connections | None = None
        """What the line is one of."""

    async def do(self, calls: Sequence[Call]) -> Sequence[Reply | Exception]:
        """Do all of them; gives for each the reply, or NotSent or NoAnswer."""
        results: list[Result] = []
        while len(results) < len(calls):
            rest = calls[len(results) :]
            try:
                way = await self._find_way()
                line = await self._find_line(way)
            except NotSent as error:
                results += [error] * len(rest)
            else:
                results += await line.exchange([call.request(way) for call in rest])
        return [read(each) if isinstance(each, Answer) else each for each in results]

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()

    async def _find_way(self) -> Way:
        access = self._access()
        way = access.known
        if way is None:
            way = await deferToThreadPool(self._reactor, self._pool, access.find)
        return way

    async def _find_line(self, way: Way) -> Line:
        line = self._line
        if line is not None and self._through is not way.connections:
            line.close()  # it was opened with credentials of before
        if line is None or not line.is_open:
            connect = way.connections.connect
            connection = await deferToThreadPool(self._reactor, self._pool, connect, READ_SECONDS)
            line = self._line = Line(self._reactor, connection, read_seconds=READ_SECONDS)
            self._through = way.connections
        return line
