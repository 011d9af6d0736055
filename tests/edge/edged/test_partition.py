from __future__ import annotations

from typing import Any

from kubeedge_tx.api.partition import CONDITION, ON_PARTITION
from kubeedge_tx.edge.edged.contact import FILE
from tests.edge.edged.harness import EdgedCase, make_pod
from tests.fakes.runtime import Program


class PartitionCase(EdgedCase):
    policy = "stop-after=10m"

    def pod(self, **spec: Any) -> dict[str, Any]:
        made = make_pod(**spec)
        made["metadata"]["annotations"] = {ON_PARTITION: self.policy}
        return made

    def connect(self) -> None:
        self.meta.offline = False
        self.send("connect", "node/connection", "cloud_connected", source="edgehub")

    def cut(self) -> None:
        self.meta.offline = True
        self.send("connect", "node/connection", "cloud_disconnected", source="edgehub")

    def pass_time(self, seconds: float) -> None:
        """Coarser than ``wait``: partitions are long."""
        for _ in range(int(seconds / 2.5)):
            self.clock.advance(2.5)
            self.settle()

    def runs(self) -> bool:
        return self.runtime.running("uid-1") == {"web"}


class StopTests(PartitionCase):
    """A pod that does not go on for ever."""

    def test_ended(self) -> None:
        """Ten minutes after the cluster was heard last it is ended, and has failed."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.pass_time(1200)
        self.assertTrue(self.runs())
        self.cut()
        self.pass_time(585)
        self.assertTrue(self.runs())
        self.pass_time(25)
        self.assertFalse(self.runs())
        status = self.status()
        self.assertEqual((status["phase"], status["reason"]), ("Failed", "PartitionTimeout"))
        self.assertIn(ON_PARTITION, status["message"])
        self.connect()
        self.pass_time(60)
        self.assertFalse(self.runs())
        self.assertEqual(self.status()["phase"], "Failed")
        self.assertIn("PartitionTimeout", [reason for reason, _ in self.meta.events()])

    def test_said_when_it_is_over(self) -> None:
        """It is not called failed while something of it may still run."""
        self.runtime.programs["/bin/sleep", "100000"] = Program(ignores_sigterm=True)
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.cut()
        self.pass_time(612)
        self.assertTrue(self.runs())
        self.assertEqual(self.status()["phase"], "Running")
        self.pass_time(30)
        self.assertFalse(self.runs())
        self.assertEqual(self.status()["phase"], "Failed")

    def test_heard_in_between(self) -> None:
        """Each word from the cluster begins the time anew."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        for _ in range(3):
            self.cut()
            self.pass_time(580)
            self.connect()
            self.pass_time(15)
        self.assertTrue(self.runs())

    def test_a_link_without_a_cluster(self) -> None:
        """A cloud that is there and cannot reach the cluster keeps no pod alive."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.meta.offline = True  # every question fails; the link stays
        self.pass_time(620)
        self.assertFalse(self.runs())

    def test_clock_that_jumps(self) -> None:
        """Whatever the wall clock says, the time that passes is what counts."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.cut()
        self.skew += 10 * 365 * 86400
        self.pass_time(300)
        self.assertTrue(self.runs())
        self.skew -= 20 * 365 * 86400
        self.pass_time(310)
        self.assertFalse(self.runs())

    def test_others_go_on(self) -> None:
        """Without the annotation, or with one that says nothing, a pod goes on for ever."""
        self.start_agent()
        self.connect()
        for number, policy in enumerate((None, "keep", "stop", "stop-after=1s")):
            each = make_pod(f"p{number}", f"uid-{number}")
            if policy is not None:
                each["metadata"]["annotations"] = {ON_PARTITION: policy}
            self.apply(each)
        self.cut()
        self.pass_time(1200)
        for number in range(4):
            self.assertEqual(self.runtime.running(f"uid-{number}"), {f"p{number}"})

    def test_said_what_will_be_done(self) -> None:
        """Its status says what the node will do, or why it does not understand."""
        self.start_agent()
        self.connect()
        pod = self.pod()
        for policy, condition in (
            ("stop-after=10m", ("True", "StopAfter", "stop-after=10m")),
            ("replace-after=1h", ("True", "ReplaceAfter", "replace-after=1h")),
            ("keep", ("False", "Keep", None)),
            ("stop", ("False", "NotUnderstood", ...)),
        ):
            pod["metadata"]["annotations"] = {ON_PARTITION: policy}
            self.apply({**pod, "metadata": {**pod["metadata"]}}, "update")
            found = self.condition(CONDITION)
            self.assertEqual((found["status"], found["reason"]), condition[:2])
            if condition[2] is not ...:
                self.assertEqual(found["message"], condition[2])
        other = make_pod("other", "uid-2")
        self.apply(other)
        kinds = {each["type"] for each in self.status("other")["conditions"]}
        self.assertNotIn(CONDITION, kinds)

    def test_annotated_later(self) -> None:
        """The annotation of a pod that runs may be changed."""
        self.start_agent()
        self.connect()
        pod = self.pod()
        self.apply(pod)
        pod["metadata"]["annotations"] = {ON_PARTITION: "keep"}
        self.apply(pod, "update")
        self.cut()
        self.pass_time(700)
        self.assertTrue(self.runs())


