from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from kubeedge_tx.kube.watch import MOST, WatchThread

reactor: Any = global_reactor


class Response:
    """A body of so many lines, each cut in two."""

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self.read = 0
        self.is_closed = False

    def stream(self) -> Iterator[bytes]:
        for number in range(self.lines):
            self.read = number
            yield b"%d" % number
            yield b"!\n"

    def shutdown(self) -> None:
        raise AssertionError("nobody stops it")

    def close(self) -> None:
        self.is_closed = True


class WatchThreadTests(TestCase):
    """Lines go from the thread to the reactor: all, in order, no faster than they are taken."""

    timeout = 60

    def setUp(self) -> None:
        self.pool = ThreadPool(0, 1)
        self.pool.start()
        self.addCleanup(self.pool.stop)

    async def test_all_in_order(self) -> None:
        """Bursts are handed over together, and the end waits for the last of them."""
        response = Response(5000)
        taken: list[bytes] = []
        rounds = 0

        def feed(lines: list[bytes]) -> Deferred[None]:
            nonlocal rounds
            rounds += 1
            taken.extend(lines)
            return deferLater(reactor, 0, lambda: None)

        await WatchThread(reactor, self.pool).run(lambda: response, feed)
        self.assertEqual(taken, [b"%d!" % number for number in range(5000)])
        self.assertLess(rounds, 5000)
        self.assertTrue(response.is_closed)

    async def test_a_busy_reactor_slows_it_down(self) -> None:
        """What is not taken is not read, but for a limited number of lines."""
        response = Response(MOST * 10)
        busy: Deferred[None] = Deferred()
        first: Deferred[None] = Deferred()
        count = 0

        def feed(lines: list[bytes]) -> Deferred[None]:
            nonlocal count
            if not count:
                first.callback(None)
            count += len(lines)
            return busy if not busy.called else succeed(None)

        running = WatchThread(reactor, self.pool).run(lambda: response, feed)
        await first
        held = count
        while response.read < held + MOST:
            await deferLater(reactor, 0.001, lambda: None)
        self.assertEqual(count, held)
        self.assertLessEqual(response.read, held + MOST)
        busy.callback(None)
        await running
        self.assertEqual(count, MOST * 10)

    async def test_a_feed_that_fails(self) -> None:
        """The watch ends with its error, and the connection is closed."""
        response = Response(MOST * 10)

        def feed(lines: list[bytes]) -> Deferred[None]:
            raise ValueError("that is no event")

        with self.assertRaisesRegex(ValueError, "no event"):
            await WatchThread(reactor, self.pool).run(lambda: response, feed)
        self.assertTrue(response.is_closed)
