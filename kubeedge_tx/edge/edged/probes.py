"""When to probe a container, and what the answers add up to.

Source: ``k8s.io/kubernetes/pkg/kubelet/prober/worker.go``. Times are the reactor's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.status import ProbeFlags

Kind = Literal["startup", "liveness", "readiness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """One probe of one container; times in seconds."""

    kind: Kind
    action: Json
    """The probe as written: has ``httpGet``, ``tcpSocket``, ``exec`` or ``grpc``."""
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    grace: float | None = None
    """``terminationGracePeriodSeconds`` of the probe itself."""


def read_probe(kind: Kind, container: Json) -> ProbeSpec | None:
    """Read a container's probe, with Kubernetes' defaults; ``None`` if it has none."""
    probe = container.get(f"{kind}Probe")
    if not probe:
        return None

    def number(field: str, default: float) -> float:
        value: Any = probe.get(field)
        return float(value) if value else default

    grace = probe.get("terminationGracePeriodSeconds")
    return ProbeSpec(
        kind=kind,
        action=probe,
        initial_delay=number("initialDelaySeconds", 0),
        period=number("periodSeconds", 10),
        timeout=number("timeoutSeconds", 1),
        success_threshold=int(number("successThreshold", 1)),
        failure_threshold=int(number("failureThreshold", 3)),
        grace=float(grace) if grace is not None else None,
    )


class ProbeMachine:
    """Count answers until there are enough of them in a row.

    :param started_at: when the container started.
    :param result: what is believed before the first answer.
    """

    def __init__(self, spec: ProbeSpec, started_at: float, result: bool | None) -> None:
        self.spec = spec
        self.result = result
        self._next = started_at + spec.initial_delay
        self._last: bool | None = None
        self._run = 0
        self._on_hold = False

    def due_at(self) -> float | None:
        """Tell when to probe next; ``None`` if there is nothing to find out any more.

        A failed liveness or startup probe rests: the container is about to be stopped.
        """
        return None if self._on_hold else self._next

    def answered(self, success: bool | None, now: float) -> bool:
        """Take an answer.

        :param success: ``None`` if the probe itself could not be made: counts for nothing.
        :returns: whether :attr:`result` changed.
        """
        self._next = max(self._next + self.spec.period, now)
        if success is None:
            return False
        self._run = self._run + 1 if success is self._last else 1
        self._last = success
        enough = self.spec.success_threshold if success else self.spec.failure_threshold
        if self._run < enough:
            return False
        changed = self.result is not success
        self.result = success
        if self.spec.kind != "readiness" and not success:
            self._on_hold = True
        if self.spec.kind == "startup" and success:
            self._on_hold = True
        return changed


class ContainerProbes:
    """The probes of one running container.

    :param was_ready: it was ready when a former agent last looked, and still runs.
    :param was_started: likewise.
    """

    def __init__(
        self,
        container: Json,
        started_at: float,
        *,
        was_started: bool = False,
        was_ready: bool = False,
    ) -> None:
        self.machines: dict[Kind, ProbeMachine] = {}
        believed: dict[Kind, bool | None] = {
            "startup": True if was_started else None,
            "liveness": True,
            "readiness": was_ready,
        }
        for kind, result in believed.items():
            spec = read_probe(kind, container)
            if spec is not None:
                self.machines[kind] = ProbeMachine(spec, started_at, result)
        if was_started:
            self.machines.pop("startup", None)

    def active(self) -> list[ProbeMachine]:
        """Give the machines to run now: until started, only the startup probe."""
        if not self.started:
            return [self.machines["startup"]]
        return [each for kind, each in self.machines.items() if kind != "startup"]

    @property
    def started(self) -> bool:
        """Whether the startup probe, if there is one, has succeeded."""
        startup = self.machines.get("startup")
        return startup is None or startup.result is True

    @property
    def flags(self) -> ProbeFlags:
        """What the pod's status says of this container."""
        readiness = self.machines.get("readiness")
        return ProbeFlags(self.started, self.started and (not readiness or bool(readiness.result)))

    @property
    def failed(self) -> ProbeSpec | None:
        """The liveness or startup probe for which the container must be stopped."""
        for kind in ("startup", "liveness"):
            machine = self.machines.get(kind)  # type: ignore[call-overload]
            if machine is not None and machine.result is False:
                spec: ProbeSpec = machine.spec
                return spec
        return None
