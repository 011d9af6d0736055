from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.resources import CRDS
from kubeedge_tx.cloud import crds
from kubeedge_tx.errors import KubeError
from tests.fakes.kube import FakeKube


class EnsureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.kube = FakeKube()
        self.clock = Clock()
        self.names = [each["metadata"]["name"] for each in crds.definitions()]

    def ensure(self) -> Deferred[None]:
        return Deferred.fromCoroutine(crds.ensure(self.kube, self.clock))

    def judge(self, name: str, conditions: object) -> None:
        definition = self.kube.peek(CRDS, "", name)
        assert definition is not None
        self.kube.put(CRDS, {**definition, "status": {"conditions": conditions}})

    def test_a_real_cluster_takes_its_time(self) -> None:
        """What is created has conditions ``null`` first; each is waited for, one by one."""
        done = self.ensure()
        for count, name in enumerate(self.names):
            self.assertEqual(len(self.kube.made("create")), count + 1)
            self.judge(name, None)
            self.clock.advance(0.2)
            self.judge(name, [{"type": "NamesAccepted", "status": "True"}])
            self.clock.advance(0.2)
            self.assertNoResult(done)
            self.judge(name, [{"type": "Established", "status": "True"}])
            self.clock.advance(0.2)
        self.successResultOf(done)

    def test_what_is_there_stays(self) -> None:
        """A definition that somebody else brought is not touched."""
        established = {"conditions": [{"type": "Established", "status": "True"}]}
        for name in self.names:
            theirs = {"metadata": {"name": name}, "spec": {"theirs": True}, "status": established}
            self.kube.put(CRDS, theirs)
        self.successResultOf(self.ensure())
        for name in self.names:
            found = self.kube.peek(CRDS, "", name)
            assert found is not None
            self.assertEqual(found["spec"], {"theirs": True})

    def test_one_that_is_never_served(self) -> None:
        """After 30 s it is an error that names the definition."""
        done = self.ensure()
        self.clock.pump([0.2] * 152)
        error = self.failureResultOf(done, KubeError).value
        self.assertIn(self.names[0], str(error))
