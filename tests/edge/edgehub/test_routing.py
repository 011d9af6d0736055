from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edgehub.routing import Destination, destination
from tests.edge.edgecase import push


class RoutingTests(SynchronousTestCase):
    """Group, parent id and source decide; nothing else does."""

    def check(self, expected: Destination | None, group: str, source: str, parent: str) -> None:
        message = push("update", "default/pod/web", group=group, source=source, parent=parent)
        self.assertEqual(destination(message), expected, (group, source, parent))

    def test_objects(self) -> None:
        """Objects are MetaManager's; an answer is first its asker's."""
        for group in ("resource", "func"):
            self.check(Destination(False, "metamanager"), group, "edgecontroller", "")
            self.check(Destination(True, "metamanager"), group, "edgecontroller", "q")

    def test_twin(self) -> None:
        """The twin module takes its confirmations itself."""
        self.check(Destination(False, "twin"), "twin", "devicecontroller", "")
        self.check(Destination(False, "twin"), "twin", "devicecontroller", "q")

    def test_user(self) -> None:
        """User data goes by source, answers to whoever waits, and strangers nowhere."""
        self.check(Destination(False, "eventbus"), "user", "router_eventbus", "")
        self.check(Destination(False, "servicebus"), "user", "router_servicebus", "")
        self.check(Destination(True, ""), "user", "router_eventbus", "q")
        self.check(None, "user", "stranger", "")

    def test_others(self) -> None:
        """Tasks have their module; an unknown group is nobody's."""
        self.check(Destination(False, "taskmanager"), "taskmanager", "taskmanager", "")
        for group in ("", "meta", "hub", "RESOURCE", "resource/"):
            self.check(None, group, "edgecontroller", "")
            self.check(None, group, "edgecontroller", "q")
