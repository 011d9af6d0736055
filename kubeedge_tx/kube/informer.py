"""A cache of one kind, kept by list and watch, that tells listeners what changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import ResourceType
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IInformer
from kubeedge_tx.kube.reflector import Change, ListPage, Reflector, Wait, Watch
from kubeedge_tx.kube.watch import Feed

BATCH: Final = 64
"""Objects told to listeners before the reactor gets a turn."""
SILENCE: Final = 60.0
"""Seconds in which the same trouble is not logged again."""

Transform = Callable[[dict[str, Any]], dict[str, Any]]
Key = tuple[str, str]


class Source(Protocol):
    """What an informer needs of a KubeClient."""

    def list_page(
        self, kind: ResourceType, *, limit: int, continue_: str = "", label_selector: str = ""
    ) -> Deferred[dict[str, Any]]:
        """Read one page of a list."""

    def watch(
        self,
        kind: ResourceType,
        feed: Feed,
        *,
        resource_version: str,
        timeout_seconds: int,
        label_selector: str = "",
    ) -> tuple[Deferred[None], Callable[[], None]]:
        """Watch; returns what fires at its end, and a function that ends it."""


@implementer(IInformer)
class Informer(Service):
    """Follow one kind for as long as the service runs.

    The API server may be away at the start: it is tried again and again, and
    :meth:`when_synced` waits.

    :param client: a running KubeClient.
    :param clock: for the pauses between attempts.
    :param random: uniform in [0, 1), for their jitter.
    :param label_selector: restricts what is cached.
    :param transform: applied to each object before it is cached; may return another.
    :param keep_managed_fields: they make up half of an object and nobody here reads them.
    """

    _log = Logger()

    def __init__(
        self,
        client: Source,
        kind: ResourceType,
        *,
        clock: IReactorTime,
        random: Callable[[], float],
        label_selector: str = "",
        transform: Transform | None = None,
        keep_managed_fields: bool = False,
    ) -> None:
        self.kind = kind
        self.synced = False
        self.restarts = 0
        self.setName(f"informer-{kind.plural}")
        self._client = client
        self._clock = clock
        self._random = random
        self._selector = label_selector
        self._transform = transform
        self._keep_managed_fields = keep_managed_fields
        self._cache: dict[Key, dict[str, Any]] = {}
        self._listeners: list[Any] = []
        self._order = DeferredLock()  # a listener hears one thing at a time, all in one order
        self._tasks = TaskSet()
        self._waiting: list[Deferred[None]] = []
        self._end_watch: Callable[[], None] | None = None
        self._feeding: Deferred[None] | None = None
        self._ended: Deferred[None] | None = None
        self._trouble: int | None = None
        self._said_at = 0.0

    # The lister

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._cache.get((namespace, name))

    def __len__(self) -> int:
        """How many objects are in the cache."""
        return len(self._cache)

    def items(self) -> Iterable[dict[str, Any]]:
        return list(self._cache.values())

    def add_listener(self, listener: Any) -> None:
        self._tasks.spawn(f"introduction to {self.kind.plural}", self._introduce(listener))

    def when_synced(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        if self.synced:
            waiter.callback(None)
        else:
            self._waiting.append(waiter)
        return waiter

    # The service

    def startService(self) -> None:
        super().startService()
        self._tasks.spawn(f"following {self.kind.plural}", self._follow())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ended, feeding = self._ended, self._feeding
        if self._end_watch is not None:
            self._end_watch()
        if feeding is not None:
            feeding.cancel()  # its thread waits for it
        if ended is not None:
            await ended
        await self._tasks.cancel_all()
        for waiter in self._waiting:
            waiter.cancel()

    # Following

    async def _follow(self) -> None:
        reflector = Reflector(random=self._random)
        while self.running:
            step = reflector.next()
            try:
                if isinstance(step, Wait):
                    await deferLater(self._clock, step.seconds)
                elif isinstance(step, ListPage):
                    await self._list(reflector, step)
                else:
                    await self._watch(reflector, step)
            except KubeError as error:
                if not self.running:
                    return
                self._report(error)
                reflector.failed(error.code, error.retry_after)

    async def _list(self, reflector: Reflector, step: ListPage) -> None:
        page = await self._client.list_page(
            self.kind, limit=step.limit, continue_=step.continue_, label_selector=self._selector
        )
        self._trouble = None
        everything = reflector.listed(page)
        if everything is None:
            return
        await self._replace(everything)
        if not self.synced:
            self.synced = True
            self._log.info(
                "{plural}: {count} found", plural=self.kind.plural, count=len(everything)
            )
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)

    async def _watch(self, reflector: Reflector, step: Watch) -> None:
        began = self._clock.seconds()

        def feed(lines: list[bytes]) -> Deferred[None]:
            self._trouble = None
            self._feeding = Deferred.fromCoroutine(self._take(reflector, lines))
            return self._feeding

        ended, self._end_watch = self._client.watch(
            self.kind,
            feed,
            resource_version=step.resource_version,
            timeout_seconds=step.timeout_seconds,
            label_selector=self._selector,
        )
        self._ended = Deferred()
        self.restarts += 1
        try:
            await ended
        finally:
            self._end_watch = None
            self._feeding = None
            done, self._ended = self._ended, None
            done.callback(None)
        reflector.ended(self._clock.seconds() - began)

    async def _take(self, reflector: Reflector, lines: Sequence[bytes]) -> None:
        for line in lines:
            if reflector.disrupted:
                return
            change = reflector.changed(line)
            if change is not None:
                await self._apply(change)
            elif reflector.disrupted:
                self._log.info("{plural}: watch interrupted", plural=self.kind.plural)
                if self._end_watch is not None:
                    self._end_watch()

    def _report(self, error: KubeError) -> None:
        now = self._clock.seconds()
        if error.code == self._trouble and now - self._said_at < SILENCE:
            return
        self._trouble, self._said_at = error.code, now
        advice = ""
        if error.code == 401:
            advice = "; its credentials are not accepted: see kubeAPIConfig.kubeConfig"
        elif error.code == 403:
            advice = f"; grant it get, list and watch on {self.kind.plural}"
            advice += f" in API group {self.kind.group!r}" if self.kind.group else ""
        elif error.code == 404:
            advice = "; is its CustomResourceDefinition installed?"
        self._log.warn(
            "cannot follow {plural}: {error}{advice}; trying again",
            plural=self.kind.plural,
            error=error,
            advice=advice,
        )

    # The cache

    def _prepare(self, obj: dict[str, Any]) -> dict[str, Any]:
        if not self._keep_managed_fields:
            obj = meta.without_managed_fields(obj)
        if "kind" not in obj or "apiVersion" not in obj:  # items of a list have neither
            obj = {"kind": self.kind.kind, "apiVersion": self.kind.api_version, **obj}
        return self._transform(obj) if self._transform is not None else obj

    async def _replace(self, everything: Sequence[dict[str, Any]]) -> None:
        now = {meta.key(obj): obj for obj in map(self._prepare, everything)}
        await self._order.acquire()
        try:
            for key in [key for key in self._cache if key not in now]:
                await self._tell("deleted", self._cache.pop(key))
            for count, (key, obj) in enumerate(now.items()):
                if count % BATCH == 0:
                    await deferLater(self._clock, 0)
                await self._put(key, obj)
        finally:
            self._order.release()

    async def _apply(self, change: Change) -> None:
        obj = self._prepare(change.object)
        key = meta.key(obj)
        await self._order.acquire()
        try:
            if change.type != "DELETED":
                await self._put(key, obj)
            elif self._cache.pop(key, None) is not None:
                await self._tell("deleted", obj)
        finally:
            self._order.release()

    async def _put(self, key: Key, obj: dict[str, Any]) -> None:
        old = self._cache.get(key)
        self._cache[key] = obj
        if old is None:
            await self._tell("added", obj)
        elif meta.uid(old) != meta.uid(obj):  # deleted and made anew behind our back
            await self._tell("deleted", old)
            await self._tell("added", obj)
        elif meta.resource_version(old) != meta.resource_version(obj):
            await self._tell("modified", old, obj)

    async def _introduce(self, listener: Any) -> None:
        await self._order.acquire()
        try:
            self._listeners.append(listener)
            for count, obj in enumerate(list(self._cache.values())):
                if count % BATCH == BATCH - 1:
                    await deferLater(self._clock, 0)
                await self._say(listener, "added", obj)
        finally:
            self._order.release()

    async def _tell(self, what: str, *objects: dict[str, Any]) -> None:
        for listener in self._listeners:
            await self._say(listener, what, *objects)

    async def _say(self, listener: Any, what: str, *objects: dict[str, Any]) -> None:
        try:
            answer = getattr(listener, what)(*objects)
            if answer is not None:
                await answer
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - a listener's mistake must not end the watch
            self._log.failure(
                "a listener failed at {what} {kind} {key}",
                what=what,
                kind=self.kind.kind,
                key="/".join(meta.key(objects[-1])),
            )


class Informers(Service):
    """Several informers, started together.

    :param wait: whether the start waits until every first list is in.
    """

    def __init__(self, informers: Sequence[Informer], *, wait: bool = True) -> None:
        self._informers = informers
        self._wait = wait
        self.setName("informers")

    def startService(self) -> Deferred[None]:
        super().startService()
        for informer in self._informers:
            informer.startService()
        return self._gather([each.when_synced() for each in self._informers if self._wait])

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self._gather([each.stopService() for each in self._informers if each.running])

    def _gather(self, several: Sequence[Deferred[None]]) -> Deferred[None]:
        return gatherResults(several, consumeErrors=True).addCallback(lambda _: None)
