"""EdgeController: nodes, pods and what they need, between the cluster and the edges."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.downstream import Downstream, Pusher
from kubeedge_tx.cloud.edgecontroller.events import EventReports
from kubeedge_tx.cloud.edgecontroller.nodes import NodeReports
from kubeedge_tx.cloud.edgecontroller.pods import PodReports
from kubeedge_tx.cloud.edgecontroller.queries import Queries
from kubeedge_tx.cloud.edgecontroller.upstream import WORKERS, Upstream
from kubeedge_tx.errors import RouteError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient
from kubeedge_tx.observe.denials import Denials


@implementer(IModule)
class EdgeController:
    """The module.

    :param nodes: informer of nodes with the edge role's label only.
    :param pods: informer of all pods; likewise ``configmaps`` and ``secrets``.
    :param claims: which nodes are connected to this process, and to no other.
    :param now_ms: wall clock in milliseconds.
    :param denials: where it is written down what nodes may not have.
    :param impersonate: call the API server in the name of the node that asks.
    :param heartbeat: seconds; a node's conditions with an older heartbeat get the present time.
    :param workers: requests of edges under way at once.
    """

    _log = Logger()
    name = names.EDGECONTROLLER
    group = names.EDGECONTROLLER

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        client: IKubeClient,
        *,
        nodes: IInformer,
        pods: IInformer,
        configmaps: IInformer,
        secrets: IInformer,
        claims: Claims,
        now_ms: Callable[[], int],
        denials: Denials,
        impersonate: bool = False,
        heartbeat: float = 10.0,
        workers: int = WORKERS,
    ) -> None:
        pusher = Pusher(bus, messages)
        self._informers = (nodes, pods, configmaps, secrets)
        self._nodes = nodes
        self._tasks = TaskSet()
        self.downstream = Downstream(
            pusher, nodes=nodes, pods=pods, configmaps=configmaps, secrets=secrets
        )
        self._reports = NodeReports(
            client,
            pusher,
            claims=claims,
            now_ms=now_ms,
            heartbeat=heartbeat,
        )
        self._upstream = Upstream(
            bus,
            messages,
            nodes=self._reports,
            pods=PodReports(
                client,
                pusher,
                claims=claims,
                pods=pods,
                count=lambda node: len(self.downstream.locations.pods(node)),
                now_ms=now_ms,
            ),
            queries=Queries(
                client,
                self.downstream.locations,
                pods=pods,
                configmaps=configmaps,
                secrets=secrets,
            ),
            events=EventReports(client, pods=pods),
            denials=denials,
            claims=claims,
            impersonate=impersonate,
            workers=workers,
        )
        self._claims = claims
        nodes.add_listener(claims)

    @property
    def requests(self) -> int:
        """What edges have asked for and is not done yet."""
        return len(self._upstream.workers)

    async def started(self) -> None:
        """Begin to push once the informers are synced; answers do not wait for that."""
        self._tasks.spawn("start of EdgeController", self._begin())

    async def stopped(self) -> None:
        """Drop what is under way: edges ask again, informers tell again."""
        await self._tasks.cancel_all()
        await self.downstream.stop()
        await self._upstream.workers.cancel_all()
        await self._claims.stop()

    async def _begin(self) -> None:
        for informer in self._informers:
            await informer.when_synced()
        self.downstream.start()
        self._log.info("EdgeController pushes to edge nodes")

    async def handle(self, message: Message) -> None:
        """Hand a message from an edge, or CloudHub's word on a session, to a worker."""
        route = message.route
        if route.source == names.CLOUDHUB and route.operation in ("connected", "disconnected"):
            name = route.resource.removeprefix("node/")
            self._reports.terse.discard(name)
            if route.operation == "connected":
                if meta.mapping({"content": message.read()}, "content").get("window"):
                    self._reports.terse.add(name)
                await self._connected(name)
            else:
                self._claims.closed(name)
            return
        try:
            await self._upstream.submit(message)
        except RouteError as error:
            self._log.warn("message from an edge dropped: {error}", error=error)

    async def _connected(self, name: str) -> None:
        node = self._nodes.get("", name)
        claim = self._claims.opened(name, node)
        if node is None:  # it will register
            return
        await self._upstream.workers.submit(
            ("node", "", meta.name(node)),
            lambda: self._reports.connected(node, claim),
            f"greeting of {name}",
        )
