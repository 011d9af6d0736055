"""One pod: look, plan, act, tell; until it is gone.

Serial and level-triggered: whatever happens only makes the worker look again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, get_args

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kubeedge_tx.api.partition import ON_PARTITION
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edged import podplan, podspec
from kubeedge_tx.edge.edged.backoff import Backoff
from kubeedge_tx.edge.edged.downward import Place
from kubeedge_tx.edge.edged.events import EventRecorder
from kubeedge_tx.edge.edged.objects import Objects
from kubeedge_tx.edge.edged.payload import MountError
from kubeedge_tx.edge.edged.podplan import StartFailure, StopContainer, Termination
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.prober import Prober
from kubeedge_tx.edge.edged.probing import Probing
from kubeedge_tx.edge.edged.relist import Relist
from kubeedge_tx.edge.edged.reporting import RETRY_SECONDS, StatusReporter, read_message
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.edge.edged.starting import Starter, StartError
from kubeedge_tx.edge.edged.status import Observed, Verdict, Waiting
from kubeedge_tx.edge.edged.volumes import PodVolumes
from kubeedge_tx.errors import ContainerError, KubeEdgeError
from kubeedge_tx.runtime.interfaces import IContainerRuntime, PodState

HOOKED_LEAST_GRACE: Final = 2.0
"""Seconds left for a container whose preStop hook used its grace up. Source: kubelet."""
LOG_MESSAGE_BYTES: Final = 2048
LOG_MESSAGE_LINES: Final = 80
"""What ``FallbackToLogsOnError`` takes from the log. Source: kubelet."""
DEADLINE: Final = Verdict(
    "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
)
"""Source: kubelet ``active_deadline.go``."""
PARTITIONED: Final = Verdict(
    "PartitionTimeout",
    f"The node was out of the cluster's reach for longer than annotation {ON_PARTITION} allows",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all workers share."""

    clock: IReactorTime
    wall_clock: Callable[[], float]
    runtime: IContainerRuntime
    relist: Relist
    objects: Objects
    volumes: PodVolumes
    prober: Prober
    events: EventRecorder
    settings: NodeSettings
    allocatable: Callable[[], dict[str, str]]


