# The sentences of the API server stand on one line each.
# ruff: noqa: E501
from __future__ import annotations

import base64
import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.apiserver import fieldselect, validation
from kubeedge_tx.apiserver.fielderrors import FieldError
from kubeedge_tx.apiserver.registry import BUILT_IN, KindInfo, custom_kinds
from kubeedge_tx.apiserver.types import KINDS
from tests.apiserver.recordings import KUBECTL, exchanges, named, objects, plain

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["name", "image", "containers", "metadata", "ports", "env", "data", "labels", "x"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)
CLUSTER = ("Namespace", "Node", "CertificateSigningRequest", "CustomResourceDefinition")


def create(kind: str, **obj: Any) -> tuple[dict[str, Any], list[str]]:
    """Take an object through the three steps of a create."""
    meta = {"name": "n", **({} if kind in CLUSTER else {"namespace": "ns"})}
    whole = {"metadata": {**meta, **obj.pop("metadata", {})}, **obj}
    ready = validation.default(kind, validation.prepare(kind, whole, None))
    return ready, [str(error) for error in validation.validate(kind, ready, None)]


def update(kind: str, old: dict[str, Any], **change: Any) -> list[str]:
    """Take a changed object through the three steps of an update."""
    obj = {**old, **change}
    ready = validation.default(kind, validation.prepare(kind, obj, old))
    return [str(error) for error in validation.validate(kind, ready, old)]


def pod(**spec: Any) -> list[str]:
    spec.setdefault("containers", [{"name": "a", "image": "x"}])
    return create("Pod", spec=spec)[1]


def container(**fields: Any) -> list[str]:
    one = {"name": "a", "image": "x", **fields}
    found = pod(containers=[one], volumes=[{"name": "v", "emptyDir": {}}])
    return [text.removeprefix("spec.containers[0].") for text in found]


