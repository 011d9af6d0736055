from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kubeedge_tx.api.resources import CONFIGMAPS, NODES, PODS, SECRETS
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import STRATEGIC_PATCH, IInformer, IKubeClient
from tests.fakes.kube import FakeKube, unreachable


class Recorder:
    """An IListener that remembers, and waits if told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.wait: Deferred[None] | None = None

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        self.seen.append(("added", obj["metadata"]["name"]))
        return self.wait

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.seen.append(("modified", new["metadata"]["name"]))

    def deleted(self, obj: dict[str, Any]) -> None:
        self.seen.append(("deleted", obj["metadata"]["name"]))


class FakeKubeTests(SynchronousTestCase):
    """The fake refuses what the real API server refuses."""

    def setUp(self) -> None:
        self.kube = FakeKube()

    def refused(self, deferred: Deferred[Any]) -> KubeError:
        error = self.failureResultOf(deferred, KubeError).value
        assert isinstance(error, KubeError)
        return error

    def test_interfaces(self) -> None:
        """Fake client and informer keep to the interfaces."""
        self.assertTrue(verifyObject(IKubeClient, self.kube))
        self.assertTrue(verifyObject(IInformer, self.kube.informer(PODS)))

    def test_life_of_an_object(self) -> None:
        """Created, changed with the right version, refused with an old one, deleted."""
        made = self.successResultOf(
            self.kube.create(SECRETS, "default", {"metadata": {"name": "s"}, "data": {"a": "eA=="}})
        )
        changed = self.successResultOf(
            self.kube.update(SECRETS, "default", "s", {**made, "data": {"a": "eQ=="}})
        )
        self.assertNotEqual(
            made["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]
        )
        self.assertEqual(self.refused(self.kube.update(SECRETS, "default", "s", made)).code, 409)
        again = self.refused(self.kube.create(SECRETS, "default", {"metadata": {"name": "s"}}))
        self.assertEqual((again.code, again.reason), (409, "AlreadyExists"))
        self.successResultOf(self.kube.delete(SECRETS, "default", "s"))
        gone = self.refused(self.kube.get(SECRETS, "default", "s"))
        self.assertEqual(str(gone), 'secrets "s" not found')

    def test_no_namespace(self) -> None:
        """Nothing can be created in a namespace that does not exist."""
        error = self.refused(self.kube.create(SECRETS, "kubeedge", {"metadata": {"name": "s"}}))
        self.assertEqual(str(error), 'namespaces "kubeedge" not found')

    def test_graceful_delete(self) -> None:
        """A pod on a node is marked first, and goes at the second delete with no grace."""
        self.kube.put(
            PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n"}}
        )
        marked = self.successResultOf(self.kube.delete(PODS, "default", "p"))
        self.assertIn("deletionTimestamp", marked["metadata"])
        wrong = {"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}}
        self.assertEqual(
            self.refused(self.kube.delete(PODS, "default", "p", options=wrong)).code, 409
        )
        self.successResultOf(
            self.kube.delete(PODS, "default", "p", options={"gracePeriodSeconds": 0})
        )
        self.assertIsNone(self.kube.peek(PODS, "default", "p"))

    def test_status_patch(self) -> None:
        """A status is patched through its subresource only, conditions merged by type."""
        ready = {"type": "Ready", "status": "True"}
        self.kube.put(NODES, {"metadata": {"name": "n"}, "status": {"conditions": [ready]}})
        patch = {"status": {"conditions": [{"type": "Disk", "status": "False"}]}}
        same = self.successResultOf(
            self.kube.patch(NODES, "", "n", patch, content_type=STRATEGIC_PATCH)
        )
        self.assertEqual(len(same["status"]["conditions"]), 1)
        new = self.successResultOf(
            self.kube.patch(
                NODES, "", "n", patch, content_type=STRATEGIC_PATCH, subresource="status"
            )
        )
        self.assertEqual(len(new["status"]["conditions"]), 2)

    def test_selectors(self) -> None:
        """Lists are narrowed by label and by field."""
        for name, node in (("a", "n1"), ("b", "n2")):
            self.kube.put(
                PODS,
                {
                    "metadata": {"name": name, "namespace": "default", "labels": {"x": name}},
                    "spec": {"nodeName": node},
                },
            )

        def names(**selectors: str) -> list[str]:
            found = self.successResultOf(self.kube.list(PODS, **selectors))
            return [item["metadata"]["name"] for item in found["items"]]

        self.assertEqual(names(), ["a", "b"])
        self.assertEqual(names(label_selector="x=b"), ["b"])
        self.assertEqual(names(field_selector="spec.nodeName=n1"), ["a"])

    def test_told_failures_and_held_answers(self) -> None:
        """A test can make a call fail once, and keep answers back."""
        self.kube.fail_next("get", unreachable())
        self.assertEqual(self.refused(self.kube.get(PODS, "default", "p")).code, 0)
        self.kube.hold()
        waiting = self.kube.list(PODS)
        self.assertNoResult(waiting)
        self.kube.release()
        self.assertEqual(self.successResultOf(waiting)["items"], [])

    def test_informer_waits_for_its_listener(self) -> None:
        """Events come one at a time, the next when the listener is done with the last."""
        listener = Recorder()
        wait: Deferred[None] = Deferred()
        listener.wait = wait
        informer = self.kube.informer(CONFIGMAPS)
        informer.add_listener(listener)
        obj = self.kube.put(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}})
        self.kube.put(CONFIGMAPS, {**obj, "data": {"k": "v"}})
        self.assertEqual(listener.seen, [("added", "c")])
        listener.wait = None
        wait.callback(None)
        self.kube.drop(CONFIGMAPS, "default", "c")
        self.assertEqual([what for what, _ in listener.seen], ["added", "modified", "deleted"])
        self.assertIsNone(informer.get("default", "c"))
