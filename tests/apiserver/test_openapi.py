from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.apiserver import openapi
from kubeedge_tx.apiserver.registry import BUILT_IN, KindInfo, custom_kinds
from kubeedge_tx.apiserver.types import builtin_types, descriptions


def kinds() -> list[KindInfo]:
    folder = files("kubeedge_tx.api").joinpath("crds")
    found = list(BUILT_IN)
    for path in folder.iterdir():
        found += custom_kinds(yaml.safe_load(path.read_text("utf-8")))
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def schema_of(document: dict[str, Any], reference: str) -> dict[str, Any]:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    result: dict[str, Any] = found
    return result


def fields(data: bytes) -> list[tuple[int, Any]]:
    """A minimal protobuf reader: what kubectl's generated code does."""
    out: list[tuple[int, Any]] = []
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(data):
        tag = varint()
        if tag & 7 == 0:
            out.append((tag >> 3, varint()))
        elif tag & 7 == 1:
            out.append((tag >> 3, data[position : position + 8]))
            position += 8
        else:
            size = varint()
            out.append((tag >> 3, data[position : position + size]))
            position += size
    return out


def one(data: bytes, number: int) -> Any:
    return next((value for found, value in fields(data) if found == number), b"")


def every(data: bytes, number: int) -> list[Any]:
    return [value for found, value in fields(data) if found == number]


def extensions(data: bytes, number: int) -> dict[str, Any]:
    return {
        one(entry, 1).decode(): yaml.safe_load(one(one(entry, 2), 2))
        for entry in every(data, number)
    }


class DocumentTests(TestCase):
    def test_references(self) -> None:
        """Every reference leads somewhere, in both versions."""
        v2 = openapi.v2_document(kinds())
        for reference in references(v2):
            self.assertIsInstance(schema_of(v2, reference), dict)
        for path in openapi.v3_index(kinds())["paths"]:
            document = openapi.v3_document(path, kinds())
            assert document is not None
            for reference in references(document):
                self.assertIsInstance(schema_of(document, reference), dict)

    def test_kinds(self) -> None:
        """Every kind that can be stored has a schema that says group, version and kind."""
        v2 = openapi.v2_document(kinds())
        found = {
            (about["group"], about["version"], about["kind"])
            for schema in v2["definitions"].values()
            for about in schema.get("x-kubernetes-group-version-kind", [])
        }
        for info in kinds():
            self.assertIn((info.group, info.version, info.kind), found)
            document = openapi.v3_document(
                f"apis/{info.group}/{info.version}" if info.group else "api/v1", kinds()
            )
            assert document is not None
            in_v3 = [
                about
                for schema in document["components"]["schemas"].values()
                for about in schema.get("x-kubernetes-group-version-kind", [])
            ]
            self.assertIn({"group": info.group, "version": info.version, "kind": info.kind}, in_v3)

    def test_patch_parameters(self) -> None:
        """PATCH of every stored kind knows dryRun and fieldValidation: kubectl asks for that."""
        v2 = openapi.v2_document(kinds())
        known = {}
        for path in v2["paths"].values():
            if "patch" in path:
                about = path["patch"]["x-kubernetes-group-version-kind"]
                names = {parameter["name"] for parameter in path["patch"]["parameters"]}
                known[about["group"], about["kind"]] = names
        for info in kinds():
            if "patch" in info.verbs:
                names = known[info.group, info.kind]
                self.assertLessEqual({"dryRun", "fieldValidation", "fieldManager"}, names)

    def test_merge_keys(self) -> None:
        """Merge keys stand where kubectl's apply and patch look for them."""
        v2 = openapi.v2_document(kinds())
        core = "io.k8s.api.core.v1."
        spec = v2["definitions"][core + "PodSpec"]
        self.assertEqual(spec["required"], ["containers"])
        containers = spec["properties"]["containers"]
        self.assertEqual(containers["x-kubernetes-patch-merge-key"], "name")
        self.assertEqual(containers["x-kubernetes-patch-strategy"], "merge")
        volumes = spec["properties"]["volumes"]
        self.assertEqual(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys")
        self.assertNotIn("x-kubernetes-patch-merge-key", spec["properties"]["tolerations"])
        v3 = openapi.v3_document("api/v1", kinds())
        assert v3 is not None
        pod = v3["components"]["schemas"][core + "PodSpec"]["properties"]["containers"]
        self.assertEqual(pod["x-kubernetes-patch-merge-key"], "name")
        self.assertEqual(
            pod["items"]["allOf"], [{"$ref": "#/components/schemas/" + core + "Container"}]
        )

    def test_inlined_fields(self) -> None:
        """Fields that Go embeds stand in their parent: a volume has its sources itself."""
        definitions = openapi.v2_document(kinds())["definitions"]
        volume = definitions["io.k8s.api.core.v1.Volume"]["properties"]
        self.assertIn("configMap", volume)
        self.assertNotIn("volumeSource", volume)
        probe = definitions["io.k8s.api.core.v1.Probe"]["properties"]
        self.assertLessEqual({"httpGet", "periodSeconds"}, set(probe))

    def test_custom_kinds(self) -> None:
        """A custom kind is described by its definition; free parts are free in v2 too."""
        name = "io.kubeedge.devices.v1beta1.Device"
        v2 = openapi.v2_document(kinds())["definitions"][name]
        self.assertIn("nodeName", v2["properties"]["spec"]["properties"])
        self.assertNotIn("properties", v2["properties"]["status"])
        self.assertIn("ObjectMeta", v2["properties"]["metadata"]["$ref"])
        v3 = openapi.v3_document("apis/devices.kubeedge.io/v1beta1", kinds())
        assert v3 is not None
        schema = v3["components"]["schemas"][name]
        self.assertIn("reportCycle", schema["properties"]["status"]["properties"])
        self.assertIn(name + "List", v3["components"]["schemas"])

    def test_v2_dialect(self) -> None:
        """What v2 cannot say is left out rather than said wrong."""
        root = {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "maybe": {"type": "string", "nullable": True},
                        "port": {"x-kubernetes-int-or-string": True, "anyOf": [{}]},
                        "list": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                    },
                }
            },
        }
        version = {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": root},
        }
        names = {"plural": "things", "kind": "Thing"}
        spec = {"group": "x.io", "names": names, "scope": "Cluster", "versions": [version]}
        document = openapi.v2_document(custom_kinds({"spec": spec}))
        made = document["definitions"]["io.x.v1.Thing"]["properties"]["spec"]["properties"]
        self.assertEqual(made["maybe"], {})
        self.assertEqual(made["port"], {"x-kubernetes-int-or-string": True})
        self.assertEqual(made["list"]["items"], {"type": "integer", "minimum": 1})

    def test_index(self) -> None:
        """The index has every group and version; its hashes change with a definition only."""
        index = openapi.v3_index(kinds())
        self.assertEqual(
            set(index["paths"]),
            {f"apis/{k.group}/{k.version}" if k.group else "api/v1" for k in kinds()},
        )
        self.assertEqual(index, openapi.v3_index(reversed(kinds())))
        fewer = openapi.v3_index(k for k in kinds() if k.kind != "RuleEndpoint")
        changed = {path for path in fewer["paths"] if fewer["paths"][path] != index["paths"][path]}
        self.assertEqual(changed, {"apis/rules.kubeedge.io/v1"})
        self.assertIsNone(openapi.v3_document("apis/nothing/v1", kinds()))
        self.assertTrue(json.dumps(index))

    def test_descriptions(self) -> None:
        """Every description belongs to a message or field that exists, and is shown."""
        definitions = openapi.v2_document(kinds())["definitions"]
        flat = builtin_types().flat
        for name, text in descriptions().items():
            message, _, field = name.rpartition(".")
            self.assertTrue(name in flat or field in flat[message], name)
            self.assertTrue(text.endswith("."), name)
        pod = definitions["io.k8s.api.core.v1.Pod"]
        self.assertEqual(pod["description"], descriptions()["core.v1.Pod"])
        spec = definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
        self.assertEqual(spec["description"], descriptions()["core.v1.PodSpec.containers"])

    def test_fields_are_complete(self) -> None:
        """Every field of every message that is reached is a property, and nothing else."""
        definitions = openapi.v2_document(kinds())["definitions"]
        table = builtin_types()
        checked = 0
        for message, expected in table.flat.items():
            name = "io.k8s.api." + message
            if name in definitions:
                found = set(definitions[name].get("properties", {})) - {"apiVersion", "kind"}
                self.assertEqual(found, set(expected) - {"apiVersion", "kind"}, message)
                checked += 1
        self.assertGreater(checked, 150)


