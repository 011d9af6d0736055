from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.backoff import Backoff
from kubeedge_tx.edge.edged.podplan import (
    Plan,
    PrepareVolumes,
    RemoveContainer,
    RunSandbox,
    StartContainer,
    StartFailure,
    StopContainer,
    Termination,
    View,
    plan,
)
from kubeedge_tx.edge.edged.status import Observed, pod_status
from kubeedge_tx.runtime.interfaces import ContainerState, PodState
from tests.edge.edged.harness import make_pod


def attempt(name: str = "web", **fields: Any) -> ContainerState:
    values: dict[str, Any] = {
        "id": f"{name}-{fields.get('attempt', 0)}",
        "name": name,
        "attempt": 0,
        "image": "local/busybox:1",
        "image_id": "sha256:1",
        "spec_hash": "",
        "state": "running",
        "created_at": 10.0,
        "started_at": 10.0,
        **fields,
    }
    return ContainerState(**values)


def pod_state(*containers: ContainerState, ready: bool = True) -> PodState:
    return PodState(
        namespace="default",
        pod="web",
        uid="uid-1",
        sandbox_id="s",
        sandbox_ready=ready,
        ip="10.0.0.1",
        containers=containers,
    )


def view(**fields: Any) -> View:
    return View(**{"now": 100.0, "volumes_ready": True, **fields})


class PlanTests(SynchronousTestCase):
    def test_volumes_sandbox_container(self) -> None:
        """A new pod gets its volumes, then its sandbox, then its containers."""
        pod = make_pod()
        self.assertEqual(plan(pod, None, view(volumes_ready=False)).actions, [PrepareVolumes()])
        self.assertEqual(plan(pod, None, view()).actions, [RunSandbox()])
        self.assertEqual(plan(pod, pod_state(), view()).actions, [StartContainer("web", 0)])
        self.assertEqual(plan(pod, pod_state(attempt()), view()), Plan())

    def test_volumes_that_failed(self) -> None:
        """Volumes that could not be made are tried again, not at once."""
        made = plan(make_pod(), None, view(volumes_ready=False, volumes_retry_at=103.0))
        self.assertEqual((made.actions, made.wake_at), ([], 103.0))

    def test_one_after_another(self) -> None:
        """Containers start in order: the second waits while the first is on its way."""
        pod = make_pod()
        pod["spec"]["containers"].append({"name": "two", "image": "i"})
        self.assertEqual(plan(pod, pod_state(), view()).actions, [StartContainer("web", 0)])
        busy = view(busy=frozenset([("start", "web")]))
        self.assertEqual(plan(pod, pod_state(), busy).actions, [])
        failed = StartFailure(reason="ErrImagePull", message="", at=99.0, retry_at=109.0, image="i")
        made = plan(pod, pod_state(), view(failures={"web": failed}))
        self.assertEqual(made.actions, [StartContainer("two", 0)])

    def test_crash_after_crash(self) -> None:
        """A container that crashed waits for its back-off."""
        pod = make_pod()
        crashes = Backoff()
        crashed = pod_state(attempt(state="exited", exit_code=1, finished_at=98.0))
        first = plan(pod, crashed, view(crashes=crashes))
        self.assertEqual(first.actions, [StartContainer("web", 1, 98.0)])
        key = f"web/{podspec.spec_hash(pod['spec']['containers'][0])}"
        crashes.next(key, 98.0, 100.0)
        second = plan(pod, crashed, view(crashes=crashes))
        self.assertEqual((second.actions, second.wake_at), ([], 108.0))
        self.assertEqual(second.waiting["web"].reason, "CrashLoopBackOff")

    def test_sidecars_end_last(self) -> None:
        """At the end main containers are stopped first, then sidecars in reverse order."""
        side = [{"name": name, "image": "i", "restartPolicy": "Always"} for name in ("a", "b")]
        pod = make_pod(initContainers=side)
        termination = Termination(why="deleted", grace=30, since=90.0)
        over = view(termination=termination)
        running = [attempt("a"), attempt("b"), attempt("web")]
        order = []
        while running:
            (action,) = plan(pod, pod_state(*running), over).actions
            assert isinstance(action, StopContainer)
            order.append((action.name, action.grace))
            running = [each for each in running if each.name != action.name]
        self.assertEqual(order, [("web", 30), ("b", 20), ("a", 20)])
        self.assertTrue(plan(pod, pod_state(), over).ended)

    def test_old_attempts_are_removed(self) -> None:
        """Of ended attempts, two are kept: what there is, and what was before."""
        attempts = [
            attempt(attempt=number, state="exited", exit_code=1, finished_at=99.0)
            for number in range(4)
        ]
        made = plan(make_pod(), pod_state(*attempts), view())
        removed = [each for each in made.actions if isinstance(each, RemoveContainer)]
        self.assertEqual(removed, [RemoveContainer("web-1"), RemoveContainer("web-0")])

    def test_init_containers_again_in_a_new_sandbox(self) -> None:
        """A pod with a new sandbox is initialized anew."""
        pod = make_pod(initContainers=[{"name": "a", "image": "i"}])
        ended: dict[str, Any] = {"state": "exited", "finished_at": 50.0}
        old = pod_state(attempt("a", **ended), attempt(**ended))
        self.assertEqual(plan(pod, old, view()).actions, [StartContainer("web", 1, 50.0)])
        anew = view(former=frozenset(["a-0", "web-0"]))
        self.assertEqual(plan(pod, old, anew).actions, [StartContainer("a", 1, 50.0)])


