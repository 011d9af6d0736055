from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kubeedge_tx.api.resources import PODS, ResourceType
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.informer import Informer, Informers
from kubeedge_tx.kube.interfaces import IInformer, IListener


class Script:
    """A source whose answers the test gives, one by one."""

    def __init__(self) -> None:
        self.lists: list[tuple[str, Deferred[dict[str, Any]]]] = []
        self.watches: list[str] = []
        self.feed: Callable[[list[bytes]], Deferred[None]] | None = None
        self.ended: Deferred[None] = Deferred()

    def list_page(
        self, kind: ResourceType, *, limit: int, continue_: str = "", label_selector: str = ""
    ) -> Deferred[dict[str, Any]]:
        answer: Deferred[dict[str, Any]] = Deferred()
        self.lists.append((label_selector, answer))
        return answer

    def watch(
        self,
        kind: ResourceType,
        feed: Callable[[list[bytes]], Deferred[None]],
        *,
        resource_version: str,
        timeout_seconds: int,
        label_selector: str = "",
    ) -> tuple[Deferred[None], Callable[[], None]]:
        self.watches.append(resource_version)
        self.feed = feed
        self.ended = ended = Deferred[None]()

        def end() -> None:
            if not ended.called:
                ended.callback(None)

        return ended, end

    def page(self, *items: dict[str, Any], version: str = "10") -> None:
        self.lists.pop(0)[1].callback(
            {"metadata": {"resourceVersion": version}, "items": list(items)}
        )

    def event(self, what: str, obj: dict[str, Any]) -> Deferred[None]:
        assert self.feed is not None
        return self.feed([json.dumps({"type": what, "object": obj}).encode()])


