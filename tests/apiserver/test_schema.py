from __future__ import annotations

import copy
from importlib.resources import files
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.apiserver import validation
from kubeedge_tx.apiserver.schema import Schema
from tests.apiserver.recordings import KUBECTL, exchanges

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcx"), inner),
    max_leaves=10,
)


def root(**spec: Any) -> Schema:
    return Schema({"type": "object", "properties": {"spec": {"type": "object", **spec}}})


def props(**properties: Any) -> Schema:
    return root(properties=properties)


def texts(schema: Schema, spec: Any) -> list[str]:
    return [str(error) for error in schema.validate({"spec": spec})]


def definitions() -> dict[str, dict[str, Any]]:
    folder = files("kubeedge_tx.api").joinpath("crds")
    loaded = [yaml.safe_load(path.read_text("utf-8")) for path in folder.iterdir()]
    return {crd["metadata"]["name"]: crd for crd in loaded}


def of_crd(name: str) -> Schema:
    version = definitions()[name]["spec"]["versions"][0]
    return Schema(version["schema"]["openAPIV3Schema"])


class ValidateTests(TestCase):
    def test_words(self) -> None:
        """Each rule of a schema complains in Kubernetes' words."""
        for rule, value, expected in (
            (
                {"type": "array", "items": {"type": "string"}},
                "x",
                'Invalid value: "string": @ must be of type array: "string"',
            ),
            (
                {"type": "string"},
                5,
                'Invalid value: "integer": @ must be of type string: "integer"',
            ),
            ({"type": "string"}, None, 'Invalid value: "null": @ must be of type string: "null"'),
            (
                {"type": "integer"},
                1.5,
                'Invalid value: "number": @ must be of type integer: "number"',
            ),
            (
                {"type": "boolean"},
                "true",
                'Invalid value: "string": @ must be of type boolean: "string"',
            ),
            ({"type": "object"}, [], 'Invalid value: "array": @ must be of type object: "array"'),
            (
                {"type": "string", "enum": ["x", "y"]},
                "z",
                'Unsupported value: "z": supported values: "x", "y"',
            ),
            (
                {"type": "integer", "minimum": 1},
                0,
                "Invalid value: 0: @ should be greater than or equal to 1",
            ),
            (
                {"type": "integer", "maximum": 9},
                10,
                "Invalid value: 10: @ should be less than or equal to 9",
            ),
            (
                {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
                1,
                "Invalid value: 1: @ should be greater than 1",
            ),
            (
                {"type": "integer", "multipleOf": 5},
                7,
                "Invalid value: 7: @ should be a multiple of 5",
            ),
            (
                {"type": "string", "minLength": 2},
                "x",
                'Invalid value: "x": @ should be at least 2 chars long',
            ),
            ({"type": "string", "maxLength": 2}, "xyz", "Too long: may not be more than 2 bytes"),
            (
                {"type": "string", "pattern": "^a+$"},
                "b",
                "Invalid value: \"b\": @ should match '^a+$'",
            ),
            (
                {"type": "array", "maxItems": 1, "items": {"type": "string"}},
                ["x", "y"],
                "Too many: 2: must have at most 1 items",
            ),
            (
                {"type": "array", "minItems": 1, "items": {"type": "string"}},
                [],
                "Invalid value: 0: @ should have at least 1 items",
            ),
            (
                {"type": "object", "maxProperties": 0},
                {"x": 1},
                "Too many: 1: must have at most 0 items",
            ),
            (
                {"x-kubernetes-int-or-string": True},
                1.5,
                'Invalid value: "number": @ must be of type integer,string: "number"',
            ),
            (
                {"type": "string", "format": "date-time"},
                "now",
                'Invalid value: "now": @ must be of type date-time: "now"',
            ),
            (
                {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                ["x", "x"],
                'spec.a[1]: Duplicate value: "x"',
            ),
            (
                {"type": "string", "oneOf": [{"pattern": "a"}, {"pattern": "b"}]},
                "ab",
                'Invalid value: "": "spec.a" must validate one and only one schema (oneOf)',
            ),
            (
                {"type": "string", "anyOf": [{"pattern": "a"}]},
                "b",
                'Invalid value: "": "spec.a" must validate at least one schema (anyOf)',
            ),
            (
                {"type": "string", "not": {"pattern": "a"}},
                "a",
                'Invalid value: "": "spec.a" must not validate the schema (not)',
            ),
        ):
            found = texts(props(a=rule), {"a": value})
            expected = expected.replace("@", "spec.a in body")
            full = expected if expected.startswith("spec.a") else f"spec.a: {expected}"
            self.assertEqual(found, [full], rule)

    def test_valid(self) -> None:
        """What fits is let through."""
        for rule, value in (
            ({"type": "string", "nullable": True}, None),
            ({"type": "integer"}, 2.0),
            ({"type": "number"}, 3),
            ({"x-kubernetes-int-or-string": True}, "50%"),
            ({"x-kubernetes-int-or-string": True}, 5),
            ({"type": "string", "pattern": "a$"}, "xa"),
            ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"any": [1]}),
            ({"type": "string", "format": "date-time"}, "2026-11-24T08:00:00Z"),
            ({"type": "string", "allOf": [{"minLength": 1}]}, "x"),
        ):
            self.assertEqual(texts(props(a=rule), {"a": value}), [], rule)

    def test_required(self) -> None:
        """A missing field is named with its path; metadata is not the schema's business."""
        schema = Schema(
            {
                "type": "object",
                "required": ["spec", "metadata"],
                "properties": {
                    "metadata": {"type": "object"},
                    "spec": {
                        "type": "object",
                        "properties": {
                            "list": {
                                "type": "array",
                                "items": {"type": "object", "required": ["name"]},
                            }
                        },
                    },
                },
            }
        )
        self.assertEqual([str(e) for e in schema.validate({})], ["spec: Required value"])
        found = schema.validate({"spec": {"list": [{"name": "x"}, {}]}})
        self.assertEqual([str(e) for e in found], ["spec.list[1].name: Required value"])

    def test_ratcheting(self) -> None:
        """What was invalid before and did not change does not stop an update."""
        schema = props(a={"type": "string", "maxLength": 1}, b={"type": "string"})
        old = {"spec": {"a": "long"}}
        self.assertEqual(schema.validate({"spec": {"a": "long", "b": "x"}}, old), [])
        self.assertEqual(len(schema.validate({"spec": {"a": "longer"}}, old)), 1)

    @given(VALUES)
    def test_garbage(self, value: Any) -> None:
        """Any value is pruned, filled and judged without a crash, and stays as it was."""
        schema = props(
            a={"type": "array", "items": {"type": "integer", "minimum": 0}},
            b={"type": "object", "properties": {"c": {"type": "string", "default": "d"}}},
            c={"x-kubernetes-int-or-string": True, "default": 1},
            x={"type": "object", "additionalProperties": {"type": "string"}},
        )
        obj = {"metadata": {"name": "n"}, "spec": value}
        before = copy.deepcopy(obj)
        pruned = schema.prune(obj)
        self.assertEqual(schema.prune(pruned), pruned)
        self.assertEqual(schema.unknown_fields(pruned), [])
        filled = schema.default(pruned)
        self.assertEqual(schema.default(filled), filled)
        schema.validate(filled)
        self.assertEqual(obj, before)


