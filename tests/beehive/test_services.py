"""Services, tasks and workers: who waits for whom."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import Header, Message, MessageFactory, Route
from kubeedge_tx.beehive.service import ModuleService, OrderedService
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.beehive.workers import KeyedWorkers


class Child:
    """A service that starts and stops when told to."""

    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self.journal = journal
        self.starting: Deferred[None] = succeed(None)
        self.stopping: Deferred[None] = succeed(None)

    def startService(self) -> Deferred[None]:
        self.journal.append(f"start {self.name}")
        return self.starting

    def stopService(self) -> Deferred[None]:
        self.journal.append(f"stop {self.name}")
        return self.stopping


class OrderedServiceTests(SynchronousTestCase):
    """Children start in order and stop in reverse."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.journal: list[str] = []
        self.a, self.b = Child("a", self.journal), Child("b", self.journal)
        self.service = OrderedService(self.clock, [self.a, self.b], stop_timeout=10.0)

    def test_one_after_another(self) -> None:
        """b starts only when a runs; a stops only when b has stopped."""
        self.a.starting, self.b.stopping = Deferred(), Deferred()
        started = self.service.startService()
        self.assertEqual(self.journal, ["start a"])
        self.a.starting.callback(None)
        self.successResultOf(started)
        stopped = self.service.stopService()
        self.assertEqual(self.journal, ["start a", "start b", "stop b"])
        self.b.stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.journal[-1], "stop a")

    def test_failed_start_unwinds(self) -> None:
        """When one child fails, those before it are stopped and the failure is the result."""
        self.b.starting = fail(OSError("port in use"))
        started = self.service.startService()
        self.failureResultOf(started, OSError)
        self.assertEqual(self.journal, ["start a", "start b", "stop b", "stop a"])

    def test_one_that_hangs(self) -> None:
        """A child that does not stop holds the others up for its timeout only."""
        self.successResultOf(self.service.startService())
        self.b.stopping = Deferred()
        stopped = self.service.stopService()
        self.clock.advance(9.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.journal[-1], "stop a")
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_stopped_while_starting(self) -> None:
        """A stop in the middle of the start ends the start and stops what ran."""
        self.b.starting = Deferred()
        started = self.service.startService()
        self.successResultOf(self.service.stopService())
        self.failureResultOf(started, CancelledError)
        self.assertEqual(self.journal, ["start a", "start b", "stop b", "stop a"])

    def test_stopped_while_unwinding(self) -> None:
        """A stop during the unwinding of a start waits for it and cuts nothing short."""
        self.a.stopping, self.b.starting = Deferred(), Deferred()
        started = self.service.startService()
        started.addErrback(lambda failure: failure.trap(CancelledError))
        started.cancel()
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.a.stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.journal, ["start a", "start b", "stop b", "stop a"])


class Recorder:
    """A module that writes down what it was given."""

    name, group = "recorder", "g"

    def __init__(self) -> None:
        self.got: list[str] = []
        self.busy: Deferred[None] = succeed(None)
        self.hooks: list[str] = []

    async def started(self) -> None:
        self.hooks.append("started")

    async def stopped(self) -> None:
        self.hooks.append("stopped")

    async def handle(self, message: Message) -> None:
        if message.route.operation == "break":
            raise ValueError("bad message")
        await self.busy
        self.got.append(message.header.msg_id)


def message(message_id: str, operation: str = "") -> Message:
    return Message(Header(msg_id=message_id, timestamp=0), Route(operation=operation))