class RecordedTests(TestCase):
    def test_defaults(self) -> None:
        """A pod gets exactly the defaults that the real server gave it; admission is not ours."""
        line = named("create pod (defaults)")
        ready, errors = create("Pod", **line["request"]["body"])
        answered = plain(line["response"]["body"])
        tolerations = answered["spec"].pop("tolerations")
        self.assertEqual(len(tolerations), 2)
        self.assertEqual(errors, [])
        self.assertEqual(ready["spec"], answered["spec"])
        self.assertEqual(ready["status"], answered["status"])

    def test_refusals(self) -> None:
        """Recorded invalid objects are refused cause by cause, in the same words."""
        for what, kind in (("invalid pod", "Pod"), ("invalid pod 2", "Pod")):
            line = named(what)
            meta = {"namespace": "raw", **line["request"]["body"]["metadata"]}
            obj = {**line["request"]["body"], "metadata": meta}
            ready = validation.default(kind, validation.prepare(kind, obj, None))
            self._same_causes(validation.validate(kind, ready, None), line)
        for line in exchanges(KUBECTL[0]):
            if line["command"].startswith("kubectl create configmap Bad_Name"):
                obj = {"metadata": {"name": "Bad_Name", "namespace": "demo"}}
                self._same_causes(validation.validate("ConfigMap", obj, None), line)

    def _same_causes(self, errors: list[FieldError], line: dict[str, Any]) -> None:
        causes = [
            {"reason": error.reason, "message": error.message, "field": error.field}
            for error in errors
        ]
        self.assertEqual(causes, line["response"]["body"]["details"]["causes"])

    def test_wrong_uid(self) -> None:
        """A changed uid is refused twice over, as the real server's two checks do."""
        causes = named("patch with wrong uid")["response"]["body"]["details"]["causes"]
        _, errors = create("ConfigMap")
        self.assertEqual(errors, [])
        old = {"metadata": {"name": "c0", "namespace": "raw", "uid": "u"}}
        new = {"metadata": {**old["metadata"], "uid": "nope"}}
        found = validation.validate("ConfigMap", new, old)
        self.assertEqual([error.message for error in found], [c["message"] for c in causes])
        self.assertEqual([error.field for error in found], [c["field"] for c in causes])

    def test_immutable_pod(self) -> None:
        """A pod's node selector cannot change; the words are the server's, without Go's diff."""
        line = named("immutable field")
        old = plain(named("strategic merge")["response"]["body"])
        new = copy.deepcopy(old)
        new["spec"]["nodeSelector"] = {"x": "y"}
        (error,) = validation.validate("Pod", new, old)
        cause = line["response"]["body"]["details"]["causes"][0]
        self.assertEqual((error.reason, error.field), (cause["reason"], cause["field"]))
        self.assertTrue(cause["message"].startswith(error.message))

    def test_secrets(self) -> None:
        """stringData becomes data; what is no base64 is refused as recorded."""
        line = named("secret stringData")
        ready, errors = create("Secret", **line["request"]["body"])
        self.assertEqual(errors, [])
        for field in ("data", "type"):
            self.assertEqual(ready[field], line["response"]["body"][field])
        self.assertNotIn("stringData", ready)
        line = named("secret bad base64")
        with self.assertRaises(ValueError) as caught:
            create("Secret", **line["request"]["body"])
        self.assertTrue(line["response"]["body"]["message"].endswith(f": {caught.exception}"))

    def test_other_kinds(self) -> None:
        """Namespace, lease and event come out as recorded."""
        for what, kind in (("namespace", "Namespace"), ("lease", "Lease"), ("event", "Event")):
            line = named(what)
            body = line["request"]["body"]
            meta = {k: v for k, v in body["metadata"].items() if k != "generateName"}
            if kind != "Namespace":
                meta["namespace"] = line["response"]["body"]["metadata"]["namespace"]
            ready, errors = create(kind, **{**body, "metadata": {"name": "n", **meta}})
            self.assertEqual(errors, [], what)
            answered = plain(line["response"]["body"])
            for field in answered.keys() - {"metadata", "kind", "apiVersion"}:
                self.assertEqual(ready[field], answered[field], what)

    def test_stored_objects(self) -> None:
        """Every recorded object is its own normal form, valid, and without unknown fields."""
        count = 0
        for name in ("kube-api.jsonl", *KUBECTL):
            for obj in objects(exchanges(name)):
                kind = obj["kind"]
                if (obj.get("apiVersion", ""), kind) not in KINDS:
                    continue
                self.assertEqual(validation.decode(kind, obj), obj)
                self.assertEqual(validation.unknown_fields(kind, obj), [])
                if kind in ("Pod", "Node", "ConfigMap", "Secret", "Namespace", "Lease"):
                    filled = validation.default(kind, obj)
                    self.assertEqual(filled, obj)
                    self.assertEqual(validation.validate(kind, obj, obj), [])
                count += 1
        self.assertGreater(count, 100)

    def test_strict(self) -> None:
        """An unknown field is named, as strict validation needs it."""
        line = named("unknown field strict")
        self.assertEqual(
            validation.unknown_fields("ConfigMap", line["request"]["body"]), ["nosuch"]
        )
        deep = {"spec": {"containers": [{"imagee": 1, "ports": [{"x": 1}]}]}, "metadata": {"y": 1}}
        self.assertEqual(
            sorted(validation.unknown_fields("Pod", deep)),
            ["metadata.y", "spec.containers[0].imagee", "spec.containers[0].ports[0].x"],
        )


