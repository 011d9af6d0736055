from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edged.probes import ContainerProbes, ProbeMachine, ProbeSpec, read_probe


class ReadProbeTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """What a probe leaves out is as Kubernetes has it."""
        probe = read_probe("liveness", {"livenessProbe": {"tcpSocket": {"port": 80}}})
        assert probe is not None
        self.assertEqual((probe.initial_delay, probe.period, probe.timeout), (0, 10, 1))
        self.assertEqual((probe.success_threshold, probe.failure_threshold), (1, 3))
        self.assertIsNone(read_probe("readiness", {"livenessProbe": {"exec": {}}}))


class ProbeMachineTests(SynchronousTestCase):
    def machine(self, kind: str = "readiness", **fields: float) -> ProbeMachine:
        spec = ProbeSpec(kind=kind, action={}, **fields)  # type: ignore[arg-type]
        return ProbeMachine(spec, 100.0, kind == "liveness")

    def test_rhythm(self) -> None:
        """The first probe comes after the delay, the others a period apart."""
        machine = self.machine(initial_delay=5, period=2)
        due = []
        for _ in range(3):
            at = machine.due_at()
            assert at is not None
            due.append(at)
            machine.answered(True, at + 0.1)
        self.assertEqual(due, [105, 107, 109])

    def test_slow_answers(self) -> None:
        """A probe that takes longer than its period is not made twice at once."""
        machine = self.machine(period=1)
        machine.answered(True, 150)
        self.assertEqual(machine.due_at(), 150)

    def test_failed_liveness_rests(self) -> None:
        """A container that is to be stopped is not probed any more."""
        machine = self.machine("liveness", failure_threshold=2)
        self.assertFalse(machine.answered(False, 100))
        self.assertTrue(machine.answered(False, 110))
        self.assertIs(machine.result, False)
        self.assertIsNone(machine.due_at())

    @given(st.lists(st.sampled_from([True, False, None])), st.integers(1, 3), st.integers(1, 3))
    def test_thresholds(self, answers: list[bool | None], success: int, failure: int) -> None:
        """The result is that of the last run of equal answers which was long enough."""
        machine = self.machine(success_threshold=success, failure_threshold=failure)
        expected: bool | None = False
        known = [given for given in answers if given is not None]
        run = 0
        for at, answer in enumerate(known):
            run = run + 1 if at and known[at - 1] is answer else 1
            if run >= (success if answer else failure):
                expected = answer
        for each in answers:
            machine.answered(each, 100)
        self.assertIs(bool(machine.result), expected)


class ContainerProbesTests(SynchronousTestCase):
    CONTAINER: ClassVar[dict[str, Any]] = {
        "startupProbe": {"exec": {}},
        "livenessProbe": {"exec": {}, "terminationGracePeriodSeconds": 7},
        "readinessProbe": {"exec": {}, "failureThreshold": 1},
    }

    def test_startup_first(self) -> None:
        """Other probes wait for the startup probe."""
        probes = ContainerProbes(self.CONTAINER, 0)
        (startup,) = probes.active()
        self.assertEqual(startup.spec.kind, "startup")
        self.assertEqual((probes.flags.started, probes.flags.ready), (False, False))
        startup.answered(True, 0)
        self.assertIsNone(startup.due_at())
        self.assertEqual([each.spec.kind for each in probes.active()], ["liveness", "readiness"])
        self.assertEqual((probes.flags.started, probes.flags.ready), (True, False))

    def test_failed(self) -> None:
        """The probe that failed says how long the container may take to end."""
        probes = ContainerProbes(self.CONTAINER, 0, was_started=True)
        self.assertIsNone(probes.failed)
        for _ in range(3):
            probes.machines["liveness"].answered(False, 0)
        assert probes.failed is not None
        self.assertEqual(probes.failed.grace, 7)

    def test_nothing_to_probe(self) -> None:
        """A container without probes is ready as soon as it runs."""
        probes = ContainerProbes({}, 0)
        self.assertEqual(probes.active(), [])
        self.assertTrue(probes.flags.started and probes.flags.ready)
