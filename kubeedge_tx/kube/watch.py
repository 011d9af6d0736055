"""One watch response, read in one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Condition
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

MOST: Final = 256
"""Lines that may wait for the reactor before reading pauses."""

Feed = Callable[[list[bytes]], Deferred[None]]
"""Takes complete lines; gets no more until what it returns has fired."""


class Response(Protocol):
    """The slice of ``urllib3.HTTPResponse`` that a watch needs."""

    def stream(self) -> Iterator[bytes]:
        """Yield the body as it comes in."""

    def shutdown(self) -> None:
        """End a :meth:`stream` that another thread is reading."""

    def close(self) -> None:
        """Give the connection back or close it."""


class WatchThread:
    """Read one response until it ends, handing lines to the reactor.

    What comes while the reactor is busy is handed over at once, so that a burst of events costs
    few changes of thread; when much waits, reading pauses, so a slow reactor slows the watch
    down instead of piling events up in memory. A line that the end of the stream cut in half is
    dropped: its version was not seen, so the next watch brings it again.

    :param pool: has a thread for every watch; never the reactor's own pool, whose few threads
        also resolve host names.
    """

    def __init__(self, reactor: Any, pool: ThreadPool) -> None:
        self._reactor = reactor
        self._pool = pool
        self._response: Response | None = None
        self._stopping = False

    def run(self, opener: Callable[[], Response], feed: Feed) -> Deferred[None]:
        """Fires when the stream ends, by itself or by :meth:`stop`; fails if it broke."""
        return deferToThreadPool(self._reactor, self._pool, self._read, opener, feed)

    def stop(self) -> None:
        """End the read that is under way, from the reactor."""
        self._stopping = True
        if self._response is not None:
            self._response.shutdown()

    def _read(self, opener: Callable[[], Response], feed: Feed) -> None:
        if self._stopping:
            return
        try:
            response = self._response = opener()
            try:
                if self._stopping:  # stop() came before there was anything to shut down
                    return
                backlog = _Backlog(self._reactor, feed, lambda: self._stopping)
                tail = b""
                for chunk in response.stream():
                    *lines, tail = (tail + chunk).split(b"\n")
                    backlog.put([line for line in lines if line])
                backlog.drain()
            finally:
                response.close()
        except Exception:
            if not self._stopping:  # being shut down reads as a broken connection
                raise


class _Backlog:
    """Lines on their way from a thread to the reactor.

    :param stopped: whether nothing is to be handed over any more.
    """

    def __init__(self, reactor: Any, feed: Feed, stopped: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._feed = feed
        self._stopped = stopped
        self._changed = Condition()
        self._lines: list[bytes] = []
        self._feeding = False
        self._failure: Failure | None = None

    # In the thread

    def put(self, lines: list[bytes]) -> None:
        """Hand lines over; waits while there is no room.

        :raises Exception: what the feed failed with.
        """
        if not lines:
            return
        with self._changed:
            self._wait(lambda: len(self._lines) < MOST)
            self._lines += lines
            if not self._feeding:
                self._feeding = True
                self._reactor.callFromThread(self._hand_over)

    def drain(self) -> None:
        """Wait until all lines are taken.

        :raises Exception: what the feed failed with.
        """
        with self._changed:
            self._wait(lambda: not self._feeding)

    def _wait(self, until: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._failure is not None or until())
        if self._failure is not None:
            self._failure.raiseException()

    # In the reactor

    def _hand_over(self) -> None:
        with self._changed:
            lines, self._lines = self._lines, []
            if self._stopped() or not lines:
                self._feeding = False
                self._changed.notify()
                return
            self._changed.notify()
        maybeDeferred(self._feed, lines).addCallbacks(self._taken, self._failed)

    def _taken(self, _: None) -> None:
        self._reactor.callLater(0, self._hand_over)

    def _failed(self, failure: Failure) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify()
