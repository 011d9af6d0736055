"""``/healthz``, ``/readyz``, ``/metrics`` and ``/debug`` on a local port."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.http import HTTPFactory, Request

from kubeedge_tx.observe.doors import Door, Guarded
from kubeedge_tx.observe.httpdoor import DoorChannel, HttpLimits, behind
from kubeedge_tx.observe.metrics import CONTENT_TYPE, Metrics

Nodes = tuple[str, ...]
"""Whom ``?node=NAME`` asks about."""

Page = tuple[Callable[[Nodes], tuple[int, str]], bytes]
"""What to answer, as status and text, and of which content type."""

_PLAIN = b"text/plain; charset=utf-8"
_JSON = b"application/json"


class _Request(Request):
    """Answered from a table: ``twisted.web.server`` would cost an edge two megabytes."""

    pages: Mapping[bytes, Page]

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep nothing of a body: there is no question that has one."""

    def process(self) -> None:
        channel: Any = self.channel
        channel.known()  # all who reach this port may ask
        text, content_type = self.pages.get(self.path, (_nothing_here, _PLAIN))
        if self.method not in (b"GET", b"HEAD"):
            text, content_type = _only_reads, _PLAIN
            self.setHeader(b"allow", b"GET, HEAD")
        args: Mapping[bytes, list[bytes]] = self.args or {}
        nodes = tuple(name.decode(errors="replace") for name in args.get(b"node", ()))
        code, body = text(nodes)
        encoded = body.encode()
        self.setResponseCode(code)
        self.setHeader(b"content-type", content_type)
        self.setHeader(b"content-length", b"%d" % len(encoded))
        if self.method != b"HEAD":
            self.write(encoded)
        self.finish()


class _Factory(HTTPFactory):
    """Answers without an access log, and so without its timer, which ticks every second."""

    noisy = False
    protocol = DoorChannel  # type: ignore[assignment]  # Twisted's own adds HTTP/2

    def __init__(
        self, pages: Mapping[bytes, Page], door: Door, limits: HttpLimits, reactor: Any
    ) -> None:
        super().__init__(reactor=reactor)
        self._pages = pages
        self._door = door
        self._limits = limits

    def startFactory(self) -> None:
        return

    def stopFactory(self) -> None:
        return

    def log(self, request: Request) -> None:
        return

    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = self._request
        return behind(self._door, self._limits, channel)

    def _request(self, channel: Any, queued: Any = None) -> Request:
        request = _Request(channel, queued)
        request.pages = self._pages
        return request


def _nothing_here(_: Nodes) -> tuple[int, str]:
    return 404, "there are /healthz, /readyz, /metrics and /debug\n"


def _only_reads(_: Nodes) -> tuple[int, str]:
    return 405, "this port is for reading\n"


class StatusServer:
    """Answers whoever watches this process.

    :param not_ready: why the process is not ready, or ``None`` when it is.
    :param door: limits of the port's connections.
    :param limits: times of its requests.
    :param state: what the process is in the middle of, for ``/debug``, with particulars of
        the nodes that it is given; never a secret.
    :param remark: what is wrong although the process does its work; empty if nothing is.
    """

    name = "status port"

    def __init__(
        self,
        reactor: Any,
        metrics: Metrics,
        not_ready: Callable[[], str | None],
        *,
        interface: str,
        port: int,
        door: Door,
        limits: HttpLimits,
        state: Callable[[Nodes], dict[str, Any]] = lambda nodes: {},
        remark: Callable[[], str] = lambda: "",
    ) -> None:
        self._endpoint = TCP4ServerEndpoint(reactor, port, interface=interface)
        pages: dict[bytes, Page] = {
            b"/healthz": (lambda _: (200, "ok\n"), _PLAIN),
            b"/readyz": (lambda _: _readiness(not_ready(), remark()), _PLAIN),
            b"/metrics": (lambda _: (200, metrics.text()), CONTENT_TYPE),
            b"/debug": (lambda nodes: (200, _dump(state(nodes))), _JSON),
        }
        self._site = Guarded(door, _Factory(pages, door, limits, reactor))
        self._listening: Any = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._listening.getHost().port
        return port

    def startService(self) -> Deferred[None]:
        """Listen.

        :raises twisted.internet.error.CannotListenError: the port is taken.
        """
        listening: Deferred[Any] = self._endpoint.listen(self._site)
        return listening.addCallback(self._listens)

    def stopService(self) -> Deferred[None] | None:
        """Stop listening."""
        stopped: Deferred[None] | None = self._listening and self._listening.stopListening()
        return stopped

    def _listens(self, port: Any) -> None:
        self._listening = port


def _dump(state: dict[str, Any]) -> str:
    return json.dumps(state, indent=2, default=str) + "\n"


def _readiness(why_not: str | None, remark: str) -> tuple[int, str]:
    if why_not is not None:
        return 503, f"not ready: {why_not}\n"
    return 200, f"ok, but {remark}\n" if remark else "ok\n"
