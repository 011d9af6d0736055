"""Writing DeviceStatus: what many reports say, in few calls of the API server.

One entry for each device gathers what is to be written. The first news is written at once,
what comes within the window after a write waits for its end, and what says nothing new is not
written at all. Reports are confirmed when what they say is in the cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kubeedge_tx.api import meta
from kubeedge_tx.api.devices import Key, Problem, device_id, node_name, properties
from kubeedge_tx.api.resources import DEVICES, DEVICESTATUSES, EVENTS
from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.beehive.workers import KeyedWorkers
from kubeedge_tx.cloud.devicecontroller.draft import Draft
from kubeedge_tx.cloud.devicecontroller.plans import Plan, Verb, make_plan
from kubeedge_tx.cloud.devicecontroller.plans import owner as owner_of
from kubeedge_tx.cloud.devicecontroller.reports import Seen, Verdict
from kubeedge_tx.cloud.devicecontroller.troubles import Troubles
from kubeedge_tx.errors import Displaced, KubeError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient
from kubeedge_tx.observe.metrics import Metrics

PARALLEL: Final = 16
"""Devices written at once."""
MAX_WAITERS: Final = 1024
"""Reports of one device that wait to be confirmed; of more the oldest are repeated by the edge."""
FIRST_RETRY: Final = 2.0
LAST_RETRY: Final = 15.0
"""Seconds until a failed write is tried again: doubling from the one to the other."""
_FINAL: Final = frozenset({400, 413, 422})
"""Answers of the API server that will not change when the same is sent again."""

_SPARES: Final = (Verb.NOTHING, Verb.EVENT)
"""Plans with which there is nothing new to write."""


class Sessions(Protocol):
    """Who speaks for a node: which of several cloud processes has its connection."""

    def of(self, node: str) -> Any:
        """Find a node's present session."""

    def verify(self, claim: Any) -> Awaitable[None]:
        """Look whether nobody else has the node since.

        :raises Displaced: somebody has.
        :raises KubeError: that cannot be seen.
        """


Confirm = Callable[[str, str, str], Awaitable[None]]
"""Answer a report: node, message id, what was wrong (empty: nothing)."""


@dataclass(slots=True)
class _Waiter:
    node: str
    wrong: str
    session: Any = None


@dataclass(slots=True)
class _Entry:
    """One device, by name; ``device`` is ``None`` once it is deleted."""

    key: Key
    device: dict[str, Any] | None = None
    draft: Draft = field(default_factory=Draft)
    waiters: dict[str, _Waiter] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    node: str = ""
    known: dict[str, Any] | None = None
    """Its DeviceStatus as a call returned it, which the informer may not have yet."""
    ours: str = "none"
    """The version of it that our own last write has made."""
    gone: str = ""
    """Uid of a DeviceStatus that is gone, which the informer may still have."""
    troubles: Troubles = field(default_factory=Troubles)
    writing: bool = False
    timer: IDelayedCall | None = None
    not_before: float = 0.0
    retry: float = FIRST_RETRY


