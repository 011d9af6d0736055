from __future__ import annotations

from typing import Any

from tests.edge.edged.harness import EdgedCase, make_pod
from tests.fakes.runtime import Program


class LifeOfAPodTests(EdgedCase):
    def test_first_status_is_that_of_a_go_edge(self) -> None:
        """While its image is pulled, a pod is described as upstream's edge describes it."""
        self.runtime.held_pulls["local/busybox:1"] = []
        self.start_agent()
        pod = make_pod(c_volumeMounts=[{"name": "c", "mountPath": "/etc/app"}])
        pod["spec"]["volumes"] = [{"name": "c", "emptyDir": {}}]
        self.apply(pod)
        first = self.meta.told("patch", "default/podpatch/web")[0]
        self.assertEqual(first["metadata"], {"uid": "uid-1"})
        since = "2026-11-24T06:52:53Z"
        unready = {
            "message": "containers with unready status: [web]",
            "reason": "ContainersNotReady",
            "status": "False",
        }
        plain = {"message": None, "reason": None, "status": "True"}
        always = {"lastProbeTime": None, "lastTransitionTime": since}
        self.assertEqual(
            first["status"]["conditions"],
            [
                {"type": "PodReadyToStartContainers", **plain, **always, "status": "False"},
                {"type": "Initialized", **plain, **always},
                {"type": "Ready", **unready, **always},
                {"type": "ContainersReady", **unready, **always},
                {"type": "PodScheduled", **plain, **always},
            ],
        )
        self.assertEqual(
            first["status"]["containerStatuses"],
            [
                {
                    "image": "local/busybox:1",
                    "imageID": "",
                    "lastState": {},
                    "name": "web",
                    "ready": False,
                    "restartCount": 0,
                    "started": False,
                    "state": {"waiting": {"reason": "ContainerCreating"}},
                    "volumeMounts": [{"mountPath": "/etc/app", "name": "c"}],
                }
            ],
        )
        self.assertEqual(first["status"]["phase"], "Pending")
        self.assertEqual(first["status"]["qosClass"], "BestEffort")
        self.assertEqual(first["status"]["hostIPs"], [{"ip": "192.0.2.2"}])
        self.assertEqual(first["status"]["startTime"], since)

    def test_a_pod_runs(self) -> None:
        """A pod that was pushed runs, and the cloud hears that it is ready."""
        self.start_agent()
        self.apply(make_pod())
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        status = self.status()
        self.assertEqual(status["phase"], "Running")
        self.assertEqual(status["podIPs"], [{"ip": "10.0.0.1"}])
        self.assertEqual(self.condition("Ready")["status"], "True")
        container = self.container()
        self.assertTrue(container["ready"] and container["started"])
        self.assertTrue(container["containerID"].startswith("fake://container-"))
        reasons = [reason for reason, _ in self.meta.events()]
        self.assertEqual(reasons, ["Pulled", "Created", "Started"])

    def test_same_pod_twice(self) -> None:
        """A pod pushed again is one pod, and nothing is told anew."""
        self.start_agent()
        self.apply(make_pod())
        told = len(self.meta.seen)
        self.apply(make_pod(), "update")
        self.assertEqual(len(self.meta.seen), told)
        self.assertEqual(len(self.runtime.containers), 1)

    def test_another_node(self) -> None:
        """A pod of another node is none of our business."""
        self.start_agent()
        self.apply(make_pod(nodeName="edge-2"))
        self.assertEqual(self.runtime.sandboxes, {})

    def test_changed_image(self) -> None:
        """A changed image replaces the container."""
        self.start_agent()
        pod = make_pod()
        self.apply(pod)
        self.apply(make_pod(c_image="local/busybox:2"), "update")
        found = self.runtime.find("uid-1", "web")
        assert found is not None
        self.assertEqual((found.image, found.state), ("local/busybox:2", "running"))
        self.assertEqual(self.container()["restartCount"], 1)
        self.assertIn(
            ("Killing", "Container web definition changed, will be restarted"),
            self.meta.events(),
        )

    def test_status_that_was_not_taken(self) -> None:
        """A status that the store refused is told again."""
        self.start_agent()
        self.meta.store_down = True
        self.apply(make_pod())
        refused = len(self.meta.told("patch", "default/podpatch/web"))
        self.assertGreater(refused, 0)
        self.meta.store_down = False
        self.wait(6)
        self.assertGreater(len(self.meta.told("patch", "default/podpatch/web")), refused)
        self.assertEqual(self.status()["phase"], "Running")

    def test_status_that_somebody_else_wrote(self) -> None:
        """A status in the cluster that is not ours is put right, once, and not at once."""
        self.start_agent()
        pod = make_pod()
        self.apply(pod)
        ours = self.status()
        told = len(self.meta.told("patch", "default/podpatch/web"))
        self.apply({**pod, "status": {**ours, "phase": "Unknown"}}, "update")
        self.wait(5)
        self.assertEqual(len(self.meta.told("patch", "default/podpatch/web")), told)
        self.wait(60)
        self.assertEqual(len(self.meta.told("patch", "default/podpatch/web")), told + 1)
        self.assertEqual(self.status(), ours)
        self.apply({**pod, "status": ours}, "update")
        self.wait(60)
        self.assertEqual(len(self.meta.told("patch", "default/podpatch/web")), told + 1)

    def test_clock_that_is_set_back(self) -> None:
        """What waits for its next try does not wait for the year to come back."""
        self.runtime.pull_errors["local/busybox:1"] = "no such host"
        self.start_agent()
        self.apply(make_pod())
        self.skew = -1e8
        self.runtime.pull_errors.clear()
        self.wait(20)
        self.assertEqual(self.status()["phase"], "Running")