_states = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["running", "exited", "created"]),
        "exit_code": st.integers(0, 2),
        "finished_at": st.floats(0, 100),
        "error": st.sampled_from(["", "no such command"]),
        "attempt": st.integers(0, 2),
        "spec_hash": st.sampled_from(["", "other"]),
    }
)
_names = ("init", "side", "web", "two")
_pods = st.builds(
    lambda policy, inits: {
        **(pod := make_pod(restartPolicy=policy)),
        "spec": {
            **pod["spec"],
            "containers": [*pod["spec"]["containers"], {"name": "two", "image": "i"}],
            "initContainers": [
                {"name": "init", "image": "i"},
                {"name": "side", "image": "i", "restartPolicy": "Always"},
            ]
            if inits
            else [],
        },
    },
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.booleans(),
)
_pod_states = st.none() | st.builds(
    lambda found, ready: pod_state(
        *(
            attempt(name, **{**fields, "id": f"{name}-{number}"})
            for number, (name, fields) in enumerate(found)
        ),
        ready=ready,
    ),
    st.lists(st.tuples(st.sampled_from(_names), _states), max_size=6),
    st.booleans(),
)


class WhateverTheStateTests(SynchronousTestCase):
    @given(_pods, _pod_states)
    def test_a_plan_gets_on(self, pod: dict[str, Any], state: PodState | None) -> None:
        """A pod either has something to do, waits for a time, runs, or is over."""
        made = plan(pod, state, view())
        status = pod_status(pod, {}, Observed(state=state, runtime="x", host_ip="1", now=100.0))
        running = [each for each in (state.containers if state else ()) if each.state == "running"]
        over = status["phase"] in ("Succeeded", "Failed")
        self.assertTrue(made.actions or made.wake_at or running or over, (made, status))

    def test_no_trace_of_its_beginning(self) -> None:
        """A pod whose containers have done their work is over, though its init ones are gone."""
        for policy, exit_code, phase in (
            ("Never", 0, "Succeeded"),
            ("Never", 1, "Failed"),
            ("OnFailure", 0, "Succeeded"),
        ):
            pod = make_pod(
                restartPolicy=policy,
                initContainers=[
                    {"name": "init", "image": "i"},
                    {"name": "side", "image": "i", "restartPolicy": "Always"},
                ],
            )
            state = pod_state(attempt("web", state="exited", exit_code=exit_code))
            seen = Observed(state=state, runtime="x", host_ip="1", now=100.0)
            self.assertEqual(pod_status(pod, {}, seen)["phase"], phase)

    @given(_pods, _pod_states)
    def test_each_thing_once(self, pod: dict[str, Any], state: PodState | None) -> None:
        """No plan does two things to one container, nor starts what runs."""
        made = plan(pod, state, view())
        jobs = [each.job for each in made.actions]
        self.assertEqual(len(jobs), len(set(jobs)))
        starts = [each for each in made.actions if isinstance(each, StartContainer)]
        self.assertLessEqual(len(starts), 1)
        for start in starts:
            attempts = (
                [e.attempt for e in state.containers if e.name == start.name] if state else []
            )
            self.assertGreater(start.attempt, max(attempts, default=-1))

    @given(_pods, _pod_states)
    def test_the_end_starts_nothing(self, pod: dict[str, Any], state: PodState | None) -> None:
        """Of a pod that ends, things are only stopped, and the end comes when nothing runs."""
        made = plan(pod, state, view(termination=Termination(why="deleted", grace=5, since=100.0)))
        self.assertTrue(all(isinstance(each, StopContainer) for each in made.actions))
        running = [each for each in (state.containers if state else ()) if each.state == "running"]
        self.assertEqual(made.ended, not running)
        self.assertEqual(bool(made.actions), bool(running))

    @given(_pods, _pod_states, st.booleans())
    def test_status_is_whole(
        self, pod: dict[str, Any], state: PodState | None, ended: bool
    ) -> None:
        """Whatever there is, the status has every container, condition and one phase."""
        seen = Observed(state=state, runtime="x", host_ip="1", now=100.0, ended=ended)
        status = pod_status(pod, {}, seen)
        self.assertEqual([each["name"] for each in status["containerStatuses"]], ["two", "web"])
        self.assertEqual(len(status["conditions"]), 5)
        for container in status["containerStatuses"]:
            self.assertEqual(len(container["state"]), 1)
        if ended:
            self.assertIn(status["phase"], ("Succeeded", "Failed"))
        if status["phase"] in ("Succeeded", "Failed"):
            ready = [c["status"] for c in status["conditions"] if c["type"] == "Ready"]
            self.assertEqual(ready, ["False"])

    @given(_pods, _pod_states)
    def test_status_is_stable(self, pod: dict[str, Any], state: PodState | None) -> None:
        """Looking again a minute later changes nothing, times included."""
        first = pod_status(pod, {}, Observed(state=state, runtime="x", host_ip="1", now=100.0))
        again = pod_status(pod, first, Observed(state=state, runtime="x", host_ip="1", now=160.0))
        third = pod_status(pod, again, Observed(state=state, runtime="x", host_ip="1", now=220.0))
        self.assertEqual(again, third)
