from __future__ import annotations

import contextlib
import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.apiserver.patches import (
    MAX_OPERATIONS,
    PatchError,
    apply_json_patch,
    apply_merge_patch,
    apply_strategic_merge,
)
from kubeedge_tx.apiserver.validation import decode
from tests.apiserver.recordings import exchanges, plain

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab/~", max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("ab/~", max_size=2), VALUES, max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


class MergePatchTests(TestCase):
    def test_rfc_7396_examples(self) -> None:
        """The examples of RFC 7396 come out as the RFC says."""
        for original, patch, result in (
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ):
            self.assertEqual(apply_merge_patch(original, patch), result)

    @given(OBJECTS, OBJECTS)
    def test_twice_is_once(self, obj: dict[str, Any], patch: dict[str, Any]) -> None:
        """Applying a merge patch again changes nothing, and its inputs never change."""
        before = copy.deepcopy((obj, patch))
        once = apply_merge_patch(obj, patch)
        self.assertEqual(apply_merge_patch(once, patch), once)
        self.assertEqual((obj, patch), before)

    @given(OBJECTS, OBJECTS)
    def test_patch_wins(self, obj: dict[str, Any], patch: dict[str, Any]) -> None:
        """A key of the patch is gone when it is null, and there when it is not."""
        result = apply_merge_patch(obj, patch)
        for key, value in patch.items():
            self.assertEqual(key in result, value is not None)
        for key in obj.keys() - patch.keys():
            self.assertEqual(result[key], obj[key])

    @given(OBJECTS)
    def test_into_nothing(self, patch: dict[str, Any]) -> None:
        """Into an empty object the patch goes as it is, without its nulls."""
        self.assertEqual(apply_merge_patch({}, patch), without_nulls(patch))

    def test_no_object(self) -> None:
        """A merge patch that is no object is a bad request."""
        with self.assertRaises(PatchError) as caught:
            apply_merge_patch({}, [1])
        self.assertEqual((caught.exception.code, caught.exception.reason), (400, "BadRequest"))

    def test_too_deep(self) -> None:
        """A patch nested absurdly deep is refused, not crashed on."""
        patch: dict[str, Any] = {}
        for _ in range(100_000):
            patch = {"a": patch}
        for apply in (
            lambda: apply_merge_patch({}, patch),
            lambda: apply_strategic_merge({}, {"spec": patch}, "Pod"),
            lambda: apply_json_patch({}, [{"op": "add", "path": "/x", "value": patch}]),
        ):
            with self.assertRaises(PatchError) as caught:
                apply()
            self.assertEqual(caught.exception.code, 400)


