"""The bus: order, back-pressure, questions and answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kubeedge_tx.beehive.bus import Inbox, MessageBus
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import Header, Message, Route
from kubeedge_tx.errors import NoSuchModule, SendTimeout


def message(message_id: str, parent: str = "") -> Message:
    return Message(Header(msg_id=message_id, timestamp=0, parent_id=parent), Route(resource="r"))


def ids(messages: list[Message]) -> list[str]:
    return [m.header.msg_id for m in messages]


class InboxTests(SynchronousTestCase):
    """A bounded queue with one reader."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.inbox = Inbox(self.clock, size=2)

    def test_delivered_in_a_later_turn(self) -> None:
        """A reader that waits does not run on the sender's stack."""
        taken = self.inbox.take(9)
        self.inbox.put(message("1"))
        self.assertNoResult(taken)
        self.clock.advance(0)
        self.assertEqual(ids(self.successResultOf(taken)), ["1"])

    def test_full_inbox_makes_senders_wait(self) -> None:
        """The third message waits for the first to be taken, and keeps its place."""
        for n in "12":
            self.successResultOf(self.inbox.put(message(n)))
        third = self.inbox.put(message("3"))
        self.assertNoResult(third)
        taken = self.inbox.take(1)
        self.clock.advance(0)
        self.assertEqual(ids(self.successResultOf(taken)), ["1"])
        self.successResultOf(third)

    def test_cancelled_sender_withdraws(self) -> None:
        """Whoever stops waiting for room takes the message along."""
        self.inbox.put(message("1"))
        self.inbox.put(message("2"))
        third = self.inbox.put(message("3"))
        third.cancel()
        self.failureResultOf(third, CancelledError)
        taken = self.inbox.take(9)
        self.clock.advance(0)
        self.assertEqual(ids(self.successResultOf(taken)), ["1", "2"])

    def test_cancelled_reader_loses_nothing(self) -> None:
        """A message that arrived while the reader was leaving is there for the next one."""
        taken = self.inbox.take(9)
        self.inbox.put(message("1"))
        taken.cancel()
        self.failureResultOf(taken, CancelledError)
        self.clock.advance(0)
        again = self.inbox.take(9)
        self.clock.advance(0)
        self.assertEqual(ids(self.successResultOf(again)), ["1"])

    @given(st.lists(st.integers(0, 4), max_size=40))
    def test_nothing_lost_nothing_reordered(self, steps: list[int]) -> None:
        """However puts and takes interleave, what went in comes out in order."""
        clock = Clock()
        inbox = Inbox(clock, size=3)
        put, got = 0, []
        for step in steps:
            if step:
                for _ in range(step):
                    inbox.put(message(str(put)))
                    put += 1
            elif len(inbox):
                taken = inbox.take(2)
                clock.advance(0)
                got += ids(self.successResultOf(taken))
        while len(inbox):
            taken = inbox.take(2)
            clock.advance(0)
            got += ids(self.successResultOf(taken))
        self.assertEqual(got, [str(n) for n in range(put)])


class BusTests(SynchronousTestCase):
    """Delivery by name and by group; answers by parent."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.bus = MessageBus(self.clock)

    def test_interface(self) -> None:
        """The bus is what it says."""
        verifyObject(IMessageBus, self.bus)

    def test_unknown_module(self) -> None:
        """A wrong name is raised at the call: it is a mistake in our code."""
        with self.assertRaises(NoSuchModule):
            self.bus.send("nobody", message("1"))
        self.assertFalse(self.bus.has("nobody"))

    def test_group_reaches_all_members(self) -> None:
        """Every module of a group gets the message; other groups do not."""
        inboxes = [self.bus.register(n, "g") for n in ("a", "b")]
        other = self.bus.register("c", "h")
        self.successResultOf(self.bus.send_to_group("g", message("1")))
        self.assertEqual([len(i) for i in [*inboxes, other]], [1, 1, 0])
        self.assertEqual(self.bus.depths(), {"a": 1, "b": 1, "c": 0})

    def test_answer_finds_the_one_who_asked(self) -> None:
        """The response with the question's id as parent ends the wait."""
        inbox = self.bus.register("websocket", "hub")
        answer = self.bus.send_sync("websocket", message("q1"), timeout=60.0)
        taken = inbox.take(1)
        self.clock.advance(0)
        self.assertTrue(self.successResultOf(taken)[0].header.sync)
        self.assertTrue(self.bus.respond(message("r1", parent="q1")))
        self.assertEqual(self.successResultOf(answer).header.msg_id, "r1")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answer_too_late(self) -> None:
        """At the deadline the caller gets SendTimeout and a late response finds nobody."""
        self.bus.register("websocket", "hub")
        answer = self.bus.send_sync("websocket", message("q1"), timeout=60.0)
        self.clock.advance(59.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        self.assertEqual(self.failureResultOf(answer, SendTimeout).value.seconds, 60.0)
        self.assertFalse(self.bus.respond(message("r1", parent="q1")))
        self.assertEqual(self.bus.late_responses, 1)

    def test_question_may_be_given_up(self) -> None:
        """Cancelling leaves no timer and no open question behind."""
        self.bus.register("websocket", "hub")
        answer = self.bus.send_sync("websocket", message("q1"), timeout=60.0)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.bus.respond(message("r1", parent="q1")))

    def test_repr_keeps_the_secret(self) -> None:
        """A message in a log line never shows its content."""
        secret = Message(Header(msg_id="1", timestamp=0), content=b'"hunter2"')  # type: ignore[arg-type]
        self.assertNotIn("hunter2", repr(secret))
