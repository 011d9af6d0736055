from __future__ import annotations

import json
from typing import Any

from kubeedge_tx.api.resources import CLUSTEROBJECTSYNCS, OBJECTSYNCS
from kubeedge_tx.beehive.message import Message, raw
from kubeedge_tx.viaduct import codec
from tests.cloud.cloudhub.hubcase import HubCase
from tests.recordings import lines
from tests.viaduct.link import Link


class RecordedTests(HubCase):
    """A real Go edge's half of a session, against our hub and the real controllers' messages.

    What the Go cloud sent in the recording is given to our hub by the controllers it came
    from; what our hub makes of it must be what the edge saw then.
    """

    modules = ("edgecontroller", "devicecontroller", "synccontroller")

    def replay(self, name: str) -> tuple[list[Message], list[Message]]:
        """Play a recording; what the edge received, and what it did in the recording."""
        expected: list[Message] = []
        received: list[Message] = []
        link: Link | None = None
        node = ""
        began = 0.0
        for event in lines(name):
            while self.clock.seconds() - began < event["t"]:
                self.clock.advance(min(1.0, event["t"] - (self.clock.seconds() - began)))
                self.flush()
            if "http" in event:
                if event["dir"] == "edge>cloud":
                    if link is not None:
                        received += link.user.messages
                        link.channel.abort("the recording connects anew")
                        self.flush()
                    node = event["http"].split(" ")[1].split("/")[2]
                    link = self.dial(node, window="")
                continue
            assert link is not None
            message = self.message(event["message"])
            if event["dir"] == "edge>cloud":
                link.websocket.sendMessage(codec.encode(message), isBinary=False)
                self.flush()
                self.take_all()
            else:
                expected.append(message)
                self.give(node, message)
        assert link is not None
        received += link.user.messages
        return received, expected

    def message(self, theirs: Any) -> Message:
        text = theirs if isinstance(theirs, str) else json.dumps(theirs)
        return codec.decode(text.encode())

    def give(self, node: str, message: Message) -> None:
        route = message.route
        full = Message(
            message.header,
            type(route)(
                route.source, route.group, route.operation, f"node/{node}/{route.resource}"
            ),
            raw(message.read()),
        )
        self.successResultOf(self.hub.handle(full))
        self.flush()

    def take_all(self) -> None:
        for module in self.modules:
            for message in self.inbox(module):
                self.assertTrue(message.route.resource.startswith("node/"))
        self.flush()

    def check(self, name: str) -> None:
        received, expected = self.replay(name)
        first: dict[str, Message] = {}
        for message in received:
            first.setdefault(message.header.msg_id, message)
        for message in expected:
            ours = first.get(message.header.msg_id)
            assert ours is not None, message
            self.assertEqual((ours.header, ours.route), (message.header, message.route))
            self.assertEqual(ours.read(), message.read())
        self.assertEqual(set(first), {m.header.msg_id for m in expected})

    def test_session(self) -> None:
        """A day in the life of a Go edge: every message as then, and the records after it."""
        self.check("session-websocket.jsonl")
        self.assertEqual(len(self.links[0].user.messages), len(set(self.ids())), "sent twice")
        names = {obj["spec"]["objectName"] for obj in self.kube.all(OBJECTSYNCS)}
        self.assertIn("app-config", names)
        self.assertNotIn("thermo-1", names, "the record of a deleted device is left")
        self.assertNotIn("web", names, "the record of a deleted pod is left")
        (node,) = self.kube.all(CLUSTEROBJECTSYNCS)
        self.assertEqual(node["spec"]["objectKind"], "Node")

    def test_restart(self) -> None:
        """Across a restart of the cloud: what the new cloud process sent arrives as then."""
        self.check("session-restart.jsonl")

    def ids(self) -> list[str]:
        return [m.header.msg_id for m in self.links[0].user.messages]