class DecodeTests(TestCase):
    def test_wrong_types(self) -> None:
        """A wrong JSON type is refused in the words of Go's decoder."""
        for spec, words in (
            (
                {"containers": "x"},
                "string into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                {"containers": [5]},
                "number into Go struct field PodSpec.spec.containers of type v1.Container",
            ),
            (
                {"hostNetwork": "yes"},
                "string into Go struct field PodSpec.spec.hostNetwork of type bool",
            ),
            (
                {"priority": 2**40},
                "number 1099511627776 into Go struct field PodSpec.spec.priority of type int32",
            ),
            ({"nodeName": 5}, "number into Go struct field PodSpec.spec.nodeName of type string"),
            (
                {"nodeSelector": {"a": 1}},
                "number into Go struct field PodSpec.spec.nodeSelector of type string",
            ),
        ):
            with self.assertRaises(ValueError) as caught:
                validation.prepare("Pod", {"metadata": {}, "spec": spec}, None)
            self.assertEqual(str(caught.exception), f"json: cannot unmarshal {words}")

    def test_quantities(self) -> None:
        """Amounts are checked and written in their shortest form."""
        for given_, shown in ((1, "1"), (0.5, "500m"), ("1024Mi", "1Gi"), ("1500m", "1500m")):
            resources = {"requests": {"cpu": given_}}
            one = {"name": "a", "image": "x", "resources": resources}
            ready, errors = create("Pod", spec={"containers": [one]})
            self.assertEqual(errors, [])
            self.assertEqual(ready["spec"]["containers"][0]["resources"]["requests"]["cpu"], shown)
        for bad in ("1 Gi", "lots", "1.5.5", True):
            one = {"name": "a", "image": "x", "resources": {"limits": {"cpu": bad}}}
            with self.assertRaises(ValueError):
                create("Pod", spec={"containers": [one]})

    def test_times(self) -> None:
        """Times are checked and written in UTC, to the second."""
        meta = {"deletionTimestamp": "2026-11-24T09:03:59.5+01:00"}
        ready = validation.decode("ConfigMap", {"metadata": meta})
        self.assertEqual(ready["metadata"]["deletionTimestamp"], "2026-11-24T08:03:59Z")
        for bad in ("yesterday", "2026-13-01T00:00:00Z", ""):
            with self.assertRaises(ValueError):
                validation.decode("ConfigMap", {"metadata": {"deletionTimestamp": bad}})

    @given(VALUES, VALUES)
    def test_garbage(self, meta: Any, body: Any) -> None:
        """Whatever is sent: a ValueError, errors in words, or a valid object; never a crash."""
        for kind in ("Pod", "ConfigMap", "Service", "Node", "CustomResourceDefinition", "Secret"):
            obj = {"metadata": meta, "spec": body, "data": body, "status": body}
            before = repr(obj)
            try:
                ready = validation.default(kind, validation.prepare(kind, obj, None))
            except ValueError:
                continue
            for error in validation.validate(kind, ready, None):
                self.assertTrue(error.message)
            self.assertEqual(validation.default(kind, ready), ready)
            self.assertEqual(repr(obj), before)


