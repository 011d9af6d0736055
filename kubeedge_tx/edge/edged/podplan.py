"""What to do next for one pod: from what is wanted and what there is, to a list of actions.

Level-triggered: the plan is made anew from the whole state each time, so it does not matter
which event was missed. Source of the rules: ``k8s.io/kubernetes/pkg/kubelet/kuberuntime``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from kubeedge_tx.api.timestamps import seconds_since_1970
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.backoff import Backoff, spelled
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.status import ProbeFlags, Waiting, newest
from kubeedge_tx.runtime.interfaces import ContainerState, PodState

SHOW_ERROR_SECONDS: Final = 5.0
"""How long ``ErrImagePull`` stands before it turns into ``ImagePullBackOff``."""
LEAST_GRACE: Final = 1.0
"""Seconds every container gets at least. Source: kubelet ``calculateEffectiveGracePeriod``."""

Job = tuple[str, str]
"""A verb and what it is done to; a worker does each at most once at a time."""


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    """Make the pod's volumes, or bring them up to date."""

    @property
    def job(self) -> Job:
        return "volumes", ""


@dataclass(frozen=True, slots=True)
class RunSandbox:
    """Create what the containers share."""

    @property
    def job(self) -> Job:
        return "sandbox", ""


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Pull the image if need be, create and start a container."""

    name: str
    attempt: int
    after: float | None = None
    """When the former attempt ended, wall clock; ``None`` for a first start."""

    @property
    def job(self) -> Job:
        return "start", self.name


@dataclass(frozen=True, slots=True)
class StopContainer:
    """Stop a running container."""

    container_id: str
    name: str
    grace: float
    why: str
    """Text of the event."""

    @property
    def job(self) -> Job:
        return "stop", self.container_id


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Remove an ended container."""

    container_id: str

    @property
    def job(self) -> Job:
        return "remove", self.container_id


Action = PrepareVolumes | RunSandbox | StartContainer | StopContainer | RemoveContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailure:
    """Why a container, or the sandbox, could not be started."""

    reason: str
    message: str
    at: float
    retry_at: float
    image: str = ""
    """The image, if it was the pull that failed."""

    def holds(self, now: float) -> bool:
        """Tell whether it is too early to try again; a clock that was set back is no reason."""
        return self.at <= now < self.retry_at


Ending = Literal["deadline", "partition", "deleted", "removed"]
"""Ran longer than it may; out of the cluster's reach for longer than it may; deleted by its author;
gone from the cluster. Each is more final than those before it."""

VERDICTS: Final = ("deadline", "partition")
"""Endings after which the pod stays, as a failed one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """The pod is to end."""

    why: Ending
    grace: float
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a worker knows besides the pod and the runtime's state. Times: wall clock."""

    now: float
    busy: frozenset[Job] = frozenset()
    volumes_ready: bool = False
    volumes_retry_at: float = 0.0
    former: frozenset[str] = frozenset()
    """Ids of containers that belong to a former sandbox."""
    sandbox_failure: StartFailure | None = None
    failures: Mapping[str, StartFailure] = field(default_factory=dict)
    """By container name."""
    crashes: Backoff = field(default_factory=Backoff)
    flags: Mapping[str, ProbeFlags] = field(default_factory=dict)
    unhealthy: Mapping[str, tuple[str, float | None]] = field(default_factory=dict)
    """By container id: why it must be stopped, and the grace its probe asks for."""
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    """What the former plan said; holds while a start is under way."""
    phase: str = "Pending"
    """The phase last reported."""
    started_at: str | None = None
    """``startTime`` last reported."""
    termination: Termination | None = None
    keep_dead: int = 1


@dataclass(slots=True)
class Plan:
    """What to do, what to say, when to look again."""

    actions: list[Action] = field(default_factory=list)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    wake_at: float | None = None
    deadline_exceeded: bool = False
    ended: bool = False
    """Nothing runs, nothing will be started, nothing is under way."""

    def wake(self, at: float) -> None:
        """Look again at ``at``, or sooner."""
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def plan(pod: Json, state: PodState | None, view: View) -> Plan:
    """Decide what to do next."""
    made = Plan()
    if view.termination is not None:
        _terminate(pod, state, view, view.termination, made)
    elif view.phase in ("Succeeded", "Failed"):
        _wind_up(state, view, made)
    elif _deadline_passed(pod, view, made):
        made.deadline_exceeded = True
    else:
        _go_on(pod, state, view, made)
        _remove_dead(pod, state, view, made)
    made.actions = [
        action
        for action in made.actions
        if isinstance(action, StopContainer) or action.job not in view.busy
    ]
    return made