@implementer(IListener)
class Notes:
    """Writes down what it hears; ``answer`` is what it gives back."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answer: Deferred[None] | None = None

    def added(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self.note("added", obj)

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> Deferred[None] | None:
        return self.note(f"modified {old['metadata']['resourceVersion']}", new)

    def deleted(self, obj: dict[str, Any]) -> Deferred[None] | None:
        return self.note("deleted", obj)

    def note(self, what: str, obj: dict[str, Any]) -> Deferred[None] | None:
        about = obj["metadata"]
        self.heard.append(f"{what} {about['name']} {about['resourceVersion']}")
        return self.answer


def pod(name: str, version: str, uid: str = "u", **rest: Any) -> dict[str, Any]:
    about = {"namespace": "default", "name": name, "resourceVersion": version, "uid": uid}
    return {"metadata": {**about, **rest}, "spec": {}}


class InformerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Script()
        self.notes = Notes()
        self.informer = Informer(
            self.source, PODS, clock=self.clock, random=lambda: 0.0, label_selector="a=b"
        )

    def start(self, *items: dict[str, Any]) -> None:
        self.informer.startService()
        self.addCleanup(self.informer.stopService)
        self.informer.add_listener(self.notes)
        self.source.page(*items)
        self.clock.advance(0)

    def test_is_an_informer(self) -> None:
        """It promises what the interface says."""
        verifyObject(IInformer, self.informer)
        verifyObject(IListener, self.notes)

    def test_lists_then_watches(self) -> None:
        """What is there is told first, then what comes, and can be looked up."""
        self.start(pod("a", "3"))
        self.assertEqual(self.source.watches, ["10"])
        self.successResultOf(self.source.event("ADDED", pod("b", "11")))
        self.successResultOf(self.source.event("MODIFIED", pod("a", "12")))
        self.successResultOf(self.source.event("DELETED", pod("b", "13")))
        self.assertEqual(
            self.notes.heard, ["added a 3", "added b 11", "modified 3 a 12", "deleted b 13"]
        )
        self.assertIsNone(self.informer.get("default", "b"))
        found = self.informer.get("default", "a")
        assert found is not None
        self.assertEqual((found["kind"], found["apiVersion"]), ("Pod", "v1"))

    def test_the_selector_reaches_the_server(self) -> None:
        """Only what was asked for is fetched."""
        self.informer.startService()
        self.assertEqual(self.source.lists[0][0], "a=b")
        self.successResultOf(self.informer.stopService())

    def test_managed_fields_are_not_kept(self) -> None:
        """Half of an object's size serves nobody here."""
        self.start(pod("a", "3", managedFields=[{"manager": "kubectl"}]))
        self.assertNotIn("managedFields", next(iter(self.informer.items()))["metadata"])

    def test_a_server_that_is_away_is_waited_for(self) -> None:
        """Until the first list is in, `when_synced` waits; then it fires."""
        self.informer.startService()
        self.addCleanup(self.informer.stopService)
        synced = self.informer.when_synced()
        self.source.lists.pop(0)[1].errback(KubeError("refused", code=0))
        self.assertEqual(self.source.lists, [])
        self.clock.advance(0.5)
        self.assertNoResult(synced)
        self.source.page()
        self.successResultOf(synced)
        self.successResultOf(self.informer.when_synced())

    def test_the_same_trouble_is_logged_once_a_minute(self) -> None:
        """A server that is away does not fill the log; what is new about it is said at once."""

        def fail(code: int, times: int) -> None:
            for _ in range(times):
                while not self.source.lists:
                    self.clock.advance(0.5)
                self.source.lists.pop(0)[1].errback(KubeError(f"trouble {code}", code=code))

        self.informer.startService()
        self.addCleanup(self.informer.stopService)
        with capturedLogs() as events:
            fail(0, 10)
            fail(403, 2)
            fail(0, 1)
            self.clock.advance(60)
            fail(0, 1)
        said = [each["error"].code for each in events if "error" in each]
        self.assertEqual(said, [0, 403, 0, 0])

    def test_a_lost_watch_is_resumed(self) -> None:
        """After a broken connection the watch goes on from the last version seen."""
        self.start(pod("a", "3"))
        self.source.event("MODIFIED", pod("a", "12"))
        self.source.ended.errback(KubeError("connection reset", code=0))
        self.clock.advance(0.5)
        self.assertEqual(self.source.watches, ["10", "12"])

    def test_a_relist_tells_the_differences(self) -> None:
        """What changed while nobody watched is told as if it had been seen."""
        self.start(pod("a", "3"), pod("b", "4"), pod("c", "5"))
        self.source.ended.errback(KubeError("gone", code=410))
        self.notes.heard.clear()
        self.source.page(pod("a", "3"), pod("b", "14"), pod("d", "15"), version="20")
        self.clock.advance(0)
        self.assertEqual(self.notes.heard, ["deleted c 5", "modified 4 b 14", "added d 15"])
        self.assertEqual(self.source.watches[-1], "20")

    def test_another_uid_is_another_object(self) -> None:
        """Deleted and made anew between two looks: both is told."""
        self.start(pod("a", "3", uid="old"))
        self.source.event("MODIFIED", pod("a", "12", uid="new"))
        self.assertEqual(self.notes.heard, ["added a 3", "deleted a 3", "added a 12"])

    def test_an_error_event_ends_the_watch(self) -> None:
        """A version too old, told in the middle of a watch, leads to a new list."""
        self.start(pod("a", "3"))
        assert self.source.feed is not None
        self.source.feed([b'{"type": "ERROR", "object": {"code": 410}}', b"not even JSON"])
        self.assertEqual(len(self.source.lists), 1)

    def test_a_busy_listener_makes_the_watch_wait(self) -> None:
        """The next event is not taken before a listener is done with this one."""
        self.start()
        self.notes.answer = answer = Deferred[None]()
        first = self.source.event("ADDED", pod("a", "11"))
        self.assertNoResult(first)
        self.notes.answer = None
        answer.callback(None)
        self.successResultOf(first)

    def test_a_failing_listener_does_not_end_the_watch(self) -> None:
        """Its mistake is logged, the others hear the event."""

        class Broken(Notes):
            def note(self, what: str, obj: dict[str, Any]) -> Deferred[None] | None:
                raise ValueError(what)

        self.informer.add_listener(Broken())
        self.start(pod("a", "3"))
        self.assertEqual(self.notes.heard, ["added a 3"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_who_comes_late_hears_everything_in_order(self) -> None:
        """A listener added later is told what is there before it is told what changes."""
        self.start(pod("a", "3"))
        late = Notes()
        late.answer = answer = Deferred[None]()
        self.informer.add_listener(late)
        event = self.source.event("MODIFIED", pod("a", "12"))
        self.assertEqual(late.heard, ["added a 3"])
        late.answer = None
        answer.callback(None)
        self.successResultOf(event)
        self.assertEqual(late.heard, ["added a 3", "modified 3 a 12"])

    def test_stop_ends_the_watch_and_frees_its_thread(self) -> None:
        """Whoever is waiting, a listener or a thread, is let go."""
        self.start()
        self.notes.answer = Deferred()
        fed = self.source.event("ADDED", pod("a", "11"))
        self.successResultOf(self.informer.stopService())
        self.failureResultOf(fed)
        self.assertTrue(self.source.ended.called)
        self.assertEqual(len(self.source.watches), 1)

    def test_several_are_started_together(self) -> None:
        """The start is over when every first list is in."""
        other = Informer(self.source, PODS, clock=self.clock, random=lambda: 0.0)
        both = Informers([self.informer, other])
        started = both.startService()
        self.source.page()
        self.assertNoResult(started)
        self.source.page()
        self.clock.advance(0)
        self.successResultOf(started)
        self.successResultOf(both.stopService())