class MetadataTests(TestCase):
    def test_names(self) -> None:
        """Each kind has its own rule for names."""
        for kind, name, good in (
            ("ConfigMap", "a.b-c", True),
            ("ConfigMap", "A", False),
            ("ConfigMap", "a" * 254, False),
            ("Namespace", "a.b", False),
            ("Service", "1a", False),
            ("Pod", "a..b", False),
            ("Node", "edge-1.example.com", True),
            ("CertificateSigningRequest", "Any_Name:1", True),
        ):
            obj = {"metadata": {"name": name, **({} if kind in CLUSTER else {"namespace": "n"})}}
            ready = validation.default(kind, validation.prepare(kind, obj, None))
            found = [
                e for e in validation.validate(kind, ready, None) if e.field == "metadata.name"
            ]
            self.assertEqual(not found, good, (kind, name))

    def test_labels_and_annotations(self) -> None:
        """Keys, values and sizes of labels, annotations, finalizers and owners are checked."""
        for meta, fields in (
            ({"labels": {"a/b/c": ""}}, ["metadata.labels"]),
            ({"labels": {"a": "x y"}}, ["metadata.labels"]),
            ({"labels": {"UPPER.io/a": ""}}, ["metadata.labels"]),
            ({"annotations": {"a b": ""}}, ["metadata.annotations"]),
            ({"annotations": {"a": "x" * 300_000}}, ["metadata.annotations"]),
            ({"finalizers": ["a b"]}, ["metadata.finalizers"]),
            (
                {"ownerReferences": [{"kind": "K", "name": "n"}]},
                ["metadata.ownerReferences[0].apiVersion", "metadata.ownerReferences[0].uid"],
            ),
        ):
            errors = create("ConfigMap", metadata=meta)[1]
            self.assertEqual([text.split(": ")[0] for text in errors], fields, meta)
        self.assertEqual(create("ConfigMap", metadata={"labels": {"x.io/a": "b_c"}})[1], [])

    def test_scope(self) -> None:
        """A cluster's object has no namespace, another one needs it."""
        wrong = validation.validate_metadata({"name": "n", "namespace": "x"}, False)
        self.assertEqual(str(wrong[0]), "metadata.namespace: Forbidden: not allowed on this type")
        missing = validation.validate_metadata({"name": "n"}, True)
        self.assertEqual(str(missing[0]), "metadata.namespace: Required value")

    def test_update(self) -> None:
        """What a client leaves out is carried over; what it changes is refused."""
        old = {
            "metadata": {
                "name": "n",
                "namespace": "ns",
                "uid": "u",
                "creationTimestamp": "2026-11-24T08:03:59Z",
                "deletionTimestamp": "2026-11-24T08:04:59Z",
                "deletionGracePeriodSeconds": 30,
                "finalizers": ["a/x"],
            }
        }
        bare = {"name": "n", "namespace": "ns", "finalizers": ["a/x"]}
        self.assertEqual(update("ConfigMap", old, metadata=bare), [])
        (text,) = update("ConfigMap", old, metadata={**bare, "finalizers": ["a/x", "b/y"]})
        self.assertIn('found new finalizers []string{"b/y"}', text)
        moved = update("ConfigMap", old, metadata={**bare, "namespace": "other"})
        self.assertIn('metadata.namespace: Invalid value: "other": field is immutable', moved)