def backoff_key(container: Json) -> str:
    """Give the key of a container's restarts: a changed container starts over."""
    return f"{container['name']}/{podspec.spec_hash(container)}"


# The end ----------------------------------------------------------------------------------


def _running(state: PodState | None) -> list[ContainerState]:
    return [each for each in state.containers if each.state == "running"] if state else []


def _stop(running: ContainerState, grace: float) -> StopContainer:
    return StopContainer(running.id, running.name, grace, f"Stopping container {running.name}")


def _terminate(
    pod: Json, state: PodState | None, view: View, termination: Termination, made: Plan
) -> None:
    running = _running(state)
    sidecars = {c["name"] for c in podspec.init_containers(pod) if podspec.is_sidecar(c)}
    order = [c["name"] for c in podspec.init_containers(pod)]
    first = [each for each in running if each.name not in sidecars]
    if not first and running:  # sidecars go last, in reverse order of their start
        last = max(running, key=lambda each: order.index(each.name))
        first = [last]
    left = termination.grace - max(0.0, view.now - termination.since)
    for each in first:
        is_late = each.name in sidecars
        grace = max(LEAST_GRACE, left if is_late else termination.grace)
        made.actions.append(_stop(each, grace))
    made.ended = not running and not view.busy


def _wind_up(state: PodState | None, view: View, made: Plan) -> None:
    for each in _running(state):
        made.actions.append(_stop(each, LEAST_GRACE))
    made.ended = not made.actions and not view.busy


def _deadline_passed(pod: Json, view: View, made: Plan) -> bool:
    allowed = podspec.spec(pod).get("activeDeadlineSeconds")
    since = seconds_since_1970(view.started_at)
    if allowed is None or since is None:
        return False
    if view.now >= since + float(allowed):
        return True
    made.wake(since + float(allowed))
    return False


def _remove_dead(pod: Json, state: PodState | None, view: View, made: Plan) -> None:
    for container, _ in podspec.all_containers(pod):
        dead = [
            each for each in newest(state, container["name"])[1:] if each.state != "running"
        ]  # the newest is the one the status speaks of; one more is its last state
        for each in dead[max(1, view.keep_dead) :]:
            made.actions.append(RemoveContainer(each.id))


# Going on ---------------------------------------------------------------------------------


def _go_on(pod: Json, state: PodState | None, view: View, made: Plan) -> None:
    if not view.volumes_ready:
        if view.now < view.volumes_retry_at:
            made.wake(view.volumes_retry_at)
        else:
            made.actions.append(PrepareVolumes())
        return
    if state is None or not state.sandbox_ready:
        _new_sandbox(pod, state, view, made)
        return
    if not _anything_to_run(pod, state):
        for each in _running(state):  # sidecars end with the main containers
            made.actions.append(_stop(each, max(LEAST_GRACE, podspec.grace_seconds(pod))))
    elif _initialize(pod, state, view, made):
        for container in podspec.containers(pod):
            _keep_up(pod, container, state, view, made)


def _new_sandbox(pod: Json, state: PodState | None, view: View, made: Plan) -> None:
    if not _anything_to_run(pod, state):
        return
    for each in _running(state):
        made.actions.append(
            StopContainer(
                each.id,
                each.name,
                podspec.grace_seconds(pod),
                "Pod sandbox changed, it will be killed and re-created.",
            )
        )
    if made.actions:
        return
    failure = view.sandbox_failure
    if failure is not None and failure.holds(view.now):
        made.wake(failure.retry_at)
    else:
        made.actions.append(RunSandbox())


def _anything_to_run(pod: Json, state: PodState | None) -> bool:
    """Tell whether a main container runs, or is to be started."""
    for container in podspec.containers(pod):
        attempts = newest(state, container["name"])
        if not attempts or attempts[0].state != "exited":
            return True
        if podspec.should_restart(pod, _exit_code(attempts[0])):
            return True
    return False