class RestartTests(EdgedCase):
    def test_crash_loop(self) -> None:
        """A crashing container restarts at once, then after 10, 20, 40 seconds."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(exits=1)
        self.start_agent()
        self.apply(make_pod())
        container = self.container()
        self.assertEqual(container["restartCount"], 1)
        self.assertEqual(
            container["state"],
            {
                "waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": "back-off 10s restarting failed container=web "
                    "pod=web_default(uid-1)",
                }
            },
        )
        ending = container["lastState"]["terminated"]
        self.assertEqual((ending["exitCode"], ending["reason"]), (1, "Error"))
        self.assertEqual(self.status()["phase"], "Running")
        starts = [self.container()["restartCount"]]
        for _ in range(3):
            self.wait(10)
            starts.append(self.container()["restartCount"])
        self.assertEqual(starts, [1, 2, 2, 3])
        self.assertLessEqual(len(self.runtime.containers), 3)

    def test_back_off_ends(self) -> None:
        """After ten minutes of running, a crash is a first crash again."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(exits=1)
        self.start_agent()
        self.apply(make_pod())
        self.runtime.programs.clear()
        self.wait(10.5)
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        self.clock.advance(900)
        self.runtime.exit("uid-1", "web", 1)
        self.settle()
        self.assertEqual(self.runtime.running("uid-1"), {"web"})

    def test_on_failure(self) -> None:
        """OnFailure restarts what failed, and is content with what succeeded."""
        self.start_agent()
        self.apply(make_pod(restartPolicy="OnFailure"))
        self.runtime.exit("uid-1", "web", 3)
        self.settle()
        self.assertEqual(self.container()["restartCount"], 1)
        self.runtime.exit("uid-1", "web", 0)
        self.settle()
        self.assertEqual(self.status()["phase"], "Succeeded")
        self.assertEqual(self.container()["state"]["terminated"]["reason"], "Completed")
        self.assertEqual(self.condition("Ready")["reason"], "PodCompleted")
        self.assertEqual(self.condition("Initialized")["reason"], "PodCompleted")
        self.wait(60)
        self.assertEqual(self.runtime.running("uid-1"), set())

    def test_never(self) -> None:
        """Never leaves a failed container as it is, and the pod has failed."""
        self.start_agent()
        self.apply(make_pod(restartPolicy="Never"))
        self.runtime.exit("uid-1", "web", 137, oom_killed=True)
        self.settle()
        self.assertEqual(self.status()["phase"], "Failed")
        self.assertEqual(self.container()["state"]["terminated"]["reason"], "OOMKilled")
        self.assertEqual(self.condition("Ready")["reason"], "PodFailed")

    def test_command_not_found(self) -> None:
        """A command that is not there is a StartError, tried again and again."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(not_found=True)
        self.start_agent()
        self.apply(make_pod())
        self.assertEqual(self.container()["state"]["waiting"]["reason"], "RunContainerError")
        self.wait(2)
        container = self.container()
        self.assertEqual(container["state"]["waiting"]["reason"], "CrashLoopBackOff")
        self.assertEqual(container["lastState"]["terminated"]["reason"], "StartError")
        self.assertIn("not found", container["lastState"]["terminated"]["message"])

    def test_lost_sandbox(self) -> None:
        """After a reboot the pod gets a new sandbox, and its containers run again."""
        self.start_agent()
        self.apply(make_pod())
        self.runtime.lose_sandbox("uid-1")
        self.settle()
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        self.assertEqual(self.container()["restartCount"], 1)

    def test_new_address(self) -> None:
        """An address that the pod has no more is taken out of the list in the cluster."""
        self.start_agent()
        self.apply(make_pod())
        self.runtime.ip = "10.0.0.2"
        self.runtime.lose_sandbox("uid-1")
        self.settle()
        self.assertEqual(
            self.status()["podIPs"],
            [{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}],
        )

    def test_deadline(self) -> None:
        """A pod that runs longer than it may is ended and has failed."""
        self.start_agent()
        self.apply(make_pod(activeDeadlineSeconds=20))
        self.wait(19)
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        self.wait(2)
        self.assertEqual(self.runtime.running("uid-1"), set())
        status = self.status()
        self.assertEqual((status["phase"], status["reason"]), ("Failed", "DeadlineExceeded"))
        self.wait(60)
        self.assertEqual(self.runtime.running("uid-1"), set())
        self.assertEqual(self.status()["reason"], "DeadlineExceeded")

    def test_termination_message(self) -> None:
        """What a container wrote as its last words is in its status."""
        self.start_agent()
        self.apply(make_pod(restartPolicy="Never"))
        found = self.runtime.find("uid-1", "web")
        assert found is not None
        file = self.runtime.spec_of(found.id).termination_message_file
        assert file is not None
        file.write_text("no disk left")
        self.runtime.exit("uid-1", "web", 1)
        self.settle()
        self.assertEqual(self.container()["state"]["terminated"]["message"], "no disk left")

    def test_termination_message_from_log(self) -> None:
        """Without last words, the end of the log stands in, if the pod asks for it."""
        self.start_agent()
        policy = "FallbackToLogsOnError"
        self.apply(make_pod(restartPolicy="Never", c_terminationMessagePolicy=policy))
        found = self.runtime.find("uid-1", "web")
        assert found is not None
        self.runtime.write_output(found.id, b"one\ntwo\n")
        self.runtime.exit("uid-1", "web", 1)
        self.settle()
        self.assertEqual(self.container()["state"]["terminated"]["message"], "one\ntwo\n")


class ImageTests(EdgedCase):
    def test_image_that_is_not_there(self) -> None:
        """A pull that fails is ErrImagePull, then ImagePullBackOff, and is tried again."""
        self.runtime.pull_errors["local/busybox:1"] = "no such host"
        self.start_agent()
        self.apply(make_pod())
        waiting = self.container()["state"]["waiting"]
        self.assertEqual(waiting, {"reason": "ErrImagePull", "message": "no such host"})
        self.wait(6)
        waiting = self.container()["state"]["waiting"]
        self.assertEqual(waiting["reason"], "ImagePullBackOff")
        self.assertIn('Back-off pulling image "local/busybox:1"', waiting["message"])
        self.wait(10)
        self.assertEqual(len(self.runtime.pulls), 2)
        self.runtime.pull_errors.clear()
        self.wait(20)
        self.assertEqual(self.status()["phase"], "Running")

    def test_corrected_image(self) -> None:
        """A corrected image is pulled at once, not after the wrong one's back-off."""
        self.runtime.pull_errors["wrong"] = "no such host"
        self.start_agent()
        self.apply(make_pod(c_image="wrong"))
        self.apply(make_pod(), "update")
        self.assertEqual(self.status()["phase"], "Running")

    def test_never_pull(self) -> None:
        """With policy Never, an image that is not there is said so."""
        self.start_agent()
        self.apply(make_pod(c_imagePullPolicy="Never"))
        self.assertEqual(self.container()["state"]["waiting"]["reason"], "ErrImageNeverPull")
        self.assertEqual(self.runtime.pulls, [])

    def test_pull_secret(self) -> None:
        """Credentials of a pull secret reach the runtime."""
        encoded = (
            "eyJhdXRocyI6eyJyZWcuZXhhbXBsZSI6eyJhdXRoIjoiYW5uOnNlc2FtIn19fQ=="  # not base64 in it
        )
        self.meta.objects["default/secret/pull"] = {"data": {".dockerconfigjson": encoded}}
        self.meta.objects["default/secret/good"] = {
            "data": {
                ".dockerconfigjson": "eyJhdXRocyI6eyJyZWcuZXhhbXBsZSI6eyJ1c2VybmFtZSI6ImFubiIsIn"
                "Bhc3N3b3JkIjoic2VzYW0ifX19"
            }
        }
        self.start_agent()
        self.apply(make_pod(imagePullSecrets=[{"name": "pull"}, {"name": "good"}, {"name": "no"}]))
        (auths,) = self.runtime.auths
        self.assertEqual(
            [(each.registry, each.username, each.password) for each in auths],
            [("reg.example", "ann", "sesam")],
        )
        self.assertIn("FailedToRetrieveImagePullSecret", [r for r, _ in self.meta.events()])


