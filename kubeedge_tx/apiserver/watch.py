"""Watches: a place in the event log, and a client that is sent what follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.web.http import Request
from zope.interface import implementer

from kubeedge_tx.apiserver import status
from kubeedge_tx.apiserver.answers import Renderer, encode
from kubeedge_tx.apiserver.meta import Object, replaced
from kubeedge_tx.apiserver.negotiation import TABLE, Format
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.selection import Selection
from kubeedge_tx.apiserver.shelf import ADDED, DELETED, Compacted, Event, Item
from kubeedge_tx.apiserver.store import ObjectStore
from kubeedge_tx.apiserver.verbs import served

BOOKMARK_SECONDS: Final = 60.0
"""How often a client that asked for bookmarks gets one."""
LAST_BOOKMARK_SECONDS: Final = 2.0
"""How long before the end of a watch the last bookmark comes."""
_BATCH: Final = 256
"""Events written at once; then the transport has its say."""

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"


class Lines:
    """Events of one watch as JSON lines, in the form the client asked for."""

    def __init__(
        self, info: KindInfo, selection: Selection, form: Format, include: str, renderer: Renderer
    ) -> None:
        self._info = info
        self._selection = selection
        self._form = form
        self._include = include
        self._renderer = renderer
        self._with_columns = True
        self._plain = form == Format() and info.storage_version in ("", info.version)

    def event(self, event: Event) -> bytes:
        """The line for an event; empty if this watch does not see it."""
        selection = self._selection
        if selection.is_everything:
            if selection.namespace and event.item.namespace != selection.namespace:
                return b""
            if self._plain:
                if not event.line:
                    event.line = _line(event.type, event.item.body)
                return event.line
            return self.line(event.type, event.item)
        had = event.old is not None and selection.matches(event.old)
        has = event.type != DELETED and selection.matches(event.item)
        if has:
            return self.line("MODIFIED" if had else ADDED, event.item)
        if not had:
            return b""
        if event.type == DELETED or event.old is None:
            return self.line(DELETED, event.item)
        # It left the selection: its last matching state, with the version that took it out.
        left = replaced(event.old.obj, resourceVersion=str(event.item.version))
        return self._line_of(DELETED, served(self._info, left))

    def line(self, kind: str, item: Item) -> bytes:
        """The line that shows one object."""
        if self._plain and item.body:
            return _line(kind, item.body)
        return self._line_of(kind, served(self._info, item.obj))

    def bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        """The line that says how far the client has come."""
        metadata: Object = {"resourceVersion": str(version)}
        if initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        kind, api_version = self._info.kind, self._info.api_version
        if self._form.shape:
            kind, api_version = self._form.shape, f"meta.k8s.io/{self._form.version}"
        return _line(
            "BOOKMARK",
            encode({"kind": kind, "apiVersion": api_version, "metadata": metadata}),
        )

    def _line_of(self, kind: str, obj: Object) -> bytes:
        if self._form.shape == TABLE:
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            table = self._renderer.table(self._info, [obj], metadata, self._form, self._include)
            if not self._with_columns:
                table = {**table, "columnDefinitions": None}
            self._with_columns = False
            return _line(kind, encode(table))
        form = Format(self._form.shape, self._form.version)
        return _line(kind, self._renderer.value(self._info, obj, form))


@implementer(IPushProducer)
class WatchStream:
    """One client's watch, from its first line to its end.

    It holds a position in the log, never a queue: a client that reads slowly costs nothing,
    and one that falls behind the log is told 410.

    :param initial: lines to send first: the objects there are.
    :param position: where in the log of the shelf to go on.
    :param timeout: seconds until the server ends the watch.
    :param ended: called once, when the watch is over for whatever reason.
    """

    def __init__(
        self,
        request: Request,
        clock: IReactorTime,
        store: ObjectStore,
        lines: Lines,
        resource: str,
        *,
        initial: list[bytes],
        position: int,
        timeout: float,
        bookmarks: bool,
        ended: Callable[[WatchStream], None],
    ) -> None:
        self._request = request
        self._clock = clock
        self._store = store
        self._lines = lines
        self._shelf = store.shelf(resource)
        self._initial = initial
        self._position = position
        self._ended = ended
        self._paused = False
        self._over = False
        self._unlisten = self._shelf.listen(self._published)
        self._timers: list[Any] = [clock.callLater(timeout, self.end)]
        if bookmarks:
            last = timeout - LAST_BOOKMARK_SECONDS
            if last > 0:
                self._timers.append(clock.callLater(last, self._bookmark))
            self._next_bookmark: Any = clock.callLater(BOOKMARK_SECONDS, self._bookmarks)
        else:
            self._next_bookmark = None
        request.notifyFinish().addBoth(self._closed)

    def start(self) -> None:
        """Send the headers, what there is, and then what comes."""
        self._request.registerProducer(self, True)
        self._request.write(b"")  # so that the client knows it is being served
        self._pump()

    def end(self) -> None:
        """Finish the response properly; the client will ask again."""
        if not self._over:
            self._stop()
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        """The client reads slower than we write."""
        self._paused = True

    def resumeProducing(self) -> None:
        """There is room again."""
        self._paused = False
        self._pump()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._paused = True

    def _published(self, _: list[Event]) -> None:
        self._pump()

    def _pump(self) -> None:
        while not self._paused and not self._over:
            if self._initial:
                batch, self._initial = self._initial[:_BATCH], self._initial[_BATCH:]
                self._request.write(b"".join(batch))
                continue
            try:
                events = self._shelf.since(self._position, _BATCH)
            except Compacted as compacted:
                error = too_old(self._position, compacted.oldest)
                self._request.write(error_line(error))
                self.end()
                return
            if not events:
                return
            self._position += len(events)
            data = b"".join([self._lines.event(event) for event in events])
            if data:
                self._request.write(data)

    def _bookmark(self) -> None:
        # Behind what is being published there is nothing the client has not been sent.
        if not self._paused and not self._initial and self._position == self._shelf.end:
            self._request.write(self._lines.bookmark(self._store.version))

    def _bookmarks(self) -> None:
        self._bookmark()
        self._next_bookmark = self._clock.callLater(BOOKMARK_SECONDS, self._bookmarks)

    def _closed(self, _: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._over:
            return
        self._over = True
        self._unlisten()
        for timer in (*self._timers, self._next_bookmark):
            if timer is not None and timer.active():
                timer.cancel()
        self._ended(self)


def too_old(version: int, oldest: int) -> status.ApiError:
    """410 for a watch from before the log begins."""
    return status.expired(f"too old resource version: {version} ({oldest})")


def error_line(error: status.ApiError) -> bytes:
    """The last line of a watch that cannot go on."""
    return _line("ERROR", encode(error.status()))


def _line(kind: str, body: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)
