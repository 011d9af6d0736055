"""Calls to the API server, from threads, as Deferreds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import ResourceType
from kubeedge_tx.errors import ConfigError, KubeError
from kubeedge_tx.kube import config
from kubeedge_tx.kube.access import Access
from kubeedge_tx.kube.caller import Call, Caller, Reply, read
from kubeedge_tx.kube.connection import NoAnswer, NotSent, Stream
from kubeedge_tx.kube.interfaces import JSON_PATCH, MERGE_PATCH, IKubeClient
from kubeedge_tx.kube.lanes import Lanes
from kubeedge_tx.kube.watch import Feed, WatchThread

RETRIES: Final = 3
PAGE_SIZE: Final = 500
STOP_SECONDS: Final = 8.0
"""How long a stop waits for calls under way."""
RELOAD_SECONDS: Final = 10.0
"""Credentials that the server refuses are read again at most this often."""

_encoder: Final = msgspec.json.Encoder()


@implementer(IKubeClient)
class KubeClient(Service):
    """The official package's connections and credentials, without its model classes.

    :param reactor: with threads and time.
    :param kubeconfig: ``None`` for the service account of the pod we run in.
    :param pool_size: calls under way at once.
    :param watches: watches expected at once; more of them get more threads.
    :param random: uniform in [0, 1), for the jitter between attempts.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        kubeconfig: Path | None,
        random: Callable[[], float],
        pool_size: int = 8,
        watches: int = 16,
    ) -> None:
        self._reactor = reactor
        self._random = random
        self._load = partial(config.load, kubeconfig)
        self._blocking = _pool(pool_size, "kube-connects")
        self._callers = [Caller(reactor, self._blocking, self._who) for _ in range(pool_size)]
        self._lanes: Lanes[Call, Reply] = Lanes(
            reactor, [caller.do for caller in self._callers], self._quiet
        )
        self._watching = _pool(watches, "kube-watches")
        self._watches = 0
        self._under_way = 0
        self._idle: Deferred[None] | None = None
        self._access: Access | None = None
        self._loaded_at = 0.0
        self.outcomes: dict[tuple[str, int], int] = {}
        """Attempts, by method and HTTP status; 0 without an answer. Watches aside."""

    def ca_pem(self) -> Deferred[str]:
        """Read the API server's CA: what edges hand to pods; empty if it is the system's."""
        return deferToThreadPool(self._reactor, self._blocking, self._who().authority)

    def startService(self) -> Deferred[None]:
        """Start the threads and read the credentials.

        :raises ConfigError: from the Deferred: there is no usable configuration.
        """
        super().startService()
        self._start_threads()
        return Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:
        """Wait a while for calls under way, then stop the threads."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        try:
            self._adopt(await deferToThreadPool(self._reactor, self._blocking, self._load))
        except BaseException:
            self._stop_threads()
            raise

    def _start_threads(self) -> None:
        self._blocking.start()
        self._watching.start()

    def _stop_threads(self) -> None:
        for pool in (self._blocking, self._watching):
            if pool.started:
                pool.stop()

    async def _stop(self) -> None:
        if self._is_busy:
            self._idle = Deferred()
            late = self._reactor.callLater(STOP_SECONDS, self._idle.cancel)
            await self._idle.addErrback(lambda _: None)
            if late.active():
                late.cancel()
        if self._is_busy:
            self._log.warn(
                "{calls} calls and {watches} watches of the API server did not end in time",
                calls=self._under_way,
                watches=self._watches,
            )
        else:  # joining a thread that hangs would hang the process
            self._stop_threads()
        for caller in self._callers:
            caller.close()

    # What the interface promises

    def get(
        self, kind: ResourceType, namespace: str, name: str, *, as_node: str = ""
    ) -> Deferred[dict[str, Any]]:
        return self._do("GET", kind.path(_quote(namespace), _quote(name)), as_node=as_node)

    def list(
        self,
        kind: ResourceType,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(self._list(kind, namespace, label_selector, field_selector))

    def create(
        self,
        kind: ResourceType,
        namespace: str,
        body: Any,
        *,
        name: str = "",
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        # Without a name of its own, a second POST makes a second object.
        named = bool(name) or (isinstance(body, Mapping) and bool(meta.name(body)))
        return self._do(
            "POST",
            kind.path(_quote(namespace), _quote(name), subresource),
            body=body,
            as_node=as_node,
            repeatable=named,
        )

    def update(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        *,
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        return self._do(
            "PUT",
            kind.path(_quote(namespace), _quote(name), subresource),
            body=body,
            as_node=as_node,
        )

    def patch(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        body: Any,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        return self._do(
            "PATCH",
            kind.path(_quote(namespace), _quote(name), subresource),
            body=body,
            content_type=content_type,
            as_node=as_node,
            repeatable=content_type != JSON_PATCH,
        )

    def delete(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        *,
        options: Any = None,
        as_node: str = "",
    ) -> Deferred[dict[str, Any]]:
        return self._do(
            "DELETE", kind.path(_quote(namespace), _quote(name)), body=options, as_node=as_node
        )

    # What informers need besides

    def list_page(
        self,
        kind: ResourceType,
        *,
        limit: int,
        continue_: str = "",
        label_selector: str = "",
        namespace: str = "",
        field_selector: str = "",
    ) -> Deferred[dict[str, Any]]:
        """Read one page of a list."""
        query = {"limit": str(limit), "continue": continue_}
        query |= {"labelSelector": label_selector, "fieldSelector": field_selector}
        return self._do("GET", kind.path(_quote(namespace)), query=query)

    def watch(
        self,
        kind: ResourceType,
        feed: Feed,
        *,
        resource_version: str,
        timeout_seconds: int,
        label_selector: str = "",
    ) -> tuple[Deferred[None], Callable[[], None]]:
        """Watch a kind.

        :param feed: gets the lines; see :class:`WatchThread`.
        :returns: what fires when the watch ended (or fails with KubeError), and a function
            that ends it.
        """
        call = self._call(
            "GET",
            kind.path(),
            {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": resource_version,
                "timeoutSeconds": str(timeout_seconds),
                "labelSelector": label_selector,
            },
        )
        self._watches += 1
        if self._watches > self._watching.max:
            self._watching.adjustPoolsize(maxthreads=self._watches)
        thread = WatchThread(self._reactor, self._watching)
        opener = partial(self._open, call, timeout_seconds + 15.0)
        return Deferred.fromCoroutine(self._watch(call, thread, opener, feed)), thread.stop

    async def _watch(
        self, call: Call, thread: WatchThread, opener: Callable[[], Any], feed: Feed
    ) -> None:
        try:
            await thread.run(opener, feed)
        except (NotSent, NoAnswer) as error:
            raise KubeError(f"watch {call.where}: {error}", code=0) from None
        except KubeError as error:
            if error.code == 401:
                await self._reload()
            raise
        finally:
            self._watches -= 1
            self._quiet()

    # In the reactor

    async def _list(
        self, kind: ResourceType, namespace: str, labels: str, fields: str
    ) -> dict[str, Any]:
        restarted = False
        whole: dict[str, Any] = {}
        items: list[Any] = []
        continue_ = ""
        while True:
            try:
                page = await self.list_page(
                    kind,
                    limit=PAGE_SIZE,
                    continue_=continue_,
                    namespace=namespace,
                    label_selector=labels,
                    field_selector=fields,
                )
            except KubeError as error:
                if error.code != 410 or restarted:
                    raise
                restarted, whole, items, continue_ = True, {}, [], ""
                continue
            whole = page
            items += page.get("items") or []
            continue_ = str(meta.mapping(page, "metadata").get("continue") or "")
            if not continue_:
                return {**whole, "items": items}

    def _do(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        as_node: str = "",
        repeatable: bool = True,
    ) -> Deferred[dict[str, Any]]:
        call = self._call(method, path, query or {}, body, content_type, as_node, repeatable)
        return Deferred.fromCoroutine(self._attempts(call))

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content_type: str = "application/json",
        as_node: str = "",
        repeatable: bool = True,
    ) -> Call:
        headers = ""
        if body is not None:
            headers = f"Content-Type: {content_type}\r\n"
            if not isinstance(body, bytes):
                body = _encoder.encode(body)
        if as_node:
            user = _quote(as_node)  # a node's name has nothing to quote; a line end would have
            headers += f"Impersonate-User: system:node:{user}\r\n"
            headers += "Impersonate-Group: system:nodes\r\n"
        if given := {name: value for name, value in query.items() if value}:
            path += "?" + urlencode(given)
        return Call(method, path, headers, body or b"", repeatable)

    async def _attempts(self, call: Call) -> dict[str, Any]:
        """Do a call, again if it is worth it and cannot do harm."""
        for attempt in range(RETRIES + 1):
            error, again = await self._attempt(call)
            if isinstance(error, dict):
                return error
            if not again or attempt == RETRIES:
                raise error
            delay = 0.5 * 2.0**attempt * (0.5 + self._random())
            # Those whom a busy server sent away together must not come back together.
            await deferLater(self._reactor, (error.retry_after or 0.0) + delay)
        raise AssertionError("unreachable")

    async def _attempt(self, call: Call) -> tuple[dict[str, Any] | KubeError, bool]:
        """Do a call once; returns the value, or the error and whether to try again."""
        what = f"{call.method} {call.where}"
        if not self.running or self._access is None:
            return KubeError(f"{what}: the client is not running", code=0), False
        self._under_way += 1
        status = 0
        try:
            reply = await self._lanes.submit(call)
            status = reply.answer.status
        except NotSent as error:
            return KubeError(f"{what}: API server not reached: {error}", code=0), True
        except NoAnswer as error:
            return KubeError(f"{what}: no answer: {error}", code=0), call.repeatable
        finally:
            outcome = call.method, status
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            self._under_way -= 1
            self._quiet()
        if status < 300:
            return (reply.value if isinstance(reply.value, dict) else {}), False
        if status == 401 and await self._reload():
            return _refusal(what, reply), True
        # 429 and 503 mean that nothing was done; of other failures we cannot be sure.
        again = status in (429, 503) or (status >= 500 and call.repeatable)
        return _refusal(what, reply), again

    async def _reload(self) -> bool:
        """Read the credentials again: tokens and certificates on disk get replaced."""
        now = self._reactor.seconds()
        if now - self._loaded_at < RELOAD_SECONDS:
            return False
        self._loaded_at = now
        try:
            self._adopt(await deferToThreadPool(self._reactor, self._blocking, self._load))
        except ConfigError as error:
            self._log.warn("cannot read credentials again: {error}", error=error)
            return False
        return True

    def _adopt(self, api: Any) -> None:
        self._access = Access(api)
        self._loaded_at = self._reactor.seconds()

    def _who(self) -> Access:
        assert self._access is not None, "not started"
        return self._access

    @property
    def _is_busy(self) -> bool:
        # A call that was given up goes on, perhaps in a thread that connects. To join that would
        # be to wait for what, with the embedded API, nobody can do meanwhile.
        return bool(self._under_way or self._watches or self._lanes.is_busy)

    def _quiet(self) -> None:
        if self._idle is not None and not self._is_busy:
            idle, self._idle = self._idle, None
            if not idle.called:
                idle.callback(None)

    # In threads

    def _open(self, call: Call, read_seconds: float) -> Stream:
        way = self._who().find()
        stream = way.connections.open(call.request(way), read_seconds)
        if stream.status >= 300:
            try:
                reply = read(stream.answer())
            finally:
                stream.close()
            raise _refusal(f"watch {call.where}", reply)
        return stream


def _quote(name: str) -> str:
    return quote(name, safe="")


def _pool(size: int, name: str) -> ThreadPool:
    pool = ThreadPool(0, size, name)
    # A thread that hangs in a system call must not keep the process alive.
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
    return pool


def _refusal(what: str, reply: Reply) -> KubeError:
    status = reply.value if isinstance(reply.value, dict) else None
    code, text, reason = reply.answer.status, "", ""
    if status is not None:
        text, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    return KubeError(
        f"{what}: {code} {text or reason}".rstrip(),
        code=code,
        reason=reason,
        status=status,
        retry_after=reply.answer.retry_after,
    )