class RestartTests(PartitionCase):
    """An agent, or a machine, that restarts meanwhile."""

    def test_agent_restarts(self) -> None:
        """The time goes on while the agent is away."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.cut()
        self.pass_time(300)
        self.stop_agent()
        self.pass_time(250)
        self.start_agent()
        self.pass_time(30)
        self.assertTrue(self.runs())
        self.pass_time(30)
        self.assertFalse(self.runs())
        self.assertEqual(self.status()["reason"], "PartitionTimeout")

    def test_agent_is_killed(self) -> None:
        """A killed agent counts from what it wrote half a minute ago: sooner, never later."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.pass_time(300)
        file = (self.root / FILE).read_bytes()
        self.cut()
        self.stop_agent()
        (self.root / FILE).write_bytes(file)
        self.start_agent()
        self.pass_time(540)
        self.assertTrue(self.runs())
        self.pass_time(70)
        self.assertFalse(self.runs())

    def test_failed_stays_failed(self) -> None:
        """A restarted agent does not start what was ended."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.cut()
        self.pass_time(620)
        self.meta.pods[0]["status"] = self.status()
        self.stop_agent()
        self.start_agent()
        self.connect()
        self.pass_time(30)
        self.assertFalse(self.runs())

    def reboot(self) -> None:
        self.stop_agent()
        self.runtime.containers.clear()
        self.runtime.sandboxes.clear()
        self.boot_id = "another"
        self.start_agent()

    def test_machine_restarts(self) -> None:
        """After a start of the machine it waits for the cluster: who knows how long it was off."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.cut()
        self.pass_time(60)
        self.reboot()
        self.pass_time(300)
        self.assertFalse(self.runs())
        self.connect()
        self.settle()
        self.assertTrue(self.runs())

    def test_machine_restarts_and_hears_nothing(self) -> None:
        """When the time is over without a word it has failed."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.cut()
        self.reboot()
        self.pass_time(610)
        self.assertFalse(self.runs())
        self.assertEqual(self.status()["reason"], "PartitionTimeout")

    def test_removed_while_it_waits(self) -> None:
        """Gone from the cluster, it is forgotten, and what is left of it removed."""
        self.start_agent()
        self.connect()
        self.apply(self.pod())
        self.cut()
        self.reboot()
        self.meta.pods = []
        self.send("delete", "default/pod/web", self.pod())
        self.assertEqual(self.edged.workers, {})
        self.connect()
        self.pass_time(10)
        self.assertFalse(self.runs())

    def test_unreadable_file(self) -> None:
        """A damaged file is as good as none."""
        self.start_agent()
        self.stop_agent()
        self.root.mkdir(exist_ok=True)
        (self.root / FILE).write_text("{")
        self.meta.pods = [self.pod()]
        self.start_agent()
        self.assertFalse(self.runs())
        self.connect()
        self.assertTrue(self.runs())

    def test_few_writes(self) -> None:
        """The disk is spared: no writes without such a pod, two a minute with one."""
        self.start_agent()
        self.connect()
        self.apply(make_pod("other", "uid-2"))
        self.pass_time(600)
        self.assertFalse((self.root / FILE).exists())
        self.apply(self.pod())
        self.pass_time(10)
        written = set()
        for _ in range(240):
            self.pass_time(2.5)
            written.add((self.root / FILE).read_bytes())
        self.assertTrue(10 <= len(written) <= 21, len(written))
