"""A cluster, clouds, an edge and the link between them, all under the test's hand.

Everything that decides is the real thing: EdgeController, SyncController, CloudHub with its
sessions, queues and records on one side, EdgeHub, MetaManager, store and outbox on the other.
What is played is the API server, the disk's pace, the sockets and edged.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from zope.interface import implementer

from kubeedge_tx.api.resources import (
    CLUSTEROBJECTSYNCS,
    CONFIGMAPS,
    NODES,
    OBJECTSYNCS,
    PODS,
    SECRETS,
    ResourceType,
)
from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.service import ModuleService
from kubeedge_tx.cloud.cloudhub.hub import CloudHub
from kubeedge_tx.cloud.cloudhub.session import NodeSession
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.controller import EdgeController
from kubeedge_tx.cloud.synccontroller.controller import SyncController
from kubeedge_tx.edge.edgehub.connector import EdgeHubSettings
from kubeedge_tx.edge.edgehub.hub import EdgeHub
from kubeedge_tx.edge.metamanager.manager import MetaManager
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.store.meta import MetaStore
from kubeedge_tx.store.outbox import Outbox
from kubeedge_tx.viaduct import codec
from tests.cloud.cloudhub.hubcase import KUBE_CA, Settings
from tests.fakes.database import DirectDatabase
from tests.fakes.doors import a_door
from tests.fakes.kube import Event, FakeInformer, FakeKube

NODE: Final = "edge-1"
START_MS: Final = 1_795_503_134_000
CLOSE: Final = object()
"""A closing frame on the wire."""
PING: Final = object()
PONG: Final = object()

Wire = deque[Any]


class Client:
    """One cloud's client: its answers can be slow, and do not outlive it."""

    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube
        self.slow = self.dead = False
        self.held: deque[tuple[Any, Any]] = deque()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._kube, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.dead:
                return Deferred()
            answer = method(*arguments, **options)
            if not self.slow:
                return answer
            later: Deferred[Any] = Deferred()
            self.held.append((answer, later))
            return later

        return call

    def answer(self, count: int = 1 << 30) -> None:
        """Let the oldest answers come."""
        while self.held and count:
            count -= 1
            answer, later = self.held.popleft()
            if later.called:  # cancelled meanwhile
                answer.addErrback(lambda _failure: None)
            else:
                answer.chainDeferred(later)


class Behind(FakeInformer):
    """An informer that is behind until it is told to catch up."""

    def __init__(self, kind: ResourceType, kube: FakeKube) -> None:
        super().__init__(kind, kube)
        self.later: deque[Event] = deque()

    def event(self, event: Event) -> None:
        self.later.append(event)

    def catch_up(self, count: int = 1 << 30) -> None:
        """Take the oldest events."""
        while self.later and count:
            count -= 1
            super().event(self.later.popleft())