class InitContainerTests(EdgedCase):
    def init(self, name: str, **fields: object) -> dict[str, object]:
        command = ["/init", name]
        return {"name": name, "image": "local/busybox:1", "command": command, **fields}

    def test_in_order(self) -> None:
        """Init containers run one after another, then the main one."""
        self.start_agent()
        self.apply(make_pod(initContainers=[self.init("a"), self.init("b")]))
        self.assertEqual(self.runtime.running("uid-1"), {"a"})
        self.assertEqual(self.container()["state"], {"waiting": {"reason": "PodInitializing"}})
        self.assertEqual(
            self.condition("Initialized")["message"], "containers with incomplete status: [a b]"
        )
        self.runtime.exit("uid-1", "a")
        self.settle()
        self.assertEqual(self.runtime.running("uid-1"), {"b"})
        self.runtime.exit("uid-1", "b")
        self.settle()
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        self.assertEqual(self.condition("Initialized")["status"], "True")
        self.assertTrue(self.container(name="a")["ready"])
        self.assertEqual(self.status()["phase"], "Running")

    def test_failing(self) -> None:
        """A failing init container is tried again, and nothing starts before it succeeds."""
        self.runtime.programs["/init", "a"] = Program(exits=1)
        self.start_agent()
        self.apply(make_pod(initContainers=[self.init("a")]))
        self.assertEqual(self.status()["phase"], "Pending")
        waiting = self.container(name="a")["state"]["waiting"]
        self.assertEqual(waiting["reason"], "CrashLoopBackOff")
        self.runtime.programs["/init", "a"] = Program(exits=0)
        self.wait(11)
        self.assertEqual(self.runtime.running("uid-1"), {"web"})

    def test_failing_for_good(self) -> None:
        """With policy Never, a failed init container fails the pod."""
        self.runtime.programs["/init", "a"] = Program(exits=1)
        self.start_agent()
        self.apply(make_pod(initContainers=[self.init("a")], restartPolicy="Never"))
        self.assertEqual(self.status()["phase"], "Failed")
        self.assertEqual(self.container()["state"], {"waiting": {"reason": "PodInitializing"}})

    def test_sidecar(self) -> None:
        """A sidecar starts before the main container, keeps running, and ends after it."""
        side = self.init("side", restartPolicy="Always")
        self.start_agent()
        self.apply(make_pod(initContainers=[side, self.init("a")], restartPolicy="Never"))
        self.assertEqual(self.runtime.running("uid-1"), {"side", "a"})
        self.runtime.exit("uid-1", "a")
        self.settle()
        self.assertEqual(self.runtime.running("uid-1"), {"side", "web"})
        self.runtime.exit("uid-1", "side", 1)
        self.settle()
        self.assertEqual(self.runtime.running("uid-1"), {"side", "web"})
        self.runtime.exit("uid-1", "web")
        self.settle()
        self.assertEqual(self.runtime.running("uid-1"), set())
        self.assertEqual(self.status()["phase"], "Succeeded")