class JsonPatchTests(TestCase):
    def test_operations(self) -> None:
        """Each operation of RFC 6902 does what the RFC says."""
        for document, op, result in (
            ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
            ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
            ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
            ({"a": 1, "b": 2}, {"op": "remove", "path": "/a"}, {"b": 2}),
            ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
            ({"a": [1, 2]}, {"op": "replace", "path": "/a/1", "value": 5}, {"a": [1, 5]}),
            ({"a": 1}, {"op": "replace", "path": "", "value": {}}, {}),
            ({"a": 1}, {"op": "move", "from": "/a", "path": "/b"}, {"b": 1}),
            ({"a": [1, 2]}, {"op": "move", "from": "/a/0", "path": "/a/1"}, {"a": [2, 1]}),
            ({"a": {}}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": {}, "b": {}}),
            ({"a/b": 1, "c~": 2}, {"op": "remove", "path": "/a~1b"}, {"c~": 2}),
            ({"c~": 2}, {"op": "test", "path": "/c~0", "value": 2}, {"c~": 2}),
        ):
            self.assertEqual(apply_json_patch(document, [op]), result, op)

    def test_refused(self) -> None:
        """What cannot be applied is 422, and the text never repeats a value."""
        for op in (
            {"op": "test", "path": "/a", "value": True},
            {"op": "remove", "path": "/none"},
            {"op": "replace", "path": "/none", "value": 1},
            {"op": "add", "path": "/l/2", "value": 1},
            {"op": "add", "path": "/l/01", "value": 1},
            {"op": "add", "path": "/l/-1", "value": 1},
            {"op": "add", "path": "/a/b", "value": 1},
            {"op": "add", "path": "a", "value": 1},
            {"op": "add", "path": "/b"},
            {"op": "move", "from": "/o", "path": "/o/x"},
            {"op": "jump", "path": "/a"},
            {"path": "/a"},
            {"op": "add", "path": 5, "value": 1},
        ):
            with self.assertRaises(PatchError, msg=op) as caught:
                apply_json_patch({"a": 1, "l": [1], "o": {}}, [op])
            self.assertEqual((caught.exception.code, caught.exception.reason), (422, "Invalid"))

    def test_no_patch(self) -> None:
        """A body that is no list of operations is a bad request; too many are too large."""
        garbage: tuple[Any, ...] = ({}, "x", [1], None)
        for patch in garbage:
            with self.assertRaises(PatchError) as caught:
                apply_json_patch({}, patch)
            self.assertEqual(caught.exception.code, 400)
        with self.assertRaises(PatchError) as caught:
            apply_json_patch({}, [{"op": "test", "path": "", "value": {}}] * (MAX_OPERATIONS + 1))
        self.assertEqual(caught.exception.code, 413)

    @given(OBJECTS, VALUES)
    def test_add_then_remove(self, document: dict[str, Any], value: Any) -> None:
        """Adding a new member and removing it again leaves the document as it was."""
        ops = [
            {"op": "add", "path": "/new", "value": value},
            {"op": "test", "path": "/new", "value": value},
            {"op": "remove", "path": "/new"},
        ]
        self.assertEqual(apply_json_patch(document, ops), document)

    @given(
        OBJECTS, st.lists(st.dictionaries(st.sampled_from(["op", "path", "from", "value"]), VALUES))
    )
    def test_garbage(self, document: dict[str, Any], ops: list[Any]) -> None:
        """Whatever the operations are, they apply or raise PatchError, and inputs stay."""
        before = copy.deepcopy((document, ops))
        with contextlib.suppress(PatchError):
            apply_json_patch(document, ops)
        self.assertEqual((document, ops), before)


class StrategicMergeTests(TestCase):
    def test_containers_by_name(self) -> None:
        """A container is found by its name and merged; what the patch leaves out stays."""
        obj = pod(containers=[{"name": "a", "image": "x", "args": ["1"]}, {"name": "b"}])
        patch = {"spec": {"containers": [{"name": "a", "image": "y", "args": ["2"]}]}}
        result = apply_strategic_merge(obj, patch, "Pod")
        self.assertEqual(
            result["spec"]["containers"],
            [{"name": "a", "image": "y", "args": ["2"]}, {"name": "b"}],
        )

    def test_new_items_first(self) -> None:
        """A new item of a merged list stands before the old ones, as in the real server."""
        obj = {"status": {"conditions": [{"type": "Ready"}, {"type": "PodScheduled"}]}}
        patch = {"status": {"conditions": [{"type": "Initialized"}]}}
        types = [
            condition["type"]
            for condition in apply_strategic_merge(obj, patch, "Pod")["status"]["conditions"]
        ]
        self.assertEqual(types, ["Initialized", "Ready", "PodScheduled"])

    def test_directives(self) -> None:
        """$patch deletes an item, replaces a list or a map, and never stays in the object."""
        obj = pod(containers=[{"name": "a"}, {"name": "b"}], nodeSelector={"x": "1"})
        gone = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
        self.assertEqual(
            apply_strategic_merge(obj, gone, "Pod")["spec"]["containers"], [{"name": "b"}]
        )
        new = {"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}
        self.assertEqual(
            apply_strategic_merge(obj, new, "Pod")["spec"]["containers"], [{"name": "c"}]
        )
        selector = {"spec": {"nodeSelector": {"$patch": "replace", "y": "2"}}}
        self.assertEqual(
            apply_strategic_merge(obj, selector, "Pod")["spec"]["nodeSelector"], {"y": "2"}
        )
        empty = {"spec": {"nodeSelector": {"$patch": "delete"}}}
        self.assertEqual(apply_strategic_merge(obj, empty, "Pod")["spec"]["nodeSelector"], {})
        fresh = {"spec": {"volumes": [{"name": "v", "$patch": "delete"}, {"name": "w"}]}}
        self.assertEqual(
            apply_strategic_merge(obj, fresh, "Pod")["spec"]["volumes"], [{"name": "w"}]
        )

    def test_retain_keys(self) -> None:
        """$retainKeys leaves only the named fields: a volume changes its type."""
        obj = pod(volumes=[{"name": "v", "emptyDir": {}}])
        patch = {
            "spec": {
                "volumes": [
                    {
                        "name": "v",
                        "$retainKeys": ["name", "hostPath"],
                        "hostPath": {"path": "/x"},
                    }
                ]
            }
        }
        self.assertEqual(
            apply_strategic_merge(obj, patch, "Pod")["spec"]["volumes"],
            [{"name": "v", "hostPath": {"path": "/x"}}],
        )
        patch["spec"]["volumes"][0]["$retainKeys"] = ["name"]
        with self.assertRaises(PatchError) as caught:
            apply_strategic_merge(obj, patch, "Pod")
        self.assertEqual(caught.exception.code, 400)

    def test_primitive_lists(self) -> None:
        """Finalizers are united; $deleteFromPrimitiveList takes one out."""
        obj = {"metadata": {"finalizers": ["a/x", "b/y"]}}
        added = apply_strategic_merge(obj, {"metadata": {"finalizers": ["c/z"]}}, "ConfigMap")
        self.assertEqual(set(added["metadata"]["finalizers"]), {"a/x", "b/y", "c/z"})
        patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x"]}}
        self.assertEqual(
            apply_strategic_merge(obj, patch, "ConfigMap")["metadata"]["finalizers"], ["b/y"]
        )

    def test_atomic_lists(self) -> None:
        """Taints and tolerations have no merge key: the patch's list takes their place."""
        node = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
        patch = {"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}
        self.assertEqual(apply_strategic_merge(node, patch, "Node")["spec"], patch["spec"])
        obj = pod(tolerations=[{"key": "a"}])
        change = {"spec": {"tolerations": [{"key": "b"}]}}
        self.assertEqual(apply_strategic_merge(obj, change, "Pod")["spec"], change["spec"])

    def test_element_order(self) -> None:
        """$setElementOrder puts the items into the given order; the server's own stay in place."""
        obj = pod(containers=[{"name": "a"}, {"name": "side"}, {"name": "b"}])
        patch = {
            "spec": {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "b", "image": "y"}],
            }
        }
        found = apply_strategic_merge(obj, patch, "Pod")["spec"]
        names = [container["name"] for container in found["containers"]]
        self.assertLess(names.index("b"), names.index("a"))
        self.assertIn("side", names)
        self.assertEqual(set(found), {"containers"})

    def test_merge_keys(self) -> None:
        """The lists of each kind merge by the key that Kubernetes declares."""
        for kind, path, key in (
            ("Pod", ("spec", "imagePullSecrets"), "name"),
            ("Pod", ("spec", "hostAliases"), "ip"),
            ("Pod", ("status", "podIPs"), "ip"),
            ("Node", ("status", "conditions"), "type"),
            ("Node", ("status", "addresses"), "type"),
            ("Service", ("spec", "ports"), "port"),
            ("ServiceAccount", ("secrets",), "name"),
            ("Namespace", ("status", "conditions"), "type"),
            ("Pod", ("metadata", "ownerReferences"), "uid"),
        ):
            first = {key: "one", "extra": "1"}
            obj: Any = [first]
            patch: Any = [{key: "two"}, {key: "one", "more": "2"}]
            for part in reversed(path):
                obj, patch = {part: obj}, {part: patch}
            result: Any = apply_strategic_merge(obj, patch, kind)
            for part in path:
                result = result[part]
            merged = {item[key]: item for item in result}
            self.assertEqual(merged["one"], {**first, "more": "2"}, (kind, path))
            self.assertIn("two", merged)

    def test_bad_patches(self) -> None:
        """A list item without its key, an unknown directive, no object: errors, never a crash."""
        obj = pod(containers=[{"name": "a"}])
        for patch, code in (
            ({"spec": {"containers": [{"image": "y"}]}}, 500),
            ({"spec": {"containers": [{"name": "a", "$patch": "explode"}]}}, 500),
            ({"spec": {"$patch": "explode"}}, 500),
            ({"spec": {"containers": ["x"]}}, 400),
            ({"spec": {"$setElementOrder/containers": "x"}}, 400),
            ([1], 400),
        ):
            with self.assertRaises(PatchError) as caught:
                apply_strategic_merge(obj, patch, "Pod")
            self.assertEqual(caught.exception.code, code, patch)
        with self.assertRaises(PatchError) as caught:
            apply_strategic_merge({}, {}, "Device")
        self.assertEqual(caught.exception.code, 415)

    @given(
        st.lists(st.sampled_from("abcd"), unique=True),
        st.lists(st.sampled_from("abcdef"), unique=True),
    )
    def test_twice_is_once(self, have: list[str], want: list[str]) -> None:
        """A strategic patch again changes nothing; nothing is lost and nothing doubled."""
        obj = pod(containers=[{"name": name, "image": "old"} for name in have])
        patch = {"spec": {"containers": [{"name": name, "image": "new"} for name in want]}}
        once = apply_strategic_merge(obj, patch, "Pod")
        self.assertEqual(apply_strategic_merge(once, patch, "Pod"), once)
        images = {c["name"]: c["image"] for c in once["spec"]["containers"]}
        expected = {**dict.fromkeys(have, "old"), **dict.fromkeys(want, "new")}
        self.assertEqual(images, expected)
        self.assertEqual(len(once["spec"]["containers"]), len(expected))

    @given(VALUES, VALUES)
    def test_garbage(self, spec: Any, patch: Any) -> None:
        """Whatever the patch is, it applies or raises PatchError, and inputs stay."""
        obj = {"spec": {"containers": [{"name": "a"}]}, "metadata": spec}
        change = {"spec": {"containers": patch, "volumes": spec}, "metadata": patch}
        before = copy.deepcopy((obj, change))
        with contextlib.suppress(PatchError):
            apply_strategic_merge(obj, change, "Pod")
        self.assertEqual((obj, change), before)


class RecordedPatchTests(TestCase):
    def test_recorded_patches(self) -> None:
        """Every recorded patch turns the object before it into the object that was answered."""
        known: dict[str, Any] = {}
        checked = 0
        for line in exchanges("kube-api.jsonl"):
            request, body = line["request"], line["response"]["body"]
            path = request["path"].split("?")[0].removesuffix("/status")
            if line["what"] == "bind":
                bound(known[path.removesuffix("/binding")], "2026-11-24T08:03:59Z")
            if not isinstance(body, dict) or "metadata" not in body:
                continue
            body = plain(body)
            media = request["content_type"] or ""
            if request["method"] == "PATCH" and line["response"]["status"] == 200 and path in known:
                status = request["path"].endswith("/status")
                checked += self._check(known[path], request["body"], media, body, status=status)
            if body["metadata"].get("uid") and "name" in body["metadata"]:
                name = body["metadata"]["name"]
                known[path if path.endswith("/" + name) else f"{path}/{name}"] = body
        self.assertGreater(checked, 5)

    def _check(self, old: Any, patch: Any, media: str, new: Any, *, status: bool) -> bool:
        if media.startswith("application/strategic"):
            made = apply_strategic_merge(old, patch, old["kind"])
        elif media.startswith("application/merge"):
            made = apply_merge_patch(old, patch)
        elif media.startswith("application/json-patch"):
            made = apply_json_patch(old, patch)
        else:
            return False
        made = decode(made["kind"], made)
        for part in ("data", "status" if status else "spec"):
            self.assertEqual(made.get(part), new.get(part))
        self.assertEqual(made["metadata"].get("labels"), new["metadata"].get("labels"))
        return True


def bound(pod: dict[str, Any], when: str) -> None:
    """What the recorded server did to a pod when it was bound."""
    pod["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": when,
        }
    ]
