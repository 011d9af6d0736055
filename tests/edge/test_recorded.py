from __future__ import annotations

from typing import Any

import msgspec

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.viaduct import codec
from tests.edge.edgecase import EdgeCase
from tests.recordings import lines

Facts = tuple[str, str, str, str, str, Any]


def facts(message: Message, parent: str) -> Facts:
    route = message.route
    return (
        parent,
        route.source,
        route.group,
        route.operation,
        route.resource,
        message.read(),
    )


class RecordedTests(EdgeCase):
    """A Go cloud's half of a recorded session, played to our edge.

    Edged's half is taken from the recording too: what Go's edged asked, a stand-in asks.
    """

    def play(self, name: str) -> None:
        theirs_to_ours: dict[str, str] = {}
        go_acks: list[Facts] = []
        our_acks: list[Facts] = []
        go_asked: list[Facts] = []
        our_asked: list[Facts] = []
        connection = 1
        before = 0.0

        def collect() -> list[Message]:
            sent = self.cloud.channel.take()
            for each in sent:
                if each.header.parent_id:
                    our_acks.append(facts(each, each.header.parent_id))
                else:
                    our_asked.append(facts(each, ""))
            return sent

        for event in lines(name):
            self.clock.advance(event["t"] - before)
            self.settle()
            before = event["t"]
            if event.get("conn", connection) != connection:
                connection = event["conn"]
                self.cloud.channel.lose()
                self.clock.advance(1)
                self.settle()
            if "message" not in event:
                continue
            message = codec.decode(msgspec.json.encode(event["message"]))
            collect()
            if event["dir"] == "edge>cloud":
                if message.header.parent_id:
                    go_acks.append(facts(message, message.header.parent_id))
                elif message.route.source == "edged":
                    go_asked.append(facts(message, ""))
                    content = message.read()
                    self.ask(message.route.operation, message.route.resource, content)
                    for each in collect():
                        theirs_to_ours[message.header.msg_id] = each.header.msg_id
            else:
                parent = message.header.parent_id
                header = msgspec.structs.replace(
                    message.header, parent_id=theirs_to_ours.get(parent, parent)
                )
                self.receive_quietly(msgspec.structs.replace(message, header=header))
        collect()
        self.maxDiff = None
        self.assertGreater(len(go_acks), 20)
        self.assertEqual(sorted(our_acks, key=repr), sorted(go_acks, key=repr))
        self.assertEqual(our_asked, go_asked)
        self.assertEqual(len(self.outbox), 0, "everything was confirmed")
        self.assertEqual(self.hub.dropped, 0)

    def receive_quietly(self, message: Message) -> None:
        taken = self.cloud.channel.user.received(message)
        self.settle()
        self.successResultOf(taken)

    def test_normal_life(self) -> None:
        """Node, lease, pod, configmap, device: each push is acknowledged as Go's edge did."""
        self.play("session-websocket.jsonl")
        self.assertIsNone(self.stored("default/pod/web"))
        self.assertEqual(self.stored("default/configmap/app-config")["kind"], "ConfigMap")

    def test_cloud_restart(self) -> None:
        """The same across a restart of the cloud, with a bare delete and a token."""
        self.play("session-restart.jsonl")
        self.assertIsNone(self.stored("default/pod/one"))
        self.assertIsNone(self.stored("default/pod/two"))
        self.assertEqual(len(self.twin.take()) > 3, True)
