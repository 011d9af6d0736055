from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edged.downward import Place
from kubeedge_tx.edge.edged.env import environment, expand, needed_objects
from kubeedge_tx.errors import ContainerError
from tests.edge.edged.harness import make_pod

PLACE = Place(
    node="edge-1",
    host_ip="192.0.2.2",
    pod_ip="10.0.0.1",
    allocatable={"cpu": "2", "memory": "1Gi"},
)


class ExpansionTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Names in parentheses are replaced, the rest stays as it is."""
        variables = {"A": "1", "B": "$(A)", "EMPTY": ""}
        for text, expanded in {
            "": "",
            "$(A)": "1",
            "x$(A)y$(A)": "x1y1",
            "$$(A)": "$(A)",
            "$$$(A)": "$1",
            "$(NONE)": "$(NONE)",
            "$(B)": "$(A)",
            "$(EMPTY)": "",
            "$A": "$A",
            "$": "$",
            "cost: 5$": "cost: 5$",
            "$(A": "$(A",
            "$(A$(A)": "$(A$(A)",
            "$()": "$()",
        }.items():
            self.assertEqual(expand(text, variables), expanded, text)

    @given(st.text(alphabet="ab()"))
    def test_without_dollars(self, text: str) -> None:
        """A text without a dollar sign is not touched."""
        self.assertEqual(expand(text, {"a": "1"}), text)

    @given(st.text())
    def test_escaped(self, text: str) -> None:
        """Doubling the dollar signs protects any text."""
        self.assertEqual(expand(text.replace("$", "$$"), {"a": "1", "": "2"}), text)


class EnvironmentTests(SynchronousTestCase):
    def environment(self, objects: Any = None, **fields: Any) -> dict[str, str]:
        pod = make_pod(**{f"c_{name}": value for name, value in fields.items()})
        pod["metadata"]["labels"] = {"app": "web"}
        return environment(pod, pod["spec"]["containers"][0], objects or {}, PLACE)

    def refused(self, objects: Any = None, **fields: Any) -> str:
        error = self.assertRaises(ContainerError, self.environment, objects, **fields)
        self.assertEqual(error.reason, "CreateContainerConfigError")
        return str(error)

    def test_own_fields(self) -> None:
        """A pod may know its name, place and resources."""
        fields = {
            "metadata.name": "web",
            "metadata.namespace": "default",
            "metadata.uid": "uid-1",
            "metadata.labels['app']": "web",
            "metadata.annotations['none']": "",
            "spec.nodeName": "edge-1",
            "status.hostIP": "192.0.2.2",
            "status.podIP": "10.0.0.1",
        }
        env = [{"name": path, "valueFrom": {"fieldRef": {"fieldPath": path}}} for path in fields]
        self.assertEqual(self.environment(env=env), fields)

    def test_resources(self) -> None:
        """Limits come from the container, or else from the node."""

        def ref(resource: str, divisor: str = "") -> dict[str, Any]:
            return {"resourceFieldRef": {"resource": resource, "divisor": divisor}}

        values = self.environment(
            resources={"limits": {"cpu": "1500m"}, "requests": {"cpu": "250m"}},
            env=[
                {"name": "CORES", "valueFrom": ref("limits.cpu")},
                {"name": "MILLIS", "valueFrom": ref("requests.cpu", "1m")},
                {"name": "MEMORY", "valueFrom": ref("limits.memory", "1Mi")},
                {"name": "WANTED", "valueFrom": ref("requests.memory")},
            ],
        )
        self.assertEqual(values, {"CORES": "2", "MILLIS": "250", "MEMORY": "1024", "WANTED": "0"})

    def test_order(self) -> None:
        """``env`` goes before ``envFrom``, later sources before earlier ones."""
        objects = {
            ("configmap", "a"): {"data": {"X": "a", "Y": "a", "no=name": "?"}},
            ("configmap", "b"): {"data": {"Y": "b"}},
        }
        values = self.environment(
            objects,
            envFrom=[{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "b"}}],
            env=[{"name": "X", "value": "own"}],
        )
        self.assertEqual(values, {"X": "own", "Y": "b"})

    def test_missing(self) -> None:
        """What is missing is named."""
        key = {"secretKeyRef": {"name": "pw", "key": "password"}}
        env = [{"name": "PW", "valueFrom": key}]
        self.assertEqual(self.refused(env=env), 'secret "pw" not found')
        objects: Any = {("secret", "pw"): {"data": {}}}
        self.assertEqual(
            self.refused(objects, env=env),
            "couldn't find key password in Secret default/pw",
        )
        whole = [{"configMapRef": {"name": "app"}}]
        self.assertEqual(self.refused(envFrom=whole), 'configmap "app" not found')

    def test_optional(self) -> None:
        """What is optional may be missing."""
        key = {"secretKeyRef": {"name": "pw", "key": "password", "optional": True}}
        values = self.environment(
            env=[{"name": "PW", "valueFrom": key}],
            envFrom=[{"secretRef": {"name": "pw", "optional": True}}],
        )
        self.assertEqual(values, {})

    def test_bad_values(self) -> None:
        """Unreadable data is an error of the container, not of the agent."""
        key = {"secretKeyRef": {"name": "pw", "key": "password"}}
        env = [{"name": "PW", "valueFrom": key}]
        nul = base64.b64encode(b"a\0b").decode()
        self.assertIn("NUL", self.refused({("secret", "pw"): {"data": {"password": nul}}}, env=env))
        self.assertIn(
            "not base64", self.refused({("secret", "pw"): {"data": {"password": "x"}}}, env=env)
        )
        field = {"fieldRef": {"fieldPath": "spec.secret"}}
        self.assertIn("spec.secret", self.refused(env=[{"name": "X", "valueFrom": field}]))

    def test_needs(self) -> None:
        """Everything the environment refers to is asked for."""
        container = {
            "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
            "env": [
                {"name": "1", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "2", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}},
                {"name": "3", "value": "plain"},
            ],
        }
        self.assertEqual(
            needed_objects(container),
            {("configmap", "a"), ("secret", "b"), ("configmap", "c"), ("secret", "d")},
        )
