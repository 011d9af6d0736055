from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import NODES, PODS
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.cloud.edgecontroller.claims import CLOUDCORE, MAX_VERSIONS, SESSION, Claim
from kubeedge_tx.kube.interfaces import IListener
from tests.cloud.edgecontroller.clouds import NODE, Cloud, Edge, written
from tests.cloud.edgecontroller.rig import CLOUD_IP, EdgeControllerCase
from tests.cloud.rig import connected, from_edge, node, pod, read
from tests.fakes.kube import FakeKube, kube_error

KINDS = [0, 0, 1, 1, 2, *[3] * 4, 4, 5, *[6] * 5, *[7] * 8]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), min_size=10, max_size=70)


class ManyCloudsTests(SynchronousTestCase):
    """Several clouds that may hang, an API server that may be slow, watches that may lag."""

    def begin(self) -> None:
        self.kube = FakeKube()
        self.kube.put(NODES, node())
        self.kube.put(PODS, pod())
        self.clouds = [Cloud(name, self.kube) for name in ("a", "b", "c")]
        self.edge = Edge()
        self.highest = 0

    def step(self, what: int, which: int) -> None:
        cloud = self.clouds[which % len(self.clouds)]
        if what == 0:
            self.edge.report()
        elif what == 1:
            self.edge.move(cloud)
        elif what == 2:
            self.edge.leave()
        elif what == 3:
            cloud.catch_up(which // 3)
        elif what == 4:
            touched: dict[str, Any] = self.kube.peek(PODS, "default", "web") or {}
            touched["metadata"]["labels"] = {"touched": str(self.kube.version)}
            self.kube.put(PODS, touched)
        elif what == 5:
            self.edge.repeat()
        elif what == 6:
            cloud.read()
        elif cloud.kube.pending:
            cloud.kube.let(which // 3)
            cloud.answers()
        self.check()

    def check(self) -> None:
        now = written(self.kube)
        self.assertGreaterEqual(now, self.highest, "the pod's status went back")
        self.highest = now

    def settle(self) -> None:
        """The edge stays, and everybody does what there is to do."""
        for _ in range(60):
            for cloud in self.clouds:
                cloud.read()
                while cloud.session is not None and cloud.session.unread:
                    cloud.read()
                cloud.read()
                for number in (0, 1):
                    cloud.catch_up(number)
                while cloud.kube.pending:
                    cloud.kube.let(0)
                    self.check()
                cloud.answers()
            if self.edge.confirmed == self.edge.newest:
                return
            self.edge.repeat()
            if self.edge.session is None or self.edge.session not in [
                cloud.session for cloud in self.clouds
            ]:
                self.edge.move(self.clouds[0])

    @settings(max_examples=300)
    @given(STEPS)
    def test_no_status_goes_back(self, steps: list[tuple[int, int]]) -> None:
        """Whoever hangs and wakes, a report never replaces a later one; the last one arrives."""
        self.begin()
        for what, which in steps:
            self.step(what, which)
        self.settle()
        self.assertEqual(self.edge.confirmed, self.edge.newest, steps)
        self.assertEqual(written(self.kube), self.edge.newest)

    def test_the_story(self) -> None:
        """A cloud has read a report and hangs; the edge reports through another; it wakes."""
        self.begin()
        slow, other, _ = self.clouds
        self.edge.move(slow)
        self.edge.report()
        for _ in range(2):
            slow.read()
        self.edge.move(other)
        self.edge.report()
        for _ in range(9):
            other.read()
            if other.kube.pending:
                other.kube.let(0)
        self.assertEqual(written(self.kube), 2)
        for informer in (1, 0):  # it hears of the pod's new version before it hears of the Node
            slow.catch_up(informer)
        for _ in range(9):
            slow.read()
            if slow.kube.pending:
                slow.kube.let(0)
        self.assertEqual(written(self.kube), 2)
        self.assertIsNone(slow.session)


class OneCloudTests(EdgeControllerCase):
    """What it costs where there is one cloud, or where all goes well."""

    def setUp(self) -> None:
        super().setUp()
        self.kube.put(NODES, node())
        self.kube.put(PODS, pod())
        self.kube.calls.clear()

    def report(self, phase: str = "Running") -> Any:
        body = {"metadata": {"uid": "uid-web"}, "status": {"phase": phase}}
        return self.ask("patch", "default/podpatch/web", body)

    def verbs(self) -> list[str]:
        calls, self.kube.calls = self.kube.calls, []
        return [f"{call.verb} {call.kind.plural}" for call in calls]

    def mark(self) -> str:
        return meta.annotation(self.kube.peek(NODES, "", NODE) or {}, SESSION)

    def test_interface(self) -> None:
        """It hears of Nodes as every listener does."""
        verifyObject(IListener, self.claims)

    def test_one_write_for_a_connection(self) -> None:
        """Each connection is written into its Node once; nothing is read or asked for it."""
        for number in (1, 2):
            self.say(connected(NODE))
            self.assertEqual(self.verbs(), ["patch nodes"])
            self.assertEqual(self.mark(), f"cloud-a/{number}")
            self.say(from_edge("disconnected", f"node/{NODE}", source="cloudhub"))
        self.assertEqual(self.edges.asked, [])

    def test_reports_cost_what_they_did(self) -> None:
        """Only a version that somebody else has made costs a look at the Node."""
        self.say(connected(NODE))
        self.verbs()
        self.report()
        self.assertEqual(self.verbs(), ["get nodes", "patch pods"])
        for phase in ("Failed", "Running"):
            self.report(phase)
        self.assertEqual(self.verbs(), ["patch pods"] * 2)
        self.ask("patch", f"null/nodepatch/{NODE}", {"status": {"phase": "Running"}})
        self.assertEqual(self.verbs(), ["patch nodes"])

    def test_many_reports_one_look(self) -> None:
        """What is reported at once is looked after at once."""
        self.say(connected(NODE))
        self.verbs()
        for number in range(5):
            self.kube.put(PODS, pod(f"web-{number}"))
        self.kube.hold()
        for number in range(5):
            body = {"metadata": {"uid": f"uid-web-{number}"}, "status": {"phase": "Running"}}
            self.say(from_edge("patch", f"node/{NODE}/default/podpatch/web-{number}", body))
        self.kube.release()
        # Who asked first has begun the first look; the others share the second.
        self.assertEqual(self.verbs().count("get nodes"), 2)

    def test_somebody_writes_in_between(self) -> None:
        """A conflict is looked at, and the report written on top of it."""
        self.say(connected(NODE))
        self.report()
        self.kube.fail_next("patch", kube_error(409, "Conflict", "modified"), kind=PODS)
        self.object_of(self.report("Failed"))
        found = self.kube.peek(PODS, "default", "web") or {}
        self.assertEqual(found["status"]["phase"], "Failed")
        self.kube.fail_next("patch", kube_error(409, "Conflict", "modified"), kind=NODES)
        status = {"status": {"phase": "Running"}}
        self.object_of(self.ask("patch", f"null/nodepatch/{NODE}", status))
        found = self.kube.peek(NODES, "", NODE) or {}
        self.assertEqual(found["status"]["phase"], "Running")

    def test_somebody_is_always_faster(self) -> None:
        """A report that meets one conflict after the other is for later, and not given up."""
        self.say(connected(NODE))
        conflict = kube_error(409, "Conflict", "modified")
        content = {"UID": "uid-web", "Name": "web", "Status": {"phase": "Failed"}}
        for kind, verb, resource, body in (
            (PODS, "patch", "default/podpatch/web", {"metadata": {"uid": "uid-web"}}),
            (NODES, "patch", f"null/nodepatch/{NODE}", {"status": {}}),
            (PODS, "update", "default/podstatus/web", content),
            (NODES, "update", f"default/nodestatus/{NODE}", {"UID": "", "Status": {}}),
        ):
            self.kube.fail_next(verb, conflict, kind=kind, times=3)
            answer = read(self.ask(verb, resource, body))
            error = answer.get("Err") or answer
            self.assertEqual(error["ErrStatus"]["code"], 503, resource)

    def test_a_node_made_anew(self) -> None:
        """What an edge says of a Node that is gone is refused for good."""
        self.say(connected(NODE))
        said = {"metadata": {"uid": "of-before"}, "status": {}}
        self.kube.fail_next("patch", kube_error(409, "Conflict", "uid"), kind=NODES)
        error = self.error_of(self.ask("patch", f"null/nodepatch/{NODE}", said))
        self.assertEqual(error["code"], 404)

    def test_the_mark_meets_a_heartbeat(self) -> None:
        """A Node that has changed meanwhile is marked all the same."""
        self.kube.fail_next("patch", kube_error(409, "Conflict", "modified"), kind=NODES)
        self.say(connected(NODE))
        self.assertEqual(self.mark(), "cloud-a/1")
        self.assertEqual(self.edges.asked, [])

    def test_the_api_server_is_away(self) -> None:
        """A mark that could not be written is written with the first report."""
        self.edges.there.add(NODE)
        self.kube.fail_next("patch", kube_error(503, "ServiceUnavailable", "away"), kind=NODES)
        self.say(connected(NODE))
        self.assertEqual(self.mark(), "")
        self.object_of(self.report())
        self.assertEqual(self.mark().partition("/")[0], "cloud-a")
        self.assertEqual(self.edges.displaced, [])

    def test_a_node_that_registers(self) -> None:
        """A Node that is new has the mark from the beginning."""
        self.kube.drop(NODES, "", NODE)
        self.say(connected(NODE))
        self.object_of(self.ask("insert", f"null/node/{NODE}", {"metadata": {"name": NODE}}))
        found = self.kube.peek(NODES, "", NODE) or {}
        self.assertEqual(meta.annotation(found, SESSION), "cloud-a/1")
        self.assertEqual(meta.annotation(found, CLOUDCORE), CLOUD_IP)

    def test_no_edge_marks_itself(self) -> None:
        """What an edge sends of its Node may be old, or false: the mark is not its to say."""
        self.say(connected(NODE))
        forged = {"annotations": {SESSION: "cloud-b/9", "kept": "yes"}}
        self.ask("update", f"null/node/{NODE}", {"metadata": forged})
        self.ask("patch", f"null/nodepatch/{NODE}", {"metadata": forged, "status": {}})
        self.assertEqual(self.mark(), "cloud-a/1")
        self.assertEqual(meta.annotation(self.kube.peek(NODES, "", NODE) or {}, "kept"), "yes")

    # Somebody else has it

    def other(self, mark: str = "cloud-b/1") -> None:
        taken: dict[str, Any] = self.kube.peek(NODES, "", NODE) or {}
        taken["metadata"].setdefault("annotations", {})[SESSION] = mark
        self.kube.put(NODES, taken)

    def unheard(self, operation: str, resource: str, content: Any) -> list[Message]:
        """Say something as the node; returns what is sent because of it."""
        return self.say(from_edge(operation, f"node/{NODE}/{resource}", content))

    def test_taken_and_gone(self) -> None:
        """The edge has connected elsewhere and does not answer here: its session ends here."""
        self.say(connected(NODE))
        self.report()
        self.other()
        self.assertEqual(self.edges.displaced, [NODE])
        # An answer might find the edge when it comes back, which would take it for the last word.
        self.assertEqual(self.unheard("patch", f"null/nodepatch/{NODE}", {"status": {}}), [])
        self.assertEqual(self.mark(), "cloud-b/1")

    def test_taken_by_mistake(self) -> None:
        """An edge that answers here is here: a mark that came late is replaced."""
        self.edges.there.add(NODE)
        self.say(connected(NODE))
        self.other()
        self.assertEqual(self.mark().partition("/")[0], "cloud-a")
        self.assertEqual(self.edges.displaced, [])
        self.object_of(self.report())

    def test_two_edges_of_one_name(self) -> None:
        """Taken twice within a minute, it is left to the other; later it is an accident again."""
        self.edges.there.add(NODE)
        self.say(connected(NODE))
        self.other("cloud-b/1")
        self.clock.advance(61)
        self.other("cloud-b/2")
        self.assertEqual(self.edges.displaced, [])
        self.other("cloud-b/3")
        self.assertEqual(self.edges.displaced, [NODE])

    def test_old_status(self) -> None:
        """Reports in the form of old edges are held back in the same way."""
        self.say(connected(NODE))
        self.other()
        content = {"UID": "uid-web", "Name": "web", "Status": {"phase": "Failed"}}
        for resource, body in (
            ("default/podstatus/web", content),
            (f"default/nodestatus/{NODE}", {"UID": "", "Status": {"phase": "Gone"}}),
        ):
            self.assertEqual(self.unheard("update", resource, body), [])
        found = self.kube.peek(PODS, "default", "web") or {}
        self.assertNotEqual((found.get("status") or {}).get("phase"), "Failed")


class ClaimTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """What is remembered of one node's objects has a limit; the oldest goes."""
        claim = Claim("edge-1", "a/1")
        for number in range(MAX_VERSIONS + 3):
            claim.wrote({"metadata": {"uid": f"u{number}", "resourceVersion": str(number)}})
        self.assertEqual(len(claim.versions), MAX_VERSIONS)
        self.assertNotIn("u2", claim.versions)
        self.assertEqual(claim.versions["u3"], "3")