class GnosticTests(TestCase):
    def setUp(self) -> None:
        self.document = openapi.v2_document(kinds())
        self.data = openapi.v2_protobuf(self.document)

    def test_head(self) -> None:
        """Version and title stand where gnostic has them."""
        self.assertEqual(one(self.data, 1), b"2.0")
        self.assertEqual(one(one(self.data, 2), 1), b"KubeEdge-TX")

    def test_definitions(self) -> None:
        """Every definition is there, with its types, references, required and extensions."""
        named = {one(entry, 1).decode(): one(entry, 2) for entry in every(one(self.data, 9), 1)}
        self.assertEqual(set(named), set(self.document["definitions"]))
        for name, schema in self.document["definitions"].items():
            self._same(named[name], schema)

    def _same(self, data: bytes, schema: dict[str, Any]) -> None:
        self.assertEqual(one(data, 1).decode(), schema.get("$ref", ""))
        self.assertEqual(one(one(data, 22), 1).decode(), schema.get("type", ""))
        self.assertEqual(one(data, 2).decode(), schema.get("format", ""))
        self.assertEqual([v.decode() for v in every(data, 19)], schema.get("required", []))
        self.assertEqual(
            extensions(data, 31), {k: v for k, v in schema.items() if k.startswith("x-")}
        )
        enum = [yaml.safe_load(one(value, 2)) for value in every(data, 20)]
        self.assertEqual(enum, schema.get("enum", []))
        if "items" in schema:
            self._same(one(one(data, 23), 1), schema["items"])
        if isinstance(schema.get("additionalProperties"), dict):
            self._same(one(one(data, 21), 1), schema["additionalProperties"])
        inner = {one(e, 1).decode(): one(e, 2) for e in every(one(data, 25), 1)}
        self.assertEqual(set(inner), set(schema.get("properties", {})))
        for name, found in inner.items():
            self._same(found, schema["properties"][name])

    def test_dry_run(self) -> None:
        """The parameters of PATCH are where kubectl 1.20 looks for dryRun."""
        paths = {one(entry, 1).decode(): one(entry, 2) for entry in every(one(self.data, 8), 2)}
        self.assertEqual(set(paths), set(self.document["paths"]))
        patch = one(paths["/api/v1/namespaces/{namespace}/pods/{name}"], 8)
        about = extensions(patch, 13)["x-kubernetes-group-version-kind"]
        self.assertEqual(about, {"group": "", "kind": "Pod", "version": "v1"})
        names = [one(one(one(one(p, 1), 2), 3), 4).decode() for p in every(patch, 8)]
        self.assertIn("dryRun", names)