class Statuses:
    """Keep every Device's DeviceStatus.

    :param devices: informer of devices; ``statuses`` of DeviceStatus.
    :param confirm: answers a report.
    :param sessions: asked before what another process has written is replaced.
    :param window: seconds between two writes about one device, >= 0.
    :param deadband: a reported number that differs by no more than this is not written.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: IKubeClient,
        *,
        devices: IInformer,
        statuses: IInformer,
        confirm: Confirm,
        sessions: Sessions,
        now_ms: Callable[[], int],
        window: float,
        deadband: float,
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._client = client
        self._devices = devices
        self._statuses = statuses
        self._confirm = confirm
        self._sessions = sessions
        self._now_ms = now_ms
        self.window = window
        self.deadband = deadband
        self._entries: dict[Key, _Entry] = {}
        self._workers = KeyedWorkers(PARALLEL)
        self._tasks = TaskSet()
        self._events = 0
        self._stopped = False
        self._writes = metrics.counter(
            "kubeedge_devicecontroller_writes_total",
            "Calls that wrote about devices, by what they were and what came of them.",
            ("verb", "outcome"),
        )
        self._spared = metrics.counter(
            "kubeedge_devicecontroller_spared_reports_total",
            "Reports that said nothing new and cost no call.",
        )
        metrics.gauge(
            "kubeedge_devicecontroller_unconfirmed_reports",
            "Reports that wait to be written.",
            read=lambda: float(sum(len(entry.waiters) for entry in self._entries.values())),
        )

    async def stop(self) -> None:
        """Write nothing more; what is not confirmed the edges repeat."""
        self._stopped = True
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
                entry.timer = None
        await self._workers.cancel_all()
        await self._tasks.cancel_all()

    # What happened

    def device_changed(self, device: dict[str, Any], problems: tuple[Problem, ...]) -> None:
        """Learn a Device, new or changed, and what is wrong with it."""
        entry = self._entry(meta.key(device))
        former, entry.device = entry.device, device
        if former is not None and meta.uid(former) != meta.uid(device):
            entry.draft = Draft()
            entry.seen.clear()
        if entry.node != node_name(device):
            entry.node = node_name(device)
            entry.seen.clear()
        entry.seen.keep(properties(device))
        entry.draft.then(Draft(of_the_spec=problems))
        self._go_on(entry)

    def device_deleted(self, device: dict[str, Any]) -> None:
        """Delete a Device's status after it."""
        entry = self._entry(meta.key(device))
        entry.device = None
        entry.draft = Draft()
        entry.troubles.clear()
        entry.seen.clear()
        for waiter in entry.waiters.values():
            waiter.wrong = "the device has been deleted"
        self._go_on(entry)

    def status_changed(self, status: dict[str, Any]) -> None:
        """See a DeviceStatus that somebody, perhaps ourselves, has written."""
        key = meta.key(status)
        owner = owner_of(status)
        device = self._devices.get(*key)
        if owner and (device is None or meta.uid(device) != owner):
            self._tasks.spawn(f"orphan {'/'.join(key)}", self._check_orphan(key, owner))

    def status_deleted(self, status: dict[str, Any]) -> None:
        """Make a new DeviceStatus if somebody has deleted it while the device is there."""
        entry = self._entries.get(meta.key(status))
        if entry is None:
            return
        if entry.known is not None and meta.uid(entry.known) == meta.uid(status):
            entry.known = None
        entry.gone = meta.uid(status)
        # Its device may be gone as well, which we hear of in a moment.
        entry.not_before = self._clock.seconds() + max(self.window, 1.0)
        self._go_on(entry)

    def seen(self, device: Mapping[str, Any]) -> Seen:
        """What was taken of a device so far."""
        entry = self._entry(meta.key(device))
        if entry.node != node_name(device):
            entry.node = node_name(device)
            entry.seen.clear()
        return entry.seen

    async def report(
        self, device: dict[str, Any], node: str, message_id: str, verdict: Verdict
    ) -> None:
        """Take a report in; it is confirmed once it is written, or says nothing new."""
        entry = self._entry(meta.key(device))
        if entry.device is None:
            entry.device = device
        idle = not entry.writing and not entry.waiters and entry.draft == Draft()
        entry.draft.then(verdict.draft)
        entry.waiters.pop(message_id, None)
        if len(entry.waiters) >= MAX_WAITERS:
            del entry.waiters[next(iter(entry.waiters))]
        session = self._sessions.of(node)
        entry.waiters[message_id] = _Waiter(node, verdict.answer(), session)
        if idle and self._plan(entry).verb in _SPARES:
            self._spared.inc()
            await self._settle(entry)
        else:
            self._go_on(entry)

    def _entry(self, key: Key) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(key)
        return entry

    # What to do

    def _current(self, entry: _Entry) -> dict[str, Any] | None:
        """The newest that is known of a device's status; ``None`` if there is none."""
        cached = self._statuses.get(*entry.key)
        if cached is not None and meta.uid(cached) == entry.gone:
            cached = None
        known = entry.known
        if cached is None or known is None:
            return known or cached
        newer = meta.is_newer(meta.resource_version(cached), meta.resource_version(known))
        return cached if newer else known

    def _plan(self, entry: _Entry) -> Plan:
        now = rfc3339(self._now_ms() / 1000)
        current = self._current(entry)
        plan = make_plan(entry.key, current, entry.device, entry.draft, now, self.deadband)
        if plan.verb is not Verb.NOTHING or entry.device is None:
            return plan
        entry.troubles.drop_solved(plan.new)
        due = entry.troubles.next_due()
        if due is None or due > self._clock.seconds():
            return plan
        self._events += 1
        body = entry.troubles.first().body(entry.device, self._now_ms(), self._events)
        return replace(plan, verb=Verb.EVENT, body=body)

    def _go_on(self, entry: _Entry) -> None:
        if entry.writing or self._stopped:
            return
        pause = entry.not_before - self._clock.seconds()
        if entry.timer is not None:
            if entry.timer.getTime() <= max(entry.not_before, self._clock.seconds()):
                return
            entry.timer.cancel()  # it was for an Event
            entry.timer = None
        if pause > 0:
            entry.timer = self._clock.callLater(pause, self._ring, entry)
            return
        entry.writing = True
        what = f"status of {'/'.join(entry.key)}"
        self._workers.submit(entry.key, partial(self._work, entry), what)

    def _ring(self, entry: _Entry) -> None:
        entry.timer = None
        self._go_on(entry)

    async def _work(self, entry: _Entry) -> None:
        again = True
        try:
            plan = self._plan(entry)
            if plan.verb in _SPARES:
                await self._settle(entry)
            if plan.verb is Verb.NOTHING:
                again = False
            else:
                entry.not_before = self._clock.seconds() + self.window
                await self._write(entry, plan)
        finally:
            entry.writing = False
        if again or entry.waiters or entry.draft != Draft():
            self._go_on(entry)
        elif (due := entry.troubles.next_due()) is not None and not self._stopped:
            pause = max(0.0, due - self._clock.seconds())
            entry.timer = self._clock.callLater(pause, self._ring, entry)
        elif entry.device is None and self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    async def _settle(self, entry: _Entry) -> None:
        """Nothing is left to write: confirm."""
        entry.draft = Draft()
        waiters, entry.waiters = entry.waiters, {}
        await self._answer(waiters)

    async def _answer(self, waiters: Mapping[str, _Waiter]) -> None:
        for message_id, waiter in waiters.items():
            await self._confirm(waiter.node, message_id, waiter.wrong)

    # Writing

    async def _write(self, entry: _Entry, plan: Plan) -> None:
        draft, waiters = Draft(), dict[str, _Waiter]()
        if plan.verb in (Verb.CREATE, Verb.PATCH):
            draft, entry.draft = entry.draft, draft
            waiters, entry.waiters = entry.waiters, waiters
        try:
            if waiters and meta.resource_version(self._current(entry) or {}) != entry.ours:
                await self._verify(waiters)
            result = await self._call(entry, plan)
        except CancelledError:
            raise
        except Displaced:
            return  # its edge says it again where it is now, on top of what is there
        except KubeError as error:
            self._writes.inc(plan.verb.value, "failed")
            if plan.verb is Verb.EVENT:
                self._log.warn(
                    "no Event about device {device}: {error}", device=_id(entry), error=error
                )
            elif waiters and error.code in _FINAL:
                text = f"refused by the cluster: {error.reason or error.code}"
                for waiter in waiters.values():
                    waiter.wrong = text
                self._back_off(entry, plan, error)
                await self._answer(waiters)
            else:
                draft.then(entry.draft)
                entry.draft = draft
                entry.waiters = {**waiters, **entry.waiters}
                await self._failed(entry, plan, error)
            return
        self._writes.inc(plan.verb.value, "done")
        entry.retry = FIRST_RETRY
        if plan.verb is Verb.DELETE:
            entry.known, entry.gone = None, plan.current
            if entry.device is None:
                await self._settle(entry)
        elif plan.verb is not Verb.EVENT:
            entry.known, entry.ours = result, meta.resource_version(result)
            entry.troubles.note(plan.old, plan.new, self._clock.seconds())
            await self._answer(waiters)

    async def _verify(self, waiters: Mapping[str, _Waiter]) -> None:
        """Look whether reports come from where their edges are."""
        sessions = {id(each.session): each.session for each in waiters.values()}
        for session in sessions.values():
            if session is not None:
                await self._sessions.verify(session)

    async def _call(self, entry: _Entry, plan: Plan) -> dict[str, Any]:
        namespace, name = entry.key
        if plan.verb is Verb.CREATE:
            return await self._client.create(DEVICESTATUSES, namespace, plan.body)
        if plan.verb is Verb.PATCH:
            return await self._client.patch(DEVICESTATUSES, namespace, name, plan.body)
        if plan.verb is Verb.EVENT:
            entry.troubles.take()
            return await self._client.create(EVENTS, namespace, plan.body)
        try:
            return await self._client.delete(DEVICESTATUSES, namespace, name, options=plan.body)
        except KubeError as error:
            if error.code != 404:
                raise
            return {}

    async def _failed(self, entry: _Entry, plan: Plan, error: KubeError) -> None:
        """Look again after a conflict; wait after anything else."""
        if error.code == 404 and plan.verb is Verb.PATCH:
            entry.known, entry.gone = None, plan.current
            return
        if error.code == 409:
            try:
                entry.known = await self._client.get(DEVICESTATUSES, *entry.key)
                entry.gone = ""
                return
            except KubeError as second:
                if second.code == 404:
                    entry.known, entry.gone = None, plan.current or entry.gone
                    return
                error = second
        self._back_off(entry, plan, error)

    def _back_off(self, entry: _Entry, plan: Plan, error: KubeError) -> None:
        self._log.warn(
            "cannot {verb} the status of device {device}, again in {seconds} s: {error}",
            verb=plan.verb.value,
            device=_id(entry),
            seconds=entry.retry,
            error=error,
        )
        entry.not_before = self._clock.seconds() + max(entry.retry, self.window)
        entry.retry = min(entry.retry * 2, LAST_RETRY)

    async def _check_orphan(self, key: Key, owner: str) -> None:
        """Delete a DeviceStatus whose device is gone, if the cluster says that it is."""
        try:
            device = await self._client.get(DEVICES, *key)
        except KubeError as error:
            if error.code != 404:
                self._log.warn(
                    "cannot tell whether device {device} is there: {error}",
                    device="/".join(key),
                    error=error,
                )
                return
        else:
            if meta.uid(device) == owner:
                return
        self._go_on(self._entry(key))


def _id(entry: _Entry) -> str:
    return device_id({"metadata": {"namespace": entry.key[0], "name": entry.key[1]}})