class DeletionTests(EdgedCase):
    def test_graceful(self) -> None:
        """A deleted pod is stopped; then its last status, then its delete reach the cloud."""
        self.start_agent()
        pod = make_pod()
        self.apply(pod)
        self.delete(pod)
        self.assertEqual(self.runtime.sandboxes, {})
        self.assertEqual(self.status()["phase"], "Failed")
        self.assertEqual(self.container()["state"]["terminated"]["exitCode"], 143)
        self.assertEqual(
            self.meta.seen[-1],
            (
                "delete",
                "default/pod/web",
                {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-1"}},
            ),
        )
        self.assertFalse((self.root / "pods" / "uid-1").exists())
        self.assertIn(("Killing", "Stopping container web"), self.meta.events())
        told = len(self.meta.seen)
        self.delete(pod, grace=0)  # the cloud's echo of the delete
        self.meta.pods = []
        self.send("delete", "default/pod/web", pod)
        self.assertEqual(len(self.meta.seen), told)
        self.assertEqual(self.edged.workers, {})

    def test_grace(self) -> None:
        """A container that ignores SIGTERM has its grace, and no more."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(ignores_sigterm=True)
        self.start_agent()
        pod = make_pod()
        self.apply(pod)
        self.delete(pod, grace=20)
        self.wait(19)
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        self.wait(2)
        self.assertEqual(self.container()["state"]["terminated"]["exitCode"], 137)
        self.assertEqual(self.runtime.sandboxes, {})

    def test_impatience(self) -> None:
        """A second delete with less grace makes it shorter."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(ignores_sigterm=True)
        self.start_agent()
        pod = make_pod()
        self.apply(pod)
        self.delete(pod, grace=300)
        self.wait(2)
        self.delete(pod, grace=1)
        self.wait(2)
        self.assertEqual(self.runtime.sandboxes, {})

    def test_while_pulling(self) -> None:
        """A pod deleted during its pull ends as one whose container never was."""
        self.runtime.held_pulls["local/busybox:1"] = []
        self.start_agent()
        pod = make_pod()
        self.apply(pod)
        self.delete(pod)
        ending = self.container()["state"]["terminated"]
        self.assertEqual(
            ending,
            {
                "exitCode": 137,
                "finishedAt": None,
                "message": "The container could not be located when the pod was terminated",
                "reason": "ContainerStatusUnknown",
                "startedAt": None,
            },
        )
        self.assertEqual(self.status()["phase"], "Failed")
        self.assertEqual(self.meta.seen[-1][0], "delete")

    def test_by_force(self) -> None:
        """A pod that is gone from the cluster ends without a word about it."""
        self.start_agent()
        self.apply(make_pod())
        told = len(self.meta.told("patch", "default/podpatch/web"))
        self.meta.pods = []
        self.send("delete", "default/pod/web", {"metadata": {"name": "web", "uid": "uid-1"}})
        self.assertEqual(self.runtime.sandboxes, {})
        self.assertEqual(len(self.meta.told("patch", "default/podpatch/web")), told)
        self.assertEqual(self.meta.told("delete", "default/pod/web"), [])

    def test_delete_of_another(self) -> None:
        """A delete of a former pod of the same name leaves the present one alone."""
        self.start_agent()
        self.apply(make_pod(uid="uid-2"))
        self.send("delete", "default/pod/web", {"metadata": {"name": "web", "uid": "uid-1"}})
        self.assertEqual(self.runtime.running("uid-2"), {"web"})

    def test_replaced(self) -> None:
        """A new pod of the same name starts when the former one is gone."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(ignores_sigterm=True)
        self.start_agent()
        self.apply(make_pod())
        self.apply(make_pod(uid="uid-2", terminationGracePeriodSeconds=5))
        self.assertEqual(self.runtime.running("uid-2"), set())
        self.wait(31)
        self.assertEqual(self.runtime.running("uid-1"), set())
        self.assertEqual(self.runtime.running("uid-2"), {"web"})

    def test_pre_stop(self) -> None:
        """The preStop hook runs first, and its time counts as grace."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(ignores_sigterm=True)
        self.start_agent()
        pod = make_pod(c_lifecycle={"preStop": {"exec": {"command": ["/bye"]}}})
        self.apply(pod)
        self.delete(pod, grace=10)
        self.assertEqual(self.prober.asked, ["/bye"])
        self.wait(11)
        self.assertEqual(self.runtime.sandboxes, {})

    def test_failing_hooks(self) -> None:
        """A failing postStart hook stops the container, which is then started again."""
        self.prober.answers["/hi"] = (False, "no")
        self.start_agent()
        self.apply(make_pod(c_lifecycle={"postStart": {"exec": {"command": ["/hi"]}}}))
        self.assertIn(("FailedPostStartHook", "PostStartHook failed: no"), self.meta.events())
        self.assertEqual(self.container()["state"]["waiting"]["reason"], "CrashLoopBackOff")


class ProbeTests(EdgedCase):
    def http(self, path: str, **fields: int) -> dict[str, object]:
        return {"httpGet": {"path": path, "port": 80}, **fields}

    def test_readiness(self) -> None:
        """A pod is ready when its readiness probe says so, and only then."""
        self.prober.answers["/ready"] = (False, "HTTP probe failed with statuscode: 503")
        self.start_agent()
        self.apply(make_pod(c_readinessProbe=self.http("/ready", periodSeconds=2)))
        self.assertEqual(self.condition("Ready")["status"], "False")
        self.assertIn(
            ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
            self.meta.events(),
        )
        self.prober.answers.clear()
        self.wait(3)
        self.assertEqual(self.condition("Ready")["status"], "True")
        self.prober.answers["/ready"] = (False, "")
        self.wait(3)
        self.assertEqual(self.condition("Ready")["status"], "True")
        self.wait(4)
        self.assertEqual(self.condition("Ready")["status"], "False")

    def test_liveness(self) -> None:
        """A container that fails its liveness probe three times is restarted."""
        self.start_agent()
        self.apply(make_pod(c_livenessProbe=self.http("/live", initialDelaySeconds=5)))
        self.wait(4)
        self.assertEqual(self.prober.asked, [])
        self.wait(2)
        self.assertEqual(self.prober.asked, ["/live"])
        self.prober.answers["/live"] = (False, "")
        self.wait(20)
        self.assertEqual(self.container()["restartCount"], 0)
        self.wait(10)
        self.assertEqual(self.container()["restartCount"], 1)
        self.assertIn(
            ("Killing", "Container web failed liveness probe, will be restarted"),
            self.meta.events(),
        )

    def test_startup(self) -> None:
        """Until its startup probe succeeds, a container is neither started nor probed else."""
        self.prober.answers["/up"] = (False, "")
        self.start_agent()
        self.apply(
            make_pod(
                c_startupProbe=self.http("/up", periodSeconds=1, failureThreshold=30),
                c_readinessProbe=self.http("/ready"),
            )
        )
        self.wait(5)
        self.assertEqual(set(self.prober.asked), {"/up"})
        self.assertFalse(self.container()["started"])
        self.prober.answers.clear()
        self.wait(2)
        self.assertTrue(self.container()["started"])
        self.assertTrue(self.container()["ready"])

    def test_startup_that_never_comes(self) -> None:
        """A container that does not come up in time is restarted."""
        self.prober.answers["/up"] = (False, "")
        self.start_agent()
        self.apply(make_pod(c_startupProbe=self.http("/up", periodSeconds=1)))
        self.wait(4)
        self.assertEqual(self.container()["restartCount"], 1)


class AgentRestartTests(EdgedCase):
    def test_adopts(self) -> None:
        """A restarted agent finds its pod running, and leaves it alone."""
        self.start_agent()
        self.apply(make_pod())
        before = self.runtime.find("uid-1", "web")
        calls = list(self.runtime.calls)
        self.meta.pods[0]["status"] = self.status()
        self.stop_agent()
        self.meta.offline = True
        self.wait(30)
        self.start_agent()
        self.assertEqual(self.runtime.find("uid-1", "web"), before)
        self.assertEqual(self.runtime.calls, calls)
        self.assertEqual(self.status()["phase"], "Running")
        self.assertEqual(self.condition("Ready")["lastTransitionTime"], "2026-11-24T06:52:53Z")

    def test_counts_go_on(self) -> None:
        """Restart counts survive the agent."""
        self.start_agent()
        self.apply(make_pod())
        self.runtime.exit("uid-1", "web", 1)
        self.settle()
        self.stop_agent()
        self.start_agent()
        self.wait(11)
        self.runtime.exit("uid-1", "web", 1)
        self.settle()
        self.assertEqual(self.container()["restartCount"], 2)

    def test_stays_ready(self) -> None:
        """A pod that was ready does not turn unready because its agent restarted."""
        self.start_agent()
        probe = {"httpGet": {"path": "/ready", "port": 80}}
        self.apply(make_pod(c_readinessProbe=probe))
        self.meta.pods[0]["status"] = self.status()
        self.stop_agent()
        told = len(self.meta.told("patch", "default/podpatch/web"))
        self.start_agent()
        for patch in self.meta.told("patch", "default/podpatch/web")[told:]:
            ready = [c["status"] for c in patch["status"]["conditions"] if c["type"] == "Ready"]
            self.assertEqual(ready, ["True"])

    def test_boots_offline(self) -> None:
        """After a reboot without a cloud, the stored pods start."""
        self.meta.offline = True
        self.meta.pods = [make_pod(), make_pod("two", "uid-2")]
        self.start_agent()
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        self.assertEqual(self.runtime.running("uid-2"), {"two"})

    def test_unreadable_row(self) -> None:
        """A stored pod that cannot be read keeps no other from starting."""
        rows: list[Any] = ["{", 7, {"metadata": {}}, make_pod()]
        self.meta.pods = rows
        self.start_agent()
        self.assertEqual(self.runtime.running("uid-1"), {"web"})

    def test_lost_containers_are_counted(self) -> None:
        """Containers that are gone without a trace count as one restart."""
        self.start_agent()
        self.apply(make_pod())
        self.meta.pods[0]["status"] = self.status()
        self.stop_agent()
        self.runtime.containers.clear()
        self.runtime.sandboxes.clear()
        self.start_agent()
        container = self.container()
        self.assertEqual(container["restartCount"], 1)
        self.assertIn("running", container["state"])
        self.assertEqual(container["lastState"]["terminated"]["reason"], "ContainerStatusUnknown")

    def test_ends_what_is_not_wanted(self) -> None:
        """A pod deleted while the agent was away is ended, once the store was read."""
        self.start_agent()
        self.apply(make_pod())
        self.stop_agent()
        self.meta.pods = []
        self.meta.store_down = True
        self.start_agent()
        self.assertEqual(self.runtime.running("uid-1"), {"web"})
        self.meta.store_down = False
        self.wait(3)
        self.assertEqual(self.runtime.sandboxes, {})
        self.assertFalse((self.root / "pods" / "uid-1").exists())

    def test_goes_on_deleting(self) -> None:
        """An agent restarted in the middle of a deletion finishes it."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(ignores_sigterm=True)
        self.start_agent()
        pod = make_pod()
        self.apply(pod)
        self.delete(pod)
        self.wait(5)
        self.stop_agent()
        self.start_agent()
        self.wait(31)
        self.assertEqual(self.runtime.sandboxes, {})
        self.assertEqual(self.meta.seen[-1][0], "delete")

    def test_engine_restarted(self) -> None:
        """What happened while the engine was away is seen as soon as it is back."""
        self.start_agent()
        self.apply(make_pod())
        self.runtime.down = True
        self.wait(11)
        self.runtime.lose_sandbox("uid-1")
        self.settle()
        self.runtime.down = False
        self.wait(11)
        self.assertEqual(self.runtime.running("uid-1"), {"web"})

    def test_stops_in_the_middle(self) -> None:
        """An agent stopped while it pulls, probes, waits and stops leaves no loose ends."""
        self.runtime.held_pulls["slow"] = []
        self.runtime.programs["/bin/sleep", "100000"] = Program(ignores_sigterm=True)
        self.start_agent()
        self.send("connect", "node/connection", "cloud_connected")
        self.apply(make_pod(c_image="slow"))
        self.apply(make_pod("probed", "uid-2", c_livenessProbe={"tcpSocket": {"port": 1}}))
        self.apply(make_pod("waits", "uid-3", volumes=[{"name": "c", "configMap": {"name": "x"}}]))
        ending = make_pod("ending", "uid-4")
        self.apply(ending)
        self.delete(ending)
        self.stop_agent()
        self.clock.advance(0)
        left = [each for each in self.clock.getDelayedCalls() if "_kill" not in str(each)]
        self.assertEqual(left, [])
        self.assertEqual(self.runtime.running("uid-2"), {"probed"})

    def test_engine_away(self) -> None:
        """Nothing is done while the engine does not answer, and all of it afterwards."""
        self.start_agent()
        self.runtime.down = True
        self.apply(make_pod())
        self.assertEqual(self.runtime.sandboxes, {})
        self.runtime.down = False
        self.wait(6)
        self.assertEqual(self.runtime.running("uid-1"), {"web"})


class ConfigurationTests(EdgedCase):
    def test_environment_from_objects(self) -> None:
        """Variables come from ConfigMaps, Secrets and the pod itself."""
        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "hello"}}
        self.meta.objects["default/secret/pw"] = {"data": {"password": "c2VzYW0="}}
        self.start_agent()
        self.apply(
            make_pod(
                c_envFrom=[{"configMapRef": {"name": "app"}, "prefix": "APP_"}],
                c_env=[
                    {
                        "name": "PW",
                        "valueFrom": {"secretKeyRef": {"name": "pw", "key": "password"}},
                    },
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "URL", "value": "http://$(IP)/$(PW)"},
                ],
            )
        )
        found = self.runtime.find("uid-1", "web")
        assert found is not None
        self.assertEqual(
            dict(self.runtime.spec_of(found.id).env),
            {
                "APP_greeting": "hello",
                "PW": "sesam",
                "IP": "10.0.0.1",
                "URL": "http://10.0.0.1/sesam",
            },
        )

    def test_missing_object(self) -> None:
        """A container waits for a Secret that is not there, and starts when it comes."""
        self.start_agent()
        ref = {"secretKeyRef": {"name": "pw", "key": "password"}}
        self.apply(make_pod(c_env=[{"name": "PW", "valueFrom": ref}]))
        self.assertEqual(
            self.container()["state"]["waiting"],
            {"reason": "CreateContainerConfigError", "message": 'secret "pw" not found'},
        )
        self.meta.objects["default/secret/pw"] = {"data": {"password": "c2VzYW0="}}
        self.send("insert", "default/secret/pw", self.meta.objects["default/secret/pw"])
        self.assertEqual(self.status()["phase"], "Running")

    def test_missing_volume(self) -> None:
        """A pod waits for the ConfigMap of its volume, and starts when it comes."""
        self.start_agent()
        self.apply(make_pod(volumes=[{"name": "c", "configMap": {"name": "app"}}]))
        self.assertEqual(self.container()["state"], {"waiting": {"reason": "ContainerCreating"}})
        self.assertIn(
            (
                "FailedMount",
                'MountVolume.SetUp failed for volume "c" : configmap "app" not found',
            ),
            self.meta.events(),
        )
        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "hello"}}
        self.send("insert", "default/configmap/app", self.meta.objects["default/configmap/app"])
        self.assertEqual(self.status()["phase"], "Running")

    def test_changed_object_reaches_its_file(self) -> None:
        """A changed ConfigMap is in its file, and the container was not restarted."""
        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "hello"}}
        self.start_agent()
        self.apply(
            make_pod(
                volumes=[{"name": "c", "configMap": {"name": "app"}}],
                c_volumeMounts=[{"name": "c", "mountPath": "/etc/app"}],
            )
        )
        found = self.runtime.find("uid-1", "web")
        assert found is not None
        (mount,) = self.runtime.spec_of(found.id).mounts
        file = mount.host_path / "greeting"
        self.assertEqual(file.read_text(), "hello")
        self.meta.objects["default/configmap/app"] = {"data": {"greeting": "good night"}}
        self.send("update", "default/configmap/app", self.meta.objects["default/configmap/app"])
        self.assertEqual(file.read_text(), "good night")
        self.assertEqual(self.runtime.find("uid-1", "web"), found)

    def test_token_is_renewed(self) -> None:
        """A service-account token is replaced before it expires."""
        self.start_agent()
        sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]
        self.apply(
            make_pod(
                volumes=[{"name": "t", "projected": {"sources": sources}}],
                c_volumeMounts=[{"name": "t", "mountPath": "/var/run/t"}],
                serviceAccountName="robot",
            )
        )
        ((_, resource, request),) = [s for s in self.meta.seen if "serviceaccounttoken" in s[1]]
        self.assertEqual(resource, "default/serviceaccounttoken/robot")
        self.assertEqual(
            request,
            {
                "metadata": {"creationTimestamp": None},
                "spec": {
                    "audiences": None,
                    "expirationSeconds": 3600,
                    "boundObjectRef": {
                        "kind": "Pod",
                        "apiVersion": "v1",
                        "name": "web",
                        "uid": "uid-1",
                    },
                },
                "status": {"token": "", "expirationTimestamp": None},
            },
        )
        token = self.root / "pods/uid-1/volumes/kubernetes.io~projected/t/token"
        self.assertEqual(token.read_text(), "token-1")
        self.clock.advance(2870)
        self.settle()
        self.assertEqual(token.read_text(), "token-1")
        self.clock.advance(20)
        self.settle()
        self.assertEqual(token.read_text(), "token-2")
