from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api import meta

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "name", "labels", "annotations", "spec", "status", "kind"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class MetaTests(SynchronousTestCase):
    def test_reading(self) -> None:
        """What every object has is read from where it stands."""
        about = {
            "namespace": "default",
            "name": "web",
            "uid": "u",
            "resourceVersion": "7",
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
            "deletionTimestamp": "2026-11-24T08:00:00Z",
        }
        pod = {"kind": "Pod", "apiVersion": "v1", "metadata": about}
        self.assertEqual(meta.key(pod), ("default", "web"))
        self.assertEqual((meta.kind(pod), meta.api_version(pod)), ("Pod", "v1"))
        self.assertEqual((meta.namespace(pod), meta.name(pod)), ("default", "web"))
        self.assertEqual((meta.uid(pod), meta.resource_version(pod)), ("u", "7"))
        self.assertEqual((meta.labels(pod), meta.annotation(pod, "c")), ({"a": "b"}, "d"))
        self.assertTrue(meta.deleting(pod))

    @given(st.dictionaries(st.sampled_from(["metadata", "spec", "kind"]), ANYTHING))
    def test_nothing_is_too_odd(self, obj: Any) -> None:
        """What is absent, null or of another type reads as empty."""
        for read in (meta.kind, meta.api_version, meta.name, meta.uid, meta.resource_version):
            self.assertIsInstance(read(obj), str)
        self.assertFalse(meta.deleting({"metadata": None}))
        meta.labels(obj), meta.annotation(obj, "a"), meta.sequence(obj, "spec", "containers")
        self.assertTrue(meta.same_for_edge(obj, obj))
        meta.without_managed_fields(obj)

    def test_order(self) -> None:
        """Versions are compared as the numbers they are."""
        self.assertTrue(meta.is_newer("10", "9"))
        self.assertFalse(meta.is_newer("9", "10"))
        self.assertFalse(meta.is_newer("9", "9"))
        self.assertTrue(meta.is_newer("18446744073709551615", "18446744073709551614"))

    def test_versions_that_are_no_numbers(self) -> None:
        """They are opaque: another one is sent rather than lost."""
        self.assertTrue(meta.is_newer("a", "b"))
        self.assertTrue(meta.is_newer("b", "a"))
        self.assertFalse(meta.is_newer("a", "a"))
        self.assertTrue(meta.is_newer("²", "1"))
        self.assertTrue(meta.is_newer("9" * 5000, "1"))

    @given(st.text("0123456789", min_size=1, max_size=20))
    def test_nothing_is_older_than_anything(self, version: str) -> None:
        """An empty version is older than each."""
        self.assertTrue(meta.is_newer(version, ""))
        self.assertFalse(meta.is_newer("", version))

    def test_what_an_edge_need_not_hear(self) -> None:
        """Status and bookkeeping are no news to it; all else is."""
        pod = {"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"x": 1}}
        same = {
            **pod,
            "metadata": {"name": "a", "resourceVersion": "2", "generation": 2, "managedFields": []},
            "status": {"phase": "Running"},
        }
        self.assertTrue(meta.same_for_edge(pod, same))
        self.assertFalse(meta.same_for_edge(pod, {**pod, "spec": {"x": 2}}))
        ending = {**pod["metadata"], "deletionTimestamp": "now"}  # type: ignore[dict-item]
        self.assertFalse(meta.same_for_edge(pod, {**pod, "metadata": ending}))
        self.assertFalse(meta.same_for_edge({"data": {"a": "1"}}, {"data": {"a": "2"}}))

    def test_a_pod_that_was_declared_not_ready(self) -> None:
        """When a silent node's pods are declared not Ready, their edge must hear of it."""

        def pod(ready: str, containers: str) -> dict[str, Any]:
            conditions = [
                {"type": "Ready", "status": ready},
                {"type": "ContainersReady", "status": containers},
            ]
            return {"kind": "Pod", "metadata": {}, "status": {"conditions": conditions}}

        well, overruled, ill = pod("True", "True"), pod("False", "True"), pod("False", "False")
        self.assertFalse(meta.same_for_edge(well, overruled))
        for old, new in ((overruled, well), (well, ill), (ill, well), (overruled, overruled)):
            self.assertTrue(meta.same_for_edge(old, new))

    def test_managed_fields_are_left_out(self) -> None:
        """The object itself is not changed, and not copied for nothing."""
        obj = {"metadata": {"name": "a", "managedFields": [1]}, "data": {}}
        self.assertEqual(meta.without_managed_fields(obj), {"metadata": {"name": "a"}, "data": {}})
        self.assertIn("managedFields", obj["metadata"])
        plain = {"metadata": {"name": "a"}}
        self.assertIs(meta.without_managed_fields(plain), plain)
