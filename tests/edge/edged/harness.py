"""An Edged on a clock, a fake runtime, and a MetaManager that answers from a dict."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.service import ModuleService
from kubeedge_tx.edge.edged.machine import Machine, Usage
from kubeedge_tx.edge.edged.manager import Edged
from kubeedge_tx.edge.edged.prober import Answer
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.errors import ContainerError
from tests.fakes.runtime import FakeRuntime

EPOCH = 1_795_503_173.0
"""2026-11-24T06:52:53Z: when the recorded session created its pod."""

MACHINE = Machine(
    cpus=2,
    memory_kib=24684084,
    architecture="amd64",
    kernel="6.18.44",
    os_image="Debian GNU/Linux 12 (bookworm)",
    machine_id="3d12",
    boot_id="fd25",
    system_uuid="3d12",
    hugepages={"1048576": 0, "2048": 0},
)
USAGE = Usage(
    memory_free_kib=20_000_000,
    disk_kib=264212084,
    disk_free_kib=200_000_000,
    inodes=1000,
    inodes_free=900,
    processes=100,
    processes_limit=32768,
)


def make_pod(name: str = "web", uid: str = "uid-1", **spec: Any) -> dict[str, Any]:
    """A pod as the API server stores it, of one container named like the pod."""
    container = {
        "name": name,
        "image": "local/busybox:1",
        "command": ["/bin/sleep", "100000"],
        "resources": {},
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    for field in list(spec):
        if field.startswith("c_"):
            container[field[2:]] = spec.pop(field)
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": "1"},
        "spec": {
            "containers": [container],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "nodeName": "edge-1",
            **spec,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


@implementer(IModule)
class FakeMeta:
    """Answers Edged as MetaManager does, and remembers what it was told."""

    name = "metamanager"
    group = "meta"

    def __init__(self, bus: MessageBus, messages: MessageFactory) -> None:
        self._bus = bus
        self._messages = messages
        self.pods: list[dict[str, Any]] = []
        self.objects: dict[str, dict[str, Any]] = {}
        """By resource: ``default/configmap/app``."""
        self.offline = False
        self.store_down = False
        self.node: dict[str, Any] | None = None
        self.node_exists = False
        self.lease: dict[str, Any] | None = None
        self.seen: list[tuple[str, str, Any]] = []
        self.token_serial = 0
        self._watchers: list[tuple[Callable[[Any], bool], str, Deferred[Any]]] = []
        self.token_expires = "2026-11-24T07:52:53Z"

    async def handle(self, message: Message) -> None:
        route = message.route
        content = message.read()
        if isinstance(content, str) and route.operation == "patch":
            content = json.loads(content)
        self.seen.append((route.operation, route.resource, content))
        for watcher in list(self._watchers):
            holds, wanted, fired = watcher
            if route.resource == wanted and holds(content):
                self._watchers.remove(watcher)
                fired.callback(content)
        if "/event/" in route.resource:
            return
        try:
            answer = self._answer(route.operation, route.resource, content)
        except LookupError as error:
            reply = self._messages.error(message, "metamanager", str(error.args[0]))
        else:
            reply = self._messages.reply(message, answer)
        self._bus.respond(reply)

    def _answer(self, operation: str, resource: str, content: Any) -> Any:
        kind = resource.split("/")[1]
        if self.store_down:
            raise LookupError("the disk is full")
        if kind == "pod":
            return self.pods if operation == "query" else "OK"
        if kind in ("podpatch", "nodepatch"):
            return "OK"
        if kind == "node" and operation == "query":
            if self.node is None:
                raise LookupError(f"{resource} not found")
            return self.node
        if kind in ("configmap", "secret"):
            if resource in self.objects:
                return self.objects[resource]
            if self.offline:
                raise LookupError("not connected")
            raise LookupError(f'{kind}s "{resource.split("/")[2]}" not found')
        if self.offline:
            raise LookupError("not connected")
        if kind == "serviceaccounttoken":
            self.token_serial += 1
            return {
                **content,
                "status": {
                    "token": f"token-{self.token_serial}",
                    "expirationTimestamp": self.token_expires,
                },
            }
        if kind == "node":
            if self.node_exists:
                status = {"reason": "AlreadyExists", "code": 409, "message": "it exists"}
                return {"Object": None, "Err": {"ErrStatus": status}}
            self.node = {**content, "metadata": {**content["metadata"], "uid": "node-uid"}}
            return {"Object": self.node, "Err": None}
        assert kind == "lease"
        if operation == "query" and self.lease is None:
            status = {"reason": "NotFound", "code": 404, "message": "lease not found"}
            return {"Object": None, "Err": {"ErrStatus": status}}
        if operation != "query":
            self.lease = {**content, "metadata": {**content["metadata"], "uid": "lease-uid"}}
        return {"Object": self.lease, "Err": None}

    def when(self, resource: str, holds: Callable[[Any], bool]) -> Deferred[Any]:
        """Fire with the next message about a resource whose content is as wanted."""
        fired: Deferred[Any] = Deferred()
        self._watchers.append((holds, resource, fired))
        return fired

    def told(self, operation: str, resource: str) -> list[Any]:
        """Contents of the messages of that kind, oldest first."""
        return [c for o, r, c in self.seen if o == operation and r == resource]

    def events(self) -> list[tuple[str, str]]:
        """Reasons and messages of the events, oldest first."""
        return [
            (content["reason"], content["message"])
            for _, resource, content in self.seen
            if "/event/" in resource
        ]


class FakeProber:
    """Answers what a test sets, by probe or hook."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        """By path, port or first word of the command; anything else succeeds."""
        self.asked: list[str] = []
        self.held: dict[str, Deferred[None]] = {}

    def _what(self, action: dict[str, Any]) -> str:
        if request := action.get("httpGet"):
            return str(request["path"])
        if socket := action.get("tcpSocket"):
            return str(socket["port"])
        return str(action["exec"]["command"][0])

    async def probe(
        self,
        action: dict[str, Any],
        timeout: float,
        ip: str,
        container: dict[str, Any],
        container_id: str,
    ) -> Answer:
        what = self._what(action)
        self.asked.append(what)
        return self.answers.get(what, (True, ""))

    async def hook(
        self,
        action: dict[str, Any],
        timeout: float,
        ip: str,
        container: dict[str, Any],
        container_id: str,
    ) -> None:
        what = self._what(action)
        self.asked.append(what)
        if what in self.held:
            await self.held[what]
        success, text = self.answers.get(what, (True, ""))
        if not success:
            raise ContainerError("HookError", text)


def at_once(work: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Run file work here and now: the tests' thread pool."""
    return maybeDeferred(work, *args)


