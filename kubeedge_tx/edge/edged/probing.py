"""Run the probes of a pod's containers, each in its own rhythm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.events import EventRecorder
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.prober import Prober
from kubeedge_tx.edge.edged.probes import ContainerProbes, ProbeMachine
from kubeedge_tx.edge.edged.status import ProbeFlags
from kubeedge_tx.runtime.interfaces import ContainerState, PodState

_TITLES: Final = {"startup": "Startup", "liveness": "Liveness", "readiness": "Readiness"}


class Probing:
    """Keep one loop per probe and running container.

    :param changed: called when a result means something new for the pod.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        prober: Prober,
        events: EventRecorder,
        changed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._prober = prober
        self._events = events
        self._changed = changed
        self._probes: dict[str, ContainerProbes] = {}
        self._names: dict[str, str] = {}
        self._loops: dict[str, TaskSet] = {}
        self._looping: set[tuple[str, str]] = set()
        self._only_readiness = False
        self._ip = ""
        self._pod: Json = {}

    @property
    def flags(self) -> Mapping[str, ProbeFlags]:
        """By container id: whether it is started and ready."""
        return {each: probes.flags for each, probes in self._probes.items()}

    @property
    def unhealthy(self) -> Mapping[str, tuple[str, float | None]]:
        """By container id: why it must be stopped, and with what grace of its own."""
        found = {}
        for container_id, probes in self._probes.items():
            if (failed := probes.failed) is not None and not self._only_readiness:
                name = self._names[container_id]
                why = f"Container {name} failed {failed.kind} probe, will be restarted"
                found[container_id] = (why, failed.grace)
        return found

    def only_readiness(self) -> None:
        """The pod ends: nobody restarts it, but who sends to it may still want to know."""
        self._only_readiness = True

    def follow(self, pod: Json, state: PodState | None, status: Json, ip: str) -> None:
        """Probe what runs now, and nothing else."""
        self._pod, self._ip = pod, ip
        running = {
            each.id: each
            for each in (state.containers if state is not None else ())
            if each.state == "running"
        }
        for container_id in self._probes.keys() - running.keys():
            self._forget(container_id)
        for container_id, container_state in running.items():
            container = podspec.find_container(pod, container_state.name)
            if container is None:
                continue
            if container_id not in self._probes:
                self._add(container, container_state, status)
            self._run_loops(container, container_id)

    async def stop(self) -> None:
        """End all loops."""
        for loops in list(self._loops.values()):
            await loops.cancel_all()
        self._loops.clear()
        self._looping.clear()

    def _forget(self, container_id: str) -> None:
        del self._probes[container_id]
        self._names.pop(container_id, None)
        self._looping = {each for each in self._looping if each[0] != container_id}
        loops = self._loops.pop(container_id, None)
        if loops is not None:
            Deferred.fromCoroutine(loops.cancel_all())  # never fails

    def _add(self, container: Json, running: ContainerState, status: Json) -> None:
        age = max(0.0, self._wall_clock() - running.started_at)
        before: Json = {}
        for field in ("containerStatuses", "initContainerStatuses"):
            for each in status.get(field) or ():
                if str(each.get("containerID", "")).partition("://")[2] == running.id:
                    before = each
        self._names[running.id] = running.name
        self._probes[running.id] = ContainerProbes(
            container,
            self._clock.seconds() - age,
            was_started=bool(before.get("started")),
            was_ready=bool(before.get("ready")),
        )

    def _run_loops(self, container: Json, container_id: str) -> None:
        probes = self._probes[container_id]
        for machine in probes.active():
            key = (container_id, machine.spec.kind)
            if key not in self._looping:
                self._looping.add(key)
                loops = self._loops.setdefault(container_id, TaskSet())
                loops.spawn(
                    f"{machine.spec.kind} probe of {container['name']}",
                    self._loop(container, container_id, machine),
                )

    async def _loop(self, container: Json, container_id: str, machine: ProbeMachine) -> None:
        spec = machine.spec
        while (due := machine.due_at()) is not None:
            await deferLater(self._clock, max(0.0, due - self._clock.seconds()))
            if self._only_readiness and spec.kind != "readiness":
                return
            success, text = await self._prober.probe(
                spec.action, spec.timeout, self._ip, container, container_id
            )
            if success is not True:
                self._events.warning(
                    self._pod,
                    "Unhealthy",
                    f"{_TITLES[spec.kind]} probe {'failed' if success is False else 'errored'}: "
                    f"{text}",
                    container["name"],
                )
            if machine.answered(success, self._clock.seconds()):
                self._changed()