def _initialize(pod: Json, state: PodState, view: View, made: Plan) -> bool:
    """Bring the init containers on; ``True`` once the main ones may start."""
    was_initialized = any(
        _current(state, container["name"], view) for container in podspec.containers(pod)
    )
    for container in podspec.init_containers(pod):
        name = container["name"]
        current = _current(state, name, view)
        if podspec.is_sidecar(container):
            _keep_up(pod, container, state, view, made, sidecar=True)
            if was_initialized:
                continue
            if current is None or current.state != "running" or ("start", name) in view.busy:
                return False  # busy: its postStart hook has not ended
            if not view.flags.get(current.id, ProbeFlags()).started:
                return False
            continue
        if was_initialized:
            continue
        if current is not None and current.state == "exited" and not current.exit_code:
            if not current.error:
                continue
        elif current is not None and current.state == "running":
            return False
        _keep_up(pod, container, state, view, made, init=True)
        return False
    return True


def _current(state: PodState, name: str, view: View) -> ContainerState | None:
    attempts = newest(state, name)
    if attempts and attempts[0].id not in view.former:
        return attempts[0]
    return None


def _keep_up(
    pod: Json,
    container: Json,
    state: PodState,
    view: View,
    made: Plan,
    *,
    init: bool = False,
    sidecar: bool = False,
) -> None:
    """See to one container: start it, start it again, or stop it because it must be replaced."""
    name = container["name"]
    attempts = newest(state, name)
    latest = attempts[0] if attempts else None
    if latest is not None and latest.state == "running":
        _check_running(pod, container, latest, view, made)
        return
    if latest is not None and latest.state == "exited":
        in_this_sandbox = latest.id not in view.former
        again = podspec.should_restart(pod, _exit_code(latest), init=init, sidecar=sidecar)
        if not again and (in_this_sandbox or not init):
            return
    if ("start", name) in view.busy:
        if name in view.waiting:
            made.waiting[name] = view.waiting[name]
        return
    _start(pod, container, latest, view, made)


def _exit_code(ended: ContainerState) -> int:
    return ended.exit_code or (128 if ended.error else 0)


def _start(
    pod: Json, container: Json, latest: ContainerState | None, view: View, made: Plan
) -> None:
    name = container["name"]
    ended_at: float | None = None
    if latest is not None and latest.state == "exited":
        ended_at = latest.finished_at or latest.created_at
        key = backoff_key(container)
        until = view.crashes.waiting_until(key, ended_at, view.now)
        if until is not None:
            made.wake(until)
            made.waiting[name] = Waiting(
                "CrashLoopBackOff",
                f"back-off {spelled(view.crashes.delay(key))} restarting failed "
                f"container={name} pod={podspec.full_name(pod)}",
            )
            return
    failure = view.failures.get(name)
    if failure is not None:
        made.waiting[name] = _failed(failure, view.now, made)
        if failure.holds(view.now):
            made.wake(failure.retry_at)
            return
    if any(verb == "start" for verb, _ in view.busy):
        return  # one after another: whoever starts looks again when it is done
    if any(isinstance(action, StartContainer) for action in made.actions):
        return
    attempt = latest.attempt + 1 if latest is not None else 0
    made.actions.append(StartContainer(name, attempt, ended_at))


def _failed(failure: StartFailure, now: float, made: Plan) -> Waiting:
    """Say why a container is not started; a failed pull changes its name after a moment."""
    if not failure.image:
        return Waiting(failure.reason, failure.message)
    turns = failure.at + SHOW_ERROR_SECONDS
    if failure.reason != "ErrImagePull" or now < turns:
        if failure.reason == "ErrImagePull":
            made.wake(turns)
        return Waiting(failure.reason, failure.message)
    return Waiting(
        "ImagePullBackOff",
        f'Back-off pulling image "{failure.image}": ErrImagePull: {failure.message}',
    )


def _check_running(
    pod: Json, container: Json, running: ContainerState, view: View, made: Plan
) -> None:
    name = container["name"]
    grace = max(LEAST_GRACE, podspec.grace_seconds(pod))
    if running.spec_hash and running.spec_hash != podspec.spec_hash(container):
        why = f"Container {name} definition changed, will be restarted"
    elif running.id in view.unhealthy:
        why, own_grace = view.unhealthy[running.id]
        if own_grace is not None:
            grace = max(LEAST_GRACE, own_grace)
    else:
        return
    made.actions.append(StopContainer(running.id, name, grace, why))
