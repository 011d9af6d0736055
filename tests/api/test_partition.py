from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.partition import (
    CONDITION,
    ON_PARTITION,
    Policy,
    PolicyError,
    agreed_policy,
    grace,
    is_evicted_early,
    read_policy,
)


def pod(policy: str | None = None, **spec: Any) -> dict[str, Any]:
    annotations = {} if policy is None else {ON_PARTITION: policy}
    return {"metadata": {"name": "web", "annotations": annotations}, "spec": spec}


class PolicyTests(SynchronousTestCase):
    """The annotation that says what becomes of a pod out of reach."""

    def test_kept(self) -> None:
        """A pod goes on for ever unless it says otherwise."""
        for found in (pod(), pod("keep"), pod(""), {"metadata": None}):
            self.assertIsNone(read_policy(found))

    def test_understood(self) -> None:
        """Durations are written as Kubernetes writes them."""
        for text, seconds in (("90s", 90), ("10m", 600), ("1h30m", 5400), ("24h", 86400)):
            self.assertEqual(read_policy(pod(f"stop-after={text}")), Policy(seconds, False))
            self.assertEqual(read_policy(pod(f" replace-after={text} ")), Policy(seconds, True))

    def test_not_understood(self) -> None:
        """Anything else is named, with what is expected."""
        for text, words in (
            ("stop", "expected keep"),
            ("stop-after", "no duration"),
            ("stop-after=", "no duration"),
            ("stop-after=10", "no duration"),
            ("stop-after=-5m", "no duration"),
            ("stop-after=59s", "less than 60 s"),
            ("replace-after=0s", "less than 60 s"),
            ("Keep", "expected keep"),
        ):
            with self.assertRaises(PolicyError, msg=text) as caught:
                read_policy(pod(text))
            self.assertIn(words, str(caught.exception))

    @given(st.text())
    def test_whatever_it_says(self, text: str) -> None:
        """No annotation breaks anything."""
        try:
            found = read_policy(pod(text))
        except PolicyError:
            return
        self.assertTrue(found is None or found.seconds >= 60)

    def test_agreed(self) -> None:
        """Only what the node has said as well is certain, and of two times the longer one."""

        def said(policy: str, words: str | None, status: str = "True") -> dict[str, Any]:
            condition = {"type": CONDITION, "status": status, "message": words}
            return {**pod(policy), "status": {"conditions": [condition]}}

        ten, five = "replace-after=10m", "replace-after=5m"
        self.assertIsNone(agreed_policy(pod(ten)), "a node that does not know of it")
        self.assertIsNone(agreed_policy(said(ten, ten, "False")))
        self.assertIsNone(agreed_policy(said("keep", ten)), "changed, and not yet heard")
        self.assertEqual(agreed_policy(said(ten, five)), Policy(600, True))
        self.assertEqual(agreed_policy(said(five, ten)), Policy(600, True))
        self.assertEqual(agreed_policy(said(ten, "stop-after=5m")), Policy(600, False))
        with self.assertRaises(PolicyError):
            agreed_policy(said("stop", ten))

    def test_evicted_early(self) -> None:
        """A pod that Kubernetes evicts before its node has ended it is found."""
        policy = Policy(600.0, True)

        def tolerating(**toleration: Any) -> dict[str, Any]:
            return pod(tolerations=[toleration])

        key = "node.kubernetes.io/unreachable"
        self.assertFalse(is_evicted_early(pod(), policy))
        self.assertFalse(is_evicted_early(tolerating(key=key, effect="NoExecute"), policy))
        for seconds, early in ((300, True), (629, True), (630, False)):
            found = tolerating(key=key, effect="NoExecute", tolerationSeconds=seconds)
            self.assertEqual(is_evicted_early(found, policy), early)
        other = tolerating(key="node.kubernetes.io/not-ready", tolerationSeconds=300)
        self.assertFalse(is_evicted_early(other, policy))
        self.assertEqual([grace(pod()), grace(pod(terminationGracePeriodSeconds=5))], [30, 5])
        going = {"metadata": {"deletionGracePeriodSeconds": 600}, "spec": {}}
        self.assertEqual(grace(going), 600)