class PodTests(TestCase):
    def test_containers(self) -> None:
        """Containers are checked field by field."""
        for fields, expected in (
            ({"name": ""}, ["name: Required value"]),
            (
                {"image": " x"},
                ['image: Invalid value: " x": must not have leading or trailing whitespace'],
            ),
            (
                {"imagePullPolicy": "Often"},
                [
                    'imagePullPolicy: Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never"'
                ],
            ),
            ({"ports": [{"containerPort": 0}]}, ["ports[0].containerPort: Required value"]),
            (
                {"ports": [{"containerPort": 70000}]},
                [
                    "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"
                ],
            ),
            (
                {"ports": [{"containerPort": 1, "protocol": "X"}]},
                [
                    'ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'
                ],
            ),
            (
                {"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
                ['ports[1].name: Duplicate value: "a"'],
            ),
            ({"env": [{"name": ""}]}, ["env[0].name: Required value"]),
            (
                {
                    "env": [
                        {
                            "name": "A",
                            "value": "x",
                            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                        }
                    ]
                },
                [
                    'env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'
                ],
            ),
            (
                {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]},
                ["env[0].valueFrom.secretKeyRef.key: Required value"],
            ),
            (
                {"envFrom": [{}]},
                [
                    'envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'
                ],
            ),
            (
                {"volumeMounts": [{"name": "none", "mountPath": "/x"}]},
                ['volumeMounts[0].name: Not found: "none"'],
            ),
            (
                {
                    "volumeMounts": [
                        {"name": "v", "mountPath": "/x"},
                        {"name": "v", "mountPath": "/x"},
                    ]
                },
                ['volumeMounts[1].mountPath: Invalid value: "/x": must be unique'],
            ),
            (
                {"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "../y"}]},
                ["volumeMounts[0].subPath: Invalid value: \"../y\": must not contain '..'"],
            ),
            (
                {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
                [
                    'resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'
                ],
            ),
            (
                {"resources": {"limits": {"cpu": "-1"}, "requests": {"cpu": "-1"}}},
                [
                    'resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
                    'resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0',
                ],
            ),
            ({"livenessProbe": {}}, ["livenessProbe: Required value: must specify a handler type"]),
            (
                {"livenessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}},
                ["livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            ({"readinessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}}, []),
            (
                {"startupProbe": {"httpGet": {"port": 0}}},
                [
                    "startupProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"
                ],
            ),
            (
                {"lifecycle": {"preStop": {"exec": {}}}},
                ["lifecycle.preStop.exec.command: Required value"],
            ),
        ):
            self.assertEqual(container(**fields), expected, fields)

    def test_spec(self) -> None:
        """The fields of the pod itself are checked."""
        one = {"name": "a", "image": "x"}
        for spec, expected in (
            ({"containers": [one, one]}, ['spec.containers[1].name: Duplicate value: "a"']),
            ({"initContainers": [one]}, ['spec.initContainers[0].name: Duplicate value: "a"']),
            (
                {"restartPolicy": "No"},
                [
                    'spec.restartPolicy: Unsupported value: "No": supported values: "Always", "OnFailure", "Never"'
                ],
            ),
            (
                {"dnsPolicy": "None"},
                [
                    "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"
                ],
            ),
            (
                {"terminationGracePeriodSeconds": -1},
                [
                    "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0"
                ],
            ),
            (
                {"activeDeadlineSeconds": 0},
                [
                    "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"
                ],
            ),
            (
                {"tolerations": [{"key": "a", "operator": "Is"}]},
                [
                    'spec.tolerations[0].operator: Unsupported value: "Is": supported values: "Equal", "Exists"'
                ],
            ),
            ({"tolerations": [{"operator": "Exists"}]}, []),
            (
                {"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}]},
                [
                    "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"
                ],
            ),
            (
                {"hostAliases": [{"ip": "x"}]},
                [
                    'spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
                ],
            ),
            (
                {"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]},
                [
                    "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"
                ],
            ),
            (
                {"volumes": [{"name": "v", "configMap": {}}]},
                ["spec.volumes[0].configMap.name: Required value"],
            ),
            (
                {"volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 4096}}]},
                [
                    "spec.volumes[0].secret.defaultMode: Invalid value: 4096: must be a number between 0 and 0777 (octal), both inclusive"
                ],
            ),
            (
                {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
                ["spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                {
                    "volumes": [
                        {
                            "name": "v",
                            "configMap": {"name": "c", "items": [{"key": "k", "path": "/abs"}]},
                        }
                    ]
                },
                [
                    'spec.volumes[0].configMap.items[0].path: Invalid value: "/abs": must be a relative path'
                ],
            ),
        ):
            self.assertEqual(pod(**spec), expected, spec)

    def test_update(self) -> None:
        """Only images, the deadline, and more tolerations may change."""
        spec = {"containers": [{"name": "a", "image": "x"}], "activeDeadlineSeconds": 100}
        old, _ = create("Pod", spec=spec)

        def changed(**fields: Any) -> list[str]:
            return update("Pod", old, spec={**old["spec"], **fields})

        def one(**fields: Any) -> list[dict[str, Any]]:
            return [{**old["spec"]["containers"][0], **fields}]

        self.assertEqual(changed(), [])
        self.assertEqual(changed(containers=one(image="y")), [])
        self.assertEqual(changed(activeDeadlineSeconds=50), [])
        self.assertEqual(changed(tolerations=[{"operator": "Exists"}]), [])
        self.assertEqual(len(changed(activeDeadlineSeconds=200)), 1)
        self.assertIn("may not change fields other than", changed(nodeName="n")[0])
        self.assertIn("may not change fields other than", changed(containers=one(command=["x"]))[0])
        self.assertEqual(
            changed(containers=one() * 2),
            ["spec.containers: Forbidden: pod updates may not add or remove containers"],
        )
        self.assertEqual(
            changed(containers=one(image="")), ["spec.containers[0].image: Required value"]
        )

    def test_defaults(self) -> None:
        """Pull policy by tag, probes, volumes and downward references get their defaults."""
        for image, policy in (
            ("x", "Always"),
            ("x:latest", "Always"),
            ("x:1", "IfNotPresent"),
            ("host:5000/x", "Always"),
            ("host:5000/x:1", "IfNotPresent"),
            ("x@sha256:0", "IfNotPresent"),
        ):
            ready, _ = create("Pod", spec={"containers": [{"name": "a", "image": image}]})
            self.assertEqual(ready["spec"]["containers"][0]["imagePullPolicy"], policy, image)
        one = {
            "name": "a",
            "image": "x",
            "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        }
        volumes = [
            {"name": "c", "configMap": {"name": "c"}},
            {"name": "e"},
            {"name": "h", "hostPath": {"path": "/x"}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        ]
        ready, errors = create(
            "Pod", spec={"containers": [one], "volumes": volumes, "serviceAccountName": "s"}
        )
        self.assertEqual(errors, [])
        spec = ready["spec"]
        self.assertEqual(
            spec["containers"][0]["livenessProbe"],
            {
                "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                "timeoutSeconds": 1,
                "periodSeconds": 10,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
        )
        reference = spec["containers"][0]["env"][0]["valueFrom"]["fieldRef"]
        self.assertEqual(reference["apiVersion"], "v1")
        self.assertEqual(spec["volumes"][0]["configMap"]["defaultMode"], 420)
        self.assertEqual(spec["volumes"][1], {"name": "e", "emptyDir": {}})
        self.assertEqual(spec["volumes"][2]["hostPath"], {"path": "/x", "type": ""})
        token = spec["volumes"][3]["projected"]["sources"][0]["serviceAccountToken"]
        self.assertEqual(token["expirationSeconds"], 3600)
        self.assertEqual(spec["serviceAccount"], "s")

    def test_qos(self) -> None:
        """The class of service follows from requests and limits."""
        full = {"limits": {"cpu": "1", "memory": "1Gi"}}
        for resources, expected in (
            ({}, "BestEffort"),
            (full, "Guaranteed"),
            ({**full, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
            ({"requests": {"cpu": "1"}}, "Burstable"),
            ({"limits": {"cpu": "1"}}, "Burstable"),
            ({"limits": {"cpu": "0"}}, "BestEffort"),
        ):
            one = {"name": "a", "image": "x", "resources": resources}
            ready, _ = create("Pod", spec={"containers": [one]}, status={"phase": "Running"})
            self.assertEqual(ready["status"], {"phase": "Pending", "qosClass": expected}, resources)


class KindTests(TestCase):
    def test_configmap(self) -> None:
        """Keys, overlap, size and immutability of a config map."""
        self.assertEqual(len(create("ConfigMap", data={"a/b": ""})[1]), 1)
        self.assertEqual(len(create("ConfigMap", data={"..a": ""})[1]), 1)
        both = create("ConfigMap", data={"a": ""}, binaryData={"a": ""})[1]
        self.assertEqual(
            both, ['data[a]: Invalid value: "a": duplicate of key present in binaryData']
        )
        big = create("ConfigMap", data={"a": "x" * 1_048_577})[1]
        self.assertEqual(big, [": Too long: may not be more than 1048576 bytes"])
        old, _ = create("ConfigMap", data={"a": "1"}, immutable=True)
        self.assertEqual(update("ConfigMap", old), [])
        text = "Forbidden: field is immutable when `immutable` is set"
        self.assertEqual(update("ConfigMap", old, data={"a": "2"}), [f"data: {text}"])
        self.assertEqual(update("ConfigMap", old, immutable=False), [f"immutable: {text}"])

    def test_secret(self) -> None:
        """The type is Opaque unless given, cannot change, and asks for its keys."""
        old, errors = create("Secret", data={"a": "YQ=="})
        self.assertEqual((old["type"], errors), ("Opaque", []))
        changed = update("Secret", old, type="x.io/y")
        self.assertEqual(changed, ['type: Invalid value: "x.io/y": field is immutable'])
        for kind, expected in (
            (
                "kubernetes.io/tls",
                ["data[tls.crt]: Required value", "data[tls.key]: Required value"],
            ),
            ("kubernetes.io/ssh-auth", ["data[ssh-privatekey]: Required value"]),
            ("kubernetes.io/dockerconfigjson", ["data[.dockerconfigjson]: Required value"]),
        ):
            self.assertEqual(create("Secret", type=kind)[1], expected)
        wrong = create(
            "Secret", type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "eA=="}
        )[1]
        self.assertIn("<secret contents redacted>", wrong[0])
        self.assertNotIn("eA==", wrong[0])

    def test_service(self) -> None:
        """Ports, names, types and addresses of a service; the address stays."""
        ready, errors = create("Service", spec={"ports": [{"port": 80}]})
        self.assertEqual(errors, [])
        self.assertEqual(
            ready["spec"],
            {
                "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}],
                "type": "ClusterIP",
                "sessionAffinity": "None",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "internalTrafficPolicy": "Cluster",
            },
        )
        self.assertEqual(ready["status"], {"loadBalancer": {}})
        for spec, expected in (
            ({}, ["spec.ports: Required value"]),
            ({"clusterIP": "None"}, []),
            ({"type": "ExternalName"}, ["spec.externalName: Required value"]),
            ({"ports": [{"port": 0}]}, 2),
            ({"ports": [{"port": 1}, {"port": 2}]}, 2),
            ({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}, 1),
            ({"ports": [{"port": 1}], "type": "X"}, 1),
            ({"ports": [{"port": 1}], "selector": {"a b": ""}}, 1),
        ):
            found = create("Service", spec=spec)[1]
            if isinstance(expected, int):
                self.assertEqual(len(found), expected, (spec, found))
            else:
                self.assertEqual(found, expected, spec)
        address = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}
        old, _ = create("Service", spec={"ports": [{"port": 1}], **address})
        other = {**old["spec"], "clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}
        self.assertEqual(
            update("Service", old, spec=other),
            ['spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set'],
        )

    def test_node(self) -> None:
        """Taints are checked; allocatable follows capacity; status may come with the node."""
        taint = {"key": "a", "effect": "NoSchedule"}
        self.assertEqual(create("Node", spec={"taints": [taint]})[1], [])
        self.assertEqual(
            create("Node", spec={"taints": [taint, taint]})[1],
            ['spec.taints[1]: Duplicate value: {"key":"a","effect":"NoSchedule"}'],
        )
        self.assertEqual(
            create("Node", spec={"taints": [{"key": "a"}]})[1],
            ["spec.taints[0].effect: Required value"],
        )
        ready, _ = create("Node", status={"capacity": {"cpu": "2000m"}})
        self.assertEqual(ready["status"]["allocatable"], {"cpu": "2"})

    def test_other_kinds(self) -> None:
        """Namespaces, leases, events, endpoints and signing requests."""
        ready, errors = create("Namespace")
        self.assertEqual(errors, [])
        self.assertEqual(ready["spec"], {"finalizers": ["kubernetes"]})
        self.assertEqual(ready["status"], {"phase": "Active"})
        self.assertEqual(ready["metadata"]["labels"], {"kubernetes.io/metadata.name": "n"})
        self.assertEqual(
            create("Lease", spec={"leaseDurationSeconds": 0})[1],
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        )
        self.assertEqual(
            create("Event", involvedObject={"namespace": "other"})[1],
            ['involvedObject.namespace: Invalid value: "other": does not match event.namespace'],
        )
        self.assertEqual(
            create("Endpoints", subsets=[{"addresses": [{"ip": "x"}], "ports": [{"port": 1}]}])[1],
            [
                'subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g.'
                " 10.9.8.7 or 2001:db8::ffff)"
            ],
        )
        request = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\n").decode()
        spec = {"request": request, "signerName": "x.io/s", "usages": ["client auth"]}
        old, errors = create("CertificateSigningRequest", spec=spec, status={"certificate": "AA=="})
        self.assertEqual((errors, old["status"]), ([], {}))
        self.assertEqual(len(create("CertificateSigningRequest", spec={})[1]), 3)
        other = {**old["spec"], "signerName": "x.io/t"}
        self.assertEqual(len(update("CertificateSigningRequest", old, spec=other)), 1)

    def test_definition(self) -> None:
        """A definition needs matching names, one storage version and a structural schema."""

        def crd(schema: Any, **spec: Any) -> list[str]:
            version = {"name": "v1", "served": True, "storage": True}
            version["schema"] = {"openAPIV3Schema": schema}
            names = {"plural": "things", "kind": "Thing"}
            whole = {
                "group": "x.io",
                "scope": "Namespaced",
                "names": names,
                "versions": [version],
                **spec,
            }
            found = create(
                "CustomResourceDefinition", metadata={"name": "things.x.io"}, spec=whole
            )[1]
            return [text.removeprefix("spec.versions[0].schema.openAPIV3Schema.") for text in found]

        self.assertEqual(crd({"type": "object"}), [])
        self.assertEqual(
            crd({"type": "object", "properties": {"a": {}}}),
            ["properties[a].type: Required value: must not be empty for specified object fields"],
        )
        self.assertEqual(
            crd({"type": "object", "properties": {"a": {"type": "array"}}}),
            ["properties[a].items: Required value: must be specified"],
        )
        self.assertEqual(len(crd({"type": "string"})), 1)
        self.assertIn("must be spec.names.plural", crd({"type": "object"}, group="y.io")[0])
        self.assertEqual(
            crd({"type": "object"}, scope="Everywhere"),
            [
                'spec.scope: Unsupported value: "Everywhere": supported values: "Cluster",'
                ' "Namespaced"'
            ],
        )
        self.assertEqual(len(crd({"type": "object"}, versions=[])), 1)
        deep: Any = {"type": "object"}
        for _ in range(120):
            deep = {"type": "object", "properties": {"a": deep}}
        with self.assertRaises(ValueError):
            crd(deep)


class FieldSelectTests(TestCase):
    def test_fields(self) -> None:
        """Each kind's fields can be selected by, and their values are words."""
        kinds = {info.kind: info for info in BUILT_IN}
        spec = {"nodeName": "n", "hostNetwork": True}
        found = fieldselect.fields(kinds["Pod"], {"metadata": {"name": "p"}, "spec": spec})
        self.assertEqual((found["spec.nodeName"], found["spec.hostNetwork"]), ("n", "true"))
        self.assertEqual((found["status.phase"], found["metadata.namespace"]), ("", ""))
        self.assertEqual(fieldselect.fields(kinds["Node"], {})["spec.unschedulable"], "false")
        event = {"involvedObject": {"name": "p"}, "source": {"component": "c"}}
        self.assertEqual(fieldselect.fields(kinds["Event"], event)["source"], "c")
        self.assertEqual(fieldselect.fields(kinds["Event"], event)["involvedObject.name"], "p")

    def test_unknown(self) -> None:
        """An unknown field is refused in the words recorded, or those of the kind."""
        kinds: dict[str, KindInfo] = {info.kind: info for info in BUILT_IN}
        message = named("bad field selector")["response"]["body"]["message"]
        self.assertEqual(fieldselect.unknown_text(kinds["ConfigMap"], "data.k"), message)
        self.assertEqual(
            fieldselect.unknown_text(kinds["Pod"], "x"), "field label not supported: x"
        )

    def test_custom(self) -> None:
        """A definition may name more fields to select by."""
        version = {
            "name": "v1",
            "served": True,
            "storage": True,
            "selectableFields": [{"jsonPath": ".spec.color"}],
        }
        names = {"plural": "things", "kind": "Thing"}
        crd = {"spec": {"group": "x.io", "names": names, "scope": "Cluster", "versions": [version]}}
        (info,) = custom_kinds(crd)
        self.assertIn("spec.color", fieldselect.supported(info))
        self.assertEqual(fieldselect.fields(info, {"spec": {"color": "red"}})["spec.color"], "red")
