from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.edged.harness import EdgedCase, make_pod

_happenings = st.lists(
    st.one_of(
        st.tuples(st.just("exit"), st.integers(0, 1)),
        st.tuples(st.just("reboot"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 30)),
        st.tuples(st.just("restart agent"), st.booleans()),
        st.tuples(st.just("engine"), st.booleans()),
        st.tuples(st.just("store"), st.booleans()),
        st.tuples(st.just("image"), st.integers(1, 2)),
        st.tuples(st.just("configmap"), st.integers(0, 2)),
        st.tuples(st.just("replace"), st.just(0)),
        st.tuples(st.just("delete"), st.booleans()),
    ),
    max_size=12,
)


class _Node(EdgedCase):
    """One node and its pod, to which things happen."""

    def runTest(self) -> None:
        """Not a test of its own."""

    def begin(self) -> None:
        self.setUp()
        self.report_events = False
        self.serial = 1
        self.pod = self.make(1)
        self.wanted = True
        self.meta.objects["default/configmap/app"] = {"data": {"a": "0"}}
        self.start_agent()
        self.apply(self.pod)

    def make(self, image: int) -> dict[str, Any]:
        return make_pod(
            uid=f"uid-{self.serial}",
            c_image=f"local/busybox:{image}",
            volumes=[{"name": "c", "configMap": {"name": "app"}}],
            c_volumeMounts=[{"name": "c", "mountPath": "/etc/app"}],
        )

    def happen(self, what: str, argument: Any) -> None:
        uid = self.pod["metadata"]["uid"]
        if what == "exit" and "web" in self.runtime.running(uid):
            self.runtime.exit(uid, "web", argument)
        elif what == "reboot" and uid in self.runtime.sandboxes:
            self.runtime.lose_sandbox(uid)
        elif what == "wait":
            self.wait(argument)
        elif what == "restart agent":
            self.stop_agent()
            if argument and self.meta.told("patch", "default/podpatch/web"):
                told = self.meta.told("patch", "default/podpatch/web")[-1]
                for pod in self.meta.pods:
                    if pod["metadata"]["uid"] == told["metadata"]["uid"]:
                        pod["status"] = told["status"]
            self.start_agent()
        elif what == "engine":
            self.runtime.down = not argument
        elif what == "store":
            self.meta.store_down = not argument
        elif what == "configmap":
            self.meta.objects["default/configmap/app"] = {"data": {"a": str(argument)}}
            self.send("update", "default/configmap/app", None)
        elif what == "image" and self.wanted:
            self.pod = self.make(argument)
            self.apply(self.pod, "update")
        elif what == "replace" and self.wanted:
            self.serial += 1
            self.pod = self.make(1)
            self.apply(self.pod)
        elif what == "delete" and self.wanted:
            self.wanted = False
            if argument:
                self.delete(self.pod)
            else:
                self.meta.pods = []
                self.send("delete", "default/pod/web", self.pod)
        self.settle()


class WhateverHappensTests(SynchronousTestCase):
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_happenings)
    def test_it_runs_or_it_is_gone(self, happenings: list[tuple[str, Any]]) -> None:
        """In the end the wanted pod runs as it should, alone, and a deleted one is gone."""
        node = _Node()
        node.begin()
        for what, argument in happenings:
            node.happen(what, argument)
        node.runtime.down = False
        node.meta.store_down = False
        for _ in range(50):
            node.clock.advance(10)
            node.settle()
        uid = node.pod["metadata"]["uid"]
        try:
            if node.wanted:
                self.assertEqual(list(node.runtime.sandboxes), [uid])
                self.assertEqual(node.runtime.running(uid), {"web"})
                found = node.runtime.find(uid, "web")
                assert found is not None
                self.assertEqual(found.image, node.pod["spec"]["containers"][0]["image"])
                status = node.meta.told("patch", "default/podpatch/web")[-1]
                self.assertEqual(status["metadata"]["uid"], uid)
                self.assertEqual(status["status"]["phase"], "Running")
                container = status["status"]["containerStatuses"][0]
                self.assertEqual(container["containerID"], f"fake://{found.id}")
                self.assertEqual(container["restartCount"], found.attempt)
                file = node.root / f"pods/{uid}/volumes/kubernetes.io~configmap/c/a"
                data = node.meta.objects["default/configmap/app"]["data"]
                self.assertEqual(file.read_text(), data["a"])
            else:
                self.assertEqual(node.runtime.sandboxes, {})
                self.assertEqual(node.runtime.containers, {})
                if node.meta.pods:  # graceful: the cluster was told
                    self.assertIn("delete", [each[0] for each in node.meta.seen])
        finally:
            node.stop_agent()
