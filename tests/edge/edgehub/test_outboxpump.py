from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.edge.edgehub.outboxpump import Pump
from kubeedge_tx.observe.throttle import TokenBucket
from kubeedge_tx.store.outbox import STATE, Outbox
from tests.edge.edgecase import push
from tests.fakes.channel import FakeChannel
from tests.fakes.database import DirectDatabase


class PumpTests(SynchronousTestCase):
    """Sending from a disk that takes its time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.database = DirectDatabase(Path(self.mktemp()) / "edge.db")
        self.outbox = Outbox(self.database, lambda: 0)
        self.channel = FakeChannel(None)
        bucket = TokenBucket(rate=30, burst=60, now=0.0)
        self.pump = Pump(self.clock, self.channel, self.outbox, bucket, Random(1))  # type: ignore[arg-type]
        self.outbox.on_change(self.pump.wake)

    def put(self, message_id: str) -> Deferred[None]:
        message: Message = push("patch", "default/podpatch/web", {}, message_id=message_id)
        return self.outbox.put(message, key="web", priority=STATE, confirm=True)

    def test_replaced_while_reading(self) -> None:
        """A message that a newer one replaces while it is read leaves the newer one to be sent."""
        self.successResultOf(self.put("old"))
        self.database.held = True
        newer = self.put("new")  # its commit is first in line
        running = Deferred.fromCoroutine(self.pump.run())
        self.database.run()
        self.successResultOf(newer)
        while self.database.waiting:
            self.database.run()
        self.assertNoResult(running)
        self.assertEqual([each.header.msg_id for each in self.channel.sent], ["new"])
        running.addErrback(lambda failure: None)
        running.cancel()
        self.database.crash()
