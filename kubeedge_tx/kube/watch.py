"""One watch response, read in one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.python.threadpool import ThreadPool

Feed = Callable[[list[bytes]], Deferred[None]]
"""Takes complete lines; the thread waits until what it returns has fired."""


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

    The thread waits while the feed's Deferred is open, so a slow reactor slows the watch down
    instead of piling events up in memory. A line that the end of the stream cut in half is
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
                tail = b""
                for chunk in response.stream():
                    *lines, tail = (tail + chunk).split(b"\n")
                    lines = [line for line in lines if line]
                    if lines and not self._stopping:
                        blockingCallFromThread(self._reactor, feed, lines)  # type: ignore[arg-type]
            finally:
                response.close()
        except Exception:
            if not self._stopping:  # being shut down reads as a broken connection
                raise