class End:
    """What CloudHub or EdgeHub sees of a link."""

    peer = "tcp4:192.0.2.1:4711"
    is_writable = True
    is_paused = False
    date = ""

    def __init__(self, link: Link, wire: Wire, *, is_ours: bool) -> None:
        self._link = link
        self._wire = wire
        self.is_open = True
        self.is_ours = self.takes_digest = is_ours
        self.user: Any = None
        self._proofs: deque[Deferred[bool]] = deque()
        self.busy: Deferred[None] | None = None

    def send(self, message: Message) -> None:
        """Write one frame; it is lost if the link is dead."""
        if self.is_open and self._link.alive:
            self._wire.append(codec.encode(message))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye, and hear no more."""
        if self.is_open:
            if self._link.alive:
                self._wire.append((CLOSE, f"{code} {reason}"))
            self.lose(reason)

    abort = close

    def prove(self) -> Deferred[bool]:
        """Ask whether the other end is there."""
        proof: Deferred[bool] = Deferred()
        if not self.is_open:
            proof.callback(False)
            return proof
        self._proofs.append(proof)
        if self._link.alive:
            self._wire.append((PING, ""))
        return proof

    def lose(self, reason: str = "connection lost") -> None:
        """Notice that the link is dead."""
        if self.is_open:
            self.is_open = self.is_writable = False
            self.user.closed(reason)
            while self._proofs:
                _answer(self._proofs.popleft(), False)

    def take(self, frame: Any) -> None:
        """Read one frame."""
        if not self.is_open:
            return
        if isinstance(frame, tuple):
            what, text = frame
            if what is CLOSE:
                self.lose(text)
            elif what is PING and self._link.alive:
                self._wire.append((PONG, ""))
            elif what is PONG and self._proofs:
                _answer(self._proofs.popleft(), True)
            return
        taken = self.user.received(codec.decode(frame))
        if taken is not None and not taken.called:
            self.busy = taken
            taken.addBoth(self._ready)

    def _ready(self, _: object) -> None:
        self.busy = None


class Link:
    """One connection: two wires, each in order."""

    def __init__(self, *, ours: bool) -> None:
        self.alive = True
        self.down: Wire = deque()
        self.up: Wire = deque()
        self.cloud = End(self, self.down, is_ours=ours)
        self.edge = End(self, self.up, is_ours=ours)

    def deliver(self, count: int = 1 << 30, *, up: bool = True, down: bool = True) -> bool:
        """Carry frames; whether there were any."""
        moved = False
        for wire, end, wanted in ((self.down, self.edge, down), (self.up, self.cloud, up)):
            for _ in range(min(count, len(wire)) if wanted else 0):
                if end.busy is not None or not wire:
                    break
                moved = True
                end.take(wire.popleft())
        return moved


class Cloud:
    """One cloudcore without its sockets."""

    def __init__(self, kube: FakeKube, name: str) -> None:
        self.kube = kube
        self.clock = Clock()
        self.client = Client(kube)
        self.informers = {
            kind: Behind(kind, kube)
            for kind in (NODES, PODS, CONFIGMAPS, SECRETS, OBJECTSYNCS, CLUSTEROBJECTSYNCS)
        }
        kube._watchers += [(kind, each.event) for kind, each in self.informers.items()]
        bus = MessageBus(self.clock)
        ids = itertools.count(1)
        messages = MessageFactory(self.now_ms, lambda: f"{name}-{next(ids)}")
        objects: dict[str, Any] = {
            "nodes": self.informers[NODES],
            "pods": self.informers[PODS],
            "configmaps": self.informers[CONFIGMAPS],
            "secrets": self.informers[SECRETS],
        }
        client: Any = self.client
        self.syncpoint = SyncPoint(
            self.clock, client, self.informers[OBJECTSYNCS], self.informers[CLUSTEROBJECTSYNCS]
        )
        self.hub = CloudHub(
            self.clock,
            bus,
            messages,
            settings=Settings(),
            context_factory=None,
            syncpoint=self.syncpoint,
            kube_ca=KUBE_CA,
            denials=Denials(self.clock, Metrics()),
            door=a_door(self.clock),
            metrics=Metrics(),
        )
        self.edge_controller = EdgeController(
            bus,
            messages,
            client,
            claims=Claims(self.clock, client, self.hub, identity=name, cloud_ip=name),
            now_ms=self.now_ms,
            denials=Denials(self.clock, Metrics()),
            **objects,
        )
        self.sync_controller = SyncController(
            bus,
            messages,
            client,
            self.clock,
            object_syncs=self.informers[OBJECTSYNCS],
            cluster_object_syncs=self.informers[CLUSTEROBJECTSYNCS],
            nodes=self.informers[NODES],
            objects=list(objects.values()),
            confirmations=self.syncpoint,
        )
        self._services = [
            ModuleService(module, bus, messages)
            for module in (self.hub, self.edge_controller, self.sync_controller)
        ]
        for informer in self.informers.values():
            informer.sync()
        for service in self._services:
            service.startService()
        self.hub.start_ticking()

    def now_ms(self) -> int:
        return START_MS + int(self.clock.seconds() * 1000)

    def kill(self) -> None:
        """``kill -9``: what it had under way has happened or never will."""
        self.client.dead = True
        for answer, _ in self.client.held:
            answer.addErrback(lambda _failure: None)
        gone = {each.event for each in self.informers.values()}
        self.kube._watchers[:] = [each for each in self.kube._watchers if each[1] not in gone]

    def accept(self, link: Link, window: int) -> None:
        """Open a session on a link."""
        session = NodeSession(NODE, "192.0.2.7", self.hub, window=window)
        link.cloud.user = session
        session.opened(link.cloud)  # type: ignore[arg-type]


@implementer(IModule)
class Edged:
    """Runs what MetaManager has, says so, and removes what is to be removed."""

    name = group = "edged"

    def __init__(self, world: World, bus: MessageBus, messages: MessageFactory) -> None:
        self._world = world
        self._bus = bus
        self._messages = messages

    async def handle(self, message: Message) -> None:
        route = message.route
        if "/pod/" not in route.resource or route.operation == "delete":
            return
        pod = message.read()
        if pod["metadata"].get("deletionTimestamp"):
            self.remove(pod)

    def remove(self, pod: dict[str, Any]) -> None:
        """Its containers have ended."""
        uid = pod["metadata"]["uid"]
        self.say(
            "delete",
            f"default/pod/{pod['metadata']['name']}",
            {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}},
        )

    def report(self, pod: dict[str, Any], number: int) -> None:
        """A container's state has changed."""
        about = pod["metadata"]
        self.say(
            "patch",
            f"default/podpatch/{about['name']}",
            {"metadata": {"uid": about["uid"]}, "status": {"message": str(number)}},
        )

    def say(self, operation: str, resource: str, content: Any) -> None:
        """Tell MetaManager, which promises with its answer that the cloud will hear it."""
        question = self._messages.new(
            source="edged", group="meta", operation=operation, resource=resource, content=content
        )
        answer = self._bus.send_sync("metamanager", question, 1e9)
        answer.addCallback(self._world.promised, operation, resource, content)
        answer.addErrback(lambda _failure: None)


