from __future__ import annotations

import base64
import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.api.timestamps import parse_time
from kubeedge_tx.apiserver.protobuf import MAGIC, ProtobufError, decode_object
from kubeedge_tx.apiserver.types import KINDS, builtin_types
from tests.apiserver.recordings import KUBECTL, exchanges, objects


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def block(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode_value(kind: str, value: Any) -> bytes:
    """The content of a field that is a message, a string or bytes."""
    if kind in builtin_types().messages:
        return encode_message(kind, value)
    match kind:
        case "string":
            return str(value).encode()
        case "bytes":
            return base64.b64decode(value)
        case "quantity":
            return block(1, value.encode())
        case "time" | "microtime":
            seconds, nanos = parse_time(value) or (0, 0)
            return varint(1 << 3) + varint(seconds) + varint(2 << 3) + varint(nanos)
        case "intorstring":
            if isinstance(value, int):
                return varint(1 << 3) + varint(0) + varint(2 << 3) + varint(value)
            return varint(1 << 3) + varint(1) + block(3, value.encode())
    if kind.startswith("[]"):
        return b"".join(block(1, encode_value(kind[2:], item)) for item in value)
    raise AssertionError(kind)


def encode_field(number: int, kind: str, value: Any) -> bytes:
    if kind.startswith("[]"):
        return b"".join(encode_field(number, kind[2:], item) for item in value)
    if kind.startswith("map:"):
        return b"".join(
            block(number, block(1, key.encode()) + encode_field(2, kind[4:], item))
            if not kind[4:].startswith("[]")
            else block(number, block(1, key.encode()) + block(2, encode_value(kind[4:], item)))
            for key, item in value.items()
        )
    if kind in ("bool", "int32", "int64"):
        return varint(number << 3) + varint(int(value))
    return block(number, encode_value(kind, value))


def encode_message(message: str, obj: dict[str, Any]) -> bytes:
    """The tests' own encoder: what a Go client would send, from the same field table."""
    out = b""
    for field in builtin_types().messages[message].values():
        if field.inline:
            out += block(field.number, encode_message(field.type, obj))
        elif obj.get(field.name) is not None:
            out += encode_field(field.number, field.type, obj[field.name])
    return out


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    type_meta = block(1, api_version.encode()) + block(2, kind.encode())
    return MAGIC + block(1, type_meta) + block(2, raw) + block(3, b"") + block(4, b"")


def without_raw(value: Any) -> Any:
    """An object without embedded JSON, which the tests' encoder does not write."""
    if isinstance(value, dict):
        return {k: without_raw(v) for k, v in value.items() if k not in ("fieldsV1", "default")}
    return [without_raw(item) for item in value] if isinstance(value, list) else value


class RecordedTests(TestCase):
    def test_kubectl(self) -> None:
        """What kubectl 1.32 and 1.36 sent is read: names, namespaces, the resource asked about."""
        seen = set()
        for name in KUBECTL:
            for line in exchanges(name):
                body = line["request"]["body"]
                if not isinstance(body, str) or not body.startswith("k8s\0"):
                    continue
                # The recording shortened the namespace's name, but not the lengths before it.
                client = "demo" + name.removeprefix("kubectl-1.").removesuffix(".jsonl")
                sent = body.replace("\x07demo", f"\x07{'demo1' + client[4:]}").encode("latin1")
                obj = decode_object(sent)
                seen.add(obj["kind"])
                if obj["kind"] == "ConfigMap":
                    self.assertIn(obj["metadata"]["name"], ("cfg", "Bad_Name"))
                    self.assertTrue(obj["metadata"]["namespace"].startswith("demo"))
                if obj["kind"] == "SelfSubjectAccessReview":
                    self.assertEqual(
                        obj["spec"]["resourceAttributes"],
                        {"namespace": "default", "verb": "get", "resource": "pods"},
                    )
        self.assertEqual(
            seen,
            {
                "Namespace",
                "ConfigMap",
                "ServiceAccount",
                "TokenRequest",
                "SelfSubjectAccessReview",
            },
        )

    def test_recorded_objects(self) -> None:
        """Every recorded object survives the way through protobuf unchanged."""
        count = 0
        for name in ("kube-api.jsonl", *KUBECTL):
            for obj in objects(exchanges(name)):
                message = KINDS.get((obj.get("apiVersion", ""), obj["kind"]))
                if message is None:
                    continue
                raw = encode_message(message, obj)
                self.assertEqual(decode_object(envelope(obj["apiVersion"], obj["kind"], raw)), obj)
                count += 1
        self.assertGreater(count, 100)


class DecodeTests(TestCase):
    def test_special_types(self) -> None:
        """Times, amounts, ports by name or number, bytes and maps become JSON's forms."""
        pod = {
            "metadata": {
                "name": "p",
                "labels": {"a": "1", "b": ""},
                "deletionTimestamp": "2026-11-24T08:03:59Z",
            },
            "spec": {
                "containers": [
                    {
                        "name": "a",
                        "resources": {"limits": {"cpu": "500m"}},
                        "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5},
                        "readinessProbe": {"tcpSocket": {"port": 80}},
                    }
                ],
                "volumes": [{"name": "v", "configMap": {"name": "c", "optional": False}}],
            },
            "status": {},
        }
        found = decode_object(envelope("v1", "Pod", encode_message("core.v1.Pod", pod)))
        self.assertEqual(found, {"kind": "Pod", "apiVersion": "v1", **pod})
        secret = {"metadata": {"name": "s"}, "data": {"k": "AAE="}, "type": "Opaque"}
        found = decode_object(envelope("v1", "Secret", encode_message("core.v1.Secret", secret)))
        self.assertEqual(found["data"], {"k": "AAE="})
        lease = {"spec": {"renewTime": "2026-11-24T08:00:00.000001Z", "holderIdentity": "n"}}
        raw = encode_message("coordination.v1.Lease", lease)
        found = decode_object(envelope("coordination.k8s.io/v1", "Lease", raw))
        self.assertEqual(found["spec"], lease["spec"])

    def test_negative_numbers(self) -> None:
        """Negative numbers stand as ten-byte varints."""
        raw = encode_message(
            "core.v1.Pod", {"spec": {"priority": -5, "terminationGracePeriodSeconds": -1}}
        )
        spec = decode_object(envelope("v1", "Pod", raw))["spec"]
        self.assertEqual((spec["priority"], spec["terminationGracePeriodSeconds"]), (-5, -1))

    def test_unknown_field(self) -> None:
        """Fields of a newer client are passed over."""
        raw = encode_message("core.v1.ConfigMap", {"metadata": {"name": "c"}})
        raw += block(99, b"new") + varint(98 << 3) + varint(7) + varint(97 << 3 | 5) + b"1234"
        found = decode_object(envelope("v1", "ConfigMap", raw))
        self.assertEqual(found["metadata"], {"name": "c"})

    def test_delete_options(self) -> None:
        """DeleteOptions come under the group of whatever is deleted."""
        raw = encode_message(
            "meta.v1.DeleteOptions", {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}
        )
        for version in ("v1", "coordination.k8s.io/v1", "meta.k8s.io/v1"):
            found = decode_object(envelope(version, "DeleteOptions", raw))
            self.assertEqual(found["gracePeriodSeconds"], 0)
            self.assertEqual(found["preconditions"], {"uid": "u"})

    def test_wrong_bodies(self) -> None:
        """No magic, no such kind, cut short, wrong wire types: each says what is wrong."""
        good = envelope(
            "v1", "ConfigMap", encode_message("core.v1.ConfigMap", {"data": {"a": "b"}})
        )
        for body in (
            b"",
            b"{}",
            good[:-20],
            envelope("v1", "Nothing", b""),
            envelope("v1", "ConfigMap", b"\x0a"),
            envelope("v1", "ConfigMap", varint(1 << 3) + b"\x01"),
            envelope("v1", "ConfigMap", block(2, block(1, b"\xff"))),
            envelope("v1", "Pod", block(2, block(4, b"x"))),
            MAGIC + b"\x00",
            MAGIC + b"\xff" * 11,
        ):
            with self.assertRaises(ProtobufError, msg=body) as caught:
                decode_object(body)
            self.assertTrue(str(caught.exception))

    @given(st.binary(max_size=60))
    def test_garbage(self, data: bytes) -> None:
        """Any bytes are an object or a ProtobufError, and never anything else."""
        for kind in (("v1", "Pod"), ("v1", "Node")):
            for body in (data, MAGIC + data, envelope(*kind, data)):
                with contextlib.suppress(ProtobufError):
                    self.assertIn("kind", decode_object(body))

    @given(st.data())
    def test_damage(self, data: st.DataObject) -> None:
        """A real body with bytes changed is an object or a ProtobufError."""
        pod = {
            "metadata": {"name": "p", "creationTimestamp": "2026-11-24T08:03:59Z"},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]},
        }
        body = bytearray(envelope("v1", "Pod", encode_message("core.v1.Pod", pod)))
        for _ in range(data.draw(st.integers(1, 4))):
            body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(ProtobufError):
            self.assertIn("kind", decode_object(bytes(body)))
