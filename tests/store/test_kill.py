from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.outbox import Outbox
from tests.fakes.database import DirectDatabase

WRITER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from kubeedge_tx.beehive.message import Header, Message
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.migrate import load_migrations
from kubeedge_tx.store.outbox import STATE, Outbox

async def one(database, store, outbox, n):
    message = Message(Header(msg_id=f"m{n}", timestamp=0))
    await database.commit(
        store.putting(f"ns/pod/p{n % 50}", "pod", b'{"n":%d}' % n),
        outbox.putting(message, key=None, priority=STATE, confirm=True),
    )
    print(n, flush=True)

async def main():
    database = Database(reactor, Path(sys.argv[1]), load_migrations("kubeedge_tx.store", "schema"))
    await database.open()
    store, outbox = MetaStore(database), Outbox(database, lambda: 0)
    for start in range(0, 1_000_000, 8):
        ones = (one(database, store, outbox, start + n) for n in range(8))
        await gatherResults([Deferred.fromCoroutine(each) for each in ones])

def failed(failure):
    failure.printTraceback()
    reactor.stop()

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addErrback(failed))
reactor.run()
"""


class KillTests(SynchronousTestCase):
    """A process that is killed in the middle of its writing."""

    def test_nothing_told_is_missing(self) -> None:
        """Whatever the process was told is safe is in the file after ``kill -9``."""
        for lines in (1, 57, 300):
            path = Path(self.mktemp()) / "edge.db"
            told = self.write_and_kill(path, lines)
            database = DirectDatabase(path)
            store, outbox = MetaStore(database), Outbox(database, lambda: 0)
            self.successResultOf(Deferred.fromCoroutine(store.load()))
            self.successResultOf(Deferred.fromCoroutine(outbox.load()))
            self.assertEqual([n for n in told if not outbox.has(f"m{n}")], [])
            for n in range(50):
                newest = max((t for t in told if t % 50 == n), default=None)
                if newest is not None:
                    row = store.get(f"ns/pod/p{n}")
                    assert row is not None
                    self.assertGreaterEqual(row.read()["n"], newest)
            database.crash()

    def write_and_kill(self, path: Path, lines: int) -> list[int]:
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path.absolute())],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],  # from a checkout that is not installed, too
        ) as process:
            assert process.stdout is not None
            told = [int(process.stdout.readline()) for _ in range(lines)]
            process.kill()
            # The last line may have been cut off; what was said before it counts.
            told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        return told