class ModuleServiceTests(SynchronousTestCase):
    """A module fed from its inbox."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.bus = MessageBus(self.clock)
        self.module = Recorder()
        self.service = ModuleService(self.module, self.bus, MessageFactory(lambda: 0))  # type: ignore[arg-type]

    def test_in_order_until_stopped(self) -> None:
        """Messages are handled one at a time, and none after the stop."""
        self.successResultOf(self.service.startService())
        for n in "123":
            self.bus.send("recorder", message(n))
        self.clock.advance(0)
        self.assertEqual(self.module.got, ["1", "2", "3"])
        self.successResultOf(self.service.stopService())
        self.bus.send("recorder", message("4"))
        self.clock.advance(0)
        self.assertEqual(self.module.got, ["1", "2", "3"])
        self.assertEqual(self.module.hooks, ["started", "stopped"])

    def test_bad_message_does_not_end_the_module(self) -> None:
        """A failure is logged and counted; the next message is handled."""
        self.successResultOf(self.service.startService())
        self.bus.send("recorder", message("1", "break"))
        self.bus.send("recorder", message("2"))
        self.clock.advance(0)
        self.assertEqual(self.module.got, ["2"])
        self.assertEqual(self.service.failures, 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_question_that_fails_is_answered(self) -> None:
        """Whoever asked synchronously gets an error, not a timeout."""
        self.successResultOf(self.service.startService())
        answer = self.bus.send_sync("recorder", message("1", "break"), 60.0)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(answer).route.operation, "error")
        self.flushLoggedErrors(ValueError)

    def test_stop_lets_the_message_in_hand_finish(self) -> None:
        """What is inside is finished and written before the service has stopped."""
        self.successResultOf(self.service.startService())
        self.module.busy = Deferred()
        self.bus.send("recorder", message("1"))
        self.clock.advance(0)
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.module.busy.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.module.got, ["1"])


class TaskSetTests(SynchronousTestCase):
    """Coroutines that end with their owner."""

    def test_failure_is_reported(self) -> None:
        """A task that fails says so in the log; nothing is dropped on the floor."""

        async def broken() -> None:
            raise ValueError("x")

        tasks = TaskSet()
        tasks.spawn("something", broken())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(tasks), 0)

    def test_cancel_waits(self) -> None:
        """cancel_all fires when the last task has cleaned up."""
        cleanup: Deferred[None] = Deferred()

        async def slow() -> None:
            try:
                await Deferred()
            finally:
                await cleanup

        tasks = TaskSet()
        tasks.spawn("slow", slow())
        ended = Deferred.fromCoroutine(tasks.cancel_all())
        self.assertNoResult(ended)
        cleanup.callback(None)
        self.successResultOf(ended)


class KeyedWorkersTests(SynchronousTestCase):
    """Serial for each key, parallel across keys."""

    def setUp(self) -> None:
        self.journal: list[str] = []
        self.gates: dict[str, Deferred[None]] = {}

    def job(self, name: str) -> Any:
        async def run() -> None:
            self.journal.append(f"+{name}")
            await self.gates.setdefault(name, Deferred())
            self.journal.append(f"-{name}")

        return run

    def test_serial_for_a_key(self) -> None:
        """The second job of a key waits for the first; another key's does not."""
        workers = KeyedWorkers(limit=2)
        workers.submit("x", self.job("x1"))
        workers.submit("x", self.job("x2"))
        workers.submit("y", self.job("y1"))
        self.assertEqual(self.journal, ["+x1", "+y1"])
        self.gates["x1"].callback(None)
        self.assertEqual(self.journal, ["+x1", "+y1", "-x1", "+x2"])

    def test_no_more_than_the_limit(self) -> None:
        """A third key waits for one of two workers."""
        workers = KeyedWorkers(limit=2)
        for key in "abc":
            workers.submit(key, self.job(key))
        self.assertEqual(self.journal, ["+a", "+b"])
        idle = workers.when_idle()
        for key in "abc":
            self.gates[key].callback(None)
        self.assertEqual(self.journal[-2:], ["-b", "-c"][-2:])
        self.successResultOf(idle)

    def test_backlog_makes_the_submitter_wait(self) -> None:
        """Beyond the backlog submit waits until a job has begun."""
        workers = KeyedWorkers(limit=1, backlog=1)
        self.successResultOf(workers.submit("a", self.job("a")))
        self.successResultOf(workers.submit("b", self.job("b")))
        third = workers.submit("c", self.job("c"))
        self.assertNoResult(third)
        self.gates["a"].callback(None)
        self.successResultOf(third)
