"""What goes over a channel is counted by what it is."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.message import Route
from kubeedge_tx.viaduct import codec
from kubeedge_tx.viaduct.traffic import CLASSES, Traffic, class_of
from tests.recordings import lines


class ClassTests(SynchronousTestCase):
    def test_each(self) -> None:
        """Control, status, events, objects, devices and bulk are told apart."""
        for expected, route in (
            ("keepalive", Route("websocket", "resource", "keepalive", "node")),
            ("response", Route("edged", "resource", "response", "default/pod/web")),
            ("response", Route("metamanager", "resource", "error", "default/secret/s")),
            ("question", Route("edged", "meta", "query", "default/secret/s")),
            ("lease", Route("edged", "meta", "insert", "kube-node-lease/lease/edge-1")),
            ("status", Route("edged", "meta", "patch", "default/podpatch/web")),
            ("status", Route("edged", "meta", "update", "default/nodestatus/edge-1")),
            ("event", Route("edged", "meta", "insert", "default/event/web.1")),
            ("object", Route("edgecontroller", "resource", "update", "default/configmap/c")),
            ("object", Route("edgecontroller", "resource", "delete", "default/pod/web")),
            ("device", Route("devicecontroller", "resource", "insert", "default/device/d")),
            ("device", Route("twin", "resource", "update", "device/default/d/twin/edge_updated")),
            ("upload", Route("eventbus", "user", "upload", "SYS/dis/upload_records")),
            ("upload", Route("router", "user", "publish", "bXkvdG9waWM=")),
            ("control", Route("edgehub", "resource", "digest", "digest")),
            ("object", Route()),
        ):
            self.assertEqual(class_of(route), expected, route)

    def test_recorded(self) -> None:
        """In a session of KubeEdge's own programs each message has a class, and bytes add up."""
        traffic, total = Traffic(), 0
        for event in lines("session-websocket.jsonl"):
            if "message" not in event:
                continue
            frame = json.dumps(event["message"]).encode()
            message = codec.decode(frame)
            traffic.count_received(message.route, len(frame))
            total += len(frame)
        self.assertEqual(sum(tally.bytes for tally in traffic.received.values()), total)
        self.assertEqual(set(traffic.received), set(CLASSES))
        for name in ("response", "question", "lease", "keepalive", "status", "object", "device"):
            self.assertGreater(traffic.received[name].messages, 0, name)
