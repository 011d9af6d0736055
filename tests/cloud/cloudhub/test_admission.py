from __future__ import annotations

import json

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.message import Header, Message, Route
from kubeedge_tx.cloud.cloudhub.admission import MAX_CONTENT, Refusal, refusal
from kubeedge_tx.viaduct import codec
from tests.recordings import lines


class AdmissionTests(SynchronousTestCase):
    """A node speaks for itself only."""

    def why(self, operation: str, resource: str, source: str = "edged") -> Refusal | None:
        message = Message(
            Header(msg_id="1", timestamp=1), Route(source, "meta", operation, resource)
        )
        return refusal("edge-1", message)

    def reason(self, operation: str, resource: str) -> str:
        found = self.why(operation, resource)
        return "" if found is None else found.reason

    def test_recorded_sessions(self) -> None:
        """Everything that a real edge said in the recordings is allowed."""
        for name in ("session-websocket.jsonl", "session-restart.jsonl"):
            for event in lines(name):
                if event["dir"] != "edge>cloud":
                    continue
                if "http" in event:
                    node = event["http"].split(" ")[1].split("/")[2]
                    continue
                theirs = event["message"]
                text = theirs if isinstance(theirs, str) else json.dumps(theirs)
                message = codec.decode(text.encode())
                self.assertIsNone(refusal(node, message), message.route)

    def test_its_own(self) -> None:
        """Its node, its lease, its status."""
        for operation, resource in (
            ("insert", "null/node/edge-1"),
            ("patch", "null/nodepatch/edge-1"),
            ("update", "kube-node-lease/lease/edge-1"),
            ("insert", "default/event/e"),
            ("delete", "default/pod/web"),
            ("query", "default/secret/s"),
        ):
            self.assertIsNone(self.why(operation, resource))

    def test_of_others(self) -> None:
        """Another node's node, status or lease is refused, and so is a lease elsewhere."""
        for operation, resource in (
            ("insert", "null/node/edge-2"),
            ("patch", "null/nodepatch/edge-2"),
            ("update", "kube-node-lease/lease/edge-2"),
            ("update", "kube-system/lease/edge-1"),
            ("update", "default/nodestatus/edge-2"),
        ):
            self.assertIsNotNone(self.why(operation, resource))

    def test_not_for_nodes(self) -> None:
        """Nodes do not write configmaps, and have no say about unknown types."""
        for operation, resource in (
            ("update", "default/secret/s"),
            ("delete", "null/node/edge-1"),
            ("insert", "default/deployment/d"),
            ("frobnicate", "default/pod/web"),
            ("query", "pod"),
            ("query", "default//x"),
            ("query", "a/pod/b/c"),
            ("query", ""),
        ):
            self.assertIsNotNone(self.why(operation, resource), resource)

    def test_names(self) -> None:
        """What cannot be the name of an object never becomes part of a path."""
        for resource in (
            "default/secret/..",
            "default/secret/.",
            "../secret/key",
            "default/secret/%2e%2e",
            "default/secret/key?watch=1",
            "default/secret/key#x",
            "default/secret/KEY",
            "default/secret/k\u0435y",
            "default/secret/key\n",
            "default/secret/" + "k" * 254,
            "a.b/secret/key",
            "n" * 64 + "/secret/key",
            "default%2fsecret/secret/key",
            "default\\secret/secret/key",
            " default/secret/key",
            "default/pod/web\x00",
        ):
            self.assertEqual(self.reason("query", resource), "malformed", resource)

    def test_routing_tricks(self) -> None:
        """Another node in front, doubled slashes, and volumes of nobody lead nowhere."""
        for resource in (
            "node/edge-2/default/pod/web",
            "node/edge-2",
            "/default/secret/key",
            "default/secret/key/",
            "d/volume/v/../../secret/key",
            "x/volume/y/default/secret/key",
        ):
            self.assertIsNotNone(self.why("query", resource), resource)

    def test_too_much(self) -> None:
        """More than the API server takes of one object is not even decoded."""
        for source in ("edged", "twin"):
            route = Route(source, "meta", "update", "default/podstatus/web")
            full = Raw(b'"' + b"x" * (MAX_CONTENT - 2) + b'"')
            self.assertIsNone(
                refusal("edge-1", Message(Header(msg_id="1", timestamp=1), route, full))
            )
            more = Raw(b'"' + b"x" * MAX_CONTENT + b'"')
            refused = refusal("edge-1", Message(Header(msg_id="1", timestamp=1), route, more))
            assert refused is not None
            self.assertEqual((refused.kind, refused.reason), ("podstatus", "too-large"))

    def test_kubeedge_own(self) -> None:
        """Answers, keepalives, user data, twins and task results are the hub's own affair."""
        for operation in ("response", "error", "keepalive", "upload", "UpdateNodeActionStatus"):
            self.assertIsNone(self.why(operation, "whatever/it/is/about"))
        self.assertIsNone(self.why("update", "device/d/t/twin/edge_updated", source="twin"))
        self.assertIsNone(self.why("query", "k8s/ca.crt", source="metamanager"))
