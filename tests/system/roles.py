"""Both roles as real processes, and a client of the API that they serve."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import yaml
from twisted.internet import reactor as _global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

from kubeedge_tx.runtime import process_records as records
from kubeedge_tx.runtime.process_records import RunningRecord

reactor: Any = _global_reactor

PATIENCE: Final = 60.0
"""Seconds until a condition is given up; nothing takes as long on a machine that works."""

LOOK: Final = 0.03
"""Seconds between two looks."""

TWISTD: Final = str(Path(sys.executable).with_name("twistd"))

Tree = dict[str, Any]


def merged(*trees: Tree) -> Tree:
    """Lay configurations over each other, the last on top."""
    result: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            below = result.get(key)
            result[key] = (
                merged(below, value)
                if isinstance(below, dict) and isinstance(value, dict)
                else value
            )
    return result


class Process(ProcessProtocol):
    """One program, started by the reactor.

    :ivar output: everything it has printed, both streams.
    """

    def __init__(self, arguments: list[str], env: Mapping[str, str] | None = None) -> None:
        self._arguments = arguments
        self._env = os.environ | dict(env or {})
        self._output = bytearray()
        self._waiting: list[Deferred[int]] = []
        self.status: int | None = None
        """Exit code, or a signal's number as a negative one; ``None`` while it runs."""
        self.pid = 0

    def start(self) -> None:
        """Start it."""
        reactor.spawnProcess(self, self._arguments[0], self._arguments, env=self._env)
        assert self.transport is not None
        self.pid = self.transport.pid

    def outReceived(self, data: bytes) -> None:
        self._output += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self.status = -value.signal if value.signal else value.exitCode
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(self.status)

    @property
    def output(self) -> str:
        """Everything it has printed."""
        return self._output.decode(errors="replace")

    def lines(self, *words: str) -> list[str]:
        """The lines it printed that have all these words in them."""
        return [line for line in self.output.splitlines() if all(word in line for word in words)]

    def ended(self) -> Deferred[int]:
        """Fires with the status once it has ended and its output is read."""
        if self.status is not None:
            return succeed(self.status)
        done: Deferred[int] = Deferred()
        self._waiting.append(done)
        return done

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(number)

    def kill(self) -> Deferred[int]:
        """End it without a warning."""
        self.signal(signal.SIGKILL)
        return self.ended()

    def stop(self) -> Deferred[int]:
        """End it as ``systemctl stop`` does; killed if it does not obey."""
        self.signal(signal.SIGTERM)
        late = reactor.callLater(30, self.signal, signal.SIGKILL)

        def over(status: int) -> int:
            if late.active():
                late.cancel()
            return status

        return self.ended().addCallback(over)


