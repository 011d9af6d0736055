"""``/healthz``, ``/readyz`` and ``/metrics`` on a local port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from kubeedge_tx.observe.metrics import CONTENT_TYPE, Metrics


class _Text(Resource):
    isLeaf = True

    def __init__(self, text: Callable[[], tuple[int, str]], content_type: bytes) -> None:
        super().__init__()
        self._text = text
        self._content_type = content_type

    def render_GET(self, request: Request) -> bytes:
        code, text = self._text()
        request.setResponseCode(code)
        request.setHeader(b"content-type", self._content_type)
        return text.encode()


class StatusServer:
    """Answers whoever watches this process.

    :param not_ready: why the process is not ready, or ``None`` when it is.
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
    ) -> None:
        self._endpoint = TCP4ServerEndpoint(reactor, port, interface=interface)
        plain = b"text/plain; charset=utf-8"
        root = Resource()
        root.putChild(b"healthz", _Text(lambda: (200, "ok\n"), plain))
        root.putChild(b"readyz", _Text(lambda: _readiness(not_ready()), plain))
        root.putChild(b"metrics", _Text(lambda: (200, metrics.text()), CONTENT_TYPE))
        self._site = Site(root)
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


def _readiness(why_not: str | None) -> tuple[int, str]:
    return (200, "ok\n") if why_not is None else (503, f"not ready: {why_not}\n")