class PodWorker:
    """Make one pod be what its spec says, and report what it is.

    :param pod: as stored; its status, if it has one, is where times and counts go on from.
    :param finished: called once nothing of the pod is left, with this worker.
    """

    _log = Logger()

    def __init__(self, pod: Json, tools: Tools, finished: Callable[[PodWorker], None]) -> None:
        self.pod = pod
        self._tools = tools
        self._when_finished = finished
        self._tasks = TaskSet()
        self._jobs: dict[podplan.Job, Deferred[None]] = {}
        self._stops: dict[str, float] = {}  # container id: clock time at which it must be over
        self._state: PodState | None = None
        self._waiting: dict[str, Waiting] = {}
        self._failures: dict[str, StartFailure] = {}
        self._sandbox_failure: StartFailure | None = None
        self._former: frozenset[str] = frozenset()
        self._crashes = Backoff()
        self._pulls = Backoff()
        self._mounts = Backoff(0.5, 122.0)
        self._volumes_ready = False
        self._volumes_dirty = False
        # Of the reactor's clock: the wall clock of an edge may jump by years.
        self._volumes_retry_at = 0.0
        self._refresh_at: float | None = None
        self._messages: dict[str, str] = {}
        self._verdict: Verdict | None = None
        self._reporter = StatusReporter(pod, tools.objects, tools.clock, self._tasks, self._wake_in)
        self._starter = Starter(tools, self._pulls)
        self._probing = Probing(
            tools.clock, tools.wall_clock, tools.prober, tools.events, self.poke
        )
        self._poked = False
        self._resting = False
        self._sleeper: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self.termination: Termination | None = None
        self.is_finished = False

    @property
    def uid(self) -> str:
        """The pod's uid."""
        return podspec.uid(self.pod)

    @property
    def phase(self) -> str:
        """The phase last computed."""
        return str(self._reporter.status.get("phase") or "Pending")

    # -- what others tell it ---------------------------------------------------------

    def start(self) -> None:
        """Begin to work."""
        if podspec.is_deleted(self.pod):
            self.terminate("deleted")
        self._poked = True
        self._tasks.spawn(f"pod {podspec.key(self.pod)}", self._run())

    async def stop(self) -> None:
        """Let go of the pod; its containers stay as they are."""
        self._rest()
        await self._tasks.cancel_all()
        await self._probing.stop()

    def update(self, pod: Json) -> None:
        """Take a newer form of the same pod."""
        for shown in ("labels", "annotations"):  # by files of the downward API
            if podspec.metadata(pod).get(shown) != podspec.metadata(self.pod).get(shown):
                self._volumes_dirty = True
        for container, _ in podspec.all_containers(pod):
            former = podspec.find_container(self.pod, container["name"])
            if former is None or podspec.spec_hash(former) != podspec.spec_hash(container):
                self._failures.pop(container["name"], None)  # they were another one's
        self.pod = pod
        self._reporter.heard(pod)
        if podspec.is_deleted(pod):
            self.terminate("deleted")
        self.poke()

    def partitioned(self) -> None:
        """End the pod: its node has been out of the cluster's reach for longer than it may."""
        if self.termination is None and self.phase not in ("Succeeded", "Failed"):
            self._tools.events.normal(self.pod, PARTITIONED.reason, PARTITIONED.message)
            self.terminate("partition")

    def terminate(self, why: podplan.Ending) -> None:
        """End the pod. Later calls may make it sooner, or more final, never less."""
        rank = get_args(podplan.Ending)
        former = self.termination
        if former is not None and rank.index(former.why) > rank.index(why):
            why = former.why
        grace = max(podplan.LEAST_GRACE, podspec.grace_seconds(self.pod))
        since = self._tools.wall_clock()
        if former is not None:
            left = max(podplan.LEAST_GRACE, former.grace - (since - former.since))
            if left <= grace:
                grace, since = former.grace, former.since
        self.termination = Termination(why=why, grace=grace, since=since)
        self._probing.only_readiness()
        for (verb, _), job in list(self._jobs.items()):
            if verb in ("start", "volumes", "sandbox"):
                job.cancel()
        self.poke()

    def object_changed(self, kind: str, name: str) -> None:
        """Note that a ConfigMap (``configmap``) or Secret (``secret``) is new or different."""
        if (kind, name) in podspec.mounted_objects(self.pod):
            self._volumes_dirty = True
            self._volumes_retry_at = 0.0
            self._mounts.forget("")
        self._failures = {
            container: failure
            for container, failure in self._failures.items()
            if failure.reason != "CreateContainerConfigError"
        }
        self.poke()

    def poke(self) -> None:
        """Look again, soon."""
        if self._resting:
            return
        self._poked = True
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            self._tools.clock.callLater(0, _fire, sleeper)

    # -- the loop --------------------------------------------------------------------

    async def _run(self) -> None:
        while not self.is_finished:
            if not self._poked:
                self._sleeper = Deferred()
                await self._sleeper
            self._poked = False
            try:
                await self._look()
            except CancelledError:
                raise
            except KubeEdgeError as error:
                self._log.warn(
                    "{pod}: {error}; trying again in {seconds} s",
                    pod=podspec.key(self.pod),
                    error=str(error),
                    seconds=RETRY_SECONDS,
                )
                self._wake_in(RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - a pod nobody foresaw must still be ended one day
                self._log.failure("{pod} could not be seen to", pod=podspec.key(self.pod))
                self._wake_in(RETRY_SECONDS)

    def _rest(self) -> None:
        """Wake up no more."""
        self._resting = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _wake_in(self, seconds: float) -> None:
        if self._resting:
            return
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= self._tools.clock.seconds() + seconds:
                return
            self._timer.cancel()
        self._timer = self._tools.clock.callLater(max(0.0, seconds), self.poke)

    async def _look(self) -> None:
        states = await self._tools.relist.states()
        state = self._state = states.get(self.uid)
        now = self._tools.wall_clock()
        self._probing.follow(self.pod, state, self._reporter.status, self._ip())
        self._read_messages(state)
        made = podplan.plan(self.pod, state, self._view(now))
        self._waiting = made.waiting
        if made.deadline_exceeded:
            self._verdict = DEADLINE
            self._tools.events.normal(self.pod, DEADLINE.reason, DEADLINE.message)
            self.terminate("deadline")
            return
        over = made.ended and not any(verb == "logs" for verb, _ in self._jobs)
        if over and self.termination is not None and self.termination.why == "partition":
            self._verdict = PARTITIONED  # not before: another may start when it is said
        self._tell(state, now, ended=over)
        for action in made.actions:
            self._begin(action)
        self._refresh_volumes()
        if over and self.termination and self.termination.why not in podplan.VERDICTS:
            await self._finish()
        elif made.wake_at is not None:
            self._wake_in(made.wake_at - now)

    def _view(self, now: float) -> podplan.View:
        return podplan.View(
            now=now,
            busy=frozenset(self._jobs),
            volumes_ready=self._volumes_ready,
            volumes_retry_at=now + self._volumes_retry_at - self._tools.clock.seconds(),
            former=self._former,
            sandbox_failure=self._sandbox_failure,
            failures=self._failures,
            crashes=self._crashes,
            flags=self._probing.flags,
            unhealthy=self._probing.unhealthy,
            waiting=self._waiting,
            phase=self.phase,
            started_at=self._reporter.status.get("startTime"),
            termination=self.termination,
            keep_dead=self._tools.settings.dead_containers,
        )

    def _ip(self) -> str:
        if podspec.is_host_network(self.pod):
            return self._tools.settings.ip
        return self._state.ip if self._state is not None else ""

    def _place(self) -> Place:
        settings = self._tools.settings
        return Place(
            node=settings.name,
            host_ip=settings.ip,
            pod_ip=self._ip(),
            allocatable=self._tools.allocatable(),
        )

    def _tell(self, state: PodState | None, now: float, *, ended: bool) -> None:
        seen = Observed(
            state=state,
            runtime=self._tools.runtime.name,
            host_ip=self._tools.settings.ip,
            now=now,
            waiting=self._waiting,
            flags=self._probing.flags,
            messages=self._messages,
            ended=ended,
            verdict=self._verdict,
        )
        silent = self.termination is not None and self.termination.why == "removed"
        self._reporter.tell(self.pod, seen, silent=silent)

    def _read_messages(self, state: PodState | None) -> None:
        """Read the last words of what has ended since."""
        for ended in state.containers if state is not None else ():
            if ended.state != "exited" or ended.id in self._messages:
                continue
            container = podspec.find_container(self.pod, ended.name)
            if container is None:
                continue
            file = self._tools.volumes.message_file(self.pod, ended.name, ended.attempt)
            text = self._messages[ended.id] = read_message(file)
            fallback = container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
            if fallback and not text and ended.exit_code:
                self._spawn_job(("logs", ended.id), self._message_from_log(ended.id))

    async def _message_from_log(self, container_id: str) -> None:
        log: bytes = await self._tools.runtime.logs(container_id, tail=LOG_MESSAGE_LINES)
        self._messages[container_id] = log[-LOG_MESSAGE_BYTES:].decode("utf-8", "replace")

    # -- actions ---------------------------------------------------------------------

    def _begin(self, action: podplan.Action) -> None:
        if isinstance(action, StopContainer):
            self._begin_stop(action)
        elif isinstance(action, podplan.StartContainer):
            self._spawn_job(action.job, self._start_container(action))
        elif isinstance(action, podplan.PrepareVolumes):
            self._spawn_job(action.job, self._prepare_volumes())
        elif isinstance(action, podplan.RunSandbox):
            self._spawn_job(action.job, self._run_sandbox())
        else:
            self._spawn_job(action.job, self._remove_container(action.container_id))

    def _spawn_job(self, job: podplan.Job, work: Coroutine[Deferred[Any], Any, None]) -> None:
        running = self._jobs[job] = Deferred.fromCoroutine(work)
        self._tasks.spawn(f"{' '.join(job)} of {podspec.key(self.pod)}", self._watch(job, running))

    async def _watch(self, job: podplan.Job, running: Deferred[None]) -> None:
        pause = RETRY_SECONDS
        try:
            await running
            pause = 0.0
        except CancelledError:
            pause = 0.0  # the pod is to end, or the agent
        except KubeEdgeError as error:
            self._log.warn(
                "{pod}: {verb} failed: {error}",
                pod=podspec.key(self.pod),
                verb=job[0],
                error=str(error),
            )
        finally:
            if self._jobs.get(job) is running:
                del self._jobs[job]
            if pause:
                self._wake_in(pause)
            else:
                self.poke()

    async def _prepare_volumes(self) -> None:
        self._volumes_dirty = False
        try:
            prepared = await self._tools.volumes.prepare(self.pod, self._place())
        except MountError as error:
            self._tools.events.warning(self.pod, "FailedMount", str(error))
            now = self._tools.clock.seconds()
            self._volumes_retry_at = now + self._mounts.next("", now, now)
            self._volumes_dirty = True
            return
        self._mounts.forget("")
        self._volumes_ready = True
        self._volumes_retry_at = 0.0
        self._refresh_at = None
        if prepared.refresh_at is not None:
            left = prepared.refresh_at - self._tools.wall_clock()
            self._refresh_at = self._tools.clock.seconds() + left

    def _refresh_volumes(self) -> None:
        if not self._volumes_ready or self.termination is not None:
            return
        if self.phase in ("Succeeded", "Failed") or ("volumes", "") in self._jobs:
            return
        now = self._tools.clock.seconds()
        due = self._volumes_dirty or (self._refresh_at is not None and now >= self._refresh_at)
        if due and now >= self._volumes_retry_at:
            self._spawn_job(("volumes", ""), self._prepare_volumes())
        elif due:
            self._wake_in(self._volumes_retry_at - now)
        elif self._refresh_at is not None:
            self._wake_in(self._refresh_at - now)

    async def _run_sandbox(self) -> None:
        former = self._state.containers if self._state is not None else ()
        try:
            await self._starter.run_sandbox(self.pod)
        except ContainerError as error:
            self._tools.events.warning(
                self.pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}"
            )
            now = self._tools.wall_clock()
            delay = self._mounts.next("sandbox", now, now)
            self._sandbox_failure = StartFailure(
                reason=error.reason, message=str(error), at=now, retry_at=now + max(1.0, delay)
            )
            return
        self._sandbox_failure = None
        self._mounts.forget("sandbox")
        self._former = frozenset(each.id for each in former)

    async def _start_container(self, action: podplan.StartContainer) -> None:
        container = podspec.find_container(self.pod, action.name)
        assert container is not None
        now = self._tools.wall_clock()
        if action.after is not None:
            self._crashes.next(podplan.backoff_key(container), action.after, now)
        attempt = max(action.attempt, self._attempt_from_status(action.name))
        try:
            started = await self._starter.start(self.pod, container, attempt, self._place())
        except StartError as error:
            self._failures[action.name] = error.failure
            return
        self._failures.pop(action.name, None)
        post_start = (container.get("lifecycle") or {}).get("postStart")
        if post_start:
            await self._post_start(container, started, post_start)

    def _attempt_from_status(self, name: str) -> int:
        """Go on counting where a runtime that lost its containers cannot."""
        if any(each.name == name for each in (self._state.containers if self._state else ())):
            return 0
        for field in ("containerStatuses", "initContainerStatuses"):
            for each in self._reporter.status.get(field) or ():
                if each.get("name") == name:
                    return int(each.get("restartCount") or 0)
        return 0

    async def _post_start(self, container: Json, container_id: str, action: Json) -> None:
        timeout = podspec.grace_seconds(self.pod) + 3600.0  # Kubernetes sets no limit
        try:
            await self._tools.prober.hook(action, timeout, self._ip(), container, container_id)
        except ContainerError as error:
            name = container["name"]
            self._tools.events.warning(
                self.pod, "FailedPostStartHook", f"PostStartHook failed: {error}", name
            )
            self._tools.events.normal(self.pod, "Killing", "FailedPostStartHook", name)
            await self._tools.runtime.stop_container(
                container_id, max(podplan.LEAST_GRACE, podspec.grace_seconds(self.pod))
            )

    def _begin_stop(self, action: StopContainer) -> None:
        over_at = self._tools.clock.seconds() + action.grace
        under_way = self._jobs.get(action.job)
        if under_way is not None:
            if over_at >= self._stops.get(action.container_id, 0.0) - 1:
                return
            del self._jobs[action.job]  # there is less time now: no hook, a shorter grace
            under_way.cancel()
        self._stops[action.container_id] = over_at
        self._spawn_job(action.job, self._stop_container(action, hook=under_way is None))

    async def _stop_container(self, action: StopContainer, *, hook: bool) -> None:
        container = podspec.find_container(self.pod, action.name) or {"name": action.name}
        grace = action.grace
        pre_stop = (container.get("lifecycle") or {}).get("preStop")
        if hook:
            self._tools.events.normal(self.pod, "Killing", action.why, action.name)
        if hook and pre_stop:
            began = self._tools.clock.seconds()
            try:
                await self._tools.prober.hook(
                    pre_stop, grace, self._ip(), container, action.container_id
                )
            except ContainerError as error:
                self._tools.events.warning(
                    self.pod, "FailedPreStopHook", f"PreStopHook failed: {error}", action.name
                )
            grace = max(HOOKED_LEAST_GRACE, grace - (self._tools.clock.seconds() - began))
        await self._tools.runtime.stop_container(action.container_id, grace)
        self._stops.pop(action.container_id, None)

    async def _remove_container(self, container_id: str) -> None:
        await self._tools.runtime.remove_container(container_id)
        self._messages.pop(container_id, None)

    async def _finish(self) -> None:
        """Leave nothing behind, and say so: status first, then the folders, then the delete."""
        assert self.termination is not None
        why = self.termination.why
        if why != "removed":
            await self._reporter.send(self.pod)
        await self._probing.stop()
        await self._tools.runtime.remove_pod(self.uid)
        try:
            await self._tools.volumes.remove(self.uid)
        except OSError as error:
            self._log.warn(
                "volumes of {pod} were not all removed: {error}",
                pod=podspec.key(self.pod),
                error=str(error),
            )
        if why != "removed" and self.termination.why != "removed":
            await self._tools.objects.delete_pod(self.pod)
        self.is_finished = True
        self._rest()
        self._when_finished(self)


def _fire(sleeper: Deferred[None]) -> None:
    if not sleeper.called:
        sleeper.callback(None)