class PruneTests(TestCase):
    def test_unknown_fields(self) -> None:
        """Unknown fields are dropped and named; free parts and the envelope are kept."""
        schema = Schema(
            {
                "type": "object",
                "properties": {
                    "spec": {
                        "type": "object",
                        "properties": {
                            "free": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            },
                            "map": {"type": "object", "additionalProperties": {"type": "string"}},
                            "list": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {"a": {"type": "string"}},
                                },
                            },
                            "obj": {"type": "object", "x-kubernetes-embedded-resource": True},
                        },
                    }
                },
            }
        )
        obj = {
            "apiVersion": "x/v1",
            "kind": "X",
            "metadata": {"anything": 1},
            "top": 1,
            "spec": {
                "free": {"x": {"y": 1}},
                "map": {"k": "v"},
                "list": [{"a": "1", "b": 2}],
                "obj": {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": 1},
                "nosuch": 1,
            },
        }
        pruned = schema.prune(obj)
        self.assertEqual(
            schema.unknown_fields(obj), ["top", "spec.list[0].b", "spec.obj.spec", "spec.nosuch"]
        )
        self.assertEqual(pruned["metadata"], {"anything": 1})
        self.assertEqual(
            pruned["spec"],
            {
                "free": {"x": {"y": 1}},
                "map": {"k": "v"},
                "list": [{"a": "1"}],
                "obj": {"apiVersion": "v1", "kind": "Pod", "metadata": {}},
            },
        )


class DefaultTests(TestCase):
    def test_defaults(self) -> None:
        """Defaults fill what is missing, inside lists and maps too, and replace nulls."""
        inner = {"type": "object", "properties": {"n": {"type": "integer", "default": 5}}}
        schema = props(
            one=inner,
            many={"type": "array", "items": inner},
            map={"type": "object", "additionalProperties": inner},
            made={**inner, "default": {}},
            kept={"type": "string", "nullable": True, "default": "x"},
            null={"type": "string", "default": "x"},
            gone={"type": "object"},
        )
        spec: dict[str, Any] = {
            "one": {},
            "many": [{}, {"n": 1}],
            "map": {"k": {}},
            "kept": None,
            "null": None,
            "gone": None,
        }
        self.assertEqual(
            schema.default({"spec": spec})["spec"],
            {
                "one": {"n": 5},
                "many": [{"n": 5}, {"n": 1}],
                "map": {"k": {"n": 5}},
                "kept": None,
                "null": "x",
                "made": {"n": 5},
            },
        )


class DefinitionTests(TestCase):
    def test_ours_are_valid(self) -> None:
        """KubeEdge's definitions pass the checks for definitions, as users' would."""
        found = definitions()
        self.assertEqual(len(found), 7)
        for name, crd in found.items():
            kind = "CustomResourceDefinition"
            self.assertEqual(validation.unknown_fields(kind, crd), [], name)
            ready = validation.default(kind, validation.prepare(kind, crd, None))
            self.assertEqual([str(e) for e in validation.validate(kind, ready, None)], [], name)

    def test_recorded_objects(self) -> None:
        """Objects that upstream's definitions let through pass ours, and lose nothing."""
        count = 0
        for name in KUBECTL:
            for line in exchanges(name):
                body = line["request"]["body"]
                if not isinstance(body, dict) or line["response"]["status"] != 201:
                    continue
                if body.get("kind") in ("Device", "DeviceModel"):
                    schema = of_crd(f"{body['kind'].lower()}s.devices.kubeedge.io")
                    self.assertEqual(schema.unknown_fields(body), [])
                    self.assertEqual(schema.validate(body), [])
                    count += 1
        self.assertEqual(count, 6)

    def test_recorded_refusal(self) -> None:
        """A wrong type is refused as recorded, cause by cause."""
        for line in exchanges(KUBECTL[-1]):
            answer = line["response"]["body"]
            if isinstance(answer, dict) and answer.get("code") == 422:
                patch = line["request"]["body"]
                (error,) = of_crd("devices.devices.kubeedge.io").validate(patch)
                cause = answer["details"]["causes"][0]
                ours = {"reason": error.reason, "message": error.message, "field": error.field}
                self.assertEqual(ours, cause)
                return
        self.fail("the recording has no refused device")

    def test_fields(self) -> None:
        """The fields that KubeEdge's mappers and edges write are all known."""
        device = {
            "spec": {
                "deviceModelRef": {"name": "m"},
                "nodeName": "n",
                "protocol": {"protocolName": "modbus", "configData": {"a": {"b": 1}}},
                "methods": [{"name": "m", "description": "d", "propertyNames": ["t"]}],
                "stateReport": {"reportToCloud": True, "reportCycle": 1000},
                "properties": [
                    {
                        "name": "t",
                        "desired": {"value": "1", "metadata": {"type": "int"}},
                        "visitors": {"protocolName": "modbus", "configData": {"r": 1}},
                        "reportCycle": 1,
                        "collectCycle": 1,
                        "reportToCloud": True,
                        "pushMethod": {
                            "http": {"hostName": "h", "port": 1, "requestPath": "/", "timeout": 1},
                            "mqtt": {"address": "a", "topic": "t", "qos": 1, "retained": True},
                            "otel": {"endpointURL": "u"},
                            "anomalyDetection": {"any": 1},
                            "dbMethod": {
                                "influxdb2": {
                                    "influxdb2ClientConfig": {
                                        "url": "u",
                                        "org": "o",
                                        "bucket": "b",
                                    },
                                    "influxdb2DataConfig": {
                                        "measurement": "m",
                                        "tag": {"a": "b"},
                                        "fieldKey": "f",
                                    },
                                },
                                "redis": {
                                    "redisClientConfig": {
                                        "addr": "a",
                                        "db": 1,
                                        "poolsize": 1,
                                        "minIdleConns": 1,
                                    }
                                },
                                "TDEngine": {"TDEngineClientConfig": {"addr": "a", "dbName": "d"}},
                                "mysql": {
                                    "mysqlClientConfig": {
                                        "addr": "a",
                                        "database": "d",
                                        "userName": "u",
                                    }
                                },
                            },
                        },
                    }
                ],
            },
            "status": {"reportToCloud": True, "reportCycle": 1, "kept": 1},
        }
        status = {
            "status": {
                "twins": [
                    {
                        "propertyName": "t",
                        "reported": {"value": "1", "metadata": {"a": "b"}},
                        "observedDesired": {"value": "1"},
                    }
                ],
                "state": "ok",
                "lastOnlineTime": "x",
                "extensions": {"any": 1},
            }
        }
        sync = {
            "spec": {"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": "p"},
            "status": {"objectResourceVersion": "7"},
        }
        rule = {
            "spec": {
                "source": "a",
                "sourceResource": {"path": "/a"},
                "target": "b",
                "targetResource": {"topic": "t"},
            },
            "status": {"successMessages": 1, "failMessages": 1, "errors": ["e"]},
        }
        for name, obj in (
            ("devices.devices.kubeedge.io", device),
            ("devicestatuses.devices.kubeedge.io", status),
            ("objectsyncs.reliablesyncs.kubeedge.io", sync),
            ("clusterobjectsyncs.reliablesyncs.kubeedge.io", sync),
            ("rules.rules.kubeedge.io", rule),
            ("ruleendpoints.rules.kubeedge.io", {"spec": {"ruleEndpointType": "rest"}}),
        ):
            schema = of_crd(name)
            self.assertEqual(schema.unknown_fields(obj), [], name)
            self.assertEqual([str(error) for error in schema.validate(obj)], [], name)
