"""Questions of a real Go edgecore, and the answers a real Go cloudcore gave to them."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kubeedge_tx.api.resources import CONFIGMAPS, LEASES, NODES, PODS, SERVICEACCOUNTS
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.beehive.route import with_node
from tests.cloud.edgecontroller.rig import EdgeControllerCase
from tests.cloud.rig import read
from tests.recordings import lines


def recorded(name: str) -> list[tuple[str, Message]]:
    """Read a session: direction and message."""
    return [
        (event["dir"], msgspec.convert(_raw(event["message"]), Message))
        for event in lines(name)
        if "message" in event
    ]


def _raw(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": msgspec.Raw(json.dumps(message["content"]).encode())}


class ReplayTests(EdgeControllerCase):
    """Each question of a session is asked anew; the answer must have the recorded shape."""

    def shape(self, message: Message, node: str) -> Any:
        """What an edge sees of an answer, but for the values that differ from run to run."""
        content = read(message)
        error = None
        if isinstance(content, dict) and set(content) == {"Object", "Err"}:
            error = content["Err"] and content["Err"]["ErrStatus"]
            content = "an object" if content["Object"] else None
        elif isinstance(content, dict):
            content = (content["kind"], content["apiVersion"], set(content))
        route = message.route
        return (
            message.header.parent_id,
            bool(message.header.resource_version),
            (route.source, route.group, route.operation),
            route.resource.removeprefix(f"node/{node}/"),
            content,
            error and (set(error) | {"details"}, error["reason"], error["code"], error["status"]),
        )

    def prepare(self, messages: list[tuple[str, Message]]) -> None:
        """Put into the cluster what the cloud of the recording had."""
        for direction, message in messages:
            content = read(message) if direction == "cloud>edge" else None
            kind = message.route.resource.split("/")[1:2]
            if not isinstance(content, dict):
                continue
            if kind == ["configmap"]:
                self.kube.put(CONFIGMAPS, content)
            elif kind == ["pod"] and message.route.operation == "insert":
                self.kube.put(PODS, content)
            elif kind == ["serviceaccounttoken"]:
                about = {"namespace": "default", "name": content["metadata"]["name"]}
                self.kube.put(SERVICEACCOUNTS, {"metadata": about})

    def updated(self, message: Message, node: str) -> Message:
        """Let a renewal of the lease build on the version that our cluster has."""
        if message.route.operation != "update" or "/lease/" not in message.route.resource:
            return message
        body = read(message)
        live = self.kube.peek(LEASES, "kube-node-lease", node)
        assert live is not None
        for field in ("resourceVersion", "uid"):
            body["metadata"][field] = live["metadata"][field]
        return msgspec.structs.replace(message, content=msgspec.Raw(json.dumps(body).encode()))

    def replay(self, name: str, node: str) -> None:
        messages = recorded(name)
        answers = {m.header.parent_id: m for where, m in messages if where == "cloud>edge"}
        self.prepare(messages)
        asked = 0
        for direction, message in messages:
            if direction != "edge>cloud" or message.route.source != "edged":
                continue
            expected = answers[message.header.msg_id]
            question = self.updated(message, node)
            route = question.route
            sent = self.say(
                msgspec.structs.replace(
                    question,
                    route=msgspec.structs.replace(route, resource=with_node(node, route.resource)),
                )
            )
            (answer,) = [m for m in sent if m.header.parent_id]
            self.assertEqual(self.shape(answer, node), self.shape(expected, node), route.resource)
            asked += 1
        self.assertGreater(asked, 15)
        self.assertIsNotNone(self.kube.peek(NODES, "", node))

    def test_the_long_session(self) -> None:
        """Join, lease, pod with configmap, status, graceful end."""
        self.replay("session-websocket.jsonl", "go-edge-2")

    def test_the_session_with_a_restart(self) -> None:
        """Two pods, a service account's token, and what is asked after the cloud is back."""
        self.replay("session-restart.jsonl", "go-b")