class EdgedCase(SynchronousTestCase):
    """One node, whose agent can be stopped and started again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.skew = 0.0
        """By how much the wall clock was set since the start, seconds."""
        self.boot_id = MACHINE.boot_id
        self.runtime = FakeRuntime(self.clock, self.now)
        self.root = Path(self.mktemp())
        self.prober = FakeProber()
        self.report_events = True
        self._ids = itertools.count(1)
        self.bus = MessageBus(self.clock)
        self.messages = MessageFactory(
            lambda: int(self.now() * 1000), lambda: f"id-{next(self._ids)}"
        )
        self.meta = FakeMeta(self.bus, self.messages)
        self.service: ModuleService | None = None

    def now(self) -> float:
        return EPOCH + self.clock.seconds() + self.skew

    def settings(self) -> NodeSettings:
        return NodeSettings(name="edge-1", ip="192.0.2.2", root_dir=self.root)

    def start_agent(self) -> None:
        """Start an agent; what it finds is what a former one left."""
        self.bus = MessageBus(self.clock)
        self.meta._bus = self.bus
        meta = ModuleService(self.meta, self.bus, self.messages)
        self.edged = Edged(
            self.clock,
            self.bus,
            self.messages,
            self.runtime,
            node=self.settings(),
            wall_clock=self.now,
            in_thread=at_once,
            version="0.1",
            report_events=self.report_events,
            prober=self.prober,
            machine=replace(MACHINE, boot_id=self.boot_id),
            elapsed=lambda: 1000.0 + self.clock.seconds(),
            usage=lambda: USAGE,
        )
        self.service = ModuleService(self.edged, self.bus, self.messages)
        self.successResultOf(meta.startService())
        self.successResultOf(self.service.startService())
        self.settle()

    def stop_agent(self) -> None:
        """Stop the agent; containers stay."""
        assert self.service is not None
        self.successResultOf(self.service.stopService())
        self.runtime._callbacks.clear()
        self.service = None

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        for _ in range(60):
            self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.settle()

    def send(self, operation: str, resource: str, content: Any, source: str = "") -> None:
        """Tell Edged something, as MetaManager does."""
        message = self.messages.new(
            source=source or "edgecontroller",
            group="resource",
            operation=operation,
            resource=resource,
            content=content,
        )
        self.bus.send("edged", message)
        self.settle()

    def apply(self, pod: dict[str, Any], operation: str = "insert") -> None:
        """Store a pod and tell Edged about it, as MetaManager does."""
        name = pod["metadata"]["name"]
        self.meta.pods = [each for each in self.meta.pods if each["metadata"]["name"] != name]
        self.meta.pods.append(pod)
        self.send(operation, f"default/pod/{name}", pod)

    def delete(self, pod: dict[str, Any], grace: int = 30) -> None:
        """Begin the graceful deletion of a pod, as kubectl delete does."""
        metadata = {
            **pod["metadata"],
            "deletionTimestamp": "2026-11-24T07:00:00Z",
            "deletionGracePeriodSeconds": grace,
        }
        self.apply({**pod, "metadata": metadata}, "update")

    def status(self, pod: str = "web") -> dict[str, Any]:
        """The status the cloud was last told."""
        told = self.meta.told("patch", f"default/podpatch/{pod}")
        assert told, f"nothing was told about {pod}"
        status: dict[str, Any] = told[-1]["status"]
        return status

    def container(self, pod: str = "web", name: str = "") -> dict[str, Any]:
        """One container's status, as the cloud was last told."""
        status = self.status(pod)
        found = [
            each
            for each in [
                *status["containerStatuses"],
                *(status.get("initContainerStatuses") or ()),
            ]
            if each["name"] == (name or pod)
        ]
        assert len(found) == 1
        container: dict[str, Any] = found[0]
        return container

    def condition(self, kind: str, pod: str = "web") -> dict[str, Any]:
        """One condition, as the cloud was last told."""
        found = [each for each in self.status(pod)["conditions"] if each["type"] == kind]
        condition: dict[str, Any] = found[0]
        return condition
