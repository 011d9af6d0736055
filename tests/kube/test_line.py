from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from kubeedge_tx.kube.answers import Answer
from kubeedge_tx.kube.connection import NoAnswer, Request, Result
from kubeedge_tx.kube.line import AT_ONCE_BYTES, Line, together

reactor: Any = global_reactor

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Connection:
    """What is left of urllib3's: a socket, and a way to close it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def close(self) -> None:
        self.sock.close()


class Timers:
    """The reactor's descriptors, and a clock that tests move."""

    def __init__(self) -> None:
        self.clock = Clock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.clock if name in ("callLater", "seconds") else reactor, name)


def ask(text: bytes = b"GET / HTTP/1.1\r\n\r\n", repeatable: bool = True) -> Request:
    return Request(text, repeatable)


class LineTests(TestCase):
    """Requests go out together; each gets its own answer, or is known to have none."""

    timeout = 30

    def setUp(self) -> None:
        ours, self.server = socket.socketpair()
        self.server.setblocking(False)
        self.timers = Timers()
        self.line = Line(self.timers, Connection(ours), read_seconds=30.0)
        self.addCleanup(self.server.close)
        self.addCleanup(self.line.close)

    def start(self, *requests: Request) -> Deferred[list[Result]]:
        return self.line.exchange(requests)

    def codes(self, results: Sequence[Result]) -> list[int]:
        return [each.status if isinstance(each, Answer) else 0 for each in results]

    async def test_several_at_once(self) -> None:
        """All requests are written before the first answer, and answers keep their order."""
        results = self.start(ask(b"one"), ask(b"two"))
        self.assertEqual(self.server.recv(100), b"onetwo")
        refusal = b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
        self.server.send(OK + refusal)
        first, second = await results
        assert isinstance(first, Answer)
        assert isinstance(second, Answer)
        self.assertEqual((first.status, first.body, first.retry_after), (200, b"{}", None))
        self.assertEqual((second.status, second.retry_after), (429, 7.0))
        again = self.start(ask())
        self.server.send(OK)
        self.assertEqual(self.codes(await again), [200])

    async def test_an_answer_in_pieces(self) -> None:
        """Bytes come as they come; chunks are put together."""
        results = self.start(ask())
        head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = head + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
        for position in range(len(whole)):
            self.server.send(whole[position : position + 1])
            await deferLater(reactor, 0)
        (answer,) = await results
        self.assertEqual(answer, Answer(201, None, b"{}"))

    async def test_broken_in_the_middle(self) -> None:
        """What was answered was; of the rest nobody knows, and the line is used no more."""
        results = self.start(ask(), ask(), ask())
        self.server.send(OK + b"HTTP/1.1 200 OK\r\nContent-Le")
        self.server.close()
        answers = await results
        self.assertEqual(self.codes(answers), [200, 0, 0])
        self.assertIsInstance(answers[1], NoAnswer)
        self.assertFalse(self.line.is_open)

    async def test_one_too_many_and_then_nonsense(self) -> None:
        """An answer that nobody asked for is not the next call's."""
        results = self.start(ask())
        self.server.send(OK + OK + b"nonsense\r\n\r\n")
        self.assertEqual(self.codes(await results), [200])
        self.assertFalse(self.line.is_open)

    async def test_the_server_wants_no_more(self) -> None:
        """After `Connection: close` the rest was not looked at: it is left to be done."""
        results = self.start(ask(), ask(), ask())
        self.server.send(OK)
        self.server.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.codes(await results), [200, 200])
        self.assertFalse(self.line.is_open)

    async def test_an_idle_line_that_is_closed(self) -> None:
        """It is noticed at once, not by the next call."""
        self.server.close()
        while self.line.is_open:
            await deferLater(reactor, 0)

    async def test_an_answer_to_nothing(self) -> None:
        """Whatever it means, the line is not to be trusted any more."""
        self.server.send(OK)
        while self.line.is_open:
            await deferLater(reactor, 0)

    async def test_a_silent_server(self) -> None:
        """Half a minute of silence is the end; a slow answer is not."""
        results = self.start(ask())
        self.timers.clock.advance(29)
        self.server.send(OK[:10])
        await deferLater(reactor, 0)
        await deferLater(reactor, 0)
        self.timers.clock.advance(29)
        self.assertNoResult(results)
        self.timers.clock.advance(2)
        (answer,) = self.successResultOf(results)
        self.assertIn("nothing came for 30 s", str(answer))

    async def test_no_http(self) -> None:
        """An answer that is none is an error of its own call, not of the process."""
        results = self.start(ask())
        self.server.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.assertEqual(self.codes(await results), [0])

    async def test_a_large_request(self) -> None:
        """What the kernel does not take at once is written as it takes it."""
        results = self.start(ask(b"x" * 3_000_000))
        got = 0
        while got < 3_000_000:
            try:
                got += len(self.server.recv(100_000))
            except BlockingIOError:
                await deferLater(reactor, 0)
        self.server.send(OK)
        self.assertEqual(self.codes(await results), [200])

    def test_what_goes_together(self) -> None:
        """Much does not, nor what must not be done twice."""
        once, large = ask(repeatable=False), ask(b"x" * AT_ONCE_BYTES)
        for requests, count in (
            ([ask(), ask(), ask()], 3),
            ([ask(), once, ask()], 1),
            ([once, ask()], 1),
            ([large, ask()], 1),
            ([ask(), large], 1),
        ):
            self.assertEqual(len(together(requests)), count)
