"""Edged: runs the pods that this node is to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.route import parse
from kubeedge_tx.beehive.steady import steady_seconds
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.contact import Contact
from kubeedge_tx.edge.edged.events import EventRecorder
from kubeedge_tx.edge.edged.gc import Collector
from kubeedge_tx.edge.edged.machine import Machine, Usage, read_machine, read_usage
from kubeedge_tx.edge.edged.node import NodeKeeper
from kubeedge_tx.edge.edged.objects import Objects
from kubeedge_tx.edge.edged.partition import Partition
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.podworker import PodWorker, Tools
from kubeedge_tx.edge.edged.prober import NetworkProber, Prober
from kubeedge_tx.edge.edged.relist import Relist
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.edge.edged.volumes import InThread, PodVolumes
from kubeedge_tx.errors import KubeEdgeError
from kubeedge_tx.runtime.interfaces import IContainerRuntime

HOUSEKEEPING_SECONDS: Final = 60.0
"""How often every pod is looked at although nothing was heard of it."""
LOAD_RETRY_SECONDS: Final = 2.0
"""Pause after the stored pods could not be read."""


@implementer(IModule)
class Edged:
    """Run the pods that MetaManager has, and tell the cloud of them and of the node.

    Starting a known pod never needs the cloud.

    :param reactor: time, and connections for probes.
    :param runtime: started before this module is.
    :param wall_clock: seconds since the epoch.
    :param in_thread: runs blocking file work, from a pool that outlives this module.
    :param version: this program's, for the node's ``kubeletVersion``.
    :param report_events: send pods' events to the cloud.
    :param prober: reaches into pods; over the network if not given.
    :param machine: facts about this machine; read from ``/proc`` if not given.
    :param elapsed: seconds since its start, sleep included.
    :param usage: what is used of it now; likewise.
    """

    name = names.EDGED
    group = names.GROUP_EDGED
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        bus: IMessageBus,
        messages: MessageFactory,
        runtime: IContainerRuntime,
        *,
        node: NodeSettings,
        wall_clock: Callable[[], float],
        in_thread: InThread,
        version: str,
        report_events: bool = False,
        prober: Prober | None = None,
        machine: Machine | None = None,
        elapsed: Callable[[], float] = steady_seconds,
        usage: Callable[[], Usage] | None = None,
    ) -> None:
        self._clock = reactor
        self._node_settings = node
        self._runtime = runtime
        usage = usage or (lambda: read_usage(node.root_dir))
        objects = self._objects = Objects(bus, messages)
        volumes = PodVolumes(node.root_dir, objects, in_thread, wall_clock)
        machine = machine or read_machine()
        self._contact = Contact(node.root_dir, in_thread, machine.boot_id, elapsed)
        self._partition = Partition(
            reactor, self._contact, lambda: list(self._by_uid.values()), self._start
        )
        self.node = NodeKeeper(
            reactor,
            wall_clock,
            objects,
            runtime,
            node,
            version,
            machine,
            usage,
            self._look_at_all,
            self._contact,
        )
        self._relist = Relist(runtime)
        self._tools = Tools(
            clock=reactor,
            wall_clock=wall_clock,
            runtime=runtime,
            relist=self._relist,
            objects=objects,
            volumes=volumes,
            prober=prober or NetworkProber(reactor, runtime),
            events=EventRecorder(objects, node.name, wall_clock, report=report_events),
            settings=node,
            allocatable=self.node.allocatable,
        )
        self._collector = Collector(runtime, volumes, usage)
        self._tasks = TaskSet()
        self._workers: dict[str, PodWorker] = {}  # by namespace/name
        self._by_uid: dict[str, PodWorker] = {}
        self._next: dict[str, Json] = {}  # pods that wait for another of their name to end
        self._ended: dict[str, str] = {}  # key to uid: ended and told; the delete is to come
        self.is_loaded = False
        """Whether the stored pods are known: nothing is ended as unknown before."""

    @property
    def workers(self) -> dict[str, PodWorker]:
        """Workers by ``<namespace>/<name>``."""
        return dict(self._workers)

    async def started(self) -> None:
        """Take up the stored pods, and adopt what runs of them."""
        self._runtime.on_change(self._changed)
        self._tasks.spawn("stored pods", self._load())
        self._tasks.spawn("node status", self._watch_node())
        self._tasks.spawn("image collection", self._collect_images())

    async def stopped(self) -> None:
        """Let go; containers stay as they are."""
        await self._tasks.cancel_all()
        await self.node.disconnected()
        for worker in list(self._by_uid.values()):
            await worker.stop()
        await self._contact.save(at_once=True)

    # -- messages --------------------------------------------------------------------

    async def handle(self, message: Message) -> None:
        """Take one message of MetaManager or EdgeHub.

        :raises RouteError: its resource is none.
        """
        route = message.route
        if route.operation == names.CONNECT:
            await self._connection(message.read())
            return
        resource = parse(route.resource)
        if resource.kind == "pod" and resource.name:
            key = f"{resource.namespace}/{resource.name}"
            content = message.read()
            pod = content if isinstance(content, dict) else {}
            if route.operation == names.DELETE:
                self._removed(key, pod)
            elif route.operation in (names.INSERT, names.UPDATE):
                self._wanted(key, pod)
        elif resource.kind in ("configmap", "secret"):
            for worker in list(self._by_uid.values()):
                if podspec.namespace(worker.pod) == resource.namespace:
                    worker.object_changed(resource.kind, resource.name)
        else:
            self._log.debug(
                "nothing to do for {operation} {resource}",
                operation=route.operation,
                resource=route.resource,
            )

    async def _connection(self, content: object) -> None:
        if content == names.CONNECTED:
            self.node.connected()
        elif content == names.DISCONNECTED:
            await self.node.disconnected()

    # -- pods ------------------------------------------------------------------------

    def _wanted(self, key: str, pod: Json) -> None:
        """Run this pod, or go on with it."""
        uid = podspec.uid(pod)
        node = podspec.spec(pod).get("nodeName")
        if not uid or (node and node != self._node_settings.name):
            self._log.warn(
                "ignored pod {pod}: {why}",
                pod=key,
                why=f"it is for node {node}" if uid else "it has no uid",
            )
            return
        if self._ended.get(key) == uid:
            return  # all is said; the cloud's delete is under way
        worker = self._workers.get(key)
        if worker is None:
            self._ended.pop(key, None)
            if not self._partition.holds(key, pod):
                self._start(pod)
        elif worker.uid == uid:
            worker.update(pod)
        else:
            self._log.info("pod {pod} was replaced; ending the former one", pod=key)
            self._next[key] = pod
            worker.terminate("removed")

    def _removed(self, key: str, pod: Json) -> None:
        """Forget this pod: it is gone from the cluster."""
        uid = podspec.uid(pod)
        if not uid or self._ended.get(key) == uid:
            self._ended.pop(key, None)
        following = self._next.get(key)
        if following is not None and uid in ("", podspec.uid(following)):
            del self._next[key]
        held = self._partition.release(key)
        if held is not None:
            self._start(held)  # what is left of it is to be removed
        worker = self._workers.get(key)
        if worker is None or (uid and worker.uid != uid):
            return
        if podspec.spec(pod) and podspec.is_deleted(pod):
            worker.update(pod)  # it says with what grace
        worker.terminate("removed")

    def _start(self, pod: Json) -> PodWorker:
        worker = PodWorker(pod, self._tools, self._finished)
        self._workers[podspec.key(pod)] = worker
        self._by_uid[worker.uid] = worker
        worker.start()
        return worker

    def _has(self, uid: str) -> bool:
        return uid in self._by_uid or self._partition.has(uid)

    def _finished(self, worker: PodWorker) -> None:
        key = podspec.key(worker.pod)
        self._by_uid.pop(worker.uid, None)
        if self._workers.get(key) is worker:
            del self._workers[key]
        if worker.termination is not None and worker.termination.why == "deleted":
            self._ended[key] = worker.uid
        following = self._next.pop(key, None)
        if following is not None:
            self._wanted(key, following)

    def _changed(self, uid: str) -> None:
        worker = self._by_uid.get(uid)
        if worker is not None:
            worker.poke()

    # -- loops -----------------------------------------------------------------------

    async def _load(self) -> None:
        await self._contact.load()
        while not self.is_loaded:
            try:
                for pod in await self._objects.stored_pods():
                    if podspec.key(pod) not in self._workers:
                        self._wanted(podspec.key(pod), pod)
                self.is_loaded = True
                self._tasks.spawn("pods out of reach", self._partition.watch())
            except CancelledError:
                raise
            except KubeEdgeError as error:
                self._log.warn("the stored pods were not read: {error}", error=str(error))
                await deferLater(self._clock, LOAD_RETRY_SECONDS)
        self._log.info("{count} pods to see to", count=len(self._workers))
        while True:
            try:
                states = await self._relist.states()
                await self._collector.orphans(states, self._has)
            except CancelledError:
                raise
            except (KubeEdgeError, OSError) as error:
                self._log.warn("could not look for what is left over: {error}", error=str(error))
            await deferLater(self._clock, HOUSEKEEPING_SECONDS)
            self._look_at_all()

    def _look_at_all(self) -> None:
        for worker in list(self._by_uid.values()):
            worker.poke()

    async def _watch_node(self) -> None:
        await self.node.load()
        await self.node.watch()

    async def _collect_images(self) -> None:
        settings = self._node_settings
        while True:
            await deferLater(self._clock, settings.image_gc_seconds)
            keep = frozenset(
                str(container.get("image"))
                for worker in self._by_uid.values()
                for container, _ in podspec.all_containers(worker.pod)
            )
            await self._collector.images(
                keep, settings.image_gc_high_percent, settings.image_gc_low_percent
            )
