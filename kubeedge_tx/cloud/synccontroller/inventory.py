"""What edges say they have, against what they have confirmed: for edges that lost their store."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kubeedge_tx.api import meta
from kubeedge_tx.api.holdings import Confirmation, Digest, Holding, fingerprint
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.route import CLUSTER
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.beehive.workers import KeyedWorkers
from kubeedge_tx.cloud.synccontroller.objects import Objects
from kubeedge_tx.cloud.synccontroller.records import Key, Records

ASKS: Final = 3
ASK_AGAIN: Final = 30.0
"""How often a node is asked what it has, and seconds between."""


class Inventory:
    """Compare digests of edges of ours; KubeEdge's send none.

    :param workers: where objects are worked on, one after the other for each record.

    ``lost`` counts the objects that edges had confirmed and had no more.
    """

    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        clock: IReactorTime,
        *,
        records: Records,
        objects: Objects,
        workers: KeyedWorkers,
        tasks: TaskSet,
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._clock = clock
        self._records = records
        self._objects = objects
        self._workers = workers
        self._tasks = tasks
        self._talkative: set[str] = set()
        """Connected nodes that say what they have."""
        self._asked: set[str] = set()
        """Those of them that were asked for all of it, and have not answered."""
        self._expected: dict[str, object] = {}
        """Connected nodes that will say what they have, and a mark of their session."""
        self.lost = 0

    def connected(self, node: str) -> None:
        """Expect a node of ours, whose session has begun, to say what it has."""
        self.forget(node)
        mark = self._expected[node] = object()
        self._tasks.spawn(f"first word of {node}", self._expect(node, mark))

    def forget(self, node: str) -> None:
        """Expect nothing: its session is over, or it is an edge of Go."""
        self._talkative.discard(node)
        self._asked.discard(node)
        self._expected.pop(node, None)

    async def said(self, node: str, message: Message) -> None:
        """Take a digest: short, when an edge connects, and in full, when it was asked."""
        try:
            digest = msgspec.json.decode(message.content, type=Digest)
        except (msgspec.DecodeError, RecursionError):
            self._log.warn("{node} sent a digest that is none", node=node)
            return
        self._talkative.add(node)
        self._expected.pop(node, None)
        records = self._records.confirmed(node)
        if digest.holdings is None:
            ours = ((each.namespace, each.uid, each.version or "") for each in records.values())
            if fingerprint(ours) != digest.fingerprint:
                self._ask(node)
            return
        self._asked.discard(node)
        has = {each.uid: each for each in digest.holdings}
        for key, confirmed in records.items():
            found = has.get(key.uid)
            if found is None or meta.is_newer(confirmed.version or "", found.version):
                await self._workers.submit(
                    key, partial(self._restore, key, confirmed), f"restoring {key.name}"
                )
            elif self._is_behind(key, confirmed, found.version):
                self._records.catch_up(key, found.version)
        known = {key.uid for key in records}
        for each in digest.holdings:
            if each.uid not in known:
                await self._workers.submit(
                    (node, each.uid), partial(self._doubt, node, each), f"doubting {each.resource}"
                )

    def ask_all(self) -> None:
        """Ask every node that tells."""
        for node in tuple(self._talkative):
            self._ask(node)

    def _ask(self, node: str) -> None:
        """Ask a node for all that it has; nobody acknowledges a question, so more than once."""
        if node not in self._asked:
            self._asked.add(node)
            self._tasks.spawn(f"what {node} has", self._ask_until_told(node))

    async def _expect(self, node: str, mark: object) -> None:
        """Ask a node that does not say by itself what it has: nobody acknowledges that, either."""
        await deferLater(self._clock, ASK_AGAIN)
        if self._expected.get(node) is mark:
            del self._expected[node]
            self._ask(node)

    async def _ask_until_told(self, node: str) -> None:
        for _ in range(ASKS):
            await self._bus.send(
                names.CLOUDHUB,
                self._messages.new(
                    source=names.SYNCCONTROLLER,
                    group=names.GROUP_RESOURCE,
                    operation=names.DIGEST,
                    resource=f"node/{node}/{names.DIGEST_RESOURCE}",
                    content=None,
                ),
            )
            await deferLater(self._clock, ASK_AGAIN)
            if node not in self._asked:
                return
        self._asked.discard(node)

    def _is_behind(self, key: Key, confirmed: Confirmation, version: str) -> bool:
        """Tell whether a record is older than what the node has, in truth.

        A cloud that was killed has not written it. Of a version that differs by its status alone
        nobody would write it later, and the node would send all that it has on every connection.
        """
        informer = self._objects.informer(confirmed.kind)
        obj = None if informer is None else informer.get(key.namespace, confirmed.name)
        return (
            obj is not None
            and meta.uid(obj) == key.uid
            and meta.is_newer(version, confirmed.version or "")
            and not meta.is_newer(version, meta.resource_version(obj))
        )

    async def _restore(self, key: Key, confirmed: Confirmation) -> None:
        """Send an object again that the node had confirmed and has lost."""
        self.lost += 1
        self._records.take_back(key)
        seen = await self._objects.look(key, confirmed.kind, confirmed.name)
        if seen is not None and seen.obj is not None:
            await self._objects.repair(seen)

    async def _doubt(self, node: str, holding: Holding) -> None:
        """Look at an object that the node has and nobody knows to be confirmed.

        It is sent again in any case: with its acknowledgement it has a record, and by that its
        delete will find the node.
        """
        namespace, _, rest = holding.resource.partition("/")
        kind, _, name = rest.partition("/")
        if "/" in name:
            return
        key = Key("" if namespace == CLUSTER else namespace, f"{node}.{holding.uid}")
        seen = await self._objects.look(key, kind, name)
        if seen is None:
            return
        if seen.obj is None:
            await self._objects.remove(seen)
        else:
            await self._objects.repair(seen)