class Role:
    """One role: its data, its configuration, and the process that runs, if one does.

    :param kind: ``kubeedge-cloud`` or ``kubeedge-edge``.
    """

    def __init__(self, kind: str, data_dir: Path, config: Tree, arguments: list[str]) -> None:
        self.kind = kind
        self.data_dir = data_dir
        self.config = config
        self.arguments = arguments
        self.processes: list[Process] = []
        self.env: dict[str, str] = {}
        """More of the environment for processes that start from now on."""

    @property
    def process(self) -> Process:
        """The latest process."""
        return self.processes[-1]

    @property
    def config_file(self) -> Path:
        """Where its configuration is."""
        return self.data_dir.with_suffix(".yaml")

    @property
    def output(self) -> str:
        """What all its processes printed."""
        return "".join(process.output for process in self.processes)

    def start(self, *arguments: str) -> Process:
        """Start a process; :meth:`ready` waits for it."""
        self.config_file.write_text(yaml.safe_dump(self.config))
        self.config_file.chmod(0o600)
        process = Process(
            [
                *(TWISTD, "-n", "--pidfile=", self.kind, "--config", str(self.config_file)),
                *("--data-dir", str(self.data_dir), *self.arguments, *arguments),
            ],
            self.env,
        )
        self.processes.append(process)
        process.start()
        return process

    async def ready(self) -> dict[str, int]:
        """Wait until ``ready.json`` is that of the latest process; returns its ports."""

        def look() -> dict[str, int] | None:
            if self.process.status is not None:
                raise AssertionError(f"{self.kind} ended: {self.process.output[-3000:]}")
            try:
                found = json.loads((self.data_dir / "ready.json").read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                return None
            return dict(found["ports"]) if found["pid"] == self.process.pid else None

        ports: dict[str, int] = await until(f"{self.kind} to be ready", look, self)
        return ports

    async def run(self) -> dict[str, int]:
        """Start, and wait until it is ready."""
        self.start()
        return await self.ready()

    async def end(self) -> None:
        """End whatever of it still runs, pods' processes too.

        :raises AssertionError: it did not obey, or there was an error nobody foresaw.
        """
        for process in self.processes:
            if process.status is None and await process.stop() != 0:
                raise AssertionError(f"{self.kind} ended with {process.status}:\n{self.output}")
        if self.kind == "kubeedge-edge":
            await end_pods(self.data_dir)
        if "Traceback" in self.output:
            raise AssertionError(f"{self.kind} had trouble:\n{self.output[-6000:]}")


class Ports:
    """Ports of loopback that are ours for as long as a test runs, used or not.

    A socket that is bound and does not listen keeps the kernel from giving the port to
    anybody who asks for a free one; who names it can listen on it.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self) -> int:
        """Reserve one more."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self._sockets.append(held)
        return int(held.getsockname()[1])

    def close(self) -> None:
        """Give them back."""
        for held in self._sockets:
            held.close()


async def until(
    what: str, look: Callable[[], Any], *roles: Role, patience: float = PATIENCE
) -> Any:
    """Look again and again, until there is something; returns it.

    :param look: returns what was waited for, or something false; may be a coroutine function.
    :param roles: whose last words belong into the message when it is given up.
    """
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            words = "\n".join(
                f"--- {role.kind} ({role.data_dir.name}):\n{role.output[-4000:]}" for role in roles
            )
            raise AssertionError(f"waited {patience:g} s for {what}\n{words}")
        await pause(LOOK)


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor work for a while."""
    return deferLater(reactor, seconds)


def running(data_dir: Path) -> list[RunningRecord]:
    """Everything the process runtime of an edge has started and that still lives."""
    found = []
    for file in (data_dir / "process" / "pods").glob("*/*/*/running.json"):
        record = records.read(file.parent, file.name, RunningRecord)
        if record is not None and records.is_alive(record.shim, record.shim_start):
            found.append(record)
    return found


async def end_pods(data_dir: Path) -> None:
    """End the processes that an edge left behind on purpose."""
    for record in running(data_dir):
        with suppress(ProcessLookupError):
            os.kill(record.shim, signal.SIGUSR1)  # it takes everything with it
    await until("pods' processes to end", lambda: not running(data_dir))


class Refused(Exception):
    """The API server said no.

    :param status: the Kubernetes Status object.
    """

    def __init__(self, method: str, path: str, status: Any) -> None:
        super().__init__(f"{method} {path}: {status}")
        self.code = status.get("code") if isinstance(status, dict) else 0
        self.status = status


class Api:
    """The API as an administrator sees it, through the kubeconfig that the cloud wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self.url = str(cluster["server"])
        self.token = str(config["users"][0]["user"]["token"])
        self.ca_pem = base64.b64decode(cluster["certificate-authority-data"])
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = 20
        self._agent = Agent(reactor, _Trust(self.ca_pem), pool=self._pool)

    def close(self) -> Any:
        """Close what is open."""
        return self._pool.closeCachedConnections()

    async def call(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Any:
        """Make one call; returns the decoded answer, ``None`` for 404.

        :raises Refused: any other status above 399.
        """
        headers = Headers({"authorization": [f"Bearer {self.token}"]})
        if body is not None:
            headers.addRawHeader("content-type", kind)
        response = await self._agent.request(
            method.encode(),
            (self.url + path).encode(),
            headers,
            None if body is None else _Body(msgspec.json.encode(body)),
        )
        text = await readBody(response)
        if response.code == 404:
            return None
        try:
            decoded = msgspec.json.decode(text)
        except msgspec.DecodeError:
            decoded = {"code": response.code, "message": text.decode(errors="replace")}
        if response.code >= 400:
            raise Refused(method, path, decoded)
        return decoded

    def get(self, path: str) -> Any:
        """Read; ``None`` if it is not there."""
        return self.call("GET", path)

    def create(self, obj: Any) -> Any:
        """Create an object of the core group."""
        return self.call("POST", collection(obj["kind"], namespace_of(obj)), obj)

    def patch(self, path: str, body: Any) -> Any:
        """Change by merge patch."""
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, grace: int | None = None) -> Any:
        """Delete, with a grace period if one is given."""
        options = None if grace is None else {"gracePeriodSeconds": grace}
        return self.call("DELETE", path, options)

    async def items(self, path: str) -> list[Any]:
        """List."""
        return list((await self.get(path))["items"])


def namespace_of(obj: Any) -> str:
    """The namespace that an object is for."""
    return str(obj["metadata"].get("namespace") or "default")


def collection(kind: str, namespace: str = "default") -> str:
    """The path of a kind's objects: core group, namespaced."""
    return f"/api/v1/namespaces/{namespace}/{kind.lower()}s"


def pod_path(name: str) -> str:
    """The path of a pod of namespace default."""
    return f"{collection('Pod')}/{name}"


@implementer(IPolicyForHTTPS)
class _Trust:
    def __init__(self, ca_pem: bytes) -> None:
        self._root = Certificate.loadPEM(ca_pem)

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return optionsForClientTLS(hostname.decode(), trustRoot=self._root)


@implementer(IBodyProducer)
class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is written at once."""

    def resumeProducing(self) -> None:
        """It is written at once."""

    def stopProducing(self) -> None:
        """It is written at once."""


class SystemCase(TestCase):
    """A test with roles of its own, all on loopback, all gone afterwards."""

    timeout = 150

    def setUp(self) -> None:
        self.work = Path(self.mktemp()).absolute()
        self.work.mkdir()
        self.ports = Ports()
        self.addCleanup(self.ports.close)
        self.websocket_port, self.https_port, self.api_port = (self.ports.take() for _ in range(3))
        self._roles = 0

    # Roles

    def role(self, kind: str, name: str, config: Tree, *arguments: str) -> Role:
        """Make a role that has not started; it ends with the test."""
        made = Role(kind, self.work / name, config, list(arguments))
        self.addCleanup(lambda: Deferred.fromCoroutine(made.end()))
        return made

    def make_cloud(self, config: Tree | None = None, *arguments: str, name: str = "c") -> Role:
        """Make a cloud on this test's ports."""
        listener = {"address": "127.0.0.1"}
        ours = {
            "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
            "modules": {
                "apiServer": {"port": self.api_port},
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1"],
                    "websocket": {**listener, "port": self.websocket_port},
                    "https": {**listener, "port": self.https_port},
                },
            },
        }
        return self.role("kubeedge-cloud", name, merged(ours, config or {}), *arguments)

    def make_edge(
        self,
        token: str = "",
        config: Tree | None = None,
        *arguments: str,
        node: str = "edge",
        runtime: str = "process",
        name: str = "",
    ) -> Role:
        """Make an edge for this test's cloud.

        :param name: of its folder; by default the node's.
        """
        ours = {
            "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
            "modules": {
                "eventBus": {"mqttServerInternal": "tcp://127.0.0.1:0"},
                "edgeHub": {
                    "httpServer": f"https://127.0.0.1:{self.https_port}",
                    "websocket": {"server": f"127.0.0.1:{self.websocket_port}"},
                    "token": token,
                    "longestReconnectDelay": 1,
                },
                "edged": {
                    "hostnameOverride": node,
                    "runtime": runtime,
                    "dockerAddress": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
                    "reportEvent": True,
                },
            },
        }
        return self.role("kubeedge-edge", name or node, merged(ours, config or {}), *arguments)

    def client(self, cloud: Role) -> Api:
        """Make a client of a cloud's embedded API."""
        api = Api(cloud.data_dir / "admin.kubeconfig")
        self.addCleanup(api.close)
        return api

    async def token(self, api: Api) -> str:
        """Wait for the join token."""
        secret = await until(
            "the join token", lambda: api.get(f"{collection('Secret', 'kubeedge')}/tokensecret")
        )
        return base64.b64decode(secret["data"]["tokendata"]).decode()

    async def pair(self, config: Tree | None = None, **edge: Any) -> tuple[Role, Role, Api]:
        """Start a cloud, and an edge that has joined it and is Ready."""
        cloud = self.make_cloud()
        await cloud.run()
        api = self.client(cloud)
        made = self.make_edge(await self.token(api), config, **edge)
        await made.run()
        await self.node_ready(api, edge.get("node", "edge"), cloud, made)
        return cloud, made, api

    # What to wait for

    def node_ready(self, api: Api, node: str, *roles: Role, ready: str = "True") -> Any:
        """Wait for a node's Ready condition."""

        async def look() -> Any:
            found = await api.get(f"/api/v1/nodes/{node}")
            return found if condition(found, "Ready") == ready else None

        return until(f"node {node} to be Ready: {ready}", look, *roles)

    def pod_is(
        self, api: Api, name: str, wanted: Callable[[Any], Any], what: str, *roles: Role
    ) -> Any:
        """Wait for a pod to be as ``wanted`` wants it; returns the pod."""
        last: list[Any] = [None]

        async def look() -> Any:
            pod = last[0] = await api.get(pod_path(name))
            return pod if pod is not None and wanted(pod) else None

        async def wait() -> Any:
            try:
                return await until(f"pod {name} to be {what}", look, *roles)
            except AssertionError as error:
                status = (last[0] or {}).get("status")
                raise AssertionError(f"{error}\n--- pod {name}: {status}") from None

        return wait()

    def pod_ready(self, api: Api, name: str, *roles: Role) -> Any:
        """Wait for a pod to be Running and Ready; returns it."""
        return self.pod_is(
            api,
            name,
            lambda pod: pod["status"]["phase"] == "Running" and condition(pod, "Ready") == "True",
            "Ready",
            *roles,
        )

    def pod_gone(self, api: Api, name: str, *roles: Role) -> Any:
        """Wait for a pod to be there no more."""

        async def look() -> bool:
            return await api.get(pod_path(name)) is None

        return until(f"pod {name} to be gone", look, *roles)


def condition(obj: Any, which: str) -> str:
    """The status of a condition; empty if there is none."""
    conditions = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == which), "")


def container_state(pod: Any, index: int = 0) -> Any:
    """The status of one container of a pod; empty if there is none yet."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return statuses[index] if index < len(statuses) else {}


def waiting_reason(pod: Any, index: int = 0) -> str:
    """Why a container waits; empty if it does not."""
    waiting = (container_state(pod, index).get("state") or {}).get("waiting") or {}
    return str(waiting.get("reason") or "")


def pod(name: str, *command: str, **spec: Any) -> Any:
    """A pod with one container ``main``.

    :param spec: ``container``: more of the container; the rest is the pod's.
    """
    container = {
        "name": "main",
        "image": "busybox",
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 1, **spec, "containers": [container]},
    }


def config_map(name: str, **data: str) -> Any:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


def secret(name: str, **data: str) -> Any:
    """A Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": data,
    }


def unique(prefix: str) -> str:
    """A name that no test beside this one uses."""
    return f"{prefix}-{uuid4().hex[:8]}"
