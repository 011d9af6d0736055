"""One open connection to the API server, read and written by the reactor."""

from __future__ import annotations

from collections.abc import Sequence
from ssl import SSLWantReadError, SSLWantWriteError
from typing import Any, Final

import httptools
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from kubeedge_tx.kube.answers import Answers
from kubeedge_tx.kube.connection import READ_BYTES, NoAnswer, Request, Result

AT_ONCE_BYTES: Final = 16384
"""Requests written before the first answer is read: less than what buffers on the way hold, so
that the two ends never both wait for the other to read."""

_NOT_NOW: Final = (SSLWantReadError, SSLWantWriteError, BlockingIOError, InterruptedError)


@implementer(IReadWriteDescriptor)
class Line:
    """Do requests, several at once, in the reactor: no thread changes hands for each.

    :param reactor: with time and file descriptors.
    :param connection: urllib3's, connected; from now on ours.
    :param read_seconds: the longest silence while an answer is due.
    """

    def __init__(self, reactor: Any, connection: Any, *, read_seconds: float) -> None:
        self._reactor = reactor
        self._connection = connection
        self._sock = connection.sock
        self._read_seconds = read_seconds
        self._sock.settimeout(0.0)
        self._fileno: int = self._sock.fileno()
        self._out = b""
        self._answers = Answers()
        self._wanted = 0
        self._done: Deferred[list[Result]] | None = None
        self._heard = 0.0
        self._alarm: Any = None
        self.is_open = True
        reactor.addReader(self)

    def exchange(self, requests: Sequence[Request]) -> Deferred[list[Result]]:
        """Write the first of some requests, and read their answers.

        Small ones are written together, so that they share packets and records. One that must
        not be done twice is written alone: of those behind an answer that does not come it is
        not known whether they were done. Source: RFC 9112, sections 9.3 and 9.6.

        :returns: fires with results for the first of them. The rest is still to be done: they
            did not fit, or the server closed the connection without looking at them.
        """
        assert self._done is None, "one exchange at a time"
        requests = together(requests)
        done: Deferred[list[Result]] = Deferred()
        self._done = done
        self._wanted = len(requests)
        self._out += b"".join(request.data for request in requests)
        self._heard = self._reactor.seconds()
        self._alarm = self._reactor.callLater(self._read_seconds, self._too_quiet)
        self.doWrite()
        return done

    def close(self) -> None:
        """Close the connection; an exchange under way gets no answer."""
        self._lost("closed by ourselves")

    # For the reactor

    def fileno(self) -> int:
        return self._fileno

    def logPrefix(self) -> str:
        return "kube"

    def doRead(self) -> None:
        try:
            while self.is_open:
                if not self._answers.feed(self._sock.recv(READ_BYTES)):
                    self._lost("the server closed the connection")
                    return
                self._heard = self._reactor.seconds()
                if self._done is None:  # nothing was asked
                    self._lost("an answer that nobody waits for")
                elif len(self._answers.whole) >= self._wanted or not self._answers.keep_alive:
                    self._finish()
        except _NOT_NOW:
            return
        except (OSError, httptools.HttpParserError) as error:
            self._lost(str(error) or type(error).__name__)

    def doWrite(self) -> None:
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        except _NOT_NOW:
            self._reactor.addWriter(self)
            return
        except OSError as error:
            self._lost(str(error) or type(error).__name__)
            return
        self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        self._lost(reason.getErrorMessage())

    # Endings

    def _finish(self) -> None:
        answers, self._answers.whole = self._answers.whole, []
        surplus = len(answers) > self._wanted
        done, self._done = self._done, None
        self._alarm.cancel()
        if surplus or not self._answers.keep_alive:
            self._shut()
        assert done is not None
        done.callback([*answers[: self._wanted]])

    def _lost(self, why: str) -> None:
        if not self.is_open:
            return
        self._shut()
        done, self._done = self._done, None
        if done is None:
            return
        if self._alarm.active():
            self._alarm.cancel()
        answers = self._answers.whole[: self._wanted]
        missing = self._wanted - len(answers)
        done.callback([*answers, *[NoAnswer(why)] * missing])

    def _shut(self) -> None:
        self.is_open = False
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._connection.close()

    def _too_quiet(self) -> None:
        left = self._heard + self._read_seconds - self._reactor.seconds()
        if left > 0:
            self._alarm = self._reactor.callLater(left, self._too_quiet)
        else:
            self._lost(f"nothing came for {self._read_seconds:g} s")


def together(requests: Sequence[Request]) -> Sequence[Request]:
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
