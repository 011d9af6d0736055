from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.cloud.edgecontroller.locations import Locations, Ref, references
from tests.cloud.rig import pod


def names(obj: dict[str, Any]) -> list[str]:
    return sorted(f"{ref.type} {ref.name}" for ref in references(obj))


class ReferencesTests(SynchronousTestCase):
    def test_every_place(self) -> None:
        """Wherever a pod can name a ConfigMap or Secret, it is found."""
        env = [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c-env", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s-env", "key": "k"}}},
            {"name": "C", "value": "plain"},
        ]
        sources = [{"configMap": {"name": "c-pro"}}, {"secret": {"name": "s-pro"}}]
        spec = {
            "volumes": [
                {"name": "a", "configMap": {"name": "c-vol"}},
                {"name": "b", "secret": {"secretName": "s-vol"}},
                {"name": "c", "projected": {"sources": sources}},
                {"name": "d", "csi": {"nodePublishSecretRef": {"name": "s-csi"}}},
                {"name": "e", "cephfs": {"secretRef": {"name": "s-ceph"}}},
                {"name": "f", "azureFile": {"secretName": "s-azure"}},
                {"name": "g", "emptyDir": {}},
            ],
            "imagePullSecrets": [{"name": "s-pull"}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "c-from"}}], "env": env}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "s-init"}}]}],
            "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "s-eph"}}]}],
        }
        web = pod(spec=spec)
        self.assertEqual(
            names(web),
            [f"configmap c-{place}" for place in ("env", "from", "pro", "vol")]
            + [
                f"secret s-{place}"
                for place in ("azure", "ceph", "csi", "env", "eph", "init", "pro", "pull", "vol")
            ],
        )
        self.assertEqual({ref.namespace for ref in references(web)}, {"default"})

    @given(
        st.recursive(
            st.none() | st.text(max_size=3) | st.integers(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["spec", "volumes", "containers", "env", "envFrom", "secret", "name", "csi"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=15,
        )
    )
    def test_no_pod_is_too_odd(self, spec: Any) -> None:
        """Whatever stands in a pod, it is read without an error."""
        references({"spec": spec})
        references({"metadata": spec, "spec": {"volumes": [spec], "containers": [spec]}})


A, B = Ref("configmap", "default", "a"), Ref("secret", "default", "b")


class LocationsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.locations = Locations()

    def test_only_the_first_pod_of_a_node_brings_something(self) -> None:
        """What another pod there needs already is not new to the node."""
        self.assertEqual(self.locations.place(("d", "one"), "n1", [A, B]), [A, B])
        self.assertEqual(self.locations.place(("d", "two"), "n1", [A]), [])
        self.assertEqual(self.locations.place(("d", "three"), "n2", [A]), [A])
        self.assertEqual(self.locations.nodes(A), ["n1", "n2"])

    def test_an_entry_goes_with_the_last_pod(self) -> None:
        """A node gets no updates of what no pod of it needs."""
        self.locations.place(("d", "one"), "n1", [A])
        self.locations.place(("d", "two"), "n1", [A])
        self.locations.remove(("d", "one"))
        self.assertTrue(self.locations.needs("n1", A))
        self.locations.remove(("d", "two"))
        self.assertFalse(self.locations.needs("n1", A))
        self.assertEqual(self.locations.pods("n1"), [])

    def test_a_pod_that_changes_its_mind(self) -> None:
        """References are those of the pod as it is now."""
        self.locations.place(("d", "one"), "n1", [A])
        self.assertEqual(self.locations.place(("d", "one"), "n1", [A, B]), [B])
        self.assertEqual(self.locations.place(("d", "one"), "n1", [B]), [])
        self.assertEqual(self.locations.nodes(A), [])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from("pqr"),
                st.sampled_from(["", "n1", "n2"]),
                st.frozensets(st.sampled_from([A, B])),
                st.booleans(),
            ),
            max_size=20,
        )
    )
    def test_it_says_what_the_pods_say(
        self, steps: list[tuple[str, str, frozenset[Ref], bool]]
    ) -> None:
        """After any changes, nodes and pods are those that counting anew would give."""
        locations = Locations()
        pods: dict[tuple[str, str], tuple[str, frozenset[Ref]]] = {}
        for name, where, refs, stays in steps:
            key = ("d", name)
            before = {ref for node, has in pods.values() if node == where for ref in has}
            pods.pop(key, None)
            if stays:
                new = locations.place(key, where, refs)
                self.assertEqual(new, sorted(refs - before) if where else [])
                if where:
                    pods[key] = (where, refs)
            else:
                locations.remove(key)
            for ref in (A, B):
                wanted = {node for node, has in pods.values() if ref in has}
                self.assertEqual(set(locations.nodes(ref)), wanted)
            for node in ("n1", "n2"):
                there = {key for key, (at, _) in pods.items() if at == node}
                self.assertEqual(set(locations.pods(node)), there)