class Edge:
    """One edgecore without its socket."""

    def __init__(self, world: World, path: Path) -> None:
        self.clock = Clock()
        self.database = DirectDatabase(path)
        self.store = MetaStore(self.database)
        self.outbox = Outbox(self.database, self.now_ms)
        bus = MessageBus(self.clock)
        messages = MessageFactory(self.now_ms, lambda: f"edge-{next(world.edge_ids)}")
        self.meta = MetaManager(
            bus,
            messages,
            database=self.database,
            store=self.store,
            outbox=self.outbox,
            now_ms=self.now_ms,
        )
        self.hub = EdgeHub(
            self.clock,
            bus,
            messages,
            self.outbox,
            settings=EdgeHubSettings(
                node_name=NODE, servers=("cloud:10000",), longest_delay=2.0, unreachable_delay=1.0
            ),
            credentials=_no_credentials,
            random=random.Random(1),
            dial=world.dial,  # type: ignore[arg-type]
            holdings=self.store.holdings,
        )
        self.edged = Edged(world, bus, messages)
        for module in (self.meta, self.edged, self.hub):
            ModuleService(module, bus, messages).startService()
        for row in self.store.list("pod"):
            pod = row.read()
            if pod["metadata"].get("deletionTimestamp"):
                self.edged.remove(pod)

    def now_ms(self) -> int:
        return START_MS + int(self.clock.seconds() * 1000)

    def kill(self) -> None:
        """``kill -9``."""
        self.database.crash()


class World:
    """All of it, and what really happened.

    :param window: that the edge announces; 0 for a Go edge.
    """

    def __init__(self, *, clouds: int, window: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kubeedge-tx-delivery")
        self._path = Path(self._folder.name) / "edge.db"
        self.kube = FakeKube()
        self.edge_ids = itertools.count(1)
        self.window = window
        self.network = True
        self.links: list[Link] = []
        self.number = 0
        self.born: dict[str, int] = {}
        """The turn of each uid that a name has had, of all names."""
        self.seen: dict[str, tuple[str, int]] = {}
        """What the edge had under each key at the last look: uid and version."""
        self.reported: dict[str, int] = {}
        """The newest state that MetaManager promised to report, by uid."""
        self.landed: dict[str, int] = {}
        """The newest state that the cluster knows, by uid."""
        self.troubles: list[str] = []
        self._backup: bytes | None = None
        self.restored = False
        """The edge has lost what it had confirmed, and that is not yet mended."""
        self.recorded: set[str] = set()
        """The uids that a record has ever said to be confirmed."""
        self.kube._watchers.append((PODS, self._pod_event))
        self.kube._watchers.append((OBJECTSYNCS, self._record_event))
        self.kube.put(
            NODES,
            {"metadata": {"name": NODE, "labels": {"node-role.kubernetes.io/edge": ""}}},
        )
        self.turn = 0
        self.clouds: list[Cloud | None] = [Cloud(self.kube, f"cloud{n}") for n in range(clouds)]
        self._generation = clouds
        self.edge: Edge | None = Edge(self, self._path)
        self.settle()

    def close(self) -> None:
        """Clean up."""
        for index in range(len(self.clouds)):
            self.kill_cloud(index)
        if self.edge is not None:
            self.edge.kill()
        self._folder.cleanup()

    # The cluster

    def change(self, kind: ResourceType, name: str) -> None:
        """Create or update an object."""
        self.number += 1
        old = self.kube.peek(kind, "default", name)
        if old is not None and old["metadata"].get("deletionTimestamp"):
            return
        obj: dict[str, Any] = old or {"metadata": {"name": name, "namespace": "default"}}
        obj["metadata"].setdefault("annotations", {})["n"] = str(self.number)
        if kind is PODS and old is None:
            source = {"configMap": {"name": f"for-{name}"}}
            obj["spec"] = {
                "nodeName": NODE,
                "containers": [{"name": "main", "image": "busybox"}],
                "volumes": [{"name": "conf", **source}, {"name": "all", **_SHARED}],
            }
        made = self.kube.put(kind, obj)
        self.born.setdefault(made["metadata"]["uid"], len(self.born))

    def delete(self, kind: ResourceType, name: str, *, force: bool) -> None:
        """Delete an object, if it is there; pods end gracefully unless forced."""
        if self.kube.peek(kind, "default", name) is None:
            return
        if force or kind is not PODS:
            self.kube.drop(kind, "default", name)
        else:
            self.kube.delete(kind, "default", name).addErrback(lambda _failure: None)

    def _pod_event(self, event: Event) -> None:
        what, _old, new = event
        text = (new.get("status") or {}).get("message")
        if what != "MODIFIED" or not text:
            return
        uid = new["metadata"]["uid"]
        number = int(text)
        # What an old copy of the disk still wants to report is older than what it had reported.
        if number < self.landed.get(uid, 0) and not self.restored:
            self.troubles.append(f"status of {uid} went back: {self.landed[uid]} to {number}")
        self.landed[uid] = number

    def _record_event(self, event: Event) -> None:
        _what, _old, new = event
        if (new.get("status") or {}).get("objectResourceVersion"):
            self.recorded.add(new["metadata"]["name"].rpartition(".")[2])

    # The edge

    def report(self, index: int) -> None:
        """One of the edge's pods has news."""
        if self.edge is None:
            return
        pods = self.edge.store.list("pod")
        if pods:
            self.number += 1
            self.edge.edged.report(pods[index % len(pods)].read(), self.number)
            self.settle()

    def promised(self, answer: Message, operation: str, resource: str, content: Any) -> None:
        """Note that MetaManager has taken a report."""
        if operation == "patch" and answer.read() == "OK":
            self.reported[content["metadata"]["uid"]] = int(content["status"]["message"])

    def kill_edge(self) -> None:
        """The edge's power fails."""
        if self.edge is not None:
            self.edge.kill()
            self.edge = None
            for link in self.links:
                link.edge.is_open = False
                link.alive = False

    def back_up(self) -> None:
        """Copy the edge's disk."""
        if self.edge is None:
            self._backup = self._path.read_bytes()

    def restore(self, *, backup: bool) -> None:
        """Replace the edge's disk by an earlier copy, or an empty one."""
        self.kill_edge()
        for file in self._path.parent.glob("edge.db*"):
            file.unlink()
        if backup and self._backup is not None:
            self._path.write_bytes(self._backup)
        # Everything the edge had promised or confirmed is what it has lost.
        self.seen.clear()
        self.reported.clear()
        self.landed.clear()
        self.restored = True
        self.start_edge()

    def start_edge(self) -> None:
        """It comes back."""
        if self.edge is None:
            self.edge = Edge(self, self._path)
            self.settle()

    def kill_cloud(self, index: int) -> None:
        """One cloud's machine dies."""
        cloud = self.clouds[index]
        if cloud is not None:
            cloud.kill()
            self.clouds[index] = None
            for link in self.links:
                if link.cloud.user is not None and link.cloud.user._owner is cloud.hub:
                    link.cloud.is_open = link.alive = False

    def start_cloud(self, index: int) -> None:
        """It comes back, and lists everything."""
        if self.clouds[index] is None:
            self._generation += 1
            self.clouds[index] = Cloud(self.kube, f"cloud{self._generation}")
            self.settle()

    # The link

    async def dial(self, user: Any) -> Any:
        """EdgeHub connects."""
        self.turn += 1
        cloud = self.clouds[self.turn % len(self.clouds)]
        if not self.network or cloud is None:
            raise ConnectError
        link = Link(ours=self.window > 0)
        self.links = [each for each in self.links if each.cloud.is_open or each.edge.is_open]
        self.links.append(link)
        link.edge.user = user
        cloud.accept(link, self.window)
        user.opened(link.edge)
        return link.edge

    def cut(self, *, edge_knows: bool, cloud_knows: bool) -> None:
        """All connections die; what is on the wire may still be read."""
        for link in list(self.links):
            link.alive = False
            if edge_knows:
                link.edge.lose()
            if cloud_knows:
                link.cloud.lose()
        self.settle()

    def notice(self, *, edge: bool) -> None:
        """One end finds out about dead connections, long after."""
        for link in list(self.links):
            if not link.alive:
                (link.edge if edge else link.cloud).lose()
        self.settle()

    def deliver(self, count: int = 1 << 30, *, up: bool = True, down: bool = True) -> bool:
        """Carry frames on all links, the dead ones' rests too."""
        moved = False
        for link in list(self.links):
            moved |= link.deliver(count, up=up, down=down)
        self.settle()
        return moved

    def lose(self, *, up: bool) -> None:
        """The next frame of one direction never arrives."""
        for link in self.links:
            wire = link.up if up else link.down
            if wire and isinstance(wire.popleft(), tuple):
                link.alive = False  # nobody reads the other end any more

    def double(self, *, up: bool) -> None:
        """The next frame of one direction arrives twice."""
        for link in self.links:
            wire = link.up if up else link.down
            if wire and not isinstance(wire[0], tuple):
                wire.appendleft(wire[0])

    # Time

    def settle(self) -> None:
        """Let everybody work on what they have."""
        for _ in range(100):
            due = [clock for clock in self._clocks() if _is_due(clock)]
            if not due:
                return
            for clock in due:
                clock.advance(0)

    def pass_time(self, seconds: int) -> None:
        """Time passes, and no frame moves."""
        for _ in range(seconds):
            for clock in self._clocks():
                clock.advance(1.0)
            self.settle()

    def _clocks(self) -> list[Clock]:
        ends: list[Any] = [self.edge, *self.clouds]
        return [each.clock for each in ends if each is not None]

    def heal(self) -> None:
        """Everything works again; wait until nothing moves any more."""
        self.network = True
        self.start_edge()
        assert self.edge is not None
        self.edge.database.held = False
        while self.edge.database.waiting:
            self.edge.database.run()
        for index in range(len(self.clouds)):
            self.start_cloud(index)
        for cloud in self.clouds:
            assert cloud is not None
            cloud.client.slow = False
        self.notice(edge=True)  # pings find it out within seconds
        self.notice(edge=False)
        quiet = 0
        for _ in range(300):
            before = self.kube.version, len(self.edge.outbox), len(self.links)
            moved = self._everything()
            after = self.kube.version, len(self.edge.outbox), len(self.links)
            quiet = 0 if moved or before != after else quiet + 1
            if quiet > 16:  # 80 s, longer than the longest pause before anything is said again
                return
            for clock in self._clocks():
                clock.advance(5.0 if quiet else 1.0)
            self.settle()
        raise AssertionError("it never becomes quiet")

    def _everything(self) -> bool:
        moved = False
        for cloud in self.clouds:
            if cloud is not None:
                cloud.client.answer()
                for informer in cloud.informers.values():
                    informer.catch_up()
        self.settle()
        for link in list(self.links):
            frames = list(link.up) + list(link.down)
            link.deliver()
            moved = moved or any(b'"keepalive"' not in each for each in frames)
        self.settle()
        return moved

    # What must hold

    def check_always(self) -> None:
        """Promises that hold at every moment."""
        assert not self.troubles, self.troubles
        if self.edge is not None:
            self._check_order(self.edge)
            if not self.restored:
                self._check_acknowledged(self.edge)

    def _check_order(self, edge: Edge) -> None:
        now = {}
        for kind in ("pod", "configmap"):
            for row in edge.store.list(kind):
                identity = row.identity
                now[row.key] = identity.uid, int(identity.version)
        for key, (uid, version) in now.items():
            before, old = self.seen.get(key, ("", 0))
            if before == uid:
                assert version >= old, f"{key} went back from version {old} to {version}"
            elif before:
                assert self.born[uid] > self.born[before], f"{key}: {uid} came after {before}"
        for key, value in now.items():
            self.seen[key] = value
        # What is gone stays in ``seen``: what comes back under the key must be newer.

    def _check_acknowledged(self, edge: Edge) -> None:
        for record in self.kube.all(OBJECTSYNCS):
            uid = record["metadata"]["name"].rpartition(".")[2]
            spec = record["spec"]
            version = (record.get("status") or {}).get("objectResourceVersion") or "0"
            kind: ResourceType = PODS if spec["objectKind"] == "Pod" else CONFIGMAPS
            found = self.kube.peek(kind, "default", spec["objectName"])
            if found is None or found["metadata"]["uid"] != uid:
                continue  # the object is gone; whether its delete arrived is another promise
            key = f"default/{spec['objectKind'].lower()}/{spec['objectName']}"
            row = edge.store.get(key)
            assert row is not None, f"{key} was acknowledged, and is not there"
            assert row.identity.uid == uid, f"{key} {uid} was acknowledged, and is not there"
            assert int(row.identity.version) >= int(version), (
                f"{key} was acknowledged in version {version}, the edge has {row.identity.version}"
            )

    def check_agreed(self) -> None:
        """After a while without faults both ends have the same."""
        self.restored = False
        edge = self.edge
        assert edge is not None
        wanted: dict[str, Any] = {}
        for pod in self.kube.all(PODS):
            about = pod["metadata"]
            wanted[f"default/pod/{about['name']}"] = pod
            for name in (f"for-{about['name']}", "shared"):
                found = self.kube.peek(CONFIGMAPS, "default", name)
                if found is not None:
                    wanted[f"default/configmap/{name}"] = found
            assert not about.get("deletionTimestamp"), f"pod {about['name']} never ended"
            uid = about["uid"]
            assert self.landed.get(uid, 0) >= self.reported.get(uid, 0), (
                f"the cluster knows state {self.landed.get(uid)} of {uid}, "
                f"the edge promised {self.reported.get(uid)}"
            )
        for key, obj in wanted.items():
            row = edge.store.get(key)
            assert row is not None, f"the edge has no {key}"
            have = row.read()["metadata"]
            about = obj["metadata"]
            assert (have["uid"], have["annotations"]) == (about["uid"], about["annotations"]), (
                f"{key}: the cluster has {about}, the edge {have}"
            )
        for row in (*edge.store.list("pod"), *edge.store.list("configmap")):
            if not self.window and row.identity.uid not in self.recorded:
                # An edge of Go does not say what it has; see "What is not promised" in
                # docs/delivery.rst. A pod would be reported, and the cloud take it away.
                continue
            name = row.key.rpartition("/")[2]
            kind: ResourceType = PODS if row.type == "pod" else CONFIGMAPS
            found = self.kube.peek(kind, "default", name)
            assert found is not None, f"{row.key} is gone, and the edge has it"
        assert len(edge.outbox) == 0, "the outbox is not empty"
        for cloud in self.clouds:
            assert cloud is not None
            session = cloud.hub.sessions.get(NODE)
            if session is not None:
                queue = cloud.hub.dispatcher.queue(NODE)
                assert not len(queue.window), f"{len(queue.window)} messages still wait"
        records = {
            record["metadata"]["name"]: (record.get("status") or {}).get("objectResourceVersion")
            for record in self.kube.all(OBJECTSYNCS)
        }
        for key, obj in wanted.items():
            assert f"{NODE}.{obj['metadata']['uid']}" in records, f"{key} is not recorded"


def _answer(proof: Deferred[bool], is_there: bool) -> None:
    if not proof.called:  # who asked has waited long enough
        proof.callback(is_there)


def _is_due(clock: Clock) -> bool:
    return any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls())


_SHARED: Final = {"configMap": {"name": "shared"}}


async def _no_credentials(host: str) -> Any:
    raise AssertionError("nobody asks for them")
